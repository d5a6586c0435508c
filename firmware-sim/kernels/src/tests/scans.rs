//! Running reductions.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, F32, F64, I32, I64, U8};
use vmlu_abi::Wire;
use vmlu_ops::scan::{Function as F, Scan, FLAG_EXCLUSIVE};
use vmlu_ops::tensor::{absent, contiguous, is_float, INDICES};

use super::cases;
use super::elementwise::wrap;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn matches_the_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(1..=4);
        let axis = rng.below(dims.len() as u64) as usize;
        let f = rng.pick(F::ALL);
        let dtype = match f {
            F::LogSumExp => rng.pick(&[F32, F64, DataType::F16]),
            _ => rng.pick(&[F32, DataType::Bf16, F64, I32, I64, U8]),
        };
        let extreme = matches!(f, F::Max | F::Min);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let index_type = rng.pick(&INDICES);
        let index = Tensor::random(&mut rng, &mut arena, index_type, &dims);
        let with_index = extreme && rng.below(2) == 0;
        let exclusive = matches!(f, F::Sum | F::Prod) && rng.below(2) == 0;
        let desc = Scan {
            x: x.desc(), out: out.desc(), indices: if with_index { index.desc() } else { absent() },
            function: f.raw(), axis: axis as u32, flags: if exclusive { FLAG_EXCLUSIVE } else { 0 }, reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        if with_index {
            expect_only(&arena, before, &[&out, &index]);
        } else {
            expect_only(&arena, before, &[&out]);
        }
        for i in out.indices() {
            let end = i[axis] + u64::from(!exclusive);
            let at = |j: u64| { let mut p = i.clone(); p[axis] = j; p };
            if !is_float(dtype) {
                let values: Vec<i128> = (0..end).map(|j| x.get_whole(&arena, &at(j))).collect();
                let want = match f {
                    F::Sum => values.iter().sum(),
                    F::Prod => values.iter().fold(1i128, |p, v| wrap(I64, p.wrapping_mul(*v))),
                    F::Max => *values.iter().max().unwrap(),
                    _ => *values.iter().min().unwrap(),
                };
                prop_assert_eq!(out.get_whole(&arena, &i), wrap(dtype, want));
            } else {
                let values: Vec<f64> = (0..end).map(|j| x.get(&arena, &at(j))).collect();
                let want = match f {
                    F::Sum => values.iter().sum(),
                    F::Prod => values.iter().product(),
                    F::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    F::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
                    F::LogSumExp => values.iter().map(|v| v.exp()).sum::<f64>().ln(),
                };
                out.expect(&arena, &i, want, 1e-12 * (1.0 + want.abs()));
            }
            if with_index {
                let values: Vec<f64> = (0..end).map(|j| x.get(&arena, &at(j))).collect();
                let best = values.iter().copied().fold(values[0], if f == F::Max { f64::max } else { f64::min });
                let last = values.iter().rposition(|v| *v == best).unwrap();
                prop_assert_eq!(index.get_whole(&arena, &i), last as i128);
            }
        }
    }
}

#[test]
fn nan_and_infinity_run_on() {
    let mut arena = Arena::new(4096);
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let x = arena.put(&[1.0f32, nan, 3.0, -inf, inf, 2.0]);
    let out = arena.reserve(24);
    let run = |f: F, from: u64, n: u64| {
        let desc = Scan {
            x: contiguous(F32, x + 4 * from, &[n]),
            out: contiguous(F32, out, &[n]),
            function: f.raw(),
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        arena.get::<f32>(out, n as usize)
    };
    assert!(run(F::Sum, 0, 3)[1..].iter().all(|v| v.is_nan()));
    assert!(run(F::Max, 0, 3)[1..].iter().all(|v| v.is_nan()));
    assert!(run(F::LogSumExp, 0, 3)[1..].iter().all(|v| v.is_nan()));
    assert_eq!(run(F::LogSumExp, 3, 2), [-inf, inf]);
    assert_eq!(run(F::Min, 3, 3), [-inf, -inf, -inf]);
    // Rank 0 is a row of one.
    let desc = Scan {
        x: contiguous(F32, x + 20, &[]),
        out: contiguous(F32, out, &[]),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    assert_eq!(arena.get::<f32>(out, 1), [2.0]);
}
