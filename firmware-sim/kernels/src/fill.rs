//! Kernel of `vmlu_ops::fill`.

use vmlu_ops::fill::{Checked, Fill};

use super::env::{Env, Fault, Work};
use super::number::{Storage, TILE};
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Fill>(body)?;
    let out = View::output(env, 0, &op.out)?;
    match op.out.dtype.size() {
        1 => compute::<u8>(&op, env, &out, op.bits as u8)?,
        2 => compute::<u16>(&op, env, &out, op.bits as u16)?,
        4 => compute::<u32>(&op, env, &out, op.bits as u32)?,
        _ => compute::<u64>(&op, env, &out, op.bits)?,
    }
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    out: &View<'_>,
    bits: S::Raw,
) -> Result<(), Fault> {
    let tile = [bits; TILE];
    Walk::new(op.out.dims(), [op.out.strides()], 0).each(env, |at, step, count| {
        out.store(at[0], step[0], &tile[..count])
    })
}
