//! What the parts of one chip's firmware share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::Instant;

use vmlu_abi::event::EventKind;
use vmlu_abi::pci::{MAX_CONTEXTS, MAX_QUEUES};
use vmlu_abi::status::Xid;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::Status;

use crate::clock::DeviceClock;
use crate::context::Context;
use crate::events::Events;
use crate::hardware::Hardware;
use crate::inject::Injector;
use crate::log::LogLimit;
use crate::memory::heap::{Heap, Range};
use crate::memory::space::Segment;
use crate::queue::Queue;
use crate::record::Kept;
use crate::table::Table;
use crate::telemetry::{Gauges, Live};

/// How long a command may run, ns, unless `MLU_WATCHDOG_MS` says otherwise.
const WATCHDOG_NS: u64 = 60_000_000_000;

/// One chip.
pub struct Core {
    /// What it runs on.
    pub hardware: Hardware,
    /// Its clock.
    pub clock: DeviceClock,
    /// Its telemetry.
    pub live: Live,
    /// Its event rings.
    pub events: Events,
    /// Its faults.
    pub injector: Arc<Injector>,
    /// Its memory.
    pub heap: Mutex<Heap>,
    /// Its contexts.
    pub contexts: RwLock<Table<Context>>,
    /// Its queues.
    pub queues: RwLock<Table<Queue>>,
    /// Number of the last allocation.
    pub allocations: AtomicU64,
    /// How long a command may run, ns.
    pub watchdog_ns: u64,
    /// Pieces of host memory in all mappings.
    pub pieces: Arc<AtomicU64>,
    /// Bytes of the images of all graphs.
    pub images: Arc<AtomicU64>,
    /// Limits what guests can make the chip write to the log.
    pub log: LogLimit,
    gone: AtomicBool,
    /// Held for reading from the translation of a DMA address until what it led to can be found by who revokes it; `true` once the firmware
    /// is shut down.
    host_gate: RwLock<bool>,
    /// Segments of contexts that are gone, and that commands still use.
    quarantine: Mutex<Vec<Arc<Segment>>>,
}

/// See [`Core::open_host`].
pub struct HostAccess<'a> {
    _gate: RwLockReadGuard<'a, bool>,
}

/// The allocator of a chip that boots: with ECC a part of the memory holds the codes, and retired pages are left out.
fn heap_of(hardware: &Hardware, kept: &Kept) -> Heap {
    let model = hardware.model;
    let available = match kept.ecc {
        true => model.memory_available_ecc,
        false => model.memory_available,
    };
    let retired: Vec<u64> = kept.retired.iter().map(|page| page.offset).collect();
    Heap::new(hardware.memory.clone(), available, &retired)
}

impl Core {
    /// A chip with nothing on it.
    pub fn new(hardware: Hardware) -> Self {
        let injector = Arc::new(Injector::default());
        let kept = hardware.record.boot();
        let limit = std::env::var("MLU_WATCHDOG_MS")
            .ok()
            .and_then(|v| v.parse::<u64>().ok());
        Self {
            clock: DeviceClock::new(),
            live: Live::new(hardware.model, hardware.record.clone(), kept.ecc),
            events: Events::new(hardware.host.clone(), injector.clone()),
            injector,
            heap: Mutex::new(heap_of(&hardware, &kept)),
            contexts: RwLock::new(Table::new(MAX_CONTEXTS)),
            queues: RwLock::new(Table::new(MAX_QUEUES)),
            allocations: AtomicU64::new(0),
            watchdog_ns: limit.map_or(WATCHDOG_NS, |ms| ms.saturating_mul(1_000_000)),
            pieces: Arc::default(),
            images: Arc::default(),
            log: LogLimit::default(),
            gone: AtomicBool::new(false),
            host_gate: RwLock::new(false),
            quarantine: Mutex::default(),
            hardware,
        }
    }

    /// The allocator.
    pub fn heap(&self) -> std::sync::MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The context with a handle.
    pub fn find_context(&self, handle: u64) -> Option<Arc<Context>> {
        self.contexts
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(handle)
    }

    /// The queue with a handle.
    pub fn find_queue(&self, handle: u64) -> Option<Arc<Queue>> {
        self.queues
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(handle)
    }

    /// Whether the chip is as good as pulled out.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The chip is as good as pulled out: it does nothing any more, and touches no memory of the host.
    pub fn vanish(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.close_all();
        let _ = self.live.set_page(0, None);
    }

    /// Begins to translate DMA addresses. What is found is published before the answer is dropped, so that [`Core::settle_host`] can wait for
    /// it. `None` once the firmware is shut down.
    pub fn open_host(&self) -> Option<HostAccess<'_>> {
        let gate = self.host_gate.read().unwrap_or_else(|e| e.into_inner());
        (!*gate).then_some(HostAccess { _gate: gate })
    }

    /// Waits until every translation that has begun is published; with `shut` no other begins.
    pub fn settle_host(&self, shut: bool) {
        *self.host_gate.write().unwrap_or_else(|e| e.into_inner()) |= shut;
    }

    /// Ends all contexts.
    pub fn close_all(&self) {
        let deadline = Context::deadline();
        let contexts = self
            .contexts
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .all();
        // All at once first, so that they stop at the same time.
        contexts.iter().for_each(|c| c.cancel());
        for context in contexts {
            let _ = context.close(self, deadline);
            self.contexts
                .write()
                .unwrap_or_else(|e| e.into_inner())
                .remove(context.handle);
        }
    }

    /// Allocates device memory for a context; see [`Heap::allocate`]. The heap is not locked while the host gives the memory.
    pub fn allocate(&self, length: u64, owner: u64) -> Result<Range, (Status, String)> {
        self.release_quarantine();
        let (range, preparation) = self.heap().reserve(length, owner)?;
        let prepared = preparation.run();
        let mut heap = self.heap();
        match prepared {
            Ok(()) => {
                heap.commit(range, owner);
                Ok(range)
            }
            Err(error) => {
                heap.release(range);
                Err((
                    Status::OutOfHostMemory,
                    format!("the host gave no {length} bytes: {error}"),
                ))
            }
        }
    }

    /// Keeps segments that are still used although their context is gone: nobody gets their memory until nobody uses it.
    pub fn quarantine(&self, segments: Vec<Arc<Segment>>) {
        self.quarantine
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .extend(segments);
    }

    fn release_quarantine(&self) {
        let mut quarantine = self.quarantine.lock().unwrap_or_else(|e| e.into_inner());
        quarantine.retain(|segment| {
            let used = segment.is_used();
            if let (false, Some(range)) = (used, segment.device_range()) {
                self.heap().release(range);
            }
            used
        });
    }

    /// Stops telling the host anything: no deadline is waited for, no interrupt raised once this returns.
    pub fn silence(&self, deadline: Instant) {
        self.events.clear(deadline);
        let _ = self.live.set_page(0, None);
    }

    /// Begins anew as after a reset, if nobody has a context: what waited for a reset takes effect.
    pub fn restart(&self) -> bool {
        let contexts = self.contexts.write().unwrap_or_else(|e| e.into_inner());
        if !contexts.is_empty() {
            return false;
        }
        self.release_quarantine();
        let kept = self.hardware.record.boot();
        *self.heap() = heap_of(&self.hardware, &kept);
        self.live.restart(kept.ecc);
        true
    }

    /// Reports an xid: in the counters, as an event, and in the log.
    pub fn report(&self, xid: Xid, context: u32, pid: u32, status: Status) {
        if xid == Xid::Halt {
            self.live.halted();
        }
        self.live.counters.xid(xid);
        let status = status.raw();
        self.hardware
            .record
            .log(EventKind::Xid, context, xid as u64, pid, status);
        self.events.post(0, EventKind::Xid, context, xid as u64);
    }

    /// An uncorrectable memory error, at an offset of device memory if that is known.
    pub fn memory_error(&self, offset: Option<u64>) {
        let counter = &self.live.counters.ecc_uncorrected;
        counter.fetch_add(1, Ordering::Relaxed);
        self.hardware.record.uncorrected(offset);
    }

    /// Tells of a port's new state.
    pub fn link_changed(&self, port: u32, state: u32) {
        let state = u64::from(state);
        self.hardware.record.log(EventKind::Link, port, state, 0, 0);
        self.events.post(0, EventKind::Link, port, state);
        self.publish();
    }

    /// Brings telemetry up to date.
    pub fn update(&self) -> Telemetry {
        let (memory_total, memory_used) = {
            let heap = self.heap();
            (heap.total(), heap.used())
        };
        let place = &self.hardware.place;
        let (telemetry, hot) = self.live.update(&Gauges {
            device_ns: self.clock.now(),
            memory_total,
            memory_used,
            contexts: self
                .contexts
                .read()
                .unwrap_or_else(|e| e.into_inner())
                .len(),
            queues: self.queues.read().unwrap_or_else(|e| e.into_inner()).len(),
            interrupts: self.events.interrupts(),
            heat_milli: self.injector.heat_milli(),
            links: place.fabric.impaired(place.number),
        });
        if hot {
            // Outside of the lock of `live`, which an event does not need.
            self.report(Xid::OverTemperature, 0, 0, Status::Ok);
        }
        telemetry
    }

    /// Brings the telemetry page up to date, if the host has set one.
    pub fn publish(&self) {
        if self.live.has_page() {
            self.update();
        }
    }

    /// A tick of the scheduler; whether the chip has work.
    pub fn tick(&self) -> bool {
        self.update().busy != 0
    }
}
