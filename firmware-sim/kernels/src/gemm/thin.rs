//! Thin products: up to sixteen rows, as in decoding. The other side is read once, as it stands in memory, by vector code that leaves each
//! element the order of its sum: the bits are those of the panels.

use vmlu_abi::Wire;

use super::pack::Side;
use super::scratch::with_space;
use super::thin_x86::{self as code, kind, Lines};
use super::Sink;
use crate::env::{Env, Fault};
use crate::simd::{self, Level};
use crate::view::View;
use crate::walk::split;

/// Most rows.
const ROWS: usize = 16;
/// Least elements of the other side that pay.
const WORTH: usize = 1 << 14;
/// Most words of `a`.
const MOST: usize = 1 << 20;
/// Words of bytes between two looks at the cancel flag.
const STRETCH: usize = 2048;

/// How the elements of the other side are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// f32.
    Single,
    /// binary16 as f32.
    Half,
    /// bf16 as f32, the odd element of a pair first.
    Brain,
    /// Signed bytes, unsigned ones in `a`.
    Signed,
    /// Unsigned bytes, signed ones in `a`.
    Unsigned,
}

/// A product of few rows.
pub(crate) struct Thin<'t, 'v, W, T> {
    /// The rows, as words of 32 bits.
    pub a: &'t dyn Side<W>,
    /// The other side's memory.
    pub view: &'t View<'v>,
    /// Its first element.
    pub offset: isize,
    /// Elements from a column to the next, and along the depth; one of them is 1.
    pub strides: (isize, isize),
    /// Columns.
    pub columns: usize,
    /// Elements along the depth.
    pub length: usize,
    /// Words of `a` along the depth.
    pub words: usize,
    /// Words of a block of floats.
    pub block: usize,
    /// What the elements are.
    pub kind: Kind,
    /// Where the results go; it gets the sums of columns if they are bytes.
    pub sink: &'t dyn Sink<T>,
}

/// Whether this host has the code, and a shape is worth it.
pub(crate) fn fits(
    (rows, columns, length, words): (usize, usize, usize, usize),
    strides: (isize, isize),
) -> bool {
    simd::level() == Level::V4
        && simd::has_vnni()
        && (1..=ROWS).contains(&rows)
        && columns >= 16
        && length >= 16
        && words * ROWS <= MOST
        && columns.saturating_mul(length) >= WORTH
        && (strides.0 == 1 || strides.1 == 1)
}

impl<W: Wire + Sync, T: Wire + Default> Thin<'_, '_, W, T> {
    /// Computes all of it; [`fits`] has been asked.
    pub fn run(&self, env: &dyn Env) -> Result<(), Fault> {
        const { assert!(size_of::<W>() == 4 && size_of::<T>() == 4) };
        let rows = self.a.lines().next_power_of_two();
        let across = self.strides.0 == 1;
        let width = match across {
            // Several parts, long stretches of memory, sums that stay near.
            true => (self.columns / 8).next_multiple_of(64).clamp(128, 512),
            false => 64,
        };
        with_space(|space| {
            let words = space.a.take::<W>(self.words * rows);
            for from in (0..self.words).step_by(STRETCH) {
                let depth = from..self.words.min(from + STRETCH);
                let to = &mut words[from * rows..][..depth.len() * rows];
                self.a.pack(0..self.a.lines(), depth, rows, to);
                env.check()?;
            }
            let words = &*words;
            split(env, self.columns.div_ceil(width), 1, |range| {
                for part in range {
                    let first = part * width;
                    let columns = width.min(self.columns - first);
                    self.part(env, rows, words, first, columns, across)?;
                }
                Ok(())
            })
        })
    }

    /// Computes and stores some columns.
    fn part(
        &self,
        env: &dyn Env,
        rows: usize,
        words: &[W],
        first: usize,
        columns: usize,
        across: bool,
    ) -> Result<(), Fault> {
        let pitch = columns.next_multiple_of(64);
        with_space(|space| {
            let total = space.out.take::<u32>((ROWS + 1) * pitch);
            let sums = space.sums.take::<u32>((ROWS + 1) * pitch);
            let floats = !matches!(self.kind, Kind::Signed | Kind::Unsigned);
            let block = if floats { self.block } else { STRETCH };
            total.fill(0);
            for from in (0..self.words).step_by(block) {
                let deep = block.min(self.words - from);
                let start = from * if floats { 1 } else { 4 };
                let here = Here {
                    lines: self.lines(first, columns, start),
                    deep,
                };
                let a = words[from * rows..][..deep * rows].as_ptr().cast();
                // Floats begin each block at zero; whole numbers go on.
                let to = if floats && from > 0 {
                    sums.fill(0);
                    &mut *sums
                } else {
                    &mut *total
                };
                // SAFETY: `fits` has found the instructions; `a` has the words; `lines` has checked the elements; room for all rows and one.
                unsafe { self.block(a, &here, rows, to, pitch, across) };
                if floats && from > 0 {
                    add(total, sums);
                }
                env.check()?;
            }
            if across && !floats {
                code::unshuffle(total);
            }
            let (all, own) = total.split_at_mut(rows * pitch);
            for (row, sums) in all.chunks_exact_mut(pitch).take(self.a.lines()).enumerate() {
                // SAFETY: both are 32 bits of which every pattern is valid; the slices keep their borrows.
                let (sums, own) =
                    unsafe { (same(&mut sums[..columns]), same(&mut own[..columns])) };
                self.sink.store(row, first, sums, own, T::default());
            }
            Ok(())
        })
    }

    /// Some columns of the other side from an element of depth on, checked to lie in the operand.
    fn lines(&self, first: usize, columns: usize, start: usize) -> Lines {
        let (line, depth) = self.strides;
        let length = self.length - start;
        let offset = self.offset + first as isize * line + start as isize * depth;
        let (outer, inner) = ((columns, line), (length, depth));
        let (at, size) = match self.kind {
            Kind::Single => (
                self.view
                    .grid::<u32>(offset, outer, inner)
                    .map(|g| g.first().cast()),
                4,
            ),
            Kind::Half | Kind::Brain => (
                self.view
                    .grid::<u16>(offset, outer, inner)
                    .map(|g| g.first().cast()),
                2,
            ),
            _ => (
                self.view
                    .grid::<u8>(offset, outer, inner)
                    .map(|g| g.first()),
                1,
            ),
        };
        Lines {
            first: at.unwrap_or(std::ptr::null()),
            pitch: size * if line == 1 { depth } else { line },
            columns,
            length,
        }
    }

    /// Adds the products of a block to sums.
    ///
    /// # Safety
    ///
    /// The instructions; `a` has the words for `rows` rows; the lines may be read; `to` has room for `rows + 1` rows at `pitch`.
    unsafe fn block(
        &self,
        a: *const u32,
        here: &Here,
        rows: usize,
        to: &mut [u32],
        pitch: usize,
        across: bool,
    ) {
        macro_rules! kinds {
            ($f:ident) => {
                match self.kind {
                    Kind::Single => $f!(SINGLE, false),
                    Kind::Half => $f!(HALF, false),
                    Kind::Brain => $f!(BRAIN, false),
                    Kind::Signed => $f!(SIGNED, true),
                    Kind::Unsigned => $f!(UNSIGNED, true),
                }
            };
        }
        macro_rules! across {
            ($kind:ident, $sums:literal) => {{
                let run = match rows {
                    1 => code::across::<{ kind::$kind }, 1, $sums>,
                    2 => code::across::<{ kind::$kind }, 2, $sums>,
                    4 => code::across::<{ kind::$kind }, 4, $sums>,
                    8 => code::across::<{ kind::$kind }, 8, $sums>,
                    _ => code::across::<{ kind::$kind }, 16, $sums>,
                };
                // SAFETY: the caller's.
                unsafe { run(a, here.lines, here.deep, to.as_mut_ptr(), pitch) }
            }};
        }
        if across {
            return kinds!(across);
        }
        for column in (0..here.lines.columns).step_by(16) {
            let count = 16.min(here.lines.columns - column);
            let lines = Lines {
                first: here
                    .lines
                    .first
                    .wrapping_offset(column as isize * here.lines.pitch),
                columns: count,
                ..here.lines
            };
            let mut sums = [[0; 16]; ROWS + 1];
            if rows < ROWS {
                macro_rules! along {
                    ($kind:ident, $sums:literal) => {{
                        let run = match rows {
                            1 => code::along::<{ kind::$kind }, 1, $sums>,
                            2 => code::along::<{ kind::$kind }, 2, $sums>,
                            4 => code::along::<{ kind::$kind }, 4, $sums>,
                            _ => code::along::<{ kind::$kind }, 8, $sums>,
                        };
                        // SAFETY: the caller's.
                        unsafe { run(a, lines, here.deep, &mut sums) }
                    }};
                }
                kinds!(along);
            } else {
                let (mut turned, mut own) = ([[0; 16]; 16], [0; 16]);
                macro_rules! spread {
                    ($kind:ident, $sums:literal) => {
                        // SAFETY: the caller's.
                        unsafe {
                            code::spread::<{ kind::$kind }, $sums>(
                                a,
                                lines,
                                here.deep,
                                &mut turned,
                                &mut own,
                            )
                        }
                    };
                }
                kinds!(spread);
                for (m, row) in sums.iter_mut().take(ROWS).enumerate() {
                    for (sum, column) in row.iter_mut().zip(&turned) {
                        *sum = column[m];
                    }
                }
                sums[ROWS] = own;
            }
            for (m, row) in sums.iter().enumerate().take(rows + 1) {
                for (to, sum) in to[m * pitch + column..].iter_mut().zip(row) {
                    // Zero before, or whole numbers.
                    *to = to.wrapping_add(*sum);
                }
            }
        }
    }
}

/// Where a block stands.
struct Here {
    lines: Lines,
    /// Words.
    deep: usize,
}

/// Adds floats in place.
fn add(total: &mut [u32], sums: &[u32]) {
    for (t, s) in total.iter_mut().zip(sums) {
        *t = (f32::from_bits(*t) + f32::from_bits(*s)).to_bits();
    }
}

/// The same words as another type.
///
/// # Safety
///
/// `T` has 32 bits, of which every pattern is valid, and `u32`'s alignment.
unsafe fn same<T>(words: &mut [u32]) -> &mut [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}
