//! The producer's side: doorbell and `asleep`.

use crate::sync::{full, remote, AtomicU32, AtomicU64, Ordering, Step};

/// How the producer's accesses are kept in order between its doorbell and its look at `asleep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// By a full fence of its own.
    Full,
    /// By the card's: before its last look at a doorbell the card passes a barrier over all registered threads of the machine
    /// (`membarrier(2)`, `MEMBARRIER_CMD_GLOBAL_EXPEDITED`), so that the producer only keeps the compiler from moving its accesses.
    ///
    /// Allowed only if the firmware says so (`rpc::feature::BARRIER`), and this process has registered with the same kernel. It is as good as
    /// a fence: the system call makes each registered thread pass a full barrier at some point of its program between the call's begin and
    /// end. If that point lies before the producer's doorbell store, its look at `asleep` comes after the card's store of it, and it kicks.
    /// If it lies behind the doorbell store, the card's look, which comes after the call, sees the doorbell. The models treat it as the full
    /// fence that it is on either side of the store.
    Remote,
}

/// Shows the card the units up to `end`, a count since the queue was made; `true` if the card sleeps, and the producer must kick.
///
/// What the producer wrote before is visible to a card that sees `end`.
#[inline]
pub fn publish(doorbell: &AtomicU64, asleep: &AtomicU32, end: u64, barrier: Barrier) -> bool {
    doorbell.store(end, Ordering::Release);
    match barrier {
        Barrier::Full => full(Step::ProducerFence),
        Barrier::Remote => remote(Step::ProducerFence),
    }
    asleep.load(Ordering::Relaxed) != 0
}
