//! Timelines besides those of a context's own queues: advanced by the host, or of queues of other contexts, processes and chips. The card
//! waits for them like for queues, without the host.

use std::sync::{Arc, Mutex};

use vmlu_abi::packet::{self, op};
use vmlu_abi::rpc::{self, TimelineState};
use vmlu_abi::{Status, Wire};

use crate::context::{Context, ContextInner};
use crate::error::{Error, Result};
use crate::queue::{Queue, Ring};

/// A timeline that this process advances. Queues of its context wait for it on the card. Cloning it gives another handle on the same
/// timeline; when the last one is dropped, commands that wait for values that it has not reached fail: with `Status::Dependency`, or `BadHandle` where the
/// card had not looked at them yet.
#[derive(Clone)]
pub struct HostTimeline {
    inner: Arc<HostTimelineInner>,
}

struct HostTimelineInner {
    context: Arc<ContextInner>,
    handle: u64,
    state: Mutex<State>,
}

struct State {
    /// Until it has ended; the card's memory is not there any more then.
    ring: Option<Ring>,
    value: u64,
}

impl Context {
    /// Makes a host timeline, at 0.
    ///
    /// # Errors
    ///
    /// `Status::OutOfResources` if the chip has no room for another queue: a host timeline takes as much of it as a queue does.
    pub fn host_timeline(&self) -> Result<HostTimeline> {
        let memory = self.inner.channel.timeline_create()?;
        let inner = HostTimelineInner {
            context: self.inner.clone(),
            handle: memory.queue,
            state: Mutex::new(State {
                ring: Some(Ring::new(memory, self.inner.channel.barrier())),
                value: 0,
            }),
        };
        Ok(HostTimeline {
            inner: Arc::new(inner),
        })
    }
}

impl HostTimeline {
    /// Handle: names the timeline in `packet::Wait`.
    pub fn handle(&self) -> u64 {
        self.inner.handle
    }

    /// The value that it has.
    pub fn value(&self) -> u64 {
        self.inner.state().value
    }

    /// Advances it to `value`; one that it has reached already changes nothing. No system call while the card is awake. What this thread
    /// wrote before is seen by the commands that waited for the value.
    ///
    /// # Errors
    ///
    /// `Status::QueueDestroyed` after [`HostTimeline::end`].
    pub fn signal(&self, value: u64) -> Result<()> {
        let mut state = self.inner.state();
        let Some(ring) = &state.ring else {
            let text = format!("timeline {:#x} was ended", self.inner.handle);
            return Err(Error::new(
                "signal a timeline",
                Status::QueueDestroyed,
                text,
            ));
        };
        if value > state.value {
            if ring.publish(value) {
                self.inner.context.channel.kick();
            }
            state.value = value;
        }
        Ok(())
    }

    /// Ends it, on all handles: commands that wait for values that it has not reached fail.
    pub fn end(&self) {
        self.inner.end();
    }

    /// The token with which other contexts wait for it.
    pub fn export(&self) -> Result<TimelineToken> {
        let channel = &self.inner.context.channel;
        Ok(TimelineToken(channel.timeline_export(self.inner.handle)?))
    }

    /// Whether it was ended.
    pub fn has_ended(&self) -> bool {
        self.inner.state().ring.is_none()
    }
}

impl HostTimelineInner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn end(&self) {
        // Held over the call, so that nobody writes a doorbell that is somebody else's by then.
        let mut state = self.state();
        if state.ring.take().is_some()
            && let Err(error) = self.context.channel.queue_destroy(self.handle)
        {
            tracing::debug!("timeline {:#x} was not destroyed: {error}", self.handle);
        }
    }
}

impl Drop for HostTimelineInner {
    fn drop(&mut self) {
        self.end();
    }
}

/// What another context needs to wait for a queue's timeline, and nothing else can be done with it: 32 bytes that can be sent to another
/// process. It is valid as long as the queue lives.
#[derive(Clone, Copy, PartialEq)]
pub struct TimelineToken(rpc::TimelineToken);

impl TimelineToken {
    /// As bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.as_bytes());
        bytes
    }

    /// From bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(rpc::TimelineToken::read_from(bytes).unwrap_or_else(rpc::TimelineToken::zeroed))
    }
}

impl std::fmt::Debug for TimelineToken {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TimelineToken({:#x}, chip {})",
            self.0.serial, self.0.chip
        )
    }
}

/// The timeline of a queue of another context, on the same chip or another of the same server or machine. Cloning it gives another handle
/// on the same import.
#[derive(Clone)]
pub struct ImportedTimeline {
    inner: Arc<ImportedInner>,
}

struct ImportedInner {
    context: Arc<ContextInner>,
    handle: u64,
}

impl Context {
    /// Imports the timeline of a token, so that queues of this context can wait for it.
    ///
    /// # Errors
    ///
    /// `Status::BadHandle` if the token is of no queue that lives on a chip that this context's server or driver has.
    pub fn import(&self, token: &TimelineToken) -> Result<ImportedTimeline> {
        let handle = self.inner.channel.timeline_import(&token.0)?;
        let context = self.inner.clone();
        Ok(ImportedTimeline {
            inner: Arc::new(ImportedInner { context, handle }),
        })
    }
}

impl ImportedTimeline {
    /// Handle: names the timeline in `packet::Wait`.
    pub fn handle(&self) -> u64 {
        self.inner.handle
    }

    /// The timeline's value, and the status of its queue: `QueueDestroyed` once that has ended.
    pub fn state(&self) -> Result<TimelineState> {
        self.inner.context.channel.timeline_read(self.inner.handle)
    }

    /// The timeline's value.
    pub fn value(&self) -> Result<u64> {
        Ok(self.state()?.value)
    }
}

impl Drop for ImportedInner {
    fn drop(&mut self) {
        if let Err(error) = self.context.channel.timeline_release(self.handle) {
            tracing::debug!("timeline {:#x} was not released: {error}", self.handle);
        }
    }
}

impl Queue {
    /// Lets the commands that follow wait until a host timeline has reached a value. They fail with `Status::Dependency` if it ends before.
    pub fn wait_for_timeline(&self, timeline: &HostTimeline, value: u64) -> Result<u64> {
        self.check_own(&timeline.inner.context, timeline.handle())?;
        self.submit_wait(timeline.handle(), value)
    }

    /// Lets the commands that follow wait until a timeline of another context has reached a value. They fail with `Status::Dependency` if
    /// the command with that value failed, or if its queue, context or process ended before.
    pub fn wait_for_imported(&self, timeline: &ImportedTimeline, value: u64) -> Result<u64> {
        self.check_own(&timeline.inner.context, timeline.handle())?;
        let wait = self.submit_wait(timeline.handle(), value)?;
        self.inner.keep_until(wait, timeline.inner.clone());
        Ok(wait)
    }

    /// The token with which other contexts wait for this queue's timeline.
    pub fn export(&self) -> Result<TimelineToken> {
        let channel = &self.inner.context().channel;
        Ok(TimelineToken(channel.timeline_export(self.handle())?))
    }

    /// As [`Queue::export`], asked once.
    pub(crate) fn token(&self) -> Result<TimelineToken> {
        if let Some(token) = self.inner.token.get() {
            return Ok(*token);
        }
        let token = self.export()?;
        Ok(*self.inner.token.get_or_init(|| token))
    }

    pub(crate) fn submit_wait(&self, queue: u64, value: u64) -> Result<u64> {
        self.refuse_capture_as("wait for a timeline", Status::CaptureIsolation)?;
        self.submit_raw(op::WAIT, packet::Wait { queue, value }.as_bytes())
    }

    fn check_own(&self, context: &Arc<ContextInner>, handle: u64) -> Result<()> {
        if Arc::ptr_eq(context, self.inner.context()) {
            return Ok(());
        }
        let text = format!(
            "timeline {handle:#x} is of another context than queue {:#x}; export and import it",
            self.handle()
        );
        Err(Error::new("wait for a timeline", Status::BadHandle, text))
    }
}
