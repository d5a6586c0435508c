//! The user-space interface of the kernel module: `/dev/mlu*` and `/dev/mluctl`. See `docs/uapi.md`.
//!
//! Sizes are part of the ioctl numbers. Padding and unknown flags must be zero.

use super::Wire;

/// ioctl type of all numbers below.
pub const TYPE: u8 = 0xb7;
/// Version of this interface, in [`DeviceInfo::uapi_version`].
pub const UAPI_VERSION: u32 = 1;

const READ: u32 = 2;
const WRITE: u32 = 1;

const fn number(direction: u32, nr: u8, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (TYPE as u32) << 8 | nr as u32
}

const fn read_write<T>(nr: u8) -> u32 {
    number(READ | WRITE, nr, core::mem::size_of::<T>())
}

/// `/dev/mlu*`, `/dev/mluctl`: [`DeviceInfo`]. On `/dev/mluctl` the caller sets `device`.
pub const INFO: u32 = read_write::<DeviceInfo>(0x01);
/// `/dev/mluctl`: [`DeviceCount`].
pub const COUNT: u32 = read_write::<DeviceCount>(0x02);
/// `/dev/mluctl`, `/dev/mlu*`: [`TelemetryRead`].
pub const TELEMETRY: u32 = read_write::<TelemetryRead>(0x03);
/// `/dev/mluctl`, `/dev/mlu*`: [`ProcessesRead`].
pub const PROCESSES: u32 = read_write::<ProcessesRead>(0x04);
/// `/dev/mluctl`: [`InjectFault`]; CAP_SYS_ADMIN.
pub const INJECT: u32 = read_write::<InjectFault>(0x05);
/// `/dev/mluctl`, `/dev/mlu*`: [`Subscribe`].
pub const SUBSCRIBE: u32 = read_write::<Subscribe>(0x06);
/// `/dev/mluctl`, `/dev/mlu*`: [`LinkPorts`].
pub const LINK_PORTS: u32 = read_write::<LinkPorts>(0x07);
/// `/dev/mluctl`: [`LinkControl`]; CAP_SYS_ADMIN.
pub const LINK_CONTROL: u32 = read_write::<LinkControl>(0x08);
/// `/dev/mluctl`, `/dev/mlu*`: [`PeerPath`].
pub const PEER_PATH: u32 = read_write::<PeerPath>(0x09);
/// `/dev/mluctl`: [`FirmwareQuery`].
pub const FIRMWARE: u32 = read_write::<FirmwareQuery>(0x0d);

/// `/dev/mlu*`: [`MemAlloc`].
pub const MEM_ALLOC: u32 = read_write::<MemAlloc>(0x10);
/// `/dev/mlu*`: [`MemFree`].
pub const MEM_FREE: u32 = read_write::<MemFree>(0x11);
/// `/dev/mlu*`: [`HostAlloc`].
pub const HOST_ALLOC: u32 = read_write::<HostAlloc>(0x12);
/// `/dev/mlu*`: [`MemFree`], of a [`HostAlloc`].
pub const HOST_FREE: u32 = read_write::<MemFree>(0x13);
/// `/dev/mlu*`: [`NotifierPool`].
pub const NOTIFIER_POOL: u32 = read_write::<NotifierPool>(0x14);
/// `/dev/mlu*`: [`MemExport`].
pub const MEM_EXPORT: u32 = read_write::<MemExport>(0x15);
/// `/dev/mlu*`: [`MemImport`]; [`MEM_FREE`] takes the mapping away.
pub const MEM_IMPORT: u32 = read_write::<MemImport>(0x16);
/// `/dev/mlu*`: [`MemMap`].
pub const MEM_MAP: u32 = read_write::<MemMap>(0x17);
/// `/dev/mlu*`: [`HostRegister`]; [`HOST_FREE`] gives the memory back.
pub const HOST_REGISTER: u32 = read_write::<HostRegister>(0x18);
/// `/dev/mlu*`: [`DmabufExport`].
pub const DMABUF_EXPORT: u32 = read_write::<DmabufExport>(0x19);
/// `/dev/mlu*`: [`DmabufImport`]; [`MEM_FREE`] takes the mapping away.
pub const DMABUF_IMPORT: u32 = read_write::<DmabufImport>(0x1a);

/// `/dev/mlu*`: [`QueueCreate`].
pub const QUEUE_CREATE: u32 = read_write::<QueueCreate>(0x20);
/// `/dev/mlu*`: [`QueueDestroy`].
pub const QUEUE_DESTROY: u32 = read_write::<QueueDestroy>(0x21);
/// `/dev/mlu*`: [`QueueWait`].
pub const QUEUE_WAIT: u32 = read_write::<QueueWait>(0x22);
/// `/dev/mlu*`: [`QueueErrorRead`].
pub const QUEUE_ERROR: u32 = read_write::<QueueErrorRead>(0x23);
/// `/dev/mlu*`: [`QueueArm`].
pub const QUEUE_ARM: u32 = read_write::<QueueArm>(0x24);

/// `/dev/mlu*`: [`GraphImage`].
pub const GRAPH_CREATE: u32 = read_write::<GraphImage>(0x30);
/// `/dev/mlu*`: [`GraphDestroy`].
pub const GRAPH_DESTROY: u32 = read_write::<GraphDestroy>(0x31);
/// `/dev/mlu*`: [`GraphImage`], of a graph that exists.
pub const GRAPH_UPDATE: u32 = read_write::<GraphImage>(0x32);

/// `/dev/mlu*`: [`TimelineExport`].
pub const TIMELINE_EXPORT: u32 = read_write::<TimelineExport>(0x38);
/// `/dev/mlu*`: [`TimelineImport`].
pub const TIMELINE_IMPORT: u32 = read_write::<TimelineImport>(0x39);
/// `/dev/mlu*`: [`TimelineRelease`].
pub const TIMELINE_RELEASE: u32 = read_write::<TimelineRelease>(0x3a);
/// `/dev/mlu*`: [`TimelineRead`].
pub const TIMELINE_READ: u32 = read_write::<TimelineRead>(0x3b);

wire! {
    /// What a chip is and where it sits.
    pub struct DeviceInfo : 336 {
        /// In on `/dev/mluctl`: number of the chip. Out on `/dev/mlu*`.
        pub device: u32 = 0,
        /// Out: [`UAPI_VERSION`].
        pub uapi_version: u32 = 4,
        /// Out: PCI domain.
        pub pci_domain: u32 = 8,
        /// Out: PCI bus.
        pub pci_bus: u8 = 12,
        /// Out: PCI device.
        pub pci_device: u8 = 13,
        /// Out: PCI function.
        pub pci_function: u8 = 14,
        /// Zero.
        pub reserved0: u8 = 15,
        /// Out: PCI vendor and device ID.
        pub pci_vendor_id: u16 = 16,
        /// Out.
        pub pci_device_id: u16 = 18,
        /// Out: NUMA node, -1 if none.
        pub numa_node: i32 = 20,
        /// Out: interrupt vectors in use.
        pub vectors: u32 = 24,
        /// Out: 1 if the chip works, 0 if it is lost.
        pub alive: u32 = 28,
        /// Out: driver version, such as `v0.1.0`, zero-padded.
        pub driver: [u8; 32] = 32,
        /// Out: what the firmware says.
        pub info: super::rpc::Info = 64,
        /// Zero.
        pub reserved1: [u64; 2] = 320,
    }

    /// Number of chips.
    pub struct DeviceCount : 8 {
        /// Out: chips; they are numbered from 0, and numbers of removed ones may be missing in between: see `mask`.
        pub count: u32 = 0,
        /// Out: bit `n` is set if chip `n` is there.
        pub mask: u32 = 4,
    }

    /// A chip's telemetry as of now.
    pub struct TelemetryRead : 392 {
        /// In on `/dev/mluctl`: number of the chip; zero on `/dev/mlu*`.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// Out.
        pub telemetry: super::telemetry::Telemetry = 8,
    }

    /// The contexts of a chip.
    pub struct ProcessesRead : 24 {
        /// In on `/dev/mluctl`: number of the chip; zero on `/dev/mlu*`.
        pub device: u32 = 0,
        /// In: entries that fit at `address`. Out: entries written.
        pub count: u32 = 4,
        /// In: user address of an array of `rpc::Process`.
        pub address: u64 = 8,
        /// Out: contexts that exist.
        pub total: u32 = 16,
        /// Zero.
        pub reserved: u32 = 20,
    }

    /// A fault to inject.
    pub struct InjectFault : 56 {
        /// In: number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// In.
        pub inject: super::rpc::Inject = 8,
    }

    /// Allocates device memory.
    pub struct MemAlloc : 40 {
        /// In: device virtual address, chosen by the caller; a multiple of the granule.
        pub va: u64 = 0,
        /// In: bytes: what lies beyond them is refused, although memory is taken in granules.
        pub length: u64 = 8,
        /// Zero.
        pub flags: u64 = 16,
        /// Out: number of the allocation.
        pub allocation: u64 = 24,
        /// Out: zero; the offset in device memory stays between driver and firmware.
        pub reserved: u64 = 32,
    }

    /// Makes device memory one that the process can map. Then mmap it, whole, at `mmap_offset`.
    pub struct MemMap : 32 {
        /// In: device virtual address of the allocation's start.
        pub va: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
        /// Out: bytes to map: those of the allocation, in whole pages.
        pub length: u64 = 16,
        /// Out: offset for mmap, the same each time.
        pub mmap_offset: u64 = 24,
    }

    /// Frees device memory, or host memory of [`HostAlloc`] or [`HostRegister`].
    pub struct MemFree : 16 {
        /// In: device virtual address of the allocation's start.
        pub va: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
    }

    /// Allocates pinned host memory and maps it into the context at `va`. Then mmap it, whole, at `mmap_offset`, usually at `va` too.
    pub struct HostAlloc : 40 {
        /// In: device virtual address, a multiple of the page.
        pub va: u64 = 0,
        /// In: bytes, a multiple of the page.
        pub length: u64 = 8,
        /// In: `rpc::ACCESS_READ` and `rpc::ACCESS_WRITE`: what the card may do.
        pub access: u32 = 16,
        /// Zero.
        pub flags: u32 = 20,
        /// Out: offset for mmap.
        pub mmap_offset: u64 = 24,
        /// Zero.
        pub reserved: u64 = 32,
    }

    /// Pins memory that the process has, and maps it into the context at `va`.
    pub struct HostRegister : 40 {
        /// In: user address, a multiple of the page.
        pub address: u64 = 0,
        /// In: bytes, a multiple of the page.
        pub length: u64 = 8,
        /// In: device virtual address, a multiple of the page; usually `address`.
        pub va: u64 = 16,
        /// In: `rpc::ACCESS_READ` and `rpc::ACCESS_WRITE`: what the card may do.
        pub access: u32 = 24,
        /// Zero.
        pub flags: u32 = 28,
        /// Zero.
        pub reserved: u64 = 32,
    }

    /// Makes device memory a dma-buf: a file descriptor with which others map it.
    pub struct DmabufExport : 32 {
        /// In: device virtual address of the allocation's start.
        pub va: u64 = 0,
        /// In: bytes from there on at which the dma-buf begins, a multiple of the page.
        pub offset: u64 = 8,
        /// In: bytes, a multiple of the page; up to the end of the allocation's last page.
        pub length: u64 = 16,
        /// Zero.
        pub flags: u32 = 24,
        /// Out: the descriptor, close-on-exec.
        pub fd: i32 = 28,
    }

    /// Maps the memory of a dma-buf into the context at `va`.
    pub struct DmabufImport : 32 {
        /// In: device virtual address: a multiple of the granule for memory of a chip of this driver, of the page for any other.
        pub va: u64 = 0,
        /// Out: bytes.
        pub length: u64 = 8,
        /// In: the dma-buf.
        pub fd: i32 = 16,
        /// In: `rpc::ACCESS_READ`, with `rpc::ACCESS_WRITE` or without: what the card may do.
        pub access: u32 = 20,
        /// Zero.
        pub flags: u64 = 24,
    }

    /// Makes pinned host memory the context's notifier pool.
    pub struct NotifierPool : 24 {
        /// In: device virtual address, within one [`HostAlloc`].
        pub va: u64 = 0,
        /// In: notifiers; 0 takes the pool away.
        pub count: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
        /// Zero.
        pub flags: u64 = 16,
    }

    /// Makes a queue. The driver provides ring, status page and arm word; map the pages at the offsets it returns.
    pub struct QueueCreate : 96 {
        /// In: units of the ring, a power of two.
        pub ring_units: u32 = 0,
        /// In: scheduling priority.
        pub priority: u32 = 4,
        /// In: share within the priority, 1 to 1024.
        pub weight: u32 = 8,
        /// In: `queue::FLAG_*`; unknown bits are refused. A host timeline has no ring to map.
        pub flags: u32 = 12,
        /// Out: handle of the queue; also names its timeline in packets.
        pub queue: u64 = 16,
        /// Out: mmap offset of the ring (`ring_units * 64` bytes, read and write).
        pub ring_offset: u64 = 24,
        /// Out: mmap offset of the status page (4096 bytes, read only).
        pub status_offset: u64 = 32,
        /// Out: mmap offset of the doorbell page (4096 bytes, read and write).
        pub doorbell_offset: u64 = 40,
        /// Out: mmap offset of the context's kick page (4096 bytes, write).
        pub kick_offset: u64 = 48,
        /// Out: offset of the doorbell word in its page.
        pub doorbell_slot: u32 = 56,
        /// Zero.
        pub reserved0: u32 = 60,
        /// Zero.
        pub reserved: [u64; 4] = 64,
    }

    /// Destroys a queue; packets in flight are cancelled, and every waiter ends.
    pub struct QueueDestroy : 16 {
        /// In.
        pub queue: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
    }

    /// Waits until a queue's timeline has reached a value.
    pub struct QueueWait : 40 {
        /// In.
        pub queue: u64 = 0,
        /// In: timeline value.
        pub value: u64 = 8,
        /// In: absolute CLOCK_MONOTONIC time at which to give up, ns; 0 asks without waiting. ETIME if it passes.
        pub deadline_ns: u64 = 16,
        /// Out: the timeline when the call returned.
        pub timeline: u64 = 24,
        /// Out: the queue's error, a `status::Status` code.
        pub error: u32 = 32,
        /// Zero.
        pub flags: u32 = 36,
    }

    /// Asks to be told once a queue's timeline has reached a value, or the queue fails or ends: at once if it is so already.
    pub struct QueueArm : 48 {
        /// In.
        pub queue: u64 = 0,
        /// In: timeline value.
        pub value: u64 = 8,
        /// In: an eventfd to signal; -1 for an [`EventRecord`] of kind `Timeline` or `QueueError` to read from this file, which becomes
        /// readable.
        pub fd: i32 = 16,
        /// Zero.
        pub flags: u32 = 20,
        /// In: comes back in [`EventRecord::data`].
        pub data: u64 = 24,
        /// Zero.
        pub reserved: [u64; 2] = 32,
    }

    /// Chooses the card events that this file reads; those of all chips on `/dev/mluctl`.
    pub struct Subscribe : 16 {
        /// In: bit `1 << kind` for each `event::EventKind` that is wanted; `Xid` may be asked for by everybody. 0 ends it.
        pub kinds: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
    }

    /// What `read` on a file gives, one or several whole records; the file is readable (`POLLIN`) while there are some. Each file keeps
    /// [`MAX_RECORDS`] of them; the oldest go first, and the next record that is read tells how many.
    pub struct EventRecord : 48 {
        /// An `event::EventKind`.
        pub kind: u32 = 0,
        /// Number of the chip.
        pub device: u32 = 4,
        /// Queue (its handle) or context that the kind names; otherwise 0.
        pub object: u64 = 8,
        /// What the kind says: of `Timeline` the timeline, of `QueueError` a status code, of `Xid` the xid.
        pub value: u64 = 16,
        /// What [`QueueArm::data`] said; otherwise 0.
        pub data: u64 = 24,
        /// CLOCK_MONOTONIC time at which the driver took it, ns.
        pub time_ns: u64 = 32,
        /// Records that were lost before this one.
        pub lost: u32 = 40,
        /// Zero.
        pub reserved: u32 = 44,
    }

    /// Makes a graph, or gives one another image.
    pub struct GraphImage : 32 {
        /// Out of `GRAPH_CREATE`, in of `GRAPH_UPDATE`: handle of the graph.
        pub graph: u64 = 0,
        /// In: device virtual address of the image, see `graph::GraphHead`.
        pub address: u64 = 8,
        /// In: bytes.
        pub length: u64 = 16,
        /// Zero.
        pub flags: u64 = 24,
    }

    /// Destroys a graph.
    pub struct GraphDestroy : 16 {
        /// In.
        pub graph: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
    }

    /// Gives a token with which others can wait for a queue's timeline.
    pub struct TimelineExport : 48 {
        /// In: queue.
        pub queue: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
        /// Out.
        pub token: super::rpc::TimelineToken = 16,
    }

    /// Makes a timeline of another context, on this chip or another, one that packets of this context can wait for.
    pub struct TimelineImport : 48 {
        /// In.
        pub token: super::rpc::TimelineToken = 0,
        /// Out: handle for `packet::Wait`.
        pub timeline: u64 = 32,
        /// Zero.
        pub flags: u64 = 40,
    }

    /// Gives an imported timeline up.
    pub struct TimelineRelease : 16 {
        /// In.
        pub timeline: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
    }

    /// Gives a token with which others can map an allocation of device memory.
    pub struct MemExport : 56 {
        /// In: device virtual address of the allocation's start.
        pub va: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
        /// Out.
        pub token: super::rpc::MemoryToken = 16,
    }

    /// Maps an allocation of another context, on this chip or a peer.
    pub struct MemImport : 56 {
        /// In.
        pub import: super::rpc::MemoryImport = 0,
    }

    /// The MLU-Link ports of a chip.
    pub struct LinkPorts : 1544 {
        /// In on `/dev/mluctl`: number of the chip. Out on `/dev/mlu*`.
        pub device: u32 = 0,
        /// Out: ports that follow.
        pub count: u32 = 4,
        /// Out.
        pub ports: [super::link::Port; 8] = 8,
    }

    /// Takes a link down or up, or counts errors of a port, where faults may be injected.
    pub struct LinkControl : 40 {
        /// In: number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// In.
        pub control: super::rpc::LinkControl = 8,
    }

    /// A message that a monitor may send to a chip's firmware as it is: `rpc::Function::RetiredPages` and `EventLog` by everybody,
    /// `Configure` with CAP_SYS_ADMIN.
    pub struct FirmwareQuery : 56 {
        /// In: number of the chip.
        pub device: u32 = 0,
        /// In: the `rpc::Function`.
        pub function: u32 = 4,
        /// In: body of the command; what the function does not define is zero.
        pub request: [u64; 2] = 8,
        /// In: user address for the body of the response.
        pub address: u64 = 24,
        /// In: bytes that fit there.
        pub room: u32 = 32,
        /// Out: bytes of the response. ENOSPC if they do not fit.
        pub length: u32 = 36,
        /// Zero.
        pub reserved: [u64; 2] = 40,
    }

    /// How a chip reaches another.
    pub struct PeerPath : 40 {
        /// In on `/dev/mluctl`: number of the chip. Out on `/dev/mlu*`.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// In: the other chip.
        pub peer: super::rpc::Peer = 8,
        /// Out.
        pub way: super::rpc::PeerWay = 24,
    }

    /// Reads a queue's or an imported timeline.
    pub struct TimelineRead : 32 {
        /// In: handle.
        pub timeline: u64 = 0,
        /// Zero.
        pub flags: u64 = 8,
        /// Out.
        pub state: super::rpc::TimelineState = 16,
    }

    /// Reads, and clears if asked, a queue's error.
    pub struct QueueErrorRead : 240 {
        /// In.
        pub queue: u64 = 0,
        /// In: 1 clears the error.
        pub clear: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
        /// Out.
        pub record: super::status::ErrorRecord = 16,
    }
}

/// Records that a file keeps for its reader.
pub const MAX_RECORDS: usize = 256;
/// [`QUEUE_ARM`]s of a file that have not fired yet.
pub const MAX_ARMS: u32 = 4096;

/// Names of the device nodes: one a chip.
pub const NODE: &str = "mlu";
/// The control node.
pub const CONTROL_NODE: &str = "mluctl";
/// The vendor's name of a chip's node.
pub const VENDOR_NODE: &str = "cambricon_dev";
/// The vendor's name of the control node.
pub const VENDOR_CONTROL_NODE: &str = "cambricon_ctl";
