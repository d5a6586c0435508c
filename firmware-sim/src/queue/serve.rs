//! Serving a queue: a worker stays with it while it has work and nobody else waits.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use vmlu_abi::packet::PacketHeader;
use vmlu_abi::{Status, Wire};

use super::burst::{self, Burst};
use super::step::Step;
use super::{lock, Queue, State};
use crate::clock::wall_ns;
use crate::kernels::env::Fault;
use crate::scheduler::Scheduler;

/// For how long a worker stays with one queue while others have work, ns.
const QUANTUM_NS: u64 = 1_000_000;
/// Short packets between two looks at the time.
const BATCH: u64 = 16;

/// The chip has work as long as this lives.
struct Busy<'a> {
    queue: &'a Queue,
    /// Wall time at which it began, ns.
    start: u64,
}

impl<'a> Busy<'a> {
    fn begin(queue: &'a Queue) -> Self {
        let start = wall_ns();
        queue.core.clock.begin(start);
        queue.core.live.begin(start);
        Self { queue, start }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let now = wall_ns();
        self.queue.core.live.end(now);
        self.queue.core.clock.end(now);
        self.queue.last_work.store(now, Ordering::Relaxed);
        self.queue
            .context
            .busy_ns
            .fetch_add(now.saturating_sub(self.start), Ordering::Relaxed);
    }
}

impl Queue {
    /// Serves the queue, which the caller has moved to `Running`, and moves it on. Survives whatever happens: a bug costs this queue alone.
    pub fn serve(self: &Arc<Self>) {
        let scheduler = Scheduler::get();
        let next =
            catch_unwind(AssertUnwindSafe(|| self.serve_packets(scheduler))).unwrap_or_else(|_| {
                tracing::error!(
                    chip = self.core.hardware.chip,
                    queue = self.index,
                    "bug: a worker panicked; its queue is stopped"
                );
                let fault = Fault::new(
                    Status::Internal,
                    "the firmware panicked while it served the queue",
                );
                let offset = self.consumed.load(Ordering::Relaxed);
                // Nothing of what panicked is called again without care.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    self.fail(self.record(offset, &PacketHeader::zeroed(), &fault), true)
                }));
                State::Dead
            });
        match next {
            // `step` has left `Running` already, before the queue could be woken.
            State::Blocked => {}
            State::Ready => {
                self.life.leave(State::Ready);
                scheduler.ready(self.clone());
            }
            State::Hot => {
                self.life.leave(State::Hot);
                scheduler.hot(self);
            }
            _ => {
                self.timeline.stop();
                self.life.leave(State::Dead);
                self.timeline.wake_dependents(true);
            }
        }
    }

    fn serve_packets(self: &Arc<Self>, scheduler: &Scheduler) -> State {
        let busy = Busy::begin(self);
        let mut cursor = lock(&self.cursor);
        let mut slice = busy.start;
        let mut short = 0;
        loop {
            if self.is_cancelled() || self.core.is_gone() {
                break State::Dead;
            }
            let burst = if cursor.empty {
                self.burst(&mut cursor)
            } else {
                Burst::Other
            };
            let step = match burst {
                Burst::Ran(count) => {
                    short += count;
                    Step::Done { long: false }
                }
                Burst::Empty => Step::Empty,
                Burst::Other => {
                    short += burst::RUN / BATCH;
                    self.step(&mut cursor)
                }
            };
            match step {
                Step::Empty => break State::Hot,
                Step::Blocked => break State::Blocked,
                Step::Stopped => break State::Dead,
                Step::Done { long: true } => short = burst::RUN,
                Step::Done { long: false } => {}
            }
            if short >= burst::RUN {
                short = 0;
                let now = wall_ns();
                if now.saturating_sub(slice) > QUANTUM_NS {
                    scheduler.gather();
                    if scheduler.has_ready() {
                        break State::Ready;
                    }
                    slice = now;
                }
            }
        }
    }
}
