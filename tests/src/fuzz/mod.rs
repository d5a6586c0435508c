//! A fuzzer of the kernel's interface (`docs/uapi.md`) that knows its structures: several processes make random calls, most of them nearly
//! right, on files, queues, mappings and each other's tokens, while signals interrupt them a thousand times a second.
//!
//! Whatever they do, a call may fail only with an errno that the document names for it, no chip may be lost, and what they had must be gone
//! with them. That the kernel has nothing to complain of is for the caller to check.

mod calls;
mod sys;
mod worker;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{kill_process, Pid, Signal};
use vmlu::abi::ioctl::{self, DeviceCount, DeviceInfo, ProcessesRead};
use vmlu::abi::Wire;

pub use worker::work;

/// What went wrong, for people.
pub type Error = Box<dyn std::error::Error>;

/// The user and group without rights as whom the processes run: they must not be able to hurt others.
const NOBODY: u32 = 65534;
/// Time that a process has to end after its last call.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the random numbers begin. Processes run as they like, so that a seed repeats what is tried, not when.
    pub seed: u64,
    /// For how long at most.
    pub duration: Duration,
    /// How many calls at most, of all processes together.
    pub calls: u64,
    /// Processes at a time.
    pub processes: u64,
}

impl Options {
    /// By `MLU_FUZZ_SECONDS`, `MLU_FUZZ_CALLS`, `MLU_FUZZ_SEED` and `MLU_FUZZ_PROCESSES`, where they are set.
    pub fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        Self {
            seed: number("MLU_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id())),
            duration: Duration::from_secs(number("MLU_FUZZ_SECONDS").unwrap_or(10)),
            calls: number("MLU_FUZZ_CALLS").unwrap_or(u64::MAX),
            processes: number("MLU_FUZZ_PROCESSES").unwrap_or(3),
        }
    }
}

/// Runs `program worker NUMBER SEED MILLISECONDS CALLS` so many times at once, and says what was done.
///
/// # Errors
///
/// If a process ends otherwise than well, if a chip is lost, or if something is left of them.
pub fn run(options: &Options, program: &Path) -> Result<String, Error> {
    // Until a process takes the signal it ignores it, too.
    sys::ignore_signals();
    let control = sys::open(Path::new("/dev/mluctl"))?;
    let before = contexts(&control)?;
    let mut workers = Workers(Vec::new());
    for number in 0..options.processes {
        workers.0.push(
            Command::new(program)
                .arg("worker")
                .arg(number.to_string())
                .arg(options.seed.wrapping_add(number).to_string())
                .arg(options.duration.as_millis().to_string())
                .arg(options.calls.div_ceil(options.processes).to_string())
                .stdout(Stdio::piped())
                .uid(NOBODY)
                .gid(NOBODY)
                .spawn()?,
        );
    }
    let limit = Instant::now() + options.duration + PATIENCE;
    let mut calls = 0;
    while !workers.0.is_empty() {
        if Instant::now() > limit {
            return Err(format!("{} processes do not end", workers.0.len()).into());
        }
        std::thread::sleep(Duration::from_millis(1));
        let mut at = 0;
        while at < workers.0.len() {
            if workers.0[at].try_wait()?.is_some() {
                let output = workers.0.swap_remove(at).wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let made = said.trim().parse::<u64>();
                calls +=
                    made.map_err(|_| format!("a process ended with {}: {said}", output.status))?;
                continue;
            }
            if let Some(pid) = Pid::from_raw(workers.0[at].id() as i32) {
                // It may end meanwhile.
                let _ = kill_process(pid, Signal::USR1);
            }
            at += 1;
        }
    }
    for chip in chips(&control)? {
        let mut info = DeviceInfo::zeroed();
        info.device = chip;
        sys::call(&control, ioctl::INFO, &mut info).map_err(|e| format!("INFO: {e}"))?;
        if info.alive != 1 {
            return Err(format!("chip {chip} is lost").into());
        }
    }
    let after = contexts(&control)?;
    if after != before {
        return Err(format!("{before} contexts before, {after} after").into());
    }
    Ok(format!("{calls} calls by {} processes", options.processes))
}

/// Processes that end with this.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // One that has ended needs it no more.
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

fn chips(control: &std::fs::File) -> Result<Vec<u32>, Error> {
    let mut count = DeviceCount::zeroed();
    sys::call(control, ioctl::COUNT, &mut count).map_err(|e| format!("COUNT: {e}"))?;
    Ok((0..32).filter(|n| count.mask >> n & 1 == 1).collect())
}

/// Contexts of all chips.
fn contexts(control: &std::fs::File) -> Result<u32, Error> {
    let mut total = 0;
    for chip in chips(control)? {
        let mut read = ProcessesRead::zeroed();
        read.device = chip;
        sys::call(control, ioctl::PROCESSES, &mut read).map_err(|e| format!("PROCESSES: {e}"))?;
        total += read.total;
    }
    Ok(total)
}
