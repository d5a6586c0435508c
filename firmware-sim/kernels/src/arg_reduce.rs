//! Kernel of `vmlu_ops::arg_reduce`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::arg_reduce::{ArgReduce, Checked, Function};

use super::cross_entropy::rows_per_task;
use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<ArgReduce>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    with_storage!(op.x.dtype, S => match op.function {
        Function::Max => compute::<S>(&op, env, &x, &out, largest, |v, best| v > best)?,
        Function::Min => compute::<S>(&op, env, &x, &out, smallest, |v, best| v < best)?,
    });
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    extreme: impl Fn(&[S::Compute], &mut S::Compute, &mut bool) + Sync,
    better: impl Fn(S::Compute, S::Compute) -> bool + Sync,
) -> Result<(), Fault> {
    if op.out.elements == 0 {
        return Ok(());
    }
    let count = op.x.dims()[op.axis] as usize;
    let stride = op.x.strides()[op.axis] as isize;
    let mut dims = op.x.dims().to_vec();
    dims[op.axis] = 1;
    let rows = Walk::new(&dims, [op.x.strides(), &op.out_strides[..]], 1);
    split(env, rows.total(), rows_per_task(count), |range| {
        let mut pace = Pace::new(env);
        rows.rows(range, 1, [0; 2], |at, _, _| {
            let mut tile = [S::Compute::default(); TILE];
            let mut best: Option<(S::Compute, usize)> = None;
            let mut start = 0;
            while start < count {
                let tile = &mut tile[..(count - start).min(TILE)];
                S::load(x, at[0] + start as isize * stride, stride, tile);
                let (mut value, mut nan) = (tile[0], false);
                extreme(tile, &mut value, &mut nan);
                let wins = |best| nan || better(value, best);
                if best.is_none_or(|(b, _)| wins(b)) {
                    // The first of equals; both zeroes are.
                    let at = match nan {
                        true => tile.iter().position(|v| v.is_nan()),
                        false => tile.iter().position(|v| *v == value),
                    };
                    best = Some((value, start + at.unwrap_or(0)));
                }
                if nan {
                    break;
                }
                start += tile.len();
                pace.did(tile.len())?;
            }
            let index = best.map_or(0, |(_, i)| i);
            if op.out.dtype == DataType::I32 {
                out.store(at[1], 1, &[index as i32]);
            } else {
                out.store(at[1], 1, &[index as i64]);
            }
            Ok(())
        })
    })
}

/// Extremes that are kept side by side.
const LANES: usize = 32;

/// The extreme of some values, and whether one is no number (then the extreme means nothing).
#[inline(always)]
fn extreme<T: Number>(values: &[T], value: &mut T, nan: &mut bool, better: impl Fn(T, T) -> bool) {
    let mut lanes = [*value; LANES];
    let mut strange = [false; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for ((lane, strange), v) in lanes.iter_mut().zip(&mut strange).zip(chunk) {
            *lane = if better(*v, *lane) { *v } else { *lane };
            *strange |= v.is_nan();
        }
    }
    for v in rest {
        lanes[0] = if better(*v, lanes[0]) { *v } else { lanes[0] };
        strange[0] |= v.is_nan();
    }
    *nan = strange.contains(&true);
    for lane in lanes {
        *value = if better(lane, *value) { lane } else { *value };
    }
}

multiversion! {
    fn largest<T: Number>(values: &[T], value: &mut T, nan: &mut bool) {
        extreme(values, value, nan, |v, best| v > best);
    }

    fn smallest<T: Number>(values: &[T], value: &mut T, nan: &mut bool) {
        extreme(values, value, nan, |v, best| v < best);
    }
}
