//! Register tiles: the innermost loops of all products, one family for all types and instruction sets.
//!
//! A tile multiplies two packed panels: `out[i][j] = Σ a[k][i] · b[k][j]`, k ascending, each from zero, with the step of its
//! arithmetic. A *word* is what a step takes from a line: one f32 or f64, two bf16, four bytes, or two i16. How rows and columns are cut
//! into tiles does not change an element's bits.

use vmlu_abi::Wire;

use crate::simd::{self, Level};

#[cfg(target_arch = "x86_64")]
use super::x86;

/// A tile's code for some number of rows and vectors: `deep` words of each line; `first` overwrites `out`, otherwise the sums are added.
///
/// # Safety
///
/// The processor has the instructions; `a` is valid for `deep · pitch_a` words, `b` for `deep · columns`, and `out` for the tile's rows
/// at `pitch`.
pub(crate) type Tile<W, T> =
    unsafe fn(deep: usize, a: *const W, b: *const W, out: *mut T, pitch: usize, first: bool);

/// Shape of a family of tiles, and its code.
pub(crate) struct Plan<W: 'static, T: 'static> {
    /// Most rows of a tile.
    pub rows: usize,
    /// Words from one step to the next in a panel of `a`.
    pub pitch_a: usize,
    /// Columns of a panel of `b`, and words from one step to the next.
    pub columns: usize,
    /// Columns of a vector.
    pub lanes: usize,
    /// Code by rows - 1, then by vectors - 1.
    pub tiles: &'static [[Tile<W, T>; 2]],
}

impl<W: Wire, T: Wire> Plan<W, T> {
    /// Runs a tile over two panels of `deep` words.
    #[inline]
    pub fn run(
        &self,
        (rows, columns): (usize, usize),
        (a, b): (&[W], &[W]),
        out: &mut [T],
        pitch: usize,
        first: bool,
    ) {
        let deep = b.len() / self.columns;
        let vectors = columns.div_ceil(self.lanes);
        let tile = self.tiles[rows - 1][vectors - 1];
        assert!(
            a.len() >= deep * self.pitch_a
                && out.len() >= (rows - 1) * pitch + vectors * self.lanes
        );
        // SAFETY: plans are only handed out where their instructions were found; the lengths have just been checked.
        unsafe { tile(deep, a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), pitch, first) }
    }
}

/// How one kind of number is multiplied and summed.
pub(crate) trait Arith: 'static {
    /// What a step takes from a line.
    type Word: Wire + Default + Send + Sync;
    /// What sums are kept in.
    type Acc: Wire + Default + Send + Sync;
    /// The tiles for an instruction set.
    fn plan_for(level: Level) -> &'static Plan<Self::Word, Self::Acc>;

    /// What [`Arith::multiply`] must know of a panel.
    fn inspect(_panel: &[Self::Word]) -> u16 {
        0
    }

    /// Multiplies two panels.
    #[inline]
    fn multiply(
        plan: &Plan<Self::Word, Self::Acc>,
        size: (usize, usize),
        panels: (&[Self::Word], &[Self::Word]),
        _notes: (u16, u16),
        _spare: &mut super::scratch::Buffer,
        out: &mut [Self::Acc],
        pitch: usize,
        first: bool,
    ) {
        plan.run(size, panels, out, pitch, first);
    }
}

/// A table of a function's versions for 1 to some number of rows, and 1 and 2 vectors.
macro_rules! versions {
    ($f:ident: $($r:literal)*) => { &[ $( [$f::<$r, 1>, $f::<$r, 2>] ),* ] };
}
pub(super) use versions;

/// A step of plain code.
trait Step<W, T> {
    fn step(acc: T, a: W, b: W) -> T;
    fn add(a: T, b: T) -> T;
}

macro_rules! plain {
    ($name:ident, $w:ty, $t:ty, |$acc:ident, $a:ident, $b:ident| $step:expr, |$x:ident, $y:ident| $add:expr) => {
        impl Step<$w, $t> for $name {
            #[inline(always)]
            fn step($acc: $t, $a: $w, $b: $w) -> $t {
                $step
            }
            #[inline(always)]
            fn add($x: $t, $y: $t) -> $t {
                $add
            }
        }
    };
}

/// Lanes of a vector of plain code.
const LANES: usize = 8;

/// A tile in plain code.
///
/// # Safety
///
/// As [`Tile`]; panels of `a` have 4 words a step, those of `b` 16.
unsafe fn plain_tile<S: Step<W, T>, W: Wire, T: Wire + Default, const R: usize, const V: usize>(
    deep: usize,
    a: *const W,
    b: *const W,
    out: *mut T,
    pitch: usize,
    first: bool,
) {
    // SAFETY: the caller vouches for the lengths.
    let (a, b) = unsafe {
        (
            std::slice::from_raw_parts(a, deep * 4),
            std::slice::from_raw_parts(b, deep * 2 * LANES),
        )
    };
    let mut acc = [[[T::default(); LANES]; V]; R];
    for (a, b) in a.chunks_exact(4).zip(b.chunks_exact(2 * LANES)) {
        for i in 0..R {
            for v in 0..V {
                for l in 0..LANES {
                    acc[i][v][l] = S::step(acc[i][v][l], a[i], b[v * LANES + l]);
                }
            }
        }
    }
    for (i, row) in acc.iter().enumerate() {
        for (j, value) in row.as_flattened().iter().enumerate() {
            // SAFETY: row `i` and column `j` of the tile, which the caller vouches for.
            unsafe {
                let to = out.add(i * pitch + j);
                *to = if first { *value } else { S::add(*to, *value) };
            }
        }
    }
}

macro_rules! plain_plan {
    ($name:ident, $w:ty, $t:ty) => {{
        unsafe fn tile<const R: usize, const V: usize>(
            deep: usize,
            a: *const $w,
            b: *const $w,
            out: *mut $t,
            pitch: usize,
            first: bool,
        ) {
            // SAFETY: the caller's.
            unsafe { plain_tile::<$name, $w, $t, R, V>(deep, a, b, out, pitch, first) }
        }
        static PLAN: Plan<$w, $t> = Plan {
            rows: 4,
            pitch_a: 4,
            columns: 2 * LANES,
            lanes: LANES,
        tiles: versions!(tile: 1 2 3 4),
        };
        &PLAN
    }};
}

/// f32 with fused multiply-adds.
pub(crate) enum F32 {}

plain!(F32, f32, f32, |acc, a, b| a.mul_add(b, acc), |x, y| x + y);

impl Arith for F32 {
    type Word = f32;
    type Acc = f32;

    fn plan_for(level: Level) -> &'static Plan<f32, f32> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::V4 => &x86::F32_V4,
            #[cfg(target_arch = "x86_64")]
            Level::V3 => &x86::F32_V3,
            _ => plain_plan!(F32, f32, f32),
        }
    }
}

/// f64 with fused multiply-adds.
pub(crate) enum F64 {}

plain!(F64, f64, f64, |acc, a, b| a.mul_add(b, acc), |x, y| x + y);

impl Arith for F64 {
    type Word = f64;
    type Acc = f64;

    fn plan_for(level: Level) -> &'static Plan<f64, f64> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::V4 => &x86::F64_V4,
            #[cfg(target_arch = "x86_64")]
            Level::V3 => &x86::F64_V3,
            _ => plain_plan!(F64, f64, f64),
        }
    }
}

/// Pairs of i16 with wrapping i32 sums: also the way of bytes where the processor has no instruction for them.
pub(crate) enum I16 {}

/// Both halves of a word.
#[inline(always)]
fn halves(word: u32) -> (i32, i32) {
    (i32::from(word as i16), (word as i32) >> 16)
}

plain!(
    I16,
    u32,
    i32,
    |acc, a, b| {
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        acc.wrapping_add(a0.wrapping_mul(b0))
            .wrapping_add(a1.wrapping_mul(b1))
    },
    |x, y| x.wrapping_add(y)
);

impl Arith for I16 {
    type Word = u32;
    type Acc = i32;

    fn plan_for(level: Level) -> &'static Plan<u32, i32> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::V4 if simd::has_vnni() => &x86::I16_VNNI,
            #[cfg(target_arch = "x86_64")]
            Level::V4 => &x86::I16_V4,
            #[cfg(target_arch = "x86_64")]
            Level::V3 => &x86::I16_V3,
            _ => plain_plan!(I16, u32, i32),
        }
    }
}

/// Fours of bytes, unsigned in `a` and signed in `b`, with wrapping i32 sums. Only where `simd::has_vnni`.
#[cfg(target_arch = "x86_64")]
pub(crate) enum I8 {}

#[cfg(target_arch = "x86_64")]
impl Arith for I8 {
    type Word = u32;
    type Acc = i32;

    fn plan_for(_: Level) -> &'static Plan<u32, i32> {
        assert!(simd::has_vnni(), "chosen where there is VNNI");
        &x86::I8_VNNI
    }
}

/// Pairs of bf16 with f32 sums, the odd element of a pair first. Only where `simd::has_bf16`.
///
/// The processor's instruction takes denormal numbers for zero. A tile in which one could occur, in an operand, a product or a sum, is
/// computed by widening to f32 instead, in the same order, and so gives the bits that exact arithmetic gives.
#[cfg(target_arch = "x86_64")]
pub(crate) enum Bf16 {}

#[cfg(target_arch = "x86_64")]
impl Bf16 {
    /// Whether no denormal number can occur in a product of panels with these least non-zero magnitudes (as bf16 bits). Products are
    /// multiples of 2^(x + y - 14), where x and y are the least exponents, and so are all sums, rounded or not: if that is no denormal,
    /// nothing is.
    fn is_safe(a: u16, b: u16) -> bool {
        // Biased exponents: x + y - 14 ≥ -126.
        (a >> 7) > 0 && (b >> 7) > 0 && (a >> 7) + (b >> 7) >= 254 - 112
    }
}

#[cfg(target_arch = "x86_64")]
crate::simd::multiversion! {
    fn least_magnitude(words: &[u32], least: &mut u16) {
        let mut lanes = [u16::MAX; 64];
        let (whole, rest) = words.as_chunks::<32>();
        for chunk in whole {
            for (i, w) in chunk.iter().enumerate() {
                // Zero becomes the largest.
                let (x, y) = ((*w as u16) & 0x7fff, ((*w >> 16) as u16) & 0x7fff);
                lanes[i] = lanes[i].min(x.wrapping_sub(1));
                lanes[32 + i] = lanes[32 + i].min(y.wrapping_sub(1));
            }
        }
        for w in rest {
            let (x, y) = ((*w as u16) & 0x7fff, ((*w >> 16) as u16) & 0x7fff);
            lanes[0] = lanes[0].min(x.wrapping_sub(1)).min(y.wrapping_sub(1));
        }
        *least = lanes.iter().fold(u16::MAX, |l, v| l.min(*v)).saturating_add(1);
    }
}

#[cfg(target_arch = "x86_64")]
impl Arith for Bf16 {
    type Word = u32;
    type Acc = f32;

    fn plan_for(_: Level) -> &'static Plan<u32, f32> {
        assert!(simd::has_bf16(), "chosen where there are bf16 instructions");
        &x86::BF16
    }

    fn inspect(panel: &[u32]) -> u16 {
        let mut least = 0;
        least_magnitude(panel, &mut least);
        least
    }

    #[inline]
    fn multiply(
        plan: &Plan<u32, f32>,
        size: (usize, usize),
        (a, b): (&[u32], &[u32]),
        notes: (u16, u16),
        spare: &mut super::scratch::Buffer,
        out: &mut [f32],
        pitch: usize,
        first: bool,
    ) {
        if Self::is_safe(notes.0, notes.1) {
            return plan.run(size, (a, b), out, pitch, first);
        }
        // The f32 tiles of the same level have the same shape.
        let wide = F32::plan_for(Level::V4);
        let space = spare.take::<f32>(2 * (a.len() + b.len()));
        let (wide_a, wide_b) = space.split_at_mut(2 * a.len());
        widen(a, wide_a, plan.pitch_a);
        widen(b, wide_b, plan.columns);
        wide.run(size, (wide_a, wide_b), out, pitch, first);
    }
}

/// Panels of pairs to panels of single elements, the odd one of each pair first.
#[cfg(target_arch = "x86_64")]
fn widen(from: &[u32], to: &mut [f32], pitch: usize) {
    for (pairs, to) in from.chunks_exact(pitch).zip(to.chunks_exact_mut(2 * pitch)) {
        let (odd, even) = to.split_at_mut(pitch);
        for ((pair, odd), even) in pairs.iter().zip(odd).zip(even) {
            *odd = f32::from_bits(pair & 0xffff_0000);
            *even = f32::from_bits(pair << 16);
        }
    }
}
