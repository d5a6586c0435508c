//! Kernel of `vmlu_ops::softmax`, and the rows that cross-entropy shares.

use vmlu_ops::softmax::{Checked, Function, Softmax};

use super::cross_entropy::rows_per_task;
use super::env::{Access, Env, Fault, Work};
use super::fold::Fold;
use super::math::Real;
use super::number::{with_float, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Softmax>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
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
    fn tiles<S: Storage>(
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
