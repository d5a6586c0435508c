//! Comparing what owners wrote down with the card's counters.

use std::collections::BTreeSet;
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
        let open = record.open_bursts();
        let begun: u64 = open.iter().sum();
        let more = counted.checked_sub(sums.submitted);
        if !more.is_some_and(|more| is_sum_of(more, &open)) {
            return Err(format!(
                "{} submitted, {counted} counted, and when owners were killed they were about to submit {open:?}: {line}",
                sums.submitted
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
        Ok(match begun {
            0 => line,
            _ => format!(
                "{line}; of {begun} that killed owners were about to submit, {} counted",
                counted - sums.submitted
            ),
        })
    }
}

/// Whether a number is the sum of some of the parts.
fn is_sum_of(number: u64, parts: &[u64]) -> bool {
    let mut sums = BTreeSet::from([0]);
    for part in parts {
        sums = sums.iter().flat_map(|sum| [*sum, sum + part]).collect();
    }
    sums.contains(&number)
}

#[test]
fn sums_of_parts() {
    assert!(is_sum_of(0, &[]) && is_sum_of(0, &[3]) && !is_sum_of(1, &[3]));
    assert!(is_sum_of(8, &[3, 4, 5]) && !is_sum_of(10, &[3, 4, 5]) && is_sum_of(12, &[3, 4, 5]));
}
