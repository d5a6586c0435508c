//! Kernel of `vmlu_ops::unary`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::tensor::is_float;
use vmlu_ops::unary::{Checked, Function, Unary};

use super::activation;
use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, with_whole, Number, Storage, Truth, Whole, TILE};
use super::simd::multiversion;
use super::special;
use super::transpose;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Unary>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    let (f, p) = (op.function, op.parameters);
    let dtype = op.x.dtype;
    if f == Function::Copy {
        transpose::copy(env, &op.out, &op.strides, &x, &out)?;
    } else if f.is_test() {
        if is_float(dtype) {
            with_float!(dtype, S => test::<S>(&op, env, &x, &out, |x, t| real_test(f, x, t))?);
        } else if dtype == DataType::Bool {
            test::<Truth>(&op, env, &x, &out, |x, t| whole_test(f, x, t))?;
        } else {
            with_whole!(dtype, S => test::<S>(&op, env, &x, &out, |x, t| whole_test(f, x, t))?);
        }
    } else if is_float(dtype) {
        with_float!(dtype, S => each::<S>(&op, env, &x, &out, |v| real(f, v, p))?);
    } else if dtype == DataType::Bool {
        each::<Truth>(&op, env, &x, &out, |v| map(v, |v| 1 - v))?;
    } else {
        with_whole!(dtype, S => each::<S>(&op, env, &x, &out, |v| whole(f, v, p))?);
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
    let walk = Walk::new(op.out.dims(), strides, 1);
    let x = x.fetched_by_hand();
    walk.tiles(
        env,
        || [S::Compute::default(); TILE],
        |v, tile| {
            let v = &mut v[..tile.count];
            tile.load::<S>(0, &x, v);
            tile.in_parts::<S>(0, &x, v, &f);
            tile.store::<S>(1, out, v);
        },
    )
}

fn test<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    f: impl Fn(&[S::Compute], &mut [u8]) + Sync,
) -> Result<(), Fault> {
    let strides = [&op.strides[..], op.out.strides()];
    let walk = Walk::new(op.out.dims(), strides, 1);
    let buffers = || ([S::Compute::default(); TILE], [0; TILE]);
    walk.tiles(env, buffers, |(v, truth), tile| {
        let (v, truth) = (&mut v[..tile.count], &mut truth[..tile.count]);
        tile.load::<S>(0, x, v);
        f(v, truth);
        tile.store::<Truth>(1, out, truth);
    })
}

#[inline(always)]
fn map<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
    for v in x {
        *v = f(*v);
    }
}

#[inline(always)]
fn tell<T: Copy>(x: &[T], truth: &mut [u8], f: impl Fn(T) -> bool) {
    for (t, v) in truth.iter_mut().zip(x) {
        *t = u8::from(f(*v));
    }
}

/// The functions that all numbers have.
#[inline(always)]
fn number<T: Number>(function: Function, x: &mut [T], [alpha, beta, _]: [f64; 3]) {
    match function {
        Function::Neg => map(x, T::neg),
        Function::Abs => map(x, T::abs),
        Function::Relu => map(x, |v| if v < T::default() { T::default() } else { v }),
        Function::Square => map(x, |v| v.mul(v)),
        Function::Sign => map(x, T::sign),
        Function::Clamp => {
            // Bounds outside an integer's range bound nothing.
            let bound = |v: f64| match v {
                v if v <= T::LOWEST.to_f64() => T::LOWEST,
                v if v >= T::HIGHEST.to_f64() => T::HIGHEST,
                v => T::from_scalar(v),
            };
            let (low, high) = (bound(alpha), bound(beta));
            // A NaN that is chosen stays one.
            map(x, |v| {
                let v = if v < low || low.is_nan() { low } else { v };
                if v > high || high.is_nan() {
                    high
                } else {
                    v
                }
            });
        }
        other => unreachable!("{other:?} is not for all numbers"),
    }
}

multiversion! {
    fn whole<T: Whole>(function: Function, x: &mut [T], p: [f64; 3]) {
        match function {
            Function::BitNot => map(x, T::not),
            other => number(other, x, p),
        }
    }

    fn whole_test<T: Whole>(function: Function, x: &[T], truth: &mut [u8]) {
        match function {
            Function::LogicalNot => tell(x, truth, |v| v == T::default()),
            Function::IsFinite => truth.fill(1),
            Function::SignBit => tell(x, truth, |v| v < T::default()),
            // Not a number and infinities: no integer is.
            _ => truth.fill(0),
        }
    }

    fn real_test<T: Real>(function: Function, x: &[T], truth: &mut [u8]) {
        match function {
            Function::LogicalNot => tell(x, truth, |v| v == T::default()),
            Function::IsNan => tell(x, truth, T::is_nan),
            Function::IsInf => tell(x, truth, |v| v.abs() == T::HIGHEST),
            Function::IsFinite => tell(x, truth, T::is_finite),
            Function::IsPosInf => tell(x, truth, |v| v == T::HIGHEST),
            Function::IsNegInf => tell(x, truth, |v| v == T::LOWEST),
            Function::SignBit => tell(x, truth, T::is_negative),
            other => unreachable!("{other:?} is no test"),
        }
    }

    /// Functions of a float that cost little, and those that have one formula.
    fn real<T: Real>(function: Function, x: &mut [T], p: [f64; 3]) {
        match function {
            Function::Neg | Function::Abs | Function::Relu | Function::Square | Function::Sign | Function::Clamp => {
                number(function, x, p);
            }
            Function::Exp => T::exp_all(x),
            Function::Exp2 => map(x, T::exp2),
            Function::Expm1 => map(x, T::expm1),
            Function::Log => map(x, T::log),
            Function::Log2 => map(x, T::log2),
            Function::Log10 => map(x, T::log10),
            Function::Log1p => map(x, T::log1p),
            Function::Sqrt => map(x, T::sqrt),
            Function::Rsqrt => map(x, |v| T::ONE.div(v.sqrt())),
            Function::Reciprocal => map(x, |v| T::ONE.div(v)),
            Function::Tanh => map(x, T::tanh),
            Function::Sinh => map(x, T::sinh),
            Function::Cosh => map(x, T::cosh),
            Function::Asinh => map(x, T::asinh),
            Function::Acosh => map(x, T::acosh),
            Function::Atanh => map(x, T::atanh),
            Function::Sin => T::sin_all(x),
            Function::Cos => T::cos_all(x),
            Function::Tan => T::tan_all(x),
            Function::Asin => map(x, T::asin),
            Function::Acos => map(x, T::acos),
            Function::Atan => map(x, T::atan),
            Function::Erf => map(x, T::erf),
            Function::Erfc => map(x, T::erfc),
            Function::Erfinv => map(x, T::erfinv),
            Function::Lgamma => map(x, T::lgamma),
            Function::Digamma => map(x, T::digamma),
            Function::I0 => map(x, T::i0),
            Function::Sinc => map(x, T::sinc),
            Function::Floor => map(x, T::floor),
            Function::Ceil => map(x, T::ceil),
            Function::Round => map(x, T::round),
            Function::RoundAway => map(x, T::round_away),
            Function::Trunc => map(x, T::trunc),
            Function::Frac => map(x, |v| if v.is_finite() { v.sub(v.trunc()) } else { T::of(f64::NAN) }),
            Function::Power => {
                let e = T::of(p[0]);
                map(x, |v| v.pow(e));
            }
            Function::FrexpMantissa => map(x, |v| T::of(special::frexp(v.real()).0)),
            Function::FrexpExponent => map(x, |v| T::of(special::frexp(v.real()).1)),
            other => activation::forward(other, x, p),
        }
    }
}
