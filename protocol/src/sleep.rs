//! The card's side of sleeping: what a queue is doing, and all moves of its state.

use crate::sync::{full, takes, AtomicBool, AtomicU8, Ordering, Step};

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
        // Exchanged, not stored, here and in `finish_rest`: of two exchanges the later one sees the earlier one and all before it. So either
        // `finish_rest` sees the mark, or this sees the state that it left.
        self.kicked.swap(true, Ordering::AcqRel);
        self.change(State::Asleep, State::Ready)
    }

    /// Begins to put a hot queue to sleep: tells the producer; `false` if the queue is not hot, and somebody else has it. The caller passes a
    /// barrier, one for all queues that begin together, and goes on with [`Life::finish_rest`].
    pub fn begin_rest(&self, producer: &impl Producer) -> bool {
        if !self.change(State::Hot, State::Running) {
            return false;
        }
        self.kicked.store(false, Ordering::SeqCst);
        producer.set_asleep(true);
        full(Step::RestFence);
        true
    }

    /// Puts a queue to sleep that has begun to, unless work came. `passed`: the threads that submit with
    /// [`Barrier::Remote`](crate::submit::Barrier::Remote) have passed a barrier since it began, or there are none; without it the queue
    /// stays awake.
    pub fn finish_rest(&self, producer: &impl Producer, passed: bool) -> Rest {
        if !passed || (takes(Step::RestLook) && producer.has_work()) {
            producer.set_asleep(false);
            self.leave(State::Hot);
            return Rest::Work;
        }
        self.leave(State::Asleep);
        // A kick that came before the state changed found nobody to wake.
        if takes(Step::RestKicks)
            && self.kicked.swap(false, Ordering::AcqRel)
            && self.change(State::Asleep, State::Ready)
        {
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
