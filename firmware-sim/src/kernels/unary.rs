//! Kernel of `vmlu_ops::unary`.

use vmlu_ops::tensor::is_float;
use vmlu_ops::unary::{Checked, Function, Unary};

use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, with_storage, Number, Storage, TILE};
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Unary>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    if op.function == Function::Copy {
        // Bits, whatever they mean.
        match op.x.dtype.size() {
            1 => each::<u8>(&op, env, &x, &out, |_| ())?,
            2 => each::<u16>(&op, env, &x, &out, |_| ())?,
            4 => each::<u32>(&op, env, &x, &out, |_| ())?,
            _ => each::<u64>(&op, env, &x, &out, |_| ())?,
        }
    } else if is_float(op.x.dtype) {
        with_float!(op.x.dtype, S => each::<S>(&op, env, &x, &out, |v| real(op.function, v))?);
    } else {
        with_storage!(op.x.dtype, S => each::<S>(&op, env, &x, &out, |v| number(op.function, v))?);
    }
    Ok(op.cost().into())
}

fn each<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    f: impl Fn(&mut [S::Compute]) + Sync,
) -> Result<(), Fault> {
    let strides = [&op.strides[..], op.out.strides()];
    Walk::new(op.out.dims(), strides, 1).each(env, |at, step, count| {
        let mut v = [S::Compute::default(); TILE];
        let v = &mut v[..count];
        S::load(x, at[0], step[0], v);
        f(v);
        S::store(out, at[1], step[1], v);
    })
}

#[inline(always)]
fn map<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
    for v in x {
        *v = f(*v);
    }
}

/// The functions that all numbers have.
fn number<T: Number>(function: Function, x: &mut [T]) {
    match function {
        Function::Neg => map(x, T::neg),
        Function::Abs => map(x, T::abs),
        Function::Relu => map(x, |v| if v < T::default() { T::default() } else { v }),
        Function::Square => map(x, |v| v.mul(v)),
        Function::Sign => map(x, T::sign),
        other => unreachable!("{other:?} needs a fraction"),
    }
}

fn real<T: Real>(function: Function, x: &mut [T]) {
    let sigmoid = |x: &mut [T]| {
        map(x, T::neg);
        T::exp_all(x);
        map(x, |v| T::ONE.div(T::ONE.add(v)));
    };
    match function {
        Function::Exp => T::exp_all(x),
        Function::Expm1 => map(x, T::expm1),
        Function::Log => map(x, T::log),
        Function::Log1p => map(x, T::log1p),
        Function::Sqrt => map(x, T::sqrt),
        Function::Rsqrt => map(x, |v| T::ONE.div(v.sqrt())),
        Function::Reciprocal => map(x, |v| T::ONE.div(v)),
        Function::Tanh => map(x, T::tanh),
        Function::Sigmoid => sigmoid(x),
        Function::Silu => {
            let mut s = [T::default(); TILE];
            let s = &mut s[..x.len()];
            s.copy_from_slice(x);
            sigmoid(s);
            for (v, s) in x.iter_mut().zip(s) {
                *v = v.mul(*s);
            }
        }
        Function::Gelu => map(x, |v| {
            let e = v.mul(T::of(std::f64::consts::FRAC_1_SQRT_2)).erf();
            v.mul(T::of(0.5)).mul(T::ONE.add(e))
        }),
        Function::GeluTanh => map(x, |v| {
            // √(2/π)
            let inner = v.mul(v).mul(v).mul(T::of(0.044715)).add(v);
            let t = inner.mul(T::of(0.797_884_560_802_865_4)).tanh();
            v.mul(T::of(0.5)).mul(T::ONE.add(t))
        }),
        Function::Erf => map(x, T::erf),
        Function::Sin => map(x, T::sin),
        Function::Cos => map(x, T::cos),
        Function::Floor => map(x, T::floor),
        Function::Ceil => map(x, T::ceil),
        Function::Round => map(x, T::round),
        Function::Trunc => map(x, T::trunc),
        other => number(other, x),
    }
}
