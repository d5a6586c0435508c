//! Kernel of `vmlu_ops::put`.

use vmlu_ops::put::{Checked, Function, Put};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::reduce::index_strides;
use super::take::{Indices, TENSORS};
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Positions below which one core does all.
const ALONE: usize = 32 * TILE;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Put>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    let indices = Indices::open(env, "put", &op.indexing, 2)?;
    indices.check_except(env, op.skip)?;
    if op.dims().iter().all(|d| *d > 0) && op.out.elements > 0 {
        with_storage!(op.out.dtype, S => compute::<S>(&op, env, &x, &out, &indices)?);
    }
    Ok(op.cost().into())
}

/// One position after the other, in row-major order. Positions that differ along a mapped axis name different elements, so cores share such an
/// axis out among them, and each keeps to the order.
fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    indices: &Indices<'_>,
) -> Result<(), Fault> {
    let dims = op.dims();
    let positions: usize = dims.iter().map(|d| *d as usize).product();
    // The last mapped axis has the longest rows.
    let shared = (0..dims.len())
        .filter(|i| op.indexing.mapped >> i & 1 != 0 && dims[*i] > 1)
        .max_by_key(|i| dims[*i]);
    let Some(axis) = shared.filter(|_| positions > ALONE) else {
        return part::<S>(op, env, [x, out], indices, dims, None);
    };
    let extent = dims[axis] as usize;
    let grain = extent.div_ceil(16).max(16);
    split(env, extent, grain, |range| {
        let mut own = dims.to_vec();
        own[axis] = range.len() as u64;
        part::<S>(op, env, [x, out], indices, &own, Some((axis, range.start)))
    })
}

/// The positions of shape `dims`, of which one axis may begin later.
fn part<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    [x, out]: [&View<'_>; 2],
    indices: &Indices<'_>,
    dims: &[u64],
    later: Option<(usize, usize)>,
) -> Result<(), Fault> {
    let strides = indices.strides(&op.strides);
    let mut base = [0isize; TENSORS];
    if let Some((axis, start)) = later {
        for (b, s) in base.iter_mut().zip(strides) {
            *b = start as isize * s[axis] as isize;
        }
    }
    // Row-major order, whatever the strides.
    let order = index_strides(dims, 0);
    let [a, b, c, d, e, f, g, h, i, j] = strides;
    let walk = Walk::new(dims, [a, b, c, d, e, f, g, h, i, j, &order[..]], TENSORS);
    let mut first = [0isize; TENSORS + 1];
    first[..TENSORS].copy_from_slice(&base);
    let count = indices.count();
    let mut pace = Pace::new(env);
    let zero = S::Compute::default();
    let (mut new, mut old) = ([zero; TILE], [zero; TILE]);
    let mut index = [[0i64; TILE]; vmlu_ops::take::MAX_INDICES];
    walk.rows(0..walk.total(), TILE, first, |at, step, n| {
        let new = &mut new[..n];
        S::load(x, at[1], step[1], new);
        let constant = (0..count).all(|k| step[2 + k] == 0);
        for (k, index) in index.iter_mut().enumerate().take(count) {
            let n = if constant { 1 } else { n };
            indices.load(k, at[2 + k], step[2 + k], &mut index[..n]);
        }
        if constant && step[0] != 0 {
            if op.skip.is_some() && op.skip == Some(index[0][0]) {
                return pace.did(n);
            }
            let mut to = at[0];
            for (k, index) in index.iter().enumerate().take(count) {
                to += indices.distance(k, index[0])?;
            }
            if op.function != Function::Set {
                let old = &mut old[..n];
                S::load(out, to, step[0], old);
                for (new, old) in new.iter_mut().zip(old.iter()) {
                    *new = combine(op.function, *old, *new);
                }
            }
            S::store(out, to, step[0], new);
            return pace.did(n);
        }
        for (i, v) in new.iter().enumerate() {
            let at_index = if constant { 0 } else { i };
            if op.skip.is_some() && op.skip == Some(index[0][at_index]) {
                continue;
            }
            let mut to = at[0] + i as isize * step[0];
            for (k, index) in index.iter().enumerate().take(count) {
                to += indices.distance(k, index[at_index])?;
            }
            let mut v = [*v];
            if op.function != Function::Set {
                let mut old = [zero];
                S::load(out, to, 1, &mut old);
                v[0] = combine(op.function, old[0], v[0]);
            }
            S::store(out, to, 1, &v);
        }
        // An element at a time costs more.
        pace.did(8 * n)
    })
}

#[inline(always)]
fn combine<T: Number>(function: Function, old: T, new: T) -> T {
    match function {
        Function::Set => new,
        Function::Add => old.add(new),
        Function::Mul => old.mul(new),
        Function::Max => Number::max(old, new),
        Function::Min => Number::min(old, new),
    }
}
