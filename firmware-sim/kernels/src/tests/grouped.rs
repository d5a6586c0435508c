//! Grouped products against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I32};
use vmlu_abi::{Status, Wire};
use vmlu_ops::matmul_grouped::MatmulGrouped;
use vmlu_ops::tensor::contiguous;

use super::cases;
use super::tensors::{Rng, Tensor};
use crate::testing::Arena;

const TYPES: [(DataType, DataType); 6] = [
    (F32, F32),
    (F16, F16),
    (F16, F32),
    (Bf16, Bf16),
    (Bf16, F32),
    (F64, F64),
];

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn grouped_products_match_their_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let (t, to) = rng.pick(&TYPES);
        let (rows, k, n, groups) = (rng.below(30), rng.below(20), 1 + rng.below(40), 1 + rng.below(5));
        let a = Tensor::random(&mut rng, &mut arena, t, &[rows, k]);
        let b = Tensor::random(&mut rng, &mut arena, t, &[groups, k, n]);
        let out = Tensor::random(&mut rng, &mut arena, to, &[rows, n]);
        let bias = (rng.below(2) == 0).then(|| Tensor::random(&mut rng, &mut arena, to, &[groups, n]));
        let mut ends: Vec<i32> = (0..groups).map(|_| rng.below(rows + 1) as i32).collect();
        ends.sort_unstable();
        let ends_at = arena.put(&ends);
        let desc = MatmulGrouped {
            a: a.desc(),
            b: b.desc(),
            ends: contiguous(I32, ends_at, &[groups]),
            out: out.desc(),
            bias: bias.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            alpha: rng.pick(&[1.0, -0.5]),
            activation: 0,
            reserved: 0,
        };
        let old: Vec<f64> = out.indices().iter().map(|i| out.get(&arena, i)).collect();
        arena.run(&desc).unwrap();
        for (i, old) in out.indices().iter().zip(old) {
            let Some(g) = ends.iter().position(|end| (i[0] as i64) < i64::from(*end)) else {
                prop_assert_eq!(out.get(&arena, i), old);
                continue;
            };
            let (mut sum, mut size) = (0.0, 0.0);
            for l in 0..k {
                let p = a.get(&arena, &[i[0], l]) * b.get(&arena, &[g as u64, l, i[1]]);
                sum += p;
                size += p.abs();
            }
            let mut want = desc.alpha * sum;
            want += bias.as_ref().map_or(0.0, |b| b.get(&arena, &[g as u64, i[1]]));
            let unit = if t == F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
            out.expect(&arena, i, want, 8.0 * unit * (size + 4.0));
        }
    }
}

#[test]
fn ends_out_of_order_are_faults_and_nothing_is_written() {
    let mut arena = Arena::new(1 << 14);
    let mut tensor = |dims: &[u64]| {
        let bytes = 4 * dims.iter().product::<u64>() as usize;
        contiguous(F32, arena.reserve(bytes), dims)
    };
    let good = MatmulGrouped {
        a: tensor(&[4, 3]),
        b: tensor(&[2, 3, 5]),
        out: tensor(&[4, 5]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    let ends = arena.put(&[3i32, 2]);
    let good = MatmulGrouped {
        ends: contiguous(I32, ends, &[2]),
        ..good
    };
    let before = arena.snapshot();
    let fault = arena.run(&good).unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            2,
            "matmul_grouped: ends[1] is 2, must be from 3 to the 4 rows of a"
        )
    );
    assert!(before == arena.snapshot());
    arena.set(ends, &[3i32, 5]);
    assert_eq!(
        arena.run(&good).unwrap_err().status,
        Status::IndexOutOfRange
    );
}
