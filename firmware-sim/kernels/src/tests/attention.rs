//! Attention against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, Bool, F16, F32, I32};
use vmlu_abi::{Status, Wire};
use vmlu_ops::attention::{Attention, Causal};
use vmlu_ops::attention_backward::AttentionBackward;
use vmlu_ops::tensor::contiguous;

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// A random problem, and where its keys lie.
struct Problem {
    desc: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Option<Tensor>,
    lengths: Vec<i32>,
    pages: Vec<Vec<i32>>,
    keys: u64,
}

fn problem(rng: &mut Rng, arena: &mut Arena, dtype: DataType, sizes: [u64; 6]) -> Problem {
    let paged = rng.below(3) == 0;
    laid_out(rng, arena, dtype, sizes, paged)
}

fn laid_out(
    rng: &mut Rng,
    arena: &mut Arena,
    dtype: DataType,
    sizes: [u64; 6],
    paged: bool,
) -> Problem {
    let [batch, groups, shared, queries, keys, width] = sizes;
    let values = 1 + rng.below(40);
    let heads = groups * shared;
    let (page, per_element) = (2 * (1 + rng.below(4)), 1 + rng.below(6));
    let keys = if paged { page * per_element } else { keys };
    let pool = batch * per_element + 1;
    let (first, rows) = if paged { (pool, page) } else { (batch, keys) };
    let q = Tensor::random(rng, arena, dtype, &[batch, heads, queries, width]);
    let k = Tensor::random(rng, arena, dtype, &[first, groups, rows, width]);
    let v = Tensor::random(rng, arena, dtype, &[first, groups, rows, values]);
    let out = Tensor::random(rng, arena, dtype, &[batch, heads, queries, values]);
    let lse = Tensor::random(rng, arena, F32, &[batch, heads, queries]);
    let mask = (rng.below(2) == 0).then(|| {
        let dtype = rng.pick(&[Bool, F32, dtype]);
        Tensor::random_broadcast(rng, arena, dtype, &[batch, heads, queries, keys])
    });
    let lengths: Vec<i32> = (0..batch)
        .map(|_| match rng.below(3) {
            0 => rng.below(keys + 1) as i32,
            _ => keys as i32,
        })
        .collect();
    let pages: Vec<Vec<i32>> = (0..batch)
        .map(|_| (0..per_element).map(|_| rng.below(pool) as i32).collect())
        .collect();
    let lengths_at = arena.put(&lengths);
    let table_at = arena.put(&pages.concat());
    let some = |is: bool, desc| if is { desc } else { Wire::zeroed() };
    let desc = Attention {
        q: q.desc(),
        k: k.desc(),
        v: v.desc(),
        out: out.desc(),
        mask: mask.as_ref().map_or(Wire::zeroed(), Tensor::desc),
        lengths: contiguous(I32, lengths_at, &[batch]),
        table: some(paged, contiguous(I32, table_at, &[batch, per_element])),
        lse: lse.desc(),
        scale: rng.pick(&[0.3, 1.0]),
        causal: rng.below(3) as u32,
        reserved: 0,
    };
    let pages = if paged { pages } else { Vec::new() };
    Problem {
        desc,
        q,
        k,
        v,
        out,
        lse,
        mask,
        lengths,
        pages,
        keys,
    }
}

impl Problem {
    fn row(&self, b: u64, key: u64) -> (u64, u64) {
        match self.pages.get(b as usize) {
            None => (b, key),
            Some(pages) => {
                let page = self.k.dims[2];
                (pages[(key / page) as usize] as u64, key % page)
            }
        }
    }

    /// The scores of a query, and where their keys lie.
    fn scores(&self, arena: &Arena, b: u64, h: u64, i: u64) -> Vec<(f64, u64, u64)> {
        let (heads, queries, width) = (self.q.dims[1], self.q.dims[2], self.q.dims[3]);
        let shared = heads / self.k.dims[1];
        let length = self.lengths[b as usize] as u64;
        let visible = match Causal::from_raw(self.desc.causal).unwrap() {
            Causal::None => length,
            Causal::Start => (i + 1).min(length),
            Causal::End => (i + 1 + length).saturating_sub(queries).min(length),
        };
        let mut scores = Vec::new();
        for key in 0..visible.min(self.keys) {
            let (first, row) = self.row(b, key);
            let mut score: f64 = (0..width)
                .map(|c| {
                    let k = self.k.get(arena, &[first, h / shared, row, c]);
                    self.q.get(arena, &[b, h, i, c]) * k
                })
                .sum();
            score *= self.desc.scale;
            if let Some(mask) = &self.mask {
                let m = mask.get_broadcast(arena, &[b, h, i, key]);
                match mask.dtype {
                    Bool if m == 0.0 => score = f64::NEG_INFINITY,
                    Bool => {}
                    _ => score += m,
                }
            }
            scores.push((score, first, row));
        }
        scores
    }

    /// Runs it and its gradient, and checks every element of that.
    fn check_gradients(&self, rng: &mut Rng, arena: &mut Arena) {
        arena.run(&self.desc).unwrap();
        let dtype = self.q.dtype;
        let dout = Tensor::random(rng, arena, dtype, &self.out.dims);
        let [dq, dk, dv] =
            [&self.q, &self.k, &self.v].map(|t| Tensor::random(rng, arena, dtype, &t.dims));
        let gradients = [dq.desc(), dk.desc(), dv.desc()];
        let biased = self.mask.as_ref().filter(|m| m.dtype != Bool);
        let dmask = biased.map(|m| Tensor::random(rng, arena, m.dtype, &m.dims));
        let desc = AttentionBackward {
            dmask: dmask.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            ..AttentionBackward::of(&self.desc, dout.desc(), gradients)
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let written: Vec<&Tensor> = [&dq, &dk, &dv].into_iter().chain(&dmask).collect();
        expect_only(arena, before, &written);
        // Of each element: its value, and the sum of the terms' magnitudes.
        let zeroes = |t: &Tensor| vec![(0.0, 0.0); t.dims.iter().product::<u64>() as usize];
        let (mut q_sums, mut k_sums, mut v_sums) =
            (zeroes(&self.q), zeroes(&self.k), zeroes(&self.v));
        let mut mask_sums = dmask.as_ref().map_or(Vec::new(), zeroes);
        fn place(t: &Tensor, index: impl AsRef<[u64]>) -> usize {
            let axes = t.dims.iter().zip(index.as_ref());
            axes.fold(0, |n, (dim, i)| n * *dim as usize + *i as usize)
        }
        fn add(to: &mut (f64, f64), value: f64, size: f64) {
            *to = (to.0 + value, to.1 + size.abs());
        }
        let shared = self.q.dims[1] / self.k.dims[1];
        for index in self.lse.indices() {
            let (b, h, i) = (index[0], index[1], index[2]);
            let scores = self.scores(arena, b, h, i);
            let most = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(s.0));
            if most == f64::NEG_INFINITY {
                continue;
            }
            let total: f64 = scores.iter().map(|s| (s.0 - most).exp()).sum();
            let columns = self.v.dims[3];
            let delta: f64 = (0..columns)
                .map(|c| {
                    let at = [b, h, i, c];
                    self.out.get(arena, &at) * dout.get(arena, &at)
                })
                .sum();
            for (key, (score, first, row)) in scores.into_iter().enumerate() {
                let p = (score - most).exp() / total;
                let mut change = -delta;
                let mut size = delta.abs();
                for c in 0..columns {
                    let d = dout.get(arena, &[b, h, i, c]);
                    let at = [first, h / shared, row, c];
                    let v = self.v.get(arena, &at);
                    (change, size) = (change + d * v, size + (d * v).abs());
                    add(&mut v_sums[place(&self.v, at)], p * d, p * d);
                }
                if let Some(dmask) = &dmask {
                    let at = place(dmask, dmask.broadcast(&[b, h, i, key as u64]));
                    add(&mut mask_sums[at], p * change, p * size);
                }
                let factor = p * self.desc.scale;
                for c in 0..self.q.dims[3] {
                    let (at_q, at_k) = ([b, h, i, c], [first, h / shared, row, c]);
                    let (q, k) = (self.q.get(arena, &at_q), self.k.get(arena, &at_k));
                    let (to_q, to_k) = (place(&self.q, at_q), place(&self.k, at_k));
                    add(&mut q_sums[to_q], factor * change * k, factor * size * k);
                    add(&mut k_sums[to_k], factor * change * q, factor * size * q);
                }
            }
        }
        let unit = match dtype {
            Bf16 => 1.0 / 100.0,
            F16 => 1.0 / 1000.0,
            _ => 2e-5,
        };
        let mut all = vec![(&dq, &q_sums), (&dk, &k_sums), (&dv, &v_sums)];
        all.extend(dmask.as_ref().map(|t| (t, &mask_sums)));
        for (tensor, sums) in all {
            for (index, (value, size)) in tensor.indices().iter().zip(sums) {
                tensor.expect(arena, index, *value, unit * (size + 1e-3));
            }
        }
    }

    /// Runs it and checks every element.
    fn check(&self, arena: &Arena) {
        let before = arena.snapshot();
        arena.run(&self.desc).unwrap();
        expect_only(arena, before, &[&self.out, &self.lse]);
        let shared = self.q.dims[1] / self.k.dims[1];
        for index in self.lse.indices() {
            let (b, h, i) = (index[0], index[1], index[2]);
            let scores = self.scores(arena, b, h, i);
            let most = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(s.0));
            let total: f64 = scores.iter().map(|s| (s.0 - most).exp()).sum();
            let empty = most == f64::NEG_INFINITY;
            let want = if empty { most } else { most + total.ln() };
            self.lse
                .expect(arena, &index, want, 1e-5 * (1.0 + want.abs()));
            let unit = match self.q.dtype {
                Bf16 => 1.0 / 256.0,
                _ => 1e-5,
            };
            for c in 0..self.v.dims[3] {
                let mut value = (0.0, 0.0);
                for (score, first, row) in &scores {
                    let p = if empty {
                        0.0
                    } else {
                        (score - most).exp() / total
                    };
                    let v = self.v.get(arena, &[*first, h / shared, *row, c]);
                    value = (value.0 + p * v, value.1 + p * v.abs());
                }
                self.out
                    .expect(arena, &[b, h, i, c], value.0, unit * (value.1 + 1e-3));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn attention_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(4 << 20));
        let mut below = |n: u64| 1 + rng.below(n);
        let sizes = [below(2), below(2), below(3), below(9), below(40), below(35)];
        let dtype = rng.pick(&[F32, F16, Bf16]);
        arena.threads = 2;
        problem(&mut rng, &mut arena, dtype, sizes).check(&arena);
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn gradients_match_their_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(4 << 20));
        let mut below = |n: u64| 1 + rng.below(n);
        let sizes = [below(2), below(2), below(3), below(9), below(40), below(35)];
        let dtype = rng.pick(&[F32, F16, Bf16]);
        arena.threads = 2;
        problem(&mut rng, &mut arena, dtype, sizes).check_gradients(&mut rng, &mut arena);
    }
}

/// Several blocks of queries and of keys, of which the mask has all, or is a sum.
#[test]
fn gradients_of_masks_match_their_definition() {
    for (seed, dims) in [
        (1, [2, 194, 514]),
        (2, [1, 1, 514]),
        (3, [1, 194, 1]),
        (4, [2, 1, 1]),
    ] {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let sizes = [1, 1, 2, 194, 514, 3];
        let mut problem = laid_out(&mut rng, &mut arena, F32, sizes, false);
        let mask = Tensor::random(&mut rng, &mut arena, F32, &dims);
        problem.desc.mask = mask.desc();
        problem.mask = Some(mask);
        arena.threads = 2;
        problem.check_gradients(&mut rng, &mut arena);
    }
}

/// Pages that several batch elements share, that nobody uses, and that hold more keys than a block of them.
#[test]
fn gradients_of_pages_match_their_definition() {
    for (seed, page) in [(1, 2), (2, 16), (3, 200), (4, 520)] {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let mut of = |dtype, dims: &[u64]| Tensor::random(&mut rng, &mut arena, dtype, dims);
        let dtype = if seed == 3 { Bf16 } else { F32 };
        let (q, out) = (of(dtype, &[2, 4, 30, 9]), of(dtype, &[2, 4, 30, 7]));
        let (k, v) = (of(dtype, &[4, 2, page, 9]), of(dtype, &[4, 2, page, 7]));
        let (lse, mask) = (of(F32, &[2, 4, 30]), of(F32, &[4, 30, 3 * page]));
        let pages = vec![vec![3, 0, 2], vec![3, 2, 9]];
        // The third page of the second does not count, whatever its number.
        let lengths = vec![3 * page as i32, 2 * page as i32 - 1];
        let (lengths_at, table_at) = (arena.put(&lengths), arena.put(&pages.concat()));
        let desc = Attention {
            q: q.desc(),
            k: k.desc(),
            v: v.desc(),
            out: out.desc(),
            mask: mask.desc(),
            lengths: contiguous(I32, lengths_at, &[2]),
            table: contiguous(I32, table_at, &[2, 3]),
            lse: lse.desc(),
            scale: 0.3,
            causal: Causal::End.raw(),
            reserved: 0,
        };
        let problem = Problem {
            desc,
            q,
            k,
            v,
            out,
            lse,
            mask: Some(mask),
            lengths,
            pages,
            keys: 3 * page,
        };
        problem.check(&arena);
        problem.check_gradients(&mut rng, &mut arena);
    }
}

/// Several blocks of queries and of keys.
#[test]
fn gradients_of_long_sequences_match_their_definition() {
    for (seed, dtype, queries, keys) in [
        (1, F32, 210, 700),
        (2, Bf16, 600, 200),
        (3, F16, 520, 190),
        (4, F32, 600, 210),
    ] {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let sizes = [1, 1, 2, queries, keys, 9];
        laid_out(&mut rng, &mut arena, dtype, sizes, false).check_gradients(&mut rng, &mut arena);
    }
}

/// Several blocks of queries and of keys.
#[test]
fn long_sequences_match_their_definition() {
    for (seed, dtype) in [(1, F32), (2, Bf16), (3, F16), (4, F32)] {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        problem(&mut rng, &mut arena, dtype, [1, 1, 2, 130, 1100, 16]).check(&arena);
    }
}

#[test]
fn lengths_and_pages_out_of_range_are_faults_and_nothing_is_written() {
    let mut arena = Arena::new(1 << 16);
    let mut tensor = |dims: &[u64]| {
        let bytes = 4 * dims.iter().product::<u64>() as usize;
        contiguous(F32, arena.reserve(bytes), dims)
    };
    let good = Attention {
        q: tensor(&[1, 2, 3, 4]),
        k: tensor(&[3, 1, 2, 4]),
        v: tensor(&[3, 1, 2, 5]),
        out: tensor(&[1, 2, 3, 5]),
        scale: 1.0,
        ..Wire::zeroed()
    };
    let (lengths, table) = (arena.put(&[3i32]), arena.put(&[2i32, 0, 3]));
    let good = Attention {
        lengths: contiguous(I32, lengths, &[1]),
        table: contiguous(I32, table, &[1, 3]),
        ..good
    };
    // The third page is wrong, but three keys lie in two pages.
    arena.run(&good).unwrap();
    let before = arena.snapshot();
    arena.set(lengths, &[5i32]);
    let fault = arena.run(&good).unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            6,
            "attention: table[0, 2] is 3, there are 3 pages"
        )
    );
    arena.set(lengths, &[7i32]);
    let fault = arena.run(&good).unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            5,
            "attention: lengths[0] is 7, there are 6 keys"
        )
    );
    arena.set(lengths, &[3i32]);
    assert!(before == arena.snapshot());
    // The gradient refuses them alike.
    let mut tensor = |dims: &[u64]| {
        let bytes = 4 * dims.iter().product::<u64>() as usize;
        contiguous(F32, arena.reserve(bytes), dims)
    };
    let forward = Attention {
        lse: tensor(&[1, 2, 3]),
        ..good
    };
    let gradients = [
        tensor(&[1, 2, 3, 4]),
        tensor(&[3, 1, 2, 4]),
        tensor(&[3, 1, 2, 5]),
    ];
    let backward = AttentionBackward::of(&forward, tensor(&[1, 2, 3, 5]), gradients);
    arena.run(&backward).unwrap();
    let before = arena.snapshot();
    arena.set(lengths, &[5i32]);
    let fault = arena.run(&backward).unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            11,
            "attention_backward: table[0, 2] is 3, there are 3 pages"
        )
    );
    arena.set(lengths, &[3i32]);
    assert!(before == arena.snapshot());
}
