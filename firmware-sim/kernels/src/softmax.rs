//! Kernel of `vmlu_ops::softmax`, and the rows that cross-entropy shares.

use vmlu_ops::softmax::{Checked, Function, Softmax};

use super::cross_entropy::rows_per_task;
use super::env::{Access, Env, Fault, Work};
use super::fold::Fold;
use super::folding::Reducer;
use super::math::Real;
use super::number::{with_float, Number, Storage, TILE};
use super::reducers::{Extreme, Sum, Term};
use super::simd::multiversion;
use super::view::View;
use super::walk::{aligned, line_of, split, Pace, Walk, PART};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Softmax>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    with_float!(op.x.dtype, S => compute::<S>(&op, env, &x, &out)?);
    Ok(op.cost().into())
}

fn compute<S: Storage<Compute: Real>>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let count = op.x.dims()[op.axis] as usize;
    if op.x.elements == 0 {
        return Ok(());
    }
    let mut dims = op.x.dims().to_vec();
    dims[op.axis] = 1;
    let rows = Walk::new(&dims, [op.x.strides(), op.out.strides()], 1);
    let along = [
        op.x.strides()[op.axis] as isize,
        op.out.strides()[op.axis] as isize,
    ];
    let near = rows.inner_strides()[0].unsigned_abs();
    let columns = rows.total() > 1 && near < along[0].unsigned_abs();
    let held = Held {
        env,
        rows: &rows,
        along,
        count,
        log: op.function == Function::LogSoftmax,
    };
    if !columns && count <= HELD {
        return held.rows::<S>(x, out);
    }
    if columns {
        return held.columns::<S>(x, out);
    }
    split(env, rows.total(), rows_per_task(count), |range| {
        let mut pace = Pace::new(env);
        rows.rows(range, 1, [0; 2], |at, _, _| {
            let row = |view, offset, strides: &[i64]| Row {
                view,
                offset,
                stride: strides[op.axis] as isize,
                count,
            };
            let from = row(x, at[0], op.x.strides());
            let to = row(out, at[1], op.out.strides());
            let norm = from.norm::<S>(&mut pace)?;
            match op.function {
                Function::Softmax => from.write_softmax::<S>(&norm, &to, &mut pace),
                Function::LogSoftmax => from.map::<S>(&to, &mut pace, |_, values| {
                    values.iter_mut().for_each(|v| *v = norm.log_softmax(*v));
                }),
            }
        })
    })
}

/// Elements that are held in private memory, so that the input is read once and each exponential taken once.
const HELD: usize = 16 * TILE;
/// Least rows side by side for which that pays.
const LEAST_SIDE: usize = 16;

/// Rows that are short enough to be held.
struct Held<'h> {
    env: &'h dyn Env,
    /// First elements of the rows in `x` and `out`.
    rows: &'h Walk<2>,
    /// Distance of a row's elements in both.
    along: [isize; 2],
    count: usize,
    log: bool,
}

impl Held<'_> {
    /// One row at a time.
    fn rows<S: Storage<Compute: Real>>(&self, x: &View<'_>, out: &View<'_>) -> Result<(), Fault> {
        let largest = Extreme::<S::Compute>::largest();
        let plain = Sum::<S::Compute>::new(Term::Plain);
        let grain = (32 * TILE / self.count).max(1);
        let x = x.fetched_by_hand();
        let fetches = self.along[0] == 1 && x.is_large();
        let part = if fetches { 2 * PART } else { self.count };
        split(self.env, self.rows.total(), grain, |range| {
            let mut pace = Pace::new(self.env);
            let room = self.count + line_of::<S::Compute>();
            let mut values = vec![S::Compute::default(); room];
            let mut powers = vec![S::Compute::default(); room];
            let (values, powers) = (aligned(&mut values), aligned(&mut powers));
            self.rows.rows(range, 1, [0; 2], |at, _, _| {
                for (i, part) in values.chunks_mut(TILE).enumerate() {
                    S::load(
                        &x,
                        at[0] + (i * TILE) as isize * self.along[0],
                        self.along[0],
                        part,
                    );
                }
                let mut max = largest.identity();
                largest.tile(&mut max, values);
                let parts = values.chunks(part).zip(powers.chunks_mut(part));
                for (i, (values, powers)) in parts.enumerate() {
                    // Of the next row, if it follows.
                    if fetches {
                        let start = self.count + i * part;
                        x.fetch::<S::Raw>(at[0] + start as isize, values.len());
                    }
                    exponentials(values, powers, max);
                }
                let mut sum = plain.identity();
                plain.tile(&mut sum, powers);
                if self.log {
                    logarithms(values, max, S::Compute::of(libm::log(sum.to_f64())));
                } else {
                    scale(powers, values, S::Compute::of(1.0 / sum.to_f64()));
                }
                for (i, part) in values.chunks(TILE).enumerate() {
                    S::store(
                        out,
                        at[1] + (i * TILE) as isize * self.along[1],
                        self.along[1],
                        part,
                    );
                }
                pace.did(4 * self.count)
            })
        })
    }

    /// Neighbouring rows side by side: held if that leaves enough of them, else read once for each step.
    fn columns<S: Storage<Compute: Real>>(
        &self,
        x: &View<'_>,
        out: &View<'_>,
    ) -> Result<(), Fault> {
        let largest = Extreme::<S::Compute>::largest();
        let plain = Sum::<S::Compute>::new(Term::Plain);
        let held = self.count <= HELD / LEAST_SIDE;
        let wide = if held {
            (HELD / self.count).min(TILE)
        } else {
            TILE / 2
        };
        split(
            self.env,
            self.rows.total(),
            wide.max(32 * TILE / self.count),
            |range| {
                let mut pace = Pace::new(self.env);
                let zero = S::Compute::default();
                let mut values = vec![zero; if held { self.count * wide } else { wide }];
                let mut powers = vec![zero; wide];
                self.rows.rows(range, wide, [0; 2], |at, step, n| {
                    let powers = &mut powers[..n];
                    let mut max = vec![largest.identity(); n];
                    let mut sums = vec![plain.identity(); n];
                    // The place of a line in private memory.
                    let place = |j: usize| if held { j * n..(j + 1) * n } else { 0..n };
                    let load = |j: usize, line: &mut [S::Compute]| {
                        S::load(x, at[0] + j as isize * self.along[0], step[0], line);
                    };
                    for j in 0..self.count {
                        let line = &mut values[place(j)];
                        load(j, line);
                        largest.columns(&mut max, line);
                        pace.did(n)?;
                    }
                    for j in 0..self.count {
                        let line = &mut values[place(j)];
                        if !held {
                            load(j, line);
                        }
                        exponentials_each(line, powers, &max);
                        plain.columns(&mut sums, powers);
                        if held && !self.log {
                            line.copy_from_slice(powers);
                        }
                        pace.did(n)?;
                    }
                    let finish: Vec<S::Compute> = (sums.iter())
                        .map(|s| {
                            S::Compute::of(if self.log {
                                libm::log(s.to_f64())
                            } else {
                                1.0 / s.to_f64()
                            })
                        })
                        .collect();
                    for j in 0..self.count {
                        let line = &mut values[place(j)];
                        if !held {
                            load(j, line);
                        }
                        if self.log {
                            logarithms_each(line, &max, &finish);
                        } else if held {
                            scale_each(line, &finish);
                        } else {
                            exponentials_each(line, powers, &max);
                            line.copy_from_slice(powers);
                            scale_each(line, &finish);
                        }
                        S::store(out, at[1] + j as isize * self.along[1], step[1], line);
                        pace.did(n)?;
                    }
                    Ok(())
                })
            },
        )
    }
}

multiversion! {
    fn exponentials<T: Real>(x: &[T], to: &mut [T], max: T) {
        for (t, v) in to.iter_mut().zip(x) {
            *t = v.sub(max).exp();
        }
    }

    fn exponentials_each<T: Real>(x: &[T], to: &mut [T], max: &[T]) {
        for ((t, v), m) in to.iter_mut().zip(x).zip(max) {
            *t = v.sub(*m).exp();
        }
    }

    fn scale<T: Real>(x: &[T], to: &mut [T], factor: T) {
        for (t, v) in to.iter_mut().zip(x) {
            *t = v.mul(factor);
        }
    }

    fn scale_each<T: Real>(x: &mut [T], factors: &[T]) {
        for (v, f) in x.iter_mut().zip(factors) {
            *v = v.mul(*f);
        }
    }

    fn logarithms<T: Real>(x: &mut [T], max: T, log_sum: T) {
        for v in x.iter_mut() {
            *v = v.sub(max).sub(log_sum);
        }
    }

    fn logarithms_each<T: Real>(x: &mut [T], max: &[T], log_sums: &[T]) {
        for ((v, m), l) in x.iter_mut().zip(max).zip(log_sums) {
            *v = v.sub(*m).sub(*l);
        }
    }
}

/// A row of a tensor.
#[derive(Clone, Copy)]
pub(super) struct Row<'v, 'a> {
    pub(super) view: &'v View<'a>,
    pub(super) offset: isize,
    pub(super) stride: isize,
    pub(super) count: usize,
}

/// What normalises a row: its largest element and the sum of the exponentials of the distances from it.
pub(super) struct Norm<T> {
    max: T,
    sum: f64,
    log_sum: T,
}

impl Row<'_, '_> {
    /// Calls `f(start, values)` for the row's tiles.
    pub(super) fn tiles<S: Storage>(
        &self,
        pace: &mut Pace<'_>,
        mut f: impl FnMut(usize, &mut [S::Compute]),
    ) -> Result<(), Fault> {
        let mut tile = [S::Compute::default(); TILE];
        let mut start = 0;
        while start < self.count {
            let values = &mut tile[..(self.count - start).min(TILE)];
            let at = self.offset + start as isize * self.stride;
            S::load(self.view, at, self.stride, values);
            f(start, values);
            start += values.len();
            pace.did(values.len())?;
        }
        Ok(())
    }

    /// One element.
    pub(super) fn element<S: Storage>(&self, index: usize) -> S::Compute {
        let mut value = [S::Compute::default()];
        let at = self.offset + index as isize * self.stride;
        S::load(self.view, at, 1, &mut value);
        value[0]
    }

    /// Largest element and sum.
    pub(super) fn norm<S: Storage<Compute: Real>>(
        &self,
        pace: &mut Pace<'_>,
    ) -> Result<Norm<S::Compute>, Fault> {
        let mut max = S::Compute::LOWEST;
        self.tiles::<S>(pace, |_, values| {
            Fold::Max.tile(&mut max, values);
        })?;
        let mut sum = 0.0;
        self.tiles::<S>(pace, |_, values| {
            values.iter_mut().for_each(|v| *v = v.sub(max));
            S::Compute::exp_all(values);
            let mut wide = [0.0; TILE];
            let wide = &mut wide[..values.len()];
            for (w, v) in wide.iter_mut().zip(values.iter()) {
                *w = v.real();
            }
            Fold::Add.tile(&mut sum, wide);
        })?;
        Ok(Norm {
            max,
            sum,
            log_sum: S::Compute::of(libm::log(sum)),
        })
    }

    /// Computes this row's tiles into another row, which may be this one.
    pub(super) fn map<S: Storage>(
        &self,
        to: &Row<'_, '_>,
        pace: &mut Pace<'_>,
        f: impl Fn(usize, &mut [S::Compute]),
    ) -> Result<(), Fault> {
        self.tiles::<S>(pace, |start, values| {
            f(start, values);
            S::store(
                to.view,
                to.offset + start as isize * to.stride,
                to.stride,
                values,
            );
        })
    }

    /// Writes the row's softmax.
    pub(super) fn write_softmax<S: Storage<Compute: Real>>(
        &self,
        norm: &Norm<S::Compute>,
        to: &Row<'_, '_>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        self.map::<S>(to, pace, |_, values| norm.softmax(values))
    }
}

impl<T: Real> Norm<T> {
    /// Softmax of some of the row's elements.
    pub(super) fn softmax(&self, values: &mut [T]) {
        values.iter_mut().for_each(|v| *v = v.sub(self.max));
        T::exp_all(values);
        let factor = T::of(1.0 / self.sum);
        values.iter_mut().for_each(|v| *v = v.mul(factor));
    }

    /// Logarithm of the softmax of an element.
    pub(super) fn log_softmax(&self, value: T) -> T {
        value.sub(self.max).sub(self.log_sum)
    }

    /// Cross-entropy against the element's class.
    pub(super) fn loss(&self, value: T) -> T {
        self.log_sum.sub(value.sub(self.max))
    }
}
