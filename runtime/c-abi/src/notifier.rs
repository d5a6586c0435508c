//! Notifiers: points of queues, with the times at which they were reached.

use std::sync::Arc;

use vmlu::Status;

use crate::context::Live;
use crate::failure::{Failure, Result};
use crate::queue::Queue;
use crate::table::Table;

/// The notifiers by their handles.
pub static NOTIFIERS: Table<Notifier> = Table::new(0x13);

/// Flag: no wall time.
pub const NO_WALL_TIME: u32 = 2;
/// Flag: no time.
pub const NO_TIME: u32 = 4;
/// Flag: other processes may have it. Demands [`NO_TIME`].
pub const INTERPROCESS: u32 = 8;

/// A time is asked of a notifier that has none.
const NO_TIMES: Failure = Failure::split(100_080, 100_006);
/// A time is asked of a notifier that was not placed.
const NOT_PLACED: Failure = Failure::split(100_080, 632_015);

/// A notifier.
pub struct Notifier {
    /// The context that it belongs to.
    pub live: Arc<Live>,
    flags: u32,
    runtime: vmlu::Notifier,
}

impl Notifier {
    /// Makes a notifier; its handle.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] for flags that there are not; [`Failure::NO_NOTIFIER`] if the context has no room for it.
    pub fn create(live: &Arc<Live>, flags: u32) -> Result<usize> {
        let unknown = flags & !(NO_WALL_TIME | NO_TIME | INTERPROCESS) != 0;
        if unknown || flags & (INTERPROCESS | NO_TIME) == INTERPROCESS {
            return Err(Failure::INVALID_VALUE);
        }
        let runtime = live
            .runtime
            .notifier()
            .map_err(|error| match Failure::from(error) {
                Failure { cn: 100_053, .. } => Failure::NO_NOTIFIER,
                failure => failure,
            })?;
        let notifier = Self {
            live: live.clone(),
            flags,
            runtime,
        };
        NOTIFIERS
            .insert(Arc::new(notifier))
            .ok_or(Failure::NO_NOTIFIER)
    }

    /// The notifier of a handle.
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        NOTIFIERS.find(handle).ok_or(Failure::INVALID_NOTIFIER)
    }

    /// Destroys a notifier. That it is reached is not waited for.
    pub fn destroy(handle: usize) -> Result<()> {
        let notifier = NOTIFIERS.remove(handle).ok_or(Failure::INVALID_NOTIFIER)?;
        if !notifier.runtime.is_done() {
            crate::host::later(notifier);
        }
        Ok(())
    }

    /// Places it behind what a queue of its context has.
    pub fn place(&self, queue: &Queue) -> Result<()> {
        if !Arc::ptr_eq(&self.live, &queue.live) {
            return Err(Failure::INVALID_VALUE);
        }
        Ok(self.runtime.place(queue.runtime())?)
    }

    /// Has a queue wait for it, on the card; the queue may be of another device. Nothing if it was never placed.
    pub fn hold(&self, queue: &Queue) -> Result<()> {
        Ok(self.runtime.hold(queue.runtime())?)
    }

    /// Waits for it. Nothing if it was never placed.
    pub fn wait(&self) -> Result<()> {
        Ok(self.runtime.wait()?)
    }

    /// Whether it was reached, or never placed.
    ///
    /// # Errors
    ///
    /// [`Failure::NOT_READY`] if not; the error of a command before it that failed.
    pub fn query(&self) -> Result<()> {
        if self.runtime.query()? {
            Ok(())
        } else {
            Err(Failure::NOT_READY)
        }
    }

    fn check_times(&self, end: &Self, without: u32) -> Result<()> {
        if (self.flags | end.flags) & without != 0 {
            return Err(NO_TIMES);
        }
        if self.runtime.target().is_none() || end.runtime.target().is_none() {
            return Err(NOT_PLACED);
        }
        Ok(())
    }

    /// Wall time from this one to another, ms.
    pub fn elapsed_ms(&self, end: &Self) -> Result<f32> {
        self.check_times(end, NO_WALL_TIME | NO_TIME)?;
        times(self.runtime.elapsed_ms(&end.runtime))
    }

    /// Time for which the card ran commands between this one and another of the same queue, µs.
    pub fn duration_us(&self, end: &Self) -> Result<f32> {
        self.check_times(end, NO_TIME)?;
        times(self.runtime.duration_us(&end.runtime))
    }
}

fn times(result: vmlu::Result<f32>) -> Result<f32> {
    result.map_err(|error| match error.status() {
        Status::InvalidArgument => NOT_PLACED,
        _ => error.into(),
    })
}

/// Takes all of a context from the table, to be dropped without a lock.
pub(crate) fn forget(live: &Arc<Live>) -> Vec<Arc<Notifier>> {
    NOTIFIERS.remove_if(|notifier| Arc::ptr_eq(&notifier.live, live))
}
