//! Kernel of `vmlu_ops::deform_conv`: for some positions at a time, what the taps see is put side by side and multiplied with the filter.

use vmlu_ops::deform_conv::{Checked, DeformConv};
use vmlu_ops::matmul::K_BLOCK;
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::with_compute;
use super::gemm::{Feed, Private};
use super::moved::{at, filter, load, Moved, Multiplied};
use super::private_product::each_row;
use super::view::View;
use super::walk::{split, Pace};

/// Positions whose elements lie side by side.
const TOGETHER: usize = 64;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<DeformConv>(body)?;
    let read = |i, t: &Tensor| View::open(env, i, t, Access::Read);
    let (x, w, offset) = (read(0, &op.x)?, read(1, &op.w)?, read(2, &op.offset)?);
    let optional = |i, t: &Option<Tensor>| t.as_ref().map(|t| read(i, t)).transpose();
    let (mask, bias) = (optional(3, &op.mask)?, optional(4, &op.bias)?);
    let out = View::open(env, 5, &op.out, Access::Write)?;
    if op.out.elements > 0 {
        let moved = Moved {
            look: &op.look,
            x: (&x, &op.x),
            offset: (&offset, &op.offset),
            mask: mask.as_ref().zip(op.mask.as_ref()),
        };
        let job = Job {
            op: &op,
            env,
            moved: &moved,
            bias: bias.as_ref().zip(op.bias.as_ref()),
            out: &out,
        };
        with_compute!(op.x.dtype, T => job.compute::<T>(&w)?);
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    moved: &'j Moved<'j, 'a>,
    bias: Option<(&'j View<'a>, &'j Tensor)>,
    out: &'j View<'a>,
}

impl Job<'_, '_> {
    fn compute<T: Multiplied>(&self, w: &View<'_>) -> Result<(), Fault> {
        let (op, look) = (self.op, &self.op.look);
        let (taps, own) = (look.taps(), look.own);
        let depth = own * taps;
        let [images, outputs] = [0, 1].map(|i| op.out.dims()[i] as usize);
        let mut rows = vec![T::default(); outputs * depth];
        filter(w, &op.w, &mut Pace::new(self.env), |o, k, v: T| {
            rows[o * depth + k] = v;
        })?;
        let of_group = outputs / look.groups;
        let positions = self.moved.positions();
        let pieces = positions.div_ceil(TOGETHER);
        split(self.env, images * look.groups * pieces, 1, |range| {
            let mut pace = Pace::new(self.env);
            let mut seen = Vec::new();
            for index in range {
                let (element, first) = (index / pieces, index % pieces * TOGETHER);
                let (image, group) = (element / look.groups, element % look.groups);
                let count = TOGETHER.min(positions - first);
                seen.clear();
                seen.resize(count * depth, T::default());
                let channels = group * own..(group + 1) * own;
                let some = first..first + count;
                self.moved
                    .gather(image, channels, some, &mut pace, |i, c, tap, v| {
                        seen[i * depth + c * taps + tap] = v;
                    })?;
                let a = Private::<T::Feed> {
                    data: &rows[group * of_group * depth..][..of_group * depth],
                    pitch: depth,
                    lines: of_group,
                    length: depth,
                };
                let b = Private::<T::Feed> {
                    data: &seen,
                    pitch: depth,
                    lines: count,
                    length: depth,
                };
                let words = (T::Feed::words(depth), K_BLOCK as usize);
                each_row::<T::Arith>(self.env, words, &a, &b, |row, some, sums| {
                    let output = group * of_group + row;
                    let bias: Option<T> = self.bias.map(|(view, t)| {
                        load(t.dtype, view, output as isize * t.strides()[0] as isize)
                    });
                    for (i, v) in some.zip(sums) {
                        let [r, c] = self.moved.place(first + i);
                        let v = bias.map_or(*v, |b| v.add(b));
                        let to = at(&op.out, [image, output, r, c]);
                        T::store(op.out.dtype, self.out, to, 1, &[v]);
                    }
                })?;
            }
            Ok(())
        })
    }
}
