//! Kernel of `vmlu_ops::rmsprop`.

use vmlu_ops::rmsprop::{Checked, Rmsprop, FLAG_CENTRED};

use super::env::{Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::math::Real;
use super::parameters::{Model, States};
use super::simd::multiversion;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Rmsprop>(body)?;
    let model = Model::open(env, &op.parameters)?;
    with_compute!(op.parameters.dtype, T => compute::<T>(&op, &model)?);
    Ok(op.cost().into())
}

/// The scalars, in the type of the arithmetic.
#[derive(Clone, Copy)]
struct Scalars<T> {
    rate: T,
    alpha: T,
    fresh: T,
    momentum: T,
    eps: T,
    decay: T,
}

fn compute<T: Float>(op: &Checked, model: &Model<'_>) -> Result<(), Fault> {
    let scalars = Scalars {
        rate: T::of(-op.rate),
        alpha: T::of(op.alpha),
        fresh: T::of(1.0 - op.alpha),
        momentum: T::of(op.momentum),
        eps: T::of(op.eps),
        decay: T::of(op.weight_decay),
    };
    let decays = op.weight_decay != 0.0;
    let (centred, velocity) = (op.parameters.flags & FLAG_CENTRED != 0, op.momentum != 0.0);
    model.update::<T>(States::Updated, |part| {
        let [square, second, third] = &mut part.s;
        if decays {
            add(part.g, part.w, scalars.decay);
        }
        squares(square, part.g, scalars);
        // What follows takes the place of the gradient.
        if centred {
            centre(part.g, square, second, scalars);
        } else {
            divide(part.g, square, scalars);
        }
        if velocity {
            let v = if centred { third } else { second };
            accelerate(part.w, part.g, v, scalars);
        } else {
            add(part.w, part.g, scalars.rate);
        }
    })
}

multiversion! {
    fn add<T: Real>(x: &mut [T], y: &[T], factor: T) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = factor.mul_add(*y, *x);
        }
    }

    fn squares<T: Real>(s: &mut [T], g: &[T], p: Scalars<T>) {
        for (s, g) in s.iter_mut().zip(g) {
            *s = p.fresh.mul(*g).mul_add(*g, p.alpha.mul(*s));
        }
    }

    fn centre<T: Real>(g: &mut [T], s: &[T], a: &mut [T], p: Scalars<T>) {
        for ((g, s), a) in g.iter_mut().zip(s).zip(a) {
            *a = p.fresh.mul_add(g.sub(*a), *a);
            let variance = a.neg().mul_add(*a, *s);
            *g = g.div(variance.sqrt().add(p.eps));
        }
    }

    fn divide<T: Real>(g: &mut [T], s: &[T], p: Scalars<T>) {
        for (g, s) in g.iter_mut().zip(s) {
            *g = g.div(s.sqrt().add(p.eps));
        }
    }

    fn accelerate<T: Real>(w: &mut [T], g: &[T], v: &mut [T], p: Scalars<T>) {
        for ((w, g), v) in w.iter_mut().zip(g).zip(v) {
            *v = p.momentum.mul_add(*v, *g);
            *w = p.rate.mul_add(*v, *w);
        }
    }
}
