//! Copies whose input is contiguous along another axis than the output: in blocks, each read and written along its own rows.

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_abi::Wire;
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::number::TILE;
use super::simd::multiversion;
#[cfg(target_arch = "x86_64")]
use super::simd::{level, Level};
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Elements of a block along the input's contiguous axis: some lines of each row, so that few pages are in use at a time.
const ACROSS: usize = 128;
/// Elements of a block along the output's contiguous axis.
const ALONG: usize = 32;
/// Least elements for which blocks pay.
const LEAST: u64 = 4096;

/// One axis: elements, and strides of input and output.
#[derive(Clone, Copy)]
struct Axis {
    dim: usize,
    x: isize,
    out: isize,
}

/// The plan of a blocked copy.
struct Plan {
    /// The input's contiguous axis.
    from: Axis,
    /// The output's contiguous axis.
    to: Axis,
    /// All others.
    outer: Vec<Axis>,
}

/// Copies `x`, whose strides over the axes of `out` are given: bits, whatever they mean.
pub(super) fn copy(
    env: &dyn Env,
    out: &Tensor,
    strides: &[i64; MAX_DIMS],
    x: &View<'_>,
    to: &View<'_>,
) -> Result<(), Fault> {
    let plan = plan(out, strides);
    match out.dtype.size() {
        1 => by_size::<u8>(env, plan, out, strides, x, to),
        2 => by_size::<u16>(env, plan, out, strides, x, to),
        4 => by_size::<u32>(env, plan, out, strides, x, to),
        _ => by_size::<u64>(env, plan, out, strides, x, to),
    }
}

fn by_size<T: Turn>(
    env: &dyn Env,
    plan: Option<Plan>,
    out: &Tensor,
    strides: &[i64; MAX_DIMS],
    x: &View<'_>,
    to: &View<'_>,
) -> Result<(), Fault> {
    if let Some(plan) = plan {
        return plan.run::<T>(env, x, to);
    }
    let walk = Walk::new(out.dims(), [&strides[..], out.strides()], 1);
    walk.tiles(
        env,
        || [T::default(); TILE],
        |v, tile| {
            for (offsets, n) in tile.pieces {
                let v = &mut v[..*n];
                x.load(offsets[0], tile.strides[0], v);
                to.store(offsets[1], tile.strides[1], v);
            }
        },
    )
}

/// The blocks of a copy, if they suit its layout.
fn plan(out: &Tensor, strides: &[i64; MAX_DIMS]) -> Option<Plan> {
    if out.elements < LEAST {
        return None;
    }
    let mut axes: Vec<Axis> = (out.dims().iter().zip(out.strides()).zip(strides))
        .filter(|((d, _), _)| **d > 1)
        .map(|((d, o), x)| Axis {
            dim: *d as usize,
            x: *x as isize,
            out: *o as isize,
        })
        .collect();
    let mut take = |unit: fn(&Axis) -> isize| {
        let at = axes.iter().position(|a| unit(a) == 1 && a.dim >= 8)?;
        Some(axes.swap_remove(at))
    };
    // An axis that is contiguous in both makes rows that need no turning.
    let to = take(|a| a.out).filter(|a| a.x != 1)?;
    let from = take(|a| a.x)?;
    axes.sort_by_key(|a| std::cmp::Reverse(a.out.unsigned_abs()));
    Some(Plan {
        from,
        to,
        outer: axes,
    })
}

impl Plan {
    fn run<T: Turn>(&self, env: &dyn Env, x: &View<'_>, out: &View<'_>) -> Result<(), Fault> {
        let x = x.fetched_by_hand();
        let across = self.from.dim.div_ceil(ACROSS);
        let along = self.to.dim.div_ceil(ALONG);
        let outer: usize = self.outer.iter().map(|a| a.dim).product();
        split(env, outer * across * along, 8, |range| {
            let mut pace = Pace::new(env);
            let mut block = vec![T::default(); ACROSS * ALONG];
            let mut turned = vec![T::default(); ACROSS * ALONG];
            for index in range.clone() {
                let Corner { from, to, ni, nj } = self.corner(index, across, along);
                for j in 0..nj {
                    let line = &mut block[j * ACROSS..j * ACROSS + ni];
                    x.load(from + j as isize * self.to.x, 1, line);
                }
                if index + 1 < range.end {
                    let next = self.corner(index + 1, across, along);
                    for j in 0..next.nj {
                        x.fetch::<T>(next.from + j as isize * self.to.x, next.ni);
                    }
                }
                T::turn(&block, &mut turned);
                for i in 0..ni {
                    let line = &turned[i * ALONG..i * ALONG + nj];
                    out.store(to + i as isize * self.from.out, 1, line);
                }
                pace.did(ni * nj)?;
            }
            Ok(())
        })
    }

    /// Where a block is.
    fn corner(&self, index: usize, across: usize, along: usize) -> Corner {
        let (row, column) = (index / along % across, index % along);
        let (mut from, mut to) = (0, 0);
        let mut rest = index / along / across;
        for axis in self.outer.iter().rev() {
            let at = (rest % axis.dim) as isize;
            rest /= axis.dim;
            from += at * axis.x;
            to += at * axis.out;
        }
        let (i0, j0) = (row * ACROSS, column * ALONG);
        Corner {
            from: from + i0 as isize * self.from.x + j0 as isize * self.to.x,
            to: to + i0 as isize * self.from.out + j0 as isize * self.to.out,
            ni: ACROSS.min(self.from.dim - i0),
            nj: ALONG.min(self.to.dim - j0),
        }
    }
}

/// A block: its first elements in input and output, and its extents.
struct Corner {
    from: isize,
    to: isize,
    ni: usize,
    nj: usize,
}

/// Types whose blocks can be turned.
trait Turn: Wire + Default + Send + Sync {
    /// `out[i][j] = x[j][i]` of a block.
    fn turn(x: &[Self], out: &mut [Self]);
}

multiversion! {
    /// In squares of 8, which the processor's registers hold.
    fn turn<T: Turn>(x: &[T], out: &mut [T]) {
        let (x, out) = (&x[..ACROSS * ALONG], &mut out[..ACROSS * ALONG]);
        for i0 in (0..ACROSS).step_by(8) {
            for j0 in (0..ALONG).step_by(8) {
                let mut square = [[T::default(); 8]; 8];
                for j in 0..8 {
                    let line = &x[(j0 + j) * ACROSS + i0..][..8];
                    for i in 0..8 {
                        square[i][j] = line[i];
                    }
                }
                for i in 0..8 {
                    out[(i0 + i) * ALONG + j0..][..8].copy_from_slice(&square[i]);
                }
            }
        }
    }
}

macro_rules! turns {
    ($($t:ty),*) => { $(
        impl Turn for $t {
            fn turn(x: &[Self], out: &mut [Self]) {
                turn(x, out);
            }
        }
    )* };
}
turns!(u8, u16, u64);

impl Turn for u32 {
    fn turn(x: &[Self], out: &mut [Self]) {
        #[cfg(target_arch = "x86_64")]
        if level() == Level::V4 {
            // SAFETY: `level` has found AVX-512F.
            return unsafe { x86::turn(x, out) };
        }
        turn(x, out);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{ACROSS, ALONG};

    /// Squares of 16 words, turned in registers.
    #[target_feature(enable = "avx512f")]
    pub(super) fn turn(x: &[u32], out: &mut [u32]) {
        let (x, out) = (&x[..ACROSS * ALONG], &mut out[..ACROSS * ALONG]);
        for i0 in (0..ACROSS).step_by(16) {
            for j0 in (0..ALONG).step_by(16) {
                let mut square = [_mm512_setzero_si512(); 16];
                for (j, line) in square.iter_mut().enumerate() {
                    let from = &x[(j0 + j) * ACROSS + i0..][..16];
                    // SAFETY: sixteen words; the load is unaligned.
                    *line = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
                }
                for (i, line) in squares(square).into_iter().enumerate() {
                    let to = &mut out[(i0 + i) * ALONG + j0..][..16];
                    // SAFETY: sixteen words; the store is unaligned.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), line) };
                }
            }
        }
    }

    /// Turns a square: words within fours of lines, then fours of words among the lines.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn squares(x: [__m512i; 16]) -> [__m512i; 16] {
        let (mut a, mut b) = (x, x);
        for k in (0..16).step_by(2) {
            a[k] = _mm512_unpacklo_epi32(x[k], x[k + 1]);
            a[k + 1] = _mm512_unpackhi_epi32(x[k], x[k + 1]);
        }
        // Quarter q of line 4k + c: word 4q + c of lines 4k … 4k + 3.
        for k in (0..16).step_by(4) {
            b[k] = _mm512_unpacklo_epi64(a[k], a[k + 2]);
            b[k + 1] = _mm512_unpackhi_epi64(a[k], a[k + 2]);
            b[k + 2] = _mm512_unpacklo_epi64(a[k + 1], a[k + 3]);
            b[k + 3] = _mm512_unpackhi_epi64(a[k + 1], a[k + 3]);
        }
        // Even and odd quarters, of two lines, then of four.
        for c in 0..4 {
            for half in [0, 8] {
                let (low, high) = (b[half + c], b[half + c + 4]);
                a[half + c] = _mm512_shuffle_i32x4::<0x88>(low, high);
                a[half + c + 4] = _mm512_shuffle_i32x4::<0xdd>(low, high);
            }
        }
        for k in 0..8 {
            b[k] = _mm512_shuffle_i32x4::<0x88>(a[k], a[k + 8]);
            b[k + 8] = _mm512_shuffle_i32x4::<0xdd>(a[k], a[k + 8]);
        }
        b
    }
}
