//! Places in sorted rows, and histograms, against plain loops.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bf16, F16, F32, F64, I16, I32, I64, I8, U16, U32, U64, U8};
use vmlu_abi::{Status, Wire};
use vmlu_ops::histogram::{Function, Histogram};
use vmlu_ops::search_sorted::{SearchSorted, FLAG_RIGHT};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn places(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64, I8, I16, I32, I64, U8, U16, U32, U64]);
        let dims = rng.dims(0..=3);
        let values = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let length = rng.pick(&[0, 1, 5, 40, 300]);
        let own = !dims.is_empty() && rng.below(2) == 0;
        let mut shape = if own { dims[..dims.len() - 1].to_vec() } else { Vec::new() };
        shape.push(length);
        let sorted = Tensor::random(&mut rng, &mut arena, dtype, &shape);
        // Few different values, so that there are equal ones.
        let value = |rng: &mut Rng| (rng.below(16) as f64 - 6.0) / 5.0 + 0.01;
        for index in values.indices() {
            let v = value(&mut rng);
            let nan = rng.below(20) == 0 && dtype == F32;
            values.set(&mut arena, &index, if nan { f64::NAN } else { v });
        }
        for row in super::tensors::indices(&shape[..shape.len() - 1]) {
            let mut all: Vec<f64> = (0..length).map(|_| value(&mut rng)).collect();
            // Unsigned integers cut negative ones off.
            if matches!(dtype, U8 | U16 | U32 | U64) {
                all.iter_mut().for_each(|v| *v = v.abs());
            }
            all.sort_by(f64::total_cmp);
            for (i, v) in all.iter().enumerate() {
                sorted.set(&mut arena, &[&row[..], &[i as u64]].concat(), *v);
            }
        }
        let kind = rng.pick(&[I32, I64]);
        let out = Tensor::random(&mut rng, &mut arena, kind, &dims);
        let right = rng.below(2) == 0;
        let desc = SearchSorted {
            sorted: sorted.desc(),
            values: values.desc(),
            out: out.desc(),
            flags: if right { FLAG_RIGHT } else { 0 },
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for index in out.indices() {
            let v = values.get(&arena, &index);
            let row = if own { &index[..index.len() - 1] } else { &[] };
            let count = (0..length).filter(|i| {
                let e = sorted.get(&arena, &[row, &[*i]].concat());
                v.is_nan() || if right { e <= v } else { e < v }
            });
            prop_assert_eq!(out.get_whole(&arena, &index), count.count() as i128);
        }
        expect_only(&arena, before, &[&out]);
    }

    #[test]
    fn histograms(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let function = rng.pick(Function::ALL);
        let dtype = match function {
            Function::Count => rng.pick(&[I8, I16, I32, I64, U8, U16, U32, U64]),
            _ => rng.pick(&[F32, F16, Bf16, F64, I8, I32, U8]),
        };
        let dims = rng.dims(0..=4);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        for index in x.indices() {
            let v = rng.below(40) as f64 / 16.0;
            let nan = rng.below(20) == 0 && dtype == F32;
            x.set(&mut arena, &index, if nan { f64::NAN } else { v });
        }
        let bins = match function {
            Function::Count => 20,
            _ => rng.below(9),
        };
        let weights = (rng.below(2) == 0).then(|| {
            let kind = rng.pick(&[F32, F16, Bf16, F64]);
            Tensor::random(&mut rng, &mut arena, kind, &dims)
        });
        let edges = (function == Function::Edges).then(|| {
            let edges = Tensor::random(&mut rng, &mut arena, dtype, &[bins + 1]);
            for i in 0..=bins {
                edges.set(&mut arena, &[i], 0.25 + i as f64 / 4.0);
            }
            edges
        });
        let kind = weights.as_ref().map_or(I64, |w| w.dtype);
        let out = Tensor::random(&mut rng, &mut arena, kind, &[bins]);
        let (low, high) = match function {
            Function::Uniform => (0.25, 2.25),
            _ => (0.0, 0.0),
        };
        let given = |t: &Option<Tensor>| t.as_ref().map_or(Wire::zeroed(), Tensor::desc);
        let desc = Histogram {
            x: x.desc(),
            edges: given(&edges),
            weights: given(&weights),
            out: out.desc(),
            low,
            high,
            function: function.raw(),
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let mut sums = vec![(0.0, 0.0); bins as usize];
        for index in x.indices() {
            let v = x.get(&arena, &index);
            let bin = (0..bins).find(|i| {
                let last = *i == bins - 1;
                let (from, to) = match (&edges, function) {
                    (Some(e), _) => (e.get(&arena, &[*i]), e.get(&arena, &[i + 1])),
                    (None, Function::Count) => return v == *i as f64,
                    _ => {
                        let width = (high - low) / bins as f64;
                        (low + *i as f64 * width, low + (i + 1) as f64 * width)
                    }
                };
                v >= from && (v < to || (last && v == to))
            });
            if let Some(i) = bin {
                let w = weights.as_ref().map_or(1.0, |w| w.get(&arena, &index));
                let sum = &mut sums[i as usize];
                *sum = (sum.0 + w, sum.1 + f64::abs(w));
            }
        }
        for (i, (sum, size)) in sums.iter().enumerate() {
            out.expect(&arena, &[i as u64], *sum, 1e-12 * size);
        }
        expect_only(&arena, before, &[&out]);
    }
}

/// More elements than a piece has, with sums that depend on the order.
#[test]
fn large_histograms_do_not_depend_on_threads() {
    let mut results = Vec::new();
    for (threads, shuffle) in [(1, 0), (2, 7), (3, 99)] {
        let mut arena = Arena::new(8 << 20);
        (arena.threads, arena.shuffle) = (threads, shuffle);
        let count = 200_000u64;
        let mut rng = Rng::new(3);
        let x: Vec<i32> = (0..count).map(|_| rng.below(100) as i32).collect();
        let weights: Vec<f32> = (0..count).map(|_| rng.value() as f32).collect();
        let (x, weights) = (arena.put(&x), arena.put(&weights));
        let of = |dtype, address, dims: &[u64]| vmlu_ops::tensor::contiguous(dtype, address, dims);
        let out = arena.reserve(400);
        let counts = arena.reserve(800);
        let mut desc = Histogram {
            x: of(I32, x, &[count]),
            weights: of(F32, weights, &[count]),
            out: of(F32, out, &[100]),
            function: Function::Count.raw(),
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        (desc.weights, desc.out) = (Wire::zeroed(), of(I64, counts, &[100]));
        arena.run(&desc).unwrap();
        assert_eq!(
            arena.get::<i64>(counts, 100).iter().sum::<i64>(),
            count as i64
        );
        results.push(arena.get::<u32>(out, 100));
    }
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn a_number_without_a_bin_is_a_fault_and_nothing_is_written() {
    let mut arena = Arena::new(4096);
    let x = arena.put(&[0i8, 2, -1, 5]);
    let out = arena.reserve(40);
    let desc = Histogram {
        x: vmlu_ops::tensor::contiguous(I8, x, &[4]),
        out: vmlu_ops::tensor::contiguous(I64, out, &[5]),
        function: Function::Count.raw(),
        ..Wire::zeroed()
    };
    let before = arena.snapshot();
    let fault = arena.run(&desc).unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, fault.address, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            0,
            x + 2,
            "histogram: an element of x is -1, but there are 5 bins"
        )
    );
    assert!(before == arena.snapshot());
}
