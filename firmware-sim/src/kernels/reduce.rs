//! Kernel of `vmlu_ops::reduce`.

use vmlu_ops::reduce::{Checked, Function, Reduce};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Elements whose partial result is found by itself: long reductions are spread over cores in blocks of this size.
const BLOCK: usize = 64 * TILE;
/// Most outputs for which that is done.
const FEW: usize = 64;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Reduce>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    with_storage!(op.x.dtype, S => {
        type C<T> = <T as Storage>::Compute;
        type A<T> = <C<T> as Number>::Sum;
        let wide = op.out.dtype != op.x.dtype;
        let store_sum = |at, step, sums: &[A<S>]| {
            if wide {
                // The rules allow I64 only, and for integers only, whose sums are i64.
                return out.store(at, step, sums);
            }
            let mut narrow = [C::<S>::default(); TILE];
            let narrow = &mut narrow[..sums.len()];
            for (n, s) in narrow.iter_mut().zip(sums) {
                *n = C::<S>::from_sum(*s);
            }
            S::store(&out, at, step, narrow);
        };
        let store = |at, step, values: &[C<S>]| S::store(&out, at, step, values);
        let load_sum = |at, step, to: &mut [A<S>]| {
            let mut narrow = [C::<S>::default(); TILE];
            let narrow = &mut narrow[..to.len()];
            S::load(&x, at, step, narrow);
            for (t, n) in to.iter_mut().zip(narrow) {
                *t = n.to_sum();
            }
        };
        let load = |at, step, to: &mut [C<S>]| S::load(&x, at, step, to);
        let divisor = A::<S>::from_count(reduced(&op));
        let same = |v| v;
        match op.function {
            Function::Sum => compute(&op, env, &load_sum, &store_sum, A::<S>::default(), &A::<S>::add, &same)?,
            Function::Mean => {
                let mean = |v: A<S>| v.div(divisor);
                compute(&op, env, &load_sum, &store_sum, A::<S>::default(), &A::<S>::add, &mean)?;
            }
            Function::Prod => compute(&op, env, &load_sum, &store_sum, A::<S>::ONE, &A::<S>::mul, &same)?,
            Function::Max => compute(&op, env, &load, &store, C::<S>::LOWEST, &Number::max, &|v| v)?,
            Function::Min => compute(&op, env, &load, &store, C::<S>::HIGHEST, &Number::min, &|v| v)?,
        }
    });
    Ok(op.cost().into())
}

/// Elements that one output is made of.
fn reduced(op: &Checked) -> usize {
    let dims = op.x.dims().iter().enumerate();
    // Saturating, since other axes may be empty; then nothing is computed.
    dims.filter(|(i, _)| op.axes >> i & 1 != 0)
        .fold(1usize, |p, (_, d)| p.saturating_mul(*d as usize))
}

type Load<'f, T> = &'f (dyn Fn(isize, isize, &mut [T]) + Sync);
type Store<'f, T> = &'f (dyn Fn(isize, isize, &[T]) + Sync);

/// Folds each output's elements, in the order of the walk over the reduced axes.
fn compute<T: Number>(
    op: &Checked,
    env: &dyn Env,
    load: Load<'_, T>,
    store: Store<'_, T>,
    start: T,
    fold: &(impl Fn(T, T) -> T + Sync),
    finish: &(impl Fn(T) -> T + Sync),
) -> Result<(), Fault> {
    let (mut kept_dims, mut reduced_dims) = (op.x.dims().to_vec(), op.x.dims().to_vec());
    for (i, (k, r)) in kept_dims.iter_mut().zip(&mut reduced_dims).enumerate() {
        *(if op.axes >> i & 1 != 0 { k } else { r }) = 1;
    }
    let kept = Walk::new(&kept_dims, [op.x.strides(), &op.out_strides[..]], 1);
    let inner = Walk::new(&reduced_dims, [op.x.strides()], 0);
    let plan = Plan {
        env,
        kept,
        inner,
        load,
        start,
        fold,
    };
    let (outputs, each) = (plan.kept.total(), plan.inner.total());
    if outputs == 0 {
        return Ok(());
    }
    if outputs <= FEW && each >= 2 * BLOCK {
        return plan.blocks(store, finish);
    }
    // Across outputs if they lie closer together than the elements of one.
    let step = plan.kept.inner_strides()[0].unsigned_abs();
    let columns = outputs > 1 && each > 1 && step < plan.inner.inner_strides()[0].unsigned_abs();
    let grain = (BLOCK / each.max(1)).clamp(1, BLOCK);
    let grain = if columns { grain.max(64) } else { grain };
    split(env, outputs, grain, |range| {
        let limit = if columns { TILE } else { 1 };
        plan.kept.rows(range, limit, [0; 2], |at, step, count| {
            let mut acc = [start; TILE];
            let acc = &mut acc[..count];
            if columns {
                plan.columns(at[0], step[0], acc)?;
            } else {
                acc[0] = plan.row(0..each, at[0])?;
            }
            acc.iter_mut().for_each(|v| *v = finish(*v));
            store(at[1], step[1], acc);
            Ok(())
        })
    })
}

struct Plan<'p, T, F> {
    env: &'p dyn Env,
    /// Outputs: strides of the input and of the output.
    kept: Walk<2>,
    /// Elements of one output.
    inner: Walk<1>,
    load: Load<'p, T>,
    start: T,
    fold: &'p F,
}

impl<T: Number, F: Fn(T, T) -> T + Sync> Plan<'_, T, F> {
    /// Folds some elements of the output whose first element is at `base`. Each tile is folded in eight interleaved chains, which are
    /// then folded in order.
    fn row(&self, range: std::ops::Range<usize>, base: isize) -> Result<T, Fault> {
        let mut pace = Pace::new(self.env);
        let mut acc = self.start;
        self.inner.rows(range, TILE, [base], |at, step, count| {
            let mut tile = [self.start; TILE];
            let tile = &mut tile[..count];
            (self.load)(at[0], step[0], tile);
            if count < 16 {
                for v in tile.iter() {
                    acc = (self.fold)(acc, *v);
                }
            } else {
                let mut lanes = [self.start; 8];
                let chunks = tile.chunks_exact(8);
                let rest = chunks.remainder();
                for chunk in chunks {
                    for (l, v) in lanes.iter_mut().zip(chunk) {
                        *l = (self.fold)(*l, *v);
                    }
                }
                for v in lanes.iter().chain(rest) {
                    acc = (self.fold)(acc, *v);
                }
            }
            pace.did(count)
        })?;
        Ok(acc)
    }

    /// Folds neighbouring outputs, whose first elements are at `base`, `base + step`, …
    fn columns(&self, base: isize, step: isize, acc: &mut [T]) -> Result<(), Fault> {
        let mut pace = Pace::new(self.env);
        let mut tile = [self.start; TILE];
        let tile = &mut tile[..acc.len()];
        self.inner
            .rows(0..self.inner.total(), TILE, [base], |at, along, count| {
                for i in 0..count {
                    (self.load)(at[0] + i as isize * along[0], step, tile);
                    for (a, v) in acc.iter_mut().zip(tile.iter()) {
                        *a = (self.fold)(*a, *v);
                    }
                    pace.did(tile.len())?;
                }
                Ok(())
            })
    }

    /// Few outputs of many elements: blocks of elements in parallel, folded in order.
    fn blocks(&self, store: Store<'_, T>, finish: &impl Fn(T) -> T) -> Result<(), Fault> {
        let each = self.inner.total();
        // At most 4,096 of them, so that the partial results stay few.
        let block = BLOCK.max(each.div_ceil(4096));
        let count = each.div_ceil(block);
        self.kept.rows(0..self.kept.total(), 1, [0; 2], |at, _, _| {
            let partial: Vec<std::sync::Mutex<T>> = (0..count)
                .map(|_| std::sync::Mutex::new(self.start))
                .collect();
            split(self.env, count, 1, |range| {
                for i in range {
                    let end = each.min((i + 1).saturating_mul(block));
                    let value = self.row(i * block..end, at[0])?;
                    *partial[i].lock().unwrap_or_else(|e| e.into_inner()) = value;
                }
                Ok(())
            })?;
            let mut acc = self.start;
            for p in partial {
                acc = (self.fold)(acc, p.into_inner().unwrap_or_else(|e| e.into_inner()));
            }
            store(at[1], 1, &[finish(acc)]);
            Ok(())
        })
    }
}
