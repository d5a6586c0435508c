//! Folding many positions of several tensors into fewer, in an order that shapes and strides fix.
//!
//! Three ways: each output's elements as rows; neighbouring outputs side by side, where they lie closer together than the elements of one; and
//! few outputs of many elements in blocks, on several cores, whose partial results are merged in order.

use std::ops::Range;
use std::sync::Mutex;

use super::env::{Env, Fault};
use super::number::TILE;
use super::walk::{split, Aligned, Pace, Walk};

/// Tensors of a [`Plan`]: up to five that are read, and the output. Those that are not used have strides of 0.
pub const TENSORS: usize = 6;
/// Elements whose partial result is found by itself.
const BLOCK: usize = 64 * TILE;
/// Most outputs, as rows, for which long folds are spread over cores.
const FEW: usize = 64;

/// Most outputs side by side for which long folds fall into blocks of whole rows.
const WIDE: usize = 16 * TILE;

/// What is done with the elements.
pub trait Reducer: Sync {
    /// An element, as it is loaded.
    type Value: Copy + Default + Send;
    /// A partial result.
    type Acc: Copy + Send;

    /// The result of no elements.
    fn identity(&self) -> Self::Acc;
    /// Adds a tile.
    fn tile(&self, acc: &mut Self::Acc, tile: &[Self::Value]);
    /// Adds each element to an accumulator of its own.
    fn columns(&self, acc: &mut [Self::Acc], tile: &[Self::Value]);
    /// Joins two partial results, the first of what comes first.
    fn merge(&self, a: Self::Acc, b: Self::Acc) -> Self::Acc;
}

/// Offsets or strides of the tensors.
pub type At = [isize; TENSORS];

/// A fold. Tensor 0 decides in which order elements are walked; the last is the output.
pub struct Plan<'p, R: Reducer> {
    env: &'p dyn Env,
    kept: Walk<TENSORS>,
    inner: Walk<TENSORS>,
    reducer: &'p R,
    load: Load<'p, R>,
}

/// Loads elements at some offsets and strides.
pub type Load<'p, R> = &'p (dyn Fn(At, At, &mut [<R as Reducer>::Value]) + Sync);
type Store<'p, R> = &'p (dyn Fn(isize, isize, &[<R as Reducer>::Acc]) + Sync);

/// How a space falls into outputs and the elements of each.
pub struct Space {
    kept: Walk<TENSORS>,
    inner: Walk<TENSORS>,
}

impl Space {
    /// `dims` and the tensors' strides over them; the axes of a set are folded.
    pub fn new(dims: &[u64], axes: u32, strides: [&[i64]; TENSORS]) -> Self {
        let (mut kept, mut folded) = (dims.to_vec(), dims.to_vec());
        for (i, (k, f)) in kept.iter_mut().zip(&mut folded).enumerate() {
            *(if axes >> i & 1 != 0 { k } else { f }) = 1;
        }
        Self {
            kept: Walk::new(&kept, strides, TENSORS - 1),
            inner: Walk::new(&folded, strides, 0),
        }
    }

    /// Whether neighbouring outputs are folded side by side.
    pub fn is_columns(&self) -> bool {
        let near = self.kept.inner_strides()[0].unsigned_abs();
        let far = self.inner.inner_strides()[0].unsigned_abs();
        self.kept.total() > 1 && self.inner.total() > 1 && near < far
    }

    /// Elements of each output.
    pub fn each(&self) -> usize {
        self.inner.total()
    }
}

/// Folds `load`'s elements and gives the results to `store(offset, stride, results)`.
pub fn fold<R: Reducer>(
    env: &dyn Env,
    space: Space,
    reducer: &R,
    load: Load<'_, R>,
    store: Store<'_, R>,
) -> Result<(), Fault> {
    let columns = space.is_columns();
    let plan = Plan {
        env,
        kept: space.kept,
        inner: space.inner,
        reducer,
        load,
    };
    let (outputs, each) = (plan.kept.total(), plan.inner.total());
    if outputs == 0 {
        return Ok(());
    }
    let few = if columns { WIDE } else { FEW };
    let long = if columns {
        outputs.saturating_mul(each) >= 4 * BLOCK
    } else {
        each >= 2 * BLOCK
    };
    if outputs <= few && long {
        return plan.blocks(columns, store);
    }
    // Wide pieces of rows, where there are enough for all cores.
    let side = if outputs > WIDE { TILE } else { 64 };
    let grain = (BLOCK / each.max(1)).max(if columns { side } else { 1 });
    split(env, outputs, grain, |range| {
        let limit = if columns { TILE } else { 1 };
        let mut acc = vec![reducer.identity(); limit];
        plan.kept
            .rows(range, limit, [0; TENSORS], |at, step, count| {
                let acc = &mut acc[..count];
                acc.fill(reducer.identity());
                if columns {
                    plan.columns(0..each, at, step, acc)?;
                } else {
                    plan.row(0..each, at, &mut acc[0])?;
                }
                store(at[TENSORS - 1], step[TENSORS - 1], acc);
                Ok(())
            })
    })
}

impl<R: Reducer> Plan<'_, R> {
    /// Folds some elements of the output whose first element is at `base`.
    fn row(&self, range: Range<usize>, base: At, acc: &mut R::Acc) -> Result<(), Fault> {
        let mut pace = Pace::new(self.env);
        let mut tile = Aligned([R::Value::default(); TILE]);
        self.inner.rows(range, TILE, base, |at, step, count| {
            let tile = &mut tile.0[..count];
            (self.load)(at, step, tile);
            self.reducer.tile(acc, tile);
            pace.did(count)
        })
    }

    /// Folds neighbouring outputs, whose first elements are at `base`, `base + step`, …
    fn columns(
        &self,
        range: Range<usize>,
        base: At,
        step: At,
        acc: &mut [R::Acc],
    ) -> Result<(), Fault> {
        let mut pace = Pace::new(self.env);
        let mut tile = [R::Value::default(); TILE];
        let tile = &mut tile[..acc.len()];
        self.inner
            .rows(range, usize::MAX, base, |at, along, count| {
                let mut at = at;
                for _ in 0..count {
                    (self.load)(at, step, tile);
                    self.reducer.columns(acc, tile);
                    for (a, s) in at.iter_mut().zip(along) {
                        *a += s;
                    }
                    pace.did(tile.len())?;
                }
                Ok(())
            })
    }

    /// Few outputs of many elements: blocks of elements in parallel, merged in order.
    fn blocks(&self, columns: bool, store: Store<'_, R>) -> Result<(), Fault> {
        let each = self.inner.total();
        let wide = if columns { self.kept.total() } else { 1 };
        // Few enough that the partial results stay small.
        let most = if columns { 256 } else { 4096 };
        let block = (BLOCK / wide).max(each.div_ceil(most)).max(1);
        let count = each.div_ceil(block);
        let limit = if columns { TILE } else { 1 };
        let kept = 0..self.kept.total();
        self.kept.rows(kept, limit, [0; TENSORS], |at, step, n| {
            let partial = Mutex::new(vec![self.reducer.identity(); count * n]);
            split(self.env, count, 1, |range| {
                let mut acc = vec![self.reducer.identity(); n];
                for i in range {
                    let part = i * block..each.min((i + 1).saturating_mul(block));
                    acc.fill(self.reducer.identity());
                    if columns {
                        self.columns(part, at, step, &mut acc)?;
                    } else {
                        self.row(part, at, &mut acc[0])?;
                    }
                    let mut partial = partial.lock().unwrap_or_else(|e| e.into_inner());
                    partial[i * n..][..n].copy_from_slice(&acc);
                }
                Ok(())
            })?;
            let mut partial = partial.into_inner().unwrap_or_else(|e| e.into_inner());
            let (total, rest) = partial.split_at_mut(n);
            for part in rest.chunks(n) {
                for (t, p) in total.iter_mut().zip(part) {
                    *t = self.reducer.merge(*t, *p);
                }
            }
            store(at[TENSORS - 1], step[TENSORS - 1], total);
            Ok(())
        })
    }
}
