//! What a queue is doing, and the protocol of sleep and kick: all moves of a queue's state are here, and nothing else is, so that the
//! protocol can be checked by itself.
//!
//! The other side of it is the producer: it writes packets, then its doorbell (release), a full fence, and reads `asleep`; if that is set it
//! kicks. The card sets `asleep`, a full fence, and reads the doorbell once more. So one of the two sees the other.

use std::sync::atomic::{fence, AtomicBool, AtomicU8, Ordering};

/// What a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The card does not look at the doorbell; a kick makes it ready.
    Asleep = 0,
    /// In the scheduler's list of queues with work, or about to be put there by the one who moved it.
    Ready = 1,
    /// A worker serves it, and owns it until it moves it on.
    Running = 2,
    /// Empty, but its doorbell is polled.
    Hot = 3,
    /// Waits for another queue's timeline.
    Blocked = 4,
    /// Destroyed, or stopped for good. No state follows.
    Dead = 5,
}

/// The producer's side of a queue, as far as sleeping goes.
pub trait Producer {
    /// Tells the producer whether the card looks at the doorbell.
    fn set_asleep(&self, asleep: bool);
    /// Whether the producer has written more than was consumed.
    fn has_work(&self) -> bool;
}

/// How an attempt to sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The queue was not hot: somebody else has it.
    Taken,
    /// Work came: it is hot again.
    Work,
    /// It sleeps.
    Asleep,
    /// It slept, and a kick came at once: it is ready, and the caller hands it to the scheduler.
    Kicked,
}

/// A queue's state.
pub struct Life {
    state: AtomicU8,
    /// A kick came; cleared when the queue begins to fall asleep.
    kicked: AtomicBool,
}

impl Life {
    /// A queue that sleeps.
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(State::Asleep as u8),
            kicked: AtomicBool::new(false),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::SeqCst) {
            0 => State::Asleep,
            1 => State::Ready,
            2 => State::Running,
            3 => State::Hot,
            4 => State::Blocked,
            _ => State::Dead,
        }
    }

    /// Moves from one state to another; `false` if it was not in the first.
    pub fn change(&self, from: State, to: State) -> bool {
        self.state
            .compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Moves on from `Running`. Only the worker that owns the queue calls it.
    pub fn leave(&self, to: State) {
        self.state.store(to as u8, Ordering::SeqCst);
    }

    /// A kick; `true` if it woke the queue, which is ready now: the caller takes `asleep` back and then hands it to the scheduler.
    pub fn kick(&self) -> bool {
        self.kicked.store(true, Ordering::SeqCst);
        self.change(State::Asleep, State::Ready)
    }

    /// Puts a hot queue to sleep, unless work came.
    pub fn rest(&self, producer: &impl Producer) -> Rest {
        if !self.change(State::Hot, State::Running) {
            return Rest::Taken;
        }
        self.kicked.store(false, Ordering::SeqCst);
        producer.set_asleep(true);
        fence(Ordering::SeqCst);
        if producer.has_work() {
            producer.set_asleep(false);
            self.leave(State::Hot);
            return Rest::Work;
        }
        self.leave(State::Asleep);
        // A kick that came before the state changed found nobody to wake.
        if self.kicked.load(Ordering::SeqCst) && self.change(State::Asleep, State::Ready) {
            producer.set_asleep(false);
            return Rest::Kicked;
        }
        Rest::Asleep
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}
