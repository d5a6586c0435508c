//! Completion and waiting: timeline and arm word.

use vmlu_abi::queue::ARM_NONE;

use crate::sync::{full, takes, AtomicU64, Ordering, Step};

/// Card: shows how far a queue has come, and reads the arm word, which [`Signalled::is_due`] then judges.
///
/// What the commands wrote, and the queue's error, are visible to who sees the timeline. The fence is also the one for queues of the card
/// that wait for the timeline: they enter themselves, pass a full fence, and look at it.
#[inline]
pub fn complete(
    consumed: &AtomicU64,
    timeline: &AtomicU64,
    arm: &AtomicU64,
    units: u64,
    value: u64,
) -> u64 {
    consumed.store(units, Ordering::Release);
    timeline.store(value, Ordering::Release);
    full(Step::CompletionFence);
    arm.load(Ordering::Acquire)
}

/// Card: the value of the arm word that was signalled last. Each distinct value is signalled once.
#[derive(Clone, Copy, Debug)]
pub struct Signalled(u64);

impl Signalled {
    /// Nothing was signalled.
    pub const fn new() -> Self {
        Self(ARM_NONE)
    }

    /// Whether an event is due for this value of the arm word, with the timeline where it is.
    #[inline]
    pub fn is_due(&self, arm: u64, timeline: u64) -> bool {
        arm != ARM_NONE && timeline >= arm && (self.0 != arm || !takes(Step::Distinct))
    }

    /// As [`Signalled::is_due`]; the caller posts the event if it is.
    #[inline]
    pub fn take(&mut self, arm: u64, timeline: u64) -> bool {
        let due = self.is_due(arm, timeline);
        if due {
            self.0 = arm;
        }
        due
    }
}

impl Default for Signalled {
    fn default() -> Self {
        Self::new()
    }
}

/// Host: asks for an event once the timeline has reached `value` ([`ARM_NONE`]: for none); `false` if it has meanwhile, and no event may
/// come: the caller looks at its waiters again. One thread at a time arms.
#[inline]
pub fn arm(arm: &AtomicU64, timeline: &AtomicU64, value: u64) -> bool {
    arm.store(value, Ordering::Release);
    full(Step::WaiterFence);
    !takes(Step::WaiterLook) || timeline.load(Ordering::Acquire) < value
}

/// Host: arms the smallest wanted value that is not reached, again and again until it is not reached while it is being armed. `reached` is
/// called for each that was: its waiters are to look, because the card may not tell.
pub fn arm_smallest(
    word: &AtomicU64,
    timeline: &AtomicU64,
    wanted: &[u64],
    mut reached: impl FnMut(),
) {
    loop {
        let now = timeline.load(Ordering::Acquire);
        let open = wanted.iter().copied().filter(|v| *v > now);
        if arm(word, timeline, open.min().unwrap_or(ARM_NONE)) {
            return;
        }
        reached();
    }
}
