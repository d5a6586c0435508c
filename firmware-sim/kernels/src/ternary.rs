//! Kernel of `vmlu_ops::ternary`.

use vmlu_ops::tensor::is_float;
use vmlu_ops::ternary::{Checked, Function, Ternary};

use super::binary::lerp;
use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, with_whole, Number, Storage, Truth, Whole, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Ternary>(body)?;
    let a = View::open(env, 0, &op.inputs[0], Access::Read)?;
    let b = View::open(env, 1, &op.inputs[1], Access::Read)?;
    let c = View::open(env, 2, &op.inputs[2], Access::Read)?;
    let out = View::output(env, 3, &op.out)?;
    let views = [&a, &b, &c, &out];
    let (f, alpha) = (op.function, op.alpha);
    let dtype = op.out.dtype;
    if f == Function::Where {
        match dtype.size() {
            1 => each::<Truth, u8>(&op, env, views, choose)?,
            2 => each::<Truth, u16>(&op, env, views, choose)?,
            4 => each::<Truth, u32>(&op, env, views, choose)?,
            _ => each::<Truth, u64>(&op, env, views, choose)?,
        }
    } else if is_float(dtype) {
        with_float!(dtype, S => each::<S, S>(&op, env, views, |x, y, z| real(f, x, y, z, alpha))?);
    } else {
        with_whole!(dtype, S => each::<S, S>(&op, env, views, |x, y, z| whole(f, x, y, z, alpha))?);
    }
    Ok(op.cost().into())
}

/// `out = f(a, b, c)`; `f` leaves its result in the place of `b`.
fn each<A: Storage, S: Storage>(
    op: &Checked,
    env: &dyn Env,
    [a, b, c, out]: [&View<'_>; 4],
    f: impl Fn(&[A::Compute], &mut [S::Compute], &[S::Compute]) + Sync,
) -> Result<(), Fault> {
    let strides = [
        &op.strides[0][..],
        &op.strides[1][..],
        &op.strides[2][..],
        op.out.strides(),
    ];
    let walk = Walk::new(op.out.dims(), strides, 3);
    let buffers = || {
        (
            [A::Compute::default(); TILE],
            [[S::Compute::default(); TILE]; 2],
        )
    };
    walk.tiles(env, buffers, |(x, [y, z]), tile| {
        let n = tile.count;
        let (x, y, z) = (&mut x[..n], &mut y[..n], &mut z[..n]);
        tile.load::<A>(0, a, x);
        tile.load::<S>(1, b, y);
        tile.load::<S>(2, c, z);
        f(x, y, z);
        tile.store::<S>(3, out, y);
    })
}

#[inline(always)]
fn map<T: Copy>(x: &[T], y: &mut [T], z: &[T], f: impl Fn(T, T, T) -> T) {
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        *y = f(*x, *y, *z);
    }
}

#[inline(always)]
fn number<T: Number>(function: Function, x: &[T], y: &mut [T], z: &[T], alpha: f64) {
    let alpha = T::from_scalar(alpha);
    match function {
        Function::AddCmul => map(x, y, z, |a, b, c| alpha.mul(b).mul_add(c, a)),
        Function::AddCdiv => map(x, y, z, |a, b, c| b.div(c).mul_add(alpha, a)),
        Function::Clamp => map(x, y, z, |a, b, c| Number::min(Number::max(a, b), c)),
        Function::Fma => map(x, y, z, T::mul_add),
        other => unreachable!("{other:?} is not for all numbers"),
    }
}

multiversion! {
    fn choose<T: Number>(x: &[u8], y: &mut [T], z: &[T]) {
        for ((x, y), z) in x.iter().zip(y.iter_mut()).zip(z) {
            *y = if *x != 0 { *y } else { *z };
        }
    }

    fn whole<T: Whole>(function: Function, x: &[T], y: &mut [T], z: &[T], alpha: f64) {
        number(function, x, y, z, alpha);
    }

    fn real<T: Real>(function: Function, x: &[T], y: &mut [T], z: &[T], alpha: f64) {
        match function {
            Function::Lerp => map(x, y, z, lerp),
            Function::PreluBackward => map(x, y, z, |g, v, w| if v > T::default() { g } else { g.mul(w) }),
            other => number(other, x, y, z, alpha),
        }
    }
}
