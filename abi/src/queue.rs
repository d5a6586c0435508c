//! A queue: its ring, doorbell and status page. See `docs/hardware.md`, section 6, for the protocol and its memory ordering.

/// Bytes of a ring unit; every packet is a whole number of them.
pub const UNIT: usize = 64;
/// Most units of one packet.
pub const MAX_PACKET_UNITS: usize = 64;
/// Fewest units of a ring.
pub const MIN_RING_UNITS: u32 = 128;
/// Most units of a ring (4 MiB).
pub const MAX_RING_UNITS: u32 = 65536;

/// Offset in the status page: units consumed since the queue was made, u64.
pub const STATUS_CONSUMED: usize = 0;
/// Offset in the status page: the timeline, u64: packets completed since the queue was made.
pub const STATUS_TIMELINE: usize = 64;
/// Offset in the status page: the queue's error, u32: a `status::Status` code, 0 while all is well.
pub const STATUS_ERROR: usize = 128;
/// Offset in the status page: asleep, u32: not 0 while the card does not look at the doorbell.
pub const STATUS_ASLEEP: usize = 192;
/// Bytes of a status page.
pub const STATUS_SIZE: usize = 4096;

/// Flag of `QueueCreate`: a **host timeline**. It has no ring (`ring`, `ring_units` are 0): its doorbell is its timeline, so that whoever
/// writes the doorbell advances it, to any greater value, and queues of the card wait for it like for any other.
pub const FLAG_HOST_TIMELINE: u64 = 1 << 0;
/// Set in the handle of a timeline that was imported; see `rpc::Function::TimelineImport`.
pub const IMPORTED: u64 = 1 << 63;
/// Most timelines that a context has imported at a time.
pub const MAX_IMPORTS: usize = 4096;

/// Value of an arm word on which nobody waits.
pub const ARM_NONE: u64 = u64::MAX;

/// Lowest scheduling priority.
pub const PRIORITY_LOW: u32 = 0;
/// Highest scheduling priority.
pub const PRIORITY_HIGH: u32 = 7;
/// Priority of a queue for which none was asked.
pub const PRIORITY_DEFAULT: u32 = 3;
