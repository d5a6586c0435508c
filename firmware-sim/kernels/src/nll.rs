//! Kernel of `vmlu_ops::nll`.

use vmlu_ops::loss::Reduction;
use vmlu_ops::nll::{Checked, Function, Nll};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::labels::{row_strides, Labels, Sums};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Rows of a task.
const GRAIN: usize = 16 * TILE;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Nll>(body)?;
    let (reads, writes) = match op.function {
        Function::Forward => (Access::Read, Access::Write),
        Function::Backward => (Access::Write, Access::Read),
    };
    let x = View::open(env, 0, &op.x, reads)?;
    let target = View::open(env, 1, &op.target, Access::Read)?;
    let optional = |index, tensor: Option<&vmlu_ops::tensor::Tensor>, access| match tensor {
        Some(t) => View::open(env, index, t, access).map(Some),
        None => Ok(None),
    };
    let weight = optional(2, op.weight.as_ref(), Access::Read)?;
    let loss = View::open(env, 3, &op.loss.0, writes)?;
    let total = optional(4, op.total.as_ref(), writes)?;
    let labels = Labels {
        operator: "nll",
        name: "target",
        view: &target,
        tensor: &op.target,
        classes: op.x.dims()[1],
        ignore: op.ignore,
    };
    labels.check(env)?;
    let job = Job {
        op: &op,
        env,
        x: &x,
        labels,
        weight: weight.as_ref(),
        loss: &loss,
        total: total.as_ref(),
    };
    with_compute!(op.x.dtype, T => match op.function {
        Function::Forward => job.forward::<T>()?,
        Function::Backward => job.backward::<T>()?,
    });
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'a>,
    labels: Labels<'j, 'a>,
    weight: Option<&'j View<'a>>,
    loss: &'j View<'a>,
    total: Option<&'j View<'a>>,
}

impl Job<'_, '_> {
    /// Target, `x`, loss, and the rows' numbers.
    fn walk(&self) -> Walk<4> {
        let x = row_strides(&self.op.x);
        let target = self.op.target.strides();
        self.labels.walk([target, &x, &self.op.loss.1, &[]])
    }

    fn one<T: Float>(&self, view: &View<'_>, offset: isize) -> T {
        let mut value = [T::default()];
        T::load(self.op.x.dtype, view, offset, 1, &mut value);
        value[0]
    }

    fn weight<T: Float>(&self, class: usize) -> T {
        match (self.weight, &self.op.weight) {
            (Some(view), Some(t)) => self.one(view, class as isize * t.strides()[0] as isize),
            _ => T::ONE,
        }
    }

    /// Distance of a class in `x`.
    fn class(&self, class: usize) -> isize {
        class as isize * self.op.x.strides()[1] as isize
    }

    fn forward<T: Float>(&self) -> Result<(), Fault> {
        let (walk, sums) = (self.walk(), Sums::default());
        let dtype = self.op.x.dtype;
        let each = self.op.reduction == Reduction::None;
        split(self.env, walk.total(), GRAIN, |range| {
            let mut pace = Pace::new(self.env);
            let (start, mut sum) = (range.start, [0.0; 2]);
            walk.rows(range, TILE, [0; 4], |at, step, count| {
                let mut values = [T::default(); TILE];
                for (i, v) in values[..count].iter_mut().enumerate() {
                    let at = |t: usize| at[t] + i as isize * step[t];
                    if let Some(class) = self.labels.get(at(0), at(3) as usize)? {
                        let w = self.weight::<T>(class);
                        *v = w
                            .mul(self.one::<T>(self.x, at(1) + self.class(class)))
                            .neg();
                        sum = [sum[0] + v.to_f64(), sum[1] + w.to_f64()];
                    }
                }
                if each {
                    T::store(dtype, self.loss, at[2], step[2], &values[..count]);
                }
                pace.did(4 * count)
            })?;
            sums.add(start, sum);
            Ok(())
        })?;
        let [sum, weights] = sums.total();
        if !each {
            let mean = self.op.reduction == Reduction::Mean;
            let loss = if mean { sum / weights } else { sum };
            T::store(dtype, self.loss, 0, 1, &[T::of(loss)]);
        }
        if let Some(view) = self.total {
            T::store(dtype, view, 0, 1, &[T::of(weights)]);
        }
        Ok(())
    }

    fn backward<T: Float>(&self) -> Result<(), Fault> {
        let dtype = self.op.x.dtype;
        let zeroes = [T::default(); TILE];
        let all = Walk::new(self.op.x.dims(), [self.op.x.strides()], 0);
        all.each(self.env, |at, step, count| {
            T::store(dtype, self.x, at[0], step[0], &zeroes[..count]);
        })?;
        let total = self.total.map(|view| self.one::<T>(view, 0));
        let walk = self.walk();
        split(self.env, walk.total(), GRAIN, |range| {
            let mut pace = Pace::new(self.env);
            walk.rows(range, TILE, [0; 4], |at, step, count| {
                for i in 0..count {
                    let at = |t: usize| at[t] + i as isize * step[t];
                    if let Some(class) = self.labels.get(at(0), at(3) as usize)? {
                        let upstream = self.one::<T>(self.loss, at(2));
                        let slope = self.weight::<T>(class).mul(upstream).neg();
                        let slope = total.map_or(slope, |t| slope.div(t));
                        T::store(dtype, self.x, at(1) + self.class(class), 1, &[slope]);
                    }
                }
                pace.did(4 * count)
            })
        })
    }
}
