//! Kernel of `vmlu_ops::pool`.
//!
//! Rows go along the channels where these lie side by side: each tap is a row. Otherwise along the last axis: the rows of a window are folded
//! into one, from which each output takes its columns. Both fold in the same order.

use std::cmp::{max, min};
use std::marker::PhantomData;

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::pool::{Checked, Function, Pool};
use vmlu_ops::window::{Axis, Span};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, with_storage, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace};
use super::window::{
    along_channels, divide, divide_by, join_rows, join_strided, largest_strided, store_indices,
    Divide, Fold, Largest, Total,
};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Pool>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    let indices = match &op.indices {
        Some(t) => Some(View::open(env, 2, t, Access::Write)?),
        None => None,
    };
    if op.out.elements > 0 {
        let views = (&x, &out, indices.as_ref());
        match op.function {
            Function::Max => with_storage!(op.x.dtype, S => {
                Job::<S, Largest>::new(&op, env, views).run()?
            }),
            _ => with_float!(op.x.dtype, S => {
                Job::<S, Total>::new(&op, env, views).run()?
            }),
        }
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a, S, F> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'a>,
    out: &'j View<'a>,
    indices: Option<&'j View<'a>>,
    divide: Option<Divide>,
    from: [isize; 5],
    to: [isize; 5],
    kind: PhantomData<fn() -> (S, F)>,
}

/// Buffers of a task.
struct Buffers<T> {
    row: [T; TILE],
    column: [T; TILE],
    acc: [T; TILE],
    numbers: [i64; TILE],
    counts: [i64; TILE],
    /// The part of the last axis that `counts` is of.
    counted: (usize, usize),
}

impl<'j, 'a, S: Storage, F: Fold<S::Compute>> Job<'j, 'a, S, F> {
    fn new(
        op: &'j Checked,
        env: &'j dyn Env,
        (x, out, indices): (&'j View<'a>, &'j View<'a>, Option<&'j View<'a>>),
    ) -> Self {
        let averages = op.function != Function::Max;
        Self {
            op,
            env,
            x,
            out,
            indices,
            divide: averages.then(|| Divide::new(op.function, op.divisor)),
            from: Geometry::strides(&op.x),
            to: Geometry::strides(&op.out),
            kind: PhantomData,
        }
    }

    fn buffers() -> Buffers<S::Compute> {
        let zero = S::Compute::default();
        Buffers {
            row: [zero; TILE],
            column: [zero; TILE],
            acc: [zero; TILE],
            numbers: [0; TILE],
            counts: [0; TILE],
            counted: (0, 0),
        }
    }

    fn run(&self) -> Result<(), Fault> {
        let (channels, width) = (self.op.x.dims()[1] as usize, self.op.axes[2].input as usize);
        if along_channels(channels, self.from, width) {
            return self.channels(channels);
        }
        let axis = &self.op.axes[2];
        // Outputs of a row whose windows lie in one buffer; none if a window is wider.
        let (reach, step) = match axis.taps {
            0 => {
                let each = (axis.input + axis.output - 1) / axis.output;
                (2 * each + 2, each)
            }
            taps => ((taps - 1) * axis.dilation + 1, axis.stride),
        };
        let room = TILE as i64 - reach;
        if room < 0 {
            return self.wide();
        }
        self.rows(min(room / max(step, 1) + 1, TILE as i64) as usize)
    }

    /// The part of a window that two axes decide, and where its rows lie.
    fn outer(&self, [o, p]: [usize; 2]) -> [Span; 2] {
        [
            self.op.axes[0].span(o as i64),
            self.op.axes[1].span(p as i64),
        ]
    }

    /// Calls `row(offset, position)` for the rows of a window, in order: where element 0 of the last axis is, in elements and as a number.
    fn each_row(
        &self,
        base: isize,
        [a, b]: [Span; 2],
        mut row: impl FnMut(isize, i64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let [_, high, wide] = self.op.axes.map(|a| a.input);
        for i in 0..a.count {
            let d = a.first + i * a.step;
            for j in 0..b.count {
                let h = b.first + j * b.step;
                let offset = base + d as isize * self.from[2] + h as isize * self.from[3];
                row(offset, (d * high + h) * wide)?;
            }
        }
        Ok(())
    }

    /// Product of the divisor's factors of the first two axes.
    fn outer_count(&self, divide: Divide, at: [usize; 2]) -> i64 {
        let [d, h, _] = &self.op.axes;
        divide.factor() * divide.count(d, at[0] as i64) * divide.count(h, at[1] as i64)
    }

    /// A window after the other, rows along the channels.
    fn channels(&self, channels: usize) -> Result<(), Fault> {
        let [od, oh, ow] = self.op.axes.map(|a| a.output as usize);
        let images = self.op.x.dims()[0] as usize;
        let each = vmlu_ops::pool::Checked::taps(self.op) as usize;
        let grain = 32 * TILE / channels.saturating_mul(each).clamp(1, 32 * TILE);
        split(self.env, images * od * oh * ow, grain, |range| {
            let mut pace = Pace::new(self.env);
            let mut buffers = Self::buffers();
            for index in range {
                let at = [
                    index / (od * oh * ow),
                    index / (oh * ow) % od,
                    index / ow % oh,
                    index % ow,
                ];
                for first in (0..channels).step_by(TILE) {
                    let n = TILE.min(channels - first);
                    self.window(at, first, n, &mut buffers, &mut pace)?;
                }
            }
            Ok(())
        })
    }

    /// One window of some channels.
    fn window(
        &self,
        [image, o, p, q]: [usize; 4],
        first: usize,
        n: usize,
        buffers: &mut Buffers<S::Compute>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let base = image as isize * self.from[0] + first as isize * self.from[1];
        let (outer, span) = (self.outer([o, p]), self.op.axes[2].span(q as i64));
        let (row, acc) = (&mut buffers.row[..n], &mut buffers.acc[..n]);
        let (column, numbers) = (&mut buffers.column[..n], &mut buffers.numbers[..n]);
        acc.fill(F::START);
        numbers.fill(-1);
        pace.did(n)?;
        let taps = (0..span.count).map(|k| span.first + k * span.step);
        if self.indices.is_some() {
            self.each_row(base, outer, |offset, number| {
                for w in taps.clone() {
                    S::load(
                        self.x,
                        offset + w as isize * self.from[4],
                        self.from[1],
                        row,
                    );
                    largest_strided(acc, numbers, row, 1, number + w, 0);
                    pace.did(n)?;
                }
                Ok(())
            })?;
        } else {
            for w in taps {
                column.fill(F::START);
                self.each_row(base, outer, |offset, _| {
                    S::load(
                        self.x,
                        offset + w as isize * self.from[4],
                        self.from[1],
                        row,
                    );
                    join_rows::<_, F>(column, row);
                    pace.did(n)
                })?;
                join_rows::<_, F>(acc, column);
            }
        }
        if let Some(divide) = self.divide {
            let count = self.outer_count(divide, [o, p]) * divide.count(&self.op.axes[2], q as i64);
            divide_by(acc, S::Compute::from_count(count as usize));
        }
        let place = |s: [isize; 5]| {
            let at = [image, first, o, p, q];
            (0..5).map(|i| at[i] as isize * s[i]).sum::<isize>()
        };
        S::store(self.out, place(self.to), self.to[1], acc);
        if let (Some(view), Some(t)) = (self.indices, &self.op.indices) {
            let s = Geometry::strides(t);
            store_indices(view, t.dtype, place(s), s[1], numbers);
        }
        Ok(())
    }

    /// Rows along the last axis, `piece` outputs at a time.
    fn rows(&self, piece: usize) -> Result<(), Fault> {
        let [od, oh, ow] = self.op.axes.map(|a| a.output as usize);
        let [images, channels] = [0, 1].map(|i| self.op.x.dims()[i] as usize);
        let pieces = ow.div_ceil(piece);
        let each = vmlu_ops::pool::Checked::taps(self.op) as usize;
        let grain = 32 * TILE / ow.min(piece).saturating_mul(each).clamp(1, 32 * TILE);
        split(
            self.env,
            images * channels * od * oh * pieces,
            grain,
            |range| {
                let mut pace = Pace::new(self.env);
                let mut buffers = Self::buffers();
                for index in range {
                    let (rest, part) = (index / pieces, index % pieces);
                    let at = [
                        rest / (channels * od * oh),
                        rest / (od * oh) % channels,
                        rest / oh % od,
                        rest % oh,
                    ];
                    let (first, end) = (part * piece, ow.min((part + 1) * piece));
                    self.row(at, first, end, &mut buffers, &mut pace)?;
                }
                Ok(())
            },
        )
    }

    /// Outputs `start` to `end` of one row.
    fn row(
        &self,
        [image, channel, o, p]: [usize; 4],
        start: usize,
        end: usize,
        buffers: &mut Buffers<S::Compute>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let axis = &self.op.axes[2];
        let n = end - start;
        let base = image as isize * self.from[0] + channel as isize * self.from[1];
        let outer = self.outer([o, p]);
        // The part of the input that these windows see.
        let b = axis.span(end as i64 - 1);
        let low = match axis.taps {
            0 => axis.span(start as i64).first,
            _ => max(min(start as i64 * axis.stride - axis.before, axis.input), 0),
        };
        let high = match axis.taps {
            0 => b.first + b.count,
            taps => {
                let reach =
                    (end as i64 - 1) * axis.stride - axis.before + (taps - 1) * axis.dilation;
                min(reach + 1, axis.input)
            }
        };
        let width = max(high - low, 0) as usize;
        let first = base + low as isize * self.from[4];
        let Buffers {
            row,
            column,
            acc,
            numbers,
            counts,
            counted,
        } = buffers;
        let (row, column) = (&mut row[..width], &mut column[..width]);
        let (acc, numbers) = (&mut acc[..n], &mut numbers[..n]);
        acc.fill(F::START);
        numbers.fill(-1);
        pace.did(n)?;
        if self.indices.is_some() {
            self.each_row(first, outer, |offset, number| {
                S::load(self.x, offset, self.from[4], row);
                Columns { axis, start, low }.each(n, |i, count, at, every, w| {
                    let (acc, numbers) = (&mut acc[i..i + count], &mut numbers[i..i + count]);
                    let along = axis.stride * i64::from(axis.taps != 0);
                    largest_strided(acc, numbers, &row[at..], every, number + w, along);
                });
                pace.did(width + n * (axis.taps as usize).min(width))
            })?;
        } else {
            column.fill(F::START);
            self.each_row(first, outer, |offset, _| {
                S::load(self.x, offset, self.from[4], row);
                join_rows::<_, F>(column, row);
                pace.did(width)
            })?;
            Columns { axis, start, low }.each(n, |i, count, at, every, _| {
                join_strided::<_, F>(&mut acc[i..i + count], &column[at..], every);
            });
            pace.did(n * (axis.taps as usize).min(width))?;
        }
        if let Some(divide_by) = self.divide {
            if *counted != (start, end) {
                for (c, q) in counts.iter_mut().zip(start..end) {
                    *c = divide_by.count(axis, q as i64);
                }
                *counted = (start, end);
            }
            divide(acc, &counts[..n], self.outer_count(divide_by, [o, p]));
        }
        let place = |s: [isize; 5]| {
            let at = [image, channel, o, p, start];
            (0..5).map(|i| at[i] as isize * s[i]).sum::<isize>()
        };
        S::store(self.out, place(self.to), self.to[4], acc);
        if let (Some(view), Some(t)) = (self.indices, &self.op.indices) {
            let s = Geometry::strides(t);
            store_indices(view, t.dtype, place(s), s[4], numbers);
        }
        Ok(())
    }

    /// Windows wider than a buffer: one after the other, its columns in pieces.
    fn wide(&self) -> Result<(), Fault> {
        let [od, oh, ow] = self.op.axes.map(|a| a.output as usize);
        let [images, channels] = [0, 1].map(|i| self.op.x.dims()[i] as usize);
        split(self.env, images * channels * od * oh * ow, 1, |range| {
            let mut pace = Pace::new(self.env);
            let mut buffers = Self::buffers();
            for index in range {
                let rest = index / ow;
                let at = [
                    rest / (channels * od * oh),
                    rest / (od * oh) % channels,
                    rest / oh % od,
                    rest % oh,
                    index % ow,
                ];
                self.wide_window(at, &mut buffers, &mut pace)?;
            }
            Ok(())
        })
    }

    fn wide_window(
        &self,
        at: [usize; 5],
        buffers: &mut Buffers<S::Compute>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let [image, channel, o, p, q] = at;
        let base = image as isize * self.from[0] + channel as isize * self.from[1];
        let (outer, span) = (self.outer([o, p]), self.op.axes[2].span(q as i64));
        let step = span.step as isize * self.from[4];
        let mut best = ([F::START], [-1i64]);
        let pieces = (0..span.count)
            .step_by(TILE)
            .map(|k| (k, min(span.count - k, TILE as i64) as usize));
        pace.did(1)?;
        if self.indices.is_some() {
            self.each_row(base, outer, |offset, number| {
                for (k, n) in pieces.clone() {
                    let row = &mut buffers.row[..n];
                    let w = span.first + k * span.step;
                    S::load(self.x, offset + w as isize * self.from[4], step, row);
                    for (i, v) in row.iter().enumerate() {
                        let number = number + w + i as i64 * span.step;
                        largest_strided(&mut best.0, &mut best.1, &[*v], 1, number, 0);
                    }
                    pace.did(4 * n)?;
                }
                Ok(())
            })?;
        } else {
            for (k, n) in pieces {
                let (row, column) = (&mut buffers.row[..n], &mut buffers.column[..n]);
                let w = span.first + k * span.step;
                column.fill(F::START);
                self.each_row(base, outer, |offset, _| {
                    S::load(self.x, offset + w as isize * self.from[4], step, row);
                    join_rows::<_, F>(column, row);
                    pace.did(n)
                })?;
                for v in column.iter() {
                    best.0[0] = F::join(best.0[0], *v);
                }
                pace.did(n)?;
            }
        }
        if let Some(divide) = self.divide {
            let count = self.outer_count(divide, [o, p]) * divide.count(&self.op.axes[2], q as i64);
            divide_by(&mut best.0, S::Compute::from_count(count as usize));
        }
        let place = |s: [isize; 5]| (0..5).map(|i| at[i] as isize * s[i]).sum::<isize>();
        S::store(self.out, place(self.to), 1, &best.0);
        if let (Some(view), Some(t)) = (self.indices, &self.op.indices) {
            store_indices(view, t.dtype, place(Geometry::strides(t)), 1, &best.1);
        }
        Ok(())
    }
}

/// The columns of the windows from `start` on, in a row that begins at position `low`.
struct Columns<'c> {
    axis: &'c Axis,
    start: usize,
    low: i64,
}

impl Columns<'_> {
    /// Calls `each(i, count, at, every, position)`: windows `i` to `i + count` take the elements `at`, `at + every`, … of the row, of which the
    /// first is at `position`. For each window they come in order.
    fn each(&self, n: usize, mut each: impl FnMut(usize, usize, usize, usize, i64)) {
        let axis = self.axis;
        // A window after the other, or, where there are many, a tap after the other.
        if axis.taps == 0 || n < 4 {
            for i in 0..n {
                let span = axis.span((self.start + i) as i64);
                for k in 0..span.count {
                    let w = span.first + k * span.step;
                    each(i, 1, (w - self.low) as usize, 1, w);
                }
            }
            return;
        }
        let (start, end) = (self.start as i64, (self.start + n) as i64);
        for tap in 0..axis.taps {
            // Windows for which this tap lies in the input.
            let shift = tap * axis.dilation - axis.before;
            let early = if shift < 0 {
                (-shift + axis.stride - 1) / axis.stride
            } else {
                0
            };
            if shift >= axis.input {
                break;
            }
            let last = (axis.input - 1 - shift) / axis.stride;
            let (from, to) = (max(early, start), min(last + 1, end));
            if from < to {
                let w = from * axis.stride + shift;
                let (i, count) = ((from - start) as usize, (to - from) as usize);
                each(i, count, (w - self.low) as usize, axis.stride as usize, w);
            }
        }
    }
}
