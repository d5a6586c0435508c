//! Copies whose input is contiguous along another axis than the output: in square blocks, each read and written along its own rows.

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_abi::Wire;
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::number::TILE;
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Rows and columns of a block.
const SIDE: usize = 64;
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
        let (across, along) = (self.from.dim.div_ceil(SIDE), self.to.dim.div_ceil(SIDE));
        let outer: usize = self.outer.iter().map(|a| a.dim).product();
        split(env, outer * across * along, 8, |range| {
            let mut pace = Pace::new(env);
            let mut block = vec![T::default(); SIDE * SIDE];
            let mut turned = vec![T::default(); SIDE * SIDE];
            for index in range {
                let (row, column) = (index / along % across, index % along);
                let (mut from, mut to) = (0, 0);
                let mut rest = index / along / across;
                for axis in self.outer.iter().rev() {
                    let at = (rest % axis.dim) as isize;
                    rest /= axis.dim;
                    from += at * axis.x;
                    to += at * axis.out;
                }
                let (i0, j0) = (row * SIDE, column * SIDE);
                let (ni, nj) = (SIDE.min(self.from.dim - i0), SIDE.min(self.to.dim - j0));
                from += i0 as isize * self.from.x + j0 as isize * self.to.x;
                to += i0 as isize * self.from.out + j0 as isize * self.to.out;
                for j in 0..nj {
                    let line = &mut block[j * SIDE..j * SIDE + ni];
                    x.load(from + j as isize * self.to.x, 1, line);
                }
                T::turn(&block, &mut turned);
                for i in 0..ni {
                    let line = &turned[i * SIDE..i * SIDE + nj];
                    out.store(to + i as isize * self.from.out, 1, line);
                }
                pace.did(ni * nj)?;
            }
            Ok(())
        })
    }
}

/// Types whose blocks can be turned.
trait Turn: Wire + Default + Send + Sync {
    /// `out[i][j] = x[j][i]` of a block.
    fn turn(x: &[Self], out: &mut [Self]);
}

multiversion! {
    /// In squares of 8, which the processor's registers hold.
    fn turn<T: Turn>(x: &[T], out: &mut [T]) {
        let (x, out) = (&x[..SIDE * SIDE], &mut out[..SIDE * SIDE]);
        for i0 in (0..SIDE).step_by(8) {
            for j0 in (0..SIDE).step_by(8) {
                let mut square = [[T::default(); 8]; 8];
                for j in 0..8 {
                    let line = &x[(j0 + j) * SIDE + i0..][..8];
                    for i in 0..8 {
                        square[i][j] = line[i];
                    }
                }
                for i in 0..8 {
                    out[(i0 + i) * SIDE + j0..][..8].copy_from_slice(&square[i]);
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
turns!(u8, u16, u32, u64);
