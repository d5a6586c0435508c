//! Random numbers, permutations and dropout. Numbers are those of `docs/operators.md`: a seed and an offset name them, on every host.

use std::sync::atomic::{AtomicU64, Ordering};

use vmlu_abi::Wire;
use vmlu_ops::{dropout, permutation, random, Descriptor};

use super::optional;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::tensor::Tensor;

/// Where random numbers come from: a seed, and how many blocks of four words have been drawn.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    stream: u64,
    offset: AtomicU64,
}

impl Generator {
    /// The numbers of a seed from the first on.
    pub fn new(seed: u64) -> Self {
        Self::at(seed, 0, 0)
    }

    /// The numbers of a seed's stream from a block on.
    pub fn at(seed: u64, stream: u64, offset: u64) -> Self {
        Self {
            seed,
            stream,
            offset: AtomicU64::new(offset),
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next block that nothing has drawn.
    pub fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Takes some blocks; returns the first.
    fn take(&self, blocks: u64) -> u64 {
        self.offset.fetch_add(blocks, Ordering::Relaxed)
    }
}

/// Where a command draws from.
#[derive(Clone, Copy)]
pub enum Draw<'a> {
    /// From a generator on the host, which moves on when the command is submitted. A captured command draws the same numbers in every replay.
    From(&'a Generator),
    /// From a U64 `[2]` on the card, seed and offset, which moves on when the command has ended: replays draw new numbers.
    State(&'a Tensor),
}

/// A distribution.
#[derive(Clone, Copy)]
pub enum Distribution<'a> {
    /// From `low` up to `high`, without it.
    Uniform {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The normal one.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        deviation: f64,
    },
    /// 1 with a probability, else 0.
    Bernoulli(f64),
    /// 1 with a probability of each element's own, broadcast.
    BernoulliOf(&'a Tensor),
    /// Whole numbers from `low` up to `high`, without it.
    Integers {
        /// Least one.
        low: i64,
        /// Behind the greatest.
        high: i64,
    },
    /// The exponential one of a rate.
    Exponential(f64),
    /// The exponential of a normal number.
    LogNormal {
        /// Mean of that number.
        mean: f64,
        /// Its standard deviation.
        deviation: f64,
    },
    /// Cauchy's.
    Cauchy {
        /// Its middle.
        median: f64,
        /// Its width.
        width: f64,
    },
    /// Trials of a probability until the first success.
    Geometric(f64),
    /// Whole numbers of all bits.
    Bits,
}

impl Queue {
    /// Fills a tensor with random numbers.
    pub fn random(
        &self,
        distribution: Distribution<'_>,
        draw: Draw<'_>,
        out: &Tensor,
    ) -> Result<u64> {
        use random::Function as F;
        use Distribution as D;
        let (function, alpha, beta) = match distribution {
            D::Uniform { low, high } => (F::Uniform, low, high),
            D::Normal { mean, deviation } => (F::Normal, mean, deviation),
            D::Bernoulli(p) => (F::Bernoulli, p, 0.0),
            D::BernoulliOf(_) => (F::Bernoulli, 0.0, 0.0),
            D::Integers { .. } => (F::Integers, 0.0, 0.0),
            D::Exponential(rate) => (F::Exponential, rate, 0.0),
            D::LogNormal { mean, deviation } => (F::LogNormal, mean, deviation),
            D::Cauchy { median, width } => (F::Cauchy, median, width),
            D::Geometric(p) => (F::Geometric, p, 0.0),
            D::Bits => (F::Bits, 0.0, 0.0),
        };
        let mut body = random::Random {
            out: *out.desc(),
            alpha,
            beta,
            function: function as u32,
            ..random::Random::zeroed()
        };
        match distribution {
            D::BernoulliOf(p) => body.probability = *p.desc(),
            D::Integers { low, high } => (body.low, body.high) = (low, high),
            _ => {}
        }
        match draw {
            Draw::State(state) => body.state = *state.desc(),
            Draw::From(generator) => {
                let blocks = checked(&body)?.blocks();
                (body.seed, body.stream) = (generator.seed, generator.stream);
                body.offset = generator.take(blocks);
            }
        }
        self.submit(&body)
    }

    /// Writes 0 … n - 1 to a vector of I32 or I64 in a random order.
    pub fn permutation(&self, draw: Draw<'_>, out: &Tensor) -> Result<u64> {
        let mut body = permutation::Permutation {
            out: *out.desc(),
            ..permutation::Permutation::zeroed()
        };
        match draw {
            Draw::State(state) => body.state = *state.desc(),
            Draw::From(generator) => {
                checked(&body)?;
                (body.seed, body.stream) = (generator.seed, generator.stream);
                body.offset = generator.take(permutation::BLOCKS);
            }
        }
        self.submit(&body)
    }

    /// Drops elements with probability `p`, and scales the others by `1 / (1 - p)`; `mask` takes what was kept.
    pub fn dropout(
        &self,
        draw: Draw<'_>,
        p: f64,
        x: &Tensor,
        mask: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<u64> {
        let mut body = dropout::Dropout {
            x: *x.desc(),
            mask: optional(mask),
            out: *out.desc(),
            p,
            function: dropout::Function::Draw as u32,
            ..dropout::Dropout::zeroed()
        };
        match draw {
            Draw::State(state) => body.state = *state.desc(),
            Draw::From(generator) => {
                let blocks = checked(&body)?.blocks();
                (body.seed, body.stream) = (generator.seed, generator.stream);
                body.offset = generator.take(blocks);
            }
        }
        self.submit(&body)
    }

    /// Gradient of [`Queue::dropout`], from its mask.
    pub fn dropout_backward(&self, p: f64, dy: &Tensor, mask: &Tensor, dx: &Tensor) -> Result<u64> {
        self.submit(&dropout::Dropout {
            x: *dy.desc(),
            mask: *mask.desc(),
            out: *dx.desc(),
            p,
            function: dropout::Function::Apply as u32,
            ..dropout::Dropout::zeroed()
        })
    }
}

/// Checks a body before a generator moves on for it.
fn checked<D: Descriptor>(body: &D) -> Result<D::Checked> {
    body.check().map_err(|e| Error::Operator {
        call: D::INFO.name,
        operand: e.operand,
        rule: e.rule,
    })
}
