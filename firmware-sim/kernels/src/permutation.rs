//! Kernel of `vmlu_ops::permutation`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::permutation::{Permutation, BLOCKS, ROUNDS};

use super::env::{Env, Fault, Work};
use super::number::{Storage, TILE};
use super::philox::{Draws, Words};
use super::view::View;
use super::walk::{split, Pace};

/// Elements of a task: a millisecond's work or two, between looks at the cancel flag.
const GRAIN: usize = 16 * TILE;
/// Elements between two looks.
const CHECK: usize = 1024;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Permutation>(body)?;
    let out = View::output(env, 0, &op.out)?;
    let draws = Draws::open(env, 1, &op.source)?;
    let network = Network::new(draws.words, op.out.elements);
    let stride = op.out.strides()[0] as isize;
    split(env, op.out.elements as usize, GRAIN, |range| {
        for start in range.clone().step_by(CHECK) {
            // Numbers go through the network twice on average, at most.
            Pace::new(env).did(CHECK)?;
            let mut values = [0i64; CHECK];
            let values = &mut values[..CHECK.min(range.end - start)];
            for (i, v) in values.iter_mut().enumerate() {
                *v = network.at((start + i) as u64) as i64;
            }
            let at = start as isize * stride;
            if op.out.dtype == DataType::I64 {
                i64::store(&out, at, stride, values);
            } else {
                let mut narrow = [0i32; CHECK];
                let narrow = &mut narrow[..values.len()];
                for (n, v) in narrow.iter_mut().zip(values) {
                    *n = *v as i32;
                }
                i32::store(&out, at, stride, narrow);
            }
        }
        Ok(())
    })?;
    draws.finish(&op.source, BLOCKS);
    Ok(op.cost().into())
}

/// A permutation of the numbers below `count`.
struct Network {
    keys: [u64; ROUNDS + 1],
    count: u64,
    /// Bits of the lower part.
    low: u32,
    masks: [u64; 2],
}

impl Network {
    fn new(words: Words, count: u64) -> Self {
        let mut raw = [0; 2 * (ROUNDS + 1)];
        words.fill(0, &mut raw);
        let bits = (64 - count.saturating_sub(1).leading_zeros()).max(1);
        let low = bits.div_ceil(2);
        Self {
            keys: std::array::from_fn(|k| u64::from(raw[2 * k]) | u64::from(raw[2 * k + 1]) << 32),
            count,
            low,
            masks: [(1 << (bits - low)) - 1, (1 << low) - 1],
        }
    }

    /// Where a number goes. It ends: the network is a permutation, so the way comes back to a number below `count`.
    fn at(&self, index: u64) -> u64 {
        let mut x = index;
        loop {
            x = self.once(x);
            if x < self.count {
                return x;
            }
        }
    }

    fn once(&self, x: u64) -> u64 {
        let (mut l, mut r) = (x >> self.low, x & self.masks[1]);
        for keys in self.keys[..ROUNDS].chunks_exact(2) {
            l ^= mix(r ^ keys[0]) & self.masks[0];
            r ^= mix(l ^ keys[1]) & self.masks[1];
        }
        let x = l << self.low | r;
        x ^ (u64::from(x < 2) & self.keys[ROUNDS])
    }
}

fn mix(mut v: u64) -> u64 {
    for _ in 0..2 {
        v = (v ^ v >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    v ^ v >> 32
}
