//! Kernel of `vmlu_ops::sgd`.

use vmlu_ops::sgd::{Checked, Sgd, FLAG_FIRST, FLAG_MAXIMIZE, FLAG_NESTEROV};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, Number, Storage, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Sgd>(body)?;
    let weight = View::open(env, 0, &op.weight, Access::Write)?;
    let gradient = View::open(env, 1, &op.gradient, Access::Read)?;
    let velocity = match &op.velocity {
        Some(v) => Some(View::open(env, 2, v, Access::Write)?),
        None => None,
    };
    with_float!(op.weight.dtype, S => compute::<S>(&op, env, &weight, &gradient, velocity.as_ref())?);
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    weight: &View<'_>,
    gradient: &View<'_>,
    velocity: Option<&View<'_>>,
) -> Result<(), Fault> {
    let scalar = S::Compute::from_scalar;
    let decay = scalar(op.weight_decay);
    let momentum = scalar(op.momentum);
    let fresh = scalar(1.0 - op.dampening);
    let step_by = scalar(-op.rate);
    let strides = [
        op.weight.strides(),
        op.gradient.strides(),
        op.velocity.as_ref().unwrap_or(&op.weight).strides(),
    ];
    Walk::new(op.weight.dims(), strides, 0).each(env, |at, step, count| {
        let mut w = [S::Compute::default(); TILE];
        let mut d = [S::Compute::default(); TILE];
        let (w, d) = (&mut w[..count], &mut d[..count]);
        S::load(weight, at[0], step[0], w);
        S::load(gradient, at[1], step[1], d);
        if op.flags & FLAG_MAXIMIZE != 0 {
            d.iter_mut().for_each(|d| *d = d.neg());
        }
        if op.weight_decay != 0.0 {
            multiply_add(d, w, decay);
        }
        if let Some(view) = velocity {
            let mut v = [S::Compute::default(); TILE];
            let v = &mut v[..count];
            if op.flags & FLAG_FIRST != 0 {
                v.copy_from_slice(d);
            } else {
                S::load(view, at[2], step[2], v);
                v.iter_mut().for_each(|v| *v = v.mul(momentum));
                multiply_add(v, d, fresh);
            }
            S::store(view, at[2], step[2], v);
            if op.flags & FLAG_NESTEROV != 0 {
                multiply_add(d, v, momentum);
            } else {
                d.copy_from_slice(v);
            }
        }
        multiply_add(w, d, step_by);
        S::store(weight, at[0], step[0], w);
    })
}

multiversion! {
    /// `x = y · factor + x`.
    fn multiply_add<T: Number>(x: &mut [T], y: &[T], factor: T) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = y.mul_add(factor, *x);
        }
    }
}
