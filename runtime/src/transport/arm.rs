//! Waiting for a queue where this process writes the arm word itself: the rule of `docs/hardware.md`, section 6, once for all transports
//! that do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use vmlu_abi::queue::{ARM_NONE, STATUS_ERROR, STATUS_TIMELINE};
use vmlu_abi::Status;
use vmlu_protocol::wait::arm_smallest;

use super::sys::{monotonic_ns, Mapping};
use super::QueueProgress;
use crate::error::{Error, Result};

/// Bounds each sleep, so that the loss of the chip is noticed, and an interrupt that got lost made up for.
pub(super) const LOOK_NS: u64 = 250_000_000;

/// What ends a wait early.
pub(super) trait Signal {
    /// How often it came so far.
    fn count(&self) -> u64;
    /// Sleeps until it comes once more than `before`, or for the limit.
    fn sleep(&self, before: u64, limit: Duration);
    /// Lets it come.
    fn raise(&self);
    /// Whether the chip is gone, and nothing will come any more.
    fn lost(&self) -> bool;
}

/// The words of a queue that waits look at.
pub(super) struct QueueWords {
    memory: Arc<Mapping>,
    status: usize,
    arm: usize,
    /// Values that are waited for.
    wanted: Mutex<Vec<u64>>,
    destroyed: AtomicBool,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl QueueWords {
    /// A queue on which nobody waits, with its status page and its arm word at these offsets.
    pub(super) fn new(memory: Arc<Mapping>, status: usize, arm: usize) -> Self {
        memory.word(arm).store(ARM_NONE, Ordering::Relaxed);
        Self {
            memory,
            status,
            arm,
            wanted: Mutex::default(),
            destroyed: false.into(),
        }
    }

    /// The queue's memory.
    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }

    fn timeline(&self) -> u64 {
        self.memory
            .word(self.status + STATUS_TIMELINE)
            .load(Ordering::Acquire)
    }

    fn error(&self) -> u32 {
        // The word behind it in the same line is never written.
        self.memory
            .word(self.status + STATUS_ERROR)
            .load(Ordering::Acquire) as u32
    }

    fn arm_word(&self) -> &AtomicU64 {
        self.memory.word(self.arm)
    }

    /// Adds a wanted value; the card tells when the smallest that is not reached yet is.
    pub(super) fn want(&self, value: u64, signal: &dyn Signal) {
        let mut wanted = lock(&self.wanted);
        wanted.push(value);
        self.arm(&wanted, signal);
    }

    /// Takes a wanted value away.
    pub(super) fn unwant(&self, value: u64, signal: &dyn Signal) {
        let mut wanted = lock(&self.wanted);
        if let Some(at) = wanted.iter().position(|v| *v == value) {
            wanted.swap_remove(at);
        }
        self.arm(&wanted, signal);
    }

    /// Arms the smallest value that is not reached. If one is reached while it is being armed, the card may not tell: so we do.
    fn arm(&self, wanted: &[u64], signal: &dyn Signal) {
        let timeline = self.memory.word(self.status + STATUS_TIMELINE);
        arm_smallest(self.arm_word(), timeline, wanted, || signal.raise());
    }

    /// Whether a wait for the value is over, well or not.
    pub(super) fn ends(&self, value: u64) -> bool {
        self.timeline() >= value || self.error() != 0 || self.destroyed.load(Ordering::SeqCst)
    }

    /// The queue is destroyed: ends all waits.
    pub(super) fn destroy(&self, signal: &dyn Signal) {
        self.destroyed.store(true, Ordering::SeqCst);
        signal.raise();
    }

    /// Waits; see `Channel::queue_wait`.
    pub(super) fn wait(
        &self,
        signal: &dyn Signal,
        queue: u64,
        value: u64,
        deadline_ns: u64,
    ) -> Result<QueueProgress> {
        self.want(value, signal);
        let result = self.sleep(signal, queue, value, deadline_ns);
        self.unwant(value, signal);
        result
    }

    fn sleep(
        &self,
        signal: &dyn Signal,
        queue: u64,
        value: u64,
        deadline_ns: u64,
    ) -> Result<QueueProgress> {
        const CALL: &str = "wait for a queue";
        loop {
            let before = signal.count();
            let progress = QueueProgress {
                timeline: self.timeline(),
                error: self.error(),
            };
            if progress.timeline >= value || progress.error != 0 {
                return Ok(progress);
            }
            if self.destroyed.load(Ordering::SeqCst) {
                let text = format!("queue {queue:#x} was destroyed meanwhile");
                return Err(Error::new(CALL, Status::QueueDestroyed, text));
            }
            if signal.lost() {
                return Err(Error::new(CALL, Status::DeviceLost, "the chip is lost"));
            }
            let now = monotonic_ns();
            if now >= deadline_ns {
                let text = format!(
                    "queue {queue:#x} is at {}, not at {value}",
                    progress.timeline
                );
                return Err(Error::new(CALL, Status::Timeout, text));
            }
            let limit = (deadline_ns - now).min(LOOK_NS);
            signal.sleep(before, Duration::from_nanos(limit));
        }
    }
}
