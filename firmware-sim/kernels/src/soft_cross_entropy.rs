//! Kernel of `vmlu_ops::soft_cross_entropy`: a row after the other, in three passes.

use vmlu_ops::loss::Reduction;
use vmlu_ops::soft_cross_entropy::{Checked, SoftCrossEntropy};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::labels::{row_strides, Sums};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<SoftCrossEntropy>(body)?;
    let logits = View::open(env, 0, &op.logits, Access::Read)?;
    let target = View::open(env, 1, &op.target, Access::Read)?;
    let weight = match &op.weight {
        Some(t) => Some(View::open(env, 2, t, Access::Read)?),
        None => None,
    };
    let access = match &op.gradient {
        Some(_) => Access::Read,
        None => Access::Write,
    };
    let loss = View::open(env, 3, &op.loss, access)?;
    let gradient = match &op.gradient {
        Some(t) => Some(View::output(env, 4, t)?),
        None => None,
    };
    let job = Job {
        op: &op,
        env,
        logits: &logits,
        target: &target,
        weight: weight.as_ref(),
        loss: &loss,
        gradient: gradient.as_ref(),
    };
    with_compute!(op.logits.dtype, T => job.compute::<T>()?);
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    logits: &'j View<'a>,
    target: &'j View<'a>,
    weight: Option<&'j View<'a>>,
    loss: &'j View<'a>,
    gradient: Option<&'j View<'a>>,
}

/// Buffers of a task.
struct Buffers<T> {
    x: [T; TILE],
    t: [T; TILE],
    w: [T; TILE],
}

/// What is known of a row.
struct Row {
    most: f64,
    /// Sum of the exponentials, each divided by that of the largest.
    total: f64,
    /// Sum of the weighed targets, and of those times the logits less the largest.
    weight: f64,
    dot: f64,
}

impl Job<'_, '_> {
    fn compute<T: Float>(&self) -> Result<(), Fault> {
        let op = self.op;
        let dims = [&op.logits.dims()[..1], &op.logits.dims()[2..]].concat();
        let of = |t: &Tensor| row_strides(t);
        let (x, t) = (of(&op.logits), of(&op.target));
        let g = op.gradient.as_ref().map_or([0; 8], of);
        let mut l = [0; 8];
        if op.reduction == Reduction::None {
            l[..dims.len()].copy_from_slice(op.loss.strides());
        }
        let walk = Walk::new(&dims, [&x[..], &t[..], &g[..], &l[..]], 0);
        let classes = op.logits.dims()[1] as usize;
        let grain = (16 * TILE / classes.clamp(1, 16 * TILE)).max(1);
        let sums = Sums::default();
        let dtype = op.logits.dtype;
        let rows = op.rows as f64;
        split(self.env, walk.total(), grain, |range| {
            let (start, mut sum) = (range.start, 0.0);
            let zero = [T::default(); TILE];
            let mut buffers = Buffers {
                x: zero,
                t: zero,
                w: zero,
            };
            let mut pace = Pace::new(self.env);
            walk.rows(range, TILE, [0; 4], |at, step, count| {
                for i in 0..count {
                    let place: [isize; 4] = std::array::from_fn(|k| at[k] + i as isize * step[k]);
                    let row = self.row(place, &mut buffers, &mut pace)?;
                    if self.gradient.is_some() {
                        let mut up = [T::default()];
                        T::load(dtype, self.loss, place[3], 1, &mut up);
                        let up = match op.reduction {
                            Reduction::Mean => up[0].real() / rows,
                            _ => up[0].real(),
                        };
                        self.change(place, &row, up, &mut buffers, &mut pace)?;
                        continue;
                    }
                    let loss = match row.weight {
                        // What does not count does not, whatever the logits.
                        w if w == 0.0 && row.dot == 0.0 => 0.0,
                        w => w * libm::log(row.total) - row.dot,
                    };
                    if op.reduction == Reduction::None {
                        T::store(dtype, self.loss, place[3], 1, &[T::of(loss)]);
                    }
                    sum += loss;
                }
                Ok(())
            })?;
            sums.add(start, [sum, 0.0]);
            Ok(())
        })?;
        if self.gradient.is_none() && op.reduction != Reduction::None {
            let [sum, _] = sums.total();
            let all = match op.reduction {
                Reduction::Mean => sum / rows,
                _ => sum,
            };
            T::store(dtype, self.loss, 0, 0, &[T::of(all)]);
        }
        Ok(())
    }

    /// Loads some classes of a row: logits, and weighed targets into `t`.
    fn load<T: Float>(&self, place: [isize; 4], class: usize, n: usize, to: &mut Buffers<T>) {
        let (op, dtype) = (self.op, self.op.logits.dtype);
        let along = |t: &Tensor| t.strides()[1] as isize;
        let (x, t) = (along(&op.logits), along(&op.target));
        let first = class as isize;
        T::load(dtype, self.logits, place[0] + first * x, x, &mut to.x[..n]);
        T::load(dtype, self.target, place[1] + first * t, t, &mut to.t[..n]);
        let classes = op.logits.dims()[1] as f64;
        if op.smoothing != 0.0 {
            let (keep, all) = (T::of(1.0 - op.smoothing), T::of(op.smoothing / classes));
            to.t[..n].iter_mut().for_each(|t| *t = t.mul(keep).add(all));
        }
        if let (Some(tensor), Some(view)) = (&op.weight, self.weight) {
            let step = tensor.strides()[0] as isize;
            T::load(dtype, view, first * step, step, &mut to.w[..n]);
            for (t, w) in to.t[..n].iter_mut().zip(&to.w) {
                *t = t.mul(*w);
            }
        }
    }

    fn row<T: Float>(
        &self,
        place: [isize; 4],
        buffers: &mut Buffers<T>,
        pace: &mut Pace<'_>,
    ) -> Result<Row, Fault> {
        let op = self.op;
        let classes = op.logits.dims()[1] as usize;
        let step = op.logits.strides()[1] as isize;
        let mut most = T::LOWEST;
        for class in (0..classes).step_by(TILE) {
            let x = &mut buffers.x[..TILE.min(classes - class)];
            T::load(
                op.logits.dtype,
                self.logits,
                place[0] + class as isize * step,
                step,
                x,
            );
            most = x.iter().fold(most, |m, v| m.max(*v));
            pace.did(x.len())?;
        }
        let mut row = Row {
            most: most.real(),
            total: 0.0,
            weight: 0.0,
            dot: 0.0,
        };
        for class in (0..classes).step_by(TILE) {
            let n = TILE.min(classes - class);
            self.load(place, class, n, buffers);
            for (x, t) in buffers.x[..n].iter_mut().zip(&buffers.t) {
                *x = x.sub(most);
                let t = t.real();
                row.weight += t;
                // A class that does not count may be impossible.
                row.dot += if t == 0.0 { 0.0 } else { t * x.real() };
            }
            T::exp_all(&mut buffers.x[..n]);
            row.total += buffers.x[..n].iter().map(|v| v.real()).sum::<f64>();
            pace.did(8 * n)?;
        }
        Ok(row)
    }

    /// Writes the gradient of a row.
    fn change<T: Float>(
        &self,
        place: [isize; 4],
        row: &Row,
        up: f64,
        buffers: &mut Buffers<T>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        let (Some(tensor), Some(view)) = (&self.op.gradient, self.gradient) else {
            return Ok(());
        };
        let (classes, step) = (tensor.dims()[1] as usize, tensor.strides()[1] as isize);
        let (factor, most) = (T::of(row.weight / row.total), T::of(row.most));
        for class in (0..classes).step_by(TILE) {
            let n = TILE.min(classes - class);
            self.load(place, class, n, buffers);
            buffers.x[..n].iter_mut().for_each(|x| *x = x.sub(most));
            T::exp_all(&mut buffers.x[..n]);
            for (x, t) in buffers.x[..n].iter_mut().zip(&buffers.t) {
                *x = T::of(up).mul(x.mul(factor).sub(*t));
            }
            let to = place[2] + class as isize * step;
            T::store(tensor.dtype, view, to, step, &buffers.x[..n]);
            pace.did(8 * n)?;
        }
        Ok(())
    }
}
