//! Kernel of `vmlu_ops::pad`.

use vmlu_abi::Wire;
use vmlu_ops::pad::{Checked, Function, Pad};

use super::env::{Access, Env, Fault, Work};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Pad>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    if op.out.elements > 0 {
        match op.x.dtype.size() {
            1 => compute::<u8>(&op, env, &x, &out, op.bits as u8)?,
            2 => compute::<u16>(&op, env, &x, &out, op.bits as u16)?,
            4 => compute::<u32>(&op, env, &x, &out, op.bits as u32)?,
            _ => compute::<u64>(&op, env, &x, &out, op.bits)?,
        }
    }
    Ok(op.cost().into())
}

/// Where a position of an axis comes from; `None` outside.
fn source(function: Function, position: i64, extent: i64) -> Option<i64> {
    if (0..extent).contains(&position) {
        return Some(position);
    }
    match function {
        Function::Constant => None,
        Function::Reflect if position < 0 => Some(-position),
        Function::Reflect => Some(2 * (extent - 1) - position),
        Function::Symmetric if position < 0 => Some(-1 - position),
        Function::Symmetric => Some(2 * extent - 1 - position),
        Function::Edge => Some(position.clamp(0, extent - 1)),
        Function::Wrap => Some(position.rem_euclid(extent)),
    }
}

fn compute<T: Wire + Default + Send + Sync>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    outside: T,
) -> Result<(), Fault> {
    let rank = op.out.rank();
    if rank == 0 {
        let mut v = [T::default()];
        x.load(0, 1, &mut v);
        out.store(0, 1, &v);
        return Ok(());
    }
    let (dims, from, to) = (op.out.dims(), op.x.strides(), op.out.strides());
    let last = rank - 1;
    let length = dims[last] as usize;
    let rows: usize = dims[..last].iter().map(|d| *d as usize).product();
    // Long rows in pieces, so that a single one is shared too.
    let pieces = length.div_ceil(32 * TILE);
    let grain = (32 * TILE / length.max(1)).max(1);
    let at = |axis: usize, position: usize| {
        source(
            op.function,
            position as i64 - op.before[axis],
            op.x.dims()[axis] as i64,
        )
    };
    split(env, rows * pieces, grain, |range| {
        let mut pace = Pace::new(env);
        let mut buffer = [T::default(); TILE];
        for index in range {
            let (mut rest, piece) = (index / pieces, index % pieces);
            let (mut source_base, mut base) = (Some(0isize), 0isize);
            for axis in (0..last).rev() {
                let position = rest % dims[axis] as usize;
                rest /= dims[axis] as usize;
                base += position as isize * to[axis] as isize;
                source_base = match (source_base, at(axis, position)) {
                    (Some(b), Some(p)) => Some(b + p as isize * from[axis] as isize),
                    _ => None,
                };
            }
            let (mut start, end) = (piece * 32 * TILE, length.min((piece + 1) * 32 * TILE));
            while start < end {
                // As far as the source goes on in one direction.
                let most = (end - start).min(TILE);
                let first = source_base.and_then(|_| at(last, start));
                let mut n = 1;
                let mut direction = 0;
                match first {
                    None if source_base.is_none() => n = most,
                    None => {
                        while n < most && at(last, start + n).is_none() {
                            n += 1;
                        }
                    }
                    Some(first) => {
                        if let Some(second) = (most > 1).then(|| at(last, start + 1)).flatten() {
                            direction = second - first;
                            while n < most
                                && at(last, start + n) == Some(first + n as i64 * direction)
                            {
                                n += 1;
                            }
                        }
                    }
                }
                let buffer = &mut buffer[..n];
                match (source_base, first) {
                    (Some(b), Some(p)) => {
                        let step = from[last] as isize;
                        x.load(b + p as isize * step, direction as isize * step, buffer);
                    }
                    _ => buffer.fill(outside),
                }
                out.store(
                    base + start as isize * to[last] as isize,
                    to[last] as isize,
                    buffer,
                );
                start += n;
                pace.did(n)?;
            }
        }
        Ok(())
    })
}
