//! How many workers there may be.
//!
//! While queues wait, there is one worker more than cores for each that hangs: that has been inside one command for a tick and waits there
//! for something. One that computes all the while has its core, and one more beside it shares that with it: that is for commands
//! that are short and would have to wait for it, and so for a few workers only, or the threads around the card (a guest's processors
//! among them) get nothing. Where all of those are inside commands that go on and on, one more comes now and then, and at once for a
//! queue of a higher priority.

use std::sync::atomic::Ordering;

use super::Scheduler;

/// Ticks in which no worker has got on, though queues wait, after which there is one worker more.
const PATIENCE: u32 = 4;
/// Ticks after which a command that hangs is looked at again.
const LOOK_AGAIN: u32 = 16;

/// Workers that hang for each that comes before it is known to be needed, and most of those: where many queues hang, it is known soon.
const SPARE: usize = 4;
const MOST_SPARE: usize = 16;

/// What was seen of the workers at the last tick.
pub(super) struct Crew {
    seen: Vec<Seen>,
    patience: Patience,
}

#[derive(Clone, Default)]
struct Seen {
    beat: u64,
    /// For how many ticks it has been inside one command.
    ticks: u32,
    hangs: bool,
}

impl Crew {
    /// Nothing was seen of so many.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            seen: vec![Seen::default(); workers],
            patience: Patience::default(),
        }
    }
}

#[derive(Default)]
struct Patience {
    /// Ticks since a worker has got on while queues waited.
    still: u32,
    /// Workers that came because nobody got on.
    granted: usize,
}

impl Patience {
    /// How many workers there may be where there are so many cores. `looks`: see [`Scheduler::look_at`].
    fn allowed(
        &mut self,
        cores: usize,
        looks: impl Iterator<Item = Result<bool, Stuck>>,
        waits: Option<usize>,
    ) -> usize {
        let (mut computing, mut hanging, mut got_on) = (0, 0, false);
        let mut urgent = false;
        for look in looks {
            match look {
                Ok(got) => got_on |= got,
                Err(Stuck::Computes(level)) => {
                    computing += 1;
                    urgent |= waits > Some(level);
                }
                Err(Stuck::Hangs) => hanging += 1,
            }
        }
        self.still = if got_on || waits.is_none() {
            0
        } else {
            self.still + 1
        };
        if computing <= cores {
            self.granted = 0;
        }
        if self.still >= PATIENCE {
            self.still = 0;
            self.granted += 1;
        }
        let beside = if urgent {
            computing
        } else {
            computing.min(cores + self.granted)
        };
        let more = (hanging / SPARE).min(MOST_SPARE);
        cores + hanging + more + beside
    }
}

/// What a worker does that has been inside one command since the last tick.
enum Stuck {
    /// For a queue of this priority.
    Computes(usize),
    Hangs,
}

impl Scheduler {
    /// Looks at the workers; how many there may be. `waits`: the highest priority of queues that wait for one.
    pub(super) fn allowed_workers(&self, waits: Option<usize>) -> usize {
        let mut crew = self.crew.lock().unwrap_or_else(|e| e.into_inner());
        let Crew { seen, patience } = &mut *crew;
        let numbers = 0..self.numbers.load(Ordering::Relaxed);
        let looks = numbers.zip(seen).map(|(number, s)| self.look_at(number, s));
        patience.allowed(self.workers, looks, waits)
    }

    /// Whether there are more workers than there may be.
    pub(super) fn has_surplus(&self) -> bool {
        self.alive.load(Ordering::Relaxed) > self.allowed.load(Ordering::Relaxed)
    }

    /// Whether a worker has got on since the last tick; else what it does, if it is inside a command.
    fn look_at(&self, number: usize, seen: &mut Seen) -> Result<bool, Stuck> {
        let sign = &self.signs[number];
        let beat = sign.beat.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut seen.beat, beat);
        if beat != before || beat.is_multiple_of(2) {
            seen.ticks = 0;
            return Ok(beat != before);
        }
        // One that hangs mostly stays so.
        if !seen.hangs || seen.ticks.is_multiple_of(LOOK_AGAIN) {
            let thread = sign.thread.load(Ordering::Relaxed);
            // If nothing is known of it, it is to hold nobody up.
            seen.hangs = is_waiting(thread).unwrap_or(true);
        }
        seen.ticks = seen.ticks.wrapping_add(1);
        Err(if seen.hangs {
            Stuck::Hangs
        } else {
            Stuck::Computes(sign.level.load(Ordering::Relaxed))
        })
    }
}

/// Whether a thread of this process waits for something other than a processor.
fn is_waiting(thread: i32) -> Option<bool> {
    let text = std::fs::read(format!("/proc/self/task/{thread}/stat")).ok()?;
    // The name, in parentheses, may have any bytes.
    let name = text.iter().rposition(|b| *b == b')')?;
    text.get(name + 2).map(|state| *state == b'S')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On two cores, with so many workers inside commands of each kind.
    fn allowed(patience: &mut Patience, computing: usize, hanging: usize, got_on: bool) -> usize {
        let computing = (0..computing).map(|_| Err(Stuck::Computes(3)));
        let hanging = (0..hanging).map(|_| Err(Stuck::Hangs));
        let looks = computing.chain(hanging).chain([Ok(got_on)]);
        patience.allowed(2, looks, Some(3))
    }

    #[test]
    fn one_more_for_each_that_hangs() {
        let mut patience = Patience::default();
        for hanging in 0..100 {
            let more = hanging + (hanging / 4).min(16);
            assert_eq!(allowed(&mut patience, 0, hanging, true), 2 + more);
            assert_eq!(allowed(&mut patience, 2, hanging, true), 4 + more);
        }
    }

    #[test]
    fn one_more_for_who_has_priority() {
        let mut patience = Patience::default();
        let looks = || (0..9).map(|_| Err(Stuck::Computes(3)));
        for (waits, allowed) in [(None, 4), (Some(2), 4), (Some(3), 4), (Some(4), 11)] {
            assert_eq!(patience.allowed(2, looks(), waits), allowed);
        }
    }

    #[test]
    fn few_compute_unless_nobody_gets_on() {
        let mut patience = Patience::default();
        assert!((0..50).all(|_| allowed(&mut patience, 30, 0, true) == 4));
        let last = (0..3 * PATIENCE).map(|_| allowed(&mut patience, 30, 0, false));
        assert_eq!(last.last(), Some(4 + 3));
        assert_eq!(allowed(&mut patience, 30, 0, true), 4 + 3);
        assert_eq!(allowed(&mut patience, 1, 0, true), 3);
        assert_eq!(allowed(&mut patience, 30, 0, true), 4);
    }

    #[test]
    fn threads_that_wait() {
        let me = || rustix::thread::gettid().as_raw_nonzero().get();
        assert_eq!(is_waiting(me()), Some(false));
        let (number, end) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let thread = std::thread::spawn(move || {
            number.0.send(me()).unwrap();
            end.1.recv()
        });
        let other = number.1.recv().unwrap();
        while is_waiting(other) == Some(false) {
            std::thread::yield_now();
        }
        assert_eq!(is_waiting(other), Some(true));
        drop(end.0);
        assert!(thread.join().unwrap().is_err());
    }
}
