//! Events: who waits for them looks at the devices' telemetry, and reads their logs when there is something new.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmlu::abi::event::EventKind;

use crate::call::Out;
use crate::codes::{Code, Outcome};
use crate::library::{library, lock, Library};
use crate::types::*;

/// The events of this interface: `cndevEventTypeXidError`.
const XID: u64 = 1;
/// How often a device is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// What stands for "in no instance".
const NO_INSTANCE: u32 = u32::MAX;

/// Devices, with the number of the last entry of each one's log that was taken.
#[derive(Default)]
struct EventSet {
    devices: Mutex<HashMap<i32, u64>>,
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
        set.ended.store(true, Ordering::Release);
    }
}

impl EventSet {
    /// The next event of any of the devices, if there is one.
    fn take(&self, library: &Library) -> Outcome<Option<cndevEventData_t>> {
        let mut devices = lock(&self.devices);
        for (device, seen) in devices.iter_mut() {
            let card = library.card(*device)?;
            // A device that is lost reports nothing; the others do.
            let Some(t) = library.monitor.telemetry(card.number)? else {
                continue;
            };
            // A log that is shorter than what was seen belongs to a card that was powered on anew.
            if t.events < *seen {
                *seen = 0;
            }
            if t.events == *seen {
                continue;
            }
            let (entries, _) = library.transport().event_log(card.number, *seen)?;
            for entry in entries {
                *seen = entry.number;
                if entry.kind == EventKind::Xid as u32 {
                    return Ok(Some(cndevEventData_t {
                        version: 6,
                        device: *device,
                        eventData: entry.value,
                        eventType: XID,
                        timestamp: entry.time_us,
                        computeInstanceId: NO_INSTANCE,
                        mluInstanceId: NO_INSTANCE,
                        ..cndevEventData_t::zeroed()
                    }));
                }
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
        set.ok_or(Code::InvalidArgument)?.ended.store(true, Ordering::Release);
        Ok(())
    }

    fn cndevRegisterEvents(handle: *mut c_void, types: u64, device: i32) {
        let library = library()?;
        let set = find(handle)?;
        let card = library.card(device)?;
        match types {
            0 => {
                lock(&set.devices).remove(&device);
            }
            // All events, or those that there are.
            u64::MAX | XID => {
                let now = library.telemetry(card)?.events;
                lock(&set.devices).entry(device).or_insert(now);
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
        loop {
            if set.ended.load(Ordering::Acquire) {
                return Err(Code::InvalidArgument);
            }
            if let Some(next) = set.take(&library)? {
                return event.put(next);
            }
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Code::Timeout);
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}
