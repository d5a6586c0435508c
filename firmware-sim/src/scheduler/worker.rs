//! A worker's life: serve, poll, park.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

use super::window::{MAX_NS, MIN_NS};
use super::{Duty, Scheduler, Shared, NUMBER};
use crate::clock::wall_ns;
use crate::queue::{Queue, State};

/// Looks at doorbells between two looks at the clock: below a microsecond.
const LOOKS: usize = 32;

/// Time between two looks at which queues are to fall asleep, ns: a fraction of the shortest window. It costs as much for each queue as many
/// looks at its doorbell.
const COOL_NS: u64 = MIN_NS / 4;

/// For how long queues without work stay hot while others have some, ns, and up to how many queues there may be for that.
const KEEP_NS: u64 = 16_000_000;
const KEPT: usize = 128;

/// What a worker has for itself.
struct Worker {
    /// `None`: a temporary one.
    seat: Option<usize>,
    duty: Duty,
    /// The hot queues, as they were at a version of the list; it may be none at all.
    hot: Vec<Arc<Queue>>,
    version: u64,
    /// Wall time at which it last looked which of them are to fall asleep, ns.
    cooled: u64,
}

impl Worker {
    /// Keeps nothing of any chip.
    fn let_go(&mut self) {
        self.duty.leave();
        self.hot.clear();
        self.version = u64::MAX;
    }
}

/// Starts a worker; one that has a seat is pinned to its core, one that has none ends when it is not needed.
pub(super) fn spawn(pool: &'static Scheduler, number: usize) {
    let index = (number < pool.workers).then_some(number);
    let name = index.map_or("mlu-extra".to_owned(), |i| format!("mlu-worker-{i}"));
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        // An unpinned worker that wakes is often placed on its waker's busy core.
        if let Some(core) = index.and_then(|i| pool.seats[i].core) {
            let mut one = CpuSet::new();
            one.set(core);
            let _ = sched_setaffinity(None, &one);
        }
        NUMBER.set(number);
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        pool.signs[number].thread.store(thread, Ordering::Relaxed);
        run(pool, index);
    });
    if let Err(error) = spawned {
        tracing::error!("no thread for a worker: {error}");
        pool.ends(&mut pool.shared(), number);
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
    let mut worker = Worker {
        seat,
        duty: Duty::new(),
        hot: Vec::new(),
        version: u64::MAX,
        cooled: 0,
    };
    loop {
        // A queue's panics end in `serve`. What is left are bugs of the scheduler; the worker goes on in any case.
        match catch_unwind(AssertUnwindSafe(|| turn(pool, &mut worker))) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => tracing::error!("bug: the scheduler panicked"),
        }
    }
}

/// One thing to do; `false` if the worker is to end.
fn turn(pool: &'static Scheduler, worker: &mut Worker) -> bool {
    if worker.seat.is_none() && pool.has_surplus() {
        worker.let_go();
        let mut shared = pool.shared();
        pool.ends(&mut shared, NUMBER.get());
        // Somebody who is not inside a command for long looks after what is left; if nobody is, the ticker starts another.
        if !shared.ready.is_empty() {
            pool.wake_one(&mut shared);
        }
        return false;
    }
    if pool.has_urgent_jobs() {
        worker.let_go();
        if pool.help() {
            return true;
        }
    }
    if pool.has_ready() {
        worker.duty.look();
        if let Some(queue) = pool.take_ready(worker.duty.now()) {
            pool.serve(&queue, worker);
            return true;
        }
    }
    if pool.has_jobs() {
        worker.let_go();
        if pool.help() {
            return true;
        }
    }
    if !pool.polling.swap(true, Ordering::SeqCst) {
        let found = pool.poll(worker);
        pool.polling.store(false, Ordering::SeqCst);
        if let Some(queue) = found {
            // What became ready while this one polled was left to it.
            if pool.has_ready() {
                pool.wake_one(&mut pool.shared());
            }
            pool.serve(&queue, worker);
            return true;
        }
        if pool.has_ready() || pool.has_jobs() {
            return true;
        }
    }
    worker.let_go();
    !pool.park(worker.seat)
}

/// Counts down when a worker is done with a queue, however that ended.
struct Serving<'a>(&'a Scheduler);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scheduler {
    /// A temporary worker ends.
    fn ends(&self, shared: &mut Shared, number: usize) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
        if number >= self.workers {
            shared.free.push(number);
        }
    }

    /// Serves a queue that is counted in `serving`.
    fn serve(&self, queue: &Arc<Queue>, worker: &mut Worker) {
        let _serving = Serving(self);
        queue.serve(&mut worker.duty);
    }

    /// Polls hot queues until one has work, which is returned `Running` and counted in `serving`, or there is something else to do, or none is
    /// left.
    fn poll(&self, worker: &mut Worker) -> Option<Arc<Queue>> {
        let mut looks = 0;
        let mut last_hot = worker.duty.now();
        // Whatever was before was no polling.
        let mut fresh = true;
        loop {
            if self.hot_version.load(Ordering::Acquire) != worker.version {
                let new = {
                    let shared = self.shared();
                    worker.version = self.hot_version.load(Ordering::Acquire);
                    shared.hot.clone()
                };
                // The old list ends here, without the lock: it may hold the last of a queue.
                worker.hot = new;
            }
            if self.has_ready() || self.has_jobs() || worker.hot.is_empty() {
                return None;
            }
            if let Some(queue) = self.best(&worker.hot) {
                queue.prefetch();
                if queue.change(State::Hot, State::Running) {
                    self.serving.fetch_add(1, Ordering::SeqCst);
                    return Some(queue.clone());
                }
                continue;
            }
            looks += worker.hot.len();
            if looks >= LOOKS {
                looks = 0;
                let passed = worker.duty.look();
                let now = worker.duty.now();
                if !std::mem::take(&mut fresh) {
                    self.windows.polled(passed, now);
                }
                worker.duty.pause();
                if now.saturating_sub(worker.cooled) < COOL_NS {
                    std::hint::spin_loop();
                    continue;
                }
                worker.cooled = now;
                if worker.hot.iter().any(|q| q.state() == State::Hot) {
                    last_hot = now;
                    self.cool(&worker.hot, now);
                } else if now.saturating_sub(last_hot) > MAX_NS / 2 {
                    // All are being served: their worker polls when it is done.
                    self.cool(&worker.hot, now);
                    return None;
                }
            }
            std::hint::spin_loop();
        }
    }

    /// Of hot queues with work, the one with the most right to be served.
    fn best<'a>(&self, hot: &'a [Arc<Queue>]) -> Option<&'a Arc<Queue>> {
        let working = hot
            .iter()
            .filter(|q| q.has_work() && q.state() == State::Hot);
        working.min_by_key(|q| {
            let level = std::cmp::Reverse(q.share.level());
            (level, self.times.tag(&q.share))
        })
    }

    /// Lets hot queues without work for long fall asleep, and takes out of the list what is not hot.
    fn cool(&self, hot: &[Arc<Queue>], now: u64) {
        let since = |q: &Arc<Queue>| now.saturating_sub(q.last_work());
        // While there is work somebody polls anyway, and a few doorbells more cost little.
        let at_work = hot.len() <= KEPT
            && hot.iter().any(|q| match q.state() {
                State::Hot => since(q) < MIN_NS,
                state => matches!(state, State::Ready | State::Running),
            });
        let least = if at_work { KEEP_NS } else { 0 };
        // What is known without looking at more of the queue comes first.
        let idle = |q: &&Arc<Queue>| {
            let since = since(q);
            since > least && q.state() == State::Hot && since > self.windows.window(&q.gaps)
        };
        Queue::rest(hot.iter().filter(idle));
        for queue in hot {
            // They come back to the list when they are empty again; until then it is nobody's to poll.
            if matches!(queue.state(), State::Asleep | State::Blocked | State::Dead) {
                self.unlist(queue);
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
            self.ends(&mut shared, NUMBER.get());
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
        drop(shared);
        let woken = self.seats[worker].woken.load(Ordering::Relaxed);
        self.windows.woke(wall_ns().saturating_sub(woken));
        false
    }
}
