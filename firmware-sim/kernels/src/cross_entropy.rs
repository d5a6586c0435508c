//! Kernel of `vmlu_ops::cross_entropy`, and what its gradient shares.

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_ops::cross_entropy::{Checked, CrossEntropy};
use vmlu_ops::loss::Reduction;
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::fold::Fold;
use super::labels::{row_strides, Labels, Sums};
use super::math::Real;
use super::number::{with_float, Number, Storage, TILE};
use super::reduce::NONE;
use super::softmax::Row;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<CrossEntropy>(body)?;
    let logits = View::open(env, 0, &op.logits, Access::Read)?;
    let labels = View::open(env, 1, &op.labels, Access::Read)?;
    let loss = View::open(env, 2, &op.loss, Access::Write)?;
    let optional = |index, tensor: &Option<Tensor>, access| match tensor {
        Some(t) => View::open(env, index, t, access).map(Some),
        None => Ok(None),
    };
    let probabilities = optional(3, &op.probabilities, Access::Write)?;
    let weight = optional(4, &op.weight, Access::Read)?;
    let total = optional(5, &op.total, Access::Write)?;
    let labels = Labels {
        operator: "cross_entropy",
        name: "labels",
        view: &labels,
        tensor: &op.labels,
        classes: op.logits.dims()[1],
        ignore: op.ignore,
    };
    labels.check(env)?;
    let job = Job {
        op: &op,
        env,
        logits: &logits,
        labels,
        loss: &loss,
        probabilities: probabilities.as_ref(),
        total: total.as_ref(),
    };
    with_float!(op.logits.dtype, S => {
        let weights = Weights::<S>::new(op.weight.as_ref(), weight.as_ref());
        job.compute::<S>(&weights)?;
    });
    Ok(op.cost().into())
}

/// Weights of classes, 1 if there are none.
pub(super) struct Weights<'v, 'a, S> {
    memory: Option<(&'v View<'a>, isize)>,
    of: std::marker::PhantomData<fn(S)>,
}

impl<'v, 'a, S: Storage<Compute: Real>> Weights<'v, 'a, S> {
    pub(super) fn new(tensor: Option<&Tensor>, view: Option<&'v View<'a>>) -> Self {
        let stride = tensor.map(|t| t.strides()[0] as isize);
        Self {
            memory: view.zip(stride),
            of: std::marker::PhantomData,
        }
    }

    /// That of some classes.
    pub(super) fn load(&self, start: usize, to: &mut [S::Compute]) {
        match self.memory {
            Some((view, stride)) => S::load(view, start as isize * stride, stride, to),
            None => to.fill(S::Compute::ONE),
        }
    }

    /// That of one class.
    pub(super) fn one(&self, class: usize) -> f64 {
        let mut weight = [S::Compute::ONE];
        self.load(class, &mut weight);
        weight[0].to_f64()
    }

    /// Whether there are any.
    pub(super) fn some(&self) -> bool {
        self.memory.is_some()
    }

    /// The sum of all.
    pub(super) fn sum(&self, classes: usize, pace: &mut Pace<'_>) -> Result<f64, Fault> {
        if !self.some() {
            return Ok(classes as f64);
        }
        let mut sum = 0.0;
        let mut tile = [S::Compute::default(); TILE];
        for start in (0..classes).step_by(TILE) {
            let tile = &mut tile[..TILE.min(classes - start)];
            self.load(start, tile);
            for w in tile.iter() {
                sum += w.to_f64();
            }
            pace.did(tile.len())?;
        }
        Ok(sum)
    }
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    logits: &'j View<'a>,
    labels: Labels<'j, 'a>,
    loss: &'j View<'a>,
    probabilities: Option<&'j View<'a>>,
    total: Option<&'j View<'a>>,
}

impl Job<'_, '_> {
    fn compute<S: Storage<Compute: Real>>(
        &self,
        weights: &Weights<'_, '_, S>,
    ) -> Result<(), Fault> {
        let op = self.op;
        let classes = op.logits.dims()[1] as usize;
        let each = op.reduction == Reduction::None;
        let logits = row_strides(&op.logits);
        let probabilities = op.probabilities.as_ref().map_or([0; MAX_DIMS], row_strides);
        let loss = if each { op.loss.strides() } else { NONE };
        let walk = self
            .labels
            .walk([op.labels.strides(), &logits, loss, &probabilities, &[]]);
        let sums = Sums::default();
        split(self.env, walk.total(), rows_per_task(classes), |range| {
            let mut pace = Pace::new(self.env);
            let (start, mut sum) = (range.start, [0.0; 2]);
            walk.rows(range, 1, [0; 5], |at, _, _| {
                let row = Row {
                    view: self.logits,
                    offset: at[1],
                    stride: op.logits.strides()[1] as isize,
                    count: classes,
                };
                let norm = row.norm::<S>(&mut pace)?;
                let value = match self.labels.get(at[0], at[4] as usize)? {
                    None => S::Compute::default(),
                    // From the logit itself, before an in-place softmax overwrites it.
                    Some(label) => {
                        let plain = norm.loss(row.element::<S>(label));
                        let weight = weights.one(label);
                        sum[1] += weight;
                        if op.smoothing == 0.0 && !weights.some() {
                            plain
                        } else {
                            let own = (1.0 - op.smoothing) * weight * plain.to_f64();
                            let all = match op.smoothing {
                                0.0 => 0.0,
                                _ => smooth::<S>(&row, &norm, weights, &mut pace)?,
                            };
                            S::Compute::of(own + op.smoothing / classes as f64 * all)
                        }
                    }
                };
                sum[0] += value.to_f64();
                if let (Some(view), Some(p)) = (self.probabilities, &op.probabilities) {
                    let to = Row {
                        view,
                        offset: at[3],
                        stride: p.strides()[1] as isize,
                        count: classes,
                    };
                    row.write_softmax::<S>(&norm, &to, &mut pace)?;
                }
                if each {
                    S::store(self.loss, at[2], 1, &[value]);
                }
                Ok(())
            })?;
            sums.add(start, sum);
            Ok(())
        })?;
        let [sum, weight] = sums.total();
        if !each {
            let mean = op.reduction == Reduction::Mean;
            let loss = if mean { sum / weight } else { sum };
            S::store(self.loss, 0, 1, &[S::Compute::of(loss)]);
        }
        if let Some(view) = self.total {
            S::store(view, 0, 1, &[S::Compute::of(weight)]);
        }
        Ok(())
    }
}

/// `-Σⱼ weight[j] · log softmax[j]` of a row.
fn smooth<S: Storage<Compute: Real>>(
    row: &Row<'_, '_>,
    norm: &super::softmax::Norm<S::Compute>,
    weights: &Weights<'_, '_, S>,
    pace: &mut Pace<'_>,
) -> Result<f64, Fault> {
    let mut sum = 0.0;
    let mut factors = [S::Compute::ONE; TILE];
    row.tiles::<S>(pace, |start, values| {
        let factors = &mut factors[..values.len()];
        weights.load(start, factors);
        let mut wide = [0.0; TILE];
        let wide = &mut wide[..values.len()];
        for ((t, v), w) in wide.iter_mut().zip(values.iter()).zip(factors) {
            *t = -w.to_f64() * norm.log_softmax(*v).to_f64();
        }
        Fold::Add.tile(&mut sum, wide);
    })?;
    Ok(sum)
}

/// Rows of a task.
pub(super) fn rows_per_task(classes: usize) -> usize {
    (16 * TILE / classes.max(1)).max(1)
}
