//! The atomics of the protocol: the machine's, or loom's when the models are built (`--cfg loom`).

#[cfg(not(loom))]
pub use core::sync::atomic::{
    compiler_fence, fence, AtomicBool, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
};
#[cfg(loom)]
pub use loom::sync::atomic::{
    fence, AtomicBool, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering,
};

/// A step that a model leaves out, to see that it then fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The producer's fence between doorbell and `asleep`.
    ProducerFence,
    /// The card's fence between `asleep` and doorbell.
    RestFence,
    /// The card's last look at the doorbell.
    RestLook,
    /// The card's look at the kicks that came while it fell asleep.
    RestKicks,
    /// The waiter's fence between arm word and timeline.
    WaiterFence,
    /// The waiter's second look at the timeline.
    WaiterLook,
    /// The card's fence between timeline and arm word.
    CompletionFence,
    /// The card's memory of the value that it signalled last.
    Distinct,
    /// The card's fence between `produced` and event index.
    AnnounceFence,
    /// The host's fence between event index and `produced`.
    RearmFence,
    /// The host's last look at `produced`.
    RearmLook,
    /// The producer's check that the ring has room.
    Room,
    /// The barrier between the owner's mark and its look at the ownership.
    OwnerFence,
    /// The owner's second look at the ownership.
    OwnerLook,
}

/// Whether a step is taken: always, outside the models.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn takes(_step: Step) -> bool {
    true
}

#[cfg(loom)]
mod omit {
    use super::Step;
    use std::cell::Cell;

    std::thread_local! {
        // A model runs on one thread of the system, whatever threads it has itself.
        static OMITTED: Cell<Option<Step>> = const { Cell::new(None) };
    }

    /// Whether a step is taken.
    pub(crate) fn takes(step: Step) -> bool {
        OMITTED.get() != Some(step)
    }

    /// Runs a model without a step.
    pub fn without(step: Step, model: impl FnOnce()) {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                OMITTED.set(None);
            }
        }
        OMITTED.set(Some(step));
        let _restore = Restore;
        model();
    }
}

#[cfg(loom)]
pub(crate) use omit::takes;
#[cfg(loom)]
pub use omit::without;

/// A full fence, if the step is taken.
#[inline(always)]
pub(crate) fn full(step: Step) {
    if takes(step) {
        fence(Ordering::SeqCst);
    }
}

/// The near side of a barrier that the other side passes for all threads (`membarrier(2)`): nothing but the order of the program. The models
/// take it for the full fence that it amounts to.
#[inline(always)]
pub(crate) fn remote(step: Step) {
    #[cfg(not(loom))]
    if takes(step) {
        compiler_fence(Ordering::SeqCst);
    }
    #[cfg(loom)]
    full(step);
}
