//! The stress test: several owners of contexts, 64 queues among them, that submit random commands, wait for each other, destroy queues with
//! work in flight, and end in the middle of it all; and at the end every packet is accounted for: submitted = completed + failed.
//!
//! [`worker`] is what one owner does. On the embedded card the owners are threads ([`threads`]), and an end in the middle is a context that
//! is dropped; elsewhere they are processes ([`processes`]) that are killed. [`record`] is where they write down what they submit, before
//! they do, so that it is known of those who died. [`account`] compares it with the card's own counters.
//!
//! Commands do not go through the runtime's queues but through [`producer`], a second implementation of the producer's side, written from
//! `docs/hardware.md`, that can do what no program should.

pub mod account;
pub mod processes;
pub mod producer;
pub mod record;
pub mod threads;
pub mod worker;

use std::time::Duration;

/// What a run is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the random numbers begin. Threads and processes run as they like, so that a seed repeats what is done, not when.
    pub seed: u64,
    /// For how long.
    pub duration: Duration,
    /// Owners at a time.
    pub owners: usize,
    /// Queues of each.
    pub queues: usize,
    /// Chip.
    pub device: u32,
}

impl Options {
    /// 64 queues of four owners, for a few seconds; `MLU_STRESS_SECONDS` and `MLU_STRESS_SEED` say otherwise.
    pub fn from_environment() -> Self {
        let number = |name| {
            let text = std::env::var(name).ok()?;
            text.parse::<u64>().ok()
        };
        let seed = number("MLU_STRESS_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |d| d.as_nanos() as u64 >> 10)
        });
        Self {
            seed,
            duration: Duration::from_secs(number("MLU_STRESS_SECONDS").unwrap_or(4)),
            owners: 4,
            queues: 16,
            device: 0,
        }
    }
}

/// Random numbers (xorshift64*), the same from the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers from a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a limit, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// A number below a limit, now and then below a greater one.
    pub fn mostly_below(&mut self, limit: u64, greater: u64) -> u64 {
        let limit = if self.once_in(16) { greater } else { limit };
        self.below(limit)
    }

    /// `true` once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
