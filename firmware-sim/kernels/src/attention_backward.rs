//! Kernel of `vmlu_ops::attention_backward`: one pass over blocks of queries for `dq`, one over blocks of keys for `dk` and `dv`. Each computes the
//! weights anew, so that each element is summed by one task, in a fixed order.

use std::marker::PhantomData;
use std::ops::Range;

use vmlu_ops::attention::{Causal, KEY_BLOCK};
use vmlu_ops::attention_backward::{AttentionBackward, Checked};
use vmlu_ops::tensor::Tensor;

use super::attention::{
    add_mask, by_type, checked_lengths, rescale, sum, times, Gathered, Values, Weight, QUERIES,
};
use super::env::{Access, Env, Fault, Work};
use super::epilogue::Narrow;
use super::floats::Float;
use super::gemm::{Arith, Feed, Private, Side};
use super::math::Real;
use super::number::TILE;
use super::private_product::each_row;
use super::simd::multiversion;
use super::view::View;
use super::walk::split;

/// Rows of a task: queries of the first pass, keys of the second.
const ROWS: usize = QUERIES;
/// What a task goes over at once: keys of the first pass, queries of the second.
const BLOCK: usize = KEY_BLOCK;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<AttentionBackward>(body)?;
    let read = |i, t| View::open(env, i, t, Access::Read);
    let write = |i, t| View::open(env, i, t, Access::Write);
    let (q, k, v) = (read(0, &op.q)?, read(1, &op.k)?, read(2, &op.v)?);
    let (out, dout, lse) = (read(3, &op.out)?, read(4, &op.dout)?, read(5, &op.lse)?);
    let mask = match &op.mask {
        Some((tensor, _)) => Some(read(6, tensor)?),
        None => None,
    };
    let lengths = match &op.lengths {
        Some(tensor) => Some((tensor, read(7, tensor)?)),
        None => None,
    };
    let (dq, dk, dv) = (write(8, &op.dq)?, write(9, &op.dk)?, write(10, &op.dv)?);
    let batch = op.q.dims()[0] as usize;
    let lengths = checked_lengths(
        "attention_backward",
        7,
        lengths.as_ref().map(|(t, v)| (*t, v)),
        batch,
        op.k.dims()[2],
    )?;
    let job = Job {
        op: &op,
        env,
        q: &q,
        k: &k,
        v: &v,
        out: &out,
        dout: &dout,
        lse: &lse,
        mask: mask.as_ref(),
        dq: &dq,
        dk: &dk,
        dv: &dv,
        lengths,
    };
    by_type!(job, op.q.dtype)?;
    Ok(op.cost().into())
}

multiversion! {
    /// `scores = scores - by`, element by element.
    fn subtract_each(scores: &mut [f32], by: &[f32]) {
        for (s, b) in scores.iter_mut().zip(by) {
            *s -= *b;
        }
    }

    fn subtract_one(scores: &mut [f32], by: f32) {
        scores.iter_mut().for_each(|s| *s -= by);
    }

    /// `change = weights · (change - delta)`.
    fn change_each(change: &mut [f32], weights: &[f32], delta: &[f32]) {
        for ((c, w), d) in change.iter_mut().zip(weights).zip(delta) {
            *c = *w * (*c - *d);
        }
    }

    fn change_one(change: &mut [f32], weights: &[f32], delta: f32) {
        for (c, w) in change.iter_mut().zip(weights) {
            *c = *w * (*c - delta);
        }
    }

    fn multiply(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= *b;
        }
    }
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    q: &'j View<'a>,
    k: &'j View<'a>,
    v: &'j View<'a>,
    out: &'j View<'a>,
    dout: &'j View<'a>,
    lse: &'j View<'a>,
    mask: Option<&'j View<'a>>,
    dq: &'j View<'a>,
    dk: &'j View<'a>,
    dv: &'j View<'a>,
    lengths: Vec<usize>,
}

/// Where a row of the last axis begins.
fn at(tensor: &Tensor, b: usize, head: usize, row: usize) -> isize {
    at_strides(tensor.strides(), b, head, row)
}

fn at_strides(strides: &[i64], b: usize, head: usize, row: usize) -> isize {
    b as isize * strides[0] as isize
        + head as isize * strides[1] as isize
        + row as isize * strides[2] as isize
}

/// Some rows of one head of an operand.
struct Rows<'r, 'a> {
    view: &'r View<'a>,
    tensor: &'r Tensor,
    b: usize,
    head: usize,
    start: usize,
    count: usize,
}

impl<'r, 'a> Rows<'r, 'a> {
    /// As the lines of a product.
    fn lines<F: Feed>(
        &self,
    ) -> Gathered<'r, 'a, F, impl Fn(usize) -> isize + Sync + use<'r, 'a, F>> {
        let (tensor, b, head, start) = (self.tensor, self.b, self.head, self.start);
        Gathered {
            view: self.view,
            place: move |l: usize| at(tensor, b, head, start + l),
            lines: self.count,
            depth: tensor.strides()[3] as isize,
            length: tensor.dims()[3] as usize,
            feed: PhantomData,
        }
    }

    /// As its depth.
    fn depth<F: Feed>(
        &self,
    ) -> Values<'r, 'a, F, impl Fn(usize) -> (isize, usize) + Sync + use<'r, 'a, F>> {
        let (tensor, b, head, start) = (self.tensor, self.b, self.head, self.start);
        Values {
            view: self.view,
            place: move |row: usize| (at(tensor, b, head, start + row), usize::MAX),
            key: tensor.strides()[2] as isize,
            column: tensor.strides()[3] as isize,
            columns: tensor.dims()[3] as usize,
            keys: self.count,
            feed: PhantomData,
        }
    }
}

impl Job<'_, '_> {
    fn compute<A, F, AV, W, FV, O>(&self, block: usize) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
        AV: Arith<Acc = f32>,
        W: Weight<Word = AV::Word>,
        FV: Feed<Word = AV::Word>,
        O: Narrow<Compute = f32>,
    {
        let [batch, heads, queries, _] = [0, 1, 2, 3].map(|i| self.op.q.dims()[i] as usize);
        let [groups, keys] = [1, 2].map(|i| self.op.k.dims()[i] as usize);
        // Tensors without elements may have any number of rows.
        if self.op.dq.elements > 0 {
            let blocks = queries.div_ceil(ROWS);
            split(self.env, batch * heads * blocks, 1, |range| {
                for index in range {
                    // Late blocks first: causal ones have more to do.
                    let (element, start) = (index / blocks, (blocks - 1 - index % blocks) * ROWS);
                    let rows = start..queries.min(start + ROWS);
                    let (b, head) = (element / heads, element % heads);
                    self.queries::<A, F, AV, W, FV, O>(block, b, head, rows)?;
                }
                Ok(())
            })?;
        }
        if self.op.dk.elements > 0 || self.op.dv.elements > 0 {
            let blocks = keys.div_ceil(ROWS);
            split(self.env, batch * groups * blocks, 1, |range| {
                for index in range {
                    let (element, start) = (index / blocks, index % blocks * ROWS);
                    let rows = start..keys.min(start + ROWS);
                    let (b, group) = (element / groups, element % groups);
                    self.keys::<A, F, AV, W, FV, O>(block, b, group, rows)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many keys a query sees.
    fn visible(&self, b: usize, query: usize) -> usize {
        let queries = self.op.q.dims()[2] as usize;
        self.op.causal.visible(query, queries, self.lengths[b])
    }

    /// The first query that sees a key.
    fn first_query(&self, b: usize, key: usize) -> usize {
        match self.op.causal {
            Causal::None => 0,
            Causal::Start => key,
            Causal::End => (key + self.op.q.dims()[2] as usize).saturating_sub(self.lengths[b]),
        }
    }

    /// What some queries have: the logarithm of their sum, infinite if they see nothing, and the sum of `dout · out`.
    fn notes(
        &self,
        b: usize,
        head: usize,
        queries: Range<usize>,
    ) -> Result<(Vec<f32>, Vec<f32>), Fault> {
        let op = self.op;
        let mut lse = vec![0f32; queries.len()];
        let from = at_strides(op.lse.strides(), b, head, queries.start);
        self.lse.load(from, op.lse.strides()[2] as isize, &mut lse);
        for l in &mut lse {
            *l = if *l == f32::NEG_INFINITY {
                f32::INFINITY
            } else {
                *l
            };
        }
        let columns = op.out.dims()[3] as usize;
        let mut delta = vec![0f32; queries.len()];
        let (mut a, mut c) = ([0f32; TILE], [0f32; TILE]);
        for (query, delta) in queries.zip(&mut delta) {
            for column in (0..columns).step_by(TILE) {
                let n = TILE.min(columns - column);
                let load = |view: &View<'_>, tensor: &Tensor, to: &mut [f32]| {
                    let stride = tensor.strides()[3] as isize;
                    let from = at(tensor, b, head, query) + column as isize * stride;
                    <f32 as Float>::load(tensor.dtype, view, from, stride, to);
                };
                load(self.out, &op.out, &mut a[..n]);
                load(self.dout, &op.dout, &mut c[..n]);
                multiply(&mut a[..n], &c[..n]);
                sum(&a[..n], delta);
            }
        }
        self.env.check()?;
        Ok((lse, delta))
    }

    /// `to` becomes the product of two operands' lines.
    fn lines_product<A: Arith<Acc = f32>>(
        &self,
        block: usize,
        words: usize,
        a: &dyn Side<A::Word>,
        b: &dyn Side<A::Word>,
        to: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        let columns = b.lines();
        to.resize(a.lines() * columns, 0.0);
        each_row::<A>(self.env, (words, block), a, b, |row, some, sums| {
            to[row * columns..][some].copy_from_slice(sums);
        })
    }

    /// `to += weights @ b`, weights of `count` rows of `length`.
    #[allow(clippy::too_many_arguments)]
    fn weigh<AV: Arith<Acc = f32>, W: Weight<Word = AV::Word>>(
        &self,
        block: usize,
        weights: &[f32],
        count: usize,
        length: usize,
        b: &dyn Side<AV::Word>,
        narrow: &mut Vec<W::Element>,
        to: &mut [f32],
    ) -> Result<(), Fault> {
        narrow.resize(count * length, W::Element::default());
        W::weights(weights, narrow);
        let side = Private::<W> {
            data: narrow,
            pitch: length,
            lines: count,
            length,
        };
        let columns = b.lines();
        let words = (W::words(length), block);
        each_row::<AV>(self.env, words, &side, b, |row, some, sums| {
            rescale(&mut to[row * columns..][some], 1.0, sums);
        })
    }

    /// Stores rows of a gradient.
    fn store<O: Narrow<Compute = f32>>(
        &self,
        (view, tensor): (&View<'_>, &Tensor),
        (b, head, start): (usize, usize, usize),
        values: &[f32],
    ) {
        let columns = tensor.dims()[3] as usize;
        let stride = tensor.strides()[3] as isize;
        let mut raw = [O::Raw::default(); TILE];
        for (i, row) in values.chunks(columns.max(1)).enumerate() {
            for (t, tile) in row.chunks(TILE).enumerate() {
                let raw = &mut raw[..tile.len()];
                O::narrow_all(tile, raw);
                let to = at(tensor, b, head, start + i) + (t * TILE) as isize * stride;
                view.store(to, stride, raw);
            }
        }
    }

    /// Gradient of some queries of one head.
    fn queries<A, F, AV, W, FV, O>(
        &self,
        block: usize,
        b: usize,
        head: usize,
        queries: Range<usize>,
    ) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
        AV: Arith<Acc = f32>,
        W: Weight<Word = AV::Word>,
        FV: Feed<Word = AV::Word>,
        O: Narrow<Compute = f32>,
    {
        let op = self.op;
        let (start, count) = (queries.start, queries.len());
        let shared = op.q.dims()[1] / op.k.dims()[1];
        let group = head / shared as usize;
        let rows = |view, tensor, head, start, count| Rows {
            view,
            tensor,
            b,
            head,
            start,
            count,
        };
        let (lse, delta) = self.notes(b, head, queries.clone())?;
        let (width, columns) = (op.q.dims()[3] as usize, op.v.dims()[3] as usize);
        let mut result = vec![0f32; count * width];
        let (mut scores, mut change, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        let last = queries
            .clone()
            .map(|q| self.visible(b, q))
            .max()
            .unwrap_or(0);
        let query_side = rows(self.q, &op.q, head, start, count).lines::<F>();
        let change_side = rows(self.dout, &op.dout, head, start, count).lines::<F>();
        for first in (0..last).step_by(BLOCK) {
            let keys = BLOCK.min(last - first);
            let key_rows = rows(self.k, &op.k, group, first, keys);
            let value_rows = rows(self.v, &op.v, group, first, keys);
            let key_side = key_rows.lines::<F>();
            self.lines_product::<A>(block, F::words(width), &query_side, &key_side, &mut scores)?;
            let value_side = value_rows.lines::<F>();
            let words = F::words(columns);
            self.lines_product::<A>(block, words, &change_side, &value_side, &mut change)?;
            for (i, query) in queries.clone().enumerate() {
                let row = &mut scores[i * keys..][..keys];
                let seen = self.visible(b, query).saturating_sub(first).min(keys);
                let (shown, hidden) = row.split_at_mut(seen);
                times(shown, op.scale as f32);
                if let (Some((tensor, strides)), Some(view)) = (&op.mask, self.mask) {
                    let step = strides[3] as isize;
                    let from = at_strides(strides, b, head, query) + first as isize * step;
                    add_mask(tensor.dtype, view, from, step, shown);
                }
                subtract_one(shown, lse[i]);
                f32::exp_all(shown);
                hidden.fill(0.0);
                let change = &mut change[i * keys..][..keys];
                change_one(change, row, delta[i]);
                change[seen..].fill(0.0);
            }
            self.env.check()?;
            let side = key_rows.depth::<FV>();
            self.weigh::<AV, W>(block, &change, count, keys, &side, &mut narrow, &mut result)?;
        }
        times(&mut result, op.scale as f32);
        self.store::<O>((self.dq, &op.dq), (b, head, start), &result);
        Ok(())
    }

    /// Gradients of some keys and values of one group.
    fn keys<A, F, AV, W, FV, O>(
        &self,
        block: usize,
        b: usize,
        group: usize,
        keys: Range<usize>,
    ) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
        AV: Arith<Acc = f32>,
        W: Weight<Word = AV::Word>,
        FV: Feed<Word = AV::Word>,
        O: Narrow<Compute = f32>,
    {
        let op = self.op;
        let start = keys.start;
        let shared = (op.q.dims()[1] / op.k.dims()[1]) as usize;
        let queries = op.q.dims()[2] as usize;
        let rows = |view, tensor, head, start, count| Rows {
            view,
            tensor,
            b,
            head,
            start,
            count,
        };
        let (width, columns) = (op.q.dims()[3] as usize, op.v.dims()[3] as usize);
        let mut dk = vec![0f32; keys.len() * width];
        let mut dv = vec![0f32; keys.len() * columns];
        let (mut scores, mut change, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        // Keys beyond the length have no part in anything.
        let count = self.lengths[b].min(keys.end).saturating_sub(start);
        let key_side = rows(self.k, &op.k, group, start, count).lines::<F>();
        let value_side = rows(self.v, &op.v, group, start, count).lines::<F>();
        let from = self.first_query(b, start) / BLOCK * BLOCK;
        let heads = group * shared..(group + 1) * shared;
        let heads = if count == 0 { 0..0 } else { heads };
        for head in heads {
            for first in (from..queries).step_by(BLOCK) {
                let some = BLOCK.min(queries - first);
                let (lse, delta) = self.notes(b, head, first..first + some)?;
                let query_rows = rows(self.q, &op.q, head, first, some);
                let change_rows = rows(self.dout, &op.dout, head, first, some);
                let query_side = query_rows.lines::<F>();
                let words = F::words(width);
                self.lines_product::<A>(block, words, &key_side, &query_side, &mut scores)?;
                let change_side = change_rows.lines::<F>();
                let words = F::words(columns);
                self.lines_product::<A>(block, words, &value_side, &change_side, &mut change)?;
                for i in 0..count {
                    let key = start + i;
                    let unseen = self.first_query(b, key).saturating_sub(first).min(some);
                    let (hidden, shown) = scores[i * some..][..some].split_at_mut(unseen);
                    hidden.fill(0.0);
                    times(shown, op.scale as f32);
                    if let (Some((tensor, strides)), Some(view)) = (&op.mask, self.mask) {
                        let query = first + unseen;
                        let from = at_strides(strides, b, head, query)
                            + key as isize * strides[3] as isize;
                        add_mask(tensor.dtype, view, from, strides[2] as isize, shown);
                    }
                    subtract_each(shown, &lse[unseen..]);
                    f32::exp_all(shown);
                    let (hidden, change) = change[i * some..][..some].split_at_mut(unseen);
                    hidden.fill(0.0);
                    change_each(change, shown, &delta[unseen..]);
                }
                self.env.check()?;
                let side = change_rows.depth::<FV>();
                self.weigh::<AV, W>(block, &scores, count, some, &side, &mut narrow, &mut dv)?;
                let side = query_rows.depth::<FV>();
                self.weigh::<AV, W>(block, &change, count, some, &side, &mut narrow, &mut dk)?;
            }
        }
        times(&mut dk, op.scale as f32);
        self.store::<O>((self.dk, &op.dk), (b, group, start), &dk);
        self.store::<O>((self.dv, &op.dv), (b, group, start), &dv);
        Ok(())
    }
}
