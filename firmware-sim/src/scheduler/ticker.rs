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
/// Most workers, temporary ones included.
const MAX_WORKERS: usize = 256;

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
        let (cores, active, stuck) = {
            let mut shared = self.shared();
            let active = self.serving.load(Ordering::SeqCst) > 0
                || !shared.ready.is_empty()
                || !shared.hot.is_empty();
            let all_busy =
                self.parked.load(Ordering::SeqCst) == 0 && !self.polling.load(Ordering::SeqCst);
            // Every worker has been inside a command for a tick while queues wait: let one more worker run.
            let stuck = all_busy && shared.alive < MAX_WORKERS && shared.needs_worker();
            if stuck {
                shared.alive += 1;
            }
            (
                shared
                    .cores
                    .iter()
                    .filter_map(|c| c.upgrade())
                    .collect::<Vec<_>>(),
                active,
                stuck,
            )
        };
        if stuck {
            worker::spawn(Self::get(), None);
        }
        self.look_after_others();
        // All of them tick.
        let busy = cores.iter().filter(|core| core.tick()).count();
        busy > 0 || active
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
