//! Sides of products that convolutions are: patches of an image, filters, and positions as depth. Nothing is copied but into panels.

use std::marker::PhantomData;
use std::ops::Range;

use super::epilogue::{Place, Run};
use super::gemm::{pack_lanes, Depth, Feed, Lanes, Side, Strided, LANES};
use super::view::View;

/// Taps along one spatial axis that meet positions: tap `first + i · every` reads at `position · step + shift + i · move`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    /// Number of them.
    pub count: usize,
    /// First tap of the filter.
    pub first: usize,
    /// From one tap to the next.
    pub every: usize,
    /// Coordinate that the first reads for position 0.
    pub shift: isize,
    /// From one tap's coordinate to the next.
    pub advance: isize,
    /// From one position's coordinate to the next.
    pub step: isize,
    /// Coordinates that exist: from 0 to here. Others are padding.
    pub limit: usize,
}

/// The index of a tap on each axis.
fn split_tap(taps: &[Taps; 3], index: usize) -> [usize; 3] {
    let (d, rest) = (
        index / (taps[1].count * taps[2].count),
        index % (taps[1].count * taps[2].count),
    );
    [d, rest / taps[2].count, rest % taps[2].count]
}

/// Number of taps on all axes.
pub(super) fn all_taps(taps: &[Taps; 3]) -> usize {
    taps.iter().map(|t| t.count).product()
}

/// Coordinates that a tap reads for position 0.
fn shifts(taps: &[Taps; 3], index: usize) -> [isize; 3] {
    let at = split_tap(taps, index);
    std::array::from_fn(|i| taps[i].shift + at[i] as isize * taps[i].advance)
}

/// Calls `each(tap, words of that tap, words so far)` for the taps that some words of depth are made of.
fn tap_words(words: Range<usize>, of_tap: usize, mut each: impl FnMut(usize, Range<usize>, usize)) {
    let mut word = words.start;
    while word < words.end {
        let (tap, from) = (word / of_tap, word % of_tap);
        let count = (of_tap - from).min(words.end - word);
        each(tap, from..from + count, word - words.start);
        word += count;
    }
}

/// Index of an image and of a position by axis.
fn split_position(mut index: usize, counts: &[usize; 4]) -> [usize; 4] {
    let mut at = [0; 4];
    for i in (1..4).rev() {
        at[i] = index % counts[i];
        index /= counts[i];
    }
    at[0] = index;
    at
}

/// Lines are positions of images; the depth goes through taps and, in each, through channels.
pub(super) struct Patches<'v, 'a, F> {
    /// The image's memory.
    pub view: &'v View<'a>,
    /// First element of the group.
    pub offset: isize,
    /// Strides by image, channel and axis.
    pub strides: [isize; 5],
    /// Images and positions.
    pub counts: [usize; 4],
    /// Taps.
    pub taps: [Taps; 3],
    /// Channels.
    pub channels: usize,
    /// How elements are read.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed> Side<F::Word> for Patches<'_, '_, F> {
    fn lines(&self) -> usize {
        self.counts.iter().product()
    }

    fn across(&self) -> bool {
        self.strides[4].unsigned_abs() < self.strides[1].unsigned_abs()
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        let of_tap = F::words(self.channels);
        for from in (0..pitch).step_by(LANES) {
            let count = lines.len().saturating_sub(from).min(LANES);
            // Offsets and coordinates of the positions for a tap at 0.
            let mut offsets = [0isize; LANES];
            let mut spots = [[0isize; LANES]; 3];
            let mut at = split_position(lines.start + from, &self.counts);
            for l in 0..count {
                offsets[l] = self.offset + at[0] as isize * self.strides[0];
                for i in 0..3 {
                    let spot = at[1 + i] as isize * self.taps[i].step;
                    spots[i][l] = spot;
                    let distance = spot.wrapping_mul(self.strides[2 + i]);
                    offsets[l] = offsets[l].wrapping_add(distance);
                }
                let mut axis = 3;
                at[axis] += 1;
                while axis > 0 && at[axis] == self.counts[axis] {
                    at[axis] = 0;
                    axis -= 1;
                    at[axis] += 1;
                }
            }
            tap_words(words.clone(), of_tap, |tap, words, done| {
                let shift = shifts(&self.taps, tap);
                // Only coordinates that exist have an offset; others may wrap around.
                let moved = (0..3).fold(0isize, |m, i| {
                    m.wrapping_add(shift[i].wrapping_mul(self.strides[2 + i]))
                });
                let mut valid = ((1u32 << count) - 1) as u16;
                let all = valid;
                for i in 0..3 {
                    let limit = self.taps[i].limit;
                    let mut inside = 0u16;
                    for (l, spot) in spots[i].iter().enumerate() {
                        // Negative ones are large.
                        inside |= u16::from(((spot + shift[i]) as usize) < limit) << l;
                    }
                    valid &= inside;
                }
                let lanes = Lanes {
                    offsets: offsets.map(|o| o.wrapping_add(moved)),
                    valid,
                    pad: all & !valid,
                    regular: None,
                };
                let depth = Depth::of::<F>(words, self.strides[1], self.channels);
                pack_lanes::<F>(
                    self.view,
                    &lanes,
                    &depth,
                    pitch,
                    &mut to[done * pitch + from..],
                );
            });
        }
    }
}

/// Lines are the filter's channels of one side; the depth goes through taps and, in each, through channels of the other.
pub(super) struct Filter<'v, 'a, F> {
    /// The filter's memory.
    pub view: &'v View<'a>,
    /// First element of the group.
    pub offset: isize,
    /// Strides of lines and of the depth's channels.
    pub strides: (isize, isize),
    /// Strides of taps by axis.
    pub tap_strides: [isize; 3],
    /// Taps.
    pub taps: [Taps; 3],
    /// Number of lines.
    pub lines: usize,
    /// Channels of a tap.
    pub channels: usize,
    /// How elements are read.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed> Side<F::Word> for Filter<'_, '_, F> {
    fn lines(&self) -> usize {
        self.lines
    }

    fn across(&self) -> bool {
        self.strides.0.unsigned_abs() < self.strides.1.unsigned_abs()
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        tap_words(words, F::words(self.channels), |tap, words, done| {
            let at = split_tap(&self.taps, tap);
            let tap = |i: usize| (self.taps[i].first + at[i] * self.taps[i].every) as isize;
            let moved: isize = (0..3).map(|i| tap(i) * self.tap_strides[i]).sum();
            let side = Strided::<F> {
                view: self.view,
                offset: self.offset + moved,
                line: self.strides.0,
                depth: self.strides.1,
                lines: self.lines,
                length: self.channels,
                feed: PhantomData,
            };
            let rows = words.len() * pitch;
            side.pack(lines.clone(), words, pitch, &mut to[done * pitch..][..rows]);
        });
    }
}

/// Lines are channels; the depth goes through the positions of images, read by one tap.
pub(super) struct Positions<'v, 'a, F> {
    /// The image's memory.
    pub view: &'v View<'a>,
    /// First element of the group.
    pub offset: isize,
    /// Strides by image, channel and axis.
    pub strides: [isize; 5],
    /// Images and positions.
    pub counts: [usize; 4],
    /// The tap.
    pub taps: [Taps; 3],
    /// Number of lines.
    pub lines: usize,
    /// How elements are read: one a word.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed> Side<F::Word> for Positions<'_, '_, F> {
    fn lines(&self) -> usize {
        self.lines
    }

    fn across(&self) -> bool {
        self.strides[1].unsigned_abs() < self.strides[4].unsigned_abs()
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        let last = &self.taps[2];
        let mut word = words.start;
        while word < words.end {
            let at = split_position(word, &self.counts);
            let count = (self.counts[3] - at[3]).min(words.end - word);
            let to = &mut to[(word - words.start) * pitch..][..count * pitch];
            word += count;
            let mut offset = self.offset + at[0] as isize * self.strides[0];
            let mut inside = true;
            for i in 0..2 {
                let spot = at[1 + i] as isize * self.taps[i].step + self.taps[i].shift;
                inside &= (spot as usize) < self.taps[i].limit;
                offset = offset.wrapping_add(spot.wrapping_mul(self.strides[2 + i]));
            }
            if !inside {
                to.fill(F::Word::default());
                continue;
            }
            // The positions of the row whose coordinate exists.
            let spot = |w: usize| (at[3] + w) as isize * last.step + last.shift;
            let exists = |w: &usize| (spot(*w) as usize) < last.limit;
            let low = (0..count).find(exists).unwrap_or(count);
            let high = (low..count).rev().find(exists).map_or(low, |w| w + 1);
            to[..low * pitch].fill(F::Word::default());
            to[high * pitch..].fill(F::Word::default());
            if low == high {
                continue;
            }
            let side = Strided::<F> {
                view: self.view,
                offset: offset + spot(low) * self.strides[4],
                line: self.strides[1],
                depth: last.step.wrapping_mul(self.strides[4]),
                lines: self.lines,
                length: high - low,
                feed: PhantomData,
            };
            side.pack(
                lines.clone(),
                0..high - low,
                pitch,
                &mut to[low * pitch..high * pitch],
            );
        }
    }
}

/// A result of positions and channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    /// First element of the result, and of the bias.
    pub offsets: [isize; 2],
    /// Images and positions, and the strides of each.
    counts: [usize; 4],
    strides: [isize; 4],
    /// Strides of the channel in the result and in the bias.
    pub channel: [isize; 2],
    /// Whether positions are the rows.
    pub rows: bool,
}

impl Pixels {
    /// Joins axes that follow each other.
    pub fn new(
        offsets: [isize; 2],
        counts: [usize; 4],
        strides: [isize; 4],
        channel: [isize; 2],
        rows: bool,
    ) -> Self {
        let mut joined = Self {
            offsets,
            counts: [1; 4],
            strides: [0; 4],
            channel,
            rows,
        };
        let mut to = 3;
        joined.counts[3] = counts[3];
        joined.strides[3] = strides[3];
        for i in (0..3).rev() {
            let follows = joined.strides[to] * joined.counts[to] as isize == strides[i];
            if counts[i] == 1 || follows {
                joined.counts[to] *= counts[i];
            } else if joined.counts[to] == 1 {
                joined.counts[to] = counts[i];
                joined.strides[to] = strides[i];
            } else {
                to -= 1;
                joined.counts[to] = counts[i];
                joined.strides[to] = strides[i];
            }
        }
        joined
    }

    fn offset(&self, position: usize) -> isize {
        let at = split_position(position, &self.counts);
        (0..4).map(|i| at[i] as isize * self.strides[i]).sum()
    }
}

impl Place for Pixels {
    fn runs(&self, row: usize, column: usize, count: usize, run: &mut dyn FnMut(Run)) {
        let [out, bias] = self.offsets;
        let [step, bias_step] = self.channel;
        if self.rows {
            let channel = column as isize;
            return run(Run {
                count,
                out: (out + self.offset(row) + channel * step, step),
                bias: (bias + channel * bias_step, bias_step),
            });
        }
        let channel = row as isize;
        let mut done = 0;
        while done < count {
            let position = column + done;
            let some = (self.counts[3] - position % self.counts[3]).min(count - done);
            run(Run {
                count: some,
                out: (
                    out + self.offset(position) + channel * step,
                    self.strides[3],
                ),
                bias: (bias + channel * bias_step, 0),
            });
            done += some;
        }
    }
}
