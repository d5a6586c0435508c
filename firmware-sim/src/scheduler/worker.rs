//! A worker's life: serve, poll, park.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

use super::Scheduler;
use crate::clock::wall_ns;
use crate::queue::{Queue, State};

/// For how long a queue without work stays hot, ns.
const HOT_NS: u64 = 500_000;

/// Starts a worker; one with an index is pinned to its core, one without ends when it has nothing to do.
pub(super) fn spawn(pool: &'static Scheduler, index: Option<usize>) {
    let name = index.map_or("mlu-extra".to_owned(), |i| format!("mlu-worker-{i}"));
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        // An unpinned worker that wakes is often placed on its waker's busy core.
        if let Some(core) = index.and_then(|i| pool.seats[i].core) {
            let mut one = CpuSet::new();
            one.set(core);
            let _ = sched_setaffinity(None, &one);
        }
        run(pool, index);
    });
    if let Err(error) = spawned {
        tracing::error!("no thread for a worker: {error}");
        pool.shared().alive -= 1;
    }
}

/// The cores that this process may use.
pub(super) fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None);
    allowed.map_or(Vec::new(), |allowed| {
        (0..CpuSet::MAX_CPU)
            .filter(|c| allowed.is_set(*c))
            .collect()
    })
}

fn run(pool: &'static Scheduler, seat: Option<usize>) {
    loop {
        // A queue's panics end in `serve`. What is left are bugs of the scheduler; the worker goes on in any case.
        match catch_unwind(AssertUnwindSafe(|| turn(pool, seat))) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => tracing::error!("bug: the scheduler panicked"),
        }
    }
}

/// One thing to do; `false` if the worker is to end.
fn turn(pool: &'static Scheduler, seat: Option<usize>) -> bool {
    if let Some(queue) = pool.take_ready() {
        pool.serve(&queue);
        return true;
    }
    if pool.help() {
        return true;
    }
    if !pool.polling.swap(true, Ordering::SeqCst) {
        let found = pool.poll();
        pool.polling.store(false, Ordering::SeqCst);
        if let Some(queue) = found {
            // What became ready while this one polled was left to it.
            if pool.has_ready() {
                pool.wake_one(&mut pool.shared());
            }
            pool.serve(&queue);
            return true;
        }
        if pool.has_ready() || pool.has_jobs() {
            return true;
        }
    }
    !pool.park(seat)
}

/// Counts down when a worker is done with a queue, however that ended.
struct Serving<'a>(&'a Scheduler);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scheduler {
    /// Serves a queue that is counted in `serving`.
    fn serve(&self, queue: &Arc<Queue>) {
        let _serving = Serving(self);
        queue.serve();
    }

    /// Polls hot queues until one has work, which is returned `Running` and counted in `serving`, or there is something else to do, or none is
    /// left.
    fn poll(&self) -> Option<Arc<Queue>> {
        let mut version = u64::MAX;
        let mut hot: Vec<Arc<Queue>> = Vec::new();
        let mut spins = 0_u32;
        let mut last_hot = wall_ns();
        loop {
            let current = self.hot_version.load(Ordering::Acquire);
            if current != version {
                let new = {
                    let shared = self.shared();
                    version = self.hot_version.load(Ordering::Acquire);
                    shared.hot.clone()
                };
                // The old list ends here, without the lock: it may hold the last of a queue.
                hot = new;
            }
            if self.has_ready() || self.has_jobs() || hot.is_empty() {
                return None;
            }
            for queue in &hot {
                if queue.has_work() && queue.change(State::Hot, State::Running) {
                    self.serving.fetch_add(1, Ordering::SeqCst);
                    return Some(queue.clone());
                }
            }
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(64) {
                let now = wall_ns();
                if hot.iter().any(|q| q.state() == State::Hot) {
                    last_hot = now;
                    self.cool(&hot, now);
                } else if now.saturating_sub(last_hot) > HOT_NS {
                    // All are being served: their worker polls when it is done.
                    self.cool(&hot, now);
                    return None;
                }
            }
            std::hint::spin_loop();
        }
    }

    /// Lets hot queues without work for long fall asleep.
    fn cool(&self, hot: &[Arc<Queue>], now: u64) {
        for queue in hot {
            if queue.state() == State::Hot && now.saturating_sub(queue.last_work()) > HOT_NS {
                queue.rest();
            }
            // They come back to the list when they are empty again; until then it is nobody's to poll.
            let cold = |queue: &Queue| {
                matches!(queue.state(), State::Asleep | State::Blocked | State::Dead)
            };
            if cold(queue) {
                let mut shared = self.shared();
                // It may have become hot again meanwhile.
                if cold(queue) {
                    shared.hot.retain(|q| !Arc::ptr_eq(q, queue));
                    self.hot_version.fetch_add(1, Ordering::Release);
                }
            }
        }
    }

    /// Sleeps until there is something to do; `true` if a temporary worker, which has no seat, is to end.
    fn park(&self, seat: Option<usize>) -> bool {
        let mut shared = self.shared();
        let poller_missing = !self.polling.load(Ordering::SeqCst)
            && shared.hot.iter().any(|q| q.state() == State::Hot);
        if poller_missing || !shared.ready.is_empty() || shared.jobs.iter().any(|j| j.has_tasks()) {
            drop(shared);
            // Somebody else has what there is; do not hammer the lock.
            std::hint::spin_loop();
            return false;
        }
        let Some(worker) = seat else {
            shared.alive -= 1;
            return true;
        };
        shared.parked.push(worker);
        self.parked.store(shared.parked.len(), Ordering::SeqCst);
        // Whoever wakes a worker takes it out of the list.
        while shared.parked.contains(&worker) {
            shared = self.seats[worker]
                .wake
                .wait(shared)
                .unwrap_or_else(|e| e.into_inner());
        }
        false
    }
}
