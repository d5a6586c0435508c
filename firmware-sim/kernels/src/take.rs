//! Kernel of `vmlu_ops::take`, and the indexing that `put` shares.

use vmlu_abi::tensor::{DataType, MAX_DIMS};
use vmlu_abi::{Status, Wire};
use vmlu_ops::take::{Checked, Indexing, Take, MAX_INDICES};

use super::env::{Access, Env, Fault, Work};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Tensors of an indexed walk: the indexed one, the other one, and the indices.
pub(super) const TENSORS: usize = 2 + MAX_INDICES;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Take>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    let indices = Indices::open(env, "take", &op.indexing, 2)?;
    indices.check_all(env)?;
    match op.x.dtype.size() {
        1 => compute::<u8>(&op, env, &x, &out, &indices)?,
        2 => compute::<u16>(&op, env, &x, &out, &indices)?,
        4 => compute::<u32>(&op, env, &x, &out, &indices)?,
        _ => compute::<u64>(&op, env, &x, &out, &indices)?,
    }
    Ok(op.cost().into())
}

/// The index tensors. They stay in operand memory: all are checked before anything is written, and each is checked again when it is used, on a
/// private copy.
pub(super) struct Indices<'a> {
    operator: &'static str,
    indexing: &'a Indexing,
    views: Vec<View<'a>>,
    first: u16,
}

impl<'a> Indices<'a> {
    pub(super) fn open(
        env: &'a dyn Env,
        operator: &'static str,
        indexing: &'a Indexing,
        first: u16,
    ) -> Result<Self, Fault> {
        let mut views = Vec::with_capacity(MAX_INDICES);
        for (k, index) in indexing.indices.iter().flatten().enumerate() {
            views.push(View::open(
                env,
                first + k as u16,
                &index.tensor,
                Access::Read,
            )?);
        }
        Ok(Self {
            operator,
            indexing,
            views,
            first,
        })
    }

    /// Strides over the axes of the positions: of the indexed tensor, another one, and the indices.
    pub(super) fn strides<'s>(&'s self, other: &'s [i64]) -> [&'s [i64]; TENSORS] {
        let mut strides: [&[i64]; TENSORS] = [&[0; MAX_DIMS]; TENSORS];
        strides[0] = &self.indexing.strides;
        strides[1] = other;
        for (k, index) in self.indexing.indices.iter().flatten().enumerate() {
            strides[2 + k] = &index.strides;
        }
        strides
    }

    /// Loads some of index `k`, as written there.
    pub(super) fn load(&self, k: usize, offset: isize, stride: isize, to: &mut [i64]) {
        let Some(index) = &self.indexing.indices[k] else {
            return;
        };
        if index.tensor.dtype == DataType::I64 {
            return self.views[k].load(offset, stride, to);
        }
        let mut short = [0i32; TILE];
        let short = &mut short[..to.len()];
        self.views[k].load(offset, stride, short);
        for (t, s) in to.iter_mut().zip(short) {
            *t = i64::from(*s);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.views.len()
    }

    /// The distance that a value of index `k` means, if it is in range.
    #[inline]
    pub(super) fn distance(&self, k: usize, value: i64) -> Result<isize, Fault> {
        let index = self.indexing.indices[k].as_ref();
        let (limit, step) = index.map_or((0, 0), |i| (i.limit as i64, i.step));
        let at = if value < 0 && self.indexing.wrap {
            value.wrapping_add(limit)
        } else {
            value
        };
        if at < 0 || at >= limit {
            return Err(self.out_of_range(k, value, limit));
        }
        Ok((at * step) as isize)
    }

    #[cold]
    fn out_of_range(&self, k: usize, value: i64, limit: i64) -> Fault {
        let text = format!(
            "{}: index {k} has {value}, but its axis has {limit} elements",
            self.operator
        );
        let address = self.indexing.indices[k]
            .as_ref()
            .map_or(0, |i| i.tensor.address);
        Fault::operand(
            Status::IndexOutOfRange,
            self.first + k as u16,
            address,
            text,
        )
    }

    /// Looks at every index once.
    pub(super) fn check_all(&self, env: &dyn Env) -> Result<(), Fault> {
        self.check_except(env, None)
    }

    /// As [`Indices::check_all`], but a value of the first index may stand for nothing.
    pub(super) fn check_except(&self, env: &dyn Env, skip: Option<i64>) -> Result<(), Fault> {
        for (k, index) in self.indexing.indices.iter().flatten().enumerate() {
            // Each element once, however often it is repeated.
            let dims: Vec<u64> = (index.tensor.dims().iter().zip(index.tensor.strides()))
                .map(|(d, s)| if *s == 0 && *d > 1 { 1 } else { *d })
                .collect();
            let walk = Walk::new(&dims, [index.tensor.strides()], 0);
            split(env, walk.total(), 32 * TILE, |range| {
                let mut pace = Pace::new(env);
                let mut values = [0i64; TILE];
                walk.rows(range, TILE, [0], |at, step, n| {
                    let values = &mut values[..n];
                    self.load(k, at[0], step[0], values);
                    for v in values.iter() {
                        if k > 0 || Some(*v) != skip {
                            self.distance(k, *v)?;
                        }
                    }
                    pace.did(n)
                })
            })?;
        }
        Ok(())
    }
}

fn compute<T: Wire + Default + Send + Sync>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    indices: &Indices<'_>,
) -> Result<(), Fault> {
    let walk = Walk::new(op.out.dims(), indices.strides(op.out.strides()), 1);
    let count = indices.count();
    split(env, walk.total(), 32 * TILE, |range| {
        let mut pace = Pace::new(env);
        let mut values = [T::default(); TILE];
        let mut offsets = [0isize; TILE];
        let mut index = [0i64; TILE];
        walk.rows(range, TILE, [0; TENSORS], |at, step, n| {
            let values = &mut values[..n];
            let constant = (0..count).all(|k| step[2 + k] == 0);
            if constant {
                let mut from = at[0];
                for k in 0..count {
                    indices.load(k, at[2 + k], 0, &mut index[..1]);
                    from += indices.distance(k, index[0])?;
                }
                x.load(from, step[0], values);
            } else {
                let offsets = &mut offsets[..n];
                for (i, o) in offsets.iter_mut().enumerate() {
                    *o = at[0] + i as isize * step[0];
                }
                for k in 0..count {
                    let index = &mut index[..n];
                    indices.load(k, at[2 + k], step[2 + k], index);
                    for (o, v) in offsets.iter_mut().zip(index.iter()) {
                        *o += indices.distance(k, *v)?;
                    }
                }
                for (v, o) in values.iter_mut().zip(offsets.iter()) {
                    x.load(*o, 1, std::slice::from_mut(v));
                }
            }
            out.store(at[1], step[1], values);
            pace.did(n)
        })
    })
}
