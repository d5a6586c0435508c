//! For how long a queue without work is polled.
//!
//! Polling for as long as a wake-up costs is never more than twice as dear as the best that could be done, whatever comes (the ski-rental
//! rule). Where the recent gaps between a queue's commands say that the next command comes soon after, the queue is polled for longer, up to
//! [`PAYS`] times that: the latency that it saves is worth more than the core's time. When others want the core, polling gives way.
//!
//! A queue that was served for long without a pause is polled for a share of that time ([`SHARE`]) in any case: its producer was taken off
//! its core, or looks after something else for a moment, and a kick costs it more than the polling costs the machine.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Shortest and longest window, ns.
pub(super) const MIN_NS: u64 = 20_000;
pub(super) const MAX_NS: u64 = 1_000_000;
/// Up to how many wake-ups' cost a gap is bridged by polling.
const PAYS: u64 = 8;
/// What part of the time for which a queue was served it may be polled, as a divisor.
const SHARE: u64 = 16;
/// Gaps below this are over before any window is, ns.
const SHORT_NS: u64 = MIN_NS / 2;
/// A gap counts as this at most, ns: how much longer it was makes no difference.
const LONG_NS: u64 = 16 * MAX_NS;
/// Cost of a wake-up until one was measured, ns.
const FIRST_WAKE_NS: u64 = 100_000;
/// Most halvings of windows while others want the core.
const MAX_PRESSURE: u32 = 6;
/// Time without disturbance after which windows double again, ns.
const CALM_NS: u64 = 50_000_000;
/// Time between two looks at the clock, ns, that only who was off its core sees.
const PREEMPTED_NS: u64 = 100_000;

/// The gaps between a queue's commands. Only who serves the queue writes it.
#[derive(Default)]
pub struct Gaps {
    /// How long they are of late, ns.
    length: AtomicU64,
    /// Service that no gap was bridged for yet, ns.
    credit: AtomicU64,
}

impl Gaps {
    /// A command came after a gap.
    pub fn saw(&self, ns: u64) {
        if ns < SHORT_NS {
            return;
        }
        let old = self.length.load(Ordering::Relaxed);
        let ns = ns.min(LONG_NS);
        let new = if old == 0 { ns } else { old - old / 4 + ns / 4 };
        self.length.store(new, Ordering::Relaxed);
        let credit = self.credit.load(Ordering::Relaxed);
        self.credit
            .store(credit.saturating_sub(ns * SHARE), Ordering::Relaxed);
    }

    /// The queue was served for so long.
    pub fn served(&self, ns: u64) {
        let credit = self.credit.load(Ordering::Relaxed);
        let credit = credit.saturating_add(ns).min(MAX_NS * SHARE);
        self.credit.store(credit, Ordering::Relaxed);
    }
}

/// What the pool knows of windows.
pub struct Windows {
    /// Cost of a wake-up, ns: from the notification until the worker runs.
    wake_ns: AtomicU64,
    /// How many times windows are halved.
    pressure: AtomicU32,
    /// Wall time at which `pressure` changed, ns.
    changed: AtomicU64,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            wake_ns: AtomicU64::new(FIRST_WAKE_NS),
            pressure: AtomicU32::new(0),
            changed: AtomicU64::new(0),
        }
    }
}

impl Windows {
    /// A worker ran so long after it was woken.
    pub fn woke(&self, ns: u64) {
        let old = self.wake_ns.load(Ordering::Relaxed);
        // The kick that came before it costs about as much.
        let ns = ns.saturating_mul(2).clamp(MIN_NS, MAX_NS);
        self.wake_ns
            .store(old - old / 8 + ns / 8, Ordering::Relaxed);
    }

    /// The poller looked at the clock `passed` ns after the last look, at a wall time. A poller looks all the time: if much has passed,
    /// somebody else had its core.
    pub fn polled(&self, passed: u64, now: u64) {
        let pressure = self.pressure.load(Ordering::Relaxed);
        if passed > PREEMPTED_NS {
            self.pressure
                .store((pressure + 1).min(MAX_PRESSURE), Ordering::Relaxed);
            self.changed.store(now, Ordering::Relaxed);
        } else if pressure > 0 && now.saturating_sub(self.changed.load(Ordering::Relaxed)) > CALM_NS
        {
            self.pressure.store(pressure - 1, Ordering::Relaxed);
            self.changed.store(now, Ordering::Relaxed);
        }
    }

    /// For how long a queue with these gaps is polled, ns.
    pub fn window(&self, gaps: &Gaps) -> u64 {
        let wake = self.wake_ns.load(Ordering::Relaxed);
        let gap = gaps.length.load(Ordering::Relaxed);
        let earned = gaps.credit.load(Ordering::Relaxed) / SHARE;
        let wanted = if gap <= wake * PAYS {
            wake.max(2 * gap)
        } else {
            wake
        };
        (wanted.min(MAX_NS) >> self.pressure.load(Ordering::Relaxed))
            .max(MIN_NS)
            .max(earned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(ns: u64) -> Gaps {
        let gaps = Gaps::default();
        (0..40).for_each(|_| gaps.saw(ns));
        gaps
    }

    #[test]
    fn a_window_is_what_a_wake_up_costs() {
        let windows = Windows::default();
        (0..100).for_each(|_| windows.woke(30_000));
        let window = windows.window(&Gaps::default());
        assert!((55_000..=65_000).contains(&window), "{window}");
        // Commands in a stream say nothing about how long a pause is.
        assert_eq!(windows.window(&gaps(300)), window);
        (0..100).for_each(|_| windows.woke(1));
        assert!(windows.window(&Gaps::default()) < MIN_NS + 100);
        (0..100).for_each(|_| windows.woke(u64::MAX));
        assert!(windows.window(&Gaps::default()) > MAX_NS - 1000);
    }

    #[test]
    fn gaps_that_pay_are_bridged() {
        let windows = Windows::default();
        (0..100).for_each(|_| windows.woke(30_000));
        let plain = windows.window(&Gaps::default());
        for gap in [100_000, 300_000] {
            let window = windows.window(&gaps(gap));
            assert!(window > gap && window <= MAX_NS, "{gap}: {window}");
        }
        for gap in [5_000_000, u64::MAX] {
            assert_eq!(windows.window(&gaps(gap)), plain, "{gap}");
        }
        // A queue changes its ways.
        let changing = gaps(5_000_000);
        (0..20).for_each(|_| changing.saw(100_000));
        assert!(windows.window(&changing) >= 200_000);
    }

    #[test]
    fn a_stream_earns_its_pauses() {
        let windows = Windows::default();
        (0..100).for_each(|_| windows.polled(4_000_000, 1_000_000_000));
        let stream = Gaps::default();
        // Short services are none.
        (0..100).for_each(|_| stream.served(1_000));
        assert_eq!(windows.window(&stream), MIN_NS);
        (0..10_000).for_each(|_| stream.served(1_000));
        let window = windows.window(&stream);
        assert!((600_000..MAX_NS).contains(&window), "{window}");
        stream.served(u64::MAX);
        assert_eq!(windows.window(&stream), MAX_NS);
        // A pause takes what it costs, and one at a time is bridged.
        stream.saw(MAX_NS / 2);
        assert_eq!(windows.window(&stream), MAX_NS / 2);
        stream.saw(u64::MAX);
        assert_eq!(windows.window(&stream), MIN_NS);
    }

    #[test]
    fn polling_gives_way_to_others() {
        let windows = Windows::default();
        let before = windows.window(&gaps(100_000));
        let mut now = 1_000_000_000;
        windows.polled(1000, now);
        assert_eq!(windows.window(&gaps(100_000)), before);
        windows.polled(4_000_000, now);
        assert_eq!(windows.window(&gaps(100_000)), before / 2);
        (0..100).for_each(|_| windows.polled(4_000_000, now));
        assert_eq!(windows.window(&gaps(100_000)), MIN_NS);
        // It comes back when they are gone.
        for _ in 0..MAX_PRESSURE {
            now += CALM_NS + 1;
            windows.polled(1000, now);
        }
        assert_eq!(windows.window(&gaps(100_000)), before);
    }
}
