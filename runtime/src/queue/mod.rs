//! Queues: commands are written into shared memory, and their completion is read from it. No system call on the way.

mod errors;
mod host_fn;
mod kept;
mod lock;
mod ring;
mod strided;
mod submit;
mod transfer;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use rustix::event::{eventfd, EventfdFlags};

use vmlu_abi::packet::op;
use vmlu_abi::Status;

use crate::context::{Context, ContextInner};
use crate::error::{Error, Result};
use crate::graph::{Slot, CAPTURED};
use crate::timeline::TimelineToken;
use crate::transport::sys::monotonic_ns;

pub(crate) use lock::me;
use lock::Lock;
pub(crate) use ring::Ring;
pub use strided::{Extent, Layout};
pub use submit::Batch;
use submit::Producer;

/// How long a queue that is about to be dropped may stand still, ns: longer than the card's watchdog lets a command run, so that only a
/// wait that nobody satisfies is given up.
const STALL_NS: u64 = 70_000_000_000;

/// How often the timeline is looked at before the waiter goes to sleep: some tens of microseconds.
const SPINS: u32 = 20_000;

/// A queue of commands, which the card runs in order. Cloning it gives another handle on the same queue.
#[derive(Clone)]
pub struct Queue {
    pub(crate) inner: Arc<QueueInner>,
}

pub(crate) struct QueueInner {
    context: Arc<ContextInner>,
    handle: u64,
    ring: Ring,
    producer: Lock<Producer>,
    /// Errors that were cleared.
    cleared: Arc<errors::Cleared>,
    host: host_fn::HostFunctions,
    kept: kept::Kept,
    /// What [`Queue::export`] gave.
    pub(crate) token: OnceLock<TimelineToken>,
    capture: Slot,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Queue {
    pub(crate) fn new(
        context: &Context,
        ring_units: u32,
        priority: u32,
        weight: u32,
    ) -> Result<Self> {
        let memory = context
            .inner
            .channel
            .queue_create(ring_units, priority, weight)?;
        let (context, handle) = (context.inner.clone(), memory.queue);
        let ring = Ring::new(memory, context.channel.barrier());
        let cleared = Arc::<errors::Cleared>::default();
        let inner = QueueInner {
            host: host_fn::HostFunctions::new(context.clone(), handle, cleared.clone()),
            context,
            handle,
            producer: Lock::new(Producer::new(memory.ring_units)),
            ring,
            cleared,
            kept: Default::default(),
            token: OnceLock::new(),
            capture: Default::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The context that it belongs to.
    pub fn context(&self) -> Context {
        Context {
            inner: self.inner.context.clone(),
        }
    }

    /// Handle: names the queue's timeline in waits of other queues.
    pub fn handle(&self) -> u64 {
        self.inner.handle
    }

    /// Commands submitted so far: the timeline value of the last one.
    pub fn submitted(&self) -> u64 {
        self.inner.submitted()
    }

    /// Commands completed so far.
    pub fn timeline(&self) -> u64 {
        self.inner.ring.timeline()
    }

    /// Whether all commands have completed.
    pub fn is_idle(&self) -> bool {
        self.timeline() >= self.submitted()
    }

    /// Sets the mark that the following commands carry in error records and traces.
    pub fn set_correlation(&self, correlation: u64) {
        self.inner.producer.lock().correlation = correlation;
    }

    pub(crate) fn correlation(&self) -> u64 {
        self.inner.producer.lock().correlation
    }

    /// Submits a command that does nothing.
    pub fn nop(&self) -> Result<u64> {
        self.submit_raw(op::NOP, &[])
    }

    /// Lets the commands that follow wait until another queue of the context has completed a command. A queue that waits for a captured
    /// command joins the capture; see [`Queue::begin_capture`].
    pub fn wait_for(&self, other: &Queue, value: u64) -> Result<u64> {
        match self.capture_wait(other, value)? {
            Some(captured) => Ok(captured),
            None => self.submit_wait(other.handle(), value),
        }
    }

    /// Blocks until the command with this timeline value has completed; its error if it or one before it failed.
    pub fn wait(&self, value: u64) -> Result<()> {
        self.check_waitable(value)?;
        self.inner.wait(value, u64::MAX)
    }

    /// As [`Queue::wait`], for at most `limit`; `Status::Timeout` after it.
    pub fn wait_timeout(&self, value: u64, limit: Duration) -> Result<()> {
        self.check_waitable(value)?;
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.inner.wait(value, monotonic_ns().saturating_add(limit))
    }

    fn check_waitable(&self, value: u64) -> Result<()> {
        self.refuse_capture("wait for a command")?;
        if value & CAPTURED == 0 {
            return Ok(());
        }
        let text = format!("{value:#x} names a captured command, which is never run by itself");
        Err(Error::new(
            "wait for a command",
            Status::InvalidArgument,
            text,
        ))
    }

    /// An eventfd that is signalled once the command with this timeline value has completed, well or not, or the queue is in error or has
    /// ended: for programs that wait for several things at once. [`Queue::wait`] tells then how it went.
    pub fn completion_fd(&self, value: u64) -> Result<OwnedFd> {
        const CALL: &str = "make an eventfd";
        self.check_waitable(value)?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Error::system(CALL, "check `ulimit -n`", e.into()))?;
        let channel = &self.inner.context.channel;
        self.inner.flush();
        channel.queue_arm(self.inner.handle, value, fd.as_fd())?;
        Ok(fd)
    }

    /// Blocks until all commands submitted so far have completed; the error if one failed.
    pub fn sync(&self) -> Result<()> {
        self.wait(self.submitted())
    }
}

impl QueueInner {
    pub(crate) fn context(&self) -> &Arc<ContextInner> {
        &self.context
    }

    pub(crate) fn handle(&self) -> u64 {
        self.handle
    }

    pub(crate) fn timeline(&self) -> u64 {
        self.ring.timeline()
    }

    pub(crate) fn capture(&self) -> &Slot {
        &self.capture
    }

    /// Whether the command with this value has ended well.
    pub(crate) fn is_over(&self, value: u64) -> bool {
        self.timeline() >= value && self.ring.error() == 0 && self.outcome(value).is_ok()
    }

    /// Whether an error that was cleared took the command with this value.
    pub(crate) fn is_cleared(&self, value: u64) -> bool {
        self.cleared.took(value).is_some()
    }

    /// Waits until the timeline has passed all that was submitted, whatever happens on the way; gives up if the queue stands still.
    pub(crate) fn settle(&self) {
        self.settle_to(self.submitted());
    }

    /// As [`QueueInner::settle`], for what was submitted up to a value.
    pub(crate) fn settle_to(&self, value: u64) {
        let mut progress = self.ring.timeline();
        loop {
            let limit = monotonic_ns().saturating_add(STALL_NS);
            match self.pass(value, limit) {
                Err(error)
                    if error.status() == Status::Timeout && self.ring.timeline() > progress =>
                {
                    progress = self.ring.timeline();
                }
                _ => return,
            }
        }
    }

    /// Waits until the timeline has reached a value, whatever became of the command.
    pub(crate) fn pass(&self, value: u64, deadline_ns: u64) -> Result<()> {
        if self.ring.timeline() >= value {
            return Ok(());
        }
        // A batch may still keep back what is waited for.
        self.flush();
        for _ in 0..SPINS {
            if self.ring.timeline() >= value {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        if self.ring.timeline() < value {
            self.host.check_thread("wait for a command")?;
        }
        while self.ring.timeline() < value {
            let progress = self
                .context
                .channel
                .queue_wait(self.handle, value, deadline_ns)?;
            if progress.timeline < value && progress.error != 0 {
                self.check_stopped(progress.error)?;
                // The card is about to cancel what is left.
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    pub(crate) fn wait(&self, value: u64, deadline_ns: u64) -> Result<()> {
        self.pass(value, deadline_ns)?;
        self.outcome(value)
    }
}

impl Drop for QueueInner {
    fn drop(&mut self) {
        self.capture.queue_ends(self.handle);
        // Commands that were submitted are allowed to end; what hangs is ended by the card's watchdog.
        self.settle();
        if let Err(error) = self.context.channel.queue_destroy(self.handle) {
            tracing::debug!("queue {:#x} was not destroyed: {error}", self.handle);
        }
        self.context.staging.queue_ended(&self.context, self.handle);
    }
}
