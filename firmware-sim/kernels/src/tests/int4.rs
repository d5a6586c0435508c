//! Products with weights of four bits have the bits of products with the weights that they stand for.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, I8};
use vmlu_abi::tensor::{reserved_type, TensorDesc};
use vmlu_abi::Wire;
use vmlu_ops::matmul::Matmul;
use vmlu_ops::matmul_int4::MatmulInt4;
use vmlu_ops::tensor::{contiguous, strided};

use super::tensors::Rng;
use crate::testing::Arena;

/// Numbers as a type, and as what they then are.
fn put(arena: &mut Arena, dtype: DataType, values: &mut [f32]) -> u64 {
    let halves = |round: fn(f32) -> (u16, f32), values: &mut [f32]| -> Vec<u16> {
        let each = values.iter_mut().map(|v| {
            let (bits, kept) = round(*v);
            *v = kept;
            bits
        });
        each.collect()
    };
    match dtype {
        F16 => {
            let bits = halves(
                |v| (f16::from_f32(v).to_bits(), f16::from_f32(v).to_f32()),
                values,
            );
            arena.put(&bits)
        }
        Bf16 => {
            let bits = halves(
                |v| (bf16::from_f32(v).to_bits(), bf16::from_f32(v).to_f32()),
                values,
            );
            arena.put(&bits)
        }
        _ => arena.put(values),
    }
}

#[test]
fn four_bits_stand_for_numbers() {
    let mut rng = Rng::new(3);
    for case in 0..120 {
        let mut arena = Arena::new(1 << 22);
        let [m, n, k] = [
            rng.pick(&[1u64, 2, 9, 33]),
            rng.pick(&[1u64, 31, 64, 150]),
            rng.pick(&[1u64, 63, 128, 700, 1100]),
        ];
        let group = rng.pick(&[0u32, 32, 128, 6]);
        let rows = if group == 0 {
            1
        } else {
            k.div_ceil(u64::from(group))
        };
        let (signed, along) = (rng.below(2) == 0, rng.below(2) == 0);
        let dtype = rng.pick(&[F32, F16, Bf16]);
        let mut number = |count: u64, size: f32| -> Vec<f32> {
            (0..count)
                .map(|_| (rng.below(2001) as f32 / 1000.0 - 1.0) * size)
                .collect()
        };
        let (mut a, mut scales, bias) = (number(m * k, 1.0), number(rows * n, 0.1), number(n, 2.0));
        let (pa, ps) = (
            put(&mut arena, dtype, &mut a),
            put(&mut arena, dtype, &mut scales),
        );
        let zeros: Option<Vec<i8>> =
            (rng.below(2) == 0).then(|| (0..rows * n).map(|_| rng.below(16) as i8 - 8).collect());
        // Octets of rows that are longer than needed.
        let (outer, inner) = if along { (n, k) } else { (k, n) };
        let pitch = inner.div_ceil(2) + rng.below(3);
        let octets: Vec<u8> = (0..outer * pitch).map(|_| rng.below(256) as u8).collect();
        let weights: Vec<f32> = (0..k * n)
            .map(|i| {
                let (l, j) = (i / n, i % n);
                let (o, e) = if along { (j, l) } else { (l, j) };
                let bits = octets[(o * pitch + e / 2) as usize] >> (4 * (e % 2)) & 15;
                let q = if signed {
                    i32::from((bits << 4) as i8 >> 4)
                } else {
                    i32::from(bits)
                };
                let at = (if group == 0 { 0 } else { l / u64::from(group) } * n + j) as usize;
                let zero = zeros.as_ref().map_or(0, |z| i32::from(z[at]));
                scales[at] * (q - zero) as f32
            })
            .collect();
        let strides = if along {
            [1, 2 * pitch as i64]
        } else {
            [2 * pitch as i64, 1]
        };
        let w = TensorDesc {
            dtype: if signed {
                reserved_type::I4
            } else {
                reserved_type::U4
            },
            ..strided(I8, arena.put(&octets), &[k, n], &strides)
        };
        let out = arena.reserve((m * n * 4) as usize);
        let pb = arena.put(&bias);
        let desc = MatmulInt4 {
            a: contiguous(dtype, pa, &[m, k]),
            w,
            scales: contiguous(dtype, ps, &[rows, n]),
            zeros: zeros
                .as_ref()
                .map_or(Wire::zeroed(), |z| contiguous(I8, arena.put(z), &[rows, n])),
            out: contiguous(F32, out, &[m, n]),
            bias: contiguous(F32, pb, &[n]),
            alpha: 0.5,
            activation: 1,
            group,
        };
        arena.run(&desc).unwrap();
        let found = arena.get::<u32>(out, (m * n) as usize);
        let plain = Matmul {
            a: contiguous(F32, arena.put(&a), &[m, k]),
            b: contiguous(F32, arena.put(&weights), &[k, n]),
            out: contiguous(F32, out, &[m, n]),
            bias: contiguous(F32, pb, &[n]),
            alpha: 0.5,
            activation: 1,
            ..Wire::zeroed()
        };
        arena.run(&plain).unwrap();
        let expected = arena.get::<u32>(out, (m * n) as usize);
        assert!(
            found == expected,
            "case {case}: {dtype:?} {m}×{n}×{k}, group {group}, signed {signed}, along {along}"
        );
    }
}

#[test]
fn what_is_no_product_of_four_bits_is_refused() {
    let mut arena = Arena::new(1 << 16);
    let base = arena.reserve(1 << 15);
    let w = TensorDesc {
        dtype: reserved_type::I4,
        ..contiguous(I8, base, &[8, 4])
    };
    let good = MatmulInt4 {
        a: contiguous(F32, base + 64, &[2, 8]),
        w,
        scales: contiguous(F32, base + 128, &[1, 4]),
        zeros: Wire::zeroed(),
        out: contiguous(F32, base + 256, &[2, 4]),
        bias: Wire::zeroed(),
        alpha: 1.0,
        activation: 0,
        group: 0,
    };
    arena.run(&good).unwrap();
    let refused = |desc: &MatmulInt4, rule: &str| {
        assert_eq!(arena.run(desc).unwrap_err().rule, rule);
    };
    let other = |w: TensorDesc| MatmulInt4 { w, ..good };
    refused(
        &other(contiguous(I8, base, &[8, 4])),
        "matmul_int4: w.dtype is 8, must be 48 (I4) or 50 (U4)",
    );
    refused(
        &other(TensorDesc {
            strides: [3, 1, 0, 0, 0, 0, 0, 0],
            ..w
        }),
        "matmul_int4: w.strides[0] is 3, must be even",
    );
    refused(
        &other(TensorDesc {
            strides: [4, 2, 0, 0, 0, 0, 0, 0],
            ..w
        }),
        "matmul_int4: w.strides are [4, 2], one must be 1",
    );
    refused(
        &MatmulInt4 { group: 3, ..good },
        "matmul_int4: group is 3, must be even",
    );
    refused(
        &MatmulInt4 { group: 4, ..good },
        "matmul_int4: scales.dims[0] is 1, but a, w and group say [2, 4]",
    );
}
