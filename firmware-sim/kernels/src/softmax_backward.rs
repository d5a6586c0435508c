//! Kernel of `vmlu_ops::softmax_backward`.

use vmlu_ops::softmax::Function;
use vmlu_ops::softmax_backward::{Checked, SoftmaxBackward};

use super::env::{Access, Env, Fault, Work};
use super::folding::At;
use super::math::Real;
use super::norm::pick;
use super::number::{with_float, Number, Storage, TILE};
use super::reduce::{collect, index_strides, NONE};
use super::reducers::{Sum, Term};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<SoftmaxBackward>(body)?;
    let y = View::open(env, 0, &op.y, Access::Read)?;
    let dy = View::open(env, 1, &op.dy, Access::Read)?;
    let dx = View::output(env, 2, &op.dx)?;
    if op.y.elements > 0 {
        with_float!(op.y.dtype, S => compute::<S>(&op, env, [&y, &dy, &dx])?);
    }
    Ok(op.cost().into())
}

fn compute<S: Storage<Compute: Real>>(
    op: &Checked,
    env: &dyn Env,
    [y, dy, dx]: [&View<'_>; 3],
) -> Result<(), Fault> {
    let (dims, axes) = (op.y.dims(), 1u32 << op.axis);
    let plain = op.function == Function::Softmax;
    let load = |at: At, step: At, to: &mut [S::Compute]| {
        S::load(dy, at[1], step[1], to);
        if plain {
            let mut v = [S::Compute::default(); TILE];
            let v = &mut v[..to.len()];
            S::load(y, at[0], step[0], v);
            multiply(to, v);
        }
    };
    let strides = [op.y.strides(), op.dy.strides(), NONE, NONE, NONE];
    let sums = collect(
        env,
        dims,
        axes,
        strides,
        &Sum::<S::Compute>::new(Term::Plain),
        &load,
    )?;
    let sums: Vec<S::Compute> = sums.into_iter().map(S::Compute::from_sum).collect();
    let own = index_strides(dims, axes);
    let walk = Walk::new(
        dims,
        [op.y.strides(), op.dy.strides(), &own[..], op.dx.strides()],
        3,
    );
    walk.tiles(
        env,
        || [[S::Compute::default(); TILE]; 3],
        |[y_, g, s], tile| {
            let n = tile.count;
            tile.load::<S>(0, y, &mut y_[..n]);
            tile.load::<S>(1, dy, &mut g[..n]);
            let mut at = 0;
            for (offsets, n) in tile.pieces {
                pick(&sums, offsets[2], tile.strides[2], &mut s[at..at + n]);
                at += n;
            }
            finish(plain, &mut y_[..n], &g[..n], &s[..n]);
            tile.store::<S>(3, dx, &y_[..n]);
        },
    )
}

multiversion! {
    fn multiply<T: Real>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.mul(*y);
        }
    }

    /// The gradient in place of y.
    fn finish<T: Real>(softmax: bool, y: &mut [T], g: &[T], sum: &[T]) {
        if softmax {
            for ((y, g), s) in y.iter_mut().zip(g).zip(sum) {
                *y = y.mul(g.sub(*s));
            }
        } else {
            for ((y, g), s) in y.iter_mut().zip(g).zip(sum) {
                *y = y.exp().neg().mul_add(*s, *g);
            }
        }
    }
}
