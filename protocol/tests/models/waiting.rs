//! Waiters and a card that completes. Properties: a waiter whose value was reached is told or sees it; no value is signalled twice.

use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use vmlu_abi::queue::ARM_NONE;
use vmlu_protocol::sync::{without, Step};
use vmlu_protocol::wait::{arm, arm_smallest, complete, Signalled};

use crate::explore;

struct Words {
    consumed: AtomicU64,
    timeline: AtomicU64,
    arm: AtomicU64,
    /// Events posted.
    events: AtomicU32,
    destroyed: AtomicBool,
}

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            consumed: AtomicU64::new(0),
            timeline: AtomicU64::new(0),
            arm: AtomicU64::new(ARM_NONE),
            events: AtomicU32::new(0),
            destroyed: AtomicBool::new(false),
        })
    }

    /// The card completes packets up to a value.
    fn card(&self, values: u64) {
        let mut signalled = Signalled::new();
        for value in 1..=values {
            let armed = complete(&self.consumed, &self.timeline, &self.arm, value, value);
            if signalled.take(armed, value) {
                self.events.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn events(&self) -> u32 {
        self.events.load(Ordering::SeqCst)
    }
}

/// A waiter arms while the card completes: when all is still, it has seen the value or an event was posted.
fn arms_against_a_completion() {
    let words = Words::new();
    let card = {
        let words = words.clone();
        thread::spawn(move || words.card(2))
    };
    let sleeps = arm(&words.arm, &words.timeline, 2);
    card.join().unwrap();
    let events = words.events();
    assert!(!sleeps || events > 0, "lost wake-up");
    assert!(events <= 1, "signalled twice");
}

#[test]
fn arming_against_a_completion() {
    explore(4, arms_against_a_completion);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn without_the_waiters_fence() {
    without(Step::WaiterFence, || explore(4, arms_against_a_completion));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn without_the_second_look() {
    without(Step::WaiterLook, || explore(4, arms_against_a_completion));
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn without_the_cards_fence() {
    without(Step::CompletionFence, || {
        explore(4, arms_against_a_completion)
    });
}

/// The word stays armed while the card goes on: it is signalled once.
fn stays_armed() {
    let words = Words::new();
    assert!(arm(&words.arm, &words.timeline, 1));
    words.card(2);
    assert_eq!(words.events(), 1, "signalled twice");
}

#[test]
fn a_value_is_signalled_once() {
    explore(2, stays_armed);
}

#[test]
#[should_panic(expected = "signalled twice")]
fn without_the_value_signalled_last() {
    without(Step::Distinct, || explore(2, stays_armed));
}

/// Two waiters share the word by a list of wanted values; each is woken, by an event after it armed or by the one who armed.
fn waiters_share_the_word() {
    let words = Words::new();
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let raised = Arc::new(AtomicU32::new(0));
    let want = |value: u64, words: &Words, wanted: &Mutex<Vec<u64>>, raised: &AtomicU32| {
        let mut wanted = wanted.lock().unwrap();
        wanted.push(value);
        arm_smallest(&words.arm, &words.timeline, &wanted, || {
            raised.fetch_add(1, Ordering::SeqCst);
        });
    };
    let card = {
        let words = words.clone();
        thread::spawn(move || words.card(2))
    };
    let other = {
        let (words, wanted, raised) = (words.clone(), wanted.clone(), raised.clone());
        thread::spawn(move || want(1, &words, &wanted, &raised))
    };
    want(2, &words, &wanted, &raised);
    card.join().unwrap();
    other.join().unwrap();
    // All is still. A signal has every waiter look, and the ones that sleep on arm again.
    let told = words.events() + raised.load(Ordering::SeqCst);
    let armed = words.arm.load(Ordering::SeqCst);
    assert!(told > 0 || armed == ARM_NONE, "lost wake-up");
    assert!(words.events() <= 2, "signalled twice");
}

#[test]
fn waiters_that_share_the_word() {
    explore(2, waiters_share_the_word);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn without_the_cards_fence_for_many() {
    without(Step::CompletionFence, || explore(2, waiters_share_the_word));
}

/// A waiter that is told arms for the next value, against a card that goes on.
fn arms_again() {
    let words = Words::new();
    let card = {
        let words = words.clone();
        thread::spawn(move || words.card(3))
    };
    let first = arm(&words.arm, &words.timeline, 1);
    let before = words.events();
    let second = arm(&words.arm, &words.timeline, 3);
    card.join().unwrap();
    let _ = first;
    assert!(!second || words.events() > 0, "lost wake-up");
    assert!(
        !second || words.events() > before || before > 0,
        "lost wake-up"
    );
    assert!(words.events() <= 2, "signalled twice");
}

#[test]
fn arming_again() {
    explore(3, arms_again);
}

/// A queue is destroyed while a waiter goes to sleep: the mark is stored before the signal, and looked at after counting signals.
fn destroyed() {
    let words = Words::new();
    let destroyer = {
        let words = words.clone();
        thread::spawn(move || {
            words.destroyed.store(true, Ordering::SeqCst);
            words.events.fetch_add(1, Ordering::SeqCst);
        })
    };
    let sleeps = arm(&words.arm, &words.timeline, 1);
    let before = words.events();
    let ended = words.destroyed.load(Ordering::SeqCst);
    destroyer.join().unwrap();
    assert!(sleeps && (ended || words.events() > before), "lost wake-up");
}

#[test]
fn destroyed_while_a_waiter_goes_to_sleep() {
    explore(4, destroyed);
}
