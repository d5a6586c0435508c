//! Notifiers: points of a queue whose time the card records.

use std::sync::{Arc, Mutex};

use vmlu_abi::notifier::Notifier as Record;
use vmlu_abi::packet::{self, op};
use vmlu_abi::Status;
use vmlu_abi::Wire;

use crate::context::{Context, ContextInner};
use crate::error::{Error, Result};
use crate::queue::Queue;

/// Notifiers of a context's pool.
const COUNT: u32 = 24_576;

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

    /// Places it behind all that was submitted to the queue; a place before is forgotten.
    pub fn place(&self, queue: &Queue) -> Result<()> {
        let mut placed = self.placed();
        let mark = placed.as_ref().map_or(1, |p| p.mark.wrapping_add(1));
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

    /// Whether the queue has reached it; a notifier that was never placed counts as reached.
    pub fn is_done(&self) -> bool {
        self.placed()
            .as_ref()
            .is_none_or(|p| p.queue.timeline() >= p.value)
    }

    /// Lets another queue wait for it.
    pub fn hold(&self, queue: &Queue) -> Result<()> {
        let target = self.placed().as_ref().map(|p| (p.queue.clone(), p.value));
        match target {
            Some((on, value)) => queue.wait_for(&on, value).map(drop),
            None => Ok(()),
        }
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
        if placed.queue.timeline() < placed.value || record.value != placed.mark {
            return Err(Error::new(
                call,
                Status::NotReady,
                "the queue has not reached the notifier",
            ));
        }
        Ok(record)
    }

    /// Wall time from this notifier to a later one, ms.
    pub fn elapsed_ms(&self, end: &Notifier) -> Result<f32> {
        let (start, end) = (
            self.reached("take elapsed time")?,
            end.reached("take elapsed time")?,
        );
        Ok((end.wall_ns as f64 - start.wall_ns as f64) as f32 / 1e6)
    }

    /// Device time for which the commands between two notifiers of a queue ran, µs.
    pub fn duration_us(&self, end: &Notifier) -> Result<f32> {
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
        if let Some(placed) = &*self.placed() {
            placed.queue.inner.settle();
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
