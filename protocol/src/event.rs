//! Event rings: when an interrupt is due.

use vmlu_abi::event::needs_interrupt;

use crate::sync::{full, takes, AtomicU64, Ordering, Step};

/// Card: shows the entry with position `old`, which was written before; `true` if an interrupt is due.
pub fn announce(produced: &AtomicU64, event_index: &AtomicU64, old: u64) -> bool {
    let new = old.wrapping_add(1);
    produced.store(new, Ordering::Release);
    full(Step::AnnounceFence);
    needs_interrupt(event_index.load(Ordering::Relaxed), old, new)
}

/// Host: tells the card that the entries up to `taken` were taken, and asks for an interrupt with the next one; `false` if that is there
/// already: it raised no interrupt, and none after it would, so that the caller takes it now.
pub fn rearm(
    consumed: &AtomicU64,
    event_index: &AtomicU64,
    produced: &AtomicU64,
    taken: u64,
) -> bool {
    consumed.store(taken, Ordering::Release);
    event_index.store(taken, Ordering::Release);
    full(Step::RearmFence);
    !takes(Step::RearmLook) || produced.load(Ordering::Acquire) == taken
}
