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
        /// Correctable memory errors since the board was made.
        pub ecc_corrected_total: u64 = 280,
        /// Uncorrectable memory errors since the board was made.
        pub ecc_uncorrected_total: u64 = 288,
        /// What copies moved from the host over the last second, MB/s.
        pub from_host_rate: Decaying = 296,
        /// What copies moved to the host over the last second, MB/s.
        pub to_host_rate: Decaying = 312,
        /// What is wrong with the chip: bits of [`incident`]. `healthy` is 0 while any of [`incident::FATAL`] is set.
        pub incidents: u32 = 328,
        /// What holds the clock down: bits of [`throttle`].
        pub throttle: u32 = 332,
        /// How often the chip got so hot that its clock was lowered, since power-on.
        pub slowdowns: u32 = 336,
        /// How often it got so hot that it stopped, since power-on.
        pub shutdowns: u32 = 340,
        /// Wall time for which the power cap held the clock down, ns, since power-on.
        pub power_capped_ns: u64 = 344,
        /// Wall time for which heat did, ns, since power-on.
        pub heat_slowed_ns: u64 = 352,
        /// 1 if ECC is on.
        pub ecc_mode: u8 = 360,
        /// 1 if it will be after the next reset.
        pub ecc_pending: u8 = 361,
        /// A `setting::ComputeMode`.
        pub compute_mode: u8 = 362,
        /// 1 while the clock is locked by a setting.
        pub clock_locked: u8 = 363,
        /// Of the retired pages, those that correctable errors wore out.
        pub retired_corrected: u32 = 364,
        /// Pages that the next reset retires.
        pub retired_pending: u32 = 368,
        /// Resets since power-on.
        pub resets: u32 = 372,
        /// Events in the log since power-on, see `rpc::Function::EventLog`.
        pub events: u64 = 376,
    }
}

/// Version of [`Telemetry`].
pub const VERSION: u32 = 2;

/// Bits of [`Telemetry::incidents`].
pub mod incident {
    /// An uncorrectable memory error since the reset.
    pub const MEMORY_UNCORRECTED: u32 = 1 << 0;
    /// Correctable memory errors since the reset.
    pub const MEMORY_CORRECTED: u32 = 1 << 1;
    /// Pages wait for a reset to be retired.
    pub const RETIREMENT_PENDING: u32 = 1 << 2;
    /// The chip is so hot that its clock is lowered.
    pub const HOT: u32 = 1 << 3;
    /// It was so hot that it stopped what ran; a reset, once it is cool, clears this.
    pub const OVERHEATED: u32 = 1 << 4;
    /// The watchdog stopped a command, or an operator failed inside the card, since the reset.
    pub const HALTED: u32 = 1 << 5;
    /// An MLU-Link with a cable does not run.
    pub const LINK_DOWN: u32 = 1 << 6;
    /// An MLU-Link runs on fewer lanes than it has.
    pub const LINK_DEGRADED: u32 = 1 << 7;

    /// Those with which a chip is not healthy; the others are warnings.
    pub const FATAL: u32 = MEMORY_UNCORRECTED | OVERHEATED;
}

/// Bits of [`Telemetry::throttle`].
pub mod throttle {
    /// The power cap.
    pub const POWER_CAP: u32 = 1 << 0;
    /// Heat.
    pub const HEAT: u32 = 1 << 1;
    /// A setting.
    pub const LOCKED: u32 = 1 << 2;
}

impl Decaying {
    /// The value `elapsed_ns` after the structure was written, in thousandths of the unit; off by a few millionths of the distance to the
    /// target.
    pub fn after(&self, elapsed_ns: u64) -> i32 {
        let left = i64::from(self.value_milli) - i64::from(self.target_milli);
        // 33 bits and 30.
        let left = (left * i64::from(remaining(elapsed_ns, self.tau_ms))) >> FRACTION;
        // Between value and target, so it fits.
        (i64::from(self.target_milli) + left) as i32
    }

    /// The integral of the value over the first `elapsed_ns`: of milliwatts, microjoules.
    fn integral(&self, elapsed_ns: u64) -> i64 {
        let (value, target) = (i64::from(self.value_milli), i64::from(self.target_milli));
        let elapsed_us = i64::try_from(elapsed_ns / 1000).unwrap_or(i64::MAX);
        let gone = (1 << FRACTION) - i64::from(remaining(elapsed_ns, self.tau_ms));
        let straight = target.saturating_mul(elapsed_us) / 1000;
        let way = (value - target).saturating_mul(i64::from(self.tau_ms));
        straight.saturating_add(way.saturating_mul(gone) >> FRACTION)
    }
}

/// Bits behind the point of [`remaining`].
const FRACTION: u32 = 30;

/// What is left of a distance after a time: `exp(-elapsed / tau)` in 64-bit integers, since a kernel has no other numbers.
fn remaining(elapsed_ns: u64, tau_ms: u32) -> u32 {
    const ONE: u64 = 1 << FRACTION;
    /// log2(e), with 28 bits behind the point.
    const LOG2_E: u64 = 387_270_501;
    /// Coefficients of `1 - 2^-f` for `f` from 0 to 1: ln(2)^n / n!.
    const POWERS: [u64; 7] = [
        744_261_118,
        257_941_248,
        59_597_068,
        10_327_389,
        1_431_680,
        165_394,
        16_377,
    ];
    let tau_ns = u64::from(tau_ms) * 1_000_000;
    if tau_ns == 0 || elapsed_ns / tau_ns >= u64::from(FRACTION) * 7 / 10 {
        return 0;
    }
    // Few enough bits that a time constant with the fraction behind it fits.
    let spare = (u64::BITS - tau_ns.leading_zeros()).saturating_sub(u64::BITS - 1 - FRACTION);
    let part = ((elapsed_ns % tau_ns) >> spare << FRACTION) / (tau_ns >> spare);
    let halvings = ((((elapsed_ns / tau_ns) << FRACTION) + part) * LOG2_E) >> 28;
    let (whole, f) = (halvings >> FRACTION, halvings & (ONE - 1));
    // f (a - f (b - f (c - …))).
    let sum = POWERS
        .iter()
        .rev()
        .fold(0, |sum, power| (f * (power - sum)) >> FRACTION);
    ((ONE - sum) >> whole) as u32
}

impl Telemetry {
    /// What the structure says at a later time of the same clock as [`Self::updated_ns`], if nothing has happened since it was written:
    /// quantities move on, and the counters of time and energy with them.
    pub fn at(&self, now_ns: u64) -> Self {
        let elapsed = now_ns.saturating_sub(self.updated_ns);
        let mut now = *self;
        for quantity in [
            &mut now.utilisation,
            &mut now.power,
            &mut now.temp_board,
            &mut now.temp_chip,
            &mut now.temp_memory,
            &mut now.from_host_rate,
            &mut now.to_host_rate,
        ] {
            quantity.value_milli = quantity.after(elapsed);
        }
        let energy = self.power.integral(elapsed).max(0) as u64;
        now.energy_uj = self.energy_uj.saturating_add(energy);
        if self.busy != 0 {
            now.busy_ns = self.busy_ns.saturating_add(elapsed);
        } else {
            now.device_ns = self.device_ns.saturating_add(elapsed);
        }
        now.updated_ns = self.updated_ns.max(now_ns);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_follow_the_exponential() {
        let quantity = |value_milli, target_milli, tau_ms| Decaying {
            value_milli,
            target_milli,
            tau_ms,
            reserved: 0,
        };
        for (value, target, tau) in [
            (0, 100_000, 500),
            (85_000, 35_000, 20_000),
            (-5000, i32::MAX, 7),
        ] {
            let quantity = quantity(value, target, tau);
            for elapsed in (0..4000).map(|n| n * n * 7919) {
                let exact = |t: f64| {
                    f64::from(target)
                        + (f64::from(value) - f64::from(target))
                            * (-t / (f64::from(tau) * 1e6)).exp()
                };
                let way = (f64::from(value) - f64::from(target)).abs();
                let got = f64::from(quantity.after(elapsed));
                assert!(
                    (got - exact(elapsed as f64)).abs() <= 1.0 + way * 4e-6,
                    "{quantity:?} {elapsed}: {got}"
                );
            }
        }
        assert_eq!(quantity(7, 9, 0).after(1), 9);
        assert_eq!(quantity(7, 9, 1).after(u64::MAX), 9);
    }

    #[test]
    fn accumulators_move_on() {
        let power = Decaying {
            value_milli: 20_000,
            target_milli: 120_000,
            tau_ms: 1000,
            reserved: 0,
        };
        let mut telemetry = Telemetry {
            updated_ns: 5,
            busy_ns: 10,
            device_ns: 11,
            energy_uj: 12,
            power,
            ..Telemetry::zeroed()
        };
        let later = telemetry.at(5 + 3_000_000_000);
        // 120 W for 3 s, less 100 W times the part of the time constant that is over.
        let joules = 360.0 - 100.0 * (1.0 - (-3.0f64).exp());
        assert!(
            (later.energy_uj as f64 / 1e6 - joules).abs() < 0.01,
            "{later:?}"
        );
        assert_eq!((later.busy_ns, later.device_ns), (10, 3_000_000_011));
        telemetry.busy = 1;
        assert_eq!(telemetry.at(6).busy_ns, 11);
        assert_eq!(telemetry.at(0).updated_ns, 5);
    }
}
