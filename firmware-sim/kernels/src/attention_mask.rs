//! The pass of `attention_backward` that gives the gradient of the mask. Each block of it is one task, which goes over all that it is a sum of.

use std::ops::Range;

use vmlu_ops::attention_backward::{MaskGradient, QUERIES};

use super::attention::{rescale, sum};
use super::attention_backward::{at_strides, Job, Scores, BLOCK};
use super::env::Fault;
use super::floats::Float;
use super::gemm::{Arith, Feed};
use super::number::TILE;
use super::view::View;
use super::walk::split;

/// A block of the gradient: for each axis of `[batch, heads, queries, keys]` what it is a sum over, or, of queries and keys, has.
struct Block {
    batch: Range<usize>,
    heads: Range<usize>,
    queries: Range<usize>,
    keys: Range<usize>,
}

impl Job<'_, '_> {
    /// Computes the gradient of the mask, if it is asked for.
    pub(super) fn mask_gradient<A, F>(&self, block: usize) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
    {
        let (Some(to), Some(view)) = (&self.op.dmask, self.dmask) else {
            return Ok(());
        };
        if to.tensor.elements == 0 {
            return Ok(());
        }
        let [batch, heads, queries] = [0, 1, 2].map(|i| self.op.q.dims()[i] as usize);
        let sizes = [batch, heads, queries, self.op.keys as usize];
        let steps = [1, 1, QUERIES, BLOCK];
        let counts: [usize; 4] = std::array::from_fn(|i| match to.kept[i] {
            true => sizes[i].div_ceil(steps[i]),
            false => 1,
        });
        split(self.env, counts.iter().product(), 1, |range| {
            for index in range {
                let mut rest = index;
                let mut ranges = [0, 1, 2, 3].map(|i| 0..sizes[i]);
                for i in (0..4).rev() {
                    let number = rest % counts[i];
                    rest /= counts[i];
                    if to.kept[i] {
                        let start = number * steps[i];
                        ranges[i] = start..sizes[i].min(start + steps[i]);
                    }
                }
                let [batch, heads, queries, keys] = ranges;
                let part = Block {
                    batch,
                    heads,
                    queries,
                    keys,
                };
                self.mask_block::<A, F>(block, to, view, &part)?;
            }
            Ok(())
        })
    }

    fn mask_block<A, F>(
        &self,
        block: usize,
        to: &MaskGradient,
        view: &View<'_>,
        part: &Block,
    ) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
    {
        let (each_query, each_key) = (to.kept[2], to.kept[3]);
        let columns = if each_key { part.keys.len() } else { 1 };
        let rows = if each_query { part.queries.len() } else { 1 };
        let mut total = vec![0f32; rows * columns];
        let mut sums = vec![0f32; rows * columns];
        let mut all = Scores::default();
        for b in part.batch.clone() {
            for head in part.heads.clone() {
                for start in part.queries.clone().step_by(QUERIES) {
                    let queries = start..part.queries.end.min(start + QUERIES);
                    let last = queries.clone().map(|q| self.visible(b, q)).max();
                    let last = last.unwrap_or(0).min(part.keys.end);
                    let count = queries.len();
                    let notes = self.notes(b, head, queries)?;
                    sums.fill(0.0);
                    for first in (part.keys.start..last).step_by(BLOCK) {
                        let keys = first..last.min(first + BLOCK);
                        self.changes::<A, F>(block, &notes, keys.clone(), &mut all)?;
                        for (i, row) in all.change.chunks(keys.len()).take(count).enumerate() {
                            let row_sums = &mut sums[if each_query { i * columns } else { 0 }..];
                            if each_key {
                                let at = first - part.keys.start;
                                rescale(&mut row_sums[at..][..row.len()], 1.0, row);
                            } else {
                                sum(row, &mut row_sums[0]);
                            }
                        }
                    }
                    rescale(&mut total, 1.0, &sums);
                }
            }
        }
        self.env.check()?;
        // Axes that are summed over have the stride 0.
        let [b, head, query, key] =
            [&part.batch, &part.heads, &part.queries, &part.keys].map(|r| r.start);
        let step = to.strides[3] as isize;
        for (i, row) in total.chunks(columns).enumerate() {
            let place = at_strides(&to.strides, b, head, query + i) + key as isize * step;
            for (t, tile) in row.chunks(TILE).enumerate() {
                let place = place + (t * TILE) as isize * step;
                f32::store(to.tensor.dtype, view, place, step, tile);
            }
        }
        Ok(())
    }
}
