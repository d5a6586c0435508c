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

use crate::sync::{remote, takes, AtomicBool, AtomicU64, AtomicUsize, Ordering, Step};

/// How often the ownership of a lock may be given. Each time has a mark of its own: a former owner that saw itself as owner, and goes on
/// only when there is another, touches nothing but its own mark. A lock whose ownership was taken away so often is better off without one.
pub const GIFTS: usize = 8;

/// Who owns a lock, and whether it is inside. Others than the owner exclude each other by an ordinary lock, which they hold around all
/// they do here.
pub struct Owner {
    /// Number of the owning thread times [`GIFTS`], and in the low bits which gift it is; 0: nobody.
    owner: AtomicU64,
    inside: [AtomicBool; GIFTS],
    /// How often it was given.
    given: AtomicUsize,
}

/// One of the times that the ownership was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gift(usize);

impl Owner {
    /// Nobody's.
    pub fn new() -> Self {
        Self {
            owner: AtomicU64::new(0),
            inside: core::array::from_fn(|_| AtomicBool::new(false)),
            given: AtomicUsize::new(0),
        }
    }

    fn mark(&self, gift: Gift) -> &AtomicBool {
        &self.inside[gift.0 % GIFTS]
    }

    /// Enters if the calling thread, whose number this is, owns the lock and is not inside already; [`Owner::leave`] follows. Numbers are
    /// never 0 and never used again.
    #[inline(always)]
    pub fn enter(&self, me: u64) -> Option<Gift> {
        let word = self.owner.load(Ordering::Relaxed);
        let gift = word.wrapping_sub(me.wrapping_mul(GIFTS as u64));
        if gift >= GIFTS as u64 {
            return None;
        }
        let gift = Gift(gift as usize);
        if self.is_inside(gift) {
            return None;
        }
        self.mark(gift).store(true, Ordering::Relaxed);
        remote(Step::OwnerFence);
        if !takes(Step::OwnerLook) || self.owner.load(Ordering::Relaxed) == word {
            return Some(gift);
        }
        self.leave(gift);
        None
    }

    /// Leaves.
    #[inline(always)]
    pub fn leave(&self, gift: Gift) {
        self.mark(gift).store(false, Ordering::Release);
    }

    /// Takes the ownership away from whoever has it: has all threads of the process pass a barrier by `barrier`, after which nobody enters any
    /// more. `None` if nobody had it.
    pub fn revoke(&self, barrier: impl FnOnce()) -> Option<Gift> {
        let word = self.owner.load(Ordering::Relaxed);
        if word == 0 {
            return None;
        }
        self.owner.store(0, Ordering::Relaxed);
        barrier();
        Some(Gift((word % GIFTS as u64) as usize))
    }

    /// Whether the owner that had this gift, which was taken away, is still inside. Once it is not, what it did is visible.
    #[inline(always)]
    pub fn is_inside(&self, gift: Gift) -> bool {
        self.mark(gift).load(Ordering::Acquire)
    }

    /// Makes the calling thread the owner, where there is none; `false` if it was given as often as it may be.
    pub fn give(&self, me: u64) -> bool {
        let gift = self.given.load(Ordering::Relaxed);
        if gift >= GIFTS {
            return false;
        }
        self.given.store(gift + 1, Ordering::Relaxed);
        let word = me.wrapping_mul(GIFTS as u64).wrapping_add(gift as u64);
        self.owner.store(word, Ordering::Relaxed);
        true
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}
