//! A lock with an owner, which enters without an exchange, and others who take the ownership away. Property: one thread at a time is inside,
//! and sees what the one before it did.

use loom::sync::atomic::{fence, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use vmlu_protocol::owner::{Owner, GIFTS};
use vmlu_protocol::sync::{without, Step};

use crate::explore;

struct Lock {
    owner: Owner,
    /// The ordinary lock of all but the owner.
    taken: Mutex<()>,
    /// What the lock protects, in two halves that are always the same.
    halves: [AtomicU64; 2],
}

impl Lock {
    fn owned_by(me: u64) -> Arc<Self> {
        let owner = Owner::new();
        assert!(owner.give(me));
        Arc::new(Self {
            owner,
            taken: Mutex::new(()),
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

    fn with(&self, me: u64) {
        self.with_and(me, false);
    }

    /// As the runtime's lock. `keep`: who takes it becomes its owner.
    fn with_and(&self, me: u64, keep: bool) {
        if let Some(gift) = self.owner.enter(me) {
            self.work();
            self.owner.leave(gift);
            return;
        }
        let taken = self.taken.lock().unwrap();
        // `membarrier` makes each thread pass a full barrier at some point of the call.
        if let Some(gift) = self.owner.revoke(|| fence(Ordering::SeqCst)) {
            while self.owner.is_inside(gift) {
                thread::yield_now();
            }
        }
        self.work();
        if keep {
            assert!(self.owner.give(me));
        }
        drop(taken);
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
        others.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(lock.halves[1].load(Ordering::Relaxed), 3);
    });
}

/// The ownership goes to another thread while the former owner is on its way in.
#[test]
fn the_next_owner() {
    explore(3, || {
        let lock = Lock::owned_by(1);
        let next = {
            let lock = lock.clone();
            thread::spawn(move || {
                lock.with_and(2, true);
                lock.with(2);
            })
        };
        lock.with(1);
        next.join().unwrap();
        assert_eq!(lock.halves[1].load(Ordering::Relaxed), 3);
    });
}

#[test]
fn it_is_given_so_often() {
    explore(1, || {
        let owner = Owner::new();
        for _ in 0..GIFTS {
            assert!(owner.give(1));
            let gift = owner.enter(1).unwrap();
            assert_eq!((owner.enter(1), owner.enter(2)), (None, None));
            owner.leave(gift);
            assert_eq!(owner.revoke(|| {}), Some(gift));
            assert_eq!((owner.enter(1), owner.is_inside(gift)), (None, false));
        }
        assert!(!owner.give(1));
        assert_eq!((owner.enter(1), owner.revoke(|| {})), (None, None));
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
