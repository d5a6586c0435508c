//! Kernel of `vmlu_ops::im2col`: rows go along the last axis of windows.

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::im2col::{Checked, Im2col};
use vmlu_ops::tensor::Tensor;
use vmlu_ops::window::Axis;

use super::env::{Access, Env, Fault, Work};
use super::number::{Storage, TILE};
use super::resize::at;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Im2col>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    if op.out.elements > 0 {
        match op.out.dtype.size() {
            1 => compute::<u8>(&op, env, &x, &out)?,
            2 => compute::<u16>(&op, env, &x, &out)?,
            4 => compute::<u32>(&op, env, &x, &out)?,
            _ => compute::<u64>(&op, env, &x, &out)?,
        }
    }
    Ok(op.cost().into())
}

/// Strides of columns: images, channels, three axes of taps, three of windows.
pub(super) fn column_strides(tensor: &Tensor) -> [isize; MAX_DIMS] {
    let (given, spatial) = (tensor.strides(), (tensor.rank() - 2) / 2);
    let mut strides = [0; MAX_DIMS];
    (strides[0], strides[1]) = (given[0] as isize, given[1] as isize);
    for i in 0..spatial {
        strides[5 - spatial + i] = given[2 + i] as isize;
        strides[8 - spatial + i] = given[2 + spatial + i] as isize;
    }
    strides
}

/// Windows whose tap lies in the input.
pub(super) fn inside(axis: &Axis, tap: i64) -> std::ops::Range<i64> {
    // Position of the tap in the first window.
    let first = tap * axis.dilation - axis.before;
    let start = if first < 0 {
        (-first + axis.stride - 1) / axis.stride
    } else {
        0
    };
    let end = match axis.input - first {
        room if room > 0 => (room + axis.stride - 1) / axis.stride,
        _ => 0,
    };
    let end = end.min(axis.output);
    start.min(end)..end
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let (from, to) = (Geometry::strides(&op.x), column_strides(&op.out));
    let [a, b, c] = &op.axes;
    let [images, channels] = [0, 1].map(|i| op.x.dims()[i] as usize);
    let taps = op.axes.map(|a| a.taps as usize);
    let [outer_d, outer_h, width] = op.axes.map(|a| a.output as usize);
    let rows = images * channels * taps[0] * taps[1] * taps[2] * outer_d * outer_h;
    let pieces = width.div_ceil(TILE);
    let grain = 16 * TILE / width.clamp(1, TILE);
    split(env, rows * pieces, grain, |range| {
        let mut pace = Pace::new(env);
        let mut row = [S::Raw::default(); TILE];
        for index in range {
            let (mut rest, start) = (index / pieces, index % pieces * TILE);
            let mut take = |n: usize| {
                let digit = rest % n;
                rest /= n;
                digit
            };
            let (p, o) = (take(outer_h), take(outer_d));
            let (k, j, i) = (take(taps[2]), take(taps[1]), take(taps[0]));
            let (channel, image) = (take(channels), take(images));
            let row = &mut row[..TILE.min(width - start)];
            row.fill(S::Raw::default());
            let (o, p) = (o as i64, p as i64);
            let (i, j, k) = (i as i64, j as i64, k as i64);
            let d = o * a.stride - a.before + i * a.dilation;
            let h = p * b.stride - b.before + j * b.dilation;
            if (0..a.input).contains(&d) && (0..b.input).contains(&h) {
                let some = inside(c, k);
                let first = some.start.max(start as i64);
                let end = some.end.min((start + row.len()) as i64);
                if first < end {
                    let w = first * c.stride - c.before + k * c.dilation;
                    let place = [image, channel, d as usize, h as usize, w as usize];
                    let row = &mut row[(first as usize - start)..(end as usize - start)];
                    x.load(at(from, place), from[4] * c.stride as isize, row);
                }
            }
            let place = [image as i64, channel as i64, i, j, k, o, p, start as i64];
            let offset = (0..8).map(|n| place[n] as isize * to[n]).sum();
            out.store(offset, to[7], row);
            pace.did(row.len())?;
        }
        Ok(())
    })
}
