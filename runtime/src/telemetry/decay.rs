//! Quantities that move by themselves.

use vmlu_abi::telemetry::Decaying;

/// The value of a quantity at `now_ns`, in its unit, when the card wrote it at `updated_ns` of the same clock. A time before the update
/// counts as the update. See `docs/hardware.md`, section 10.
pub fn value_at(quantity: &Decaying, updated_ns: u64, now_ns: u64) -> f64 {
    let value = f64::from(quantity.value_milli);
    let target = f64::from(quantity.target_milli);
    let elapsed_ms = now_ns.saturating_sub(updated_ns) as f64 / 1e6;
    let left = match quantity.tau_ms {
        // Without inertia it is at its target as soon as time passes.
        0 if elapsed_ms > 0.0 => 0.0,
        0 => 1.0,
        tau => (-elapsed_ms / f64::from(tau)).exp(),
    };
    (target + (value - target) * left) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARMING: Decaying = Decaying {
        value_milli: 40_000,
        target_milli: 80_000,
        tau_ms: 45_000,
        reserved: 0,
    };

    #[test]
    fn it_starts_at_the_value_and_ends_at_the_target() {
        assert_eq!(value_at(&WARMING, 1_000, 1_000), 40.0);
        assert_eq!(
            value_at(&WARMING, 1_000, 0),
            40.0,
            "an earlier time is the update"
        );
        let after_tau = value_at(&WARMING, 0, 45_000_000_000);
        assert!(
            (after_tau - (80.0 - 40.0 / std::f64::consts::E)).abs() < 1e-9,
            "{after_tau}"
        );
        assert!((value_at(&WARMING, 0, u64::MAX) - 80.0).abs() < 1e-9);
    }

    #[test]
    fn without_inertia_it_jumps() {
        let jump = Decaying {
            tau_ms: 0,
            ..WARMING
        };
        assert_eq!(value_at(&jump, 5, 5), 40.0);
        assert_eq!(value_at(&jump, 5, 6), 80.0);
    }
}
