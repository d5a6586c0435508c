//! Kernel of `vmlu_ops::grid_sample`. Rows go along the channels, which share their places.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::grid_sample::{Checked, GridSample};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::resize::{at, join};
use super::sampling::{plane, Places, Weighed};
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<GridSample>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let grid = View::open(env, 1, &op.grid, Access::Read)?;
    let out = View::output(env, 2, &op.out)?;
    if op.out.elements > 0 {
        with_compute!(op.x.dtype, T => compute::<T>(&op, env, &x, &grid, &out)?);
    }
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    grid: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let places = Places::new(grid, &op.grid, &op.look, &op.x);
    let (from, to) = (Geometry::strides(&op.x), Geometry::strides(&op.out));
    let ([channels, d, h, w], dtype) = (plane(&op.out), op.x.dtype);
    let each = channels.saturating_mul(op.look.taps() as usize) + 32;
    let grain = (16 * TILE / each.min(16 * TILE)).max(1);
    split(env, op.out.dims()[0] as usize * d * h * w, grain, |range| {
        let mut pace = Pace::new(env);
        let mut weighed = Weighed::default();
        let (mut row, mut acc) = ([T::default(); TILE], [T::default(); TILE]);
        for index in range {
            let place = [
                index / (d * h * w),
                index / (h * w) % d,
                index / w % h,
                index % w,
            ];
            weighed.gather(&places.taps::<T>(place), [from[2], from[3], from[4]], false);
            pace.did(32)?;
            let [image, i, j, k] = place;
            for channel in (0..channels).step_by(TILE) {
                let n = TILE.min(channels - channel);
                let (row, acc) = (&mut row[..n], &mut acc[..n]);
                let base = at(from, [image, channel, 0, 0, 0]);
                acc.fill(T::default());
                let mut first = true;
                for (offset, weight) in &weighed.all {
                    T::load(dtype, x, base + offset, from[1], row);
                    join(acc, row, *weight, &mut first);
                    pace.did(n)?;
                }
                T::store(dtype, out, at(to, [image, channel, i, j, k]), to[1], acc);
            }
        }
        Ok(())
    })
}
