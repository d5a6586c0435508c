//! Kernel of `vmlu_ops::col2im`: each element of the result gathers from the windows that have a tap there, row by row.

use vmlu_ops::col2im::{Checked, Col2im};
use vmlu_ops::conv_geometry::Geometry;

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::im2col::{column_strides, inside};
use super::number::TILE;
use super::resize::at;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Col2im>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    if op.out.elements > 0 {
        with_compute!(op.out.dtype, T => compute::<T>(&op, env, &x, &out)?);
    }
    Ok(op.cost().into())
}

/// The window of an axis whose tap lies at a position, if there is one.
fn window(axis: &vmlu_ops::window::Axis, tap: i64, position: i64) -> Option<i64> {
    let far = position + axis.before - tap * axis.dilation;
    let there = far >= 0 && far % axis.stride == 0 && far / axis.stride < axis.output;
    there.then(|| far / axis.stride)
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let (from, to, dtype) = (
        column_strides(&op.x),
        Geometry::strides(&op.out),
        op.out.dtype,
    );
    let [a, b, c] = &op.axes;
    let [images, channels] = [0, 1].map(|i| op.out.dims()[i] as usize);
    let [high_d, high_h, width] = op.axes.map(|a| a.input as usize);
    let pieces = width.div_ceil(TILE);
    let rows = images * channels * high_d * high_h;
    let taps = op
        .axes
        .iter()
        .fold(1, |p: usize, a| p.saturating_mul(a.taps as usize));
    let each = width.min(TILE).saturating_mul(taps);
    let grain = (16 * TILE / each.clamp(1, 16 * TILE)).max(1);
    split(env, rows * pieces, grain, |range| {
        let mut pace = Pace::new(env);
        let (mut acc, mut row) = ([T::default(); TILE], [T::default(); TILE]);
        for index in range {
            let (line, start) = (index / pieces, index % pieces * TILE);
            let place = [
                line / (channels * high_d * high_h),
                line / (high_d * high_h) % channels,
                line / high_h % high_d,
                line % high_h,
                start,
            ];
            let [image, channel, d, h, _] = place.map(|p| p as i64);
            let acc = &mut acc[..TILE.min(width - start)];
            acc.fill(T::default());
            let (left, right) = (start as i64, (start + acc.len()) as i64);
            for i in 0..a.taps {
                let Some(o) = window(a, i, d) else {
                    pace.did(1)?;
                    continue;
                };
                for j in 0..b.taps {
                    let Some(p) = window(b, j, h) else {
                        pace.did(1)?;
                        continue;
                    };
                    for k in 0..c.taps {
                        // Windows whose tap lies in the piece.
                        let shift = k * c.dilation - c.before;
                        let some = inside(c, k);
                        let least = (left - shift).max(0);
                        let first = some.start.max((least + c.stride - 1) / c.stride);
                        let end = match right - shift {
                            room if room > 0 => some.end.min((room + c.stride - 1) / c.stride),
                            _ => 0,
                        };
                        let mut q = first;
                        while q < end {
                            let n = TILE.min((end - q) as usize);
                            let from_place = [image, channel, i, j, k, o, p, q];
                            let offset = (0..8).map(|n| from_place[n] as isize * from[n]).sum();
                            let row = &mut row[..n];
                            T::load(dtype, x, offset, from[7], row);
                            let w = (q * c.stride + shift - left) as usize;
                            let lane = acc[w..].iter_mut().step_by(c.stride as usize);
                            for (a, v) in lane.zip(row.iter()) {
                                *a = a.add(*v);
                            }
                            pace.did(n)?;
                            q += n as i64;
                        }
                        pace.did(1)?;
                    }
                }
            }
            T::store(dtype, out, at(to, place), to[4], acc);
            pace.did(acc.len())?;
        }
        Ok(())
    })
}
