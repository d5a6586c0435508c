//! The local transport: messages between a process and a device server over a Unix socket. See `docs/hardware.md`, section 15.
//!
//! The socket is of type SOCK_SEQPACKET, so a message is one packet: a [`LocalHeader`] and the body that its operation defines. Each
//! request has one reply, in order. Replies may carry file descriptors; requests never do.

use super::ioctl::DeviceInfo;
use super::Wire;

/// Version that [`LocalHeader::version`] carries.
pub const VERSION: u16 = 1;
/// Most bytes of a message, header included.
pub const MAX_MESSAGE: usize = super::rpc::MAX_MESSAGE;
/// Most file descriptors of a reply.
pub const MAX_FDS: usize = 2;

wire! {
    /// Head of every message.
    pub struct LocalHeader : 24 {
        /// [`VERSION`].
        pub version: u16 = 0,
        /// An [`Operation`]; a reply repeats it.
        pub operation: u16 = 2,
        /// Bytes of the message, header included.
        pub length: u32 = 4,
        /// Number of the request, chosen by the sender and repeated in the reply.
        pub sequence: u64 = 8,
        /// Reply: a `status::Status` code; the body of a refusal is a sentence in UTF-8, or nothing. Request: zero.
        pub status: u32 = 16,
        /// Zero.
        pub reserved: u32 = 20,
    }

    /// Request of [`Operation::Info`], [`Operation::Telemetry`] and [`Operation::Open`].
    pub struct Device : 8 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Reply to [`Operation::Devices`].
    pub struct Devices : 8 {
        /// Chips of the server, numbered from 0.
        pub count: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Request of [`Operation::Processes`].
    pub struct ProcessesOf : 8 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Index of the first wanted entry.
        pub start: u32 = 4,
    }

    /// Request of [`Operation::Inject`].
    pub struct InjectInto : 56 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// The fault.
        pub inject: super::rpc::Inject = 8,
    }

    /// Request of [`Operation::LinkControl`].
    pub struct LinkControlOf : 40 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// What is to happen.
        pub control: super::rpc::LinkControl = 8,
    }

    /// Request of [`Operation::Configure`].
    pub struct ConfigureOf : 24 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// What is to be set.
        pub configure: super::setting::Configure = 8,
    }

    /// Request of [`Operation::RetiredPages`].
    pub struct PagesOf : 8 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Index of the first wanted entry.
        pub start: u32 = 4,
    }

    /// Request of [`Operation::EventLog`].
    pub struct EventLogOf : 16 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// Number of the last entry that is known; 0 for none.
        pub after: u64 = 8,
    }

    /// Request of [`Operation::PeerPath`].
    pub struct PeerOf : 24 {
        /// Number of the chip.
        pub device: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// The other chip.
        pub peer: super::rpc::Peer = 8,
    }

    /// Reply to [`Operation::Open`]. Two descriptors come with it: an eventfd, to which the process writes to kick the context, and a
    /// stream socket, the bell, which becomes readable when a queue of the context reaches its arm word or fails. Its end says that the
    /// context is gone.
    pub struct Opened : 344 {
        /// Handle of the context.
        pub context: u64 = 0,
        /// What the chip is.
        pub info: DeviceInfo = 8,
    }

    /// Request of [`Operation::HostAlloc`]. The reply has no body and one descriptor: a sealed memory file of `length` bytes.
    pub struct HostAlloc : 24 {
        /// Device virtual address at which the memory appears, a multiple of the page.
        pub va: u64 = 0,
        /// Bytes, a multiple of the page.
        pub length: u64 = 8,
        /// `rpc::ACCESS_READ` and `rpc::ACCESS_WRITE`: what the card may do.
        pub access: u32 = 16,
        /// Zero.
        pub flags: u32 = 20,
    }

    /// Request of [`Operation::QueueCreate`].
    pub struct QueueCreate : 16 {
        /// Units of the ring, a power of two.
        pub ring_units: u32 = 0,
        /// Scheduling priority, `queue::PRIORITY_LOW` to `queue::PRIORITY_HIGH`.
        pub priority: u32 = 4,
        /// Share within the priority, 1 to 1024.
        pub weight: u32 = 8,
        /// `queue::FLAG_*`; unknown bits are refused.
        pub flags: u32 = 12,
    }

    /// Reply to [`Operation::QueueCreate`]. One descriptor comes with it: a sealed memory file with all of the queue's memory, at these
    /// offsets, which are multiples of the page (but for the doorbell's, of 8).
    pub struct QueueCreated : 48 {
        /// Handle of the queue.
        pub queue: u64 = 0,
        /// Bytes of the file.
        pub length: u64 = 8,
        /// Offset of the status page.
        pub status: u64 = 16,
        /// Offset of the arm word, u64. It is the process's to write; see `docs/hardware.md`, section 6.
        pub arm: u64 = 24,
        /// Offset of the doorbell word, u64.
        pub doorbell: u64 = 32,
        /// Offset of the ring.
        pub ring: u64 = 40,
    }
}

macro_rules! operations {
    ($( $(#[$m:meta])* $name:ident = $value:literal, )*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Operation { $( $(#[$m])* $name = $value ),* }

        impl Operation {
            /// All operations.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),* ];

            /// The operation that a raw number names, if it names one.
            pub const fn from_raw(value: u16) -> Option<Self> {
                match value { $( $value => Some(Self::$name), )* _ => None }
            }
        }
    };
}

operations! {
    /// No request body; [`Devices`].
    Devices = 1,
    /// [`Device`]; a `DeviceInfo`.
    Info = 2,
    /// [`Device`]; a `telemetry::Telemetry`.
    Telemetry = 3,
    /// [`ProcessesOf`]; `rpc::ProcessList` and entries.
    Processes = 4,
    /// [`InjectInto`]; no reply body. Allowed to root and to the user who runs the server, where faults may be injected at all.
    Inject = 5,
    /// [`Device`]; `rpc::PortList` and ports.
    LinkPorts = 6,
    /// [`LinkControlOf`]; no reply body. Allowed like [`Operation::Inject`].
    LinkControl = 7,
    /// [`PeerOf`]; `rpc::PeerWay`.
    PeerPath = 8,
    /// [`ConfigureOf`]; no reply body. Allowed to root and to the user who runs the server.
    Configure = 9,
    /// [`PagesOf`]; `setting::RetiredPageList` and pages.
    RetiredPages = 10,
    /// [`EventLogOf`]; `setting::EventList` and entries.
    EventLog = 11,
    /// [`Device`]; no reply body, one descriptor: a memory file that can only be read, with the chip's telemetry page.
    TelemetryPage = 12,
    /// No bodies, one descriptor: a stream socket with an `ioctl::EventRecord` for each xid and link that a chip reports from now on. What a
    /// process does not read in time is left out; the chips' logs have it.
    Subscribe = 13,
    /// [`Device`]; [`Opened`] and two descriptors. Makes a context, which ends with the connection or the process that opened it. A
    /// connection has one context at most; the operations below need it.
    Open = 16,
    /// Ends the context with all that it has: no bodies. Once it is answered everything is back.
    Close = 17,
    /// `rpc::MemoryAlloc`; no reply body.
    MemoryAlloc = 18,
    /// `rpc::MemoryFree`; no reply body.
    MemoryFree = 19,
    /// [`HostAlloc`]; no reply body, one descriptor.
    HostAlloc = 20,
    /// `rpc::MemoryFree`; no reply body.
    HostFree = 21,
    /// `rpc::NotifierPool`; no reply body.
    NotifierPool = 22,
    /// [`QueueCreate`]; [`QueueCreated`] and one descriptor.
    QueueCreate = 23,
    /// `rpc::QueueDestroy`; no reply body.
    QueueDestroy = 24,
    /// `rpc::QueueError`; a `status::ErrorRecord`.
    QueueError = 25,
    /// `rpc::GraphImage`; `rpc::Graph`.
    GraphCreate = 26,
    /// `rpc::Graph`; no reply body.
    GraphDestroy = 27,
    /// `rpc::GraphImage`; no reply body.
    GraphUpdate = 28,
    /// `rpc::Timeline`; `rpc::TimelineToken`.
    TimelineExport = 29,
    /// `rpc::TimelineToken`; `rpc::Timeline`.
    TimelineImport = 30,
    /// `rpc::Timeline`; no reply body.
    TimelineRelease = 31,
    /// `rpc::Timeline`; `rpc::TimelineState`.
    TimelineRead = 32,
    /// `rpc::MemoryFree`; `rpc::MemoryToken`.
    MemoryExport = 33,
    /// `rpc::MemoryImport`; no reply body.
    MemoryImport = 34,
}
