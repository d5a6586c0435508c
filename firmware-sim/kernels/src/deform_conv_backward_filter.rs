//! Kernel of `vmlu_ops::deform_conv_backward_filter`: some channels of a group at a time, over all images and positions.

use vmlu_ops::deform_conv_backward_filter::{Checked, DeformConvBackwardFilter, BLOCK};
use vmlu_ops::matmul::K_BLOCK;
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::with_compute;
use super::gemm::{Feed, Private};
use super::moved::{at, Moved, Multiplied};
use super::private_product::each_row;
use super::view::View;
use super::walk::{split, Pace};

/// Channels of a task.
const CHANNELS: usize = 8;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<DeformConvBackwardFilter>(body)?;
    let read = |i, t: &Tensor| View::open(env, i, t, Access::Read);
    let (dy, x, offset) = (read(0, &op.dy)?, read(1, &op.x)?, read(2, &op.offset)?);
    let mask = op.mask.as_ref().map(|t| read(3, t)).transpose()?;
    let dw = View::open(env, 4, &op.dw, Access::Write)?;
    if op.dw.elements > 0 {
        let moved = Moved {
            look: &op.look,
            x: (&x, &op.x),
            offset: (&offset, &op.offset),
            mask: mask.as_ref().zip(op.mask.as_ref()),
        };
        with_compute!(op.x.dtype, T => compute::<T>(&op, env, &moved, &dy, &dw)?);
    }
    Ok(op.cost().into())
}

fn compute<T: Multiplied>(
    op: &Checked,
    env: &dyn Env,
    moved: &Moved<'_, '_>,
    dy: &View<'_>,
    dw: &View<'_>,
) -> Result<(), Fault> {
    let look = &op.look;
    let (taps, own) = (look.taps(), look.own);
    let outputs = op.dw.dims()[0] as usize / look.groups;
    // Images without positions have no part in anything, however many there are.
    let images = if op.dy.elements == 0 {
        0
    } else {
        op.dy.dims()[0] as usize
    };
    let (positions, pieces) = (moved.positions(), own.div_ceil(CHANNELS));
    let across = op.dw.dims()[3] as usize;
    split(env, look.groups * pieces, 1, |range| {
        let mut pace = Pace::new(env);
        for index in range {
            let (group, first) = (index / pieces, index % pieces * CHANNELS);
            let channels = CHANNELS.min(own - first);
            let depth = channels * taps;
            let mut sums = vec![T::default(); outputs * depth];
            let (mut seen, mut up) = (Vec::new(), Vec::new());
            for image in 0..images {
                for start in (0..positions).step_by(BLOCK) {
                    let count = BLOCK.min(positions - start);
                    let some = start..start + count;
                    seen.resize(depth * count, T::default());
                    let from = group * own + first;
                    let range = from..from + channels;
                    moved.gather(image, range, some.clone(), &mut pace, |i, c, tap, v| {
                        seen[(c * taps + tap) * count + i] = v;
                    })?;
                    up.resize(outputs * count, T::default());
                    for (o, row) in up.chunks_mut(count).enumerate() {
                        let output = group * outputs + o;
                        for (position, v) in some.clone().zip(row) {
                            let [r, c] = moved.place(position);
                            let place = at(&op.dy, [image, output, r, c]);
                            *v = super::moved::load(op.dy.dtype, dy, place);
                        }
                        pace.did(count)?;
                    }
                    let side = |data, lines| Private::<T::Feed> {
                        data,
                        pitch: count,
                        lines,
                        length: count,
                    };
                    let (a, b) = (side(&up, outputs), side(&seen, depth));
                    let words = (T::Feed::words(count), K_BLOCK as usize);
                    each_row::<T::Arith>(env, words, &a, &b, |row, some, more| {
                        for (s, m) in sums[row * depth..][some].iter_mut().zip(more) {
                            *s = s.add(*m);
                        }
                    })?;
                }
            }
            for (number, v) in sums.iter().enumerate() {
                let (o, k) = (number / depth, number % depth);
                let (c, tap) = (k / taps, k % taps);
                let place = [group * outputs + o, first + c, tap / across, tap % across];
                T::store(op.dw.dtype, dw, at(&op.dw, place), 1, &[*v]);
                pace.did(1)?;
            }
        }
        Ok(())
    })
}
