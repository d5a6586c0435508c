//! Events and interrupts: one ring a vector in host memory. See `docs/hardware.md`, section 9.

use super::Wire;

wire! {
    /// One entry of an event ring.
    pub struct Event : 32 {
        /// An [`EventKind`].
        pub kind: u32 = 0,
        /// Context or queue index that the kind names; otherwise 0.
        pub object: u32 = 4,
        /// What the kind says.
        pub value: u64 = 8,
        /// Position of the entry since the ring was set, plus one: tells a fresh entry from an old one.
        pub sequence: u64 = 16,
        /// Zero.
        pub reserved: u64 = 24,
    }

    /// Head of an event ring; the entries follow at [`RING_ENTRIES`].
    pub struct RingHeader : 128 {
        /// Card: entries written since the ring was set.
        pub produced: u64 = 0,
        /// Card: entries lost because the ring was full. The driver then looks at every queue.
        pub lost: u64 = 8,
        /// Zero.
        pub reserved0: [u64; 6] = 16,
        /// Driver: entries taken since the ring was set.
        pub consumed: u64 = 64,
        /// Driver: an interrupt is wanted once the entry with this position is written; see [`needs_interrupt`].
        pub event_index: u64 = 72,
        /// Zero.
        pub reserved1: [u64; 6] = 80,
    }
}

/// Offset of the entries in an event ring.
pub const RING_ENTRIES: usize = 128;
/// Fewest entries of a ring; their number is a power of two.
pub const MIN_ENTRIES: u32 = 16;
/// Most entries of a ring.
pub const MAX_ENTRIES: u32 = 4096;

/// What an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A queue's timeline has reached the value of its arm word. `object`: queue index; `value`: timeline.
    Timeline = 1,
    /// A queue went into error. `object`: queue index; `value`: `status::Status` code.
    QueueError = 2,
    /// A context was stopped. `object`: context index; `value`: `status::Status` code.
    ContextStopped = 3,
    /// RPC responses are there. `value`: responses written since boot.
    Rpc = 4,
    /// A command failed. `object`: context index; `value`: an xid, see `status::Xid`. On vector 0.
    Xid = 5,
    /// A port's state changed. `object`: port; `value`: a `link::PortState`. On vector 0.
    Link = 6,
    /// The card has failed; everything that was on it is over. Told by the driver, not by the card.
    CardLost = 7,
    /// It was reset and works again. Told by the driver.
    CardBack = 8,
}

impl EventKind {
    /// The kind that a raw value names, if it names one.
    pub const fn from_raw(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Timeline),
            2 => Some(Self::QueueError),
            3 => Some(Self::ContextStopped),
            4 => Some(Self::Rpc),
            5 => Some(Self::Xid),
            6 => Some(Self::Link),
            7 => Some(Self::CardLost),
            8 => Some(Self::CardBack),
            _ => None,
        }
    }
}

/// Whether an interrupt is due after `produced` moved from `old` to `new` while the driver asked for one at `event_index` (the rule of
/// virtio's event index: Virtual I/O Device 1.2, section 2.7.7).
pub const fn needs_interrupt(event_index: u64, old: u64, new: u64) -> bool {
    new.wrapping_sub(event_index).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::needs_interrupt;

    #[test]
    fn interrupt_only_when_the_index_is_passed() {
        assert!(needs_interrupt(0, 0, 1));
        assert!(!needs_interrupt(1, 0, 1));
        assert!(needs_interrupt(1, 0, 2));
        assert!(!needs_interrupt(0, 1, 2));
        assert!(needs_interrupt(u64::MAX, u64::MAX, 0));
    }
}
