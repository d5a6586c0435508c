//! Kernel of `vmlu_ops::sort`, and the ordering that `compact` shares.
//!
//! Elements become whole numbers that are ordered as they are, each beside its position, in private memory: what is sorted does not change
//! meanwhile, and has a total order.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_abi::Status;
use vmlu_ops::sort::{Checked, Sort};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Storage, Truth, TILE};
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Elements that are sorted between two looks at the cancel flag: less than a millisecond.
const RUN: usize = 4096;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Sort>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let values = op
        .values
        .as_ref()
        .map(|t| View::open(env, 1, t, Access::Write))
        .transpose()?;
    let indices = op
        .indices
        .as_ref()
        .map(|t| View::open(env, 2, t, Access::Write))
        .transpose()?;
    if op.x.elements > 0 && op.count > 0 {
        with_storage!(op.x.dtype, S => compute::<S>(&op, env, &x, &values, &indices)?);
    }
    Ok(op.cost().into())
}

/// Element types as ordered whole numbers.
pub(super) trait Ordered: Storage {
    /// NaN above all, -0 as 0.
    fn key(raw: Self::Raw) -> u64;
}

macro_rules! ordered {
    ($($t:ty => |$v:ident| $key:expr;)*) => { $(
        impl Ordered for $t {
            #[inline(always)]
            fn key($v: Self::Raw) -> u64 { $key }
        }
    )* };
}
ordered! {
    u8 => |v| u64::from(v);
    u16 => |v| u64::from(v);
    u32 => |v| u64::from(v);
    u64 => |v| v;
    i8 => |v| (i64::from(v) as u64) ^ 1 << 63;
    i16 => |v| (i64::from(v) as u64) ^ 1 << 63;
    i32 => |v| (i64::from(v) as u64) ^ 1 << 63;
    i64 => |v| (v as u64) ^ 1 << 63;
    Truth => |v| u64::from(v != 0);
    f32 => |v| real(f64::from(v));
    f64 => |v| real(v);
    f16 => |v| real(f64::from(f16::from_bits(v).to_f32()));
    bf16 => |v| real(f64::from(bf16::from_bits(v).to_f32()));
}

/// A number as a key.
#[inline(always)]
fn real(v: f64) -> u64 {
    if v.is_nan() {
        return u64::MAX;
    }
    // 0 for both zeroes.
    let bits = (v + 0.0).to_bits();
    if bits >> 63 != 0 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// Keys with their positions.
pub(super) type Pairs = Vec<(u64, u32)>;

/// Room for some pairs.
pub(super) fn room(count: usize, operator: &str) -> Result<Pairs, Fault> {
    let mut pairs = Vec::new();
    pairs.try_reserve_exact(count).map_err(|_| {
        Fault::new(
            Status::OutOfHostMemory,
            format!("{operator}: no memory to hold {count} elements"),
        )
    })?;
    Ok(pairs)
}

/// Merges two sorted runs behind what `to` holds, until it holds `most` in all.
fn merge(
    a: &[(u64, u32)],
    b: &[(u64, u32)],
    to: &mut Pairs,
    most: usize,
    pace: &mut Pace<'_>,
) -> Result<(), Fault> {
    let (mut i, mut j) = (0, 0);
    while to.len() < most && i < a.len() && j < b.len() {
        for _ in 0..TILE {
            if to.len() >= most || i >= a.len() || j >= b.len() {
                break;
            }
            let left = a[i] <= b[j];
            to.push(if left { a[i] } else { b[j] });
            i += usize::from(left);
            j += usize::from(!left);
        }
        pace.did(TILE)?;
    }
    for rest in [&a[i..], &b[j..]] {
        let n = rest.len().min(most.saturating_sub(to.len()));
        to.extend_from_slice(&rest[..n]);
        pace.did(n)?;
    }
    Ok(())
}

/// Sorts pairs: short runs, which are then merged.
pub(super) fn sort(pairs: &mut Pairs, spare: &mut Pairs, pace: &mut Pace<'_>) -> Result<(), Fault> {
    let count = pairs.len();
    for run in pairs.chunks_mut(RUN) {
        run.sort_unstable();
        pace.did(8 * run.len())?;
    }
    let mut width = RUN;
    while width < count {
        spare.clear();
        for pair in pairs.chunks(2 * width) {
            let (a, b) = pair.split_at(width.min(pair.len()));
            let most = spare.len() + pair.len();
            merge(a, b, spare, most, pace)?;
        }
        std::mem::swap(pairs, spare);
        width *= 2;
    }
    Ok(())
}

/// Runs `f(first, keys)` for the elements of a row, in tiles.
pub(super) fn keys<S: Ordered>(
    x: &View<'_>,
    offset: isize,
    stride: isize,
    count: usize,
    pace: &mut Pace<'_>,
    mut f: impl FnMut(usize, &[S::Raw], &mut Pace<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut raw = [S::Raw::default(); TILE];
    for start in (0..count).step_by(TILE) {
        let raw = &mut raw[..TILE.min(count - start)];
        x.load(offset + start as isize * stride, stride, raw);
        f(start, raw, pace)?;
        pace.did(raw.len())?;
    }
    Ok(())
}

fn compute<S: Ordered>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    values: &Option<View<'_>>,
    indices: &Option<View<'_>>,
) -> Result<(), Fault> {
    let none: &[i64] = &[0; vmlu_abi::tensor::MAX_DIMS];
    let strides = [
        op.x.strides(),
        op.values.as_ref().map_or(none, |t| t.strides()),
        op.indices.as_ref().map_or(none, |t| t.strides()),
    ];
    let along = strides.map(|s| s.get(op.axis).map_or(0, |s| *s as isize));
    let mut dims = op.x.dims().to_vec();
    let length = dims.get(op.axis).map_or(1, |d| *d as usize);
    if let Some(d) = dims.get_mut(op.axis) {
        *d = 1;
    }
    let flip = if op.descending { u64::MAX } else { 0 };
    let short = op
        .indices
        .as_ref()
        .is_some_and(|i| i.dtype == DataType::I32);
    let rows = Walk::new(&dims, strides, 0);
    split(env, rows.total(), (4 * TILE / length).max(1), |range| {
        let mut pace = Pace::new(env);
        let held = if op.count <= RUN {
            RUN + op.count
        } else {
            length
        };
        let (mut pairs, mut spare) = (room(held, "sort")?, room(held, "sort")?);
        // Values are kept as they were when their keys were taken.
        let mut raw: Vec<S::Raw> = Vec::new();
        raw.try_reserve_exact(length)
            .map_err(|_| Fault::new(Status::OutOfHostMemory, "sort: no memory to hold a row"))?;
        rows.rows(range, 1, [0; 3], |at, _, _| {
            pairs.clear();
            raw.clear();
            let mut run: Pairs = Vec::with_capacity(RUN.min(length));
            keys::<S>(
                x,
                at[0],
                along[0],
                length,
                &mut pace,
                |start, tile, pace| {
                    raw.extend_from_slice(tile);
                    let new = tile
                        .iter()
                        .enumerate()
                        .map(|(i, v)| (S::key(*v) ^ flip, (start + i) as u32));
                    if op.count > RUN {
                        pairs.extend(new);
                        return Ok(());
                    }
                    // The first few of all so far, and a run of new ones.
                    run.extend(new);
                    if run.len() + TILE > RUN || start + tile.len() == length {
                        run.sort_unstable();
                        pace.did(8 * run.len())?;
                        spare.clear();
                        merge(&pairs, &run, &mut spare, op.count, pace)?;
                        std::mem::swap(&mut pairs, &mut spare);
                        run.clear();
                    }
                    Ok(())
                },
            )?;
            if op.count > RUN {
                sort(&mut pairs, &mut spare, &mut pace)?;
            }
            for (i, part) in pairs[..op.count].chunks(TILE).enumerate() {
                let offset = |t: usize| at[t] + (i * TILE) as isize * along[t];
                if let Some(v) = values {
                    let mut tile = [S::Raw::default(); TILE];
                    for (t, (_, p)) in tile.iter_mut().zip(part) {
                        *t = raw[*p as usize];
                    }
                    v.store(offset(1), along[1], &tile[..part.len()]);
                }
                if let Some(v) = indices {
                    if short {
                        let mut tile = [0i32; TILE];
                        for (t, (_, p)) in tile.iter_mut().zip(part) {
                            *t = *p as i32;
                        }
                        v.store(offset(2), along[2], &tile[..part.len()]);
                    } else {
                        let mut tile = [0i64; TILE];
                        for (t, (_, p)) in tile.iter_mut().zip(part) {
                            *t = i64::from(*p);
                        }
                        v.store(offset(2), along[2], &tile[..part.len()]);
                    }
                }
                pace.did(part.len())?;
            }
            Ok(())
        })
    })
}
