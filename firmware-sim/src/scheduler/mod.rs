//! The workers that serve queues: one pool a process, shared by all its chips.
//!
//! A worker serves ready queues. One that finds none becomes the *poller*: it looks at the doorbells of hot queues until work comes or
//! they fall asleep. The others are parked. So an idle process uses no CPU, and one core at most spins. A long command asks a parked
//! worker to look after the others ([`Scheduler::look_after_others`]); the ticker sees to commands that do not even do that, and says how many
//! workers that takes ([`crew`]).
//!
//! A queue that is `Hot` is in the list of hot queues, or its worker is about to put it there; while any is hot somebody polls, or every worker
//! is inside a command: then those commands call [`Scheduler::look_after_others`], and the ticker runs.
//!
//! Who of the ready queues is served next is said in [`share`]; for how long an empty queue is polled, in [`window`]. A worker looks each
//! [`LOOK_NS`] whether another queue is to have it, between commands; one that helps with another worker's command, between its tiles.
//!
//! Lock order: see `queue`; none of a queue's locks is taken while the scheduler's is held.

mod crew;
mod duty;
mod parallel;
pub mod share;
mod ticker;
mod window;
mod worker;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};

use vmlu_abi::pci::MAX_QUEUES;

use crate::clock::wall_ns;
use crate::core::Core;
use crate::queue::{Queue, State};

pub use duty::Duty;
use parallel::Job;
use share::{Ready, Share, Times};
pub use window::Gaps;
use window::Windows;

/// Time between two looks, by who serves a queue, whether another one is to be served, ns.
pub const LOOK_NS: u64 = 40_000;
/// For how long a worker stays with one queue while others of its priority have work, ns.
const QUANTUM_NS: u64 = 200_000;
/// Most workers, temporary ones included: as many as a chip has queues, each of which may hang.
const MAX_WORKERS: usize = MAX_QUEUES as usize;

/// The pool.
pub struct Scheduler {
    shared: Mutex<Shared>,
    seats: Vec<Seat>,
    /// Highest priority in `Shared::ready` plus 1, or 0 if nothing is there, to be looked at without the lock.
    ready_level: AtomicUsize,
    /// Highest priority in `Shared::jobs`, likewise.
    job_level: AtomicUsize,
    /// Changes of `Shared::hot`, likewise.
    hot_version: AtomicU64,
    /// Queues in it, likewise.
    hot_count: AtomicUsize,
    /// A worker polls hot queues.
    polling: AtomicBool,
    /// Workers in `Shared::parked`, likewise.
    parked: AtomicUsize,
    /// Workers that serve a queue. A queue counts here, or is in `Shared::ready` or `Shared::hot`, as long as it has work.
    serving: AtomicUsize,
    /// What each worker that there may be says of itself.
    signs: Vec<Sign>,
    /// Workers that there are, and how many there may be, as the ticker saw it last.
    alive: AtomicUsize,
    allowed: AtomicUsize,
    /// All workers that ever were have numbers below this.
    numbers: AtomicUsize,
    /// Wall time at which hot queues were last gathered, ns.
    gathered: AtomicU64,
    times: Times,
    windows: Windows,
    workers: usize,
    ticker: ticker::Ticker,
    /// What the ticker saw of the workers last.
    crew: Mutex<crew::Crew>,
}

/// What a worker says of itself, in a line of its own: it writes it for each queue that it serves.
#[derive(Default)]
#[repr(align(64))]
struct Sign {
    /// Odd while it serves a queue, and another one each time it has gone on.
    beat: AtomicU64,
    /// The priority of the queue that it serves, or served last.
    level: AtomicUsize,
    /// The thread that it is; 0: none was yet.
    thread: AtomicI32,
}

/// Where a worker waits while it is parked.
struct Seat {
    /// The core that the worker is pinned to, if it is to one.
    core: Option<usize>,
    wake: Condvar,
    /// Wall time at which it was last woken, ns.
    woken: AtomicU64,
}

#[derive(Default)]
struct Shared {
    ready: Ready<Arc<Queue>>,
    hot: Vec<Arc<Queue>>,
    jobs: Vec<Arc<Job>>,
    /// Workers that are parked and were not told to wake, the last one to park at the end.
    parked: Vec<usize>,
    cores: Vec<Weak<Core>>,
    /// Numbers of temporary workers that may be started.
    free: Vec<usize>,
}

thread_local! {
    /// Priority of the queue that this thread serves.
    static LEVEL: Cell<usize> = const { Cell::new(0) };
    /// Number of the worker that this thread is.
    static NUMBER: Cell<usize> = const { Cell::new(0) };
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
                    woken: AtomicU64::new(0),
                })
                .collect();
            Scheduler {
                shared: Mutex::new(Shared {
                    // The lowest are taken first.
                    free: (workers..MAX_WORKERS.max(workers)).rev().collect(),
                    ..Shared::default()
                }),
                seats,
                ready_level: AtomicUsize::new(0),
                job_level: AtomicUsize::new(0),
                hot_version: AtomicU64::new(0),
                hot_count: AtomicUsize::new(0),
                polling: AtomicBool::new(false),
                parked: AtomicUsize::new(0),
                serving: AtomicUsize::new(0),
                signs: (0..MAX_WORKERS.max(workers))
                    .map(|_| Sign::default())
                    .collect(),
                alive: AtomicUsize::new(workers),
                allowed: AtomicUsize::new(workers),
                numbers: AtomicUsize::new(workers),
                gathered: AtomicU64::new(0),
                times: Times::default(),
                windows: Windows::default(),
                workers,
                ticker: ticker::Ticker::default(),
                crew: Mutex::new(crew::Crew::new(MAX_WORKERS.max(workers))),
            }
        });
        START.call_once(|| {
            for index in 0..pool.workers {
                worker::spawn(pool, index);
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

    /// Puts a queue that is `Ready` among the others.
    fn push(&self, shared: &mut Shared, queue: Arc<Queue>) {
        let tag = self.times.tag(&queue.share);
        shared.ready.push(queue.share.level(), tag, queue);
    }

    /// Shows what changed in `Shared::ready`.
    fn show_ready(&self, shared: &Shared) {
        let level = shared.ready.top().map_or(0, |(level, _)| level + 1);
        self.ready_level.store(level, Ordering::SeqCst);
    }

    /// A queue has work; the caller has moved it to `Ready`.
    pub fn ready(&self, queue: Arc<Queue>) {
        let mut shared = self.shared();
        self.push(&mut shared, queue);
        self.show_ready(&shared);
        // The poller looks at `ready_level`, also when it stops polling; otherwise somebody must be woken.
        if !self.polling.load(Ordering::SeqCst) {
            self.wake_one(&mut shared);
        }
        drop(shared);
        self.ticker.start();
    }

    /// A queue is empty but may soon have work; it is `Hot`.
    pub fn hot(&self, queue: &Arc<Queue>) {
        // It is `Hot` already: whoever takes it out of the list at this moment sees that, or this sees that it was taken out.
        if queue.listed.load(Ordering::SeqCst) {
            return;
        }
        let mut shared = self.shared();
        // Whoever destroys it makes it `Dead` first and calls `forget` then.
        if queue.state() != State::Dead && !queue.listed.swap(true, Ordering::SeqCst) {
            shared.hot.push(queue.clone());
            self.show_hot(&shared);
        }
    }

    /// Takes a queue out of the list of hot ones if it is not hot.
    fn unlist(&self, queue: &Arc<Queue>) {
        let cold = || matches!(queue.state(), State::Asleep | State::Blocked | State::Dead);
        let mut shared = self.shared();
        if !cold() || !queue.listed.swap(false, Ordering::SeqCst) {
            return;
        }
        // It may have become hot meanwhile, and found itself in the list.
        if cold() || queue.state() != State::Hot {
            shared.hot.retain(|q| !Arc::ptr_eq(q, queue));
            self.show_hot(&shared);
        } else {
            queue.listed.store(true, Ordering::SeqCst);
        }
    }

    /// A queue is gone.
    pub fn forget(&self, queue: &Arc<Queue>) {
        let mut shared = self.shared();
        if queue.listed.swap(false, Ordering::SeqCst) {
            shared.hot.retain(|q| !Arc::ptr_eq(q, queue));
            self.show_hot(&shared);
        }
        shared.ready.retain(|q| !Arc::ptr_eq(q, queue));
        self.show_ready(&shared);
    }

    /// How many queues of a chip are polled, or would be if somebody polled.
    pub fn polled(&self, core: &Core) -> usize {
        let shared = self.shared();
        let of_chip = |q: &&Arc<Queue>| std::ptr::eq(Arc::as_ptr(&q.core), core);
        shared.hot.iter().filter(of_chip).count()
    }

    /// Called by who has not looked at other queues for long: hot queues that have work become ready, if nobody polls them.
    pub fn gather(&self, now: u64) {
        if self.polling.load(Ordering::Relaxed) {
            return;
        }
        let mut shared = self.shared();
        self.gather_locked(&mut shared, now);
        if !shared.ready.is_empty() {
            self.wake_one(&mut shared);
        }
    }

    fn gather_locked(&self, shared: &mut Shared, now: u64) {
        self.gathered.store(now, Ordering::Relaxed);
        let Shared { hot, ready, .. } = &mut *shared;
        for queue in hot
            .iter()
            .filter(|q| q.has_work() && q.change(State::Hot, State::Ready))
        {
            let tag = self.times.tag(&queue.share);
            ready.push(queue.share.level(), tag, queue.clone());
        }
        self.show_ready(shared);
    }

    /// Shows that `Shared::hot` has changed.
    fn show_hot(&self, shared: &Shared) {
        self.hot_count.store(shared.hot.len(), Ordering::Relaxed);
        self.hot_version.fetch_add(1, Ordering::Release);
    }

    /// Whether there is at most one queue to look after.
    pub(crate) fn has_one_queue(&self) -> bool {
        self.hot_count.load(Ordering::Relaxed) <= 1
            && !self.has_ready()
            && self.job_level.load(Ordering::Relaxed) == 0
    }

    /// Whether queues wait for a worker.
    pub fn has_ready(&self) -> bool {
        self.ready_level.load(Ordering::Relaxed) > 0
    }

    /// This worker goes on.
    fn beat(&self, steps: u64) {
        let beat = &self.signs[NUMBER.get()].beat;
        // Nobody else writes it.
        beat.store(
            beat.load(Ordering::Relaxed).wrapping_add(steps),
            Ordering::Relaxed,
        );
    }

    /// A queue begins to be served.
    pub(crate) fn begin(&self, share: &Share, now: u64) {
        self.beat(1);
        LEVEL.set(share.level());
        let sign = &self.signs[NUMBER.get()];
        sign.level.store(share.level(), Ordering::Relaxed);
        self.times.begin(share, now);
    }

    /// A queue is no longer served.
    pub(crate) fn end(&self, share: &Share, now: u64, backlog: bool) {
        self.beat(1);
        self.times.leave(share, now, backlog);
    }

    /// Called by who serves a queue, each [`LOOK_NS`]: whether it is to leave it because others have more right to be served. `slice`: since
    /// when it has been with it.
    pub(crate) fn look(&self, share: &Share, now: u64, slice: &mut u64) -> bool {
        self.beat(2);
        self.gather(now);
        let own = share.level() + 1;
        let best = self.ready_level.load(Ordering::Relaxed);
        if best > own {
            return true;
        }
        if best == own {
            if now.saturating_sub(*slice) < QUANTUM_NS {
                return false;
            }
            *slice = now;
            self.times.charge(share, now);
            let top = self.shared().ready.top();
            if top.is_some_and(|(level, tag)| level + 1 >= own && tag <= share.finish()) {
                return true;
            }
        }
        // It is still the one to be served: virtual time goes on with it, so that who comes now has no credit.
        self.times.charge(share, now);
        self.times.begin(share, now);
        false
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
            self.seats[worker].woken.store(wall_ns(), Ordering::Relaxed);
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
    fn take_ready(&self, now: u64) -> Option<Arc<Queue>> {
        if !self.has_ready() {
            return None;
        }
        let mut shared = self.shared();
        // Hot queues with work may have more right to be served.
        if now.saturating_sub(self.gathered.load(Ordering::Relaxed)) > LOOK_NS / 2 {
            self.gather_locked(&mut shared, now);
        }
        let mut taken = None;
        while let Some(queue) = shared.ready.pop() {
            if queue.change(State::Ready, State::Running) {
                self.serving.fetch_add(1, Ordering::SeqCst);
                taken = Some(queue);
                break;
            }
        }
        self.show_ready(&shared);
        // Whoever is woken wakes the next.
        if taken.is_some() && !shared.ready.is_empty() {
            self.wake_one(&mut shared);
        }
        taken
    }
}
