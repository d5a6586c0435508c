//! Kernel of `vmlu_ops::adam`.

use vmlu_ops::adam::{Adam, Checked, FLAG_AMSGRAD, FLAG_DECOUPLED};

use super::env::{Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::math::Real;
use super::parameters::{Model, States};
use super::simd::multiversion;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Adam>(body)?;
    let model = Model::open(env, &op.parameters)?;
    with_compute!(op.parameters.dtype, T => compute::<T>(&op, &model)?);
    Ok(op.cost().into())
}

/// `1 - betaˢᵗᵉᵖ`.
pub(super) fn correction(beta: f64, step: u64) -> f64 {
    1.0 - libm::pow(beta, step as f64)
}

/// The scalars, in the type of the arithmetic.
#[derive(Clone, Copy)]
struct Scalars<T> {
    /// Added to the gradient, times the weight.
    decay: T,
    /// Factor of the weight.
    keep: T,
    first: T,
    second: T,
    second_decay: T,
    root: T,
    eps: T,
    rate: T,
}

fn compute<T: Float>(op: &Checked, model: &Model<'_>) -> Result<(), Fault> {
    let decoupled = op.parameters.flags & FLAG_DECOUPLED != 0;
    let largest = op.parameters.flags & FLAG_AMSGRAD != 0;
    let scalars = Scalars {
        decay: T::of(op.weight_decay),
        keep: T::of(1.0 - op.rate * op.weight_decay),
        first: T::of(1.0 - op.beta1),
        second: T::of(1.0 - op.beta2),
        second_decay: T::of(op.beta2),
        root: T::of(1.0 / correction(op.beta2, op.step).sqrt()),
        eps: T::of(op.eps),
        rate: T::of(-op.rate / correction(op.beta1, op.step)),
    };
    let decays = op.weight_decay != 0.0;
    model.update::<T>(States::Updated, |part| {
        let [m, v, most] = &mut part.s;
        if decays && decoupled {
            times(part.w, scalars.keep);
        } else if decays {
            add(part.g, part.w, scalars.decay);
        }
        moments(part.g, m, v, scalars);
        if largest {
            larger(most, v);
            move_by(part.w, m, most, scalars);
        } else {
            move_by(part.w, m, v, scalars);
        }
    })
}

multiversion! {
    fn times<T: Real>(x: &mut [T], factor: T) {
        x.iter_mut().for_each(|x| *x = x.mul(factor));
    }

    fn add<T: Real>(x: &mut [T], y: &[T], factor: T) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = factor.mul_add(*y, *x);
        }
    }

    fn larger<T: Real>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.max(*y);
        }
    }

    fn moments<T: Real>(g: &[T], m: &mut [T], v: &mut [T], p: Scalars<T>) {
        for ((g, m), v) in g.iter().zip(m).zip(v) {
            *m = p.first.mul_add(g.sub(*m), *m);
            *v = p.second.mul(*g).mul_add(*g, p.second_decay.mul(*v));
        }
    }

    fn move_by<T: Real>(w: &mut [T], m: &[T], v: &[T], p: Scalars<T>) {
        for ((w, m), v) in w.iter_mut().zip(m).zip(v) {
            let d = v.sqrt().mul_add(p.root, p.eps);
            *w = p.rate.mul_add(m.div(d), *w);
        }
    }
}
