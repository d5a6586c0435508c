//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): 128 random bits of a counter and a key.

use vmlu_abi::tensor::DataType;
use vmlu_ops::random::Source;

use super::env::{Access, Env, Fault};
use super::number::TILE;
use super::simd::multiversion;
use super::view::View;

/// Blocks that are computed side by side.
const LANES: usize = 16;
const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Words of 32 bits, by number.
#[derive(Clone, Copy)]
pub struct Words {
    seed: u64,
    offset: u64,
    stream: u64,
}

/// A command's words, and where it leaves the offset.
pub struct Draws<'a> {
    pub words: Words,
    state: Option<View<'a>>,
}

impl<'a> Draws<'a> {
    /// Opens the state, operand `index`, and takes a copy of what is in it.
    pub fn open(env: &'a dyn Env, index: u16, source: &Source) -> Result<Self, Fault> {
        let (mut from, mut state) = ([source.seed, source.offset], None);
        if let Some(tensor) = &source.state {
            debug_assert_eq!(tensor.dtype, DataType::U64);
            let view = View::open(env, index, tensor, Access::Write)?;
            for (i, f) in from.iter_mut().enumerate() {
                let at = i as isize * tensor.strides()[0] as isize;
                view.load(at, 1, std::slice::from_mut(f));
            }
            state = Some(view);
        }
        let words = Words {
            seed: from[0],
            offset: from[1],
            stream: source.stream,
        };
        Ok(Self { words, state })
    }

    /// Moves the state's offset on.
    pub fn finish(&self, source: &Source, blocks: u64) {
        if let (Some(view), Some(tensor)) = (&self.state, &source.state) {
            let next = self.words.offset.wrapping_add(blocks);
            view.store(tensor.strides()[0] as isize, 1, &[next]);
        }
    }
}

impl Words {
    /// Words `start`, `start + 1`, …; at most 2 · [`TILE`] + 8.
    pub fn fill(&self, start: u64, to: &mut [u32]) {
        let mut room = [0; 2 * TILE + 16];
        let skip = (start % 4) as usize;
        let all = &mut room[..(skip + to.len()).next_multiple_of(4)];
        self.blocks(start / 4, all);
        to.copy_from_slice(&all[skip..][..to.len()]);
    }

    /// The words of some blocks.
    fn blocks(&self, first: u64, to: &mut [u32]) {
        let first = self.offset.wrapping_add(first);
        blocks(halves(self.seed), halves(self.stream), first, to);
    }
}

fn halves(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

multiversion! {
    /// The words of blocks `first`, `first + 1`, …
    fn blocks(key: [u32; 2], stream: [u32; 2], first: u64, to: &mut [u32]) {
        for (group, to) in to.chunks_mut(4 * LANES).enumerate() {
            let mut c = [[0; LANES], [0; LANES], [stream[0]; LANES], [stream[1]; LANES]];
            let [low, high, ..] = &mut c;
            for (l, (low, high)) in low.iter_mut().zip(high).enumerate() {
                let block = first.wrapping_add((group * LANES + l) as u64);
                *low = block as u32;
                *high = (block >> 32) as u32;
            }
            let mut key = key;
            for _ in 0..ROUNDS {
                let mut next = [[0; LANES]; 4];
                for l in 0..LANES {
                    let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0][l]);
                    let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2][l]);
                    next[0][l] = (b >> 32) as u32 ^ c[1][l] ^ key[0];
                    next[1][l] = b as u32;
                    next[2][l] = (a >> 32) as u32 ^ c[3][l] ^ key[1];
                    next[3][l] = a as u32;
                }
                c = next;
                key[0] = key[0].wrapping_add(WEYL[0]);
                key[1] = key[1].wrapping_add(WEYL[1]);
            }
            for (l, to) in to.chunks_mut(4).enumerate() {
                for (j, to) in to.iter_mut().enumerate() {
                    *to = c[j][l];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors' library, Random123, is tested with.
    #[test]
    fn known_answers() {
        let ones = u64::MAX;
        for (seed, offset, stream, want) in [
            (
                0,
                0,
                0,
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                ones,
                ones,
                ones,
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                0x299f_31d0_a409_3822,
                0x85a3_08d3_243f_6a88,
                0x0370_7344_1319_8a2e,
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            let words = Words {
                seed,
                offset,
                stream,
            };
            let mut got = [0u32; 4];
            words.fill(0, &mut got);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn words_are_the_same_wherever_one_begins() {
        let words = Words {
            seed: 7,
            offset: u64::MAX - 3,
            stream: 9,
        };
        let mut all = [0u32; 500];
        words.fill(0, &mut all);
        for start in 0..90 {
            for length in [0, 1, 3, 64, 130] {
                let mut part = vec![0u32; length];
                words.fill(start as u64, &mut part);
                assert!(part == all[start..start + length]);
            }
        }
    }
}
