//! Which commands of a queue failed, also after their error was cleared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use vmlu_abi::status::ErrorRecord;
use vmlu_abi::Status;

use super::{lock, Queue, QueueInner};
use crate::error::{Error, Result};

/// Most cleared errors that are remembered; a wait for a value that an older one took finds none.
const MAX_SPANS: usize = 4096;

/// Errors of a queue that were cleared: what they took stays failed for whoever waits for it later.
#[derive(Default)]
pub(crate) struct Cleared {
    /// Whether any error was ever cleared. Set before the card is asked, so that who finds the queue without error sees it.
    any: AtomicBool,
    spans: Mutex<VecDeque<Span>>,
}

/// Timeline values that an error took, first and last.
struct Span {
    first: u64,
    last: u64,
    record: Box<ErrorRecord>,
}

impl Cleared {
    /// Clears an error by `clear`, which gives its record; it took what was submitted, up to `last`.
    fn clear(
        &self,
        last: u64,
        clear: impl FnOnce() -> Result<ErrorRecord>,
    ) -> Result<Option<ErrorRecord>> {
        self.any.store(true, Ordering::SeqCst);
        // Held while the card clears it: who sees the queue without error then waits here, and finds the span.
        let mut spans = lock(&self.spans);
        let record = clear()?;
        if record.status == 0 {
            return Ok(None);
        }
        if spans.len() == MAX_SPANS {
            spans.pop_front();
        }
        spans.push_back(Span {
            first: record.value,
            last,
            record: Box::new(record),
        });
        Ok(Some(record))
    }

    /// The record of the cleared error that took the command with this value, if one did.
    pub(super) fn took(&self, value: u64) -> Option<ErrorRecord> {
        if !self.any.load(Ordering::SeqCst) {
            return None;
        }
        let spans = lock(&self.spans);
        let span = spans
            .iter()
            .rev()
            .find(|s| (s.first..=s.last).contains(&value))?;
        Some(*span.record)
    }
}

impl Queue {
    /// The error that the queue is in, if it is in one.
    pub fn error(&self) -> Result<Option<ErrorRecord>> {
        let record = self.inner.read_error()?;
        Ok((record.status != 0).then(|| self.inner.host.explained(record)))
    }

    /// Clears the queue's error: commands submitted until now are cancelled, later ones run. Waits for the commands that the error took
    /// fail all the same, now and later, on every handle of the queue.
    pub fn clear_error(&self) -> Result<Option<ErrorRecord>> {
        let inner = &self.inner;
        if inner.read_error()?.status == 0 {
            return Ok(None);
        }
        // Nothing is submitted meanwhile, of which nobody could say whether it is cancelled or runs.
        let mut producer = inner.producer.lock();
        // What a batch keeps back is cancelled too.
        inner.publish_kept(&mut producer);
        let channel = &inner.context.channel;
        let record = inner.cleared.clear(producer.packets(), || {
            channel.queue_error(inner.handle, true)
        })?;
        Ok(record.map(|record| inner.host.explained(record)))
    }
}

impl QueueInner {
    fn read_error(&self) -> Result<ErrorRecord> {
        self.context.channel.queue_error(self.handle, false)
    }

    /// Whether the command with this value, which the timeline has passed, went well.
    pub(crate) fn outcome(&self, value: u64) -> Result<()> {
        if self.ring.error() != 0 {
            let record = self.read_error()?;
            if record.status != 0 && record.value <= value {
                return Err(self.failed(record));
            }
        }
        // After the error was read, so that one that is cleared in between is found here.
        match self.cleared.took(value) {
            Some(record) => Err(self.failed(record)),
            None => Ok(()),
        }
    }

    fn failed(&self, record: ErrorRecord) -> Error {
        Error::Command {
            call: "wait for a command",
            record: Box::new(self.host.explained(record)),
        }
    }

    /// Fails if the error is one after which the timeline never moves again.
    pub(super) fn check_stopped(&self, error: u32) -> Result<()> {
        if Status::from_raw(error).is_none_or(|status| !stops(status)) {
            return Ok(());
        }
        match self.read_error() {
            Ok(record) if record.status != 0 => Err(self.failed(record)),
            Ok(_) => Err(Error::new(
                "wait for a command",
                Status::Cancelled,
                "the queue's error was cleared meanwhile",
            )),
            Err(error) => Err(error),
        }
    }
}

/// Whether a queue with this error stands still for good.
pub(super) fn stops(status: Status) -> bool {
    matches!(
        status,
        Status::FramingError
            | Status::QueueDestroyed
            | Status::ContextStopped
            | Status::DeviceReset
            | Status::DeviceLost
    )
}

#[cfg(test)]
mod tests {
    use vmlu_abi::Wire;

    use super::*;

    #[test]
    fn cleared_errors_stay_with_what_they_took() {
        let cleared = Cleared::default();
        assert!(cleared.took(1).is_none());
        let record = |value| {
            Ok(ErrorRecord {
                status: 7,
                value,
                ..ErrorRecord::zeroed()
            })
        };
        assert!(cleared
            .clear(4, || Ok(ErrorRecord::zeroed()))
            .unwrap()
            .is_none());
        assert!(cleared.took(4).is_none());
        cleared.clear(6, || record(5)).unwrap();
        let took = |value| cleared.took(value).map(|r| r.value);
        assert_eq!([4, 5, 6, 7].map(took), [None, Some(5), Some(5), None]);
        for n in 0..MAX_SPANS as u64 {
            cleared.clear(8 + 2 * n, || record(8 + 2 * n)).unwrap();
        }
        assert_eq!([5, 8, 9].map(took), [None, Some(8), None]);
    }
}
