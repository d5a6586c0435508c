//! The embedded transport: chips inside this process, the default where there is no driver.
//!
//! `MLU_CHIPS` sets how many chips there are (2, one board, if unset), `MLU_INJECT=1` allows faults to be injected.

use std::collections::HashMap;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use vmlu_abi::event::{Event, RING_ENTRIES};
use vmlu_abi::ioctl::{DeviceInfo, UAPI_VERSION};
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::pci::{doorbell_page, doorbell_slot, MAX_VECTORS, VENDOR_ID};
use vmlu_abi::queue::{ARM_NONE, STATUS_ERROR, STATUS_SIZE, STATUS_TIMELINE, UNIT};
use vmlu_abi::rpc::{self, Function, HostPiece, Inject, Process, ProcessList, RpcHeader};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{Status, Wire};
use vmlu_device::embedded::{EmbeddedCard, EmbeddedChip, EmbeddedConfig};

use super::sys::{self, monotonic_ns, Mapping};
use super::{Channel, QueueMemory, QueueProgress, Transport};
use crate::error::{Error, Result};

/// Serial number of the first embedded board, below the board ID of the model.
const SERIAL: u64 = 0x00_2200_0000_0001;
/// Entries of an event ring.
const EVENTS: u32 = 64;
/// Bytes of a page.
const PAGE: usize = 4096;

/// The chips of this process.
pub struct Embedded {
    card: Arc<EmbeddedCard>,
    signals: Vec<Arc<Signals>>,
}

/// What a chip's interrupts wake: one signal a vector.
struct Signals {
    memory: Mapping,
    vectors: Vec<Signal>,
}

#[derive(Default)]
struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signals {
    fn ring_bytes() -> usize {
        (RING_ENTRIES + EVENTS as usize * size_of::<Event>()).next_multiple_of(PAGE)
    }

    /// An interrupt: takes all events of the vector and wakes whoever waits. Waiters look at their queues themselves.
    fn raise(&self, vector: u32) {
        let base = vector as usize * Self::ring_bytes();
        let produced = self.memory.word(base);
        loop {
            let taken = produced.load(Ordering::Acquire);
            self.memory.word(base + 64).store(taken, Ordering::Release);
            self.memory.word(base + 72).store(taken, Ordering::Release);
            // The card writes `produced`, then reads the index; here it is the other way round. An event that came in between raises no
            // interrupt, and so none after it would either.
            fence(Ordering::SeqCst);
            if produced.load(Ordering::Acquire) == taken {
                break;
            }
        }
        self.wake(vector);
    }

    fn wake(&self, vector: u32) {
        let Some(signal) = self.vectors.get(vector as usize) else {
            return;
        };
        *lock(&signal.count) += 1;
        signal.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The embedded card that the whole process shares.
pub fn shared() -> Result<Arc<dyn Transport>> {
    static SHARED: OnceLock<Mutex<Option<Arc<Embedded>>>> = OnceLock::new();
    let mut slot = lock(SHARED.get_or_init(Mutex::default));
    if let Some(card) = &*slot {
        return Ok(card.clone());
    }
    let chips = match std::env::var("MLU_CHIPS") {
        Err(_) => MLU370_X8.chips_per_board,
        Ok(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=16).contains(n))
            .ok_or_else(|| {
                Error::new(
                    "start the embedded card",
                    Status::InvalidArgument,
                    format!("MLU_CHIPS={text} is not a number from 1 to 16"),
                )
            })?,
    };
    let card = Embedded::new(
        chips,
        std::env::var_os("MLU_INJECT").is_some_and(|v| v == "1"),
    )?;
    *slot = Some(card.clone());
    Ok(card)
}

impl Embedded {
    /// A card of its own with this many chips.
    pub fn new(chips: u32, inject: bool) -> Result<Arc<Self>> {
        const CALL: &str = "start the embedded card";
        let serial = u64::from(MLU370_X8.board_id) << 56 | SERIAL;
        let config = EmbeddedConfig {
            model: &MLU370_X8,
            chips,
            serial,
            inject,
        };
        let card = EmbeddedCard::new(&config)
            .map_err(|e| Error::new(CALL, Status::OutOfHostMemory, e.to_string()))?;
        let mut signals = Vec::new();
        for chip in card.chips() {
            let length = Signals::ring_bytes() * MAX_VECTORS as usize;
            let memory = Mapping::anonymous(length)
                .map_err(|e| Error::system(CALL, "no memory for the event rings", e))?;
            let vectors = (0..MAX_VECTORS).map(|_| Signal::default()).collect();
            let chip_signals = Arc::new(Signals { memory, vectors });
            // SAFETY: the mapping lives in `chip_signals`, which the chip keeps until it has let go of the range; it is only accessed
            // through atomics.
            let address = unsafe {
                chip.register(
                    chip_signals.memory.start(),
                    length,
                    true,
                    chip_signals.clone(),
                )
            }
            .map_err(|e| Error::new(CALL, Status::Internal, format!("{e:?}")))?;
            for vector in 0..MAX_VECTORS {
                let address = address + u64::from(vector) * Signals::ring_bytes() as u64;
                let ring = rpc::EventRing {
                    address,
                    entries: EVENTS,
                    vector,
                    flags: 0,
                };
                call::<_, ()>(chip, CALL, Function::EventRing, 0, &ring)?;
            }
            let hook = chip_signals.clone();
            chip.set_interrupt_hook(Some(Arc::new(move |vector| hook.raise(vector))));
            signals.push(chip_signals);
        }
        Ok(Arc::new(Self { card, signals }))
    }

    fn chip(&self, call: &'static str, device: u32) -> Result<&EmbeddedChip> {
        self.card.chip(device).ok_or_else(|| {
            let text = format!(
                "there is no chip {device}; the embedded card has {} (MLU_CHIPS sets it)",
                self.card.chips().len()
            );
            Error::new(call, Status::BadHandle, text)
        })
    }

    fn device_info(&self, device: u32) -> Result<DeviceInfo> {
        let chip = self.chip("read device information", device)?;
        let info: rpc::Info = call(chip, "read device information", Function::Info, 0, &())?;
        let mut driver = [0; 32];
        let version = concat!("v", env!("CARGO_PKG_VERSION")).as_bytes();
        driver[..version.len()].copy_from_slice(version);
        Ok(DeviceInfo {
            device,
            uapi_version: UAPI_VERSION,
            // There is no bus: a stable address that no two chips share.
            pci_bus: device as u8 + 1,
            pci_vendor_id: VENDOR_ID,
            pci_device_id: self.card.model().pci_device,
            numa_node: -1,
            vectors: MAX_VECTORS,
            alive: u32::from(!chip.firmware().is_gone()),
            driver,
            info,
            ..DeviceInfo::zeroed()
        })
    }
}

/// Sends a message and takes the answer's body.
fn call<C: Wire, R: Wire>(
    chip: &EmbeddedChip,
    name: &'static str,
    function: Function,
    context: u64,
    body: &C,
) -> Result<R> {
    let answer = call_bytes(chip, name, function, context, body.as_bytes())?;
    R::read_from(&answer)
        .ok_or_else(|| Error::new(name, Status::Internal, "the firmware's answer is too short"))
}

fn call_bytes(
    chip: &EmbeddedChip,
    name: &'static str,
    function: Function,
    context: u64,
    body: &[u8],
) -> Result<Vec<u8>> {
    if chip.firmware().is_gone() {
        return Err(Error::new(name, Status::DeviceLost, "the chip is lost"));
    }
    let header = RpcHeader {
        version: rpc::VERSION,
        function: function as u16,
        length: (size_of::<RpcHeader>() + body.len()) as u32,
        sequence: 0,
        context,
        status: 0,
        reserved: 0,
    };
    let answer = chip.rpc(&[header.as_bytes(), body].concat());
    let head = RpcHeader::read_from(&answer)
        .ok_or_else(|| Error::new(name, Status::Internal, "the firmware's answer is too short"))?;
    match Status::from_raw(head.status) {
        Some(Status::Ok) => Ok(answer[size_of::<RpcHeader>()..].to_vec()),
        Some(status) => Err(Error::new(
            name,
            status,
            format!("the firmware refused {function:?}"),
        )),
        None => Err(Error::new(
            name,
            Status::Internal,
            format!("the firmware answered with status {}", head.status),
        )),
    }
}

impl Transport for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn devices(&self) -> Result<Vec<u32>> {
        Ok((0..self.card.chips().len() as u32).collect())
    }

    fn info(&self, device: u32) -> Result<DeviceInfo> {
        self.device_info(device)
    }

    fn telemetry(&self, device: u32) -> Result<Telemetry> {
        call(
            self.chip("read telemetry", device)?,
            "read telemetry",
            Function::Telemetry,
            0,
            &(),
        )
    }

    fn processes(&self, device: u32) -> Result<Vec<Process>> {
        let chip = self.chip("list processes", device)?;
        let mut list = Vec::new();
        loop {
            let wanted = rpc::Processes {
                start: list.len() as u32,
                reserved: 0,
            };
            let answer = call_bytes(
                chip,
                "list processes",
                Function::Processes,
                0,
                wanted.as_bytes(),
            )?;
            let head = ProcessList::read_from(&answer).unwrap_or_else(ProcessList::zeroed);
            let entries = answer.get(size_of::<ProcessList>()..).unwrap_or_default();
            list.extend(
                entries
                    .chunks_exact(size_of::<Process>())
                    .filter_map(Process::read_from),
            );
            if head.count == 0 || list.len() >= head.total as usize {
                return Ok(list);
            }
        }
    }

    fn inject(&self, device: u32, inject: &Inject) -> Result<()> {
        call(
            self.chip("inject a fault", device)?,
            "inject a fault",
            Function::Inject,
            0,
            inject,
        )
    }

    fn open(&self, device: u32) -> Result<Arc<dyn Channel>> {
        const CALL: &str = "open a context";
        let info = self.device_info(device)?;
        let chip = self.chip(CALL, device)?;
        let mut comm = [0; 32];
        let name = std::fs::read("/proc/self/comm").unwrap_or_default();
        let length = name
            .iter()
            .position(|b| *b == b'\n')
            .unwrap_or(name.len())
            .min(31);
        comm[..length].copy_from_slice(&name[..length]);
        let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
        let created: rpc::ContextCreated = call(
            chip,
            CALL,
            Function::ContextCreate,
            0,
            &rpc::ContextCreate {
                pid,
                uid,
                flags: 0,
                comm,
            },
        )?;
        Ok(Arc::new(EmbeddedChannel {
            card: self.card.clone(),
            signals: self.signals[device as usize].clone(),
            device,
            info,
            context: created.context,
            index: created.index,
            next_vector: AtomicU32::new(0),
            host: Mutex::default(),
            queues: Mutex::default(),
        }))
    }
}

struct EmbeddedChannel {
    card: Arc<EmbeddedCard>,
    signals: Arc<Signals>,
    device: u32,
    info: DeviceInfo,
    context: u64,
    index: u32,
    next_vector: AtomicU32,
    /// Pinned memory: address to length.
    host: Mutex<HashMap<u64, usize>>,
    queues: Mutex<HashMap<u64, Arc<QueueState>>>,
}

/// A queue's memory: ring, status page and arm page, in this order.
struct QueueState {
    memory: Arc<Mapping>,
    ring_bytes: usize,
    vector: u32,
    /// Values that are waited for.
    wanted: Mutex<Vec<u64>>,
    destroyed: std::sync::atomic::AtomicBool,
}

impl QueueState {
    fn timeline(&self) -> u64 {
        self.memory
            .word(self.ring_bytes + STATUS_TIMELINE)
            .load(Ordering::Acquire)
    }

    fn error(&self) -> u32 {
        self.memory
            .word(self.ring_bytes + STATUS_ERROR)
            .load(Ordering::Acquire) as u32
    }

    fn arm_word(&self) -> &AtomicU64 {
        self.memory.word(self.ring_bytes + STATUS_SIZE)
    }

    /// Adds a wanted value; the card tells when the smallest that is not reached yet is.
    fn want(&self, value: u64, signals: &Signals) {
        let mut wanted = lock(&self.wanted);
        wanted.push(value);
        self.arm(&wanted, signals);
    }

    fn unwant(&self, value: u64, signals: &Signals) {
        let mut wanted = lock(&self.wanted);
        if let Some(at) = wanted.iter().position(|v| *v == value) {
            wanted.swap_remove(at);
        }
        self.arm(&wanted, signals);
    }

    /// Arms the smallest value that is not reached. If one is reached while it is being armed, the card may not tell: so we do.
    fn arm(&self, wanted: &[u64], signals: &Signals) {
        loop {
            let timeline = self.timeline();
            let next = wanted
                .iter()
                .copied()
                .filter(|v| *v > timeline)
                .min()
                .unwrap_or(ARM_NONE);
            self.arm_word().store(next, Ordering::Release);
            fence(Ordering::SeqCst);
            if self.timeline() < next {
                return;
            }
            signals.wake(self.vector);
        }
    }
}

impl EmbeddedChannel {
    fn chip(&self) -> &EmbeddedChip {
        &self.card.chips()[self.device as usize]
    }

    fn call<C: Wire, R: Wire>(
        &self,
        name: &'static str,
        function: Function,
        body: &C,
    ) -> Result<R> {
        call(self.chip(), name, function, self.context, body)
    }

    fn find(&self, name: &'static str, queue: u64) -> Result<Arc<QueueState>> {
        let found = lock(&self.queues).get(&queue).cloned();
        found.ok_or_else(|| {
            Error::new(
                name,
                Status::BadHandle,
                format!("there is no queue {queue:#x} in this context"),
            )
        })
    }

    fn map_host(&self, va: u64, length: usize, access: u32) -> Result<()> {
        const CALL: &str = "allocate pinned host memory";
        let write = access & rpc::ACCESS_WRITE != 0;
        // SAFETY: the range was just mapped and stays so until `host_free` or the drop of the channel, which take it back first; it is
        // only handed out as a raw pointer.
        let address = unsafe {
            self.chip()
                .register(va as *mut u8, length, write, Arc::new(()))
        }
        .map_err(|e| Error::new(CALL, Status::AddressInUse, format!("{e:?}")))?;
        let map = rpc::HostMap {
            va,
            length: length as u64,
            offset: 0,
            count: 1,
            access,
            flags: 0,
        };
        let piece = HostPiece {
            address,
            length: length as u64,
        };
        let body = [map.as_bytes(), piece.as_bytes()].concat();
        let mapped = call_bytes(self.chip(), CALL, Function::HostMap, self.context, &body);
        if mapped.is_err() {
            self.chip().unregister(address, length as u64);
        }
        mapped.map(drop)
    }
}

impl Channel for EmbeddedChannel {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn context(&self) -> Option<u64> {
        Some(self.context)
    }

    fn memory_alloc(&self, va: u64, length: u64) -> Result<()> {
        let alloc = rpc::MemoryAlloc {
            va,
            length,
            flags: 0,
        };
        self.call::<_, rpc::MemoryAllocated>(
            "allocate device memory",
            Function::MemoryAlloc,
            &alloc,
        )
        .map(drop)
    }

    fn memory_free(&self, va: u64) -> Result<()> {
        self.call(
            "free device memory",
            Function::MemoryFree,
            &rpc::MemoryFree { va },
        )
    }

    fn host_alloc(&self, va: u64, length: u64, access: u32) -> Result<()> {
        const CALL: &str = "allocate pinned host memory";
        let bytes = usize::try_from(length)
            .map_err(|_| Error::new(CALL, Status::InvalidArgument, format!("{length} bytes")))?;
        sys::map_anonymous_over_reserved(va, bytes)
            .map_err(|e| Error::system(CALL, format!("cannot map {length} bytes at {va:#x}"), e))?;
        if let Err(error) = self.map_host(va, bytes, access) {
            let _ = sys::reserve_again(va, bytes);
            return Err(error);
        }
        lock(&self.host).insert(va, bytes);
        Ok(())
    }

    fn host_free(&self, va: u64) -> Result<()> {
        const CALL: &str = "free pinned host memory";
        let Some(length) = lock(&self.host).get(&va).copied() else {
            return Err(Error::new(
                CALL,
                Status::BadHandle,
                format!("no pinned memory begins at {va:#x}"),
            ));
        };
        self.call::<_, ()>(CALL, Function::HostUnmap, &rpc::MemoryFree { va })?;
        lock(&self.host).remove(&va);
        self.chip().unregister(va, length as u64);
        sys::reserve_again(va, length)
            .map_err(|e| Error::system(CALL, format!("cannot unmap {va:#x}"), e))
    }

    fn notifier_pool(&self, va: u64, count: u32) -> Result<()> {
        self.call(
            "set the notifier pool",
            Function::NotifierPool,
            &rpc::NotifierPool {
                va,
                count,
                reserved: 0,
            },
        )
    }

    fn queue_create(&self, ring_units: u32, priority: u32, weight: u32) -> Result<QueueMemory> {
        const CALL: &str = "make a queue";
        let ring_bytes = (ring_units as usize)
            .saturating_mul(UNIT)
            .next_multiple_of(PAGE);
        let length = ring_bytes.saturating_add(STATUS_SIZE + PAGE);
        let memory = Mapping::anonymous(length).map_err(|e| {
            Error::system(
                CALL,
                format!("no memory for a ring of {ring_units} units"),
                e,
            )
        })?;
        let memory = Arc::new(memory);
        memory
            .word(ring_bytes + STATUS_SIZE)
            .store(ARM_NONE, Ordering::Relaxed);
        // SAFETY: the chip keeps the mapping until it has let go of the range; it is only accessed through atomics and raw copies.
        let address = unsafe {
            self.chip()
                .register(memory.start(), length, true, memory.clone())
        }
        .map_err(|e| Error::new(CALL, Status::Internal, format!("{e:?}")))?;
        let vector = self.next_vector.fetch_add(1, Ordering::Relaxed) % MAX_VECTORS;
        let create = rpc::QueueCreate {
            ring: address,
            status: address + ring_bytes as u64,
            arm: address + (ring_bytes + STATUS_SIZE) as u64,
            ring_units,
            priority,
            weight,
            vector,
            flags: 0,
            reserved: 0,
        };
        let created: rpc::QueueCreated = match self.call(CALL, Function::QueueCreate, &create) {
            Ok(created) => created,
            Err(error) => {
                self.chip().unregister(address, length as u64);
                return Err(error);
            }
        };
        let doorbells = self.chip().doorbells();
        let offset = doorbell_page(created.index) + doorbell_slot(created.index);
        let doorbell = doorbells
            .word(offset)
            .ok_or_else(|| Error::new(CALL, Status::Internal, "no doorbell"))?;
        let shared = QueueMemory {
            queue: created.queue,
            ring: memory.start(),
            ring_units,
            doorbell: doorbell.as_ptr(),
            status: memory.start().wrapping_add(ring_bytes),
        };
        let state = QueueState {
            memory,
            ring_bytes,
            vector,
            wanted: Mutex::default(),
            destroyed: false.into(),
        };
        lock(&self.queues).insert(created.queue, Arc::new(state));
        Ok(shared)
    }

    fn queue_destroy(&self, queue: u64) -> Result<()> {
        const CALL: &str = "destroy a queue";
        let Some(state) = lock(&self.queues).remove(&queue) else {
            return Err(Error::new(
                CALL,
                Status::BadHandle,
                format!("there is no queue {queue:#x} in this context"),
            ));
        };
        let destroyed =
            self.call::<_, ()>(CALL, Function::QueueDestroy, &rpc::QueueDestroy { queue });
        state.destroyed.store(true, Ordering::SeqCst);
        self.signals.wake(state.vector);
        self.chip()
            .unregister(state.memory.start() as u64, state.memory.len() as u64);
        destroyed
    }

    fn queue_wait(&self, queue: u64, value: u64, deadline_ns: u64) -> Result<QueueProgress> {
        const CALL: &str = "wait for a queue";
        let state = self.find(CALL, queue)?;
        let signal = &self.signals.vectors[state.vector as usize];
        state.want(value, &self.signals);
        let result = loop {
            let before = *lock(&signal.count);
            let progress = QueueProgress {
                timeline: state.timeline(),
                error: state.error(),
            };
            if progress.timeline >= value || progress.error != 0 {
                break Ok(progress);
            }
            if state.destroyed.load(Ordering::SeqCst) {
                break Err(Error::new(
                    CALL,
                    Status::QueueDestroyed,
                    format!("queue {queue:#x} was destroyed meanwhile"),
                ));
            }
            if self.chip().firmware().is_gone() {
                break Err(Error::new(CALL, Status::DeviceLost, "the chip is lost"));
            }
            let now = monotonic_ns();
            if now >= deadline_ns {
                let text = format!(
                    "queue {queue:#x} is at {}, not at {value}",
                    progress.timeline
                );
                break Err(Error::new(CALL, Status::Timeout, text));
            }
            // Bounded, so that the loss of the chip is noticed.
            let limit = Duration::from_nanos((deadline_ns - now).min(250_000_000));
            let count = lock(&signal.count);
            if *count == before {
                let _ = signal.changed.wait_timeout(count, limit);
            }
        };
        state.unwant(value, &self.signals);
        result
    }

    fn queue_error(&self, queue: u64, clear: bool) -> Result<ErrorRecord> {
        let error = rpc::QueueError {
            queue,
            clear: u32::from(clear),
            reserved: 0,
        };
        self.call("read a queue's error", Function::QueueError, &error)
    }

    fn kick(&self) {
        self.chip().kick(self.index);
    }
}

impl Drop for EmbeddedChannel {
    fn drop(&mut self) {
        let _ = self.call::<_, ()>("close a context", Function::ContextDestroy, &());
        for (_, state) in lock(&self.queues).drain() {
            self.chip()
                .unregister(state.memory.start() as u64, state.memory.len() as u64);
        }
        for (va, length) in lock(&self.host).drain() {
            self.chip().unregister(va, length as u64);
            let _ = sys::reserve_again(va, length);
        }
    }
}
