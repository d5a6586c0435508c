//! Sort, top-k, and results whose length the data decides.

use std::cmp::Ordering;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bool, F16, F32, F64, I32, I64, I8, U64};
use vmlu_abi::{Status, Wire};
use vmlu_ops::compact::{Compact, Function as F};
use vmlu_ops::sort::{Sort, FLAG_DESCENDING};
use vmlu_ops::tensor::{absent, contiguous, INDICES};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn sort_and_top_k(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dtype = rng.pick(&[F32, F16, F64, I8, I32, U64, Bool]);
        let dims: Vec<u64> = rng.dims(1..=3);
        let axis = rng.below(dims.len() as u64) as usize;
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        // Ties.
        for i in x.indices() {
            let v = (x.get(&arena, &i) * 2.0).round() / 2.0;
            if dtype == F32 || dtype == F64 {
                x.set(&mut arena, &i, v);
            }
        }
        let k = if rng.below(2) == 0 { dims[axis] } else { rng.below(dims[axis] + 1) };
        let mut out_dims = dims.clone();
        out_dims[axis] = k;
        let values = Tensor::random(&mut rng, &mut arena, dtype, &out_dims);
        let index_type = rng.pick(&INDICES);
        let index = Tensor::random(&mut rng, &mut arena, index_type, &out_dims);
        let descending = rng.below(2) == 0;
        let desc = Sort {
            x: x.desc(), values: values.desc(), indices: index.desc(), axis: axis as u32,
            flags: if descending { FLAG_DESCENDING } else { 0 }, reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&values, &index]);
        for i in values.indices() {
            let at = |j: u64| { let mut p = i.clone(); p[axis] = j; p };
            let key = |j: u64| match dtype {
                U64 | I32 | I8 | Bool => x.get_whole(&arena, &at(j)) as f64,
                _ => x.get(&arena, &at(j)),
            };
            // Whole numbers of 64 bits are compared as such.
            let compare = |a: u64, b: u64| match dtype {
                U64 => x.get_whole(&arena, &at(a)).cmp(&x.get_whole(&arena, &at(b))),
                _ => key(a).partial_cmp(&key(b)).unwrap_or(Ordering::Equal),
            };
            let mut order: Vec<u64> = (0..dims[axis]).collect();
            order.sort_by(|a, b| if descending { compare(*b, *a) } else { compare(*a, *b) });
            let want = order[i[axis] as usize];
            prop_assert_eq!(index.get_whole(&arena, &i), i128::from(want));
            prop_assert_eq!(values.get(&arena, &i), x.get(&arena, &at(want)));
        }
    }

    #[test]
    fn chosen_elements(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dtype = rng.pick(&[F32, F16, F64, I8, I32, I64, Bool]);
        let f = rng.pick(F::ALL);
        let dims = rng.dims(0..=3);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        for i in x.indices() {
            let v = if rng.below(3) == 0 { 0.0 } else { rng.value().round() };
            x.set(&mut arena, &i, v);
        }
        let mask = Tensor::random_broadcast(&mut rng, &mut arena, Bool, &dims);
        let all = x.indices();
        let n = all.len() as u64;
        let out_dims = match f {
            F::Nonzero => vec![n, dims.len() as u64],
            F::Scatter => dims.clone(),
            _ => vec![n],
        };
        let out = Tensor::random(&mut rng, &mut arena, if f == F::Nonzero { I64 } else { dtype }, &out_dims);
        let inverse = Tensor::random(&mut rng, &mut arena, I64, &dims);
        let counts = Tensor::random(&mut rng, &mut arena, I64, &[n]);
        let count = Tensor::random(&mut rng, &mut arena, I64, &[]);
        let unique = f == F::Unique;
        let of = |t: &Tensor, there: bool| if there { t.desc() } else { absent() };
        let desc = Compact {
            x: x.desc(), mask: of(&mask, matches!(f, F::Select | F::Scatter)), out: out.desc(), count: count.desc(),
            inverse: of(&inverse, unique), counts: of(&counts, unique), function: f.raw(), reserved: 0,
        };
        let old: Vec<f64> = out.indices().iter().map(|i| out.get(&arena, i)).collect();
        arena.run(&desc).unwrap();
        let found = count.get_whole(&arena, &[]) as usize;
        let chosen: Vec<&Vec<u64>> = all.iter().filter(|i| mask.get_broadcast(&arena, i) != 0.0).collect();
        match f {
            F::Select => {
                prop_assert_eq!(found, chosen.len());
                for (k, i) in chosen.iter().enumerate() {
                    prop_assert_eq!(out.get(&arena, &[k as u64]), x.get(&arena, i));
                }
                for (k, v) in old.iter().enumerate().skip(found) {
                    prop_assert_eq!(out.get(&arena, &[k as u64]), *v);
                }
            }
            F::Scatter => {
                prop_assert_eq!(found, chosen.len());
                let mut next = 0;
                for (k, i) in all.iter().enumerate() {
                    let want = if chosen.contains(&i) { next += 1; x.get(&arena, &all[next - 1]) } else { old[k] };
                    prop_assert_eq!(out.get(&arena, i), want);
                }
            }
            F::Nonzero => {
                let places: Vec<&Vec<u64>> = all.iter().filter(|i| x.get(&arena, i) != 0.0).collect();
                prop_assert_eq!(found, places.len());
                for (k, i) in places.iter().enumerate() {
                    for (c, v) in i.iter().enumerate() {
                        prop_assert_eq!(out.get_whole(&arena, &[k as u64, c as u64]), i128::from(*v));
                    }
                }
            }
            F::Unique => {
                let mut values: Vec<f64> = all.iter().map(|i| x.get(&arena, i)).collect();
                values.sort_by(f64::total_cmp);
                values.dedup();
                prop_assert_eq!(found, values.len());
                for (k, v) in values.iter().enumerate() {
                    prop_assert_eq!(out.get(&arena, &[k as u64]), *v);
                    let times = all.iter().filter(|i| x.get(&arena, i) == *v).count();
                    prop_assert_eq!(counts.get_whole(&arena, &[k as u64]), times as i128);
                }
                for i in &all {
                    let place = inverse.get_whole(&arena, i) as usize;
                    prop_assert_eq!(values[place], x.get(&arena, i));
                }
            }
        }
    }
}

#[test]
fn nan_is_last_and_zeroes_are_equal() {
    let mut arena = Arena::new(4096);
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = arena.put(&[nan, 0.0, -inf, inf, -0.0, -nan, -1.0]);
    let (values, index) = (arena.reserve(28), arena.reserve(28));
    let run = |flags: u32, k: u64| {
        let desc = Sort {
            x: contiguous(F32, x, &[7]),
            values: contiguous(F32, values, &[k]),
            indices: contiguous(I32, index, &[k]),
            flags,
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        arena.get::<i32>(index, k as usize)
    };
    assert_eq!(run(0, 7), [2, 6, 1, 4, 3, 0, 5]);
    assert_eq!(run(FLAG_DESCENDING, 7), [0, 5, 3, 1, 4, 6, 2]);
    assert_eq!(run(FLAG_DESCENDING, 2), [0, 5]);
}

/// Rows longer than what is sorted at once, whole and in part, and the cancel flag within.
#[test]
fn long_rows() {
    let mut arena = Arena::new(16 << 20);
    let mut rng = Rng::new(5);
    let n = 100_000usize;
    let keys: Vec<i32> = (0..n).map(|_| rng.below(30_000) as i32).collect();
    let x = arena.put(&keys);
    let (values, index) = (arena.reserve(4 * n), arena.reserve(8 * n));
    let mut want: Vec<(i32, i64)> = keys.iter().zip(0..).map(|(k, i)| (*k, i)).collect();
    want.sort();
    for k in [n, 5000, 4096, 10, 1] {
        let desc = Sort {
            x: contiguous(I32, x, &[n as u64]),
            values: contiguous(I32, values, &[k as u64]),
            indices: contiguous(I64, index, &[k as u64]),
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        let got = arena
            .get::<i32>(values, k)
            .into_iter()
            .zip(arena.get::<i64>(index, k));
        assert!(got.eq(want[..k].iter().copied()), "{k}");
        let all = arena.checks.swap(0, std::sync::atomic::Ordering::Relaxed);
        assert!(all > 10);
    }
    arena.patience = 5.into();
    let desc = Sort {
        x: contiguous(I32, x, &[n as u64]),
        values: contiguous(I32, values, &[n as u64]),
        ..Wire::zeroed()
    };
    assert_eq!(arena.run(&desc).unwrap_err().status, Status::Cancelled);
}

#[test]
fn results_that_do_not_fit_fault() {
    let mut arena = Arena::new(4096);
    let x = arena.put(&[1.0f32, 2.0, 3.0, 4.0]);
    let mask = arena.put(&[1u8, 1, 0, 1]);
    let out = arena.reserve(16);
    let desc = Compact {
        x: contiguous(F32, x, &[4]),
        mask: contiguous(Bool, mask, &[4]),
        out: contiguous(F32, out, &[2]),
        ..Wire::zeroed()
    };
    let fault = arena.run(&desc).unwrap_err();
    assert_eq!((fault.status, fault.operand), (Status::IndexOutOfRange, 2));
    assert!(
        fault.rule.contains("room for, which is 2"),
        "{}",
        fault.rule
    );
    let short = Compact {
        x: contiguous(F32, x, &[2]),
        out: contiguous(F32, out, &[4]),
        function: F::Scatter.raw(),
        ..desc
    };
    let fault = arena.run(&short).unwrap_err();
    assert_eq!((fault.status, fault.operand), (Status::IndexOutOfRange, 0));
}
