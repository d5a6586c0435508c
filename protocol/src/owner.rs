//! A lock that mostly the same thread takes: its owner enters without an exchange and without a fence, and who else wants it takes the
//! ownership away first.
//!
//! | one side | the other |
//! | --- | --- |
//! | owner: `inside`, then `owner` ([`Owner::enter`]) | others: `owner`, then `inside` ([`Owner::revoke`], [`Owner::is_inside`]) |
//!
//! The fence between the two is the other side's: it has all threads of the process pass a full barrier (`membarrier(2)`,
//! `MEMBARRIER_CMD_PRIVATE_EXPEDITED`), so that the owner only keeps the compiler from moving its accesses. The argument is that of
//! [`Barrier::Remote`](crate::submit::Barrier::Remote).

use crate::sync::{remote, takes, AtomicBool, AtomicU64, Ordering, Step};

/// Who owns a lock, and whether it is inside. Others than the owner exclude each other by an ordinary lock, which they hold around all
/// they do here.
pub struct Owner {
    /// Number of the owning thread; 0: nobody.
    owner: AtomicU64,
    inside: AtomicBool,
}

impl Owner {
    /// Nobody's.
    pub fn new() -> Self {
        Self {
            owner: AtomicU64::new(0),
            inside: AtomicBool::new(false),
        }
    }

    /// Enters if the calling thread, whose number this is, owns the lock; [`Owner::leave`] follows. Numbers are never 0 and never used again.
    #[inline(always)]
    pub fn enter(&self, me: u64) -> bool {
        if self.owner.load(Ordering::Relaxed) != me {
            return false;
        }
        self.inside.store(true, Ordering::Relaxed);
        remote(Step::OwnerFence);
        if !takes(Step::OwnerLook) || self.owner.load(Ordering::Relaxed) == me {
            return true;
        }
        self.leave();
        false
    }

    /// Leaves.
    #[inline(always)]
    pub fn leave(&self) {
        self.inside.store(false, Ordering::Release);
    }

    /// Takes the ownership away from whoever has it; `true` if somebody had it: then the caller has all threads of the process pass a barrier
    /// by `barrier`, and nobody enters any more when it has.
    pub fn revoke(&self, barrier: impl FnOnce()) -> bool {
        if self.owner.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.owner.store(0, Ordering::Relaxed);
        barrier();
        true
    }

    /// Whether the former owner is still inside. Once it is not, what it did is visible.
    pub fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Acquire)
    }

    /// Makes the calling thread the owner. There is none.
    pub fn give(&self, me: u64) {
        self.owner.store(me, Ordering::Relaxed);
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}
