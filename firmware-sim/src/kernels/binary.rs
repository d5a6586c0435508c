//! Kernel of `vmlu_ops::binary`.

use vmlu_ops::binary::{Binary, Checked, Function};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, Truth, TILE};
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Binary>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = View::open(env, 1, &op.b, Access::Read)?;
    let out = View::open(env, 2, &op.out, Access::Write)?;
    with_storage!(op.a.dtype, S => compute::<S>(&op, env, [&a, &b, &out])?);
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    [a, b, out]: [&View<'_>; 3],
) -> Result<(), Fault> {
    let strides = [&op.strides[0][..], &op.strides[1][..], op.out.strides()];
    Walk::new(op.out.dims(), strides, 2).each(env, |at, step, count| {
        let mut x = [S::Compute::default(); TILE];
        let mut y = [S::Compute::default(); TILE];
        let (x, y) = (&mut x[..count], &mut y[..count]);
        S::load(a, at[0], step[0], x);
        S::load(b, at[1], step[1], y);
        if op.function.is_comparison() {
            let mut truth = [0u8; TILE];
            let truth = &mut truth[..count];
            compare(op.function, x, y, truth);
            Truth::store(out, at[2], step[2], truth);
        } else {
            apply(op.function, x, y);
            S::store(out, at[2], step[2], x);
        }
    })
}

#[inline(always)]
fn map<T: Copy>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = f(*x, *y);
    }
}

/// `x = f(x, y)`.
fn apply<T: Number>(function: Function, x: &mut [T], y: &[T]) {
    match function {
        Function::Add => map(x, y, T::add),
        Function::Sub => map(x, y, T::sub),
        Function::Mul => map(x, y, T::mul),
        Function::Div => map(x, y, T::div),
        Function::Max => map(x, y, T::max),
        Function::Min => map(x, y, T::min),
        Function::ReluBackward => map(x, y, |g, v| if v > T::default() { g } else { T::default() }),
        other => unreachable!("{other:?} is a comparison"),
    }
}

fn compare<T: Number>(function: Function, x: &[T], y: &[T], truth: &mut [u8]) {
    let test = |f: fn(&T, &T) -> bool, truth: &mut [u8]| {
        for ((t, x), y) in truth.iter_mut().zip(x).zip(y) {
            *t = u8::from(f(x, y));
        }
    };
    match function {
        Function::Equal => test(T::eq, truth),
        Function::NotEqual => test(T::ne, truth),
        Function::Less => test(T::lt, truth),
        Function::LessEqual => test(T::le, truth),
        Function::Greater => test(T::gt, truth),
        Function::GreaterEqual => test(T::ge, truth),
        other => unreachable!("{other:?} is no comparison"),
    }
}
