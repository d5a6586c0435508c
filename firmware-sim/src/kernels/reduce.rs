//! Kernel of `vmlu_ops::reduce`.

use std::sync::Mutex;

use vmlu_ops::reduce::{Checked, Function, Reduce};

use super::env::{Access, Env, Fault, Work};
use super::fold::Fold;
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
        type Value<T> = <T as Storage>::Compute;
        type Sum<T> = <Value<T> as Number>::Sum;
        let fold = match op.function {
            Function::Sum | Function::Mean => Fold::Add,
            Function::Prod => Fold::Mul,
            Function::Max => Fold::Max,
            Function::Min => Fold::Min,
        };
        if matches!(fold, Fold::Max | Fold::Min) {
            compute::<Value<S>>(&op, env, fold, &|at, step, to| S::load(&x, at, step, to), &|at, step, values| {
                S::store(&out, at, step, values);
            })?;
        } else {
            let mean = op.function == Function::Mean;
            let divisor = Sum::<S>::from_count(reduced(&op));
            let wide = op.out.dtype != op.x.dtype;
            let load = |at, step, to: &mut [Sum<S>]| {
                let mut narrow = [Value::<S>::default(); TILE];
                let narrow = &mut narrow[..to.len()];
                S::load(&x, at, step, narrow);
                for (t, n) in to.iter_mut().zip(narrow) {
                    *t = n.to_sum();
                }
            };
            let store = |at, step, sums: &[Sum<S>]| {
                if wide {
                    // The rules allow I64 only, and for integers only, whose sums are i64.
                    return out.store(at, step, sums);
                }
                let mut narrow = [Value::<S>::default(); TILE];
                let narrow = &mut narrow[..sums.len()];
                for (n, s) in narrow.iter_mut().zip(sums) {
                    *n = Value::<S>::from_sum(if mean { s.div(divisor) } else { *s });
                }
                S::store(&out, at, step, narrow);
            };
            compute::<Sum<S>>(&op, env, fold, &load, &store)?;
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
    fold: Fold,
    load: Load<'_, T>,
    store: Store<'_, T>,
) -> Result<(), Fault> {
    let (mut kept_dims, mut reduced_dims) = (op.x.dims().to_vec(), op.x.dims().to_vec());
    for (i, (k, r)) in kept_dims.iter_mut().zip(&mut reduced_dims).enumerate() {
        *(if op.axes >> i & 1 != 0 { k } else { r }) = 1;
    }
    if op.out.elements == 0 {
        return Ok(());
    }
    let plan = Plan {
        env,
        kept: Walk::new(&kept_dims, [op.x.strides(), &op.out_strides[..]], 1),
        inner: Walk::new(&reduced_dims, [op.x.strides()], 0),
        load,
        store,
        fold,
    };
    let (outputs, each) = (plan.kept.total(), plan.inner.total());
    if outputs <= FEW && each >= 2 * BLOCK {
        return plan.blocks();
    }
    // Across outputs if they lie closer together than the elements of one.
    let near = plan.kept.inner_strides()[0].unsigned_abs();
    let columns = outputs > 1 && each > 1 && near < plan.inner.inner_strides()[0].unsigned_abs();
    let grain = (BLOCK / each.max(1)).max(if columns { 64 } else { 1 });
    split(env, outputs, grain, |range| {
        let limit = if columns { TILE } else { 1 };
        plan.kept.rows(range, limit, [0; 2], |at, step, count| {
            let mut acc = [fold.identity(); TILE];
            let acc = &mut acc[..count];
            if columns {
                plan.columns(at[0], step[0], acc)?;
            } else {
                plan.row(0..each, at[0], &mut acc[0])?;
            }
            store(at[1], step[1], acc);
            Ok(())
        })
    })
}

struct Plan<'p, T> {
    env: &'p dyn Env,
    /// Outputs: strides of the input and of the output.
    kept: Walk<2>,
    /// Elements of one output.
    inner: Walk<1>,
    load: Load<'p, T>,
    store: Store<'p, T>,
    fold: Fold,
}

impl<T: Number> Plan<'_, T> {
    /// Folds some elements of the output whose first element is at `base`.
    fn row(&self, range: std::ops::Range<usize>, base: isize, acc: &mut T) -> Result<(), Fault> {
        let mut pace = Pace::new(self.env);
        let mut tile = [T::default(); TILE];
        self.inner.rows(range, TILE, [base], |at, step, count| {
            let tile = &mut tile[..count];
            (self.load)(at[0], step[0], tile);
            self.fold.tile(acc, tile);
            pace.did(count)
        })
    }

    /// Folds neighbouring outputs, whose first elements are at `base`, `base + step`, …
    fn columns(&self, base: isize, step: isize, acc: &mut [T]) -> Result<(), Fault> {
        let mut pace = Pace::new(self.env);
        let mut tile = [T::default(); TILE];
        let tile = &mut tile[..acc.len()];
        let total = self.inner.total();
        self.inner
            .rows(0..total, usize::MAX, [base], |at, along, count| {
                for i in 0..count {
                    (self.load)(at[0] + i as isize * along[0], step, tile);
                    self.fold.columns(acc, tile);
                    pace.did(tile.len())?;
                }
                Ok(())
            })
    }

    /// Few outputs of many elements: blocks of elements in parallel, folded in order.
    fn blocks(&self) -> Result<(), Fault> {
        let each = self.inner.total();
        // At most 4,096 of them, so that the partial results stay few.
        let block = BLOCK.max(each.div_ceil(4096));
        let count = each.div_ceil(block);
        self.kept.rows(0..self.kept.total(), 1, [0; 2], |at, _, _| {
            let partial = Mutex::new(vec![self.fold.identity::<T>(); count]);
            split(self.env, count, 1, |range| {
                for i in range {
                    let end = each.min((i + 1).saturating_mul(block));
                    let mut acc = self.fold.identity();
                    self.row(i * block..end, at[0], &mut acc)?;
                    partial.lock().unwrap_or_else(|e| e.into_inner())[i] = acc;
                }
                Ok(())
            })?;
            let partial = partial.into_inner().unwrap_or_else(|e| e.into_inner());
            let total = partial.into_iter().reduce(|a, b| self.fold.pair(a, b));
            (self.store)(at[1], 1, &[total.unwrap_or(self.fold.identity())]);
            Ok(())
        })
    }
}
