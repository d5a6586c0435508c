//! The steady state, for who counts from outside: traps and messages at the server, system calls by `strace`.
//!
//! In each round it prints `ready` and waits for a line, prints `begin`, does its commands, prints `end`, and waits for another line.

use std::io::Write;

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use super::{spin, warm};

/// Commands between two looks at the timeline.
const BATCH: u64 = 500;

/// What is done in each round.
#[derive(Clone, Copy)]
pub struct Work {
    /// How often a million commands.
    pub rounds: u32,
    /// Queues that take turns, a batch each.
    pub queues: usize,
    /// Bytes that a command copies from pinned memory; 0: empty commands.
    pub copy: u64,
}

/// Runs rounds of a million commands.
pub fn run(transport: &dyn Transport, device: u32, work: Work) -> Result<()> {
    let context = Context::open_on(transport, device)?;
    let queues = (0..work.queues.max(1))
        .map(|_| context.queue_with(1024, 3, 1))
        .collect::<Result<Vec<_>>>()?;
    let (pinned, buffer) = (
        context.alloc_pinned(work.copy.max(1))?,
        context.alloc(work.copy.max(1))?,
    );
    let submit = |queue: &Queue| match work.copy {
        0 => queue.nop(),
        bytes => queue.copy(buffer.address(), pinned.address(), bytes),
    };
    for _ in 0..work.rounds {
        say("ready");
        wait();
        for queue in &queues {
            warm(queue)?;
        }
        say("begin");
        for queue in queues.iter().cycle().take((1_000_000 / BATCH) as usize) {
            for _ in 1..BATCH {
                submit(queue)?;
            }
            let last = submit(queue)?;
            if queues.len() == 1 {
                spin(queue, last);
            }
        }
        for queue in &queues {
            spin(queue, queue.submitted());
        }
        say("end");
        wait();
    }
    Ok(())
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Who does not listen does not want to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn wait() {
    let _ = std::io::stdin().read_line(&mut String::new());
}
