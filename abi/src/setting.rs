//! Settings of a chip, and what it remembers: see `docs/hardware.md`, section 10.

use super::Wire;

wire! {
    /// Command of `rpc::Function::Configure`.
    pub struct Configure : 16 {
        /// A [`Setting`].
        pub setting: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
        /// What the setting defines.
        pub value: u64 = 8,
    }

    /// Command of `rpc::Function::RetiredPages`.
    pub struct RetiredPages : 8 {
        /// Index of the first wanted entry.
        pub start: u32 = 0,
        /// Zero.
        pub reserved: u32 = 4,
    }

    /// Head of the response of `rpc::Function::RetiredPages`; `count` [`RetiredPage`]s follow.
    pub struct RetiredPageList : 8 {
        /// Entries that follow.
        pub count: u32 = 0,
        /// Pages in all.
        pub total: u32 = 4,
    }

    /// A page of device memory that is out of use, or will be after the next reset.
    pub struct RetiredPage : 16 {
        /// Offset in device memory, a multiple of [`RETIRED_PAGE`].
        pub offset: u64 = 0,
        /// A [`RetireCause`].
        pub cause: u32 = 8,
        /// 1 while it waits for a reset.
        pub pending: u32 = 12,
    }

    /// Command of `rpc::Function::EventLog`.
    pub struct EventLog : 8 {
        /// Number of the last entry that is known; 0 for none.
        pub after: u64 = 0,
    }

    /// Head of the response of `rpc::Function::EventLog`; `count` [`LogEntry`]s follow, the oldest first.
    pub struct EventList : 16 {
        /// Entries that follow.
        pub count: u32 = 0,
        /// Entries behind `after` that the log does not hold any more.
        pub lost: u32 = 4,
        /// Number of the newest entry of the log.
        pub newest: u64 = 8,
    }

    /// Something that happened to a chip.
    pub struct LogEntry : 64 {
        /// Number of the entry, from 1 on, counted since power-on.
        pub number: u64 = 0,
        /// Wall-clock time of the serving machine, µs since 1970.
        pub time_us: u64 = 8,
        /// An `event::EventKind`: `Xid` or `Link`.
        pub kind: u32 = 16,
        /// Of `Xid` the index of the context, of `Link` the port.
        pub object: u32 = 20,
        /// Of `Xid` a `status::Xid`, of `Link` a `link::PortState`.
        pub value: u64 = 24,
        /// Of `Xid` the process of the context, as the host or the guest numbers it; 0 if there is none.
        pub pid: u32 = 32,
        /// Of `Xid` a `status::Status` code; 0 if no command was at fault.
        pub status: u32 = 36,
        /// Zero.
        pub reserved: [u64; 3] = 40,
    }
}

/// Bytes of memory that are retired together: the granule of allocations.
pub const RETIRED_PAGE: u64 = 64 << 10;
/// Most pages that a chip can retire.
pub const MAX_RETIRED: usize = 512;
/// Correctable errors that wear a page out.
pub const CORRECTED_LIMIT: u32 = 2;
/// Entries that the log holds.
pub const LOG_ENTRIES: usize = 256;

macro_rules! numbered {
    ($( $(#[$meta:meta])* $enum:ident { $( $(#[$m:meta])* $name:ident = $value:literal, )* } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $enum { $( $(#[$m])* $name = $value ),* }

        impl $enum {
            /// What a raw number names, if it names one.
            pub const fn from_raw(value: u32) -> Option<Self> {
                match value { $( $value => Some(Self::$name), )* _ => None }
            }
        }
    )* };
}

numbered! {
    /// What [`Configure`] sets.
    Setting {
        /// The board's power cap, mW; 0 for the model's. Until power-off.
        PowerCap = 1,
        /// A [`ComputeMode`]. Until power-off.
        ComputeMode = 2,
        /// Whether ECC will be on after the next reset: 0 or 1. Kept for good.
        Ecc = 3,
        /// The IPU clock, kHz; 0 unlocks it. Until power-off.
        Clock = 4,
        /// Begins anew, as after a reset: what waits for one takes effect. `value` is 0. Refused with `Busy` while there are contexts.
        Restart = 5,
    }

    /// Who may open contexts on a chip.
    ComputeMode {
        /// Any number of processes.
        Default = 0,
        /// One process at a time.
        Exclusive = 1,
        /// Nobody.
        Prohibited = 2,
    }

    /// Why a page was retired.
    RetireCause {
        /// Several correctable errors.
        Corrected = 0,
        /// An uncorrectable one.
        Uncorrected = 1,
    }
}
