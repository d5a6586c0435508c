//! Kernel of `vmlu_ops::fused_sgd`.

use vmlu_ops::fused_sgd::{Checked, FusedSgd, FLAG_FIRST, FLAG_NESTEROV};

use super::env::{Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::math::Real;
use super::parameters::{Model, States};
use super::simd::multiversion;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<FusedSgd>(body)?;
    let model = Model::open(env, &op.parameters)?;
    with_compute!(op.parameters.dtype, T => compute::<T>(&op, &model)?);
    Ok(op.cost().into())
}

/// The scalars, in the type of the arithmetic.
#[derive(Clone, Copy)]
struct Scalars<T> {
    rate: T,
    momentum: T,
    fresh: T,
    decay: T,
}

fn compute<T: Float>(op: &Checked, model: &Model<'_>) -> Result<(), Fault> {
    let scalars = Scalars {
        rate: T::of(-op.rate),
        momentum: T::of(op.momentum),
        fresh: T::of(1.0 - op.dampening),
        decay: T::of(op.weight_decay),
    };
    let flags = op.parameters.flags;
    let (first, nesterov) = (flags & FLAG_FIRST != 0, flags & FLAG_NESTEROV != 0);
    let states = if first {
        States::Fresh
    } else {
        States::Updated
    };
    let (velocity, decay) = (op.momentum != 0.0, op.weight_decay != 0.0);
    model.update::<T>(states, |part| {
        let [v, ..] = &mut part.s;
        if velocity {
            with_velocity(part.w, part.g, v, scalars, [decay, first, nesterov]);
        } else {
            plain(part.w, part.g, scalars, decay);
        }
    })
}

multiversion! {
    fn plain<T: Real>(w: &mut [T], g: &[T], p: Scalars<T>, decay: bool) {
        for (w, g) in w.iter_mut().zip(g) {
            let d = if decay { p.decay.mul_add(*w, *g) } else { *g };
            *w = p.rate.mul_add(d, *w);
        }
    }

    fn with_velocity<T: Real>(w: &mut [T], g: &[T], v: &mut [T], p: Scalars<T>, flags: [bool; 3]) {
        let [decay, first, nesterov] = flags;
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            let d = if decay { p.decay.mul_add(*w, *g) } else { *g };
            *v = if first { d } else { p.fresh.mul_add(d, p.momentum.mul(*v)) };
            let d = if nesterov { p.momentum.mul_add(*v, d) } else { *v };
            *w = p.rate.mul_add(d, *w);
        }
    }
}
