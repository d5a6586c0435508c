//! Who is served next: strict priorities, and fair shares by weight within one.
//!
//! Within a priority this is start-time fair queueing (Goyal, Vin, Cheng, 1996). A queue's *tag* is the virtual time at which its next
//! service begins: where its last one ended, and for a queue that comes back from idleness not before the priority's virtual time, so that
//! it has no credit for the past. A service of `t` takes the queue's virtual time forward by `t / weight`; the smallest tag is served first; the
//! priority's virtual time is the largest tag that was served.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmlu_abi::queue::PRIORITY_HIGH;

/// Priorities.
pub const LEVELS: usize = PRIORITY_HIGH as usize + 1;
/// Virtual time of a nanosecond at weight 1: so fine that a weight of 1,024 counts services of a few hundred nanoseconds.
const SCALE: u64 = 16;

/// What a queue has of the workers' time.
pub struct Share {
    level: usize,
    weight: u64,
    /// Virtual and wall time at which its service began.
    start: AtomicU64,
    since: AtomicU64,
    /// Virtual time at which its last service ended.
    finish: AtomicU64,
    /// It was left with work, and has waited since.
    backlog: AtomicBool,
}

impl Share {
    /// The share of a queue with a priority and a weight, both taken to their nearest lawful value.
    pub fn new(priority: u32, weight: u32) -> Self {
        Self {
            level: (priority as usize).min(LEVELS - 1),
            weight: u64::from(weight.max(1)),
            start: AtomicU64::new(0),
            since: AtomicU64::new(0),
            finish: AtomicU64::new(0),
            backlog: AtomicBool::new(false),
        }
    }

    /// Its priority.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Virtual time at which its last service ended.
    pub(super) fn finish(&self) -> u64 {
        self.finish.load(Ordering::Relaxed)
    }
}

/// The virtual time of each priority.
#[derive(Default)]
pub struct Times([AtomicU64; LEVELS]);

impl Times {
    /// The tag of a queue that has work.
    pub fn tag(&self, share: &Share) -> u64 {
        let finish = share.finish();
        // Other workers may have gone on with larger tags while it was served: that is no reason to lose its place.
        if share.backlog.load(Ordering::Relaxed) {
            return finish;
        }
        finish.max(self.0[share.level].load(Ordering::Relaxed))
    }

    /// A queue is served from a wall time on. Only the worker that owns the queue calls this.
    pub fn begin(&self, share: &Share, wall: u64) {
        let start = self.tag(share);
        share.start.store(start, Ordering::Relaxed);
        share.since.store(wall, Ordering::Relaxed);
        // Without a write where there is nothing to say: others read it.
        if self.0[share.level].load(Ordering::Relaxed) < start {
            self.0[share.level].fetch_max(start, Ordering::Relaxed);
        }
    }

    /// It is left, with more work or without.
    pub fn leave(&self, share: &Share, wall: u64, backlog: bool) {
        self.charge(share, wall);
        share.backlog.store(backlog, Ordering::Relaxed);
    }

    /// It was served until a wall time.
    pub fn charge(&self, share: &Share, wall: u64) {
        let took = wall.saturating_sub(share.since.load(Ordering::Relaxed));
        let cost = (took.saturating_mul(SCALE) / share.weight).max(1);
        let start = share.start.load(Ordering::Relaxed);
        share
            .finish
            .store(start.saturating_add(cost), Ordering::Relaxed);
    }
}

/// What waits to be served.
pub(super) struct Ready<T> {
    /// By tag, then by who came first.
    levels: [BTreeMap<(u64, u64), T>; LEVELS],
    sequence: u64,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self {
            levels: Default::default(),
            sequence: 0,
        }
    }
}

impl<T> Ready<T> {
    /// Adds one.
    pub fn push(&mut self, level: usize, tag: u64, item: T) {
        self.sequence += 1;
        self.levels[level].insert((tag, self.sequence), item);
    }

    /// Takes the one that is to be served next.
    pub fn pop(&mut self) -> Option<T> {
        let level = self.levels.iter_mut().rev().find(|l| !l.is_empty())?;
        level.pop_first().map(|(_, item)| item)
    }

    /// Priority and tag of the one that is to be served next.
    pub fn top(&self) -> Option<(usize, u64)> {
        let (level, waiting) = self
            .levels
            .iter()
            .enumerate()
            .rev()
            .find(|(_, l)| !l.is_empty())?;
        waiting.first_key_value().map(|((tag, _), _)| (level, *tag))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(|l| l.is_empty())
    }

    /// Keeps what is to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.levels
            .iter_mut()
            .for_each(|l| l.retain(|_, item| keep(item)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queues that share one worker, in simulated time.
    struct Simulation {
        shares: Vec<Share>,
        times: Times,
        ready: Ready<usize>,
        now: u64,
        served: Vec<u64>,
    }

    impl Simulation {
        fn new(queues: &[(u32, u32)]) -> Self {
            Self {
                shares: queues.iter().map(|(p, w)| Share::new(*p, *w)).collect(),
                times: Times::default(),
                ready: Ready::default(),
                now: 1,
                served: vec![0; queues.len()],
            }
        }

        fn wake(&mut self, queue: usize) {
            let share = &self.shares[queue];
            self.ready.push(share.level(), self.times.tag(share), queue);
        }

        /// Serves the next queue for a while; it has more work if `more` says so.
        fn serve(&mut self, ns: u64, more: impl Fn(usize) -> bool) -> usize {
            let queue = self.ready.pop().unwrap();
            self.times.begin(&self.shares[queue], self.now);
            self.now += ns;
            self.served[queue] += ns;
            self.times.leave(&self.shares[queue], self.now, more(queue));
            if more(queue) {
                self.wake(queue);
            }
            queue
        }
    }

    fn near(value: u64, wanted: f64) {
        let ratio = value as f64 / wanted;
        assert!((0.9..1.1).contains(&ratio), "{value}, not {wanted}");
    }

    /// Shares go by weight whatever the services last.
    #[test]
    fn shares_go_by_weight() {
        for weights in [[1, 3], [1, 1], [7, 1024], [300, 900]] {
            let mut simulation = Simulation::new(&[(3, weights[0]), (3, weights[1])]);
            simulation.wake(0);
            simulation.wake(1);
            for round in 0..200_000_u64 {
                simulation.serve(1_000 + round * 7_919 % 9_000, |_| true);
            }
            let total = simulation.now as f64;
            let sum = f64::from(weights[0] + weights[1]);
            for (queue, weight) in weights.into_iter().enumerate() {
                near(simulation.served[queue], total * f64::from(weight) / sum);
            }
        }
    }

    /// Long commands count for what they take, not for one.
    #[test]
    fn time_counts_and_not_commands() {
        let mut simulation = Simulation::new(&[(3, 1), (3, 1)]);
        simulation.wake(0);
        simulation.wake(1);
        for _ in 0..10_000 {
            let long =
                simulation.ready.top().is_some() && simulation.served[0] <= simulation.served[1];
            simulation.serve(if long { 50_000 } else { 1_000 }, |_| true);
        }
        near(simulation.served[0], simulation.now as f64 / 2.0);
    }

    /// The highest priority with work is served, whatever weights say.
    #[test]
    fn priorities_are_strict() {
        let mut simulation = Simulation::new(&[(0, 1024), (7, 1), (3, 1024)]);
        (0..3).for_each(|q| simulation.wake(q));
        let last = (0..100).map(|_| simulation.serve(1000, |q| q != 2)).last();
        assert_eq!((last, simulation.served[0]), (Some(1), 0));
        assert_eq!(simulation.served[2], 0);
    }

    /// A queue that slept shares from when it wakes; it gets nothing for the time before, and pays nothing.
    #[test]
    fn there_is_no_credit_for_idleness() {
        let mut simulation = Simulation::new(&[(3, 1), (3, 1)]);
        simulation.wake(0);
        for _ in 0..10_000 {
            simulation.serve(1000, |_| true);
        }
        simulation.wake(1);
        let before = simulation.served[0];
        for _ in 0..1000 {
            simulation.serve(1000, |_| true);
        }
        near(simulation.served[0] - before, 500_000.0);
        near(simulation.served[1], 500_000.0);
    }

    /// Nobody waits longer than the others' weights say.
    #[test]
    fn nobody_starves_within_a_priority() {
        let mut queues = vec![(3, 1024); 63];
        queues.push((3, 1));
        let mut simulation = Simulation::new(&queues);
        (0..64).for_each(|q| simulation.wake(q));
        for _ in 0..63 * 1024 * 20 {
            simulation.serve(1000, |_| true);
        }
        near(simulation.served[63], 20_000.0 * 1.025);
    }

    #[test]
    fn what_is_forgotten_is_not_served() {
        let mut ready = Ready::default();
        ready.push(1, 5, 'a');
        ready.push(6, 9, 'b');
        ready.push(6, 9, 'c');
        assert_eq!(ready.top(), Some((6, 9)));
        ready.retain(|c| *c != 'b');
        assert_eq!((ready.pop(), ready.pop()), (Some('c'), Some('a')));
        assert!(ready.is_empty() && ready.top().is_none());
    }
}
