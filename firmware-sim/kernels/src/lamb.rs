//! Kernel of `vmlu_ops::lamb`: moments and norms, then the weights.

use vmlu_ops::lamb::{Checked, Lamb, FLAG_UNCORRECTED};

use super::adam::correction;
use super::env::{Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::folding::Reducer;
use super::math::Real;
use super::number::Number;
use super::parameters::{Model, States};
use super::reducers::{Sum, Term};
use super::simd::multiversion;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Lamb>(body)?;
    let model = Model::open(env, &op.parameters)?;
    if !model.skipped() {
        with_compute!(op.parameters.dtype, T => compute::<T>(&op, &model)?);
    }
    Ok(op.cost().into())
}

/// The scalars, in the type of the arithmetic.
#[derive(Clone, Copy)]
struct Scalars<T> {
    first: T,
    second: T,
    second_decay: T,
    mean: T,
    root: T,
    eps: T,
    decay: T,
}

fn compute<T: Float<Sum = f64>>(op: &Checked, model: &Model<'_>) -> Result<(), Fault> {
    let corrected = op.parameters.flags & FLAG_UNCORRECTED == 0;
    let correct = |beta| match corrected {
        true => correction(beta, op.step),
        false => 1.0,
    };
    let scalars = Scalars {
        first: T::of(1.0 - op.beta1),
        second: T::of(1.0 - op.beta2),
        second_decay: T::of(op.beta2),
        mean: T::of(1.0 / correct(op.beta1)),
        root: T::of(1.0 / correct(op.beta2).sqrt()),
        eps: T::of(op.eps),
        decay: T::of(op.weight_decay),
    };
    let squares = Sum::<T>::new(Term::Square);
    let norms = model.states_and_sums::<T>(|part, sums| {
        let [m, v, _] = &mut part.s;
        moments(part.g, m, v, scalars);
        T::rounded(model.dtype(), m);
        T::rounded(model.dtype(), v);
        squares.tile(&mut sums[0], part.w);
        // The gradient is no longer needed.
        direction(part.w, m, v, part.g, scalars);
        squares.tile(&mut sums[1], part.g);
    })?;
    let rates: Vec<T> = norms
        .iter()
        .map(|[w, u]| {
            let (w, u) = (w.sqrt(), u.sqrt());
            let trust = if w != 0.0 && u != 0.0 { w / u } else { 1.0 };
            T::of(-op.rate * trust)
        })
        .collect();
    model.update::<T>(States::Kept, |part| {
        let [m, v, _] = &part.s;
        direction(part.w, m, v, part.g, scalars);
        move_by(part.w, part.g, rates[part.parameter]);
    })
}

multiversion! {
    fn moments<T: Real>(g: &[T], m: &mut [T], v: &mut [T], p: Scalars<T>) {
        for ((g, m), v) in g.iter().zip(m).zip(v) {
            *m = p.first.mul_add(g.sub(*m), *m);
            *v = p.second.mul(*g).mul_add(*g, p.second_decay.mul(*v));
        }
    }

    fn direction<T: Real>(w: &[T], m: &[T], v: &[T], u: &mut [T], p: Scalars<T>) {
        for (((w, m), v), u) in w.iter().zip(m).zip(v).zip(u) {
            let d = v.sqrt().mul_add(p.root, p.eps);
            *u = p.decay.mul_add(*w, m.mul(p.mean).div(d));
        }
    }

    fn move_by<T: Number>(w: &mut [T], u: &[T], rate: T) {
        for (w, u) in w.iter_mut().zip(u) {
            *w = rate.mul_add(*u, *w);
        }
    }
}
