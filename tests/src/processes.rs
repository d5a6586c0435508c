//! Several processes on one card, and processes that are killed: over a local server (`cargo test --test local`) and, as
//! `mlu-processes NAME`, in a virtual machine.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlu::abi::packet::{self, op};
use vmlu::abi::rpc::{Fault, Inject, Process};
use vmlu::abi::Wire;
use vmlu::transport::Transport;
use vmlu::{Context, Status};

use crate::cliques;

/// How a case ends.
pub type Check = Result<(), Box<dyn std::error::Error>>;

/// Bytes of device memory that another process has.
const MEMORY: u64 = 64 << 20;
/// Everything of a killed process is back after this, on a machine that does other things too. The goal of 100 ms is measured by
/// `cargo xtask bench`.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// A case: its name and what it does.
pub type Case = (&'static str, fn(&Rig) -> Check);

/// All cases.
pub const CASES: &[Case] = &[
    ("contexts_are_apart", contexts_are_apart),
    ("killed_with_a_hang", killed_with_a_hang),
    ("killed_idle", killed_idle),
    ("collectives", cliques::operations),
    ("collectives_many_calls", cliques::many_calls),
    ("collectives_killed_rank", cliques::killed_rank),
    ("collectives_missing_rank", cliques::missing_rank),
];

/// A card, and how other processes get at it.
pub struct Rig {
    /// The card.
    pub card: Arc<dyn Transport>,
    /// Started as `program holder` it calls [`holder`].
    pub program: PathBuf,
    /// Environment of the program, for `MLU_TRANSPORT`.
    pub environment: Vec<(String, String)>,
}

/// Another process, with a context, memory, pinned memory and a queue.
struct Other {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    queue: u64,
    address: u64,
}

impl Other {
    fn start(rig: &Rig) -> Result<Self, Box<dyn std::error::Error>> {
        let mut process = Command::new(&rig.program)
            .arg("holder")
            .envs(rig.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = lines.next().ok_or("the process said nothing")??;
        let words: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse())
            .collect::<Result<_, _>>()?;
        let [queue, address] = words[..] else {
            return Err(line.into());
        };
        Ok(Self {
            process,
            lines,
            queue,
            address,
        })
    }

    /// The card's entry for it.
    fn entry(&self, rig: &Rig) -> Result<Process, Box<dyn std::error::Error>> {
        let pid = self.process.id();
        let listed = rig.card.processes(0)?;
        let found = listed.into_iter().find(|p| p.pid == pid);
        Ok(found.ok_or("the card does not list the process")?)
    }

    /// Has the process do something; its answer.
    fn tell(&mut self, what: &str) -> Result<String, Box<dyn std::error::Error>> {
        self.say(what)?;
        Ok(self.lines.next().ok_or("the process said nothing")??)
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

/// What another process does: holds things, and does what it is told.
pub fn holder(card: &dyn Transport) -> Check {
    let context = Context::open_on(card, 0)?;
    let memory = context.alloc(MEMORY)?;
    let _pinned = context.alloc_pinned(1 << 20)?;
    let queue = context.queue()?;
    queue.fill(&memory, 0, 4096, 0x77)?;
    queue.sync()?;
    println!("{} {}", queue.handle(), memory.address());
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

fn contexts_are_apart(rig: &Rig) -> Check {
    let mut others = [Other::start(rig)?, Other::start(rig)?];
    for other in &others {
        let found = other.entry(rig)?;
        assert_eq!((found.memory, found.queues), (MEMORY, 1));
        assert!(found.host_memory >= 1 << 20, "{found:?}");
        assert!(found.comm.starts_with(b"mlu-processes"), "{found:?}");
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

/// Kills a process and sees what it had come back.
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

fn killed_idle(rig: &Rig) -> Check {
    let before = rig.card.telemetry(0)?.memory_used;
    let mut other = Other::start(rig)?;
    assert_eq!(rig.card.telemetry(0)?.memory_used, before + MEMORY);
    kill(rig, &mut other, before)
}

fn killed_with_a_hang(rig: &Rig) -> Check {
    let context = Context::open_on(&*rig.card, 0)?;
    let queue = context.queue()?;
    let before = rig.card.telemetry(0)?.memory_used;
    let mut bystander = Other::start(rig)?;
    let with_bystander = rig.card.telemetry(0)?.memory_used;
    assert!(with_bystander > before);
    let mut other = Other::start(rig)?;
    let hang = Inject {
        fault: Fault::Hang as u32,
        count: 1,
        context: other.entry(rig)?.context,
        ..Inject::zeroed()
    };
    rig.card.inject(0, &hang)?;
    other.say("hang")?;
    let start = Instant::now();
    while rig.card.telemetry(0)?.busy == 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "no hang");
        std::thread::sleep(Duration::from_millis(1));
    }
    kill(rig, &mut other, with_bystander)?;
    queue.nop()?;
    queue.sync()?;
    assert_eq!(bystander.tell("check")?, "true");
    // The chip counts a command a moment longer than its owner waits for it: the bystander's last one may be seen.
    let start = Instant::now();
    while rig.card.telemetry(0)?.busy != 0 {
        assert!(start.elapsed() < CLEAN_UP, "the command still runs");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
