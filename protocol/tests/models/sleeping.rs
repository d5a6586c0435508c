//! Producers and a card that falls asleep. Property: work that was submitted is found, by the last look or by a kick.

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use vmlu_protocol::sleep::{Life, Producer, Rest, State};
use vmlu_protocol::submit::{publish, Barrier};
use vmlu_protocol::sync::{without, Step};

use crate::explore;

struct Queue {
    doorbells: [AtomicU64; 2],
    asleep: AtomicU32,
    life: Life,
    /// How often somebody handed the queue to the scheduler.
    scheduled: AtomicU32,
}

impl Producer for Queue {
    fn set_asleep(&self, asleep: bool) {
        self.asleep.store(u32::from(asleep), Ordering::SeqCst);
    }

    fn has_work(&self) -> bool {
        self.doorbells
            .iter()
            .any(|d| d.load(Ordering::Acquire) != 0)
    }
}

impl Queue {
    /// What the card does with a kick.
    fn kick(&self) {
        if self.life.kick() {
            self.set_asleep(false);
            self.scheduled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The producers submit one packet each while the card puts the queue to sleep. Each has a doorbell of its own: as if they took turns in
/// either order.
fn falls_asleep(producers: usize, barrier: Barrier) {
    let queue = Arc::new(Queue {
        doorbells: [AtomicU64::new(0), AtomicU64::new(0)],
        asleep: AtomicU32::new(0),
        life: Life::new(),
        scheduled: AtomicU32::new(0),
    });
    assert!(queue.life.change(State::Asleep, State::Hot));
    let threads: Vec<_> = (0..producers)
        .map(|i| {
            let queue = queue.clone();
            thread::spawn(move || {
                if publish(&queue.doorbells[i], &queue.asleep, 1, barrier) {
                    queue.kick();
                }
            })
        })
        .collect();
    assert!(queue.life.begin_rest(&*queue));
    let rest = queue.life.finish_rest(&*queue, true);
    if rest == Rest::Kicked {
        queue.scheduled.fetch_add(1, Ordering::SeqCst);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let scheduled = queue.scheduled.load(Ordering::SeqCst);
    match queue.life.state() {
        // The card goes on polling.
        State::Hot => assert!(rest == Rest::Work && scheduled == 0),
        // It is in the scheduler's list, once.
        State::Ready => assert_eq!(scheduled, 1),
        state => panic!("lost doorbell: {state:?}"),
    }
    assert_eq!(queue.asleep.load(Ordering::SeqCst), 0);
}

#[test]
fn one_producer() {
    explore(4, || falls_asleep(1, Barrier::Full));
}

#[test]
fn one_producer_with_the_cards_barrier() {
    explore(4, || falls_asleep(1, Barrier::Remote));
}

#[test]
fn two_producers_kick_at_once() {
    explore(3, || falls_asleep(2, Barrier::Full));
}

#[test]
#[should_panic(expected = "lost doorbell")]
fn without_the_producers_fence() {
    without(Step::ProducerFence, || {
        explore(4, || falls_asleep(1, Barrier::Full))
    });
}

#[test]
#[should_panic(expected = "lost doorbell")]
fn without_the_cards_fence() {
    without(Step::RestFence, || {
        explore(4, || falls_asleep(1, Barrier::Full))
    });
}

#[test]
#[should_panic(expected = "lost doorbell")]
fn without_the_last_look() {
    without(Step::RestLook, || {
        explore(4, || falls_asleep(1, Barrier::Full))
    });
}

#[test]
#[should_panic(expected = "lost doorbell")]
fn without_the_mark_of_a_kick() {
    without(Step::RestKicks, || {
        explore(4, || falls_asleep(1, Barrier::Full))
    });
}
