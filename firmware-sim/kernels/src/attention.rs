//! Kernel of `vmlu_ops::attention`: blocks of queries go over blocks of keys, and keep a running maximum and sum of each query.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_abi::Status;
use vmlu_ops::attention::{Attention, Checked, KEY_BLOCK};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::epilogue::{to_bf16, Narrow};
use super::gemm::{
    self, pack_lanes, Arith, Brain, Depth, Feed, Lanes, Pairs, Private, Product, Side, Single,
    Sink, Space, Strided, Sums, LANES,
};
use super::math::Real;
use super::number::{Storage, TILE};
use super::pages::Pages;
use super::simd::{self, multiversion};
use super::view::View;
use super::walk::split;

/// Rows of queries that go over the keys together.
pub(super) const QUERIES: usize = 192;

/// Calls `compute` of a job with the arithmetic of a type, chosen by what the processor has: that of the scores, of the weighed sums, and the
/// type of what is stored. Both directions choose alike, so that the gradient is that of what was computed.
macro_rules! by_type {
    ($job:expr, $dtype:expr) => {{
        use half::{bf16, f16};
        use vmlu_abi::tensor::DataType;
        use vmlu_ops::matmul::{BF16_BLOCK, K_BLOCK};
        use $crate::gemm::{Brain, Half, Pairs, Single, F32};
        let (job, block) = (&$job, K_BLOCK as usize);
        match $dtype {
            DataType::F16 => job.compute::<F32, Half, F32, Single, Half, f16>(block),
            #[cfg(target_arch = "x86_64")]
            DataType::Bf16 if $crate::simd::has_bf16() => {
                use $crate::gemm::Bf16;
                job.compute::<Bf16, Pairs, Bf16, Pairs, Pairs, bf16>(BF16_BLOCK as usize / 2)
            }
            DataType::Bf16 => {
                job.compute::<F32, Brain, F32, Brain, Brain, bf16>(BF16_BLOCK as usize)
            }
            _ => job.compute::<F32, Single, F32, Single, Single, f32>(block),
        }
    }};
}
pub(super) use by_type;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Attention>(body)?;
    let q = View::open(env, 0, &op.q, Access::Read)?;
    let k = View::open(env, 1, &op.k, Access::Read)?;
    let v = View::open(env, 2, &op.v, Access::Read)?;
    let out = View::open(env, 3, &op.out, Access::Write)?;
    let optional = |index, tensor: Option<&Tensor>, access| match tensor {
        Some(tensor) => View::open(env, index, tensor, access).map(Some),
        None => Ok(None),
    };
    let mask = optional(4, op.mask.as_ref().map(|m| &m.0), Access::Read)?;
    let lengths = optional(5, op.lengths.as_ref(), Access::Read)?;
    let table = optional(6, op.table.as_ref(), Access::Read)?;
    let lse = optional(7, op.lse.as_ref(), Access::Write)?;
    if op.q.dims()[..3].contains(&0) {
        return Ok(op.cost().into());
    }
    let lengths = checked_lengths(
        "attention",
        5,
        op.lengths.as_ref().zip(lengths.as_ref()),
        op.q.dims()[0] as usize,
        op.keys,
    )?;
    let read;
    let pages = match op.table.as_ref().zip(table.as_ref()) {
        None => Pages::NONE,
        Some(table) => {
            read = Pages::read("attention", 6, table, &op.k, &lengths, env)?;
            &read
        }
    };
    let job = Job {
        op: &op,
        env,
        q: &q,
        k: &k,
        v: &v,
        out: &out,
        mask: mask.as_ref(),
        lse: lse.as_ref(),
        lengths,
        pages,
    };
    by_type!(job, op.q.dtype)?;
    Ok(op.cost().into())
}

/// The keys of each batch element: a checked copy of operand `operand`.
pub(super) fn checked_lengths(
    operator: &str,
    operand: u16,
    lengths: Option<(&Tensor, &View<'_>)>,
    batch: usize,
    keys: u64,
) -> Result<Vec<usize>, Fault> {
    let Some((tensor, view)) = lengths else {
        return Ok(vec![keys as usize; batch]);
    };
    let mut lengths = vec![0i32; batch];
    view.load(0, tensor.strides()[0] as isize, &mut lengths);
    let check = |(b, length): (usize, &i32)| match u64::try_from(*length) {
        Ok(length) if length <= keys => Ok(length as usize),
        _ => {
            let text = format!("{operator}: lengths[{b}] is {length}, there are {keys} keys");
            Err(Fault::operand(
                Status::IndexOutOfRange,
                operand,
                tensor.address,
                text,
            ))
        }
    };
    lengths.iter().enumerate().map(check).collect()
}

/// How scores become the elements that meet `v`.
pub(super) trait Weight: Feed<Element: Sync + Default> {
    /// Converts them.
    fn weights(from: &[f32], to: &mut [Self::Element]);
}

impl Weight for Single {
    fn weights(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Weight for Pairs {
    fn weights(from: &[f32], to: &mut [u16]) {
        to_bf16(from, to);
    }
}

impl Weight for Brain {
    fn weights(from: &[f32], to: &mut [u16]) {
        to_bf16(from, to);
    }
}

multiversion! {
    /// Scales scores and finds the largest.
    fn scale_and_max(scores: &mut [f32], scale: f32, most: &mut f32) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = scores.as_chunks_mut::<16>();
        for chunk in whole {
            for (l, s) in lanes.iter_mut().zip(chunk) {
                *s *= scale;
                *l = if *s > *l { *s } else { *l };
            }
        }
        for (l, s) in lanes.iter_mut().zip(rest) {
            *s *= scale;
            *l = if *s > *l { *s } else { *l };
        }
        for l in lanes {
            *most = if l > *most { l } else { *most };
        }
    }

    fn subtract(values: &mut [f32], by: f32) {
        values.iter_mut().for_each(|v| *v -= by);
    }

    /// Adds the sum of values.
    pub(super) fn sum(values: &[f32], total: &mut f32) {
        let mut lanes = [0f32; 16];
        let (whole, rest) = values.as_chunks::<16>();
        for chunk in whole {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                *l += *v;
            }
        }
        for (l, v) in lanes.iter_mut().zip(rest) {
            *l += *v;
        }
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        *total += lanes[0];
    }

    /// `values = values · factor + more`.
    pub(super) fn rescale(values: &mut [f32], factor: f32, more: &[f32]) {
        for (v, m) in values.iter_mut().zip(more) {
            *v = *v * factor + *m;
        }
    }

    /// Multiplies each value.
    pub(super) fn times(values: &mut [f32], factor: f32) {
        values.iter_mut().for_each(|v| *v *= factor);
    }
}

/// `eˣ`.
fn exp(x: f32) -> f32 {
    let mut one = [x];
    f32::exp_all(&mut one);
    one[0]
}

/// Lines of an operand, wherever they begin.
pub(super) struct Gathered<'s, 'a, F, P> {
    /// The operand.
    pub view: &'s View<'a>,
    /// The first element of a line.
    pub place: P,
    /// Lines.
    pub lines: usize,
    /// Distance along the depth.
    pub depth: isize,
    /// Elements of a line.
    pub length: usize,
    /// How elements become words.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed, P: Fn(usize) -> isize + Sync> Side<F::Word> for Gathered<'_, '_, F, P> {
    fn lines(&self) -> usize {
        self.lines
    }

    fn across(&self) -> bool {
        self.depth.unsigned_abs() > 1
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        let depth = Depth::of::<F>(words, self.depth, self.length);
        for from in (0..pitch).step_by(LANES) {
            let count = lines.len().saturating_sub(from).min(LANES);
            let mut offsets = [0; LANES];
            for (l, offset) in offsets.iter_mut().enumerate().take(count) {
                *offset = (self.place)(lines.start + from + l);
            }
            let lanes = Lanes {
                offsets,
                valid: ((1u32 << count) - 1) as u16,
                pad: 0,
                regular: None,
            };
            pack_lanes::<F>(self.view, &lanes, &depth, pitch, &mut to[from..]);
        }
    }
}

/// Columns of values; the depth goes through keys.
pub(super) struct Values<'s, 'a, F, P> {
    /// The operand.
    pub view: &'s View<'a>,
    /// The first element of a key's row, and the keys that follow it at the same distance, itself included.
    pub place: P,
    /// Distance of keys.
    pub key: isize,
    /// Distance of columns.
    pub column: isize,
    /// Columns.
    pub columns: usize,
    /// Keys.
    pub keys: usize,
    /// How elements become words.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed, P: Fn(usize) -> (isize, usize) + Sync> Side<F::Word> for Values<'_, '_, F, P> {
    fn lines(&self) -> usize {
        self.columns
    }

    fn across(&self) -> bool {
        self.column.unsigned_abs() < self.key.unsigned_abs()
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        let mut word = words.start;
        while word < words.end {
            let key = word * F::STEP;
            let (offset, follow) = (self.place)(key);
            let length = follow.min(self.keys.saturating_sub(key));
            let side = Strided::<F> {
                view: self.view,
                offset,
                line: self.column,
                depth: self.key,
                lines: self.columns,
                length,
                feed: PhantomData,
            };
            // Pages have an even size, so no word lies in two of them.
            let count = F::words(length).min(words.end - word).max(1);
            let to = &mut to[(word - words.start) * pitch..][..count * pitch];
            side.pack(lines.clone(), 0..count, pitch, to);
            word += count;
        }
    }
}

/// Where nothing is stored: sums are taken from the private memory.
struct Nowhere;

impl<T> Sink<T> for Nowhere {
    fn store(&self, _: usize, _: usize, _: &mut [T], _: &[T], _: T) {}
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    q: &'j View<'a>,
    k: &'j View<'a>,
    v: &'j View<'a>,
    out: &'j View<'a>,
    mask: Option<&'j View<'a>>,
    lse: Option<&'j View<'a>>,
    lengths: Vec<usize>,
    pages: &'j Pages,
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
        let dims = self.op.q.dims();
        let (batch, groups) = (dims[0] as usize, self.op.k.dims()[1] as usize);
        // The heads that share keys are rows of one matrix.
        let rows = dims[1] as usize / groups * dims[2] as usize;
        let blocks = rows.div_ceil(QUERIES);
        // Even blocks.
        let of_block = rows.div_ceil(blocks);
        split(self.env, batch * groups * blocks, 1, |range| {
            for index in range {
                // Late blocks first: causal ones have more to do.
                let (element, number) = (index / blocks, blocks - 1 - index % blocks);
                let start = number * of_block;
                let queries = start..rows.min(start + of_block);
                let (b, group) = (element / groups, element % groups);
                gemm::with_space(|scores| {
                    gemm::with_space(|sums| {
                        self.block::<A, F, AV, W, FV, O>(block, (b, group), queries, scores, sums)
                    })
                })?;
            }
            Ok(())
        })
    }

    /// Computes some rows of queries of one group.
    fn block<A, F, AV, W, FV, O>(
        &self,
        block: usize,
        (b, group): (usize, usize),
        rows: Range<usize>,
        scores: &mut Space,
        sums: &mut Space,
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
        let (queries, width) = (op.q.dims()[2] as usize, op.q.dims()[3] as usize);
        let (heads, columns) = (op.q.dims()[1] as usize, op.v.dims()[3] as usize);
        let first_head = group * (heads / op.k.dims()[1] as usize);
        let length = self.lengths[b];
        // Head and query of a row.
        let split_row = |row: usize| (first_head + row / queries, row % queries);
        let visible = |row: usize| op.causal.visible(row % queries, queries, length);
        let last = rows.clone().map(visible).max().unwrap_or(0);
        let at = |strides: &[i64], head: usize, query: usize| {
            b as isize * strides[0] as isize
                + head as isize * strides[1] as isize
                + query as isize * strides[2] as isize
        };
        let count = rows.len();
        // Of each row: the largest score so far, the sum of exponentials, the weighted values.
        let mut most = vec![f32::NEG_INFINITY; count];
        let mut total = vec![0f32; count];
        let mut result = std::mem::take(&mut sums.sums);
        let result_values = result.take::<f32>(count * columns);
        result_values.fill(0.0);
        let mut weights_buffer = std::mem::take(&mut scores.sums);
        let (plan, plan_v) = (A::plan_for(simd::level()), AV::plan_for(simd::level()));

        let query_side = Gathered::<F, _> {
            view: self.q,
            place: |l: usize| {
                let (head, query) = split_row(rows.start + l);
                at(op.q.strides(), head, query)
            },
            lines: count,
            depth: op.q.strides()[3] as isize,
            length: width,
            feed: PhantomData,
        };
        for start in (0..last).step_by(KEY_BLOCK) {
            let keys = KEY_BLOCK.min(last - start);
            let key_side = Gathered::<F, _> {
                view: self.k,
                place: |l: usize| self.pages.row(op.k.strides(), b, group, start + l).0,
                lines: keys,
                depth: op.k.strides()[3] as isize,
                length: width,
                feed: PhantomData,
            };
            let product = Product::<A> {
                a: &query_side,
                b: &key_side,
                words: F::words(width),
                block,
                sink: &Nowhere,
                sums: Sums::default(),
            };
            let cut = product.cut(plan, 1);
            assert_eq!(cut.parts(), 1);
            let (_, _, pitch) = product.part_sums(plan, &cut, None, None, 0, self.env, scores)?;
            let all = scores.out.take::<f32>(count * pitch);
            let weights = weights_buffer.take::<W::Element>(count * KEY_BLOCK);
            let mut factors = [1f32; QUERIES];
            for i in 0..count {
                let row = &mut all[i * pitch..][..keys];
                let seen = visible(rows.start + i).saturating_sub(start).min(keys);
                let (shown, hidden) = row.split_at_mut(seen);
                let mut new = most[i];
                match (&op.mask, self.mask) {
                    (Some((tensor, strides)), Some(view)) => {
                        times(shown, op.scale as f32);
                        let (head, query) = split_row(rows.start + i);
                        let offset =
                            at(strides, head, query) + start as isize * strides[3] as isize;
                        add_mask(tensor.dtype, view, offset, strides[3] as isize, shown);
                        scale_and_max(shown, 1.0, &mut new);
                    }
                    _ => scale_and_max(shown, op.scale as f32, &mut new),
                }
                if new == f32::NEG_INFINITY && !shown.iter().any(|s| s.is_nan()) {
                    row.fill(0.0);
                } else {
                    subtract(shown, new);
                    f32::exp_all(shown);
                    hidden.fill(0.0);
                    factors[i] = exp(most[i] - new);
                    total[i] *= factors[i];
                    sum(shown, &mut total[i]);
                    most[i] = new;
                }
                W::weights(row, &mut weights[i * KEY_BLOCK..][..keys]);
            }
            let weight_side = Private::<W> {
                data: weights,
                pitch: KEY_BLOCK,
                lines: count,
                length: keys,
            };
            let value_side = Values::<FV, _> {
                view: self.v,
                place: |key: usize| self.pages.row(op.v.strides(), b, group, start + key),
                key: op.v.strides()[2] as isize,
                column: op.v.strides()[3] as isize,
                columns,
                keys,
                feed: PhantomData,
            };
            let product = Product::<AV> {
                a: &weight_side,
                b: &value_side,
                words: W::words(keys),
                block,
                sink: &Nowhere,
                sums: Sums::default(),
            };
            let cut = product.cut(plan_v, 1);
            for part in 0..cut.parts() {
                let (_, some, pitch) =
                    product.part_sums(plan_v, &cut, None, None, part, self.env, sums)?;
                let more = sums.out.take::<f32>(count * pitch);
                for i in 0..count {
                    let to = &mut result_values[i * columns..][some.clone()];
                    rescale(to, factors[i], &more[i * pitch..][..some.len()]);
                }
            }
        }
        let mut raw = [O::Raw::default(); TILE];
        for i in 0..count {
            let (head, query) = split_row(rows.start + i);
            let row = &mut result_values[i * columns..][..columns];
            if total[i] != 0.0 {
                row.iter_mut().for_each(|v| *v /= total[i]);
            }
            let stride = op.out.strides()[3] as isize;
            let offset = at(op.out.strides(), head, query);
            for (t, tile) in row.chunks(TILE).enumerate() {
                let raw = &mut raw[..tile.len()];
                O::narrow_all(tile, raw);
                self.out
                    .store(offset + (t * TILE) as isize * stride, stride, raw);
            }
            if let (Some(tensor), Some(view)) = (&op.lse, self.lse) {
                let lse = most[i] + Real::log(total[i]);
                view.store(at(tensor.strides(), head, query), 1, &[lse]);
            }
        }
        sums.sums = result;
        scores.sums = weights_buffer;
        self.env.check()?;
        Ok(())
    }
}

/// Adds a row of the mask to scores, or hides those that it excludes.
pub(super) fn add_mask(
    dtype: DataType,
    view: &View<'_>,
    offset: isize,
    stride: isize,
    scores: &mut [f32],
) {
    let mut buffer = [0f32; KEY_BLOCK];
    let buffer = &mut buffer[..scores.len()];
    match dtype {
        DataType::Bool => {
            let mut raw = [0u8; KEY_BLOCK];
            let raw = &mut raw[..scores.len()];
            view.load(offset, stride, raw);
            for (s, m) in scores.iter_mut().zip(raw) {
                *s = if *m == 0 { f32::NEG_INFINITY } else { *s };
            }
            return;
        }
        DataType::F16 => <f16 as Storage>::load(view, offset, stride, buffer),
        DataType::Bf16 => <bf16 as Storage>::load(view, offset, stride, buffer),
        _ => view.load(offset, stride, buffer),
    }
    for (s, m) in scores.iter_mut().zip(buffer) {
        *s += *m;
    }
}
