//! Kernel of `vmlu_ops::gamma`.

use vmlu_ops::gamma::{Checked, Function, Gamma};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::gamma_functions::{lower_and_upper, polygamma, zeta};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Elements of a task, and what one counts for between two looks at the cancel flag: some of the functions sum hundreds of terms.
const GRAIN: usize = 512;
const WEIGHT: usize = 1024;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Gamma>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = match &op.b {
        Some(t) => Some(View::open(env, 1, t, Access::Read)?),
        None => None,
    };
    let out = View::open(env, 2, &op.out, Access::Write)?;
    with_compute!(op.out.dtype, T => compute::<T>(&op, env, &a, b.as_ref(), &out)?);
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    a: &View<'_>,
    b: Option<&View<'_>>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let strides = [&op.strides[0][..], &op.strides[1][..], op.out.strides()];
    let (walk, dtype) = (Walk::new(op.out.dims(), strides, 2), op.out.dtype);
    split(env, walk.total(), GRAIN, |range| {
        let mut pace = Pace::new(env);
        let (mut x, mut y) = ([T::default(); TILE], [T::default(); TILE]);
        walk.rows(range, TILE.min(GRAIN), [0; 3], |at, step, count| {
            let (x, y) = (&mut x[..count], &mut y[..count]);
            T::load(dtype, a, at[0], step[0], x);
            if let Some(b) = b {
                T::load(dtype, b, at[1], step[1], y);
            }
            for (x, y) in x.iter_mut().zip(y) {
                let (v, w) = (x.real(), y.real());
                *x = T::of(match op.function {
                    Function::Polygamma => polygamma(op.order, v),
                    Function::Lower => lower_and_upper(v, w).0,
                    Function::Upper => lower_and_upper(v, w).1,
                    Function::Zeta => zeta(v, w),
                });
                pace.did(WEIGHT)?;
            }
            T::store(dtype, out, at[2], step[2], x);
            Ok(())
        })
    })
}
