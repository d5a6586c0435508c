//! Time: the host's clock, and the chip's own.
//!
//! The device clock runs with the host's while the chip is idle, and by the model's cost of what runs while it is busy. So the device
//! time between two points of a queue that is never idle is the same on every host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use rustix::time::{clock_gettime, ClockId};
use vmlu_abi::model::CardModel;

use crate::kernels::env::{RateClass, Work};

/// CLOCK_MONOTONIC, ns.
pub fn wall_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// A chip's device clock.
pub struct DeviceClock {
    /// Idle time and commands' time together; without the lock, since commands of all queues add to it.
    device_ns: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Wall time up to which idle time is accounted for.
    wall_ns: u64,
    /// Queues that are being served.
    busy: u32,
}

impl State {
    /// Idle time until a wall time that is not accounted for yet.
    fn follow(&mut self, wall: u64) -> u64 {
        let idle = wall.saturating_sub(self.wall_ns);
        self.wall_ns = self.wall_ns.max(wall);
        idle
    }
}

impl DeviceClock {
    /// A clock that starts at zero.
    pub fn new() -> Self {
        Self {
            device_ns: AtomicU64::new(0),
            state: Mutex::new(State {
                wall_ns: wall_ns(),
                busy: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The time now, ns.
    pub fn now(&self) -> u64 {
        let mut state = self.state();
        if state.busy == 0 {
            self.add(state.follow(wall_ns()));
        }
        self.device_ns.load(Ordering::Relaxed)
    }

    fn add(&self, ns: u64) {
        self.device_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// A queue begins to be served at a wall time: the clock stops following the host.
    pub fn begin(&self, wall: u64) {
        let mut state = self.state();
        if state.busy == 0 {
            self.add(state.follow(wall));
        }
        state.busy += 1;
    }

    /// A queue is no longer served since a wall time.
    pub fn end(&self, wall: u64) {
        let mut state = self.state();
        state.busy = state.busy.saturating_sub(1);
        if state.busy == 0 {
            state.wall_ns = wall;
        }
    }

    /// A command took `cost` ns.
    pub fn advance(&self, cost: u64) {
        self.add(cost);
    }
}

impl Default for DeviceClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Device time of a command, ns: the model's roofline (the longer of arithmetic at peak rate and memory traffic at peak bandwidth) after
/// a constant launch time.
pub fn cost_ns(model: &CardModel, work: &Work) -> u64 {
    let rate = match work.class {
        RateClass::F32 => model.rates.f32,
        RateClass::F16 => model.rates.f16,
        RateClass::I16 => model.rates.i16,
        RateClass::I8 => model.rates.i8,
    };
    let bytes = work.read.saturating_add(work.written);
    model
        .launch_ns
        .saturating_add(over(work.operations, rate).max(over(bytes, model.memory_bandwidth)))
}

/// Device time of a transfer over PCIe, ns.
pub fn transfer_ns(model: &CardModel, bytes: u64) -> u64 {
    model
        .launch_ns
        .saturating_add(over(bytes, model.pcie_bandwidth))
}

/// Time for an amount at a rate a second, ns.
fn over(amount: u64, rate: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let rate = rate.max(1);
    // Division of 128 bits is slow, and small amounts are many.
    match amount.checked_mul(SECOND) {
        Some(product) => product / rate,
        None => u64::try_from(u128::from(amount) * u128::from(SECOND) / u128::from(rate))
            .unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_abi::model::MLU370_X8;

    #[test]
    fn busy_time_is_the_model_s() {
        let clock = DeviceClock::new();
        clock.begin(wall_ns());
        let start = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        clock.advance(500);
        assert_eq!(clock.now(), start + 500);
        clock.end(wall_ns());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(clock.now() >= start + 500 + 2_000_000);
    }

    #[test]
    fn a_large_matmul_runs_at_the_peak_rate() {
        let n = 8192_u64;
        let work = Work {
            operations: 2 * n * n * n,
            class: RateClass::I8,
            read: 2 * n * n,
            written: 4 * n * n,
        };
        let rate = work.operations as f64 / cost_ns(&MLU370_X8, &work) as f64 * 1e9;
        assert!(
            (rate / MLU370_X8.rates.i8 as f64 - 1.0).abs() < 0.01,
            "{rate}"
        );
    }
}
