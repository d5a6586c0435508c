use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, F32, F64, I32, I64};
use vmlu_abi::Status;
use vmlu_ops::tensor::{contiguous, is_float, FLOATS, INDICES};
use vmlu_ops::{arg_reduce, reduce, softmax};

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// Shape of a reduction, with the axes kept as 1 or left out.
fn reduced(dims: &[u64], axes: u32, keep: bool) -> Vec<u64> {
    let all = dims.iter().enumerate();
    all.filter(|(i, _)| keep || axes >> i & 1 == 0)
        .map(|(i, d)| if axes >> i & 1 != 0 { 1 } else { *d })
        .collect()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn reduce_matches_its_definition(seed: u64) {
        use reduce::Function as F;
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(0..=4);
        let function = rng.pick(F::ALL);
        let types = [F32, F32, DataType::F16, DataType::Bf16, F64, I32, I64, DataType::U8, DataType::Bool];
        let types: Vec<DataType> = types.into_iter().filter(|t| function.takes(*t)).collect();
        let dtype = rng.pick(&types);
        let axes = rng.below(1 << dims.len()) as u32;
        let wide = !is_float(dtype) && matches!(function, F::Sum | F::Prod) && rng.below(2) == 0;
        let mut x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        if rng.below(6) == 0 && !dims.is_empty() {
            x.strides[0] = 0;
        }
        let keep = rng.below(2) == 0;
        let out_type = match function {
            F::Any | F::All => DataType::Bool,
            F::CountNonzero => I64,
            _ if wide => I64,
            _ => dtype,
        };
        let out = Tensor::random(&mut rng, &mut arena, out_type, &reduced(&dims, axes, keep));
        let alpha = match function {
            F::NormP => rng.pick(&[3.0, 1.5, -1.0]),
            F::Var | F::Std => rng.pick(&[0.0, 1.0]),
            _ => 0.0,
        };
        let desc = reduce::Reduce { x: x.desc(), out: out.desc(), function: function.raw(), axes, alpha };
        let before = arena.snapshot();
        let result = arena.run(&desc);
        let empty = x.dims.contains(&0) && !out.dims.contains(&0);
        if empty && function.needs_element() {
            prop_assert_eq!(result.unwrap_err().status, Status::BadOperand);
            expect_only(&arena, before, &[]);
            return Ok(());
        }
        result.unwrap();
        expect_only(&arena, before, &[&out]);
        for o in indices(&reduced(&dims, axes, true)) {
            let own: Vec<u64> = (0..dims.len())
                .filter(|i| keep || axes >> i & 1 == 0)
                .map(|i| o[i])
                .collect();
            let inner: Vec<u64> = (0..dims.len())
                .map(|i| if axes >> i & 1 != 0 { dims[i] } else { 1 })
                .collect();
            let values: Vec<f64> = indices(&inner).iter()
                .map(|r| {
                    let at: Vec<u64> = o.iter().zip(r).map(|(a, b)| a + b).collect();
                    x.get(&arena, &at)
                })
                .collect();
            let want = match function {
                F::Sum => values.iter().sum(),
                F::Mean => values.iter().sum::<f64>() / values.len() as f64,
                F::Prod => values.iter().product(),
                F::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                F::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
                F::Any => values.iter().any(|v| *v != 0.0).into(),
                F::All => values.iter().all(|v| *v != 0.0).into(),
                F::CountNonzero => values.iter().filter(|v| **v != 0.0).count() as f64,
                F::Norm1 => values.iter().map(|v| v.abs()).sum(),
                F::Norm2 => values.iter().map(|v| v * v).sum::<f64>().sqrt(),
                F::SumSquares => values.iter().map(|v| v * v).sum(),
                F::NormInf => values.iter().fold(0.0, |m, v| v.abs().max(m)),
                F::NormNegInf => values.iter().fold(f64::INFINITY, |m, v| v.abs().min(m)),
                F::NormP => values.iter().map(|v| v.abs().powf(alpha)).sum::<f64>().powf(1.0 / alpha),
                F::LogSumExp => values.iter().map(|v| v.exp()).sum::<f64>().ln(),
                F::NanSum => values.iter().sum(),
                F::Var | F::Std => {
                    let n = values.len() as f64;
                    let mean = values.iter().sum::<f64>() / n;
                    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
                    let var = squares / (n - alpha).max(0.0);
                    if function == F::Std { var.sqrt() } else { var }
                }
            };
            if is_float(out_type) {
                let size: f64 = values.iter().map(|v| v.abs()).sum();
                // Exponentials of f32 are f32's.
                let loose = if function == F::LogSumExp && dtype != F64 { 1e-6 } else { 0.0 };
                out.expect(&arena, &own, want, (1e-13 + loose) * (size + want.abs()));
            } else if function == F::Prod {
                let product = values.iter().fold(1i64, |p, v| p.wrapping_mul(*v as i64));
                let want = match out_type {
                    I32 => i128::from(product as i32),
                    I64 => i128::from(product),
                    _ => i128::from(product as u8),
                };
                prop_assert_eq!(out.get_whole(&arena, &own), want);
            } else {
                let want = want as i64;
                let want = if out_type == DataType::U8 { i128::from(want as u8) } else { i128::from(want) };
                prop_assert_eq!(out.get_whole(&arena, &own), want);
            }
        }
    }

    #[test]
    fn arg_reduce_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims: Vec<u64> = rng.dims(1..=4).iter().map(|d| *d.max(&1)).collect();
        let axis = rng.below(dims.len() as u64) as u32;
        let dtype = rng.pick(&[F32, DataType::F16, F64, I32, DataType::I8, DataType::U64]);
        let function = rng.pick(arg_reduce::Function::ALL);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let keep = rng.below(2) == 0;
        let out_type = rng.pick(&INDICES);
        let out = Tensor::random(&mut rng, &mut arena, out_type, &reduced(&dims, 1 << axis, keep));
        let desc = arg_reduce::ArgReduce { x: x.desc(), out: out.desc(), function: function.raw(), axis };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for o in indices(&reduced(&dims, 1 << axis, true)) {
            let own: Vec<u64> = (0..dims.len()).filter(|i| keep || *i != axis as usize).map(|i| o[i]).collect();
            let at = |j: u64| {
                let mut index = o.clone();
                index[axis as usize] = j;
                index
            };
            // Exactly, also where f64 is too narrow.
            let below = |a: u64, b: u64| match is_float(dtype) {
                true => x.get(&arena, &at(a)) < x.get(&arena, &at(b)),
                false => x.get_whole(&arena, &at(a)) < x.get_whole(&arena, &at(b)),
            };
            let largest = function == arg_reduce::Function::Max;
            let mut best = 0;
            for j in 1..dims[axis as usize] {
                if if largest { below(best, j) } else { below(j, best) } {
                    best = j;
                }
            }
            prop_assert_eq!(out.get_whole(&arena, &own), i128::from(best));
        }
    }

    #[test]
    fn softmax_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims = rng.dims(1..=4);
        let axis = rng.below(dims.len() as u64) as usize;
        let dtype = rng.pick(&FLOATS);
        let function = rng.pick(softmax::Function::ALL);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        // In place now and then.
        let out = if rng.below(4) == 0 { x.clone() } else { Tensor::random(&mut rng, &mut arena, dtype, &dims) };
        let old: Vec<f64> = x.indices().iter().map(|i| x.get(&arena, i)).collect();
        let desc = softmax::Softmax { x: x.desc(), out: out.desc(), function: function.raw(), axis: axis as u32 };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        let all = x.indices();
        for (i, v) in all.iter().zip(&old) {
            let row = all.iter().zip(&old).filter(|(j, _)| {
                (0..dims.len()).all(|d| d == axis || i[d] == j[d])
            });
            let sum: f64 = row.map(|(_, w)| w.exp()).sum();
            let want = match function {
                softmax::Function::Softmax => v.exp() / sum,
                softmax::Function::LogSoftmax => v - sum.ln(),
            };
            out.expect(&arena, i, want, if dtype == F64 { 1e-14 } else { 1e-6 });
        }
    }
}

/// A product is rounded to f16 once, at its end: beyond the largest number it is infinite, and a detour beyond does no harm.
#[test]
fn products_overflow_as_the_type_rounds() {
    use half::f16;
    let mut arena = Arena::new(1 << 12);
    for (factors, want) in [
        ([-256.0, 256.0, 1.0], f32::NEG_INFINITY),
        ([-256.0, 256.0, 0.5], -32768.0),
        ([255.875, 256.0, 1.0], 65504.0),
        ([4096.0, 16.0, 1.0], f32::INFINITY),
    ] {
        let x = arena.put(&factors.map(|f: f32| f16::from_f32(f).to_bits()));
        let out = arena.reserve(2);
        let desc = reduce::Reduce {
            x: contiguous(DataType::F16, x, &[3]),
            out: contiguous(DataType::F16, out, &[]),
            function: reduce::Function::Prod.raw(),
            axes: 1,
            ..vmlu_abi::Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        assert_eq!(f16::from_bits(arena.get(out, 1)[0]).to_f32(), want);
    }
}

/// Long reductions, which are cut into blocks, down columns and along rows.
#[test]
fn long_sums_are_exact_where_f64_is() {
    let mut arena = Arena::new(8 << 20);
    let values: Vec<f32> = (0..1_000_003u32)
        .map(|i| (i % 1000) as f32 - 499.0)
        .collect();
    let x = arena.put(&values);
    let out = arena.reserve(4 * 1000);
    let sum = |dims: &[u64], axes: u32, result: &[u64]| {
        let desc = reduce::Reduce {
            x: contiguous(F32, x, dims),
            out: contiguous(F32, out, result),
            function: 0,
            axes,
            ..vmlu_abi::Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        arena.get::<f32>(out, result.iter().product::<u64>() as usize)
    };
    let total: f64 = values.iter().map(|v| f64::from(*v)).sum();
    assert_eq!(sum(&[1_000_003], 1, &[]), [total as f32]);
    let columns = sum(&[1000, 1000], 1, &[1000]);
    assert!((0..1000).all(|i| columns[i] == 1000.0 * (i as f32 - 499.0)));
    assert!(sum(&[1000, 1000], 2, &[1000, 1])
        .iter()
        .all(|v| *v == 500.0));
    assert_eq!(sum(&[2, 500_000], 2, &[2]), [250_000.0; 2]);
}
