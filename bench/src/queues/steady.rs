//! The steady state, for who counts from outside: traps and messages at the server, system calls by `strace`.
//!
//! In each round it prints `ready` and waits for a line, prints `begin`, does its commands, prints `end`, and waits for another line.

use std::io::Write;

use vmlu::transport::Transport;
use vmlu::{Context, Result};

use super::{spin, warm};

/// Commands between two looks at the timeline.
const BATCH: u64 = 500;

/// Runs so many rounds of a million empty commands.
pub fn run(transport: &dyn Transport, device: u32, rounds: u32) -> Result<()> {
    let context = Context::open_on(transport, device)?;
    let queue = context.queue()?;
    for _ in 0..rounds {
        say("ready");
        wait();
        warm(&queue)?;
        say("begin");
        for _ in 0..1_000_000 / BATCH {
            for _ in 1..BATCH {
                queue.nop()?;
            }
            spin(&queue, queue.nop()?);
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
