//! Events: who waits for them sleeps until a device tells of one, and then reads the devices' logs.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmlu::abi::event::EventKind;
use vmlu::abi::setting::LogEntry;
use vmlu::telemetry::{EventWaiter, Reader};

use crate::call::Out;
use crate::codes::{Code, Outcome};
use crate::library::{library, lock, Library};
use crate::types::*;

/// The events of this interface: `cndevEventTypeXidError`.
const XID: u64 = 1;
/// What stands for "in no instance".
const NO_INSTANCE: u32 = u32::MAX;

/// Devices whose events are wanted.
#[derive(Default)]
struct EventSet {
    reader: Reader,
    /// What threads of the process with this number wait at: a forked child makes its own, or it would take its parent's events away.
    waiter: Mutex<Option<(u32, Arc<EventWaiter>)>>,
    ended: AtomicBool,
}

/// The sets that there are. A handle is a number in the shape of a pointer, never used twice.
static SETS: Mutex<Option<HashMap<usize, Arc<EventSet>>>> = Mutex::new(None);
static LAST: AtomicUsize = AtomicUsize::new(0);

fn find(handle: *mut c_void) -> Outcome<Arc<EventSet>> {
    let sets = lock(&SETS);
    let set = sets.as_ref().and_then(|sets| sets.get(&handle.addr()));
    set.cloned().ok_or(Code::InvalidArgument)
}

/// The library ends: so do all sets.
pub(crate) fn end_all() {
    for set in lock(&SETS)
        .take()
        .into_iter()
        .flat_map(HashMap::into_values)
    {
        set.end();
    }
}

impl EventSet {
    /// What threads wait at. From the first call on no event is missed.
    fn waiter(&self, library: &Library) -> Outcome<Arc<EventWaiter>> {
        let process = std::process::id();
        let mut waiter = lock(&self.waiter);
        match &*waiter {
            Some((owner, waiter)) if *owner == process => Ok(waiter.clone()),
            _ => {
                let new = Arc::new(EventWaiter::new(&**library.transport())?);
                *waiter = Some((process, new.clone()));
                Ok(new)
            }
        }
    }

    /// No thread waits any longer.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        if let Some((_, waiter)) = &*lock(&self.waiter) {
            waiter.wake();
        }
    }

    /// The next event of any of the devices, if there is one. `told` is whether somebody said so.
    fn take(&self, library: &Library, told: bool) -> Outcome<Option<cndevEventData_t>> {
        for number in self.reader.chips() {
            let Some(card) = library.cards.iter().find(|card| card.number == number) else {
                continue;
            };
            let first_xid = |entries: &[LogEntry]| {
                let is_xid = |entry: &LogEntry| entry.kind == EventKind::Xid as u32;
                match entries.iter().position(is_xid) {
                    Some(at) => (at + 1, Some(entries[at])),
                    None => (entries.len(), None),
                }
            };
            let next = self
                .reader
                .read(&library.monitor, card.number, told, first_xid)?;
            if let Some(entry) = next.flatten() {
                return Ok(Some(cndevEventData_t {
                    version: 6,
                    device: card.handle,
                    eventData: entry.value,
                    eventType: XID,
                    timestamp: entry.time_us,
                    computeInstanceId: NO_INSTANCE,
                    mluInstanceId: NO_INSTANCE,
                    ..cndevEventData_t::zeroed()
                }));
            }
        }
        Ok(None)
    }
}

exports! {
    fn cndevGetSupportedEventTypes(types: Out<u64>, device: i32) {
        let library = library()?;
        types.check()?;
        library.card(device)?;
        types.put(XID)
    }

    fn cndevEventHandleCreate(handle: Out<*mut c_void>) {
        library()?;
        handle.check()?;
        // Multiples of 16, as pointers are.
        let number = (LAST.fetch_add(1, Ordering::Relaxed) + 1) << 4;
        let mut sets = lock(&SETS);
        sets.get_or_insert_with(HashMap::new).insert(number, Arc::default());
        handle.put(std::ptr::without_provenance_mut(number))
    }

    fn cndevEventHandleDestroy(handle: *mut c_void) {
        library()?;
        let set = lock(&SETS).as_mut().and_then(|sets| sets.remove(&handle.addr()));
        set.ok_or(Code::InvalidArgument)?.end();
        Ok(())
    }

    fn cndevRegisterEvents(handle: *mut c_void, types: u64, device: i32) {
        let library = library()?;
        let set = find(handle)?;
        let card = library.card(device)?;
        match types {
            0 => {
                set.reader.remove(card.number);
            }
            // All events, or those that there are.
            u64::MAX | XID => {
                set.waiter(&library)?;
                set.reader.add(card.number, library.telemetry(card)?.events);
            }
            _ => return Err(Code::NotSupported),
        }
        Ok(())
    }

    fn cndevEventWait(handle: *mut c_void, event: Out<cndevEventData_t>, timeout: i32) {
        let library = library()?;
        event.check()?;
        let set = find(handle)?;
        let end = u64::try_from(timeout).ok().map(|ms| Instant::now() + Duration::from_millis(ms));
        let waiter = set.waiter(&library)?;
        let mut told = false;
        loop {
            if set.ended.load(Ordering::Acquire) {
                // So do the other threads that wait.
                waiter.wake();
                return Err(Code::InvalidArgument);
            }
            if let Some(next) = set.take(&library, told)? {
                // There may be one for another thread.
                waiter.wake();
                return event.put(next);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Code::Timeout);
            }
            told = waiter.wait(left);
        }
    }
}
