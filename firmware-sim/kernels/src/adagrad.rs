//! Kernel of `vmlu_ops::adagrad`.

use vmlu_ops::adagrad::{Adagrad, Checked};

use super::env::{Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::math::Real;
use super::parameters::{Model, States};
use super::simd::multiversion;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Adagrad>(body)?;
    let model = Model::open(env, &op.parameters)?;
    with_compute!(op.parameters.dtype, T => compute::<T>(&op, &model)?);
    Ok(op.cost().into())
}

fn compute<T: Float>(op: &Checked, model: &Model<'_>) -> Result<(), Fault> {
    let rate = T::of(-op.rate / (1.0 + (op.step - 1) as f64 * op.rate_decay));
    let (decay, eps) = (T::of(op.weight_decay), T::of(op.eps));
    let decays = op.weight_decay != 0.0;
    model.update::<T>(States::Updated, |part| {
        step(part.w, part.g, part.s[0], rate, eps, decay, decays);
    })
}

multiversion! {
    fn step<T: Real>(w: &mut [T], g: &[T], s: &mut [T], rate: T, eps: T, decay: T, decays: bool) {
        for ((w, g), s) in w.iter_mut().zip(g).zip(s) {
            let g = if decays { decay.mul_add(*w, *g) } else { *g };
            *s = g.mul_add(g, *s);
            *w = rate.mul_add(g.div(s.sqrt().add(eps)), *w);
        }
    }
}
