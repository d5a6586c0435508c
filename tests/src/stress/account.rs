//! Comparing what owners wrote down with the card's counters.

use std::time::{Duration, Instant};

use vmlu::abi::telemetry::Telemetry;
use vmlu::transport::Transport;

use super::record::Record;

/// The card before a run.
pub struct Account {
    before: Telemetry,
}

/// How long what killed owners had may take to come back, on a machine that does other things too. The goal of 100 ms is measured by
/// `cargo xtask bench`.
pub const CLEAN_UP: Duration = Duration::from_secs(5);

type Error = Box<dyn std::error::Error>;

impl Account {
    /// Opens the account; nobody else uses the chip until it is closed.
    pub fn open(transport: &dyn Transport, device: u32) -> Result<Self, Error> {
        Ok(Self {
            before: transport.telemetry(device)?,
        })
    }

    /// Compares, once everybody has ended; a line about the run.
    ///
    /// # Errors
    ///
    /// If a packet, a queue, a context or memory is missing or too many.
    pub fn close(
        &self,
        transport: &dyn Transport,
        device: u32,
        record: &Record,
    ) -> Result<String, Error> {
        let before = &self.before;
        let start = Instant::now();
        let after = loop {
            let now = transport.telemetry(device)?;
            let back = (now.contexts, now.queues, now.memory_used)
                == (before.contexts, before.queues, before.memory_used);
            if back && now.busy == 0 {
                break now;
            }
            if start.elapsed() > CLEAN_UP {
                return Err(format!(
                    "after {CLEAN_UP:?} there are {} contexts, {} queues, {} bytes of memory more than before, busy: {}",
                    i64::from(now.contexts) - i64::from(before.contexts),
                    i64::from(now.queues) - i64::from(before.queues),
                    now.memory_used as i64 - before.memory_used as i64,
                    now.busy
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let sums = record.sums();
        let completed = after.packets - before.packets;
        let failed = after.packets_failed - before.packets_failed;
        let counted = completed + failed;
        let line = format!(
            "{} submitted = {completed} completed + {failed} failed; {} lives, {} of them cut off, {} queues destroyed at work, {} errors",
            sums.submitted, sums.lives, sums.killed, sums.destroyed, sums.errors
        );
        // An owner that is killed may have written down a burst, and shown it to the card or not, or shown it and not written down that it did.
        let exact = sums.intended == sums.submitted;
        if counted < sums.submitted || counted > sums.intended {
            return Err(format!(
                "{} submitted and {} more begun, but {counted} counted: {line}",
                sums.submitted,
                sums.intended - sums.submitted
            )
            .into());
        }
        if completed < sums.completed || failed < sums.failed {
            return Err(format!(
                "owners know of {} completed and {} failed: {line}",
                sums.completed, sums.failed
            )
            .into());
        }
        if sums.lives == 0 || completed == 0 || failed == 0 || sums.destroyed == 0 {
            return Err(format!("the run did not do what it is for: {line}").into());
        }
        Ok(match exact {
            true => line,
            false => format!(
                "{line}; {counted} counted, {} being submitted when their owner was killed",
                sums.intended - sums.submitted
            ),
        })
    }
}
