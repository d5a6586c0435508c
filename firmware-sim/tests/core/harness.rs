//! A chip over an arena of host memory, and what a driver and a runtime do with it.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmlu_abi::model::MLU370_X8;
use vmlu_abi::packet::{self, op, PacketHeader};
use vmlu_abi::queue::{
    ARM_NONE, FLAG_HOST_TIMELINE, STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_SIZE,
    STATUS_TIMELINE, UNIT,
};
use vmlu_abi::rpc::{self, Fault, Function, RpcHeader};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{pci, Status, Wire};
use vmlu_firmware::fabric::topology::Topology;
use vmlu_firmware::fabric::{Fabric, Place};
use vmlu_firmware::hardware::{Hardware, HostPort, HostRange};
use vmlu_firmware::memory::shared::SharedMemory;
use vmlu_firmware::Firmware;

/// DMA address of the arena's first byte.
pub const BASE: u64 = 0x1_0000_0000;
/// Bytes of the arena.
const ARENA: u64 = 64 << 20;
/// Device memory of the test chip.
pub const DEVICE: u64 = 256 << 20;
/// Where tests map things.
pub const VA: u64 = 0x7000_0000_0000;
pub const PAGE: u64 = pci::PAGE_SIZE;

/// The host: one arena, of which ranges can be taken back.
pub struct Host {
    pub arena: Arc<SharedMemory>,
    keep: Arc<dyn Any + Send + Sync>,
    next: AtomicU64,
    gone: Mutex<Vec<(u64, u64)>>,
    pub interrupts: [AtomicU64; pci::MAX_VECTORS as usize],
}

impl HostPort for Host {
    fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange> {
        let offset = address.checked_sub(BASE)?;
        let end = offset.checked_add(length)?;
        let taken = |(a, l): &(u64, u64)| *a < address + length && address < a + l;
        if length == 0 || end > ARENA || self.gone.lock().unwrap().iter().any(taken) {
            return None;
        }
        let read_only = READ_ONLY.0 < end && offset < READ_ONLY.1;
        (!write || !read_only).then(|| HostRange {
            pointer: self.arena.base().wrapping_add(offset as usize),
            length: length as usize,
            writable: !read_only,
            keep: self.keep.clone(),
        })
    }

    fn interrupt(&self, vector: u32) {
        self.interrupts[vector as usize].fetch_add(1, Ordering::SeqCst);
    }
}

/// Offsets of a part of the arena that the card may only read.
const READ_ONLY: (u64, u64) = (0, 64 << 10);
/// DMA address of memory that the card may only read.
pub const READ_ONLY_DMA: u64 = BASE;

/// A chip.
pub struct Chip {
    pub firmware: Arc<Firmware>,
    pub host: Arc<Host>,
    pub memory: Arc<SharedMemory>,
    pub doorbells: Arc<SharedMemory>,
}

/// Serial number of the first board.
pub const SERIAL: u64 = 0x54_0001;

pub type Answer<T> = Result<T, Status>;

impl Chip {
    pub fn new() -> Self {
        Self::with(DEVICE, true)
    }

    pub fn with(device: u64, inject: bool) -> Self {
        Self::at(0, device, inject)
    }

    /// A chip at an index of the board.
    pub fn at(chip: u32, device: u64, inject: bool) -> Self {
        Self::of(
            device,
            inject,
            Fabric::alone(&MLU370_X8, SERIAL, chip),
            chip,
            SERIAL,
        )
    }

    /// The chips of boards, linked in groups of so many boards, with PCIe between the groups.
    pub fn linked(boards: u32, group: u32) -> Vec<Self> {
        let topology = Topology::groups(&MLU370_X8, boards, group);
        let serials: Vec<u64> = (0..u64::from(boards)).map(|b| SERIAL + b).collect();
        let fabric = Fabric::new(&MLU370_X8, &topology, &serials);
        let chips = topology.places.iter().enumerate();
        chips
            .map(|(number, place)| {
                let fabric = fabric.clone();
                Self::of(
                    64 << 20,
                    true,
                    Place { fabric, number },
                    place.chip,
                    serials[place.board as usize],
                )
            })
            .collect()
    }

    fn of(device: u64, inject: bool, place: Place, chip: u32, serial: u64) -> Self {
        let arena = Arc::new(SharedMemory::new("host", ARENA).unwrap());
        let host = Arc::new(Host {
            keep: arena.clone(),
            arena,
            next: AtomicU64::new(READ_ONLY.1),
            gone: Mutex::default(),
            interrupts: Default::default(),
        });
        let memory = Arc::new(SharedMemory::new("device", device).unwrap());
        let doorbells = Arc::new(SharedMemory::new("doorbells", pci::BAR_DOORBELL_SIZE).unwrap());
        let hardware = Hardware {
            served: vmlu_firmware::image::SERVED,
            model: &MLU370_X8,
            chip,
            serial,
            memory: memory.clone(),
            doorbells: doorbells.clone(),
            host: host.clone(),
            inject,
            record: Arc::default(),
            place,
        };
        let firmware = Firmware::boot(hardware, &vmlu_firmware::image::build()).unwrap();
        Self {
            firmware,
            host,
            memory,
            doorbells,
        }
    }

    /// Pages of the arena that nobody has yet; their DMA address.
    pub fn pages(&self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(PAGE);
        let offset = self.host.next.fetch_add(bytes, Ordering::Relaxed);
        assert!(offset + bytes <= ARENA, "the arena is used up");
        BASE + offset
    }

    /// Makes the host refuse a range from now on, as it does before it revokes it.
    pub fn take(&self, address: u64, length: u64) {
        self.host.gone.lock().unwrap().push((address, length));
    }

    /// Takes back what [`Chip::take`] said.
    pub fn give_back(&self) {
        self.host.gone.lock().unwrap().clear();
    }

    pub fn u64_at(&self, dma: u64) -> &AtomicU64 {
        self.host.arena.word(dma - BASE).unwrap()
    }

    pub fn host_bytes(&self, dma: u64, length: usize) -> Vec<u8> {
        let mut to = vec![0; length];
        assert!(self
            .host
            .arena
            .bytes(dma - BASE, length as u64)
            .unwrap()
            .copy_to(&mut to));
        to
    }

    pub fn fill_host(&self, dma: u64, length: usize, byte: u8) {
        assert!(self
            .host
            .arena
            .bytes(dma - BASE, length as u64)
            .unwrap()
            .copy_from(&vec![byte; length]));
    }

    /// Sends raw bytes.
    pub fn message(&self, bytes: &[u8]) -> (Status, Vec<u8>) {
        let answer = self.firmware.rpc(bytes);
        let header = RpcHeader::read_from(&answer).expect("an answer has a header");
        assert_eq!(header.length as usize, answer.len());
        assert!(answer.len() <= rpc::MAX_MESSAGE);
        (
            Status::from_raw(header.status).expect("a known status"),
            answer[size_of::<RpcHeader>()..].to_vec(),
        )
    }

    pub fn raw(&self, function: Function, context: u64, body: &[u8]) -> Answer<Vec<u8>> {
        let (status, body) = self.message(&message(function, context, body));
        if status == Status::Ok {
            Ok(body)
        } else {
            Err(status)
        }
    }

    pub fn call<C: Wire, R: Wire>(&self, function: Function, context: u64, body: &C) -> Answer<R> {
        let answer = self.raw(function, context, body.as_bytes())?;
        assert_eq!(answer.len(), size_of::<R>(), "{function:?}");
        Ok(R::read_from(&answer).unwrap())
    }

    pub fn context(&self) -> Context<'_> {
        self.context_of(1)
    }

    pub fn context_of(&self, pid: u32) -> Context<'_> {
        let mut comm = [0; 32];
        comm[..4].copy_from_slice(b"test");
        let created: rpc::ContextCreated = self
            .call(
                Function::ContextCreate,
                0,
                &rpc::ContextCreate {
                    pid,
                    uid: 7,
                    flags: 0,
                    comm,
                },
            )
            .unwrap();
        Context {
            chip: self,
            handle: created.context,
            index: created.index,
            next: AtomicU64::new(VA),
        }
    }

    pub fn inject(&self, fault: Fault, value: u64) -> rpc::Inject {
        rpc::Inject {
            fault: fault as u32,
            count: 1,
            value,
            ..rpc::Inject::zeroed()
        }
    }

    pub fn set_fault(&self, inject: rpc::Inject) {
        self.call::<_, ()>(Function::Inject, 0, &inject).unwrap();
    }

    pub fn telemetry(&self) -> Telemetry {
        self.call(Function::Telemetry, 0, &()).unwrap()
    }

    pub fn event_ring(&self, vector: u32, entries: u32) -> EventRing<'_> {
        let address = self.pages(128 + 32 * u64::from(entries));
        self.call::<_, ()>(
            Function::EventRing,
            0,
            &rpc::EventRing {
                address,
                entries,
                vector,
                flags: 0,
            },
        )
        .unwrap();
        EventRing {
            chip: self,
            address,
            entries: u64::from(entries),
        }
    }
}

pub fn message(function: Function, context: u64, body: &[u8]) -> Vec<u8> {
    let header = RpcHeader {
        version: rpc::VERSION,
        function: function as u16,
        length: (size_of::<RpcHeader>() + body.len()) as u32,
        sequence: 99,
        context,
        status: 0,
        reserved: 0,
    };
    [header.as_bytes(), body].concat()
}

pub struct EventRing<'a> {
    chip: &'a Chip,
    pub address: u64,
    pub entries: u64,
}

impl EventRing<'_> {
    pub fn produced(&self) -> u64 {
        self.chip.u64_at(self.address).load(Ordering::Acquire)
    }
    pub fn lost(&self) -> u64 {
        self.chip.u64_at(self.address + 8).load(Ordering::Acquire)
    }
    pub fn set_consumed(&self, value: u64) {
        self.chip
            .u64_at(self.address + 64)
            .store(value, Ordering::Release);
    }
    pub fn set_event_index(&self, value: u64) {
        self.chip
            .u64_at(self.address + 72)
            .store(value, Ordering::Release);
    }
    pub fn entry(&self, at: u64) -> vmlu_abi::event::Event {
        let bytes = self
            .chip
            .host_bytes(self.address + 128 + at % self.entries * 32, 32);
        vmlu_abi::event::Event::read_from(&bytes).unwrap()
    }
}

/// A context.
pub struct Context<'a> {
    pub chip: &'a Chip,
    pub handle: u64,
    pub index: u32,
    next: AtomicU64,
}

impl<'a> Context<'a> {
    pub fn call<C: Wire, R: Wire>(&self, function: Function, body: &C) -> Answer<R> {
        self.chip.call(function, self.handle, body)
    }

    /// Addresses that nobody has yet.
    pub fn addresses(&self, length: u64) -> u64 {
        let length = length.next_multiple_of(64 << 10) + (64 << 10);
        self.next.fetch_add(length, Ordering::Relaxed)
    }

    pub fn alloc_at(&self, va: u64, length: u64) -> Answer<rpc::MemoryAllocated> {
        self.call(
            Function::MemoryAlloc,
            &rpc::MemoryAlloc {
                va,
                length,
                flags: 0,
            },
        )
    }

    /// Device memory; its address and offset.
    pub fn alloc(&self, length: u64) -> (u64, u64) {
        let va = self.addresses(length);
        (va, self.alloc_at(va, length).unwrap().offset)
    }

    pub fn free(&self, va: u64) -> Answer<()> {
        self.call(Function::MemoryFree, &rpc::MemoryFree { va })
    }

    pub fn unmap(&self, va: u64) -> Answer<()> {
        self.call(Function::HostUnmap, &rpc::MemoryFree { va })
    }

    pub fn map_pieces(&self, map: rpc::HostMap, pieces: &[(u64, u64)]) -> Answer<()> {
        let mut body = map.as_bytes().to_vec();
        for (address, length) in pieces {
            body.extend_from_slice(
                rpc::HostPiece {
                    address: *address,
                    length: *length,
                }
                .as_bytes(),
            );
        }
        self.chip
            .raw(Function::HostMap, self.handle, &body)
            .map(|b| assert!(b.is_empty()))
    }

    /// Maps host memory; its address.
    pub fn map(&self, dma: u64, length: u64, access: u32) -> u64 {
        let va = self.addresses(length);
        let map = rpc::HostMap {
            va,
            length,
            offset: 0,
            count: 1,
            access,
            flags: 0,
        };
        self.map_pieces(map, &[(dma, length)]).unwrap();
        va
    }

    pub fn queue_memory(&self, units: u32) -> rpc::QueueCreate {
        let status = self.chip.pages(STATUS_SIZE as u64);
        let arm = self.chip.pages(PAGE);
        self.chip.u64_at(arm).store(ARM_NONE, Ordering::SeqCst);
        rpc::QueueCreate {
            ring: self.chip.pages(u64::from(units) * UNIT as u64),
            status,
            arm,
            ring_units: units,
            priority: 3,
            weight: 1,
            vector: 0,
            flags: 0,
            doorbell: 0,
        }
    }

    pub fn queue(&self) -> Queue<'a> {
        self.queue_of(self.queue_memory(1024))
    }

    /// A host timeline.
    pub fn host_timeline(&self) -> Queue<'a> {
        self.queue_of(self.host_timeline_memory())
    }

    pub fn host_timeline_memory(&self) -> rpc::QueueCreate {
        rpc::QueueCreate {
            ring: 0,
            ring_units: 0,
            flags: FLAG_HOST_TIMELINE,
            ..self.queue_memory(128)
        }
    }

    pub fn export(&self, queue: u64) -> Answer<rpc::TimelineToken> {
        self.call(Function::TimelineExport, &rpc::Timeline { timeline: queue })
    }

    pub fn import(&self, token: rpc::TimelineToken) -> Answer<u64> {
        self.call(Function::TimelineImport, &token)
            .map(|t: rpc::Timeline| t.timeline)
    }

    pub fn release(&self, timeline: u64) -> Answer<()> {
        self.call(Function::TimelineRelease, &rpc::Timeline { timeline })
    }

    /// Value and error of a timeline.
    pub fn read(&self, timeline: u64) -> Answer<(u64, Status)> {
        self.call(Function::TimelineRead, &rpc::Timeline { timeline })
            .map(|s: rpc::TimelineState| (s.value, Status::from_raw(s.error).unwrap()))
    }

    pub fn queue_of(&self, create: rpc::QueueCreate) -> Queue<'a> {
        let created: rpc::QueueCreated = self.call(Function::QueueCreate, &create).unwrap();
        Queue {
            chip: self.chip,
            context: self.handle,
            context_index: self.index,
            handle: created.queue,
            index: created.index,
            create,
            units: AtomicU64::new(0),
            packets: AtomicU64::new(0),
        }
    }

    pub fn destroy(&self) -> Answer<()> {
        self.call(Function::ContextDestroy, &())
    }
}

/// A queue, as its producer has it. One thread at a time submits.
pub struct Queue<'a> {
    pub chip: &'a Chip,
    pub context: u64,
    pub context_index: u32,
    pub handle: u64,
    pub index: u32,
    pub create: rpc::QueueCreate,
    units: AtomicU64,
    packets: AtomicU64,
}

/// How long the card may take for what waits for nothing but commands that stop. That is a few milliseconds; the rest is for a machine with
/// much else to do, and is still far from how long a command that hangs goes on.
pub const SOON: Duration = Duration::from_millis(1500);
/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Waits until something is so.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited too long: {what}");
        if start.elapsed() > Duration::from_micros(200) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Queue<'_> {
    pub fn word(&self, offset: usize) -> u64 {
        self.chip
            .u64_at(self.create.status + offset as u64)
            .load(Ordering::Acquire)
    }
    pub fn timeline(&self) -> u64 {
        self.word(STATUS_TIMELINE)
    }
    pub fn consumed(&self) -> u64 {
        self.word(STATUS_CONSUMED)
    }
    pub fn error(&self) -> Status {
        Status::from_raw(self.word(STATUS_ERROR) as u32).unwrap()
    }
    pub fn asleep(&self) -> bool {
        self.word(STATUS_ASLEEP) as u32 != 0
    }
    pub fn arm(&self) -> &AtomicU64 {
        self.chip.u64_at(self.create.arm)
    }
    pub fn doorbell(&self) -> &AtomicU64 {
        self.chip
            .doorbells
            .word(pci::doorbell_page(self.index) + pci::doorbell_slot(self.index))
            .unwrap()
    }
    pub fn submitted(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }
    pub fn kick(&self) {
        self.chip.firmware.kick(self.context_index);
    }

    /// Rings the doorbell, and kicks if the card sleeps.
    pub fn ring(&self, units: u64) {
        self.doorbell().store(units, Ordering::Release);
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep() {
            self.kick();
        }
    }

    /// Writes raw bytes as the next units, without ringing; the new number of units.
    pub fn write(&self, bytes: &[u8]) -> u64 {
        let ring = u64::from(self.create.ring_units);
        let start = self.units.load(Ordering::Relaxed);
        let end = start + bytes.len().div_ceil(UNIT) as u64;
        until("room in the ring", || end - self.consumed() <= ring);
        let mut padded = bytes.to_vec();
        padded.resize((end - start) as usize * UNIT, 0);
        for (i, unit) in padded.chunks(UNIT).enumerate() {
            let at = (start + i as u64) % ring * UNIT as u64;
            assert!(self
                .chip
                .host
                .arena
                .bytes(self.create.ring - BASE + at, UNIT as u64)
                .unwrap()
                .copy_from(unit));
        }
        self.units.store(end, Ordering::Relaxed);
        end
    }

    /// Submits raw bytes as one packet; its timeline value.
    pub fn submit_bytes(&self, bytes: &[u8]) -> u64 {
        let end = self.write(bytes);
        let value = self.packets.fetch_add(1, Ordering::Relaxed) + 1;
        self.ring(end);
        value
    }

    /// Submits a packet with a body; its timeline value.
    pub fn submit(&self, opcode: u16, body: &[u8]) -> u64 {
        self.submit_bytes(&packet_bytes(opcode, body))
    }

    pub fn nop(&self) -> u64 {
        self.submit(op::NOP, &[])
    }

    pub fn fill(&self, dst: u64, length: u64, byte: u8) -> u64 {
        self.submit(
            op::FILL,
            packet::Fill {
                dst,
                length,
                pattern: u64::from(byte),
                width: 1,
                reserved: 0,
            }
            .as_bytes(),
        )
    }

    pub fn copy(&self, dst: u64, src: u64, length: u64) -> u64 {
        self.submit(op::COPY, packet::Copy { dst, src, length }.as_bytes())
    }

    pub fn wait_for(&self, queue: u64, value: u64) -> u64 {
        self.submit(op::WAIT, packet::Wait { queue, value }.as_bytes())
    }

    pub fn wait_for_all(&self, waits: &[(u64, u64)]) -> u64 {
        let head = packet::WaitAll {
            count: waits.len() as u32,
            reserved: 0,
        };
        let mut body = head.as_bytes().to_vec();
        for &(queue, value) in waits {
            body.extend(packet::Wait { queue, value }.as_bytes());
        }
        self.submit(op::WAIT_ALL, &body)
    }

    pub fn notify(&self, index: u32, value: u32) -> u64 {
        self.submit(op::NOTIFY, packet::Notify { index, value }.as_bytes())
    }

    /// Waits until the timeline has reached a value; the error then.
    pub fn done(&self, value: u64) -> Status {
        until("the timeline", || self.timeline() >= value);
        self.error()
    }

    pub fn ok(&self, value: u64) {
        let status = self.done(value);
        assert_eq!(status, Status::Ok, "{}", rule(&self.record(false)));
    }

    pub fn record(&self, clear: bool) -> ErrorRecord {
        self.try_record(clear).unwrap()
    }

    pub fn try_record(&self, clear: bool) -> Answer<ErrorRecord> {
        let body = rpc::QueueError {
            queue: self.handle,
            clear: u32::from(clear),
            reserved: 0,
        };
        self.chip.call(Function::QueueError, self.context, &body)
    }

    pub fn destroy(&self) -> Answer<()> {
        self.chip.call(
            Function::QueueDestroy,
            self.context,
            &rpc::QueueDestroy { queue: self.handle },
        )
    }

    /// Waits until the card sleeps: it says so before it looks at the doorbell for the last time.
    pub fn sleeps(&self) {
        until("sleep", || {
            let before = self.asleep();
            std::thread::sleep(Duration::from_millis(5));
            before && self.asleep()
        });
    }

    /// Hangs the queue: returns once its command hangs. It looks at its cancel flag.
    pub fn hang(&self) -> u64 {
        self.stall(Fault::Hang, 0)
    }

    /// Has a fault that takes long hit a command: returns once it does.
    pub fn stall(&self, fault: Fault, value: u64) -> u64 {
        let inject = rpc::Inject {
            context: self.context,
            opcode: u32::from(op::NOP),
            ..self.chip.inject(fault, value)
        };
        self.chip.set_fault(inject);
        // An empty fill tells that the worker is there: what hangs is its next packet.
        let fill = packet::Fill {
            dst: 0,
            length: 0,
            pattern: 0,
            width: 1,
            reserved: 0,
        };
        self.write(&packet_bytes(op::FILL, fill.as_bytes()));
        let end = self.write(&packet_bytes(op::NOP, &[]));
        let value = self.packets.fetch_add(2, Ordering::Relaxed) + 2;
        self.ring(end);
        until("the command that hangs", || self.timeline() == value - 1);
        std::thread::sleep(Duration::from_millis(2));
        assert!(self.timeline() < value);
        value
    }
}

pub fn packet_bytes(opcode: u16, body: &[u8]) -> Vec<u8> {
    let units = packet::units_for(body.len()).unwrap();
    let header = PacketHeader {
        opcode,
        version: packet::VERSION,
        units,
        flags: 0,
        correlation: 0xc0,
    };
    let mut bytes = [header.as_bytes(), body].concat();
    bytes.resize(usize::from(units) * UNIT, 0);
    bytes
}

pub fn rule(record: &ErrorRecord) -> String {
    String::from_utf8_lossy(&record.rule)
        .trim_end_matches('\0')
        .to_owned()
}

/// Tells threads to stop when it is dropped, so that a test that fails ends.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs something and checks that it took at most this long.
pub fn within<T>(limit: Duration, what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    let took = start.elapsed();
    assert!(took <= limit, "{what} took {took:?}");
    result
}

/// Checks that nobody writes host memory for a while.
pub fn stays(chip: &Chip, what: &str, ranges: &[(u64, usize)]) {
    let before: Vec<Vec<u8>> = ranges
        .iter()
        .map(|(a, l)| chip.host_bytes(*a, *l))
        .collect();
    std::thread::sleep(Duration::from_millis(20));
    for ((address, length), before) in ranges.iter().zip(before) {
        assert!(
            chip.host_bytes(*address, *length) == before,
            "{what}: the memory at {address:#x} was written"
        );
    }
}
