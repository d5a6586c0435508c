//! Kernel of `vmlu_ops::attention_backward`: one pass over blocks of queries for `dq`, one over blocks of keys for `dk` and `dv`, and one over blocks of
//! `dmask`, in [`super::attention_mask`]. Each computes the weights anew, so that each element is summed by one task, in a fixed order.

use std::marker::PhantomData;
use std::ops::Range;

use vmlu_ops::attention::{Causal, KEY_BLOCK};
use vmlu_ops::attention_backward::{AttentionBackward, Checked, QUERIES as ROWS};
use vmlu_ops::tensor::Tensor;

use super::attention::{
    add_mask, by_type, checked_lengths, rescale, sum, times, Gathered, Values, Weight,
};
use super::env::{Access, Env, Fault, Work};
use super::epilogue::Narrow;
use super::floats::Float;
use super::gemm::{Arith, Feed, Private, Side};
use super::math::Real;
use super::number::TILE;
use super::pages::{Pages, Uses};
use super::private_product::each_row;
use super::simd::multiversion;
use super::view::View;
use super::walk::split;

/// What a task goes over at once: keys of the first pass, queries of the second. A task of either has up to [`ROWS`] of the others.
pub(super) const BLOCK: usize = KEY_BLOCK;

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
    let table = match &op.table {
        Some(tensor) => Some((tensor, read(11, tensor)?)),
        None => None,
    };
    let dmask = match &op.dmask {
        Some(gradient) => Some(write(12, &gradient.tensor)?),
        None => None,
    };
    let batch = op.q.dims()[0] as usize;
    let lengths = checked_lengths(
        "attention_backward",
        7,
        lengths.as_ref().map(|(t, v)| (*t, v)),
        batch,
        op.keys,
    )?;
    let copy;
    let pages = match &table {
        None => Pages::NONE,
        Some((tensor, view)) => {
            copy = Pages::read(
                "attention_backward",
                11,
                (tensor, view),
                &op.k,
                &lengths,
                env,
            )?;
            &copy
        }
    };
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
        dmask: dmask.as_ref(),
        lengths,
        pages,
        uses: pages.uses("attention_backward", env)?,
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

pub(super) struct Job<'j, 'a> {
    pub op: &'j Checked,
    pub env: &'j dyn Env,
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
    pub dmask: Option<&'j View<'a>>,
    lengths: Vec<usize>,
    pages: &'j Pages,
    /// Of `pages`.
    uses: Option<Uses>,
}

/// Queries of one head that are computed together, and what they have: the logarithm of their sum, infinite if they see nothing, and the sum of
/// `dout · out`.
pub(super) struct Queries {
    b: usize,
    head: usize,
    range: Range<usize>,
    lse: Vec<f32>,
    delta: Vec<f32>,
}

/// Scores of queries and keys, which become weights, and the gradient of the weights, which becomes that of the scores.
#[derive(Default)]
pub(super) struct Scores {
    scores: Vec<f32>,
    pub change: Vec<f32>,
}

/// Where a row of the last axis begins.
fn at(tensor: &Tensor, b: usize, head: usize, row: usize) -> isize {
    at_strides(tensor.strides(), b, head, row)
}

pub(super) fn at_strides(strides: &[i64], b: usize, head: usize, row: usize) -> isize {
    b as isize * strides[0] as isize
        + head as isize * strides[1] as isize
        + row as isize * strides[2] as isize
}

/// Some rows of one head of an operand.
struct Rows<'r, 'a> {
    view: &'r View<'a>,
    tensor: &'r Tensor,
    pages: &'r Pages,
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
        let pages = self.pages;
        Gathered {
            view: self.view,
            place: move |l: usize| pages.row(tensor.strides(), b, head, start + l).0,
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
        let pages = self.pages;
        Values {
            view: self.view,
            place: move |row: usize| pages.row(tensor.strides(), b, head, start + row),
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
        let [elements, groups, keys] = [0, 1, 2].map(|i| self.op.k.dims()[i] as usize);
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
            split(self.env, elements * groups * blocks, 1, |range| {
                for index in range {
                    let (element, start) = (index / blocks, index % blocks * ROWS);
                    let rows = start..keys.min(start + ROWS);
                    let (element, group) = (element / groups, element % groups);
                    self.keys::<A, F, AV, W, FV, O>(block, element, group, rows)?;
                }
                Ok(())
            })?;
        }
        self.mask_gradient::<A, F>(block)
    }

    /// How many keys a query sees.
    pub(super) fn visible(&self, b: usize, query: usize) -> usize {
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

    /// Rows of an operand whose rows are queries, or keys of one page.
    fn rows<'r, 'a>(
        (view, tensor): (&'r View<'a>, &'r Tensor),
        (b, head): (usize, usize),
        start: usize,
        count: usize,
    ) -> Rows<'r, 'a> {
        Rows {
            view,
            tensor,
            pages: Pages::NONE,
            b,
            head,
            start,
            count,
        }
    }

    /// What some queries have.
    pub(super) fn notes(
        &self,
        b: usize,
        head: usize,
        queries: Range<usize>,
    ) -> Result<Queries, Fault> {
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
        for (query, delta) in queries.clone().zip(&mut delta) {
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
        Ok(Queries {
            b,
            head,
            range: queries,
            lse,
            delta,
        })
    }

    /// The gradient of the scores of some queries and keys, a row a query.
    pub(super) fn changes<A, F>(
        &self,
        block: usize,
        of: &Queries,
        keys: Range<usize>,
        to: &mut Scores,
    ) -> Result<(), Fault>
    where
        A: Arith<Acc = f32>,
        F: Feed<Word = A::Word>,
    {
        let op = self.op;
        let (b, head, queries) = (of.b, of.head, of.range.clone());
        let group = head / (op.q.dims()[1] / op.k.dims()[1]) as usize;
        let (first, keys) = (keys.start, keys.len());
        let (start, count) = (queries.start, queries.len());
        let rows = |view, tensor| Self::rows((view, tensor), (b, head), start, count);
        let paged = |view, tensor| Rows {
            pages: self.pages,
            ..Self::rows((view, tensor), (b, group), first, keys)
        };
        let query_side = rows(self.q, &op.q).lines::<F>();
        let key_side = paged(self.k, &op.k).lines::<F>();
        let words = F::words(op.q.dims()[3] as usize);
        self.lines_product::<A>(block, words, &query_side, &key_side, &mut to.scores)?;
        let change_side = rows(self.dout, &op.dout).lines::<F>();
        let value_side = paged(self.v, &op.v).lines::<F>();
        let words = F::words(op.v.dims()[3] as usize);
        self.lines_product::<A>(block, words, &change_side, &value_side, &mut to.change)?;
        for (i, query) in queries.enumerate() {
            let row = &mut to.scores[i * keys..][..keys];
            let seen = self.visible(b, query).saturating_sub(first).min(keys);
            let (shown, hidden) = row.split_at_mut(seen);
            times(shown, op.scale as f32);
            if let (Some((tensor, strides)), Some(view)) = (&op.mask, self.mask) {
                let step = strides[3] as isize;
                let from = at_strides(strides, b, head, query) + first as isize * step;
                add_mask(tensor.dtype, view, from, step, shown);
            }
            subtract_one(shown, of.lse[i]);
            f32::exp_all(shown);
            hidden.fill(0.0);
            let change = &mut to.change[i * keys..][..keys];
            change_one(change, row, of.delta[i]);
            change[seen..].fill(0.0);
        }
        Ok(self.env.check()?)
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
        let group = head / (op.q.dims()[1] / op.k.dims()[1]) as usize;
        let mut result = vec![0f32; count * op.q.dims()[3] as usize];
        let (mut all, mut narrow) = (Scores::default(), Vec::new());
        let last = queries.clone().map(|q| self.visible(b, q)).max();
        let notes = self.notes(b, head, queries)?;
        let last = last.unwrap_or(0);
        for first in (0..last).step_by(BLOCK) {
            let keys = BLOCK.min(last - first);
            self.changes::<A, F>(block, &notes, first..first + keys, &mut all)?;
            let key_rows = Rows {
                pages: self.pages,
                ..Self::rows((self.k, &op.k), (b, group), first, keys)
            };
            let side = key_rows.depth::<FV>();
            self.weigh::<AV, W>(
                block,
                &all.change,
                count,
                keys,
                &side,
                &mut narrow,
                &mut result,
            )?;
        }
        times(&mut result, op.scale as f32);
        self.store::<O>((self.dq, &op.dq), (b, head, start), &result);
        Ok(())
    }

    /// Gradients of some keys and values of one group: rows of a batch element, or of a page.
    fn keys<A, F, AV, W, FV, O>(
        &self,
        block: usize,
        element: usize,
        group: usize,
        rows: Range<usize>,
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
        self.env.check()?;
        let start = rows.start;
        let shared = (op.q.dims()[1] / op.k.dims()[1]) as usize;
        let queries = op.q.dims()[2] as usize;
        let (width, columns) = (op.q.dims()[3] as usize, op.v.dims()[3] as usize);
        let mut dk = vec![0f32; rows.len() * width];
        let mut dv = vec![0f32; rows.len() * columns];
        let (mut scores, mut change, mut narrow) = (Vec::new(), Vec::new(), Vec::new());
        // Without pages the rows are those of the batch element.
        let own = self.uses.is_none().then_some((element, 0));
        let uses = self.uses.iter().flat_map(|uses| uses.of(element));
        for (b, key) in own.into_iter().chain(uses) {
            // Keys beyond the length have no part in anything.
            let first_key = key + start;
            let count = self.lengths[b].saturating_sub(first_key).min(rows.len());
            if count == 0 {
                continue;
            }
            let of = |view, tensor| Self::rows((view, tensor), (element, group), start, count);
            let key_side = of(self.k, &op.k).lines::<F>();
            let value_side = of(self.v, &op.v).lines::<F>();
            let from = self.first_query(b, first_key) / BLOCK * BLOCK;
            for head in group * shared..(group + 1) * shared {
                for first in (from..queries).step_by(BLOCK) {
                    let some = BLOCK.min(queries - first);
                    let notes = self.notes(b, head, first..first + some)?;
                    let of = |view, tensor| Self::rows((view, tensor), (b, head), first, some);
                    let query_rows = of(self.q, &op.q);
                    let change_rows = of(self.dout, &op.dout);
                    let query_side = query_rows.lines::<F>();
                    let words = F::words(width);
                    self.lines_product::<A>(block, words, &key_side, &query_side, &mut scores)?;
                    let change_side = change_rows.lines::<F>();
                    let words = F::words(columns);
                    self.lines_product::<A>(block, words, &value_side, &change_side, &mut change)?;
                    for i in 0..count {
                        let (scores, change) = (&mut scores[i * some..], &mut change[i * some..]);
                        self.change_of_key(&notes, first_key + i, scores, change);
                    }
                    self.env.check()?;
                    let side = change_rows.depth::<FV>();
                    self.weigh::<AV, W>(block, &scores, count, some, &side, &mut narrow, &mut dv)?;
                    let side = query_rows.depth::<FV>();
                    self.weigh::<AV, W>(block, &change, count, some, &side, &mut narrow, &mut dk)?;
                }
            }
        }
        times(&mut dk, op.scale as f32);
        self.store::<O>((self.dk, &op.dk), (element, group, start), &dk);
        self.store::<O>((self.dv, &op.dv), (element, group, start), &dv);
        Ok(())
    }

    /// The weights of a key and the gradient of its scores, an element a query, from its products.
    fn change_of_key(&self, of: &Queries, key: usize, scores: &mut [f32], change: &mut [f32]) {
        let op = self.op;
        let (first, some) = (of.range.start, of.range.len());
        let unseen = self.first_query(of.b, key).saturating_sub(first).min(some);
        let (hidden, shown) = scores[..some].split_at_mut(unseen);
        hidden.fill(0.0);
        times(shown, op.scale as f32);
        if let (Some((tensor, strides)), Some(view)) = (&op.mask, self.mask) {
            let from = at_strides(strides, of.b, of.head, first + unseen)
                + key as isize * strides[3] as isize;
            add_mask(tensor.dtype, view, from, strides[2] as isize, shown);
        }
        subtract_each(shown, &of.lse[unseen..]);
        f32::exp_all(shown);
        let (hidden, change) = change[..some].split_at_mut(unseen);
        hidden.fill(0.0);
        change_each(change, shown, &of.delta[unseen..]);
    }
}
