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
use crate::scheduler::{Duty, Scheduler, LOOK_NS};

/// How often the doorbell of a queue that has run empty is looked at before it goes back to who polls all of them: together less than a
/// microsecond, which counts as work.
const LINGER: u32 = 12;

/// Short packets between two looks at the time.
const BATCH: u64 = 16;

impl Queue {
    /// Serves the queue, which the caller has moved to `Running`, and moves it on. Survives whatever happens: a bug costs this queue alone.
    pub fn serve(self: &Arc<Self>, duty: &mut Duty) {
        let scheduler = Scheduler::get();
        duty.begin(&self.core);
        let start = duty.now();
        let idle_since = self.front.last_work.load(Ordering::Relaxed);
        if idle_since != 0 {
            self.gaps.saw(start.saturating_sub(idle_since));
        }
        scheduler.begin(&self.share, start);
        let next = catch_unwind(AssertUnwindSafe(|| self.serve_packets(scheduler, start)))
            .unwrap_or_else(|_| {
                tracing::error!(
                    chip = self.core.hardware.chip,
                    queue = self.index,
                    "bug: a worker panicked; its queue is stopped"
                );
                let fault = Fault::new(
                    Status::Internal,
                    "the firmware panicked while it served the queue",
                );
                let offset = self.front.consumed.load(Ordering::Relaxed);
                // Nothing of what panicked is called again without care.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    self.fail(self.record(offset, &PacketHeader::zeroed(), &fault), true)
                }));
                State::Dead
            });
        let end = duty.end();
        scheduler.end(&self.share, end, next == State::Ready);
        self.gaps.served(end.saturating_sub(start));
        self.context
            .busy_ns
            .fetch_add(end.saturating_sub(start), Ordering::Relaxed);
        match next {
            // `step` has left `Running` already, before the queue could be woken.
            State::Blocked => {}
            State::Ready => {
                self.front.last_work.store(0, Ordering::Relaxed);
                self.front.life.leave(State::Ready);
                scheduler.ready(self.clone());
            }
            State::Hot => {
                self.front.last_work.store(end, Ordering::Relaxed);
                self.front.life.leave(State::Hot);
                scheduler.hot(self);
            }
            _ => {
                self.timeline.stop();
                self.front.life.leave(State::Dead);
                self.timeline.wake_dependents(true);
            }
        }
    }

    /// Stays with a queue that has run empty for a moment, if there is no other to look after: the next command of a program that waits for
    /// each comes now. `true` if it has come. The packet is fetched together with the doorbell, since the two are written together.
    fn linger(&self, scheduler: &Scheduler) -> bool {
        for _ in 0..LINGER {
            if self.has_work() {
                return true;
            }
            if self.is_cancelled() || !scheduler.has_one_queue() {
                return false;
            }
            self.prefetch();
            std::hint::spin_loop();
        }
        false
    }

    fn serve_packets(self: &Arc<Self>, scheduler: &Scheduler, start: u64) -> State {
        let mut cursor = lock(&self.cursor);
        let mut slice = start;
        let mut looked = start;
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
                Step::Empty if self.linger(scheduler) => {}
                Step::Empty => break State::Hot,
                Step::Blocked => break State::Blocked,
                Step::Stopped => break State::Dead,
                Step::Done { long: true } => short = burst::RUN,
                Step::Done { long: false } => {}
            }
            if short >= burst::RUN {
                short = 0;
                let now = wall_ns();
                if now.saturating_sub(looked) > LOOK_NS {
                    looked = now;
                    if scheduler.look(&self.share, now, &mut slice) {
                        break State::Ready;
                    }
                }
            }
        }
    }
}
