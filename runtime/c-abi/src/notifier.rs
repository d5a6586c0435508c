//! Notifiers: points of queues, with the times at which they were reached.

use std::sync::Arc;
use std::time::Duration;

use vmlu::{ImportedTimeline, Status};

use crate::context::Live;
use crate::failure::{Failure, Result};
use crate::ipc::Place;
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
    /// Where it is, if other processes may have it.
    place: Option<Place>,
    /// Whether another process made it.
    opened: bool,
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
        let place = match flags & INTERPROCESS {
            0 => None,
            _ => Some(Place::new()?),
        };
        Self::make(live, flags, place, false)
    }

    fn make(live: &Arc<Live>, flags: u32, place: Option<Place>, opened: bool) -> Result<usize> {
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
            place,
            opened,
        };
        NOTIFIERS
            .insert(Arc::new(notifier))
            .ok_or(Failure::NO_NOTIFIER)
    }

    /// How other processes call it.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] if it was not made for that, or by another process.
    pub fn export(&self) -> Result<u64> {
        match &self.place {
            Some(place) if !self.opened => Ok(place.handle()),
            _ => Err(Failure::INVALID_VALUE),
        }
    }

    /// Makes a notifier of another process's; its handle.
    pub fn open(live: &Arc<Live>, handle: u64) -> Result<usize> {
        Self::make(live, NO_TIME, Some(Place::open(handle)?), true)
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
        self.runtime.place(queue.runtime())?;
        if let Some(place) = &self.place
            && let Some((queue, value)) = self.runtime.target()
        {
            place.set(&queue.export()?, value);
        }
        Ok(())
    }

    /// The timeline that was placed by whichever process did last, and its value, if others may have the notifier.
    fn elsewhere(&self) -> Result<Option<(ImportedTimeline, u64)>> {
        let Some(place) = &self.place else {
            return Ok(None);
        };
        match place.get()? {
            Some((token, value)) => Ok(Some((self.live.runtime.import(&token)?, value))),
            None => Ok(None),
        }
    }

    /// Has a queue wait for it, on the card; the queue may be of another device. Nothing if it was never placed.
    pub fn hold(&self, queue: &Queue) -> Result<()> {
        match &self.place {
            None => Ok(self.runtime.hold(queue.runtime())?),
            Some(place) => {
                if let Some((token, value)) = place.get()? {
                    let timeline = queue.live.runtime.import(&token)?;
                    queue.runtime().wait_for_imported(&timeline, value)?;
                }
                Ok(())
            }
        }
    }

    /// Waits for it. Nothing if it was never placed.
    pub fn wait(&self) -> Result<()> {
        let Some((timeline, value)) = self.elsewhere()? else {
            return Ok(self.runtime.wait()?);
        };
        let mut pause = Duration::from_micros(20);
        loop {
            match reached(&timeline, value) {
                Err(Failure::NOT_READY) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    /// Whether it was reached, or never placed.
    ///
    /// # Errors
    ///
    /// [`Failure::NOT_READY`] if not; the error of a command before it that failed.
    pub fn query(&self) -> Result<()> {
        if let Some((timeline, value)) = self.elsewhere()? {
            return reached(&timeline, value);
        }
        match self.runtime.query()? {
            true => Ok(()),
            false => Err(Failure::NOT_READY),
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

/// Whether another process's timeline has reached a value.
fn reached(timeline: &ImportedTimeline, value: u64) -> Result<()> {
    let state = timeline.state()?;
    match Status::from_raw(state.error) {
        _ if state.value >= value => Ok(()),
        Some(Status::Ok) => Err(Failure::NOT_READY),
        status => Err(Failure::of(status.unwrap_or(Status::Internal))),
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
