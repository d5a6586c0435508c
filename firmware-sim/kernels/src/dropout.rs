//! Kernel of `vmlu_ops::dropout`.

use vmlu_ops::dropout::{Checked, Dropout, Function};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, Number, Storage, Truth, TILE};
use super::philox::Draws;
use super::random::{each_run, numbering, threshold};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Dropout>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let access = match op.function {
        Function::Draw => Access::Write,
        Function::Apply => Access::Read,
    };
    let mask = match &op.mask {
        Some(m) => Some(View::open(env, 1, m, access)?),
        None => None,
    };
    let out = View::output(env, 2, &op.out)?;
    let draws = Draws::open(env, 3, &op.source)?;
    with_float!(op.x.dtype, S => compute::<S>(&op, env, &x, mask.as_ref(), &out, &draws)?);
    draws.finish(&op.source, op.blocks());
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    mask: Option<&View<'_>>,
    out: &View<'_>,
    draws: &Draws<'_>,
) -> Result<(), Fault> {
    let scale = if op.p < 1.0 { 1.0 / (1.0 - op.p) } else { 0.0 };
    let scale = S::Compute::from_scalar(scale);
    let numbers = numbering(&op.x);
    let strides = [
        op.out.strides(),
        op.x.strides(),
        op.mask.as_ref().unwrap_or(&op.x).strides(),
        &numbers[..],
    ];
    let limit = threshold(op.p);
    let walk = Walk::new(op.x.dims(), strides, 0);
    walk.each(env, |at, step, count| {
        let mut values = [S::Compute::default(); TILE];
        let mut keep = [0u8; TILE];
        let (values, keep) = (&mut values[..count], &mut keep[..count]);
        S::load(x, at[1], step[1], values);
        match (op.function, mask) {
            (Function::Apply, Some(mask)) => Truth::load(mask, at[2], step[2], keep),
            _ => {
                each_run(at[3], step[3], keep, |start, keep| {
                    let mut raw = [0u32; TILE];
                    let raw = &mut raw[..keep.len()];
                    draws.words.fill(start as u64, raw);
                    not_below(raw, limit, keep);
                });
                if let Some(mask) = mask {
                    mask.store(at[2], step[2], keep);
                }
            }
        }
        scale_kept(values, keep, scale);
        S::store(out, at[0], step[0], values);
    })
}

multiversion! {
    fn not_below(raw: &[u32], limit: u64, keep: &mut [u8]) {
        for (k, w) in keep.iter_mut().zip(raw) {
            *k = u8::from(u64::from(*w) >= limit);
        }
    }

    fn scale_kept<T: Number>(values: &mut [T], keep: &[u8], scale: T) {
        for (v, k) in values.iter_mut().zip(keep) {
            *v = v.mul(if *k != 0 { scale } else { T::default() });
        }
    }
}
