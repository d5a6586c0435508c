//! What is reduced, and what comes of it by a plain loop.

use std::ops::{Add, Mul};

use vmlu::collective::Function;
use vmlu::DataType;

use crate::{noise, random};

/// Reduces by a plain loop: how each type is loaded, combined and stored.
pub fn reference(dtype: DataType, function: Function, inputs: &[Vec<u8>]) -> Vec<u8> {
    macro_rules! plain {
        ($t:ty, $add:ident, $multiply:ident) => {{
            let n = size_of::<$t>();
            let at =
                |v: &Vec<u8>, i: usize| <$t>::from_le_bytes(v[i * n..][..n].try_into().unwrap());
            (0..inputs[0].len() / n)
                .flat_map(|i| {
                    let all = inputs.iter().map(|v| at(v, i));
                    let one = all.reduce(|a, b| match function {
                        Function::Sum | Function::Average => a.$add(b),
                        Function::Product => a.$multiply(b),
                        Function::Max => a.max(b),
                        Function::Min => a.min(b),
                    });
                    let mut one = one.unwrap();
                    if function == Function::Average {
                        one /= inputs.len() as $t;
                    }
                    one.to_le_bytes()
                })
                .collect()
        }};
    }
    match dtype {
        DataType::I8 => plain!(i8, wrapping_add, wrapping_mul),
        DataType::I16 => plain!(i16, wrapping_add, wrapping_mul),
        DataType::I32 => plain!(i32, wrapping_add, wrapping_mul),
        DataType::I64 => plain!(i64, wrapping_add, wrapping_mul),
        DataType::U8 => plain!(u8, wrapping_add, wrapping_mul),
        DataType::U16 => plain!(u16, wrapping_add, wrapping_mul),
        DataType::U32 => plain!(u32, wrapping_add, wrapping_mul),
        DataType::U64 => plain!(u64, wrapping_add, wrapping_mul),
        DataType::F32 => plain!(f32, add, mul),
        DataType::F64 => plain!(f64, add, mul),
        DataType::F16 | DataType::Bf16 => {
            let count = inputs[0].len() / 2;
            let at = |v: &Vec<u8>, i: usize| {
                let bits = u16::from_le_bytes([v[2 * i], v[2 * i + 1]]);
                // Only small integers are asked for.
                (0..256).find(|n| small(dtype, *n) == bits).unwrap()
            };
            let one = |i: usize| {
                let all = inputs.iter().map(|v| at(v, i));
                all.reduce(|a, b| match function {
                    Function::Sum => a + b,
                    Function::Max => a.max(b),
                    Function::Min => a.min(b),
                    other => panic!("{other:?} of half precision"),
                })
            };
            (0..count)
                .flat_map(|i| small(dtype, one(i).unwrap()).to_le_bytes())
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Values of a type that are no NaN and whose products stay finite.
pub fn values(dtype: DataType, seed: u64, count: usize) -> Vec<u8> {
    let mut next = random(seed + 7);
    match dtype {
        DataType::F32 => (0..count)
            .flat_map(|_| (0.5 + (next() >> 40) as f32 / 16_777_216.0).to_le_bytes())
            .collect(),
        DataType::F64 => (0..count)
            .flat_map(|_| (0.5 + (next() >> 40) as f64 / 16_777_216.0).to_le_bytes())
            .collect(),
        // Halves of small integers: exact in both, and so are sums of 16.
        DataType::F16 | DataType::Bf16 => (0..count)
            .flat_map(|_| small(dtype, (next() >> 60) as u32).to_le_bytes())
            .collect(),
        _ => noise(seed, count * dtype.size()),
    }
}

/// A small integer as F16 or BF16.
pub fn small(dtype: DataType, value: u32) -> u16 {
    let bits = (value as f32).to_bits();
    if dtype == DataType::Bf16 {
        return (bits >> 16) as u16;
    }
    if value == 0 {
        return 0;
    }
    let exponent = (bits >> 23) as i32 - 127 + 15;
    (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

pub const TYPES: [DataType; 10] = [
    DataType::F32,
    DataType::F64,
    DataType::I8,
    DataType::I16,
    DataType::I32,
    DataType::I64,
    DataType::U8,
    DataType::U16,
    DataType::U32,
    DataType::U64,
];
pub const FUNCTIONS: [Function; 5] = [
    Function::Sum,
    Function::Product,
    Function::Max,
    Function::Min,
    Function::Average,
];
