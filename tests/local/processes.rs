//! Processes side by side, and processes that die.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlu::abi::packet::{self, op};
use vmlu::abi::rpc::{Fault, Inject};
use vmlu::abi::Wire;
use vmlu::transport::local::Local;
use vmlu::transport::Transport;
use vmlu::{Context, Status};
use vmlu_device::local::LocalServer;

use crate::{server, Check};

/// Bytes of device memory that a child has.
const MEMORY: u64 = 64 << 20;
/// Everything of a killed process is back after this.
const CLEAN_UP: Duration = Duration::from_millis(100);

/// Another process, with a context, memory, pinned memory and a queue.
struct Other {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    context: u64,
    queue: u64,
    address: u64,
}

impl Other {
    fn start(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .env("VMLU_TEST_ROLE", "holder")
            .env("MLU_TRANSPORT", format!("local:{}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next().ok_or("the child said nothing")??;
        let words: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse())
            .collect::<Result<_, _>>()?;
        let [context, queue, address] = words[..] else {
            return Err(line.into());
        };
        Ok(Self {
            process,
            lines,
            context,
            queue,
            address,
        })
    }

    /// Has the child do something; its answer.
    fn tell(&mut self, what: &str) -> Result<String, Box<dyn std::error::Error>> {
        self.say(what)?;
        Ok(self.lines.next().ok_or("the child said nothing")??)
    }

    fn say(&mut self, what: &str) -> Check {
        let input = self.process.stdin.as_mut().ok_or("no input")?;
        Ok(writeln!(input, "{what}")?)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a child does: holds things, and does what it is told.
pub fn child(_role: &str) -> Check {
    let context = Context::open(0)?;
    let memory = context.alloc(MEMORY)?;
    let _pinned = context.alloc_pinned(1 << 20)?;
    let queue = context.queue()?;
    queue.fill(&memory, 0, 4096, 0x77)?;
    queue.sync()?;
    let handle = context.channel().context().ok_or("no handle")?;
    println!("{handle} {} {}", queue.handle(), memory.address());
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "hang" => {
                queue.nop()?;
                queue.sync()?;
            }
            "check" => {
                let mut seen = [0; 4096];
                queue.read(&memory, 0, &mut seen)?;
                println!("{}", seen == [0x77; 4096]);
            }
            other => return Err(other.into()),
        }
    }
    Ok(())
}

struct Rig {
    _folder: tempfile::TempDir,
    server: LocalServer,
    card: Arc<Local>,
}

fn rig() -> Result<Rig, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 1))?;
    let card = Local::open(server.path())?;
    Ok(Rig {
        _folder: folder,
        server,
        card,
    })
}

pub fn contexts_are_apart() -> Check {
    let rig = rig()?;
    let mut others = [
        Other::start(rig.server.path())?,
        Other::start(rig.server.path())?,
    ];
    let listed = rig.card.processes(0)?;
    for other in &others {
        let pid = other.process.id();
        let found = listed.iter().find(|p| p.pid == pid).ok_or("not listed")?;
        assert_eq!(found.context, other.context);
        assert_eq!((found.memory, found.queues), (MEMORY, 1));
        assert!(found.host_memory >= 1 << 20, "{found:?}");
        assert!(found.comm.starts_with(b"local-"), "{found:?}");
    }
    let context = Context::open_on(&*rig.card, 0)?;
    let (queue, out) = (context.queue()?, context.alloc(4096)?);
    for other in &others {
        for (dst, src) in [
            (out.address(), other.address),
            (other.address, out.address()),
        ] {
            let copy = packet::Copy {
                dst,
                src,
                length: 64,
            };
            let value = queue.submit_raw(op::COPY, copy.as_bytes())?;
            let error = queue
                .wait(value)
                .err()
                .ok_or("a foreign address was used")?;
            assert_eq!(error.status(), Status::OperandFault, "{error}");
            queue.clear_error()?;
        }
        let channel = context.channel();
        let freed = channel.memory_free(other.address);
        assert_eq!(freed.unwrap_err().status(), Status::BadHandle);
        let read = channel.queue_error(other.queue, true);
        assert_eq!(read.unwrap_err().status(), Status::BadHandle);
    }
    for other in &mut others {
        assert_eq!(other.tell("check")?, "true");
    }
    Ok(())
}

/// Kills a process and sees what it had come back, in time.
fn kill(rig: &Rig, other: &mut Other, used_before: u64) -> Check {
    let pid = other.process.id();
    other.process.kill()?;
    let start = Instant::now();
    loop {
        let gone = !rig.card.processes(0)?.iter().any(|p| p.pid == pid);
        if gone && rig.card.telemetry(0)?.memory_used == used_before {
            break;
        }
        assert!(start.elapsed() < CLEAN_UP, "not back after {CLEAN_UP:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub fn killed_idle() -> Check {
    let rig = rig()?;
    let before = rig.card.telemetry(0)?.memory_used;
    let mut other = Other::start(rig.server.path())?;
    assert_eq!(rig.card.telemetry(0)?.memory_used, before + MEMORY);
    kill(&rig, &mut other, before)
}

pub fn killed_with_a_hang() -> Check {
    let rig = rig()?;
    let context = Context::open_on(&*rig.card, 0)?;
    let queue = context.queue()?;
    let before = rig.card.telemetry(0)?.memory_used;
    let mut bystander = Other::start(rig.server.path())?;
    let with_bystander = rig.card.telemetry(0)?.memory_used;
    assert!(with_bystander > before);
    let mut other = Other::start(rig.server.path())?;
    let hang = Inject {
        fault: Fault::Hang as u32,
        count: 1,
        context: other.context,
        ..Inject::zeroed()
    };
    rig.card.inject(0, &hang)?;
    other.say("hang")?;
    let start = Instant::now();
    while rig.card.telemetry(0)?.busy == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "no hang");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(&rig, &mut other, with_bystander)?;
    queue.nop()?;
    queue.sync()?;
    assert_eq!(bystander.tell("check")?, "true");
    assert_eq!(rig.card.telemetry(0)?.busy, 0, "the command still runs");
    Ok(())
}

/// The example program ends with the same weights over this transport as on the embedded card.
pub fn same_weights() -> Check {
    let rig = rig()?;
    let program = std::env::current_exe()?
        .parent()
        .and_then(Path::parent)
        .ok_or("no target folder")?
        .join("examples/digits");
    if !program.exists() {
        let build = "cargo build --release -p vmlu --example digits";
        return Err(format!("{} is not there: {build}", program.display()).into());
    }
    let train = |transport: &str| {
        let output = Command::new(&program)
            .env("MLU_TRANSPORT", transport)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let weights = text.lines().find(|line| line.starts_with("weights: "));
        let said = || format!("{transport}: {text}{:?}", output.stderr);
        if !output.status.success() {
            return Err(said().into());
        }
        Ok::<_, Box<dyn std::error::Error>>(weights.ok_or_else(said)?.to_owned())
    };
    let local = train(&format!("local:{}", rig.server.path().display()))?;
    assert_eq!(local, train("embedded")?);
    Ok(())
}
