//! The digits, as they are committed: see README.md beside this file.

use std::collections::BTreeMap;

const RAW: &[u8] = include_bytes!("digits.u8");
/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Digits.
pub const CLASSES: usize = 10;

/// Images and their digits.
#[derive(Default)]
pub struct Set {
    /// Pixels from 0 to 1, image by image.
    pub images: Vec<f32>,
    /// Digits.
    pub labels: Vec<i32>,
}

impl Set {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Splits the images into those to train on, in a shuffled order, and those held out: every fifth of each digit.
pub fn split() -> (Set, Set) {
    let mut seen = BTreeMap::<u8, usize>::new();
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for record in RAW.chunks_exact(PIXELS + 1) {
        let count = seen.entry(record[PIXELS]).or_default();
        *count += 1;
        if (*count).is_multiple_of(5) {
            &mut held_out
        } else {
            &mut train
        }
        .push(record);
    }
    let mut random = Random::new(1);
    for i in (1..train.len()).rev() {
        train.swap(i, random.below(i + 1));
    }
    (collect(&train), collect(&held_out))
}

fn collect(records: &[&[u8]]) -> Set {
    let mut set = Set::default();
    for record in records {
        set.images
            .extend(record[..PIXELS].iter().map(|p| f32::from(*p) / 16.0));
        set.labels.push(i32::from(record[PIXELS]));
    }
    set
}

/// A small generator, so that every run starts from the same numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    /// A number from -limit to limit.
    pub fn uniform(&mut self, limit: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1u32 << 24) as f32 * 2.0 - 1.0) * limit
    }
}
