//! Firmware RPC: typed, versioned messages between the driver (or the runtime, without a VM) and the firmware. See `docs/hardware.md`,
//! section 5.
//!
//! A message is an [`RpcHeader`] and the body that its function defines. In a VM messages stand in the RPC region, a piece of host memory
//! that the driver names at boot; on the other transports the same bytes are handed over directly.

use super::Wire;

/// Version of the messages' form, which [`RpcHeader::version`] carries: the same in all interfaces that are taken.
pub const VERSION: u16 = 1;
/// Most bytes of a message, header included.
pub const MAX_MESSAGE: usize = 4096;
/// Slots of each direction in the RPC region.
pub const SLOTS: u32 = 8;
/// Offset of the command slots in the RPC region.
pub const COMMANDS: usize = 4096;
/// Offset of the response slots in the RPC region.
pub const RESPONSES: usize = COMMANDS + SLOTS as usize * MAX_MESSAGE;
/// Bytes of the RPC region.
pub const REGION_SIZE: usize = RESPONSES + SLOTS as usize * MAX_MESSAGE;
/// Offset of the driver's count of commands written, u64.
pub const COMMAND_PRODUCED: usize = 0;
/// Offset of the card's count of commands taken, u64.
pub const COMMAND_CONSUMED: usize = 64;
/// Offset of the card's count of responses written, u64. Response `n` answers command `n` and stands in slot `n % SLOTS`.
pub const RESPONSE_PRODUCED: usize = 128;

wire! {
    /// Head of every message.
    pub struct RpcHeader : 32 {
        /// [`VERSION`].
        pub version: u16 = 0,
        /// A [`Function`].
        pub function: u16 = 2,
        /// Bytes of the message, header included.
        pub length: u32 = 4,
        /// Number of the command, chosen by the sender and repeated in the response.
        pub sequence: u64 = 8,
        /// The context that the message is about; 0 where it is about none.
        pub context: u64 = 16,
        /// Response: a `status::Status` code. Command: zero.
        pub status: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
    }

    /// Response of [`Function::Info`].
    pub struct Info : 256 {
        /// Firmware interface that is served.
        pub api_version: u32 = 0,
        /// `model::CardModel::id`.
        pub model: u32 = 4,
        /// Index of the chip on its board.
        pub chip: u32 = 8,
        /// Chips of the board.
        pub chips_per_board: u32 = 12,
        /// Serial number of the board.
        pub serial: u64 = 16,
        /// Bytes of device memory, the firmware's own included.
        pub memory_bytes: u64 = 24,
        /// Bytes that programs can allocate.
        pub memory_available: u64 = 32,
        /// Clusters.
        pub clusters: u32 = 40,
        /// IPU cores of a cluster.
        pub cores_per_cluster: u32 = 44,
        /// Queues that can exist at a time.
        pub max_queues: u32 = 48,
        /// Contexts that can exist at a time.
        pub max_contexts: u32 = 52,
        /// Name of the product, such as `MLU370-X8`, zero-padded.
        pub name: [u8; 32] = 56,
        /// Firmware version, such as `v1.1.6`, zero-padded.
        pub firmware: [u8; 32] = 88,
        /// Universally unique identifier of the chip.
        pub uuid: [u8; 16] = 120,
        /// Bits of what the firmware offers; see [`feature`].
        pub features: u64 = 136,
        /// Granule of device addresses and allocation sizes, bytes.
        pub granule: u64 = 144,
        /// Zero.
        pub reserved: [u64; 13] = 152,
    }

    /// Command of [`Function::ContextCreate`].
    pub struct ContextCreate : 48 {
        /// Process that opens it (as the host or the guest numbers it).
        pub pid: u32 = 0,
        /// User that opens it.
        pub uid: u32 = 4,
        /// Zero.
        pub flags: u64 = 8,
        /// Command name of the process, zero-padded.
        pub comm: [u8; 32] = 16,
    }

    /// Response of [`Function::ContextCreate`].
    pub struct ContextCreated : 16 {
        /// Handle for [`RpcHeader::context`].
        pub context: u64 = 0,
        /// Index: names the kick page.
        pub index: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Command of [`Function::MemoryAlloc`].
    pub struct MemoryAlloc : 24 {
        /// Device virtual address at which the memory appears, a multiple of the granule.
        pub va: u64 = 0,
        /// Bytes: what lies beyond them is refused, although memory is taken in granules.
        pub length: u64 = 8,
        /// Zero.
        pub flags: u64 = 16,
    }

    /// Response of [`Function::MemoryAlloc`].
    pub struct MemoryAllocated : 16 {
        /// Number of the allocation, unique on this chip since boot.
        pub allocation: u64 = 0,
        /// Offset in device memory (and in BAR4).
        pub offset: u64 = 8,
    }

    /// Command of [`Function::MemoryFree`] and [`Function::HostUnmap`].
    pub struct MemoryFree : 8 {
        /// Device virtual address of the allocation's start.
        pub va: u64 = 0,
    }

    /// Command of [`Function::HostMap`]; `count` [`HostPiece`]s follow. Maps host memory into a context. A mapping of more pieces than fit
    /// one message is sent in several, in order, with `offset` telling where in the mapping the pieces of this one begin.
    pub struct HostMap : 40 {
        /// Device virtual address at which the memory appears, a multiple of the page.
        pub va: u64 = 0,
        /// Bytes of the whole mapping, a multiple of the page.
        pub length: u64 = 8,
        /// Where in the mapping the pieces of this message begin, bytes.
        pub offset: u64 = 16,
        /// Pieces that follow.
        pub count: u32 = 24,
        /// [`ACCESS_READ`] and [`ACCESS_WRITE`]: what the card may do.
        pub access: u32 = 28,
        /// Zero.
        pub flags: u64 = 32,
    }

    /// A contiguous piece of host memory.
    pub struct HostPiece : 16 {
        /// DMA address.
        pub address: u64 = 0,
        /// Bytes.
        pub length: u64 = 8,
    }

    /// Command of [`Function::QueueCreate`].
    pub struct QueueCreate : 56 {
        /// DMA address of the ring, contiguous.
        pub ring: u64 = 0,
        /// DMA address of the status page; the card clears it.
        pub status: u64 = 8,
        /// DMA address of the arm word, u64: the driver writes the timeline value of which it wants an event, `queue::ARM_NONE` for none.
        pub arm: u64 = 16,
        /// Units of the ring, a power of two.
        pub ring_units: u32 = 24,
        /// Scheduling priority, `queue::PRIORITY_LOW` to `queue::PRIORITY_HIGH`.
        pub priority: u32 = 28,
        /// Share within the priority, 1 to 1024.
        pub weight: u32 = 32,
        /// Vector for the queue's events.
        pub vector: u32 = 36,
        /// `queue::FLAG_*`; unknown bits are refused.
        pub flags: u64 = 40,
        /// DMA address of the doorbell word, u64, where the host keeps it in memory of its own; 0 for the word in BAR2 that
        /// [`QueueCreated::index`] names.
        pub doorbell: u64 = 48,
    }

    /// Response of [`Function::QueueCreate`].
    pub struct QueueCreated : 16 {
        /// Handle of the queue.
        pub queue: u64 = 0,
        /// Index: names the doorbell, see `pci::doorbell_page` and `pci::doorbell_slot`.
        pub index: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Command of [`Function::QueueDestroy`].
    pub struct QueueDestroy : 8 {
        /// Handle of the queue.
        pub queue: u64 = 0,
    }

    /// Command of [`Function::QueueError`]; the response is a `status::ErrorRecord`.
    pub struct QueueError : 16 {
        /// Handle of the queue.
        pub queue: u64 = 0,
        /// 1 clears the error after it is read, so that the queue runs on behind the packets that were cancelled; 0 leaves it.
        pub clear: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Command of [`Function::NotifierPool`]: makes a piece of mapped host memory the context's notifier pool.
    pub struct NotifierPool : 16 {
        /// Device virtual address of the pool: 32 bytes each notifier, within one mapping of writable host memory that is contiguous
        /// in each page.
        pub va: u64 = 0,
        /// Notifiers, at most `notifier::MAX_NOTIFIERS`; 0 takes the pool away.
        pub count: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Command of [`Function::EventRing`]: where a vector's events go.
    pub struct EventRing : 24 {
        /// DMA address of the ring, contiguous; 0 takes the ring away.
        pub address: u64 = 0,
        /// Entries, a power of two.
        pub entries: u32 = 8,
        /// Vector.
        pub vector: u32 = 12,
        /// Zero.
        pub flags: u64 = 16,
    }

    /// Command of [`Function::TelemetryPage`]: where the card keeps its telemetry.
    pub struct TelemetryPage : 8 {
        /// DMA address of one page; 0 takes it away.
        pub address: u64 = 0,
    }

    /// Command of [`Function::Processes`].
    pub struct Processes : 8 {
        /// Index of the first wanted entry.
        pub start: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Head of the response of [`Function::Processes`]; `count` [`Process`]es follow.
    pub struct ProcessList : 8 {
        /// Entries that follow.
        pub count: u32 = 0,
        /// Contexts that exist in all.
        pub total: u32 = 4,
    }

    /// A context, as a monitor sees it.
    pub struct Process : 96 {
        /// Handle of the context.
        pub context: u64 = 0,
        /// Process.
        pub pid: u32 = 8,
        /// User.
        pub uid: u32 = 12,
        /// Device memory allocated, bytes.
        pub memory: u64 = 16,
        /// Host memory mapped, bytes.
        pub host_memory: u64 = 24,
        /// Wall time for which its commands ran, ns.
        pub busy_ns: u64 = 32,
        /// Packets completed.
        pub packets: u64 = 40,
        /// Queues.
        pub queues: u32 = 48,
        /// Zero.
        pub reserved: u32 = 52,
        /// Command name, zero-padded.
        pub comm: [u8; 32] = 56,
        /// Zero.
        pub reserved1: u64 = 88,
    }

    /// Command of [`Function::GraphCreate`] and, with a graph, of [`Function::GraphUpdate`]: the image of a graph, see `graph::GraphHead`.
    pub struct GraphImage : 24 {
        /// Graph whose image this becomes; zero for a new one.
        pub graph: u64 = 0,
        /// Device virtual address of the image in the context's memory; the card copies it.
        pub address: u64 = 8,
        /// Bytes.
        pub length: u64 = 16,
    }

    /// Response of [`Function::GraphCreate`]; command of [`Function::GraphDestroy`].
    pub struct Graph : 8 {
        /// Handle of the graph.
        pub graph: u64 = 0,
    }

    /// Response of [`Function::TimelineExport`]; command of [`Function::TimelineImport`]. Whoever has it may wait for the timeline, and
    /// nothing else.
    pub struct TimelineToken : 32 {
        /// Random, so that it cannot be guessed.
        pub secret: [u8; 16] = 0,
        /// Serial number of the board whose chip has the queue.
        pub serial: u64 = 16,
        /// Index of the chip on its board.
        pub chip: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
    }

    /// Command of [`Function::TimelineExport`] (a queue), [`Function::TimelineRelease`] and [`Function::TimelineRead`] (an imported
    /// timeline, for the latter also a queue); response of [`Function::TimelineImport`].
    pub struct Timeline : 8 {
        /// Handle.
        pub timeline: u64 = 0,
    }

    /// Response of [`Function::TimelineRead`].
    pub struct TimelineState : 16 {
        /// The timeline's value.
        pub value: u64 = 0,
        /// `status::Status` code of its queue; `QueueDestroyed` once that has ended.
        pub error: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Response of [`Function::MemoryExport`]; part of the command of [`Function::MemoryImport`]. Whoever has it may map the allocation.
    pub struct MemoryToken : 40 {
        /// Random, so that it cannot be guessed.
        pub secret: [u8; 16] = 0,
        /// Serial number of the board whose chip has the memory.
        pub serial: u64 = 16,
        /// Index of the chip on its board.
        pub chip: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
        /// Bytes of the allocation.
        pub length: u64 = 32,
    }

    /// Command of [`Function::MemoryImport`]: maps an allocation of another context, on this chip or one that this chip has a way to.
    pub struct MemoryImport : 56 {
        /// Device virtual address at which it appears, a multiple of the granule.
        pub va: u64 = 0,
        /// [`ACCESS_READ`] and [`ACCESS_WRITE`]: what this chip may do.
        pub access: u32 = 8,
        /// Zero.
        pub flags: u32 = 12,
        /// What the owner gave.
        pub token: MemoryToken = 16,
    }

    /// Command of [`Function::PeerPath`].
    pub struct Peer : 16 {
        /// Serial number of the peer's board.
        pub serial: u64 = 0,
        /// Index of the peer on its board.
        pub chip: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// Response of [`Function::PeerPath`].
    pub struct PeerWay : 16 {
        /// A `link::PeerPath`.
        pub path: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// Bytes/s in one direction; 0 if there is no way.
        pub rate: u64 = 8,
    }

    /// Response of [`Function::LinkPorts`]; `count` `link::Port`s follow.
    pub struct PortList : 8 {
        /// Entries that follow.
        pub count: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Command of [`Function::LinkControl`]; needs fault injection to be allowed.
    pub struct LinkControl : 32 {
        /// Port of this chip; the port at the other end changes with it.
        pub port: u32 = 0,
        /// A [`LinkAction`].
        pub action: u32 = 4,
        /// What the action defines.
        pub value: u64 = 8,
        /// Zero.
        pub reserved: [u64; 2] = 16,
    }

    /// Command of [`Function::Segments`].
    pub struct Segments : 8 {
        /// Only segments at this device virtual address or above it.
        pub from: u64 = 0,
    }

    /// Head of the response of [`Function::Segments`]; `count` [`Segment`]s follow, in the order of their addresses.
    pub struct SegmentList : 8 {
        /// Entries that follow.
        pub count: u32 = 0,
        /// 1 if there are more behind them.
        pub more: u32 = 4,
    }

    /// A mapped range of a context's address space.
    pub struct Segment : 32 {
        /// Device virtual address.
        pub va: u64 = 0,
        /// Bytes.
        pub length: u64 = 8,
        /// Number of the allocation.
        pub allocation: u64 = 16,
        /// A [`SegmentKind`].
        pub kind: u32 = 24,
        /// [`ACCESS_READ`] and [`ACCESS_WRITE`]: what the card may do.
        pub access: u32 = 28,
    }

    /// Command of [`Function::Inject`]; see [`Fault`].
    pub struct Inject : 48 {
        /// A [`Fault`].
        pub fault: u32 = 0,
        /// How many times; 0 takes the fault away.
        pub count: u32 = 4,
        /// Let this many candidates pass first.
        pub skip: u64 = 8,
        /// What the fault defines.
        pub value: u64 = 16,
        /// Only commands of this opcode; 0 for all.
        pub opcode: u32 = 24,
        /// Zero.
        pub reserved: u32 = 28,
        /// Only commands of this context; 0 for all.
        pub context: u64 = 32,
        /// Zero.
        pub reserved1: u64 = 40,
    }
}

/// The card may read the memory.
pub const ACCESS_READ: u32 = 1 << 0;
/// The card may write the memory.
pub const ACCESS_WRITE: u32 = 1 << 1;

/// Most [`HostPiece`]s of one message.
pub const MAX_PIECES: usize =
    (MAX_MESSAGE - core::mem::size_of::<RpcHeader>() - core::mem::size_of::<HostMap>())
        / core::mem::size_of::<HostPiece>();
/// Most [`Process`]es of one message.
pub const MAX_PROCESSES: usize =
    (MAX_MESSAGE - core::mem::size_of::<RpcHeader>() - core::mem::size_of::<ProcessList>())
        / core::mem::size_of::<Process>();

/// Most [`Segment`]s of one message.
pub const MAX_SEGMENTS: usize =
    (MAX_MESSAGE - core::mem::size_of::<RpcHeader>() - core::mem::size_of::<SegmentList>())
        / core::mem::size_of::<Segment>();

/// Where the bytes of a [`Segment`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SegmentKind {
    /// Device memory of the context.
    Device = 1,
    /// Host memory.
    Host = 2,
    /// Device memory of another context.
    Peer = 3,
}

impl SegmentKind {
    /// The kind that a raw number names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Device,
            2 => Self::Host,
            3 => Self::Peer,
            _ => return None,
        })
    }
}

/// Bits of [`Info::features`].
pub mod feature {
    /// [`super::Function::Inject`] is allowed.
    pub const INJECT: u64 = 1 << 0;
    /// Before a queue falls asleep the card passes a barrier over all threads of this machine that are registered for it
    /// (`MEMBARRIER_CMD_GLOBAL_EXPEDITED`): a producer on the same kernel needs no fence between doorbell and `asleep`. Means nothing to
    /// producers inside a virtual machine.
    pub const BARRIER: u64 = 1 << 1;
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Function {
    /// The chip: no command body; [`Info`].
    Info = 1,
    /// [`ContextCreate`]; [`ContextCreated`].
    ContextCreate = 2,
    /// Ends a context with all that it has: no bodies.
    ContextDestroy = 3,
    /// [`MemoryAlloc`]; [`MemoryAllocated`].
    MemoryAlloc = 4,
    /// [`MemoryFree`]; no response body. Device memory; work in flight on it is cancelled first.
    MemoryFree = 5,
    /// [`HostMap`] and pieces; no response body.
    HostMap = 6,
    /// [`MemoryFree`]; no response body. Once it is answered the card does not touch the memory.
    HostUnmap = 7,
    /// [`QueueCreate`]; [`QueueCreated`].
    QueueCreate = 8,
    /// [`QueueDestroy`]; no response body. Once it is answered the card does not touch ring, status page or arm word.
    QueueDestroy = 9,
    /// [`QueueError`]; a `status::ErrorRecord`.
    QueueError = 10,
    /// [`NotifierPool`]; no response body.
    NotifierPool = 11,
    /// [`EventRing`]; no response body.
    EventRing = 12,
    /// [`TelemetryPage`]; no response body.
    TelemetryPage = 13,
    /// No command body; a `telemetry::Telemetry`, as of now.
    Telemetry = 14,
    /// [`Processes`]; [`ProcessList`] and entries.
    Processes = 15,
    /// [`Inject`]; no response body.
    Inject = 16,
    /// No command body; [`Info`]-independent self-test of the message path: the response has no body either.
    Ping = 17,
    /// [`GraphImage`]; [`Graph`].
    GraphCreate = 18,
    /// [`Graph`]; no response body. Launches that have begun end.
    GraphDestroy = 19,
    /// [`GraphImage`]; no response body. Launches that begin from here on run the new image, which has as many parameters as the old one.
    GraphUpdate = 20,
    /// [`Timeline`]; [`TimelineToken`]. A queue keeps its token.
    TimelineExport = 21,
    /// [`TimelineToken`]; [`Timeline`]: a handle for `packet::Wait` in this context, on this chip or another of the same server.
    TimelineImport = 22,
    /// [`Timeline`]; no response body.
    TimelineRelease = 23,
    /// [`Timeline`]; [`TimelineState`].
    TimelineRead = 24,
    /// [`MemoryFree`], naming an allocation by its start; [`MemoryToken`]. An allocation keeps its token.
    MemoryExport = 25,
    /// [`MemoryImport`]; no response body. [`Function::MemoryFree`] takes the mapping away again. It dies with the allocation.
    MemoryImport = 26,
    /// [`Peer`]; [`PeerWay`].
    PeerPath = 27,
    /// No command body; [`PortList`] and ports.
    LinkPorts = 28,
    /// [`LinkControl`]; no response body.
    LinkControl = 29,
    /// [`Segments`]; [`SegmentList`] and entries: the address space of a context.
    Segments = 30,
    /// `setting::Configure`; no response body.
    Configure = 40,
    /// `setting::RetiredPages`; `setting::RetiredPageList` and pages.
    RetiredPages = 41,
    /// `setting::EventLog`; `setting::EventList` and entries.
    EventLog = 42,
}

impl Function {
    /// The function that a raw number names, if it names one.
    pub const fn from_raw(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::Info,
            2 => Self::ContextCreate,
            3 => Self::ContextDestroy,
            4 => Self::MemoryAlloc,
            5 => Self::MemoryFree,
            6 => Self::HostMap,
            7 => Self::HostUnmap,
            8 => Self::QueueCreate,
            9 => Self::QueueDestroy,
            10 => Self::QueueError,
            11 => Self::NotifierPool,
            12 => Self::EventRing,
            13 => Self::TelemetryPage,
            14 => Self::Telemetry,
            15 => Self::Processes,
            16 => Self::Inject,
            17 => Self::Ping,
            18 => Self::GraphCreate,
            19 => Self::GraphDestroy,
            20 => Self::GraphUpdate,
            21 => Self::TimelineExport,
            22 => Self::TimelineImport,
            23 => Self::TimelineRelease,
            24 => Self::TimelineRead,
            25 => Self::MemoryExport,
            26 => Self::MemoryImport,
            27 => Self::PeerPath,
            28 => Self::LinkPorts,
            29 => Self::LinkControl,
            30 => Self::Segments,
            40 => Self::Configure,
            41 => Self::RetiredPages,
            42 => Self::EventLog,
            _ => return None,
        })
    }

    /// The interface (`boot::API_VERSION`) with which it came: firmware that offers an older one does not know it. All firmware says what it is.
    pub const fn since(self) -> u32 {
        match self {
            Self::Info => 0,
            Self::Configure | Self::RetiredPages | Self::EventLog => 2,
            _ => 1,
        }
    }
}

/// What [`Function::LinkControl`] does to a link or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LinkAction {
    /// The link goes down.
    Down = 1,
    /// It comes up with all lanes.
    Up = 2,
    /// It runs on `value` lanes.
    Degrade = 3,
    /// `value` packets are sent again.
    Replay = 4,
    /// `value` CRC errors of the 24-bit sum.
    Crc24 = 5,
    /// `value` CRC errors of the 32-bit sum.
    Crc32 = 6,
    /// `value` double-bit errors.
    EccDouble = 7,
    /// `value` corrected errors.
    Corrected = 8,
    /// `value` uncorrected errors.
    Uncorrected = 9,
    /// `value` refused accesses.
    Illegal = 10,
}

impl LinkAction {
    /// The action that a raw number names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Down,
            2 => Self::Up,
            3 => Self::Degrade,
            4 => Self::Replay,
            5 => Self::Crc24,
            6 => Self::Crc32,
            7 => Self::EccDouble,
            8 => Self::Corrected,
            9 => Self::Uncorrected,
            10 => Self::Illegal,
            _ => return None,
        })
    }
}

/// Faults that can be injected, where the server allows it. A fault hits commands that are about to run unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fault {
    /// The command never ends by itself; it does look at its cancel flag. `value`: its time limit in ms, 0 for the watchdog's own.
    Hang = 1,
    /// The operator panics.
    Panic = 2,
    /// The command fails with the `status::Status` of `value`.
    Fail = 3,
    /// An uncorrectable memory error.
    Ecc = 4,
    /// The command starts `value` microseconds late.
    Delay = 5,
    /// An interrupt is not raised.
    DropInterrupt = 6,
    /// The registers of the card read all ones and it stops working, as if it were pulled out, until a function reset.
    AllOnes = 7,
    /// Adds `value` thousandths of a degree (i64) to the chip's temperature target while set.
    Heat = 8,
    /// Correctable memory errors: `value` are counted, once. With `opcode` 1 they are at offset `skip` of device memory.
    EccCorrected = 9,
    /// An uncorrectable memory error that hits no command, once, at offset `value` of device memory.
    EccUncorrected = 10,
    /// The `status::Xid` of `value` is reported, once, as if it had happened.
    Xid = 11,
    /// The next `count` answers to messages break the protocol, as the [`BadAnswer`] of `value` says; with an `opcode` only those of this
    /// function. Answers to `Inject` are spared.
    BadAnswer = 12,
    /// `count` events on vector 0 that break the protocol, at once, as the [`BadEvent`] of `value` says.
    BadEvent = 13,
    /// The next `count` messages, behind `skip` of them, are refused with the status of `value` and not served; with an `opcode` only those
    /// of this function. `Inject` is spared.
    Refuse = 14,
}

/// How an answer to a message is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BadAnswer {
    /// Its length leaves no room for the header.
    Short = 0,
    /// Its length is beyond the largest message.
    Long = 1,
    /// Another version of the protocol.
    Version = 2,
    /// It answers another function.
    Function = 3,
    /// It answers another command.
    Sequence = 4,
    /// It answers another context.
    Context = 5,
    /// A status that does not exist.
    Status = 6,
    /// The body is cut off in the middle.
    Truncated = 7,
    /// There is more behind the body.
    Trailing = 8,
    /// The body is all ones.
    Body = 9,
}

impl BadAnswer {
    /// What a raw value names, if it names anything.
    pub const fn from_raw(value: u64) -> Option<Self> {
        Some(match value {
            0 => Self::Short,
            1 => Self::Long,
            2 => Self::Version,
            3 => Self::Function,
            4 => Self::Sequence,
            5 => Self::Context,
            6 => Self::Status,
            7 => Self::Truncated,
            8 => Self::Trailing,
            9 => Self::Body,
            _ => return None,
        })
    }
}

/// How an event is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BadEvent {
    /// A kind that does not exist.
    Kind = 0,
    /// Of a kind that exists, about an object that does not.
    Object = 1,
    /// With the position of another.
    Sequence = 2,
    /// None, but the ring's head says that there are very many.
    Ahead = 3,
    /// None: only the interrupt.
    Interrupt = 4,
}

impl BadEvent {
    /// What a raw value names, if it names anything.
    pub const fn from_raw(value: u64) -> Option<Self> {
        Some(match value {
            0 => Self::Kind,
            1 => Self::Object,
            2 => Self::Sequence,
            3 => Self::Ahead,
            4 => Self::Interrupt,
            _ => return None,
        })
    }
}

impl Fault {
    /// The fault that a raw number names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Hang,
            2 => Self::Panic,
            3 => Self::Fail,
            4 => Self::Ecc,
            5 => Self::Delay,
            6 => Self::DropInterrupt,
            7 => Self::AllOnes,
            8 => Self::Heat,
            9 => Self::EccCorrected,
            10 => Self::EccUncorrected,
            11 => Self::Xid,
            12 => Self::BadAnswer,
            13 => Self::BadEvent,
            14 => Self::Refuse,
            _ => return None,
        })
    }
}
