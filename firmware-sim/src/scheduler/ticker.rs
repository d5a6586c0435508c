//! The ticker: while there is work, it keeps telemetry up to date and sees to it that hung commands do not hold up others.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{worker, Scheduler};
use crate::queue::{Queue, State};

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
        let waits = self.shared().waiting_level();
        let allowed = self.allowed_workers(waits);
        self.allowed.store(allowed, Ordering::Relaxed);
        let (cores, active, more) = {
            let mut shared = self.shared();
            let active = self.serving.load(Ordering::SeqCst) > 0
                || !shared.ready.is_empty()
                || !shared.hot.is_empty();
            let all_busy =
                self.parked.load(Ordering::SeqCst) == 0 && !self.polling.load(Ordering::SeqCst);
            // Which of the queues are served is left to shares and priorities.
            let wanted = if all_busy && waits.is_some() {
                allowed.saturating_sub(self.alive.load(Ordering::Relaxed))
            } else {
                0
            };
            let left = shared.free.len().saturating_sub(wanted);
            let more = shared.free.split_off(left);
            self.alive.fetch_add(more.len(), Ordering::Relaxed);
            if let Some(highest) = more.iter().max() {
                self.numbers.fetch_max(highest + 1, Ordering::Relaxed);
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
        for number in more {
            worker::spawn(Self::get(), number);
        }
        self.look_after_others();
        // All of them tick.
        let busy = cores.iter().filter(|core| core.tick()).count();
        busy > 0 || active
    }
}

impl super::Shared {
    /// The highest priority of queues that have work that nobody looks at.
    fn waiting_level(&self) -> Option<usize> {
        let is_hot = |q: &&Arc<Queue>| q.state() == State::Hot && q.has_work();
        let hot = self.hot.iter().filter(is_hot).map(|q| q.share.level());
        hot.chain(self.ready.top().map(|(level, _)| level)).max()
    }
}
