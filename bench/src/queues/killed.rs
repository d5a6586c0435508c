//! A process that is killed with much in its hands: how soon all of it is back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vmlu::abi::Status;
use vmlu::operators::MatmulOptions;
use vmlu::transport::Transport;
use vmlu::{Context, DataType, Error, Result, Tensor};

use super::{Group, Site};
use crate::row::{Better, Row, Samples};

const BACK: &str = "process killed: memory, queues, pins back";

/// Device memory that the victim holds, bytes.
const MEMORY: u64 = 128 << 20;
/// Pinned memory that the victim holds, bytes.
const PINNED: u64 = 64 << 20;

/// Kills processes.
pub struct Killed<'a> {
    transport: &'a dyn Transport,
    device: u32,
}

impl<'a> Killed<'a> {
    /// On a chip.
    pub fn new(transport: &'a dyn Transport, device: u32) -> Self {
        Self { transport, device }
    }
}

/// Ends with the bench.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn failed(what: &str, error: std::io::Error) -> Error {
    Error::system("measure the end of a process", what, error)
}

impl Killed<'_> {
    fn once(&self) -> Result<f64> {
        let before = self.transport.telemetry(self.device)?;
        let program = std::env::current_exe().map_err(|e| failed("which program is this", e))?;
        let child = Command::new(program)
            .args(["hold", "--device", &self.device.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed("cannot start another", e))?;
        let mut victim = Victim(child);
        let mut line = String::new();
        if let Some(out) = victim.0.stdout.take() {
            let read = BufReader::new(out).read_line(&mut line);
            read.map_err(|e| failed("it says nothing", e))?;
        }
        let held = self.transport.telemetry(self.device)?;
        if line.trim() != "holding" || held.memory_used < before.memory_used + MEMORY {
            let text = format!("the process that was to hold memory said `{}`", line.trim());
            return Err(Error::new(
                "measure the end of a process",
                Status::BadState,
                text,
            ));
        }
        let pid = victim.0.id();
        let start = Instant::now();
        victim
            .0
            .kill()
            .map_err(|e| failed("cannot kill a process", e))?;
        loop {
            let now = self.transport.telemetry(self.device)?;
            let back = now.memory_used == before.memory_used && now.queues == before.queues;
            if back
                && !self
                    .transport
                    .processes(self.device)?
                    .iter()
                    .any(|p| p.pid == pid)
            {
                return Ok(start.elapsed().as_nanos() as f64 / 1e6);
            }
            if start.elapsed() > Duration::from_secs(10) {
                let text = format!("process {pid} was killed, and what it had is not back");
                return Err(Error::new(
                    "measure the end of a process",
                    Status::Timeout,
                    text,
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Group for Killed<'_> {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        samples.add(BACK, self.once()?);
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        vec![site.row(samples, BACK, "ms").goal(Better::Lower, 100.0)]
    }
}

/// What the victim does: holds 64 queues with work in flight, device memory and pinned memory, until its input ends.
pub fn hold(transport: &dyn Transport, device: u32) -> Result<()> {
    let context = Context::open_on(transport, device)?;
    let _memory = context.alloc(MEMORY)?;
    let _pinned = context.alloc_pinned(PINNED)?;
    let queues = (0..64)
        .map(|_| context.queue_with(128, 3, 1))
        .collect::<Result<Vec<_>>>()?;
    let n = 512;
    let a = Tensor::zeros(&queues[0], DataType::F32, &[n, n])?;
    let out = Tensor::zeros(&queues[0], DataType::F32, &[n, n])?;
    for queue in &queues {
        for _ in 0..5 {
            queue.matmul(&a, &a, &out, &MatmulOptions::default())?;
        }
    }
    let _ = writeln!(std::io::stdout(), "holding");
    let _ = std::io::stdin().read_line(&mut String::new());
    Ok(())
}
