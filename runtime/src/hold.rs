//! What a thread holds without counting: a reference to a shared thing that its thread uses again and again without an exchange, and that others
//! take away.
//!
//! Counting a reference up and down is two exchanges, each of which waits until all that the thread stored for the card before has arrived
//! there. A [`Hold`] is one reference for many uses. Its thread enters and leaves by plain stores; who wants the thing gone pays for it
//! ([`vmlu_protocol::owner`]).

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use vmlu_protocol::owner::{Gift, Owner};

use crate::queue::me;
use crate::transport::sys;

/// A reference that the thread which made it uses.
pub struct Hold<T> {
    owner: Owner,
    /// The ordinary lock of who takes it away; which gift was taken.
    revoked: Mutex<Option<Gift>>,
    /// Read by the owner while it is inside, and taken out by others once the ownership was taken away and the owner is not inside.
    item: UnsafeCell<Option<Arc<T>>>,
}

// SAFETY: the item moves to another thread only by `take`, and is shared with one other at most: an `Arc` of something that is `Send` and
// `Sync` may do both. `Owner` and the lock are for being shared.
unsafe impl<T: Send + Sync> Sync for Hold<T> {}

/// What became of a reference that was to be taken away.
#[derive(Debug)]
pub enum Taken<T> {
    /// It is not used any more; here it is, unless it was taken before.
    Now(Option<Arc<T>>),
    /// Its thread is using it for the last time. Take it again later.
    Later,
}

impl<T> Hold<T> {
    /// A hold of the calling thread; `None` where the system does not let others take it away cheaply.
    pub fn new(item: Arc<T>) -> Option<Self> {
        if !sys::has_barrier() {
            return None;
        }
        let owner = Owner::new();
        owner.give(me()).then(|| Self {
            owner,
            revoked: Mutex::new(None),
            item: UnsafeCell::new(Some(item)),
        })
    }

    /// The thing, for its thread; `None` to other threads, to its thread while it uses the thing already, and once it was taken away.
    #[inline]
    pub fn enter(&self) -> Option<Entered<'_, T>> {
        let gift = self.owner.enter(me())?;
        let leave = Leave { hold: self, gift };
        // SAFETY: the owner is inside, and is not let in a second time until `leave` is dropped, which outlives the reference; while it is,
        // nobody writes the item.
        let item = unsafe { (*self.item.get()).as_ref() }?;
        Some(Entered {
            item,
            leave,
            here: PhantomData,
        })
    }

    /// Takes the reference away from its thread. It costs some microseconds, and does not wait.
    pub fn take(&self) -> Taken<T> {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let gift = match *revoked {
            Some(gift) => gift,
            None => match self.owner.revoke(sys::barrier) {
                Some(gift) => *revoked.insert(gift),
                None => return Taken::Now(None),
            },
        };
        if self.owner.is_inside(gift) {
            return Taken::Later;
        }
        // SAFETY: the ownership was taken away, so nobody enters any more, and its owner is not inside; what it did there is visible.
        // Others that take are kept out by the lock.
        Taken::Now(unsafe { (*self.item.get()).take() })
    }
}

/// A thing in use by the thread that holds it.
pub struct Entered<'a, T> {
    item: &'a Arc<T>,
    /// Dropped behind the last use of the item.
    #[expect(dead_code, reason = "for its drop")]
    leave: Leave<'a, T>,
    /// It stays with its thread.
    here: PhantomData<*const ()>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = Arc<T>;

    #[inline]
    fn deref(&self) -> &Arc<T> {
        self.item
    }
}

/// Ends a use.
struct Leave<'a, T> {
    hold: &'a Hold<T>,
    gift: Gift,
}

impl<T> Drop for Leave<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.hold.owner.leave(self.gift);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_its_thread_uses_it_and_once_at_a_time() {
        let thing = Arc::new(7);
        let Some(hold) = Hold::new(thing.clone()) else {
            return;
        };
        let inside = hold.enter().unwrap();
        assert_eq!(**inside, 7);
        assert!(hold.enter().is_none());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(hold.enter().is_none());
                assert!(matches!(hold.take(), Taken::Later));
            });
        });
        // It goes on with what it has, for this once.
        assert_eq!(**inside, 7);
        drop(inside);
        assert!(hold.enter().is_none());
        assert_eq!(Arc::strong_count(&thing), 2);
        assert!(matches!(hold.take(), Taken::Now(Some(_))));
        assert!(matches!(hold.take(), Taken::Now(None)));
        assert_eq!(Arc::strong_count(&thing), 1);
    }

    /// A thing says whether it is still there.
    struct Thing(AtomicBool);

    impl Drop for Thing {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }

    /// A thread uses things as fast as it can, while others take them away and drop them.
    #[test]
    fn nothing_is_used_that_is_gone() {
        const ROUNDS: usize = 300;
        if !sys::has_barrier() {
            return;
        }
        let place = Mutex::new(None::<Arc<Hold<Thing>>>);
        let (uses, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let thing = Arc::new(Thing(AtomicBool::new(true)));
                    let hold = Arc::new(Hold::new(thing).unwrap());
                    *place.lock().unwrap() = Some(hold.clone());
                    while let Some(thing) = hold.enter() {
                        assert!(thing.0.load(Ordering::Relaxed));
                        uses.fetch_add(1, Ordering::Relaxed);
                    }
                    // The next one takes its place only when this one is gone.
                    while matches!(hold.take(), Taken::Later) {}
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    while taken.load(Ordering::Relaxed) < ROUNDS {
                        let hold = place.lock().unwrap().take();
                        match hold {
                            Some(hold) => {
                                while matches!(hold.take(), Taken::Later) {
                                    std::thread::yield_now();
                                }
                                taken.fetch_add(1, Ordering::Relaxed);
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
        });
        assert!(uses.load(Ordering::Relaxed) > 0);
    }
}
