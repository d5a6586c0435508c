//! The ticker: while there is work, it keeps telemetry up to date and sees to it that hung commands do not hold up others.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::{worker, Scheduler};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without work after which the ticker sleeps.
const IDLE_TICKS: u32 = 50;

#[derive(Default)]
pub(super) struct Ticker {
    running: AtomicBool,
    asleep: Mutex<bool>,
    wake: Condvar,
}

impl Ticker {
    /// Work has come.
    pub(super) fn start(&self) {
        if !self.running.load(Ordering::Relaxed) && !self.running.swap(true, Ordering::SeqCst) {
            *self.asleep.lock().unwrap_or_else(|e| e.into_inner()) = false;
            self.wake.notify_one();
        }
    }

    /// Sleeps until work comes; `busy` tells whether it has come just now.
    fn sleep(&self, busy: impl FnOnce() -> bool) {
        *self.asleep.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.running.store(false, Ordering::SeqCst);
        if busy() {
            self.start();
        }
        let mut asleep = self.asleep.lock().unwrap_or_else(|e| e.into_inner());
        while *asleep {
            asleep = self.wake.wait(asleep).unwrap_or_else(|e| e.into_inner());
        }
    }
}

pub(super) fn spawn(pool: &'static Scheduler) {
    let spawned = std::thread::Builder::new()
        .name("mlu-ticker".into())
        .spawn(move || {
            let mut idle = 0;
            loop {
                if idle >= IDLE_TICKS {
                    pool.ticker.sleep(|| pool.safe_tick());
                    idle = 0;
                }
                std::thread::sleep(TICK);
                idle = if pool.safe_tick() { 0 } else { idle + 1 };
            }
        });
    if let Err(error) = spawned {
        tracing::error!("no thread for the ticker: {error}");
    }
}

impl Scheduler {
    /// A tick that survives whatever happens.
    fn safe_tick(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.tick())).unwrap_or_else(|_| {
            tracing::error!("bug: the ticker panicked");
            true
        })
    }

    /// One tick; whether there is work.
    fn tick(&self) -> bool {
        let (cores, active, more) = {
            let mut shared = self.shared();
            let active = self.serving.load(Ordering::SeqCst) > 0
                || !shared.ready.is_empty()
                || !shared.hot.is_empty();
            let all_busy =
                self.parked.load(Ordering::SeqCst) == 0 && !self.polling.load(Ordering::SeqCst);
            // While queues wait there are as many workers that go on as there are cores: one more for each that has been inside one
            // command for a tick. Which of the queues are served is left to shares and priorities.
            let stuck = self.count_stuck(&mut shared);
            self.stuck.store(stuck, Ordering::Relaxed);
            let alive = self.alive.load(Ordering::Relaxed);
            let wanted = all_busy && alive.saturating_sub(stuck) < self.workers;
            let more = if wanted && shared.needs_worker() {
                shared.free.pop()
            } else {
                None
            };
            if more.is_some() {
                self.alive.fetch_add(1, Ordering::Relaxed);
            }
            (
                shared
                    .cores
                    .iter()
                    .filter_map(|c| c.upgrade())
                    .collect::<Vec<_>>(),
                active,
                more,
            )
        };
        if let Some(number) = more {
            worker::spawn(Self::get(), number);
        }
        self.look_after_others();
        // All of them tick.
        let busy = cores.iter().filter(|core| core.tick()).count();
        busy > 0 || active
    }
}

impl Scheduler {
    /// How many workers have been inside one command since the last tick.
    fn count_stuck(&self, shared: &mut super::Shared) -> usize {
        let mut stuck = 0;
        for (beat, seen) in self.beats.iter().zip(&mut shared.seen) {
            let now = beat.load(Ordering::Relaxed);
            stuck += usize::from(now == *seen && now % 2 == 1);
            *seen = now;
        }
        stuck
    }

    /// Whether there are more workers that go on than cores.
    pub(super) fn has_surplus(&self) -> bool {
        let alive = self.alive.load(Ordering::Relaxed);
        alive.saturating_sub(self.stuck.load(Ordering::Relaxed)) > self.workers
    }
}

impl super::Shared {
    /// Whether queues have work that nobody looks at.
    fn needs_worker(&self) -> bool {
        !self.ready.is_empty()
            || self
                .hot
                .iter()
                .any(|q| q.state() == crate::queue::State::Hot && q.has_work())
    }
}
