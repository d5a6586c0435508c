//! The card posts events while the host takes them, with a vector that may be masked. Property: when all is still, every entry was taken or
//! an interrupt is on its way.

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use vmlu_protocol::event::{announce, rearm};
use vmlu_protocol::sync::{without, Step};

use crate::explore;

struct Vector {
    produced: AtomicU64,
    event_index: AtomicU64,
    consumed: AtomicU64,
    /// Whether the vector is enabled, and whether an interrupt was latched while it was not: the interrupt controller's, which locks.
    latch: Mutex<(bool, bool)>,
    /// An interrupt was delivered, and nobody has taken what it is about.
    pending: AtomicBool,
}

impl Vector {
    fn new(enabled: bool) -> Arc<Self> {
        Arc::new(Self {
            produced: AtomicU64::new(0),
            event_index: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            latch: Mutex::new((enabled, false)),
            pending: AtomicBool::new(false),
        })
    }

    fn post(&self, entries: u64) {
        for old in 0..entries {
            if announce(&self.produced, &self.event_index, old) {
                self.raise();
            }
        }
    }

    fn raise(&self) {
        let mut latch = self.latch.lock().unwrap();
        if latch.0 {
            self.pending.store(true, Ordering::SeqCst);
        } else {
            latch.1 = true;
        }
    }

    fn enable(&self) {
        let mut latch = self.latch.lock().unwrap();
        latch.0 = true;
        if std::mem::take(&mut latch.1) {
            self.pending.store(true, Ordering::SeqCst);
        }
    }

    /// The host's handler: takes all there is; how many it has taken since the ring was set.
    fn take(&self) -> u64 {
        self.pending.store(false, Ordering::SeqCst);
        loop {
            let taken = self.produced.load(Ordering::Acquire);
            if rearm(&self.consumed, &self.event_index, &self.produced, taken) {
                return taken;
            }
        }
    }
}

fn takes_while_events_come() {
    let vector = Vector::new(true);
    let card = {
        let vector = vector.clone();
        thread::spawn(move || vector.post(2))
    };
    // An interrupt that another entry raised has the host look now.
    let taken = vector.take();
    card.join().unwrap();
    let pending = vector.pending.load(Ordering::SeqCst);
    assert!(taken == 2 || pending, "lost interrupt: {taken} taken");
}

#[test]
fn events_while_the_host_takes_some() {
    explore(4, takes_while_events_come);
}

#[test]
#[should_panic(expected = "lost interrupt")]
fn without_the_cards_fence() {
    without(Step::AnnounceFence, || explore(4, takes_while_events_come));
}

#[test]
#[should_panic(expected = "lost interrupt")]
fn without_the_hosts_fence() {
    without(Step::RearmFence, || explore(4, takes_while_events_come));
}

#[test]
#[should_panic(expected = "lost interrupt")]
fn without_the_hosts_last_look() {
    without(Step::RearmLook, || explore(4, takes_while_events_come));
}

/// The vector is enabled while the card posts: an interrupt from before is latched and delivered.
#[test]
fn masked_vector() {
    explore(4, || {
        let vector = Vector::new(false);
        let card = {
            let vector = vector.clone();
            thread::spawn(move || vector.post(2))
        };
        vector.enable();
        card.join().unwrap();
        assert!(vector.pending.load(Ordering::SeqCst), "lost interrupt");
        assert_eq!(vector.take(), 2);
    });
}
