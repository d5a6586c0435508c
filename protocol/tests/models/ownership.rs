//! A lock with an owner, which enters without an exchange, and others who take the ownership away. Property: one thread at a time is inside,
//! and sees what the one before it did.

use loom::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use vmlu_protocol::owner::Owner;
use vmlu_protocol::sync::{without, Step};

use crate::explore;

struct Lock {
    owner: Owner,
    taken: AtomicBool,
    /// What the lock protects, in two halves that are always the same.
    halves: [AtomicU64; 2],
}

impl Lock {
    fn owned_by(me: u64) -> Arc<Self> {
        let owner = Owner::new();
        owner.give(me);
        Arc::new(Self {
            owner,
            taken: AtomicBool::new(false),
            halves: [AtomicU64::new(0), AtomicU64::new(0)],
        })
    }

    /// Adds one while inside.
    fn work(&self) {
        let [first, second] = &self.halves;
        let value = first.load(Ordering::Relaxed);
        assert_eq!(second.load(Ordering::Relaxed), value, "two are inside");
        first.store(value + 1, Ordering::Relaxed);
        second.store(value + 1, Ordering::Relaxed);
    }

    /// As the runtime's lock.
    fn with(&self, me: u64) {
        if self.owner.enter(me) {
            self.work();
            self.owner.leave();
            return;
        }
        while self.taken.swap(true, Ordering::Acquire) {
            thread::yield_now();
        }
        // `membarrier` makes each thread pass a full barrier at some point of the call.
        if self.owner.revoke(|| fence(Ordering::SeqCst)) {
            while self.owner.is_inside() {
                thread::yield_now();
            }
        }
        self.work();
        self.taken.store(false, Ordering::Release);
    }
}

fn shared(rounds: u64) {
    let lock = Lock::owned_by(1);
    let other = {
        let lock = lock.clone();
        thread::spawn(move || lock.with(2))
    };
    (0..rounds).for_each(|_| lock.with(1));
    other.join().unwrap();
    assert_eq!(lock.halves[0].load(Ordering::Relaxed), rounds + 1);
}

#[test]
fn the_owner_and_another() {
    explore(3, || shared(2));
}

#[test]
fn the_owner_and_two_others() {
    explore(2, || {
        let lock = Lock::owned_by(1);
        let others = [2, 3].map(|me| {
            let lock = lock.clone();
            thread::spawn(move || lock.with(me))
        });
        lock.with(1);
        others.map(|t| t.join().unwrap());
        assert_eq!(lock.halves[1].load(Ordering::Relaxed), 3);
    });
}

#[test]
#[should_panic]
fn without_the_owners_fence() {
    without(Step::OwnerFence, || explore(3, || shared(1)));
}

#[test]
#[should_panic]
fn without_the_owners_second_look() {
    without(Step::OwnerLook, || explore(3, || shared(1)));
}
