//! Casts with every rounding mode.

use half::{bf16, f16};
use proptest::prelude::*;
use vmlu_abi::tensor::DataType;
use vmlu_abi::Wire;
use vmlu_ops::cast::{Cast, Rounding};
use vmlu_ops::tensor::{contiguous, is_float};

use super::cases;
use super::tensors::{Rng, Tensor};
use crate::testing::Arena;

/// The finite numbers of a 16-bit type, in order, with infinities at the ends.
fn grid(dtype: DataType) -> Vec<f64> {
    let value = |bits: u16| match dtype {
        DataType::F16 => f64::from(f16::from_bits(bits)),
        _ => f64::from(bf16::from_bits(bits)),
    };
    let infinity = if dtype == DataType::F16 {
        0x7c00u16
    } else {
        0x7f80
    };
    let up: Vec<f64> = (0..=infinity).map(value).collect();
    let down = up.iter().skip(1).rev().map(|v| -v);
    down.chain(up.iter().copied()).collect()
}

/// What a value becomes on an ordered grid of numbers.
fn on_grid(grid: &[f64], v: f64, rounding: Rounding) -> f64 {
    let above = grid.partition_point(|g| *g < v);
    if grid.get(above) == Some(&v) {
        return v;
    }
    let (low, high) = (grid[above - 1], grid[above]);
    let (inner, outer) = if v > 0.0 { (low, high) } else { (high, low) };
    // Infinity stands one step beyond the largest number.
    let finite = |end: f64, beside: f64, before: f64| {
        if end.is_infinite() {
            beside + (beside - before)
        } else {
            end
        }
    };
    let before = if v > 0.0 {
        grid[above.saturating_sub(2)]
    } else {
        grid[(above + 1).min(grid.len() - 1)]
    };
    let middle = (inner + finite(outer, inner, before)) / 2.0;
    let even = |g: f64| {
        let at = grid.iter().position(|x| *x == g).expect("on the grid") as i64;
        (at - (grid.len() as i64 - 1) / 2) % 2 == 0
    };
    match rounding {
        Rounding::TowardsZero => inner,
        Rounding::Down => low,
        Rounding::Up => high,
        Rounding::OffZero => outer,
        _ if v.abs() != middle.abs() => {
            if v.abs() > middle.abs() {
                outer
            } else {
                inner
            }
        }
        Rounding::HalfUp => high,
        _ => {
            if even(outer) {
                outer
            } else {
                inner
            }
        }
    }
}

fn cast_one(arena: &mut Arena, from: &Tensor, to: &Tensor, rounding: Rounding) {
    let desc = Cast {
        x: from.desc(),
        out: to.desc(),
        rounding: rounding.raw(),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn to_16_bit_floats(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 14));
        let to = rng.pick(&[DataType::F16, DataType::Bf16]);
        let numbers = grid(to);
        let from = rng.pick(&[DataType::F32, DataType::F64]);
        let tensor = |dtype, address| Tensor { dtype, dims: vec![64], strides: vec![1], address };
        let x = tensor(from, arena.reserve(512));
        let out = tensor(to, arena.reserve(128));
        for i in 0..64 {
            // Numbers of the grid, ties, and what lies between.
            let at = 1 + rng.below(numbers.len() as u64 - 3) as usize;
            let (a, b) = (numbers[at], numbers[at + 1]);
            let v = match rng.below(4) {
                0 => a,
                1 => (a + b) / 2.0,
                2 => a + (b - a) * (rng.value() + 2.0) / 4.0,
                _ => rng.value() * 10f64.powi(rng.below(60) as i32 - 30),
            };
            x.set(&mut arena, &[i], if v.is_finite() { v } else { 1e30 });
        }
        for rounding in Rounding::ALL {
            cast_one(&mut arena, &x, &out, *rounding);
            for i in 0..64 {
                let v = x.get(&arena, &[i]);
                let (got, want) = (out.get(&arena, &[i]), on_grid(&numbers, v, *rounding));
                prop_assert_eq!(got, want, "{:e} to {:?}, {:?}", v, to, rounding);
            }
        }
    }

    #[test]
    fn to_integers(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 14));
        let tensor = |dtype, address| Tensor { dtype, dims: vec![32], strides: vec![1], address };
        let from = rng.pick(&[DataType::F32, DataType::F64, DataType::F16, DataType::Bf16]);
        let integers: Vec<DataType> = DataType::ALL.into_iter().filter(|t| !is_float(*t) && *t != DataType::Bool).collect();
        let to = rng.pick(&integers);
        let x = tensor(from, arena.reserve(256));
        let out = tensor(to, arena.reserve(256));
        for i in 0..32 {
            let v = (rng.value() * rng.pick(&[2.0, 100.0, 1e6])).round() + rng.pick(&[0.0, 0.5, 0.25, -0.5]);
            x.set(&mut arena, &[i], v);
        }
        let bits = 8 * to.size() as u32;
        let signed = matches!(to, DataType::I8 | DataType::I16 | DataType::I32 | DataType::I64);
        let (low, high) = if signed {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        };
        for rounding in Rounding::ALL {
            cast_one(&mut arena, &x, &out, *rounding);
            for i in 0..32 {
                let v = x.get(&arena, &[i]);
                let whole = match rounding {
                    Rounding::Default | Rounding::TowardsZero => v.trunc(),
                    Rounding::NearestEven => v.round_ties_even(),
                    Rounding::Down => v.floor(),
                    Rounding::Up => v.ceil(),
                    Rounding::OffZero => if v < 0.0 { v.floor() } else { v.ceil() },
                    Rounding::HalfUp => (v + 0.5).floor(),
                };
                let want = if v.is_finite() { (whole as i128).clamp(low, high) } else if v.is_nan() { 0 } else if v > 0.0 { high } else { low };
                prop_assert_eq!(out.get_whole(&arena, &[i]), want, "{} to {:?}, {:?}", v, to, rounding);
            }
        }
    }
}

#[test]
fn large_integers_round_once() {
    let mut arena = Arena::new(4096);
    let values = [
        (1i64 << 53) + 1,
        (1 << 53) + 3,
        -(1 << 53) - 1,
        i64::MAX,
        i64::MIN,
        (1 << 24) + 1,
        -(1 << 24) - 1,
    ];
    let x = arena.put(&values);
    let out = arena.reserve(56);
    let n = values.len();
    let run = |to: DataType, rounding: Rounding| {
        let desc = Cast {
            x: contiguous(DataType::I64, x, &[n as u64]),
            out: contiguous(to, out, &[n as u64]),
            rounding: rounding.raw(),
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        match to {
            DataType::F64 => arena.get::<f64>(out, n),
            _ => arena
                .get::<f32>(out, n)
                .into_iter()
                .map(f64::from)
                .collect(),
        }
    };
    let p53 = 9_007_199_254_740_992.0;
    let default: Vec<f64> = values.iter().map(|v| *v as f64).collect();
    assert_eq!(run(DataType::F64, Rounding::Default), default);
    assert_eq!(
        run(DataType::F64, Rounding::TowardsZero)[..3],
        [p53, p53 + 2.0, -p53]
    );
    assert_eq!(
        run(DataType::F64, Rounding::Up)[..3],
        [p53 + 2.0, p53 + 4.0, -p53]
    );
    assert_eq!(
        run(DataType::F64, Rounding::Down)[..3],
        [p53, p53 + 2.0, -p53 - 2.0]
    );
    assert_eq!(
        run(DataType::F64, Rounding::HalfUp)[..3],
        [p53 + 2.0, p53 + 4.0, -p53]
    );
    let default: Vec<f64> = values.iter().map(|v| f64::from(*v as f32)).collect();
    assert_eq!(run(DataType::F32, Rounding::Default), default);
    assert_eq!(
        run(DataType::F32, Rounding::Up)[5..],
        [16_777_218.0, -16_777_216.0]
    );
    assert_eq!(
        run(DataType::F32, Rounding::HalfUp)[5..],
        [16_777_218.0, -16_777_216.0]
    );
}
