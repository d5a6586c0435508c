//! What the parts of one chip's firmware share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use vmlu_abi::pci::{MAX_CONTEXTS, MAX_QUEUES};
use vmlu_abi::telemetry::Telemetry;

use crate::clock::DeviceClock;
use crate::context::Context;
use crate::events::Events;
use crate::hardware::Hardware;
use crate::inject::Injector;
use crate::memory::heap::Heap;
use crate::queue::Queue;
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
    gone: AtomicBool,
}

impl Core {
    /// A chip with nothing on it.
    pub fn new(hardware: Hardware) -> Self {
        let injector = Arc::new(Injector::default());
        let limit = std::env::var("MLU_WATCHDOG_MS").ok().and_then(|v| v.parse::<u64>().ok());
        Self {
            clock: DeviceClock::new(),
            live: Live::new(hardware.model),
            events: Events::new(hardware.host.clone(), injector.clone()),
            injector,
            heap: Mutex::new(Heap::new(hardware.memory.clone(), hardware.model.memory_available)),
            contexts: RwLock::new(Table::new(MAX_CONTEXTS)),
            queues: RwLock::new(Table::new(MAX_QUEUES)),
            allocations: AtomicU64::new(0),
            watchdog_ns: limit.map_or(WATCHDOG_NS, |ms| ms.saturating_mul(1_000_000)),
            gone: AtomicBool::new(false),
            hardware,
        }
    }

    /// The allocator.
    pub fn heap(&self) -> std::sync::MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The context with a handle.
    pub fn find_context(&self, handle: u64) -> Option<Arc<Context>> {
        self.contexts.read().unwrap_or_else(|e| e.into_inner()).get(handle)
    }

    /// The queue with a handle.
    pub fn find_queue(&self, handle: u64) -> Option<Arc<Queue>> {
        self.queues.read().unwrap_or_else(|e| e.into_inner()).get(handle)
    }

    /// Whether the chip is as good as pulled out.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// The chip is as good as pulled out.
    pub fn vanish(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    /// Brings telemetry up to date.
    pub fn update(&self) -> Telemetry {
        let (memory_total, memory_used) = {
            let heap = self.heap();
            (heap.total(), heap.used())
        };
        self.live.update(&Gauges {
            device_ns: self.clock.now(),
            memory_total,
            memory_used,
            contexts: self.contexts.read().unwrap_or_else(|e| e.into_inner()).len(),
            queues: self.queues.read().unwrap_or_else(|e| e.into_inner()).len(),
            interrupts: self.events.interrupts(),
            heat_milli: self.injector.heat_milli(),
        })
    }

    /// A tick of the scheduler; whether the chip has work.
    pub fn tick(&self) -> bool {
        self.update().busy != 0
    }
}
