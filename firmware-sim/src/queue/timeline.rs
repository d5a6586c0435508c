//! A queue's timeline, as those see it who wait for it.
//!
//! It is apart from the queue because it outlives it: who has imported it holds this alone, and so nothing of the queue's context, memory or
//! chip. Tokens are found in one registry of the process, so that they lead from chip to chip.
//!
//! Lock order: see `queue`; the registry, then a timeline's secret, with no other lock held.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use vmlu_abi::rpc::{TimelineState, TimelineToken};
use vmlu_abi::Status;

use super::errors::Errors;
use super::{lock, Queue, State};
use crate::core::Core;
use crate::scheduler::Scheduler;
use crate::token::{self, Secret};

/// The exported timelines of this process.
fn registry() -> &'static Mutex<HashMap<Secret, Weak<Timeline>>> {
    static REGISTRY: OnceLock<Mutex<HashMap<Secret, Weak<Timeline>>>> = OnceLock::new();
    REGISTRY.get_or_init(Mutex::default)
}

/// A timeline.
pub struct Timeline {
    /// Serial number of the board, and index on it, of the chip that has the queue.
    place: (u64, u32),
    pub(super) value: AtomicU64,
    /// Status code of the error that stands; changes with `errors` locked.
    pub(super) error: AtomicU32,
    pub(super) errors: Mutex<Errors>,
    /// The value stays as it is from here on.
    ended: AtomicBool,
    /// The queue is destroyed, or about to be.
    destroyed: AtomicBool,
    pub(super) has_dependents: AtomicBool,
    /// Queues that wait for a value, each at most once.
    dependents: Mutex<Vec<(u64, Weak<Queue>)>>,
    /// What was given away; changes with the registry locked.
    secret: Mutex<Option<Secret>>,
    /// The queue, once it waits for something itself.
    queue: OnceLock<Weak<Queue>>,
}

impl Timeline {
    /// The timeline of a new queue of a chip.
    pub(super) fn new(serial: u64, chip: u32) -> Self {
        Self {
            place: (serial, chip),
            value: AtomicU64::new(0),
            error: AtomicU32::new(0),
            errors: Mutex::default(),
            ended: AtomicBool::new(false),
            destroyed: AtomicBool::new(false),
            has_dependents: AtomicBool::new(false),
            dependents: Mutex::default(),
            secret: Mutex::default(),
            queue: OnceLock::new(),
        }
    }

    /// The queue that it belongs to waits for something.
    pub(super) fn waits(&self, queue: &Arc<Queue>) {
        self.queue.get_or_init(|| Arc::downgrade(queue));
    }

    /// The queue that it belongs to, if that has ever waited for something.
    pub(super) fn waiting_queue(&self) -> Option<Arc<Queue>> {
        self.queue.get()?.upgrade()
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Whether the value stays as it is.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Whether a wait for `value` ends with an error, because the packet it waits for was taken by one.
    pub fn failed_at(&self, value: u64) -> bool {
        lock(&self.errors).took(value)
    }

    /// What others may know of it.
    pub fn state(&self) -> TimelineState {
        // The error first: a value that is read with none was reached without one.
        let error = if self.destroyed.load(Ordering::SeqCst) {
            Status::QueueDestroyed.raw()
        } else {
            self.error.load(Ordering::SeqCst)
        };
        TimelineState {
            value: self.value(),
            error,
            reserved: 0,
        }
    }

    /// The queue has stopped for good; [`Timeline::wake_dependents`] follows.
    pub(super) fn stop(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// The queue is being destroyed: nobody can import the timeline any more.
    pub(super) fn destroy(&self) {
        self.stop();
        self.destroyed.store(true, Ordering::SeqCst);
        let mut registry = lock(registry());
        if let Some(secret) = lock(&self.secret).take() {
            registry.remove(&secret);
        }
    }

    /// The token, the same each time. `BadHandle` if the queue is being destroyed.
    pub fn export(self: &Arc<Self>) -> Result<TimelineToken, Status> {
        let fresh = token::fresh()?;
        let mut registry = lock(registry());
        // Looked at with the registry locked: who destroys the queue later finds the secret.
        if self.destroyed.load(Ordering::SeqCst) {
            return Err(Status::BadHandle);
        }
        let secret = *lock(&self.secret).get_or_insert(fresh);
        registry.insert(secret, Arc::downgrade(self));
        Ok(TimelineToken {
            secret,
            serial: self.place.0,
            chip: self.place.1,
            reserved: 0,
        })
    }

    /// The timeline that a token leads to.
    pub fn import(token: &TimelineToken) -> Option<Arc<Self>> {
        lock(registry())
            .get(&token.secret)
            .and_then(Weak::upgrade)
            .filter(|t| t.place == (token.serial, token.chip))
    }

    /// Has `waiter` looked at again once the timeline has reached `value`, or has ended.
    pub(super) fn wake_at(&self, value: u64, waiter: &Arc<Queue>) {
        let mut dependents = lock(&self.dependents);
        // A queue waits for one value at a time; what is left of earlier waits, and of queues that are gone, goes here.
        dependents.retain(|(_, queue)| {
            queue.strong_count() > 0 && !std::ptr::eq(queue.as_ptr(), Arc::as_ptr(waiter))
        });
        dependents.push((value, Arc::downgrade(waiter)));
        self.has_dependents.store(true, Ordering::SeqCst);
    }

    /// Queues that waited for this timeline look again: those whose value it has reached, or all.
    pub(super) fn wake_dependents(&self, all: bool) {
        let value = self.value();
        self.wake(|wanted, _| all || wanted <= value);
    }

    /// The queues of a context that waited for this timeline look again: it is no longer the context's to wait for.
    pub fn release(&self, context: u64, chip: &Core) {
        // References are dropped without the lock: one may be the last.
        let mut seen = Vec::new();
        self.wake(|_, queue| {
            seen.extend(queue.upgrade());
            seen.last().is_some_and(|q| {
                std::ptr::eq(Arc::as_ptr(q), queue.as_ptr())
                    && q.context.handle == context
                    && std::ptr::eq(Arc::as_ptr(&q.core), chip)
            })
        });
    }

    fn wake(&self, mut due: impl FnMut(u64, &Weak<Queue>) -> bool) {
        let mut woken = Vec::new();
        {
            let mut dependents = lock(&self.dependents);
            dependents.retain(|(value, queue)| {
                let due = due(*value, queue);
                if due {
                    woken.extend(queue.upgrade());
                }
                !due
            });
            self.has_dependents
                .store(!dependents.is_empty(), Ordering::SeqCst);
        }
        for queue in woken {
            if queue.change(State::Blocked, State::Ready) {
                Scheduler::get().ready(queue);
            }
        }
    }
}
