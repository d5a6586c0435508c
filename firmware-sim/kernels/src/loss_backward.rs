//! Kernel of `vmlu_ops::loss_backward`.

use vmlu_ops::loss_backward::{Checked, LossBackward};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::loss::{slopes, Inputs};
use super::number::TILE;
use super::reduce::NONE;
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<LossBackward>(body)?;
    let inputs = Inputs::open(env, &op.of)?;
    let upstream = match &op.upstream {
        Some((u, _)) => Some(View::open(env, 4, u, Access::Read)?),
        None => None,
    };
    let dx = View::output(env, 5, &op.dx)?;
    with_compute!(op.dx.dtype, T => compute::<T>(&op, env, &inputs, upstream.as_ref(), &dx)?);
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    inputs: &Inputs<'_>,
    upstream: Option<&View<'_>>,
    dx: &View<'_>,
) -> Result<(), Fault> {
    let [x, t, w, p] = inputs.strides();
    let u = op.upstream.as_ref().map_or(NONE, |(_, strides)| strides);
    let factor = T::of(op.of.reduction.factor(op.of.x.dims()));
    let walk = Walk::new(op.dx.dims(), [x, t, w, p, u, op.dx.strides()], 5);
    walk.each(env, |at, step, count| {
        let mut room = [[T::default(); TILE]; 4];
        let four = |v: [isize; 6]| [v[0], v[1], v[2], v[3]];
        let values = inputs.tile(four(at), four(step), count, &mut room, slopes::<T>);
        let mut up = [T::ONE; TILE];
        let up = &mut up[..count];
        if let Some(view) = upstream {
            T::load(op.dx.dtype, view, at[4], step[4], up);
        }
        times(values, up, factor);
        T::store(op.dx.dtype, dx, at[5], step[5], values);
    })
}

multiversion! {
    fn times<T: Float>(x: &mut [T], y: &[T], factor: T) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.mul(factor).mul(*y);
        }
    }
}
