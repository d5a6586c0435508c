//! One command on several workers: a job of numbered tasks that whoever is free takes one by one.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use super::{Scheduler, Shared, LEVEL, LOOK_NS};
use crate::clock::wall_ns;

/// A job.
pub(super) struct Job {
    /// Priority of its queue.
    level: usize,
    /// The closure, alive until `run` returns, which waits for all helpers to leave.
    task: *const (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    /// Workers inside `work`.
    helpers: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: `task` points to a `Sync` closure that outlives all use: helpers enter only while the job is listed (under the scheduler's lock)
// and `run` unlists it and waits for `helpers` to become 0 before the closure ends.
unsafe impl Send for Job {}
// SAFETY: as for `Send`.
unsafe impl Sync for Job {}

impl Job {
    /// Whether tasks are left to take.
    pub(super) fn has_tasks(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.tasks
    }

    /// Takes tasks until there are none, or until `leave` says so after one.
    fn work(&self, mut leave: impl FnMut() -> bool) {
        // SAFETY: the caller is `run` itself or is counted in `helpers`, so the closure is alive.
        let task = unsafe { &*self.task };
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.tasks {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| task(index))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
                self.next.store(self.tasks, Ordering::Relaxed);
            }
            if leave() {
                return;
            }
        }
    }
}

/// Runs a job and returns when all its tasks have ended.
pub(super) fn run(pool: &Scheduler, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    // SAFETY: only the lifetime is forgotten; see `Job`.
    let task: *const (dyn Fn(usize) + Sync) =
        unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), _>(task) };
    let job = Arc::new(Job {
        level: LEVEL.get(),
        task,
        tasks,
        next: AtomicUsize::new(0),
        helpers: AtomicUsize::new(0),
        panicked: AtomicBool::new(false),
    });
    {
        let mut shared = pool.shared();
        shared.jobs.push(job.clone());
        pool.show_jobs(&shared);
        for _ in 1..tasks.min(pool.workers) {
            pool.wake_one(&mut shared);
        }
    }
    job.work(|| false);
    {
        let mut shared = pool.shared();
        shared.jobs.retain(|j| !Arc::ptr_eq(j, &job));
        pool.show_jobs(&shared);
    }
    // Helpers are at their last task; it ends within its check interval.
    let mut spins = 0_u32;
    while job.helpers.load(Ordering::Acquire) > 0 {
        spins += 1;
        if spins < 10_000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    if job.panicked.load(Ordering::Relaxed) {
        resume_unwind(Box::new("a part of the operator panicked"));
    }
}

impl Scheduler {
    /// Shows what changed in `Shared::jobs`.
    fn show_jobs(&self, shared: &Shared) {
        let level = shared.jobs.iter().map(|j| j.level + 1).max().unwrap_or(0);
        self.job_level.store(level, Ordering::Release);
    }

    /// Whether a job has tasks left.
    pub(super) fn has_jobs(&self) -> bool {
        self.job_level.load(Ordering::Relaxed) > 0
            && self.shared().jobs.iter().any(|j| j.has_tasks())
    }

    /// Whether a job has more right to a worker than the ready queues.
    pub(super) fn has_urgent_jobs(&self) -> bool {
        self.job_level.load(Ordering::Relaxed) > self.ready_level.load(Ordering::Relaxed)
    }

    /// Takes part in the job of the highest priority, if there is one; `false` if there is none. It is left between two tasks if a queue of
    /// its priority or a higher one waits.
    pub(super) fn help(&self) -> bool {
        if self.job_level.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let job = {
            let shared = self.shared();
            let best = shared.jobs.iter().filter(|j| j.has_tasks());
            let Some(job) = best.max_by_key(|j| j.level).cloned() else {
                return false;
            };
            job.helpers.fetch_add(1, Ordering::AcqRel);
            job
        };
        let mut looked = wall_ns();
        job.work(|| {
            let now = wall_ns();
            if now.saturating_sub(looked) > LOOK_NS {
                looked = now;
                self.gather(now);
            }
            self.ready_level.load(Ordering::Relaxed) > job.level
        });
        job.helpers.fetch_sub(1, Ordering::AcqRel);
        true
    }
}
