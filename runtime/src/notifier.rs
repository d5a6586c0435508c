//! Notifiers: points of a queue whose time the card records.

use std::sync::{Arc, Mutex};

use vmlu_abi::notifier::Notifier as Record;
use vmlu_abi::packet::{self, op};
use vmlu_abi::Status;
use vmlu_abi::Wire;

use crate::context::{Context, ContextInner};
use crate::error::{Error, Result};
use crate::graph::CAPTURED;
use crate::queue::Queue;

/// Notifiers that a context can have.
pub const COUNT: u32 = 24_576;

/// The notifier pool of a context, made with its first notifier.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Address of the pool in pinned memory; it lives as long as the context.
    address: u64,
    free: Vec<u32>,
}

/// A point of a queue: place it, wait for it, and take the time between two of them.
pub struct Notifier {
    context: Arc<ContextInner>,
    address: u64,
    index: u32,
    placed: Mutex<Option<Placed>>,
}

struct Placed {
    queue: Queue,
    value: u64,
    mark: u32,
}

impl Context {
    /// Makes a notifier.
    pub fn notifier(&self) -> Result<Notifier> {
        let inner = &self.inner;
        let mut state = inner
            .notifiers
            .state
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        if state.address == 0 {
            let length = (u64::from(COUNT) * size_of::<Record>() as u64).next_multiple_of(4096);
            let address = inner.addresses.take(length)?;
            let access = vmlu_abi::rpc::ACCESS_READ | vmlu_abi::rpc::ACCESS_WRITE;
            let made = inner.channel.host_alloc(address, length, access);
            if let Err(error) = made.and_then(|()| inner.channel.notifier_pool(address, COUNT)) {
                let _ = inner.channel.host_free(address);
                inner.addresses.give_back(address);
                return Err(error);
            }
            state.address = address;
            state.free = (0..COUNT).rev().collect();
        }
        let Some(index) = state.free.pop() else {
            return Err(Error::new(
                "make a notifier",
                Status::OutOfResources,
                format!("all {COUNT} notifiers are in use"),
            ));
        };
        Ok(Notifier {
            context: inner.clone(),
            address: state.address,
            index,
            placed: Mutex::new(None),
        })
    }
}

impl Notifier {
    fn record(&self) -> Record {
        let at =
            (self.address + u64::from(self.index) * size_of::<Record>() as u64) as *const Record;
        // SAFETY: the entry lies in the context's pool, which is mapped as long as the context, which `self` holds; any bytes are a
        // valid `Record`, and a torn read is found out by its value.
        unsafe { at.read_volatile() }
    }

    fn placed(&self) -> std::sync::MutexGuard<'_, Option<Placed>> {
        self.placed.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Places it behind all that was submitted to the queue; a place before is forgotten. On a queue that is being captured it marks a point
    /// of the capture for [`Notifier::hold`], and records no time.
    pub fn place(&self, queue: &Queue) -> Result<()> {
        if !Arc::ptr_eq(&self.context, queue.inner.context()) {
            let text = "the notifier is of another context than the queue";
            return Err(Error::new("place a notifier", Status::BadHandle, text));
        }
        let mut placed = self.placed();
        let mark = placed.as_ref().map_or(1, |p| p.mark.wrapping_add(1));
        if let Some(value) = queue.capture_point() {
            *placed = Some(Placed {
                queue: queue.clone(),
                value,
                mark,
            });
            return Ok(());
        }
        let body = packet::Notify {
            index: self.index,
            value: mark,
        };
        let value = queue.submit_raw(op::NOTIFY, body.as_bytes())?;
        *placed = Some(Placed {
            queue: queue.clone(),
            value,
            mark,
        });
        Ok(())
    }

    /// Blocks until the queue has reached it.
    pub fn wait(&self) -> Result<()> {
        let target = self.placed().as_ref().map(|p| (p.queue.clone(), p.value));
        match target {
            Some((queue, value)) => queue.wait(value),
            None => Ok(()),
        }
    }

    /// Whether the queue has reached it, well or not; a notifier that was never placed counts as reached.
    pub fn is_done(&self) -> bool {
        self.placed()
            .as_ref()
            .is_none_or(|p| p.queue.timeline() >= p.value)
    }

    /// Whether the queue has reached it, without blocking; a notifier that was never placed counts as reached.
    ///
    /// # Errors
    ///
    /// The error of the queue if a command before it failed; `Status::CaptureUnsupported` if it was placed in a capture.
    pub fn query(&self) -> Result<bool> {
        let target = self.placed().as_ref().map(|p| (p.queue.clone(), p.value));
        let Some((queue, value)) = target else {
            return Ok(true);
        };
        if value & CAPTURED != 0 {
            let text = "it was placed in a capture";
            return Err(Error::new(
                "query a notifier",
                Status::CaptureUnsupported,
                text,
            ));
        }
        if queue.timeline() < value {
            return Ok(false);
        }
        queue.inner.outcome(value).map(|()| true)
    }

    /// Lets another queue wait for it, on the card. The queue may be of another context of this process, on another chip too.
    pub fn hold(&self, queue: &Queue) -> Result<()> {
        let target = self.placed().as_ref().map(|p| (p.queue.clone(), p.value));
        let Some((on, value)) = target else {
            return Ok(());
        };
        let captured = value & CAPTURED != 0 || queue.is_capturing();
        if captured || Arc::ptr_eq(queue.inner.context(), &self.context) {
            return queue.wait_for(&on, value).map(drop);
        }
        if on.inner.is_over(value) {
            return Ok(());
        }
        let timeline = queue.context().import(&on.token()?)?;
        queue.wait_for_imported(&timeline, value).map(drop)
    }

    /// Where it was placed last: the queue, and the timeline value that the queue has then reached. `None` if it never was, or in a capture.
    pub fn target(&self) -> Option<(Queue, u64)> {
        let placed = self.placed();
        let placed = placed.as_ref().filter(|p| p.value & CAPTURED == 0)?;
        Some((placed.queue.clone(), placed.value))
    }

    fn reached(&self, call: &'static str) -> Result<Record> {
        let placed = self.placed();
        let Some(placed) = placed.as_ref() else {
            return Err(Error::new(
                call,
                Status::InvalidArgument,
                "the notifier was never placed",
            ));
        };
        let record = self.record();
        let ahead = placed.queue.timeline() < placed.value;
        if ahead || record.value != placed.mark {
            return Err(Error::new(
                call,
                Status::NotReady,
                "the queue has not reached the notifier",
            ));
        }
        Ok(record)
    }

    /// Wall time from this notifier to another, ms; negative if the other came first. They may be of different queues and contexts.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if one was never placed, `Status::NotReady` if its queue has not reached it.
    pub fn elapsed_ms(&self, end: &Notifier) -> Result<f32> {
        let (start, end) = (
            self.reached("take elapsed time")?,
            end.reached("take elapsed time")?,
        );
        Ok((end.wall_ns as f64 - start.wall_ns as f64) as f32 / 1e6)
    }

    /// Time from this notifier to another on the device clock of their chip, ms: what the card would have needed, the same on every host
    /// while its queues are busy.
    ///
    /// # Errors
    ///
    /// As [`Notifier::elapsed_ms`]; `Status::InvalidArgument` if they are of different contexts, whose chips have clocks of their own.
    pub fn device_elapsed_ms(&self, end: &Notifier) -> Result<f32> {
        const CALL: &str = "take elapsed device time";
        if !Arc::ptr_eq(&self.context, &end.context) {
            let text = "the notifiers are of different contexts";
            return Err(Error::new(CALL, Status::InvalidArgument, text));
        }
        let (start, end) = (self.reached(CALL)?, end.reached(CALL)?);
        Ok((end.device_ns as f64 - start.device_ns as f64) as f32 / 1e6)
    }

    /// Device time for which the commands between two notifiers of a queue ran, µs.
    ///
    /// # Errors
    ///
    /// As [`Notifier::elapsed_ms`]; `Status::InvalidArgument` if they were placed on different queues, which have nothing between them.
    pub fn duration_us(&self, end: &Notifier) -> Result<f32> {
        let queues = [self, end].map(|n| n.placed().as_ref().map(|p| p.queue.handle()));
        if let [Some(a), Some(b)] = queues
            && a != b
        {
            let text = format!("the notifiers are of different queues, {a:#x} and {b:#x}");
            return Err(Error::new("take a duration", Status::InvalidArgument, text));
        }
        let (start, end) = (
            self.reached("take a duration")?,
            end.reached("take a duration")?,
        );
        Ok((end.busy_ns as f64 - start.busy_ns as f64) as f32 / 1e3)
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // The card may still write the entry: it is free once the queue has passed it.
        if let Some(placed) = &*self.placed()
            && placed.value & CAPTURED == 0
        {
            placed.queue.inner.settle_to(placed.value);
        }
        self.context
            .notifiers
            .state
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .free
            .push(self.index);
    }
}
