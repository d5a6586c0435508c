//! Kernel of `vmlu_ops::scan`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::scan::{Checked, Function, Scan};
use vmlu_ops::tensor::is_float;

use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, with_whole, Number, Storage, TILE};
use super::reducers::{log_sum, Exponentials};
use super::view::View;
use super::walk::{split, Pace, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Scan>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    let indices = op
        .indices
        .as_ref()
        .map(|i| View::open(env, 2, i, Access::Write))
        .transpose()?;
    let job = Job {
        op: &op,
        env,
        x,
        out,
        indices,
    };
    if op.x.elements > 0 {
        if is_float(op.x.dtype) {
            with_float!(op.x.dtype, S => job.real::<S>()?);
        } else {
            with_whole!(op.x.dtype, S => job.number::<S>()?);
        }
    }
    Ok(op.cost().into())
}

struct Job<'j> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: View<'j>,
    out: View<'j>,
    indices: Option<View<'j>>,
}

impl Job<'_> {
    fn real<S: Storage<Compute: Real>>(&self) -> Result<(), Fault> {
        if self.op.function != Function::LogSumExp {
            return self.number::<S>();
        }
        use super::folding::Reducer;
        let sums = Exponentials::<S::Compute>(std::marker::PhantomData);
        self.each::<S, _>(sums.identity(), |acc, v| {
            *acc = sums.merge(*acc, [v.real(), if v.is_nan() { f64::NAN } else { 1.0 }]);
            S::Compute::of(log_sum(*acc))
        })
    }

    fn number<S: Storage>(&self) -> Result<(), Fault> {
        type Sum<S> = <<S as Storage>::Compute as Number>::Sum;
        let exclusive = self.op.exclusive;
        let step = move |acc: &mut Sum<S>, next: Sum<S>| {
            let old = std::mem::replace(acc, next);
            S::Compute::from_sum(if exclusive { old } else { next })
        };
        match self.op.function {
            Function::Sum => self.each::<S, _>(Sum::<S>::default(), move |acc, v| {
                let next = acc.add(v.to_sum());
                step(acc, next)
            }),
            Function::Prod => self.each::<S, _>(Sum::<S>::ONE, move |acc, v| {
                let next = acc.mul(v.to_sum());
                step(acc, next)
            }),
            Function::Max => self.extreme::<S>(|v, best| v >= best),
            _ => self.extreme::<S>(|v, best| v <= best),
        }
    }

    /// Rows along the axis, and whether neighbouring rows lie closer together than the elements of one.
    fn rows(&self) -> (Walk<3>, usize, [isize; 3], bool) {
        let op = self.op;
        let mut dims = op.x.dims().to_vec();
        let at = |s: &[i64]| s.get(op.axis).map_or(0, |s| *s as isize);
        let index: &[i64] = op.indices.as_ref().map_or(&[0; 8], |i| i.strides());
        let strides = [op.x.strides(), op.out.strides(), index];
        let along = strides.map(at);
        let count = dims.get(op.axis).map_or(1, |d| *d as usize);
        if let Some(d) = dims.get_mut(op.axis) {
            *d = 1;
        }
        let walk = Walk::new(&dims, strides, 1);
        let near = walk.inner_strides()[1].unsigned_abs();
        let columns = walk.total() > 1 && near < along[1].unsigned_abs();
        (walk, count, along, columns)
    }

    /// Runs `step(acc, element)` along each row.
    fn each<S: Storage, A: Copy + Send + Sync>(
        &self,
        identity: A,
        step: impl Fn(&mut A, S::Compute) -> S::Compute + Sync,
    ) -> Result<(), Fault> {
        let (rows, count, along, columns) = self.rows();
        let grain = (32 * TILE / count.max(1)).max(if columns { 64 } else { 1 });
        split(self.env, rows.total(), grain, |range| {
            let mut pace = Pace::new(self.env);
            let mut tile = [S::Compute::default(); TILE];
            let limit = if columns { TILE } else { 1 };
            let mut acc = vec![identity; limit];
            rows.rows(range, limit, [0; 3], |at, side, n| {
                acc.fill(identity);
                // Side by side, one position of the axis at a time; else as many as fit.
                let (lines, length) = if columns { (count, 1) } else { (1, count) };
                for line in 0..lines {
                    let offset = |t: usize| at[t] + line as isize * along[t];
                    let mut start = 0;
                    while start < length {
                        let n = if columns { n } else { TILE.min(length - start) };
                        let (dx, dy) = if columns {
                            (side[0], side[1])
                        } else {
                            (along[0], along[1])
                        };
                        let tile = &mut tile[..n];
                        let first = start as isize;
                        S::load(&self.x, offset(0) + first * dx, dx, tile);
                        if columns {
                            for (a, v) in acc.iter_mut().zip(tile.iter_mut()) {
                                *v = step(a, *v);
                            }
                        } else {
                            for v in tile.iter_mut() {
                                *v = step(&mut acc[0], *v);
                            }
                        }
                        S::store(&self.out, offset(1) + first * dy, dy, tile);
                        pace.did(n)?;
                        start += if columns { length } else { n };
                    }
                }
                Ok(())
            })
        })
    }

    fn extreme<S: Storage>(
        &self,
        wins: impl Fn(S::Compute, S::Compute) -> bool + Sync,
    ) -> Result<(), Fault> {
        let (rows, count, along, _) = self.rows();
        let grain = (32 * TILE / count.max(1)).max(1);
        let wide = self
            .op
            .indices
            .as_ref()
            .is_some_and(|i| i.dtype == DataType::I64);
        split(self.env, rows.total(), grain, |range| {
            let mut pace = Pace::new(self.env);
            let mut tile = [S::Compute::default(); TILE];
            let mut chosen = [0i64; TILE];
            rows.rows(range, 1, [0; 3], |at, _, _| {
                let mut best: Option<(S::Compute, i64)> = None;
                let mut start = 0;
                while start < count {
                    let n = TILE.min(count - start);
                    let (tile, chosen) = (&mut tile[..n], &mut chosen[..n]);
                    let offset = |t: usize| at[t] + start as isize * along[t];
                    S::load(&self.x, offset(0), along[0], tile);
                    for (i, (v, c)) in tile.iter_mut().zip(chosen.iter_mut()).enumerate() {
                        let next = match best {
                            Some((b, at)) if !(v.is_nan() || (!b.is_nan() && wins(*v, b))) => {
                                (b, at)
                            }
                            _ => (*v, (start + i) as i64),
                        };
                        best = Some(next);
                        (*v, *c) = next;
                    }
                    S::store(&self.out, offset(1), along[1], tile);
                    if let Some(view) = &self.indices {
                        if wide {
                            view.store(offset(2), along[2], chosen);
                        } else {
                            let short: Vec<i32> = chosen.iter().map(|c| *c as i32).collect();
                            view.store(offset(2), along[2], &short);
                        }
                    }
                    start += n;
                    pace.did(n)?;
                }
                Ok(())
            })
        })
    }
}
