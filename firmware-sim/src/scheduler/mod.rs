//! The workers that serve queues: one pool a process, shared by all its chips.
//!
//! A worker serves ready queues. One that finds none becomes the *poller*: it looks at the doorbells of hot queues until work comes or
//! they fall asleep. The others are parked. So an idle process uses no CPU, and one core at most spins. A long command asks a parked
//! worker to look after the others ([`Scheduler::look_after_others`]); the ticker sees to commands that do not even do that.
//!
//! A queue that is `Hot` is in the list of hot queues, or its worker is about to put it there; while any is hot somebody polls, or every worker
//! is inside a command: then those commands call [`Scheduler::look_after_others`], and the ticker runs.
//!
//! Lock order: see `queue`; no queue's lock is taken while the scheduler's is held.

mod parallel;
mod ticker;
mod worker;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};

use crate::core::Core;
use crate::queue::{Queue, State};

use parallel::Job;

/// The pool.
pub struct Scheduler {
    shared: Mutex<Shared>,
    seats: Vec<Seat>,
    /// Queues in `Shared::ready`, to be looked at without the lock.
    ready_count: AtomicUsize,
    /// Jobs in `Shared::jobs`, likewise.
    job_count: AtomicUsize,
    /// Changes of `Shared::hot`, likewise.
    hot_version: AtomicU64,
    /// A worker polls hot queues.
    polling: AtomicBool,
    /// Workers in `Shared::parked`, likewise.
    parked: AtomicUsize,
    /// Workers that serve a queue. A queue counts here, or is in `Shared::ready` or `Shared::hot`, as long as it has work.
    serving: AtomicUsize,
    workers: usize,
    ticker: ticker::Ticker,
}

/// Where a worker waits while it is parked.
struct Seat {
    /// The core that the worker is pinned to, if it is to one.
    core: Option<usize>,
    wake: Condvar,
}

#[derive(Default)]
struct Shared {
    ready: VecDeque<Arc<Queue>>,
    hot: Vec<Arc<Queue>>,
    jobs: Vec<Arc<Job>>,
    /// Workers that are parked and were not told to wake, the last one to park at the end.
    parked: Vec<usize>,
    cores: Vec<Weak<Core>>,
    /// Workers in all, temporary ones included.
    alive: usize,
}

thread_local! {
    /// Whether this thread sleeps between the kicks that it passes on.
    static PASSES_KICKS_ON: Cell<bool> = const { Cell::new(false) };
}

/// Says that this thread does nothing but pass on kicks and messages of others, and sleeps in between: whom it wakes runs best where it
/// ran itself.
pub fn this_thread_passes_kicks_on() {
    PASSES_KICKS_ON.set(true);
}

impl Scheduler {
    /// The pool of this process; its threads start with the first call.
    pub fn get() -> &'static Self {
        static POOL: OnceLock<Scheduler> = OnceLock::new();
        static START: std::sync::Once = std::sync::Once::new();
        let pool = POOL.get_or_init(|| {
            let workers = std::thread::available_parallelism()
                .map_or(2, |n| n.get())
                .max(2);
            let cores = worker::cores();
            let seats = (0..workers)
                .map(|i| Seat {
                    core: cores.get(i).copied(),
                    wake: Condvar::new(),
                })
                .collect();
            Scheduler {
                shared: Mutex::new(Shared {
                    alive: workers,
                    ..Shared::default()
                }),
                seats,
                ready_count: AtomicUsize::new(0),
                job_count: AtomicUsize::new(0),
                hot_version: AtomicU64::new(0),
                polling: AtomicBool::new(false),
                parked: AtomicUsize::new(0),
                serving: AtomicUsize::new(0),
                workers,
                ticker: ticker::Ticker::default(),
            }
        });
        START.call_once(|| {
            for index in 0..pool.workers {
                worker::spawn(pool, Some(index));
            }
            ticker::spawn(pool);
        });
        pool
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A chip whose telemetry the ticker keeps up to date.
    pub fn register(&self, core: &Arc<Core>) {
        let mut shared = self.shared();
        shared.cores.retain(|c| c.strong_count() > 0);
        shared.cores.push(Arc::downgrade(core));
    }

    /// A queue has work; the caller has moved it to `Ready`.
    pub fn ready(&self, queue: Arc<Queue>) {
        let mut shared = self.shared();
        shared.ready.push_back(queue);
        self.ready_count.store(shared.ready.len(), Ordering::SeqCst);
        // The poller looks at `ready_count`, also when it stops polling; otherwise somebody must be woken.
        if !self.polling.load(Ordering::SeqCst) {
            self.wake_one(&mut shared);
        }
        drop(shared);
        self.ticker.start();
    }

    /// A queue is empty but may soon have work; it is `Hot`.
    pub fn hot(&self, queue: &Arc<Queue>) {
        let mut shared = self.shared();
        // Whoever destroys it makes it `Dead` first and calls `forget` then.
        if queue.state() != State::Dead && !shared.hot.iter().any(|q| Arc::ptr_eq(q, queue)) {
            shared.hot.push(queue.clone());
            self.hot_version.fetch_add(1, Ordering::Release);
        }
    }

    /// A queue is gone.
    pub fn forget(&self, queue: &Arc<Queue>) {
        let mut shared = self.shared();
        let before = shared.hot.len();
        shared.hot.retain(|q| !Arc::ptr_eq(q, queue));
        if shared.hot.len() != before {
            self.hot_version.fetch_add(1, Ordering::Release);
        }
        shared.ready.retain(|q| !Arc::ptr_eq(q, queue));
        self.ready_count.store(shared.ready.len(), Ordering::SeqCst);
    }

    /// Called by a worker that has served one queue for long: hot queues that have work become ready, if nobody polls them.
    pub fn gather(&self) {
        if self.polling.load(Ordering::Relaxed) {
            return;
        }
        let mut shared = self.shared();
        let Shared { hot, ready, .. } = &mut *shared;
        ready.extend(
            hot.iter()
                .filter(|q| q.has_work() && q.change(State::Hot, State::Ready))
                .cloned(),
        );
        self.ready_count.store(shared.ready.len(), Ordering::SeqCst);
        if !shared.ready.is_empty() {
            self.wake_one(&mut shared);
        }
    }

    /// Whether queues wait for a worker.
    pub fn has_ready(&self) -> bool {
        self.ready_count.load(Ordering::Relaxed) > 0
    }

    /// Called by a command that runs for long: sees to it that somebody looks at the doorbells meanwhile.
    pub fn look_after_others(&self) {
        if self.polling.load(Ordering::Relaxed) || self.parked.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut shared = self.shared();
        let hot = shared.hot.iter().any(|q| q.state() == State::Hot);
        if hot || !shared.ready.is_empty() {
            self.wake_one(&mut shared);
        }
    }

    /// Wakes a parked worker, if there is one: not one of this thread's core if it can be helped, since it would wait for this thread.
    /// A thread that only passes kicks on is about to sleep, so its core is the one that is free.
    fn wake_one(&self, shared: &mut Shared) {
        let here = Some(rustix::thread::sched_getcpu());
        let free = PASSES_KICKS_ON.get();
        let fits = shared
            .parked
            .iter()
            .rposition(|w| (self.seats[*w].core == here) == free);
        if let Some(at) = fits.or_else(|| shared.parked.len().checked_sub(1)) {
            let worker = shared.parked.swap_remove(at);
            self.parked.store(shared.parked.len(), Ordering::SeqCst);
            self.seats[worker].wake.notify_one();
        }
    }

    /// Runs `task(0)` … `task(tasks - 1)` on this worker and on whoever is free.
    pub fn parallel(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers <= 1 {
            (0..tasks).for_each(task);
            return;
        }
        parallel::run(self, tasks, task);
    }

    /// The next ready queue, `Running` and counted in `serving`.
    fn take_ready(&self) -> Option<Arc<Queue>> {
        if !self.has_ready() {
            return None;
        }
        let mut shared = self.shared();
        let mut taken = None;
        while let Some(queue) = shared.ready.pop_front() {
            if queue.change(State::Ready, State::Running) {
                self.serving.fetch_add(1, Ordering::SeqCst);
                taken = Some(queue);
                break;
            }
        }
        self.ready_count.store(shared.ready.len(), Ordering::SeqCst);
        // Whoever is woken wakes the next.
        if taken.is_some() && !shared.ready.is_empty() {
            self.wake_one(&mut shared);
        }
        taken
    }
}
