//! The lock of a queue's producer. A thread that takes it again and again owns it: it takes it by a store, without an exchange, which would
//! wait until all that it stored for the card before has arrived there. Others take the ownership away first.
//!
//! It is held for some tens of nanoseconds, never while anybody waits for a command; only clearing an error holds it over a call. Who finds
//! it taken spins, then lets others run.

use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmlu_protocol::owner::{Gift, Owner};

use crate::transport::sys;

/// Looks at a taken lock before its owner is taken to be off its processor.
const SPINS: u32 = 200;
/// How often in a row a thread takes the lock before it owns it, at first. Each time that the ownership is taken away, which costs some
/// microseconds, it becomes [`DEARER`] times as much.
const FIRST_STREAK: u32 = 32;
const DEARER: u32 = 4;

/// A value that one thread at a time uses, in lines of its own.
#[repr(align(128))]
pub(super) struct Lock<T> {
    owner: Owner,
    taken: AtomicBool,
    /// Only used by who has `taken`.
    habit: UnsafeCell<Habit>,
    value: UnsafeCell<T>,
}

/// Who takes the lock of late.
struct Habit {
    last: u64,
    streak: u32,
    /// At which streak the lock is given to its thread.
    wanted: u32,
}

// SAFETY: the value is only reached through a guard, of which there is one at a time, and the habit only by who has `taken`; so they move
// between threads, and are not shared.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The right to use the value.
pub(super) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    hold: Hold,
    /// It stays with its thread: the lock may be that thread's own.
    here: PhantomData<*const ()>,
}

/// How a lock is held.
enum Hold {
    /// By its owner, who has this gift.
    Owned(Gift),
    /// It is `taken`.
    Taken,
    /// Likewise, and this thread owns it from the end on.
    Earned(u64),
}

/// A number of this thread, that no other ever has.
#[inline]
pub(crate) fn me() -> u64 {
    thread_local! {
        static ME: Cell<u64> = const { Cell::new(0) };
    }
    #[cold]
    fn next() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }
    let mut me = ME.get();
    if me == 0 {
        me = next();
        ME.set(me);
    }
    me
}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            owner: Owner::new(),
            taken: AtomicBool::new(false),
            habit: UnsafeCell::new(Habit {
                last: 0,
                streak: 0,
                wanted: FIRST_STREAK,
            }),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        let me = me();
        if let Some(gift) = self.owner.enter(me) {
            return self.guard(Hold::Owned(gift));
        }
        self.take(me)
    }

    #[inline]
    fn guard(&self, hold: Hold) -> Guard<'_, T> {
        Guard {
            lock: self,
            hold,
            here: PhantomData,
        }
    }

    fn take(&self, me: u64) -> Guard<'_, T> {
        if self.taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        // SAFETY: this thread has `taken`, and the reference ends with this function.
        let habit = unsafe { &mut *self.habit.get() };
        if let Some(gift) = self.owner.revoke(sys::barrier) {
            habit.wanted = habit.wanted.saturating_mul(DEARER);
            habit.streak = 0;
            let mut spins = 0;
            while self.owner.is_inside(gift) {
                pause(&mut spins);
            }
        }
        if habit.last != me {
            (habit.last, habit.streak) = (me, 0);
        }
        habit.streak += 1;
        if habit.streak >= habit.wanted && sys::has_barrier() {
            habit.streak = 0;
            return self.guard(Hold::Earned(me));
        }
        self.guard(Hold::Taken)
    }

    #[cold]
    fn wait(&self) {
        let mut spins = 0;
        loop {
            while self.taken.load(Ordering::Relaxed) {
                pause(&mut spins);
            }
            if !self.taken.swap(true, Ordering::Acquire) {
                return;
            }
        }
    }
}

fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        spin_loop();
    } else {
        std::thread::yield_now();
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its thread is inside as owner, where it does not get in again, or has `taken` after the ownership
        // was taken away, which it gets at the earliest when the guard ends; each such time makes one guard. Acquire and release order the uses.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        match self.hold {
            Hold::Owned(gift) => return self.lock.owner.leave(gift),
            Hold::Taken => {}
            // If it cannot be given any more, it stays a lock like others.
            Hold::Earned(me) => _ = self.lock.owner.give(me),
        }
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn one_at_a_time() {
        let lock = Lock::new((0_u64, 0_u64));
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let lock = &lock;
                scope.spawn(move || {
                    for round in 0..20_000_u64 {
                        let mut pair = lock.lock();
                        assert_eq!(pair.0, pair.1);
                        pair.0 += 1;
                        pair.1 += 1;
                        drop(pair);
                        // Streaks of several lengths, so that the lock is given and taken away.
                        if round % (1 << (8 + thread)) == 0 {
                            std::thread::sleep(std::time::Duration::from_micros(300));
                        }
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (80_000, 80_000));
    }

    /// A thread that has ended still owns it.
    #[test]
    fn an_owner_that_has_gone() {
        let lock = Lock::new(0);
        for _ in 0..3 {
            std::thread::scope(|scope| {
                scope.spawn(|| (0..10_000).for_each(|_| *lock.lock() += 1));
            });
            *lock.lock() += 1;
        }
        assert_eq!(*lock.lock(), 30_003);
    }
}
