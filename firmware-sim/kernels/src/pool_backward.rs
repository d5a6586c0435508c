//! Kernel of `vmlu_ops::pool_backward`: each element of `dx` gathers from the windows that cover it.

use std::cmp::{max, min};
use std::marker::PhantomData;

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::pool_backward::{Checked, PoolBackward};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace};
use super::window::{
    add_where, along_channels, divide, divide_by, join_rows, load_indices, Divide, Fold, Total,
};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<PoolBackward>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let indices = match &op.indices {
        Some(t) => Some((View::open(env, 1, t, Access::Read)?, t)),
        None => None,
    };
    let dx = View::output(env, 2, &op.dx)?;
    if op.dx.elements > 0 {
        with_float!(op.dx.dtype, S => {
            let job = Job::<S> {
                op: &op,
                env,
                dy: &dy,
                indices: indices.as_ref().map(|(v, t)| (v, *t)),
                dx: &dx,
                divide: Divide::new(op.function, op.divisor),
                from: Geometry::strides(&op.dy),
                to: Geometry::strides(&op.dx),
                kind: PhantomData,
            };
            job.run()?
        });
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a, S> {
    op: &'j Checked,
    env: &'j dyn Env,
    dy: &'j View<'a>,
    indices: Option<(&'j View<'a>, &'j Tensor)>,
    dx: &'j View<'a>,
    divide: Divide,
    from: [isize; 5],
    to: [isize; 5],
    kind: PhantomData<fn() -> S>,
}

/// Buffers of a task.
struct Buffers<T> {
    row: [T; TILE],
    column: [T; TILE],
    acc: [T; TILE],
    numbers: [i64; TILE],
    counts: [i64; TILE],
}

impl<S: Storage> Job<'_, '_, S>
where
    Total: Fold<S::Compute>,
{
    fn run(&self) -> Result<(), Fault> {
        let [d, h, w] = self.op.axes.map(|a| a.input as usize);
        let [images, channels] = [0, 1].map(|i| self.op.dx.dims()[i] as usize);
        let lanes = along_channels(channels, self.to, w);
        let (rows, length) = if lanes {
            (images * d * h * w, channels)
        } else {
            (images * channels * d * h, w)
        };
        let pieces = length.div_ceil(TILE);
        let grain = 8 * TILE / length.clamp(1, TILE);
        split(self.env, rows * pieces, grain, |range| {
            let mut pace = Pace::new(self.env);
            let zero = S::Compute::default();
            let mut buffers = Buffers {
                row: [zero; TILE],
                column: [zero; TILE],
                acc: [zero; TILE],
                numbers: [0; TILE],
                counts: [0; TILE],
            };
            for index in range {
                let (row, first) = (index / pieces, index % pieces * TILE);
                let n = TILE.min(length - first);
                if lanes {
                    let at = [
                        row / (d * h * w),
                        first,
                        row / (h * w) % d,
                        row / w % h,
                        row % w,
                    ];
                    self.position(at, n, &mut buffers, &mut pace)?;
                } else {
                    let at = [
                        row / (channels * d * h),
                        row / (d * h) % channels,
                        row / h % d,
                        row % h,
                        first,
                    ];
                    self.row(at, n, &mut buffers, &mut pace)?;
                }
            }
            Ok(())
        })
    }

    /// Windows of the first two axes that have a tap at a place, in order.
    fn outer(
        &self,
        at: [usize; 5],
        pace: &mut Pace<'_>,
        mut each: impl FnMut([i64; 2], &mut Pace<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let [a, b, _] = &self.op.axes;
        let (d, h) = (at[2] as i64, at[3] as i64);
        let ((first, last), (left, right)) = (a.covering(d), b.covering(h));
        for o in first..=last {
            pace.did(1)?;
            if a.tap_at(o, d).is_none() {
                continue;
            }
            for p in left..=right {
                pace.did(1)?;
                if b.tap_at(p, h).is_some() {
                    each([o, p], pace)?;
                }
            }
        }
        Ok(())
    }

    fn place(strides: [isize; 5], at: [i64; 5]) -> isize {
        (0..5).map(|i| at[i] as isize * strides[i]).sum()
    }

    /// What window `[o, p]` of the first two axes contributes to the divisor.
    fn outer_count(&self, [o, p]: [i64; 2]) -> i64 {
        let [a, b, _] = &self.op.axes;
        self.divide.factor() * self.divide.count(a, o) * self.divide.count(b, p)
    }

    /// One position, `n` channels.
    fn position(
        &self,
        at: [usize; 5],
        n: usize,
        buffers: &mut Buffers<S::Compute>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let [_, high, wide] = self.op.axes.map(|a| a.input);
        let axis = &self.op.axes[2];
        let (image, channel, w) = (at[0] as i64, at[1] as i64, at[4] as i64);
        let number = (at[2] as i64 * high + at[3] as i64) * wide + w;
        let (row, acc) = (&mut buffers.row[..n], &mut buffers.acc[..n]);
        let (column, numbers) = (&mut buffers.column[..n], &mut buffers.numbers[..n]);
        acc.fill(S::Compute::default());
        pace.did(n)?;
        let (first, last) = axis.covering(w);
        if let Some((view, t)) = self.indices {
            let strides = Geometry::strides(t);
            self.outer(at, pace, |[o, p], pace| {
                for q in first..=last {
                    if axis.tap_at(q, w).is_some() {
                        let place = [image, channel, o, p, q];
                        let from = Self::place(strides, place);
                        load_indices(view, t.dtype, from, strides[1], numbers);
                        S::load(self.dy, Self::place(self.from, place), self.from[1], row);
                        add_where(acc, row, numbers, number);
                    }
                    pace.did(n)?;
                }
                Ok(())
            })?;
        } else {
            for q in first..=last {
                pace.did(1)?;
                if axis.tap_at(q, w).is_none() {
                    continue;
                }
                column.fill(S::Compute::default());
                let own = self.divide.count(axis, q);
                self.outer(at, pace, |[o, p], pace| {
                    let place = [image, channel, o, p, q];
                    S::load(self.dy, Self::place(self.from, place), self.from[1], row);
                    let count = self.outer_count([o, p]) * own;
                    divide_by(row, S::Compute::from_count(count as usize));
                    join_rows::<_, Total>(column, row);
                    pace.did(n)
                })?;
                join_rows::<_, Total>(acc, column);
            }
        }
        S::store(
            self.dx,
            Self::place(self.to, at.map(|i| i as i64)),
            self.to[1],
            acc,
        );
        Ok(())
    }

    /// `n` positions of a row.
    fn row(
        &self,
        at: [usize; 5],
        n: usize,
        buffers: &mut Buffers<S::Compute>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let axis = &self.op.axes[2];
        let [_, high, wide] = self.op.axes.map(|a| a.input);
        let (image, channel, left) = (at[0] as i64, at[1] as i64, at[4] as i64);
        let right = left + n as i64;
        let base = (at[2] as i64 * high + at[3] as i64) * wide;
        let Buffers {
            row,
            column,
            acc,
            numbers,
            counts,
        } = buffers;
        let acc = &mut acc[..n];
        acc.fill(S::Compute::default());
        pace.did(n)?;
        let (first, last) = (axis.covering(left).0, axis.covering(right - 1).1);
        let pieces = (first..=last)
            .step_by(TILE)
            .map(|q| (q, min(last + 1 - q, TILE as i64) as usize));
        if let Some((view, t)) = self.indices {
            let strides = Geometry::strides(t);
            return self
                .outer(at, pace, |[o, p], pace| {
                    for (q, m) in pieces.clone() {
                        let (row, numbers) = (&mut row[..m], &mut numbers[..m]);
                        let place = [image, channel, o, p, q];
                        let from = Self::place(strides, place);
                        load_indices(view, t.dtype, from, strides[4], numbers);
                        S::load(self.dy, Self::place(self.from, place), self.from[4], row);
                        for (i, (v, number)) in row.iter().zip(numbers.iter()).enumerate() {
                            let w = number.wrapping_sub(base);
                            if (left..right).contains(&w) && covers(axis, q + i as i64, w) {
                                let a = &mut acc[(w - left) as usize];
                                *a = a.add(*v);
                            }
                        }
                        pace.did(2 * m)?;
                    }
                    Ok(())
                })
                .map(|()| self.finish(at, acc));
        }
        for (q, m) in pieces {
            let (row, column) = (&mut row[..m], &mut column[..m]);
            column.fill(S::Compute::default());
            for (i, c) in counts.iter_mut().enumerate().take(m) {
                *c = self.divide.count(axis, q + i as i64);
            }
            self.outer(at, pace, |[o, p], pace| {
                let place = [image, channel, o, p, q];
                S::load(self.dy, Self::place(self.from, place), self.from[4], row);
                divide(row, &counts[..m], self.outer_count([o, p]));
                join_rows::<_, Total>(column, row);
                pace.did(m)
            })?;
            for (i, v) in column.iter().enumerate() {
                // The taps of this window that lie in the piece.
                let span = axis.span(q + i as i64);
                let skip = max(left - span.first + span.step - 1, 0) / span.step;
                let mut w = span.first + skip * span.step;
                let mut count = 1;
                for _ in skip..span.count {
                    if w >= right {
                        break;
                    }
                    let a = &mut acc[(w - left) as usize];
                    *a = a.add(*v);
                    w += span.step;
                    count += 1;
                }
                pace.did(count)?;
            }
        }
        self.finish(at, acc);
        Ok(())
    }

    fn finish(&self, at: [usize; 5], acc: &[S::Compute]) {
        S::store(
            self.dx,
            Self::place(self.to, at.map(|i| i as i64)),
            self.to[4],
            acc,
        );
    }
}

/// Whether window `q` of an axis has a tap at position `w`.
#[inline]
fn covers(axis: &vmlu_ops::window::Axis, q: i64, w: i64) -> bool {
    let span = axis.span(q);
    let far = w - span.first;
    far >= 0 && far < span.count * span.step && (span.step == 1 || far % span.step == 0)
}
