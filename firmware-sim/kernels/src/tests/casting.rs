//! Casts with every rounding mode.

use half::{bf16, f16};
use proptest::prelude::*;
use vmlu_abi::tensor::{reserved_type, DataType, TensorDesc};
use vmlu_abi::{Status, Wire};
use vmlu_ops::cast::{Cast, Rounding};
use vmlu_ops::tensor::{contiguous, is_float};

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
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

/// A tensor of four-bit integers: its octets lie in another one, along an axis.
struct Packed {
    octets: Tensor,
    axis: usize,
    dims: Vec<u64>,
    signed: bool,
}

impl Packed {
    fn random(rng: &mut Rng, arena: &mut Arena, dims: &[u64], axis: usize) -> Self {
        let rank = dims.len();
        let mut inside = dims.to_vec();
        inside[axis] = dims[axis].div_ceil(2);
        // The axis of the octets is the innermost one; the others come in any order, with gaps.
        let mut order: Vec<usize> = (0..rank).filter(|i| *i != axis).collect();
        if rng.below(2) == 0 {
            order.reverse();
        }
        let mut strides = vec![1i64; rank];
        let mut next = inside[axis] as i64 + rng.below(3) as i64;
        for i in order {
            strides[i] = next;
            next = next * inside[i].max(1) as i64 + rng.below(2) as i64;
        }
        let bytes: Vec<u8> = (0..next + 1).map(|_| rng.next() as u8).collect();
        let octets = Tensor {
            dtype: DataType::U8,
            dims: inside,
            strides,
            address: arena.put(&bytes),
        };
        Self {
            octets,
            axis,
            dims: dims.to_vec(),
            signed: rng.below(2) == 0,
        }
    }

    fn desc(&self) -> TensorDesc {
        let mut desc = self.octets.desc();
        desc.dtype = if self.signed {
            reserved_type::I4
        } else {
            reserved_type::U4
        };
        for (i, dim) in self.dims.iter().enumerate() {
            desc.dims[i] = *dim;
            desc.strides[i] *= if i == self.axis { 1 } else { 2 };
        }
        desc
    }

    fn get(&self, arena: &Arena, index: &[u64]) -> i128 {
        let mut at = index.to_vec();
        at[self.axis] /= 2;
        let octet = self.octets.get_whole(arena, &at);
        let bits = octet >> (4 * (index[self.axis] % 2)) & 15;
        if self.signed && bits > 7 {
            bits - 16
        } else {
            bits
        }
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn four_bits(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        let mut dims = rng.dims(1..=3);
        let axis = rng.below(dims.len() as u64) as usize;
        if rng.below(20) == 0 {
            dims.iter_mut().for_each(|d| *d = (*d).min(2));
            dims[axis] = 2000 + rng.below(200);
        }
        let packed = Packed::random(&mut rng, &mut arena, &dims, axis);
        let dtype = rng.pick(&DataType::ALL);
        let plain = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        for i in indices(&dims) {
            let value = rng.value() * rng.pick(&[1.0, 4.0, 100.0]);
            plain.set(&mut arena, &i, if rng.below(30) == 0 { f64::NAN } else { value });
        }
        let rounding = rng.pick(Rounding::ALL);
        let run = |arena: &mut Arena, x: TensorDesc, out: TensorDesc| {
            arena.run(&Cast { x, out, rounding: rounding.raw(), ..Wire::zeroed() }).unwrap();
        };
        // Apart.
        let before = arena.snapshot();
        run(&mut arena, packed.desc(), plain.desc());
        expect_only(&arena, before, &[&plain]);
        for i in indices(&dims) {
            let v = packed.get(&arena, &i);
            if is_float(dtype) {
                prop_assert_eq!(plain.get(&arena, &i), v as f64);
            } else {
                let want = match dtype {
                    DataType::Bool => i128::from(v != 0),
                    DataType::U8 => i128::from(v as u8),
                    DataType::U16 => i128::from(v as u16),
                    DataType::U32 => i128::from(v as u32),
                    DataType::U64 => i128::from(v as u64),
                    _ => v,
                };
                prop_assert_eq!(plain.get_whole(&arena, &i), want);
            }
        }
        // Together.
        for i in indices(&dims) {
            let value = rng.value() * rng.pick(&[1.0, 4.0, 100.0]);
            plain.set(&mut arena, &i, if rng.below(30) == 0 { f64::NAN } else { value });
        }
        let before = arena.snapshot();
        run(&mut arena, plain.desc(), packed.desc());
        expect_only(&arena, before, &[&packed.octets]);
        let (low, high) = if packed.signed { (-8, 7) } else { (0, 15) };
        for i in indices(&dims) {
            let want = if is_float(dtype) {
                let v = plain.get(&arena, &i);
                let near = match rounding {
                    Rounding::Default | Rounding::TowardsZero => v.trunc(),
                    Rounding::NearestEven => v.round_ties_even(),
                    Rounding::Down => v.floor(),
                    Rounding::Up => v.ceil(),
                    Rounding::OffZero => v.abs().ceil().copysign(v),
                    Rounding::HalfUp => (v + 0.5).floor(),
                };
                (near as i128).clamp(low, high)
            } else {
                let bits = plain.get_whole(&arena, &i) & 15;
                if packed.signed && bits > 7 { bits - 16 } else { bits }
            };
            prop_assert_eq!(packed.get(&arena, &i), want);
        }
        // Of an odd number, the last half is nothing.
        if dims[axis] % 2 == 1 {
            for i in packed.octets.indices().iter().filter(|i| i[axis] == dims[axis] / 2) {
                prop_assert_eq!(packed.octets.get_whole(&arena, i) >> 4, 0);
            }
        }
        // From one of the two types to the other.
        let other = Packed::random(&mut rng, &mut arena, &dims, axis);
        run(&mut arena, packed.desc(), other.desc());
        for i in indices(&dims) {
            prop_assert_eq!(packed.get(&arena, &i) & 15, other.get(&arena, &i) & 15);
        }
    }
}

#[test]
fn rules_of_four_bits() {
    let mut arena = Arena::new(1 << 12);
    let x = contiguous(DataType::F32, arena.reserve(64), &[4, 4]);
    let packed = TensorDesc {
        dtype: reserved_type::I4,
        ..contiguous(DataType::U8, arena.reserve(64), &[4, 4])
    };
    let with = |change: &dyn Fn(&mut TensorDesc)| {
        let mut out = packed;
        change(&mut out);
        out
    };
    let rows: &[(TensorDesc, u16, &str)] = &[
        (
            with(&|t| t.strides = [0; 8]),
            1,
            "cast: out.strides are [0, 0], one must be 1",
        ),
        (
            with(&|t| t.strides[0] = 5),
            1,
            "cast: out.strides[0] is 5, must be even",
        ),
        (
            with(&|t| t.strides[0] = 2),
            1,
            "cast: out.strides[0] is 1, elements of an output would overlap",
        ),
        (
            with(&|t| t.dims[0] = 3),
            0,
            "cast: x.dims[0] is 4, but out is [3, 4]",
        ),
        (
            with(&|t| t.rank = 9),
            1,
            "cast: out.rank is 9, must be 1 to 8",
        ),
        (
            with(&|t| t.address = x.address),
            1,
            "cast: out overlaps x, but must not",
        ),
    ];
    let before = arena.snapshot();
    for (out, operand, text) in rows {
        let desc = Cast {
            x,
            out: *out,
            ..Wire::zeroed()
        };
        let fault = arena.run(&desc).unwrap_err();
        assert_eq!(
            (fault.status, fault.operand, &fault.rule[..]),
            (Status::BadOperand, *operand, *text)
        );
    }
    let turned = with(&|t| t.strides[..2].copy_from_slice(&[1, 4]));
    let desc = Cast {
        x: packed,
        out: TensorDesc {
            address: x.address,
            ..turned
        },
        ..Wire::zeroed()
    };
    let fault = arena.run(&desc).unwrap_err();
    assert_eq!(
        &fault.rule[..],
        "cast: out.strides: octets lie along axis 0, but those of x along axis 1"
    );
    assert!(before == arena.snapshot());
}
