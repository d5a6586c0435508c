//! The embedded transport: chips inside this process, the default where there is no driver.
//!
//! `MLU_CHIPS` sets how many chips there are (2, one board, if unset), `MLU_INJECT=1` allows faults to be injected,
//! `MLU_TOPOLOGY` names a file that says what is linked with what.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use vmlu_abi::ioctl::DeviceInfo;
use vmlu_abi::link::Port;
use vmlu_abi::model::MLU370_X8;
use vmlu_abi::pci::{doorbell_page, doorbell_slot, MAX_VECTORS};
use vmlu_abi::queue::{FLAG_HOST_TIMELINE, PRIORITY_DEFAULT, STATUS_SIZE, UNIT};
use vmlu_abi::rpc::{
    self, Function, HostPiece, Inject, LinkControl, MemoryImport, MemoryToken, Peer, PeerWay,
    Process, TimelineState, TimelineToken,
};
use vmlu_abi::setting::{Configure, EventLog, LogEntry, RetiredPage, RetiredPages};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{Status, Wire};
use vmlu_device::embedded::{EmbeddedCard, EmbeddedChip, EmbeddedConfig};
use vmlu_device::events::EventRings;
use vmlu_device::topology::Topology;
use vmlu_protocol::submit::Barrier;

use super::arm::{self, lock, QueueWords};
use super::sys::{self, Mapping};
use super::watcher::Watcher;
use super::{graph_image, Channel, QueueMemory, QueueProgress, TelemetryPage, Transport};
use crate::error::{Error, Result};

/// Serial number of the first embedded board, below the board ID of the model.
const SERIAL: u64 = 0x00_2200_0000_0001;
/// Bytes of a page.
const PAGE: usize = 4096;

/// The chips of this process.
pub struct Embedded {
    card: Arc<EmbeddedCard>,
    signals: Vec<Arc<Signals>>,
}

/// What a chip's interrupts wake: one signal a vector, and one that comes with each of them.
struct Signals {
    vectors: Vec<Signal>,
    any: Signal,
}

#[derive(Default)]
struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signals {
    /// Wakes whoever waits at a vector. Waiters look at their queues themselves.
    fn wake(&self, vector: u32) {
        if let Some(signal) = self.vectors.get(vector as usize) {
            signal.wake();
        }
        self.any.wake();
    }

    /// Wakes everybody.
    fn wake_all(&self) {
        self.vectors.iter().for_each(Signal::wake);
        self.any.wake();
    }
}

impl Signal {
    fn wake(&self) {
        *lock(&self.count) += 1;
        self.changed.notify_all();
    }

    fn sleep(&self, before: u64, limit: Duration) {
        let count = lock(&self.count);
        if *count == before {
            let _ = self.changed.wait_timeout(count, limit);
        }
    }
}

/// A vector of a chip, for those who wait at it.
struct Vector<'a> {
    signal: &'a Signal,
    chip: &'a EmbeddedChip,
}

/// All vectors of a chip, for the watcher of armed eventfds.
struct AnyVector {
    card: Arc<EmbeddedCard>,
    signals: Arc<Signals>,
    device: u32,
}

impl arm::Signal for AnyVector {
    fn count(&self) -> u64 {
        *lock(&self.signals.any.count)
    }

    fn sleep(&self, before: u64, limit: Duration) {
        self.signals.any.sleep(before, limit);
    }

    fn raise(&self) {
        self.signals.wake_all();
    }

    fn lost(&self) -> bool {
        self.card.chips()[self.device as usize].firmware().is_gone()
    }
}

impl arm::Signal for Vector<'_> {
    fn count(&self) -> u64 {
        *lock(&self.signal.count)
    }

    fn sleep(&self, before: u64, limit: Duration) {
        self.signal.sleep(before, limit);
    }

    fn raise(&self) {
        self.signal.wake();
    }

    fn lost(&self) -> bool {
        self.chip.firmware().is_gone()
    }
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

/// What `MLU_TOPOLOGY` says is linked with what, if it is set: the name of a file, see `vmlu_device::topology`.
fn topology(chips: u32) -> Result<Option<Topology>> {
    let Some(file) = std::env::var_os("MLU_TOPOLOGY").filter(|f| !f.is_empty()) else {
        return Ok(None);
    };
    let file = Path::new(&file);
    let name = format!("MLU_TOPOLOGY: {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| misread(&name, &error))?;
    parse(&name, &text, chips).map(Some)
}

fn misread(name: &str, error: &dyn std::fmt::Display) -> Error {
    let text = format!("{name}: {error}");
    Error::new("start the embedded card", Status::InvalidArgument, text)
}

fn parse(name: &str, text: &str, chips: u32) -> Result<Topology> {
    let topology = vmlu_device::topology::parse(text, &MLU370_X8, chips);
    topology.map_err(|error| misread(name, &format!("line {error}")))
}

impl Embedded {
    /// A card of its own with this many chips.
    pub fn new(chips: u32, inject: bool) -> Result<Arc<Self>> {
        Self::start(chips, inject, topology(chips)?)
    }

    /// The same, linked as the text of a topology file says (`vmlu_device::topology`).
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` for what is wrong with the text, with its line.
    pub fn linked(chips: u32, inject: bool, topology: &str) -> Result<Arc<Self>> {
        Self::start(chips, inject, Some(parse("topology", topology, chips)?))
    }

    fn start(chips: u32, inject: bool, topology: Option<Topology>) -> Result<Arc<Self>> {
        const CALL: &str = "start the embedded card";
        let serial = u64::from(MLU370_X8.board_id) << 56 | SERIAL;
        let config = EmbeddedConfig {
            model: &MLU370_X8,
            chips,
            serials: vec![serial],
            inject,
            topology,
        };
        let card = EmbeddedCard::new(&config)
            .map_err(|e| Error::new(CALL, Status::OutOfHostMemory, e.to_string()))?;
        let mut signals = Vec::new();
        for chip in card.chips() {
            let vectors = (0..MAX_VECTORS).map(|_| Signal::default()).collect();
            let any = Signal::default();
            let chip_signals = Arc::new(Signals { vectors, any });
            let woken = chip_signals.clone();
            EventRings::attach(chip, Box::new(move |vector, _, _| woken.wake(vector)))
                .map_err(|e| Error::system(CALL, "cannot set the event rings", e))?;
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
        const CALL: &str = "read device information";
        self.chip(CALL, device)?;
        let info = self.card.device_info(device);
        info.map_err(|status| refused(CALL, Function::Info, status))
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
    chip.call(function, context, body)
        .map_err(|status| refused(name, function, status))
}

fn refused(name: &'static str, function: Function, status: Status) -> Error {
    let text = match status {
        Status::DeviceLost => "the chip is lost".into(),
        _ => format!("the firmware refused {function:?}"),
    };
    Error::new(name, status, text)
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
        super::all_processes(|start| {
            let wanted = rpc::Processes { start, reserved: 0 };
            let function = Function::Processes;
            call_bytes(chip, "list processes", function, 0, wanted.as_bytes())
        })
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

    fn link_ports(&self, device: u32) -> Result<Vec<Port>> {
        const CALL: &str = "read the ports of a chip";
        let chip = self.chip(CALL, device)?;
        let answer = chip.call(Function::LinkPorts, 0, &[]);
        let answer = answer.map_err(|s| Error::new(CALL, s, format!("chip {device}")))?;
        Ok(super::ports(&answer))
    }

    fn link_control(&self, device: u32, control: &LinkControl) -> Result<()> {
        const CALL: &str = "control a link";
        let chip = self.chip(CALL, device)?;
        call(chip, CALL, Function::LinkControl, 0, control)
    }

    fn peer_path(&self, device: u32, peer: &Peer) -> Result<PeerWay> {
        const CALL: &str = "find the way to a peer";
        let chip = self.chip(CALL, device)?;
        call(chip, CALL, Function::PeerPath, 0, peer)
    }

    fn telemetry_page(&self, device: u32) -> Option<TelemetryPage> {
        self.card.chip(device).map(TelemetryPage::own)
    }

    fn configure(&self, device: u32, configure: &Configure) -> Result<()> {
        const CALL: &str = "change a setting";
        let chip = self.chip(CALL, device)?;
        call(chip, CALL, Function::Configure, 0, configure)
    }

    fn retired_pages(&self, device: u32) -> Result<Vec<RetiredPage>> {
        const CALL: &str = "list the retired pages";
        let chip = self.chip(CALL, device)?;
        super::all_pages(|start| {
            let wanted = RetiredPages { start, reserved: 0 };
            call_bytes(chip, CALL, Function::RetiredPages, 0, wanted.as_bytes())
        })
    }

    fn event_log(&self, device: u32, after: u64) -> Result<(Vec<LogEntry>, u32)> {
        const CALL: &str = "read the log";
        let chip = self.chip(CALL, device)?;
        super::all_events(after, |after| {
            let wanted = EventLog { after };
            call_bytes(chip, CALL, Function::EventLog, 0, wanted.as_bytes())
        })
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
        let signals = self.signals[device as usize].clone();
        let any = AnyVector {
            card: self.card.clone(),
            signals: signals.clone(),
            device,
        };
        Ok(Arc::new(EmbeddedChannel {
            card: self.card.clone(),
            watcher: Watcher::new(Arc::new(any)),
            signals,
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
    watcher: Watcher<AnyVector>,
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
    words: Arc<QueueWords>,
    vector: u32,
}

impl EmbeddedChannel {
    fn chip(&self) -> &EmbeddedChip {
        &self.card.chips()[self.device as usize]
    }

    fn vector(&self, vector: u32) -> Vector<'_> {
        Vector {
            signal: &self.signals.vectors[vector as usize],
            chip: self.chip(),
        }
    }

    /// Takes a queue's memory from the chip.
    fn unregister(&self, queue: &QueueState) {
        let memory = queue.words.memory();
        self.chip()
            .unregister(memory.start() as u64, memory.len() as u64);
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

    /// Makes a queue, or a host timeline, which has no ring.
    fn make_queue(
        &self,
        ring_units: u32,
        priority: u32,
        weight: u32,
        flags: u64,
    ) -> Result<QueueMemory> {
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
        let words = QueueWords::new(memory.clone(), ring_bytes, ring_bytes + STATUS_SIZE);
        let words = Arc::new(words);
        // SAFETY: the chip keeps the mapping until it has let go of the range; it is only accessed through atomics and raw copies.
        let address = unsafe {
            self.chip()
                .register(memory.start(), length, true, memory.clone())
        }
        .map_err(|e| Error::new(CALL, Status::Internal, format!("{e:?}")))?;
        let vector = self.next_vector.fetch_add(1, Ordering::Relaxed) % MAX_VECTORS;
        let create = rpc::QueueCreate {
            ring: if ring_units == 0 { 0 } else { address },
            status: address + ring_bytes as u64,
            arm: address + (ring_bytes + STATUS_SIZE) as u64,
            ring_units,
            priority,
            weight,
            vector,
            flags,
            doorbell: 0,
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
            ring: match ring_units {
                0 => std::ptr::null_mut(),
                _ => memory.start(),
            },
            ring_units,
            doorbell: doorbell.as_ptr(),
            status: memory.start().wrapping_add(ring_bytes),
        };
        let state = QueueState { words, vector };
        lock(&self.queues).insert(created.queue, Arc::new(state));
        Ok(shared)
    }
}

impl Channel for EmbeddedChannel {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn is_private(&self) -> bool {
        true
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
        self.make_queue(ring_units, priority, weight, 0)
    }

    fn timeline_create(&self) -> Result<QueueMemory> {
        self.make_queue(0, PRIORITY_DEFAULT, 1, FLAG_HOST_TIMELINE)
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
        state.words.destroy(&self.vector(state.vector));
        self.unregister(&state);
        destroyed
    }

    fn queue_wait(&self, queue: u64, value: u64, deadline_ns: u64) -> Result<QueueProgress> {
        let state = self.find("wait for a queue", queue)?;
        let vector = self.vector(state.vector);
        state.words.wait(&vector, queue, value, deadline_ns)
    }

    fn queue_error(&self, queue: u64, clear: bool) -> Result<ErrorRecord> {
        let error = rpc::QueueError {
            queue,
            clear: u32::from(clear),
            reserved: 0,
        };
        self.call("read a queue's error", Function::QueueError, &error)
    }

    fn queue_arm(&self, queue: u64, value: u64, eventfd: BorrowedFd<'_>) -> Result<()> {
        let state = self.find("arm a queue", queue)?;
        self.watcher.arm(state.words.clone(), value, eventfd)
    }

    fn graph_create(&self, address: u64, length: u64) -> Result<u64> {
        let image = graph_image(0, address, length);
        let made: rpc::Graph = self.call("make a graph", Function::GraphCreate, &image)?;
        Ok(made.graph)
    }

    fn graph_update(&self, graph: u64, address: u64, length: u64) -> Result<()> {
        let image = graph_image(graph, address, length);
        self.call("update a graph", Function::GraphUpdate, &image)
    }

    fn graph_destroy(&self, graph: u64) -> Result<()> {
        let graph = rpc::Graph { graph };
        self.call("destroy a graph", Function::GraphDestroy, &graph)
    }

    fn timeline_export(&self, queue: u64) -> Result<TimelineToken> {
        let timeline = rpc::Timeline { timeline: queue };
        self.call("export a timeline", Function::TimelineExport, &timeline)
    }

    fn timeline_import(&self, token: &TimelineToken) -> Result<u64> {
        let made: rpc::Timeline =
            self.call("import a timeline", Function::TimelineImport, token)?;
        Ok(made.timeline)
    }

    fn timeline_release(&self, timeline: u64) -> Result<()> {
        let timeline = rpc::Timeline { timeline };
        self.call("release a timeline", Function::TimelineRelease, &timeline)
    }

    fn timeline_read(&self, timeline: u64) -> Result<TimelineState> {
        let timeline = rpc::Timeline { timeline };
        self.call("read a timeline", Function::TimelineRead, &timeline)
    }

    fn memory_export(&self, va: u64) -> Result<MemoryToken> {
        let wanted = rpc::MemoryFree { va };
        self.call("export memory", Function::MemoryExport, &wanted)
    }

    fn memory_import(&self, import: &MemoryImport) -> Result<()> {
        self.call("import memory", Function::MemoryImport, import)
    }

    fn barrier(&self) -> Barrier {
        sys::producer_barrier(self.info.info.features)
    }

    fn peer_path(&self, peer: &Peer) -> Result<PeerWay> {
        self.call("find the way to a peer", Function::PeerPath, peer)
    }

    fn kick(&self) {
        self.chip().kick(self.index);
    }
}

impl Drop for EmbeddedChannel {
    fn drop(&mut self) {
        let _ = self.call::<_, ()>("close a context", Function::ContextDestroy, &());
        for (_, state) in lock(&self.queues).drain() {
            state.words.destroy(&self.vector(state.vector));
            self.unregister(&state);
        }
        for (va, length) in lock(&self.host).drain() {
            self.chip().unregister(va, length as u64);
            let _ = sys::reserve_again(va, length);
        }
    }
}
