//! Timelines between processes and chips.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use vmlu::transport::local::Local;
use vmlu::{Context, Status, TimelineToken};
use vmlu_device::local::LocalServer;

use crate::{server, Check};

/// Well under every limit of a test, well over every delay.
const SOON: Duration = Duration::from_secs(5);

/// A process whose queue stands at 0 until it is told to go on, and then reaches 2.
struct Exporter {
    process: Child,
    _lines: Lines<BufReader<ChildStdout>>,
    token: TimelineToken,
}

impl Exporter {
    fn start(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .env("VMLU_TEST_ROLE", "exporter")
            .env("MLU_TRANSPORT", format!("local:{}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next().ok_or("the child said nothing")??;
        let bytes: Vec<u8> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| line)?;
        Ok(Self {
            process,
            _lines: lines,
            token: TimelineToken::from_bytes(&bytes),
        })
    }

    fn go(&mut self) -> Check {
        let input = self.process.stdin.as_mut().ok_or("no input")?;
        Ok(writeln!(input, "go")?)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the other process does.
pub fn exporter() -> Check {
    let context = Context::open(0)?;
    let (queue, hold) = (context.queue()?, context.host_timeline()?);
    queue.wait_for_timeline(&hold, 1)?;
    queue.nop()?;
    let token = queue.export()?.to_bytes().map(|b| b.to_string());
    println!("{}", token.join(" "));
    for _ in std::io::stdin().lines() {
        hold.signal(1)?;
    }
    Ok(())
}

fn start(folder: &Path, chips: u32) -> std::io::Result<LocalServer> {
    LocalServer::start(&server::options(&folder.join("mlu"), chips))
}

pub fn waits_for_another_process() -> Check {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), 1)?;
    let mut other = Exporter::start(server.path())?;
    let context = Context::open_on(&*Local::open(server.path())?, 0)?;
    let queue = context.queue()?;
    let timeline = context.import(&other.token)?;
    let wait = queue.wait_for_imported(&timeline, 2)?;
    let early = queue.wait_timeout(wait, Duration::from_millis(30));
    assert_eq!(early.err().map(|e| e.status()), Some(Status::Timeout));
    assert_eq!(timeline.value()?, 0);
    other.go()?;
    queue.wait_timeout(wait, SOON)?;
    assert_eq!(timeline.value()?, 2);
    Ok(())
}

/// Everybody who waits for a process that dies gets an error, and is well afterwards.
pub fn exporter_is_killed() -> Check {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), 2)?;
    let card = Local::open(server.path())?;
    let mut other = Exporter::start(server.path())?;
    let mut waiters = Vec::new();
    for device in [0, 0, 1] {
        let context = Context::open_on(&*card, device)?;
        let queue = context.queue()?;
        let timeline = context.import(&other.token)?;
        let wait = queue.wait_for_imported(&timeline, 2)?;
        let eventfd = queue.completion_fd(wait)?;
        waiters.push((queue, timeline, wait, eventfd));
    }
    std::thread::sleep(Duration::from_millis(20));
    other.process.kill()?;
    let start = Instant::now();
    for (queue, timeline, wait, _) in &waiters {
        let ended = queue.wait_timeout(*wait, SOON);
        assert_eq!(ended.err().map(|e| e.status()), Some(Status::Dependency));
        assert_eq!(timeline.state()?.error, Status::QueueDestroyed.raw());
        queue.clear_error()?;
        queue.nop()?;
        queue.sync()?;
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    let gone = Context::open_on(&*card, 0)?.import(&other.token);
    assert_eq!(gone.err().map(|e| e.status()), Some(Status::BadHandle));
    Ok(())
}

pub fn waits_for_another_chip() -> Check {
    let folder = tempfile::tempdir()?;
    let server = start(folder.path(), 2)?;
    let card = Local::open(server.path())?;
    let contexts = [Context::open_on(&*card, 0)?, Context::open_on(&*card, 1)?];
    let queues = [contexts[0].queue()?, contexts[1].queue()?];
    // Two queues that wait for each other's next command, a hundred times.
    let imported = [
        contexts[0].import(&queues[1].export()?)?,
        contexts[1].import(&queues[0].export()?)?,
    ];
    for round in 0..100 {
        queues[0].nop()?;
        queues[1].wait_for_imported(&imported[1], 2 * round + 1)?;
        queues[1].nop()?;
        queues[0].wait_for_imported(&imported[0], 2 * round + 2)?;
    }
    for queue in &queues {
        queue.wait_timeout(200, SOON)?;
    }
    Ok(())
}
