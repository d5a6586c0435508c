//! Kernel of `vmlu_ops::range`.

use vmlu_abi::tensor::DataType;
use vmlu_abi::Wire;
use vmlu_ops::range::{Checked, Function, Range};
use vmlu_ops::tensor::is_float;

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, with_whole, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Range>(body)?;
    let out = View::output(env, 0, &op.out)?;
    let x =
        op.x.as_ref()
            .map(|t| View::open(env, 1, t, Access::Read))
            .transpose()?;
    if op.out.elements == 0 {
        return Ok(op.cost().into());
    }
    match op.function {
        Function::Arange if !is_float(op.out.dtype) => {
            with_whole!(op.out.dtype, S => line::<S>(&op, env, &out, |i| {
                let v = (op.alpha as i64).wrapping_add((op.beta as i64).wrapping_mul(i as i64));
                <S as Storage>::Compute::from_sum(v)
            })?);
        }
        Function::Arange | Function::Linspace => {
            let n = op.out.dims()[0];
            let step = (op.beta - op.alpha) / (Ord::max(n, 2) - 1) as f64;
            let value = |i: usize| match op.function {
                Function::Arange => (i as f64).mul_add(op.beta, op.alpha),
                _ if (i as u64) < n.div_ceil(2) => (i as f64).mul_add(step, op.alpha),
                _ => ((n - 1 - i as u64) as f64).mul_add(-step, op.beta),
            };
            if is_float(op.out.dtype) {
                with_float!(op.out.dtype, S => line::<S>(&op, env, &out, |i| {
                    <S as Storage>::Compute::from_scalar(value(i))
                })?);
            } else {
                with_whole!(op.out.dtype, S => line::<S>(&op, env, &out, |i| {
                    <S as Storage>::Compute::from_sum(value(i) as i64)
                })?);
            }
        }
        _ => match op.out.dtype.size() {
            1 => matrix::<u8>(&op, env, &x, &out)?,
            2 => matrix::<u16>(&op, env, &x, &out)?,
            4 => matrix::<u32>(&op, env, &x, &out)?,
            _ => matrix::<u64>(&op, env, &x, &out)?,
        },
    }
    Ok(op.cost().into())
}

fn line<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    out: &View<'_>,
    value: impl Fn(usize) -> S::Compute + Sync,
) -> Result<(), Fault> {
    let step = op.out.strides()[0] as isize;
    split(env, op.out.elements as usize, 32 * TILE, |range| {
        let mut pace = Pace::new(env);
        let mut tile = [S::Compute::default(); TILE];
        for start in range.clone().step_by(TILE) {
            let tile = &mut tile[..TILE.min(range.end - start)];
            for (i, t) in tile.iter_mut().enumerate() {
                *t = value(start + i);
            }
            S::store(out, start as isize * step, step, tile);
            pace.did(tile.len())?;
        }
        Ok(())
    })
}

/// Types by their bits.
trait Bits: Wire + Default + Send + Sync {
    /// The low bits.
    fn of(bits: u64) -> Self;
}

macro_rules! bits {
    ($($t:ty),*) => { $( impl Bits for $t { fn of(bits: u64) -> Self { bits as $t } } )* };
}
bits!(u8, u16, u32, u64);

/// One, as it stands in memory.
fn one(dtype: DataType) -> u64 {
    match dtype {
        DataType::F32 => u64::from(1f32.to_bits()),
        DataType::F64 => 1f64.to_bits(),
        DataType::F16 => 0x3c00,
        DataType::Bf16 => 0x3f80,
        _ => 1,
    }
}

/// Rows of the last two axes, in three parts: before, at, and behind the diagonal.
fn matrix<T: Bits>(
    op: &Checked,
    env: &dyn Env,
    x: &Option<View<'_>>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let (dims, strides) = (op.out.dims(), op.out.strides());
    let rank = dims.len();
    let none: &[i64] = &[0; vmlu_abi::tensor::MAX_DIMS];
    let from = op.x.as_ref().map_or(none, |t| t.strides());
    let columns = dims[rank - 1] as usize;
    let rows: usize = dims[..rank - 1].iter().map(|d| *d as usize).product();
    let height = dims[rank - 2] as usize;
    let (step, from_step) = (strides[rank - 1] as isize, from[rank - 1] as isize);
    let one = T::of(one(op.out.dtype));
    split(env, rows, (32 * TILE / columns).max(1), |range| {
        let mut pace = Pace::new(env);
        let mut tile = [T::default(); TILE];
        for index in range {
            let (mut rest, mut to, mut at) = (index, 0isize, 0isize);
            for axis in (0..rank - 1).rev() {
                let position = (rest % dims[axis] as usize) as isize;
                rest /= dims[axis] as usize;
                to += position * strides[axis] as isize;
                at += position * from[axis] as isize;
            }
            // The first column at and the first behind the diagonal.
            let diagonal = ((index % height) as i64).saturating_add(op.alpha as i64);
            let begin = diagonal.clamp(0, columns as i64) as usize;
            let end = diagonal.saturating_add(1).clamp(0, columns as i64) as usize;
            let kept = match op.function {
                Function::Tril => 0..end,
                Function::Triu => begin..columns,
                _ => begin..end,
            };
            for start in (0..columns).step_by(TILE) {
                let tile = &mut tile[..TILE.min(columns - start)];
                let stop = start + tile.len();
                let (a, b) = (
                    kept.start.clamp(start, stop) - start,
                    kept.end.clamp(start, stop) - start,
                );
                tile.fill(T::default());
                if a < b {
                    match x {
                        Some(x) => x.load(
                            at + (start + a) as isize * from_step,
                            from_step,
                            &mut tile[a..b],
                        ),
                        None => tile[a..b].fill(one),
                    }
                }
                out.store(to + start as isize * step, step, tile);
                pace.did(tile.len())?;
            }
        }
        Ok(())
    })
}
