//! Kernel of `vmlu_ops::loss`, and what its gradient shares.

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_ops::loss::{Checked, Function, Loss, Operands, Reduction};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::folding::{fold, At, Space};
use super::math::Real;
use super::number::TILE;
use super::reduce::NONE;
use super::reducers::{Sum, Term};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Loss>(body)?;
    let inputs = Inputs::open(env, &op.of)?;
    let out = View::open(env, 4, &op.out, Access::Write)?;
    with_compute!(op.of.x.dtype, T => compute::<T>(&op, env, &inputs, &out)?);
    Ok(op.cost().into())
}

/// The memory of the operands, and their strides over `x`.
pub(super) struct Inputs<'a> {
    of: &'a Operands,
    x: View<'a>,
    target: View<'a>,
    weight: Option<View<'a>>,
    positive: Option<View<'a>>,
}

/// A tile of `x`, of the target, and of the weights of what is 1.
pub(super) type Buffers<T> = [[T; TILE]; 4];

impl<'a> Inputs<'a> {
    pub(super) fn open(env: &'a dyn Env, of: &'a Operands) -> Result<Self, Fault> {
        let optional = |index, t: &Option<(Tensor, [i64; MAX_DIMS])>| match t {
            Some((t, _)) => View::open(env, index, t, Access::Read).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            of,
            x: View::open(env, 0, &of.x, Access::Read)?,
            target: View::open(env, 1, &of.target.0, Access::Read)?,
            weight: optional(2, &of.weight)?,
            positive: optional(3, &of.positive)?,
        })
    }

    /// Strides of `x`, target, weight and positive.
    pub(super) fn strides(&self) -> [&'a [i64]; 4] {
        let optional = |t: &'a Option<(Tensor, [i64; MAX_DIMS])>| match t {
            Some((_, strides)) => &strides[..],
            None => NONE,
        };
        let of = self.of;
        let target = &of.target.1[..];
        [
            of.x.strides(),
            target,
            optional(&of.weight),
            optional(&of.positive),
        ]
    }

    /// Calls `f(function, x, target, positive, alpha)` on a tile, which leaves its result in `x`'s place, and applies the weight.
    pub(super) fn tile<'b, T: Float>(
        &self,
        at: [isize; 4],
        step: [isize; 4],
        count: usize,
        room: &'b mut Buffers<T>,
        f: fn(Function, &mut [T], &[T], &[T], T),
    ) -> &'b mut [T] {
        let dtype = self.of.x.dtype;
        let [x, t, p, w] = room.each_mut().map(|r| &mut r[..count]);
        T::load(dtype, &self.x, at[0], step[0], x);
        T::load(dtype, &self.target, at[1], step[1], t);
        match &self.positive {
            Some(view) => T::load(dtype, view, at[3], step[3], p),
            None => p.fill(T::ONE),
        }
        f(self.of.function, x, t, p, T::of(self.of.alpha));
        if let Some(view) = &self.weight {
            T::load(dtype, view, at[2], step[2], w);
            times(x, w);
        }
        x
    }
}

fn compute<T: Float<Sum = f64>>(
    op: &Checked,
    env: &dyn Env,
    inputs: &Inputs<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let [x, t, w, p] = inputs.strides();
    let dtype = op.of.x.dtype;
    if op.of.reduction == Reduction::None {
        let walk = Walk::new(op.of.x.dims(), [x, t, w, p, op.out.strides()], 4);
        return walk.each(env, |at, step, count| {
            let mut room = [[T::default(); TILE]; 4];
            let four = |v: [isize; 5]| [v[0], v[1], v[2], v[3]];
            let values = inputs.tile(four(at), four(step), count, &mut room, lost::<T>);
            T::store(dtype, out, at[4], step[4], values);
        });
    }
    let axes = (1u32 << op.of.x.rank()) - 1;
    let space = Space::new(op.of.x.dims(), axes, [x, t, w, p, NONE, NONE]);
    let load = |at: At, step: At, to: &mut [T]| {
        let mut room = [[T::default(); TILE]; 4];
        let four = |v: At| [v[0], v[1], v[2], v[3]];
        let values = inputs.tile(four(at), four(step), to.len(), &mut room, lost::<T>);
        to.copy_from_slice(values);
    };
    let factor = op.of.reduction.factor(op.of.x.dims());
    let store = |_: isize, _: isize, acc: &[f64]| {
        T::store(dtype, out, 0, 1, &[T::of(acc[0] * factor)]);
    };
    if op.of.x.elements == 0 {
        store(0, 1, &[0.0]);
        return Ok(());
    }
    fold(env, space, &Sum::<T>::new(Term::Plain), &load, &store)
}

#[inline(always)]
fn each<T: Real>(x: &mut [T], t: &[T], f: impl Fn(T, T) -> T) {
    for (x, t) in x.iter_mut().zip(t) {
        *x = f(*x, *t);
    }
}

/// `log x`, at least -100.
#[inline(always)]
fn bounded_log<T: Real>(x: T) -> T {
    let l = x.log();
    let least = T::of(-100.0);
    // A NaN stays.
    if l < least {
        least
    } else {
        l
    }
}

multiversion! {
    fn times<T: Real>(x: &mut [T], w: &[T]) {
        each(x, w, T::mul);
    }

    /// Losses, in place of `x`.
    fn lost<T: Real>(function: Function, x: &mut [T], t: &[T], positive: &[T], alpha: T) {
        let half = T::of(0.5);
        let zero = T::default();
        match function {
            Function::Mse => each(x, t, |x, t| x.sub(t).mul(x.sub(t))),
            Function::L1 => each(x, t, |x, t| x.sub(t).abs()),
            Function::SmoothL1 => each(x, t, |x, t| {
                let d = x.sub(t).abs();
                if d < alpha { half.mul(d).mul(d).div(alpha) } else { d.sub(half.mul(alpha)) }
            }),
            Function::Huber => each(x, t, |x, t| {
                let d = x.sub(t).abs();
                if d <= alpha { half.mul(d).mul(d) } else { alpha.mul(d.sub(half.mul(alpha))) }
            }),
            Function::Bce => each(x, t, |x, t| {
                let other = T::ONE.sub(t).mul(bounded_log(T::ONE.sub(x)));
                t.mul(bounded_log(x)).add(other).neg()
            }),
            Function::BceLogits => {
                for ((x, t), p) in x.iter_mut().zip(t).zip(positive) {
                    let below = if *x < zero { x.neg() } else { zero };
                    let soft = x.abs().neg().exp().log1p().add(below);
                    let factor = p.sub(T::ONE).mul_add(*t, T::ONE);
                    *x = T::ONE.sub(*t).mul(*x).add(factor.mul(soft));
                }
            }
            Function::Kl => each(x, t, |x, t| {
                let own = if t == zero { zero } else { t.mul(t.log()) };
                own.sub(t.mul(x))
            }),
            Function::KlLog => each(x, t, |x, t| t.exp().mul(t.sub(x))),
            Function::SoftMargin => each(x, t, |x, t| {
                // Without overflow for what is lost most.
                let z = t.mul(x).neg();
                let above = if z > zero { z } else { zero };
                let soft = z.abs().neg().exp().log1p().add(above);
                if z.is_nan() { z } else { soft }
            }),
            Function::Poisson => each(x, t, |x, t| x.exp().sub(t.mul(x))),
        }
    }

    /// Derivatives by `x`, in its place.
    pub(super) fn slopes<T: Real>(function: Function, x: &mut [T], t: &[T], positive: &[T], alpha: T) {
        let zero = T::default();
        match function {
            Function::Mse => each(x, t, |x, t| x.sub(t).add(x.sub(t))),
            Function::L1 => each(x, t, |x, t| x.sub(t).sign()),
            Function::SmoothL1 => each(x, t, |x, t| {
                let d = x.sub(t);
                if d.abs() < alpha { d.div(alpha) } else { d.sign() }
            }),
            Function::Huber => each(x, t, |x, t| {
                let d = x.sub(t);
                if d.abs() <= alpha { d } else { alpha.mul(d.sign()) }
            }),
            Function::Bce => each(x, t, |x, t| {
                let v = T::ONE.sub(x).mul(x);
                let least = T::of(1e-12);
                x.sub(t).div(if v < least { least } else { v })
            }),
            Function::BceLogits => {
                for ((x, t), p) in x.iter_mut().zip(t).zip(positive) {
                    let weighted = p.mul(*t);
                    let z = x.abs().neg().exp();
                    let top = if *x < zero { z } else { T::ONE };
                    let sigmoid = top.div(T::ONE.add(z));
                    *x = weighted.add(T::ONE).sub(*t).mul(sigmoid).sub(weighted);
                }
            }
            Function::Kl => each(x, t, |_, t| t.neg()),
            Function::KlLog => each(x, t, |_, t| t.exp().neg()),
            Function::SoftMargin => each(x, t, |x, t| {
                let y = t.mul(x);
                let z = y.abs().neg().exp();
                let top = if y < zero { T::ONE } else { z };
                t.neg().mul(top.div(T::ONE.add(z)))
            }),
            Function::Poisson => each(x, t, |x, t| x.exp().sub(t)),
        }
    }
}
