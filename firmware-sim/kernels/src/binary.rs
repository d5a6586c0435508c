//! Kernel of `vmlu_ops::binary`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::binary::{Binary, Checked, Function};
use vmlu_ops::tensor::is_float;

use super::activation;
use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, with_storage, with_whole, Number, Storage, Truth, Whole, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Binary>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = View::open(env, 1, &op.b, Access::Read)?;
    let out = View::output(env, 2, &op.out)?;
    let views = [&a, &b, &out];
    let (f, p) = (op.function, op.parameters);
    let dtype = op.a.dtype;
    if f.is_comparison() {
        with_storage!(dtype, S => compute::<S, Truth, _>(&op, env, views, |x, y, t| compare(f, x, y, t))?);
    } else if f == Function::NextAfter && dtype.size() == 2 {
        // The neighbour in the type's own grid.
        compute::<u16, u16, _>(&op, env, views, |x, y, t| {
            for ((t, x), y) in t.iter_mut().zip(x).zip(y) {
                *t = next_half(dtype, *x, *y);
            }
        })?;
    } else if is_float(dtype) {
        with_float!(dtype, S => in_place::<S>(&op, env, views, |x, y| real(f, x, y, p))?);
    } else if dtype == DataType::Bool {
        in_place::<Truth>(&op, env, views, |x, y| whole(f, x, y, p))?;
    } else {
        with_whole!(dtype, S => in_place::<S>(&op, env, views, |x, y| whole(f, x, y, p))?);
    }
    Ok(op.cost().into())
}

fn walk(op: &Checked) -> Walk<3> {
    let strides = [&op.strides[0][..], &op.strides[1][..], op.out.strides()];
    Walk::new(op.out.dims(), strides, 2)
}

/// `out = f(a, b)` of the same type.
fn in_place<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    [a, b, out]: [&View<'_>; 3],
    f: impl Fn(&mut [S::Compute], &[S::Compute]) + Sync,
) -> Result<(), Fault> {
    let buffers = || [[S::Compute::default(); TILE]; 2];
    walk(op).tiles(env, buffers, |[x, y], tile| {
        let (x, y) = (&mut x[..tile.count], &mut y[..tile.count]);
        tile.load::<S>(0, a, x);
        tile.load::<S>(1, b, y);
        f(x, y);
        tile.store::<S>(2, out, x);
    })
}

/// `out = f(a, b)` of another type.
fn compute<S: Storage, T: Storage, F>(
    op: &Checked,
    env: &dyn Env,
    [a, b, out]: [&View<'_>; 3],
    f: F,
) -> Result<(), Fault>
where
    F: Fn(&[S::Compute], &[S::Compute], &mut [T::Compute]) + Sync,
{
    let buffers = || {
        (
            [[S::Compute::default(); TILE]; 2],
            [T::Compute::default(); TILE],
        )
    };
    walk(op).tiles(env, buffers, |([x, y], t), tile| {
        let (x, y) = (&mut x[..tile.count], &mut y[..tile.count]);
        let t = &mut t[..tile.count];
        tile.load::<S>(0, a, x);
        tile.load::<S>(1, b, y);
        f(x, y, t);
        tile.store::<T>(2, out, t);
    })
}

#[inline(always)]
fn map<T: Copy>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = f(*x, *y);
    }
}

/// What all numbers have: `x = f(x, y)`.
#[inline(always)]
fn number<T: Number>(function: Function, x: &mut [T], y: &[T], [alpha, beta, _]: [f64; 3]) {
    match function {
        Function::Add => map(x, y, T::add),
        Function::Sub => map(x, y, T::sub),
        Function::Mul => map(x, y, T::mul),
        Function::Div => map(x, y, T::div),
        Function::Max => map(x, y, T::max),
        Function::Min => map(x, y, T::min),
        Function::ReluBackward => map(x, y, |g, v| if v > T::default() { g } else { T::default() }),
        Function::Axpby => {
            let (alpha, beta) = (T::from_scalar(alpha), T::from_scalar(beta));
            map(x, y, |a, b| a.mul_add(alpha, b.mul(beta)));
        }
        Function::SquaredDifference => map(x, y, |a, b| {
            let d = a.sub(b);
            d.mul(d)
        }),
        other => unreachable!("{other:?} is not for all numbers"),
    }
}

/// Remainder with the sign of the divisor, from that of the division towards zero.
#[inline(always)]
fn modulo<T: Real>(r: T, b: T) -> T {
    let other_side = (r < T::default()) != (b < T::default());
    if r != T::default() && other_side {
        r.add(b)
    } else if r == T::default() {
        r.copysign(b)
    } else {
        r
    }
}

/// Quotient rounded down, from the remainder of the division towards zero.
#[inline(always)]
fn floor_div<T: Real>(a: T, b: T, r: T) -> T {
    let zero = T::default();
    let q = a.sub(r).div(b);
    let q = if r != zero && (r < zero) != (b < zero) {
        q.sub(T::ONE)
    } else {
        q
    };
    let down = q.floor();
    let down = if q.sub(down) > T::of(0.5) {
        down.add(T::ONE)
    } else {
        down
    };
    let q = if q == zero {
        zero.copysign(a.div(b))
    } else {
        down
    };
    if b == zero {
        a.div(b)
    } else {
        q
    }
}

/// `max + log(1 + base^-|a - b|)`.
#[inline(always)]
fn log_add<T: Real>(a: T, b: T, scale: T) -> T {
    let high = if a > b { a } else { b };
    let distance = a.sub(b).abs().neg();
    let l = distance.mul(scale).exp().log1p().div(scale);
    // Equal infinities have no distance.
    let sum = if a == b && !a.is_finite() {
        a
    } else {
        high.add(l)
    };
    if a.is_nan() {
        a
    } else {
        sum
    }
}

multiversion! {
    fn whole<T: Whole>(function: Function, x: &mut [T], y: &[T], p: [f64; 3]) {
        match function {
            Function::FloorDiv => map(x, y, T::floor_div),
            Function::TruncDiv => map(x, y, T::div),
            Function::Fmod => map(x, y, <T as Whole>::rem),
            Function::Remainder => map(x, y, T::modulo),
            Function::Pow => map(x, y, T::power),
            Function::Fmax => map(x, y, <T as Number>::max),
            Function::Fmin => map(x, y, <T as Number>::min),
            Function::BitAnd => map(x, y, T::and),
            Function::BitOr => map(x, y, T::or),
            Function::BitXor => map(x, y, T::xor),
            Function::ShiftLeft => map(x, y, T::shift_left),
            Function::ShiftRight => map(x, y, T::shift_right),
            Function::Gcd => map(x, y, T::gcd),
            Function::Lcm => map(x, y, T::lcm),
            Function::Max => map(x, y, <T as Number>::max),
            Function::Min => map(x, y, <T as Number>::min),
            other => number(other, x, y, p),
        }
    }

    fn real<T: Real>(function: Function, x: &mut [T], y: &[T], p: [f64; 3]) {
        let zero = T::default();
        match function {
            Function::FloorDiv => {
                let mut r = [zero; TILE];
                let r = &mut r[..x.len()];
                r.copy_from_slice(x);
                T::fmod_all(r, y);
                for ((x, y), r) in x.iter_mut().zip(y).zip(r.iter()) {
                    *x = floor_div(*x, *y, *r);
                }
            }
            Function::TruncDiv => map(x, y, |a, b| a.div(b).trunc()),
            Function::Fmod => T::fmod_all(x, y),
            Function::Remainder => {
                T::fmod_all(x, y);
                map(x, y, modulo);
            }
            Function::Pow => map(x, y, T::pow),
            Function::Fmax => map(x, y, |a, b| if a > b || b.is_nan() { a } else { b }),
            Function::Fmin => map(x, y, |a, b| if a < b || b.is_nan() { a } else { b }),
            Function::Atan2 => map(x, y, T::atan2),
            Function::Hypot => map(x, y, T::hypot),
            Function::CopySign => map(x, y, T::copysign),
            Function::NextAfter => map(x, y, T::next_after),
            Function::LogAddExp => map(x, y, |a, b| log_add(a, b, T::ONE)),
            Function::LogAddExp2 => map(x, y, |a, b| log_add(a, b, T::of(std::f64::consts::LN_2))),
            Function::Xlogy => map(x, y, |a, b| if a == zero && !b.is_nan() { zero } else { a.mul(b.log()) }),
            Function::Xlog1py => map(x, y, |a, b| if a == zero && !b.is_nan() { zero } else { a.mul(b.log1p()) }),
            Function::Ldexp => map(x, y, T::ldexp),
            Function::Prelu => map(x, y, |a, b| if a > zero { a } else { a.mul(b) }),
            Function::Heaviside => map(x, y, |a, b| {
                let step = if a < zero { zero } else { T::ONE };
                let step = if a == zero { b } else { step };
                if a.is_nan() { a } else { step }
            }),
            Function::Lerp => {
                let w = T::of(p[0]);
                map(x, y, |a, b| lerp(a, b, w));
            }
            f if f.raw() >= 64 => activation::backward(f, x, y, p),
            other => number(other, x, y, p),
        }
    }
}

/// `a + w (b - a)`, exact at both ends.
#[inline(always)]
pub(super) fn lerp<T: Real>(a: T, b: T, w: T) -> T {
    let d = b.sub(a);
    let low = d.mul_add(w, a);
    let high = d.neg().mul_add(T::ONE.sub(w), b);
    if w < T::of(0.5) {
        low
    } else {
        high
    }
}

/// Neighbours in a 16-bit float type: magnitudes count up as integers do.
fn next_half(dtype: DataType, a: u16, b: u16) -> u16 {
    let infinity = if dtype == DataType::F16 {
        0x7c00
    } else {
        0x7f80
    };
    let nan = |v: u16| v & 0x7fff > infinity;
    if nan(a) || nan(b) {
        return infinity | 0x7fff;
    }
    // Ordered as the values are.
    let order = |v: u16| {
        if v & 0x8000 != 0 {
            -i32::from(v & 0x7fff)
        } else {
            i32::from(v)
        }
    };
    match order(a).cmp(&order(b)) {
        std::cmp::Ordering::Equal => b,
        _ if a & 0x7fff == 0 => (b & 0x8000) | 1,
        less if (less.is_lt()) == (a & 0x8000 == 0) => a + 1,
        _ => a - 1,
    }
}

multiversion! {
    fn compare<T: Number>(function: Function, x: &[T], y: &[T], truth: &mut [u8]) {
        let zero = T::default();
        match function {
            Function::Equal => tell(x, y, truth, |x, y| x == y),
            Function::NotEqual => tell(x, y, truth, |x, y| x != y),
            Function::Less => tell(x, y, truth, |x, y| x < y),
            Function::LessEqual => tell(x, y, truth, |x, y| x <= y),
            Function::Greater => tell(x, y, truth, |x, y| x > y),
            Function::GreaterEqual => tell(x, y, truth, |x, y| x >= y),
            Function::LogicalAnd => tell(x, y, truth, |x, y| (x != zero) & (y != zero)),
            Function::LogicalOr => tell(x, y, truth, |x, y| (x != zero) | (y != zero)),
            Function::LogicalXor => tell(x, y, truth, |x, y| (x != zero) ^ (y != zero)),
            other => unreachable!("{other:?} is no comparison"),
        }
    }
}

#[inline(always)]
fn tell<T: Copy>(x: &[T], y: &[T], truth: &mut [u8], f: impl Fn(T, T) -> bool) {
    for ((t, x), y) in truth.iter_mut().zip(x).zip(y) {
        *t = u8::from(f(*x, *y));
    }
}
