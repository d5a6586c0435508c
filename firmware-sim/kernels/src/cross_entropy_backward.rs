//! Kernel of `vmlu_ops::cross_entropy_backward`.

use vmlu_ops::cross_entropy_backward::{Checked, CrossEntropyBackward, Source};
use vmlu_ops::tensor::Tensor;

use super::cross_entropy::{rows_per_task, Weights};
use super::env::{Access, Env, Fault, Work};
use super::labels::{row_strides, Labels};
use super::math::Real;
use super::number::{with_float, Number, Storage, TILE};
use super::reduce::NONE;
use super::softmax::Row;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<CrossEntropyBackward>(body)?;
    let source = View::open(env, 0, &op.source, Access::Read)?;
    let labels = View::open(env, 1, &op.labels, Access::Read)?;
    let optional = |index, tensor: Option<&Tensor>| match tensor {
        Some(t) => View::open(env, index, t, Access::Read).map(Some),
        None => Ok(None),
    };
    let upstream = optional(2, op.upstream.as_ref().map(|u| &u.0))?;
    let gradient = View::open(env, 3, &op.gradient, Access::Write)?;
    let weight = optional(4, op.weight.as_ref())?;
    let total = optional(5, op.total.as_ref())?;
    if op.gradient.elements == 0 {
        return Ok(op.cost().into());
    }
    let labels = Labels {
        operator: "cross_entropy_backward",
        name: "labels",
        view: &labels,
        tensor: &op.labels,
        classes: op.source.dims()[1],
        ignore: op.ignore,
    };
    labels.check(env)?;
    let job = Job {
        op: &op,
        env,
        source: &source,
        labels,
        upstream: upstream.as_ref(),
        gradient: &gradient,
        total: total.as_ref(),
    };
    with_float!(op.source.dtype, S => {
        let weights = Weights::<S>::new(op.weight.as_ref(), weight.as_ref());
        job.compute::<S>(&weights)?;
    });
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    source: &'j View<'a>,
    labels: Labels<'j, 'a>,
    upstream: Option<&'j View<'a>>,
    gradient: &'j View<'a>,
    total: Option<&'j View<'a>>,
}

impl Job<'_, '_> {
    fn compute<S: Storage<Compute: Real>>(
        &self,
        weights: &Weights<'_, '_, S>,
    ) -> Result<(), Fault> {
        let op = self.op;
        let classes = op.source.dims()[1] as usize;
        let one = |view: &View<'_>, offset: isize| {
            let mut value = [S::Compute::default()];
            S::load(view, offset, 1, &mut value);
            value[0]
        };
        let scale = S::Compute::from_scalar(op.scale);
        let scale = self.total.map_or(scale, |view| scale.div(one(view, 0)));
        let smooth = op.smoothing / classes as f64;
        let all = match op.smoothing {
            0.0 => 0.0,
            _ => weights.sum(classes, &mut Pace::new(self.env))?,
        };
        let plain = op.smoothing == 0.0 && !weights.some();
        let (source, gradient) = (row_strides(&op.source), row_strides(&op.gradient));
        let upstream = op.upstream.as_ref().map_or(NONE, |(_, strides)| strides);
        let walk = self
            .labels
            .walk([op.labels.strides(), &source, upstream, &gradient, &[]]);
        split(self.env, walk.total(), rows_per_task(classes), |range| {
            let mut pace = Pace::new(self.env);
            walk.rows(range, 1, [0; 5], |at, _, _| {
                let row = |view, offset, tensor: &Tensor| Row {
                    view,
                    offset,
                    stride: tensor.strides()[1] as isize,
                    count: classes,
                };
                let from = row(self.source, at[1], &op.source);
                let to = row(self.gradient, at[3], &op.gradient);
                let scale = match self.upstream {
                    Some(view) => scale.mul(one(view, at[2])),
                    None => scale,
                };
                let label = self.labels.get(at[0], at[4] as usize)?;
                let norm = match op.kind {
                    Source::Logits if label.is_some() => Some(from.norm::<S>(&mut pace)?),
                    _ => None,
                };
                let own = (1.0 - op.smoothing) * label.map_or(1.0, |l| weights.one(l));
                let factor = S::Compute::of(own + smooth * all);
                from.map::<S>(&to, &mut pace, |start, values| {
                    let Some(label) = label else {
                        values.fill(S::Compute::default());
                        return;
                    };
                    if let Some(norm) = &norm {
                        norm.softmax(values);
                    }
                    if !plain {
                        values.iter_mut().for_each(|v| *v = v.mul(factor));
                    }
                    if op.smoothing != 0.0 {
                        let mut tile = [S::Compute::default(); TILE];
                        let tile = &mut tile[..values.len()];
                        weights.load(start, tile);
                        let share = S::Compute::of(smooth);
                        for (v, w) in values.iter_mut().zip(tile) {
                            *v = v.sub(share.mul(*w));
                        }
                    }
                    if let Some(v) = label.checked_sub(start).and_then(|l| values.get_mut(l)) {
                        *v = v.sub(S::Compute::of(own));
                    }
                    values.iter_mut().for_each(|v| *v = v.mul(scale));
                })
            })
        })
    }
}
