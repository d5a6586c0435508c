//! Kernel of `vmlu_ops::resize_backward`: each element of `dx` gathers from the elements of `dy` that look at it.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::resize_backward::{Checked, ResizeBackward};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::resize::{at, join};
use super::view::View;
use super::walk::{split, Pace};
use super::weights::{self, Window};
use super::window::along_channels;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<ResizeBackward>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let dx = View::output(env, 1, &op.dx)?;
    if op.dx.elements > 0 {
        with_compute!(op.dx.dtype, T => compute::<T>(&op, env, &dy, &dx)?);
    }
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    dy: &View<'_>,
    dx: &View<'_>,
) -> Result<(), Fault> {
    let (from, to) = (Geometry::strides(&op.dy), Geometry::strides(&op.dx));
    let [images, channels] = [0, 1].map(|i| op.dx.dims()[i] as usize);
    let [d, h, w] = op.look.axes.map(|a| a.input as usize);
    let lanes = along_channels(channels, to, w) && along_channels(channels, from, w);
    let (rows, length) = if lanes {
        (images * d * h * w, channels)
    } else {
        (images * channels * d * h, w)
    };
    let pieces = length.div_ceil(TILE);
    let grain = 8 * TILE / length.clamp(1, TILE);
    split(env, rows * pieces, grain, |range| {
        let mut task = Task::<T> {
            op,
            dy,
            from,
            pace: Pace::new(env),
            wide: Vec::new(),
            window: Window::default(),
            row: vec![T::default(); TILE],
            column: vec![T::default(); TILE],
            acc: vec![T::default(); TILE],
        };
        for index in range {
            let (row, first) = (index / pieces, index % pieces * TILE);
            let n = TILE.min(length - first);
            let (index, stride) = if lanes {
                let at = [
                    row / (d * h * w),
                    first,
                    row / (h * w) % d,
                    row / w % h,
                    row % w,
                ];
                task.channels(at, n)?;
                (at, to[1])
            } else {
                let at = [
                    row / (channels * d * h),
                    row / (d * h) % channels,
                    row / h % d,
                    row % h,
                    first,
                ];
                task.row(at, n)?;
                (at, to[4])
            };
            T::store(op.dx.dtype, dx, at(to, index), stride, &task.acc[..n]);
        }
        Ok(())
    })
}

/// A task with its buffers.
struct Task<'t, 'a, T> {
    op: &'t Checked,
    dy: &'t View<'a>,
    from: [isize; 5],
    pace: Pace<'t>,
    wide: Vec<f64>,
    window: Window<T>,
    row: Vec<T>,
    column: Vec<T>,
    acc: Vec<T>,
}

impl<T: Float> Task<'_, '_, T> {
    /// The next position of `dy`, from `o` on, that looks at position `p` of an axis, and the weight.
    fn next(&mut self, axis: usize, p: usize, mut o: i64) -> Result<Option<(i64, T)>, Fault> {
        let (look, p) = (&self.op.look, p as i64);
        let axis = &look.axes[axis];
        while o < axis.output && weights::reach(look, axis, o).0 <= p {
            weights::window(look, axis, o, &mut self.wide, &mut self.window);
            self.pace.did(8 + self.window.weights.len())?;
            let at = usize::try_from(p - self.window.first).ok();
            let weight = at.and_then(|i| self.window.weights.get(i));
            if let Some(w) = weight.filter(|w| **w != T::default()) {
                return Ok(Some((o, *w)));
            }
            o += 1;
        }
        Ok(None)
    }

    fn start(&self, axis: usize, p: usize) -> i64 {
        weights::first_covering(&self.op.look, &self.op.look.axes[axis], p as i64)
    }

    /// Some channels at one position.
    fn channels(&mut self, index: [usize; 5], n: usize) -> Result<(), Fault> {
        let [image, channel, d, h, w] = index;
        self.acc[..n].fill(T::default());
        let (starts, mut first) = ([self.start(0, d), self.start(1, h), self.start(2, w)], true);
        let mut o = starts[0];
        while let Some((i, wd)) = self.next(0, d, o)? {
            let mut p = starts[1];
            while let Some((j, wh)) = self.next(1, h, p)? {
                let mut q = starts[2];
                while let Some((k, ww)) = self.next(2, w, q)? {
                    let place = [image, channel, i as usize, j as usize, k as usize];
                    let row = &mut self.row[..n];
                    T::load(
                        self.op.dy.dtype,
                        self.dy,
                        at(self.from, place),
                        self.from[1],
                        row,
                    );
                    join(&mut self.acc[..n], row, wd.mul(wh).mul(ww), &mut first);
                    self.pace.did(n)?;
                    q = k + 1;
                }
                p = j + 1;
            }
            o = i + 1;
        }
        self.pace.did(n)
    }

    /// A piece of a row.
    fn row(&mut self, index: [usize; 5], n: usize) -> Result<(), Fault> {
        let (op, from) = (self.op, self.from);
        let [image, channel, d, h, left] = index;
        let (axis, right) = (&op.look.axes[2], (left + n) as i64);
        self.acc[..n].fill(T::default());
        let (mut q, starts) = (self.start(2, left), [self.start(0, d), self.start(1, h)]);
        while q < axis.output && weights::reach(&op.look, axis, q).0 < right {
            let mut m = TILE.min((axis.output - q) as usize);
            // What lies behind the piece need not be summed.
            let end = weights::first_covering(&op.look, axis, right);
            let wide = weights::reach(&op.look, axis, end.min(axis.output - 1)).0 < right;
            if !wide && end > q {
                m = m.min((end - q) as usize);
            }
            self.column[..m].fill(T::default());
            let (mut o, mut first) = (starts[0], true);
            while let Some((i, wd)) = self.next(0, d, o)? {
                let mut p = starts[1];
                while let Some((j, wh)) = self.next(1, h, p)? {
                    let place = [image, channel, i as usize, j as usize, q as usize];
                    let row = &mut self.row[..m];
                    T::load(op.dy.dtype, self.dy, at(from, place), from[4], row);
                    join(&mut self.column[..m], row, wd.mul(wh), &mut first);
                    self.pace.did(m)?;
                    p = j + 1;
                }
                o = i + 1;
            }
            for i in 0..m {
                weights::window(
                    &op.look,
                    axis,
                    q + i as i64,
                    &mut self.wide,
                    &mut self.window,
                );
                let v = self.column[i];
                let start = self.window.first - left as i64;
                for (k, w) in self.window.weights.iter().enumerate() {
                    let at = usize::try_from(start + k as i64).ok();
                    if let Some(a) = at.and_then(|i| self.acc[..n].get_mut(i)) {
                        *a = a.add(w.mul(v));
                    }
                }
                self.pace.did(8 + self.window.weights.len())?;
            }
            q += m as i64;
        }
        self.pace.did(n)
    }
}
