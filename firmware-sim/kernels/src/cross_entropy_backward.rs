//! Kernel of `vmlu_ops::cross_entropy_backward`.

use vmlu_ops::cross_entropy_backward::{Checked, CrossEntropyBackward, Source};

use super::cross_entropy::{rows_per_task, Labels};
use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, Number, Storage};
use super::softmax::Row;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<CrossEntropyBackward>(body)?;
    let source = View::open(env, 0, &op.source, Access::Read)?;
    let labels = View::open(env, 1, &op.labels, Access::Read)?;
    let upstream = match &op.upstream {
        Some(u) => Some(View::open(env, 2, u, Access::Read)?),
        None => None,
    };
    let gradient = View::open(env, 3, &op.gradient, Access::Write)?;
    if op.gradient.elements == 0 {
        return Ok(op.cost().into());
    }
    let labels = Labels {
        operator: "cross_entropy_backward",
        view: &labels,
        tensor: &op.labels,
        classes: op.source.dims()[1],
        ignore: op.ignore,
    };
    labels.check(env)?;
    with_float!(op.source.dtype, S => compute::<S>(&op, env, &source, &labels, upstream.as_ref(), &gradient)?);
    Ok(op.cost().into())
}

fn compute<S: Storage<Compute: Real>>(
    op: &Checked,
    env: &dyn Env,
    source: &View<'_>,
    labels: &Labels<'_, '_>,
    upstream: Option<&View<'_>>,
    gradient: &View<'_>,
) -> Result<(), Fault> {
    let (rows, classes) = (op.source.dims()[0] as usize, op.source.dims()[1] as usize);
    split(env, rows, rows_per_task(classes), |range| {
        let mut pace = Pace::new(env);
        for i in range {
            let row = |view, tensor: &vmlu_ops::tensor::Tensor| Row {
                view,
                offset: i as isize * tensor.strides()[0] as isize,
                stride: tensor.strides()[1] as isize,
                count: classes,
            };
            let (from, to) = (row(source, &op.source), row(gradient, &op.gradient));
            let mut scale = S::Compute::from_scalar(op.scale);
            if let (Some(view), Some(u)) = (upstream, &op.upstream) {
                let mut factor = [S::Compute::default()];
                S::load(view, i as isize * u.strides()[0] as isize, 1, &mut factor);
                scale = scale.mul(factor[0]);
            }
            let label = labels.get(i)?;
            let norm = match op.kind {
                Source::Logits if label.is_some() => Some(from.norm::<S>(&mut pace)?),
                _ => None,
            };
            from.map::<S>(&to, &mut pace, |start, values| {
                let Some(label) = label else {
                    values.fill(S::Compute::default());
                    return;
                };
                if let Some(norm) = &norm {
                    norm.softmax(values);
                }
                if let Some(v) = label.checked_sub(start).and_then(|l| values.get_mut(l)) {
                    *v = v.sub(S::Compute::ONE);
                }
                values.iter_mut().for_each(|v| *v = v.mul(scale));
            })?;
        }
        Ok(())
    })
}
