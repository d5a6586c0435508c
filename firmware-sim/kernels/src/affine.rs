//! Kernel of `vmlu_ops::affine`.

use vmlu_ops::affine::{Affine, Checked};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Affine>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    with_storage!(op.x.dtype, S => compute::<S>(&op, env, &x, &out)?);
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let alpha = S::Compute::from_scalar(op.alpha);
    let beta = S::Compute::from_scalar(op.beta);
    let strides = [&op.strides[..], op.out.strides()];
    let walk = Walk::new(op.out.dims(), strides, 1);
    walk.tiles(
        env,
        || [S::Compute::default(); TILE],
        |v, tile| {
            let v = &mut v[..tile.count];
            tile.load::<S>(0, x, v);
            apply(v, alpha, beta);
            tile.store::<S>(1, out, v);
        },
    )
}

multiversion! {
    fn apply<T: Number>(x: &mut [T], alpha: T, beta: T) {
        for v in x.iter_mut() {
            *v = v.mul_add(alpha, beta);
        }
    }
}
