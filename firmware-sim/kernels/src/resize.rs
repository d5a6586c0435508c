//! Kernel of `vmlu_ops::resize`.
//!
//! Rows go along the channels where these lie side by side, else along the last axis, a piece of the result at a time, whose windows along that axis
//! are found once for all rows.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::resize::{Checked, Function, Resize};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::{with_storage, Storage, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace};
use super::weights::{self, Window};
use super::window::along_channels;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Resize>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    if op.out.elements > 0 {
        let job = Job {
            op: &op,
            env,
            x: &x,
            out: &out,
            from: Geometry::strides(&op.x),
            to: Geometry::strides(&op.out),
        };
        if op.look.function == Function::Nearest {
            with_storage!(op.x.dtype, S => job.nearest::<S>()?);
        } else {
            with_compute!(op.x.dtype, T => job.interpolate::<T>()?);
        }
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'a>,
    out: &'j View<'a>,
    from: [isize; 5],
    to: [isize; 5],
}

multiversion! {
    /// `acc = weight · row`.
    pub(super) fn weigh<T: Float>(acc: &mut [T], row: &[T], weight: T) {
        for (a, v) in acc.iter_mut().zip(row) {
            *a = weight.mul(*v);
        }
    }

    /// `acc += weight · row`.
    pub(super) fn add_weighed<T: Float>(acc: &mut [T], row: &[T], weight: T) {
        for (a, v) in acc.iter_mut().zip(row) {
            *a = a.add(weight.mul(*v));
        }
    }
}

/// `acc` becomes, or grows by, `weight · row`.
pub(super) fn join<T: Float>(acc: &mut [T], row: &[T], weight: T, first: &mut bool) {
    if std::mem::take(first) {
        weigh(acc, row, weight);
    } else {
        add_weighed(acc, row, weight);
    }
}

/// Where an element is.
pub(super) fn at(strides: [isize; 5], index: [usize; 5]) -> isize {
    (0..5).map(|i| index[i] as isize * strides[i]).sum()
}

/// Most elements of a row that are looked at for a piece, unless one window needs more.
const SPAN: usize = 4 * TILE;

impl Job<'_, '_> {
    /// Images, channels and positions of the result.
    fn sizes(&self) -> [usize; 5] {
        let [images, channels] = [0, 1].map(|i| self.op.out.dims()[i] as usize);
        let [d, h, w] = self.op.look.axes.map(|a| a.output as usize);
        [images, channels, d, h, w]
    }

    fn window<T: Float>(&self, axis: usize, o: usize, wide: &mut Vec<f64>, to: &mut Window<T>) {
        let look = &self.op.look;
        weights::window(look, &look.axes[axis], o as i64, wide, to);
    }

    /// Outputs of a piece whose windows lie within some elements; at least one.
    fn piece(&self, span: usize) -> usize {
        let axis = &self.op.look.axes[2];
        let step = (axis.numerator / axis.denominator).max(1e-3);
        let own = (weights::reach(&self.op.look, axis, 0).1 + 8) as f64 + 4.0 * step;
        (((span as f64 - own) / step) as usize).clamp(1, TILE)
    }

    /// Calls `part(index)` for rows of the result: image, channel, two axes, and the first position of the last axis or the first channel, in pieces. All
    /// rows of a piece come one after the other.
    fn each(
        &self,
        lanes: bool,
        piece: usize,
        part: impl Fn(&mut dyn Iterator<Item = [usize; 5]>) -> Result<(), Fault> + Sync,
    ) -> Result<(), Fault> {
        let [images, channels, d, h, w] = self.sizes();
        let (rows, length) = if lanes {
            (images * d * h * w, channels)
        } else {
            (images * channels * d * h, w)
        };
        let pieces = length.div_ceil(piece);
        let each = (self.op.look.taps() as usize).saturating_mul(length.min(piece));
        let grain = (32 * TILE / each.clamp(1, 32 * TILE)).max(1);
        split(self.env, rows * pieces, grain, |range| {
            let mut all = range.map(|index| {
                let (first, row) = (index / rows * piece, index % rows);
                if lanes {
                    [
                        row / (d * h * w),
                        first,
                        row / (h * w) % d,
                        row / w % h,
                        row % w,
                    ]
                } else {
                    [
                        row / (channels * d * h),
                        row / (d * h) % channels,
                        row / h % d,
                        row % h,
                        first,
                    ]
                }
            });
            part(&mut all)
        })
    }

    /// Whether rows go along the channels.
    fn lanes(&self) -> bool {
        let [_, channels, _, _, width] = self.sizes();
        along_channels(channels, self.to, width) && along_channels(channels, self.from, width)
    }

    fn nearest<S: Storage>(&self) -> Result<(), Fault> {
        let [_, channels, _, _, width] = self.sizes();
        let lanes = self.lanes();
        let piece = if lanes { TILE } else { self.piece(TILE) };
        let outside = self.op.look.extrapolation;
        let outside = outside.map(<S::Compute as super::number::Number>::from_scalar);
        self.each(lanes, piece, |rows| {
            let mut pace = Pace::new(self.env);
            let zero = S::Compute::default();
            let (mut row, mut acc) = ([zero; TILE], [zero; TILE]);
            let (mut wide, mut one) = (Vec::new(), Window::<f32>::default());
            let (mut places, mut placed) = (Vec::<Option<i64>>::new(), usize::MAX);
            let mut place = |axis, o| {
                self.window(axis, o, &mut wide, &mut one);
                (!one.outside).then_some(one.first)
            };
            for index in rows {
                let [image, channel, o, p, q] = index;
                let (d, h) = (place(0, o), place(1, p));
                let base =
                    |d: i64, h: i64| at(self.from, [image, channel, d as usize, h as usize, 0]);
                if lanes {
                    let n = TILE.min(channels - channel);
                    match (d, h, place(2, q)) {
                        (Some(d), Some(h), Some(w)) => S::load(
                            self.x,
                            base(d, h) + w as isize * self.from[4],
                            self.from[1],
                            &mut acc[..n],
                        ),
                        _ => acc[..n].fill(outside.unwrap_or(zero)),
                    }
                    S::store(self.out, at(self.to, index), self.to[1], &acc[..n]);
                    pace.did(n)?;
                    continue;
                }
                let n = piece.min(width - q);
                if placed != q {
                    places.clear();
                    places.extend((q..q + n).map(|o| place(2, o)));
                    placed = q;
                }
                let acc = &mut acc[..n];
                acc.fill(outside.unwrap_or(zero));
                let inside = || places.iter().flatten();
                if let (Some(d), Some(h), Some(low), Some(high)) =
                    (d, h, inside().next(), inside().next_back())
                {
                    let (low, count) = (*low, (high - low) as usize + 1);
                    let first = base(d, h) + low as isize * self.from[4];
                    let row = row.get_mut(..count);
                    if let Some(row) = row {
                        S::load(self.x, first, self.from[4], row);
                        for (a, w) in acc.iter_mut().zip(&places) {
                            if let Some(w) = w {
                                *a = row[(w - low) as usize];
                            }
                        }
                        pace.did(count)?;
                    } else {
                        for (a, w) in acc.iter_mut().zip(&places) {
                            if let Some(w) = w {
                                let from = base(d, h) + *w as isize * self.from[4];
                                S::load(self.x, from, 1, std::slice::from_mut(a));
                            }
                        }
                    }
                }
                S::store(self.out, at(self.to, index), self.to[4], acc);
                pace.did(4 * n)?;
            }
            Ok(())
        })
    }

    fn interpolate<T: Float>(&self) -> Result<(), Fault> {
        let lanes = self.lanes();
        let piece = if lanes { TILE } else { self.piece(SPAN) };
        self.each(lanes, piece, |rows| {
            let mut task = Task::<T> {
                job: self,
                pace: Pace::new(self.env),
                wide: Vec::new(),
                windows: Default::default(),
                places: Vec::new(),
                placed: usize::MAX,
                row: Vec::new(),
                column: Vec::new(),
                acc: vec![T::default(); TILE],
            };
            for index in rows {
                if lanes {
                    task.channels(index)?;
                } else {
                    task.row(index, piece)?;
                }
            }
            Ok(())
        })
    }
}

/// A task with its buffers.
struct Task<'t, 'j, 'a, T> {
    job: &'t Job<'j, 'a>,
    pace: Pace<'t>,
    wide: Vec<f64>,
    windows: [Window<T>; 3],
    /// Windows of a piece of the last axis, from position `placed` on.
    places: Vec<Window<T>>,
    placed: usize,
    row: Vec<T>,
    column: Vec<T>,
    acc: Vec<T>,
}

impl<T: Float> Task<'_, '_, '_, T> {
    /// Value of places outside.
    fn outside(&self) -> T {
        T::of(self.job.op.look.extrapolation.unwrap_or(0.0))
    }

    /// Some channels at one position.
    fn channels(&mut self, index: [usize; 5]) -> Result<(), Fault> {
        let job = self.job;
        let [image, channel, o, p, q] = index;
        let n = TILE.min(job.sizes()[1] - channel);
        for (i, o) in [o, p, q].into_iter().enumerate() {
            job.window(i, o, &mut self.wide, &mut self.windows[i]);
        }
        let outside = self.windows.iter().any(|w| w.outside);
        let value = if outside {
            self.outside()
        } else {
            T::default()
        };
        let (dtype, [a, b, c]) = (job.op.x.dtype, &self.windows);
        self.row.resize(TILE, T::default());
        let (row, acc) = (&mut self.row[..n], &mut self.acc[..n]);
        acc.fill(value);
        if !outside {
            let mut first = true;
            for (i, wd) in a.weights.iter().enumerate() {
                for (j, wh) in b.weights.iter().enumerate() {
                    for (k, ww) in c.weights.iter().enumerate() {
                        let place = [a.first + i as i64, b.first + j as i64, c.first + k as i64];
                        let [d, h, w] = place.map(|v| v as usize);
                        let from = at(job.from, [image, channel, d, h, w]);
                        T::load(dtype, job.x, from, job.from[1], row);
                        join(acc, row, wd.mul(*wh).mul(*ww), &mut first);
                        self.pace.did(n)?;
                    }
                }
            }
        }
        T::store(dtype, job.out, at(job.to, index), job.to[1], acc);
        self.pace.did(n)
    }

    /// A piece of a row.
    fn row(&mut self, index: [usize; 5], piece: usize) -> Result<(), Fault> {
        let job = self.job;
        let [image, channel, o, p, q] = index;
        let n = piece.min(job.sizes()[4] - q);
        if self.placed != q {
            self.places.resize_with(n, Window::default);
            for (i, place) in self.places.iter_mut().enumerate() {
                job.window(2, q + i, &mut self.wide, place);
                self.pace.did(8 + place.weights.len())?;
            }
            self.placed = q;
        }
        for (i, o) in [o, p].into_iter().enumerate() {
            job.window(i, o, &mut self.wide, &mut self.windows[i]);
        }
        let (value, dtype) = (self.outside(), job.op.x.dtype);
        let [a, b, _] = &self.windows;
        let acc = &mut self.acc[..n];
        acc.fill(value);
        if !a.outside && !b.outside {
            let some = || self.places.iter().filter(|w| !w.weights.is_empty());
            let low = some().map(|w| w.first).min().unwrap_or(0);
            let high = some().map(|w| w.first + w.weights.len() as i64).max();
            let width = (high.unwrap_or(low) - low) as usize;
            if self.column.len() < width {
                self.row.resize(width, T::default());
                self.column.resize(width, T::default());
            }
            let (row, column) = (&mut self.row[..width], &mut self.column[..width]);
            column.fill(T::default());
            let mut first = true;
            for (i, wd) in a.weights.iter().enumerate() {
                for (j, wh) in b.weights.iter().enumerate() {
                    let (d, h) = (a.first as usize + i, b.first as usize + j);
                    let from = at(job.from, [image, channel, d, h, low as usize]);
                    for (k, row) in row.chunks_mut(TILE).enumerate() {
                        let from = from + (k * TILE) as isize * job.from[4];
                        T::load(dtype, job.x, from, job.from[4], row);
                        self.pace.did(row.len())?;
                    }
                    join(column, row, wd.mul(*wh), &mut first);
                    self.pace.did(width)?;
                }
            }
            let mut count = 0;
            for (acc, place) in acc.iter_mut().zip(&self.places) {
                if place.outside {
                    continue;
                }
                *acc = T::default();
                if let Some((first, rest)) = place.weights.split_first() {
                    let from = &column[(place.first - low) as usize..];
                    let mut sum = first.mul(from[0]);
                    for (w, v) in rest.iter().zip(&from[1..]) {
                        sum = sum.add(w.mul(*v));
                    }
                    *acc = sum;
                    count += rest.len() + 1;
                }
            }
            self.pace.did(4 * count)?;
        }
        T::store(dtype, job.out, at(job.to, index), job.to[4], acc);
        self.pace.did(n)
    }
}
