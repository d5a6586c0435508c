//! Kernel of `vmlu_ops::compact`. One position after the other: where a result goes depends on all before it.

use vmlu_abi::{Status, Wire};
use vmlu_ops::compact::{Checked, Compact, Function};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Storage, TILE};
use super::reduce::index_strides;
use super::sort::{keys, room, sort, Ordered};
use super::view::View;
use super::walk::{split, Pace, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Compact>(body)?;
    let open = |index, t: &Option<vmlu_ops::tensor::Tensor>, access| match t {
        Some(t) => View::open(env, index, t, access).map(Some),
        None => Ok(None),
    };
    let job = Job {
        op: &op,
        env,
        x: View::open(env, 0, &op.x, Access::Read)?,
        mask: open(1, &op.mask, Access::Read)?,
        out: View::open(env, 2, &op.out, Access::Write)?,
        inverse: open(4, &op.inverse, Access::Write)?,
        counts: open(5, &op.counts, Access::Write)?,
    };
    let count = open(3, &op.count, Access::Write)?;
    let found = match op.function {
        Function::Nonzero => with_storage!(op.x.dtype, S => job.nonzero::<S>()?),
        Function::Unique => with_storage!(op.x.dtype, S => job.unique::<S>()?),
        _ => match op.x.dtype.size() {
            1 => job.masked::<u8>()?,
            2 => job.masked::<u16>()?,
            4 => job.masked::<u32>()?,
            _ => job.masked::<u64>()?,
        },
    };
    if let Some(count) = count {
        count.store(0, 1, &[found as i64]);
    }
    Ok(op.cost().into())
}

struct Job<'j> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: View<'j>,
    mask: Option<View<'j>>,
    out: View<'j>,
    inverse: Option<View<'j>>,
    counts: Option<View<'j>>,
}

/// A walk in row-major order of the positions, whatever the strides.
fn ordered<const N: usize>(dims: &[u64], strides: [&[i64]; N]) -> Walk<N> {
    Walk::new(dims, strides, N - 1)
}

impl Job<'_> {
    /// Room for results along axis 0 of `out`.
    fn limit(&self) -> usize {
        self.op.out.dims().first().map_or(0, |d| *d as usize)
    }

    fn too_many(&self) -> Fault {
        let text = format!(
            "compact: {} finds more elements than out has room for, which is {}",
            self.op.function.name(),
            self.limit()
        );
        Fault::operand(Status::IndexOutOfRange, 2, self.op.out.address, text)
    }

    fn masked<T: Wire + Default>(&self) -> Result<usize, Fault> {
        let (Some(mask), op) = (&self.mask, self.op) else {
            return Ok(0);
        };
        let scatter = op.function == Function::Scatter;
        let over = if scatter { &op.out } else { &op.x };
        let order = index_strides(over.dims(), 0);
        let walk = ordered(
            over.dims(),
            [over.strides(), &op.mask_strides[..], &order[..]],
        );
        // The elements of x in order, for scatter.
        let source = index_strides(op.x.dims(), 0);
        let from = ordered(op.x.dims(), [op.x.strides(), &source[..]]);
        let step = op.out.strides().first().map_or(0, |s| *s as isize);
        let limit = if scatter { from.total() } else { self.limit() };
        let mut pace = Pace::new(self.env);
        let (mut truth, mut values) = ([0u8; TILE], [T::default(); TILE]);
        let mut found = 0;
        walk.rows(0..walk.total(), TILE, [0; 3], |at, along, n| {
            let truth = &mut truth[..n];
            mask.load(at[1], along[1], truth);
            if scatter {
                for (i, _) in truth.iter().enumerate().filter(|(_, t)| **t != 0) {
                    if found >= limit {
                        let text = format!("compact: x has only {limit} elements to scatter");
                        return Err(Fault::operand(
                            Status::IndexOutOfRange,
                            0,
                            op.x.address,
                            text,
                        ));
                    }
                    let mut v = [T::default()];
                    from.rows(found..found + 1, 1, [0; 2], |at, _, _| {
                        self.x.load(at[0], 1, &mut v);
                        Ok(())
                    })?;
                    self.out.store(at[0] + i as isize * along[0], 1, &v);
                    found += 1;
                }
            } else {
                let values = &mut values[..n];
                self.x.load(at[0], along[0], values);
                let mut kept = 0;
                for i in 0..n {
                    values[kept] = values[i];
                    kept += usize::from(truth[i] != 0);
                }
                if found + kept > limit {
                    return Err(self.too_many());
                }
                self.out.store(found as isize * step, step, &values[..kept]);
                found += kept;
            }
            pace.did(n)
        })?;
        Ok(found)
    }

    fn nonzero<S: Storage>(&self) -> Result<usize, Fault> {
        let op = self.op;
        let rank = op.x.rank();
        let order = index_strides(op.x.dims(), 0);
        let walk = ordered(op.x.dims(), [op.x.strides(), &order[..]]);
        let (row, column) = (op.out.strides()[0] as isize, op.out.strides()[1] as isize);
        let limit = self.limit();
        let mut pace = Pace::new(self.env);
        let mut values = [S::Compute::default(); TILE];
        let mut found = 0usize;
        walk.rows(0..walk.total(), TILE, [0; 2], |at, along, n| {
            let values = &mut values[..n];
            S::load(&self.x, at[0], along[0], values);
            for (i, v) in values.iter().enumerate() {
                if *v == S::Compute::default() {
                    continue;
                }
                if found >= limit {
                    return Err(self.too_many());
                }
                let mut position = at[1] as i64 + i as i64 * along[1] as i64;
                let mut coordinates = [0i64; vmlu_abi::tensor::MAX_DIMS];
                for (c, o) in coordinates.iter_mut().zip(order).take(rank) {
                    *c = position / o.max(1);
                    position %= o.max(1);
                }
                self.out
                    .store(found as isize * row, column, &coordinates[..rank]);
                found += 1;
            }
            pace.did(n)
        })?;
        Ok(found)
    }

    fn unique<S: Ordered>(&self) -> Result<usize, Fault> {
        let op = self.op;
        let count = op.x.elements as usize;
        let (mut pairs, mut spare) = (room(count, "compact")?, room(count, "compact")?);
        let mut raw: Vec<S::Raw> = Vec::new();
        raw.try_reserve_exact(count).map_err(|_| {
            Fault::new(
                Status::OutOfHostMemory,
                "compact: no memory to hold the elements",
            )
        })?;
        let order = index_strides(op.x.dims(), 0);
        let none: &[i64] = &[0; vmlu_abi::tensor::MAX_DIMS];
        let inverse = op.inverse.as_ref().map_or(none, |t| t.strides());
        let walk = ordered(op.x.dims(), [op.x.strides(), inverse, &order[..]]);
        let mut pace = Pace::new(self.env);
        walk.rows(0..walk.total(), usize::MAX, [0; 3], |at, along, n| {
            keys::<S>(&self.x, at[0], along[0], n, &mut pace, |_, tile, _| {
                let first = raw.len();
                pairs.extend(
                    tile.iter()
                        .enumerate()
                        .map(|(i, v)| (S::key(*v), (first + i) as u32)),
                );
                raw.extend_from_slice(tile);
                Ok(())
            })
        })?;
        sort(&mut pairs, &mut spare, &mut pace)?;
        let step = op.out.strides()[0] as isize;
        let counts_step = op.counts.as_ref().map_or(0, |t| t.strides()[0] as isize);
        let mut places: Vec<i64> = vec![0; if self.inverse.is_some() { count } else { 0 }];
        let (mut found, mut start) = (0usize, 0usize);
        while start < count {
            let key = pairs[start].0;
            let mut end = start + 1;
            // No NaN equals another.
            let number = key != u64::MAX || !op_is_float(op);
            while number && end < count && pairs[end].0 == key {
                end += 1;
                pace.did(1)?;
            }
            if found >= self.limit() {
                return Err(self.too_many());
            }
            self.out
                .store(found as isize * step, 1, &[raw[pairs[start].1 as usize]]);
            if let Some(counts) = &self.counts {
                counts.store(found as isize * counts_step, 1, &[(end - start) as i64]);
            }
            if self.inverse.is_some() {
                for (_, p) in &pairs[start..end] {
                    places[*p as usize] = found as i64;
                }
            }
            found += 1;
            start = end;
            pace.did(8)?;
        }
        if let Some(view) = &self.inverse {
            split(self.env, walk.total(), 32 * TILE, |range| {
                let mut pace = Pace::new(self.env);
                walk.rows(range, TILE, [0; 3], |at, along, n| {
                    let first = at[2] as usize;
                    if along[2] == 1 || n == 1 {
                        view.store(at[1], along[1], &places[first..first + n]);
                    } else {
                        for i in 0..n {
                            let place = places[first + i * along[2] as usize];
                            view.store(at[1] + i as isize * along[1], 1, &[place]);
                        }
                    }
                    pace.did(n)
                })
            })?;
        }
        Ok(found)
    }
}

fn op_is_float(op: &Checked) -> bool {
    vmlu_ops::tensor::is_float(op.x.dtype)
}
