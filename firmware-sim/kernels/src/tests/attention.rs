//! Attention against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, Bool, F16, F32, I32};
use vmlu_abi::{Status, Wire};
use vmlu_ops::attention::{Attention, Causal};
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
    let [batch, groups, shared, queries, keys, width] = sizes;
    let values = 1 + rng.below(40);
    let paged = rng.below(3) == 0;
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

    /// Runs it and checks every element.
    fn check(&self, arena: &Arena) {
        let before = arena.snapshot();
        arena.run(&self.desc).unwrap();
        expect_only(arena, before, &[&self.out, &self.lse]);
        let (heads, queries, width) = (self.q.dims[1], self.q.dims[2], self.q.dims[3]);
        let shared = heads / self.k.dims[1];
        for index in self.lse.indices() {
            let (b, h, i) = (index[0], index[1], index[2]);
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
}
