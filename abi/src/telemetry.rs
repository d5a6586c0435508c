//! The telemetry page. See `docs/hardware.md`, section 10.
//!
//! The card writes it on events (work begins or ends, memory changes, faults), between two increments of `sequence` (odd while it
//! writes). Quantities that move by themselves (temperatures, mean utilisation, mean power) follow an exponential from their value at
//! `updated_ns` to a target, so a reader knows them at any time without the card doing anything.

use super::Wire;

wire! {
    /// A quantity that approaches a target: `target + (value - target) * exp(-(t - updated_ns) / tau)`.
    pub struct Decaying : 16 {
        /// Value at `updated_ns`, in thousandths of the unit.
        pub value_milli: i32 = 0,
        /// Where it goes, in thousandths of the unit.
        pub target_milli: i32 = 4,
        /// Time constant, ms.
        pub tau_ms: u32 = 8,
        /// Zero.
        pub reserved: u32 = 12,
    }

    /// A chip's live state.
    pub struct Telemetry : 384 {
        /// Seqlock: odd while the card writes.
        pub sequence: u64 = 0,
        /// [`VERSION`].
        pub version: u32 = 8,
        /// Bytes of this structure.
        pub size: u32 = 12,
        /// CLOCK_MONOTONIC of the serving machine at the last write, ns.
        pub updated_ns: u64 = 16,
        /// Device clock at the last write, ns.
        pub device_ns: u64 = 24,
        /// Wall time for which the chip had work until `updated_ns`, ns.
        pub busy_ns: u64 = 32,
        /// 1 while the chip has work.
        pub busy: u32 = 40,
        /// 1 while the chip is healthy.
        pub healthy: u32 = 44,
        /// Share of time with work over the last second, percent.
        pub utilisation: Decaying = 48,
        /// Chip power, W.
        pub power: Decaying = 64,
        /// Board temperature, °C.
        pub temp_board: Decaying = 80,
        /// Chip temperature, °C.
        pub temp_chip: Decaying = 96,
        /// Memory temperature, °C.
        pub temp_memory: Decaying = 112,
        /// Energy since power-on, µJ, at `updated_ns`.
        pub energy_uj: u64 = 128,
        /// Power cap of the board, mW.
        pub power_cap_mw: u32 = 136,
        /// IPU clock, kHz.
        pub clock_khz: u32 = 140,
        /// Memory clock, kHz.
        pub memory_clock_khz: u32 = 144,
        /// Fan, percent; 0 on a passive board.
        pub fan_percent: u32 = 148,
        /// Device memory that programs can allocate, bytes.
        pub memory_total: u64 = 152,
        /// Device memory allocated, bytes.
        pub memory_used: u64 = 160,
        /// Contexts that exist.
        pub contexts: u32 = 168,
        /// Queues that exist.
        pub queues: u32 = 172,
        /// Packets completed.
        pub packets: u64 = 176,
        /// Packets that failed or were cancelled, also by the end of their queue: what was submitted to queues that are idle or gone is in
        /// `packets` or here.
        pub packets_failed: u64 = 184,
        /// Bytes that copies moved from the host.
        pub bytes_from_host: u64 = 192,
        /// Bytes that copies moved to the host.
        pub bytes_to_host: u64 = 200,
        /// Bytes that operators read and wrote in device memory.
        pub bytes_device: u64 = 208,
        /// Operations that operators did.
        pub operations: u64 = 216,
        /// Correctable memory errors.
        pub ecc_corrected: u64 = 224,
        /// Uncorrectable memory errors.
        pub ecc_uncorrected: u64 = 232,
        /// Retired pages.
        pub retired_pages: u64 = 240,
        /// Last xid, see `status::Xid`; 0 if there was none.
        pub xid: u32 = 248,
        /// How many xids there were.
        pub xid_count: u32 = 252,
        /// Kicks since boot.
        pub kicks: u64 = 256,
        /// Interrupts raised since boot.
        pub interrupts: u64 = 264,
        /// RPCs served since boot.
        pub rpcs: u64 = 272,
        /// Zero.
        pub reserved: [u64; 13] = 280,
    }
}

/// Version of [`Telemetry`].
pub const VERSION: u32 = 1;
