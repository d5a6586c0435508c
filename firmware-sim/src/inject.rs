//! Fault injection: what tests use to see how software takes a failing card.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::Mutex;

use vmlu_abi::rpc::{BadAnswer, Fault, Inject};
use vmlu_abi::Status;

/// Most faults that wait at a time.
const MAX_FAULTS: usize = 256;

/// A fault that hits a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which.
    pub fault: Fault,
    /// Its value.
    pub value: u64,
}

/// The faults that wait for their victims.
#[derive(Default)]
pub struct Injector {
    /// Whether `list` has anything: the only thing that a healthy command looks at.
    armed: AtomicBool,
    list: Mutex<Vec<Inject>>,
    /// The fault that waits for answers to messages, if its `count` is not 0.
    answers: Mutex<Option<(Inject, BadAnswer)>>,
    /// The fault that waits for messages, if its `count` is not 0.
    refusals: Mutex<Option<(Inject, Status)>>,
    dropped_interrupts: AtomicU32,
    heat_milli: AtomicI64,
}

/// What a [`Fault::Refuse`] refuses with, if it is a refusal.
pub fn refusal(inject: &Inject) -> Option<Status> {
    u32::try_from(inject.value)
        .ok()
        .and_then(Status::from_raw)
        .filter(|status| *status != Status::Ok)
}

impl Injector {
    /// Adds a fault, or takes it away if its count is 0; `false` if there are too many.
    pub fn set(&self, fault: Fault, inject: Inject) -> bool {
        match fault {
            Fault::DropInterrupt => self
                .dropped_interrupts
                .store(inject.count, Ordering::Relaxed),
            Fault::Heat => {
                let heat = if inject.count == 0 {
                    0
                } else {
                    inject.value as i64
                };
                self.heat_milli
                    .store(heat.clamp(-200_000, 200_000), Ordering::Relaxed);
            }
            Fault::BadAnswer => {
                let bad = BadAnswer::from_raw(inject.value);
                *self.answers.lock().unwrap_or_else(|e| e.into_inner()) =
                    bad.map(|bad| (inject, bad));
            }
            Fault::Refuse => {
                *self.refusals.lock().unwrap_or_else(|e| e.into_inner()) =
                    refusal(&inject).map(|status| (inject, status));
            }
            _ => {
                let mut list = self.list.lock().unwrap_or_else(|e| e.into_inner());
                list.retain(|i| {
                    i.fault != inject.fault
                        || i.context != inject.context
                        || i.opcode != inject.opcode
                });
                if inject.count > 0 {
                    if list.len() == MAX_FAULTS {
                        return false;
                    }
                    list.push(inject);
                }
                self.armed.store(!list.is_empty(), Ordering::Release);
            }
        }
        true
    }

    /// Whether any fault waits for a command.
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// The fault that hits a command which is about to run.
    pub fn hit(&self, opcode: u16, context: u64) -> Option<Hit> {
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        let mut list = self.list.lock().unwrap_or_else(|e| e.into_inner());
        let fits = |i: &Inject| {
            (i.opcode == 0 || i.opcode == u32::from(opcode))
                && (i.context == 0 || i.context == context)
        };
        let at = list.iter().position(fits)?;
        if list[at].skip > 0 {
            list[at].skip -= 1;
            return None;
        }
        list[at].count -= 1;
        let inject = list[at];
        if inject.count == 0 {
            list.remove(at);
            self.armed.store(!list.is_empty(), Ordering::Release);
        }
        Fault::from_raw(inject.fault).map(|fault| Hit {
            fault,
            value: inject.value,
        })
    }

    /// With what a message with this function is refused.
    pub fn refusal(&self, function: u16) -> Option<Status> {
        let mut refusals = self.refusals.lock().unwrap_or_else(|e| e.into_inner());
        let (inject, status) = refusals.as_mut()?;
        if inject.count == 0 || inject.opcode != 0 && inject.opcode != u32::from(function) {
            return None;
        }
        if inject.skip > 0 {
            inject.skip -= 1;
            return None;
        }
        inject.count -= 1;
        Some(*status)
    }

    /// How the answer to a message with this function is to be wrong.
    pub fn bad_answer(&self, function: u16) -> Option<BadAnswer> {
        let mut answers = self.answers.lock().unwrap_or_else(|e| e.into_inner());
        let (inject, bad) = answers.as_mut()?;
        if inject.count == 0 || inject.opcode != 0 && inject.opcode != u32::from(function) {
            return None;
        }
        inject.count -= 1;
        Some(*bad)
    }

    /// Whether the interrupt that is about to be raised is lost.
    pub fn drops_interrupt(&self) -> bool {
        self.dropped_interrupts.load(Ordering::Relaxed) > 0
            && self
                .dropped_interrupts
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
    }

    /// Heat added to the chip's temperature target, thousandths of a degree.
    pub fn heat_milli(&self) -> i32 {
        self.heat_milli.load(Ordering::Relaxed) as i32
    }
}
