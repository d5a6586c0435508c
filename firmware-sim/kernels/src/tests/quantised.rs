//! Quantised tensors, against the definition computed an element at a time.

use half::f16;
use vmlu_abi::tensor::DataType::{self, F16, F32, I16, I32, I8, U8};
use vmlu_abi::tensor::{tensor_flag, TensorDesc};
use vmlu_abi::Wire;
use vmlu_ops::conv::Conv;
use vmlu_ops::matmul::Matmul;
use vmlu_ops::quant::range;
use vmlu_ops::quantize::Quantize;
use vmlu_ops::tensor::{contiguous, strided, transposed};

use super::tensors::Rng;
use crate::testing::Arena;

/// The integer that stands for a number.
fn whole(value: f32, scale: f32, offset: i32, dtype: DataType) -> i32 {
    let (least, most) = range(dtype);
    let value = if value.is_nan() { 0.0 } else { value };
    ((value / scale).round_ties_even() + offset as f32).clamp(least as f32, most as f32) as i32
}

fn quantised(desc: TensorDesc, scale: f32, offset: i32) -> TensorDesc {
    TensorDesc {
        scale,
        offset,
        ..desc
    }
}

/// Whole numbers of a type at an address.
fn get(arena: &Arena, dtype: DataType, address: u64, count: usize) -> Vec<i32> {
    match dtype {
        I8 => arena
            .get::<i8>(address, count)
            .into_iter()
            .map(i32::from)
            .collect(),
        U8 => arena
            .get::<u8>(address, count)
            .into_iter()
            .map(i32::from)
            .collect(),
        _ => arena
            .get::<i16>(address, count)
            .into_iter()
            .map(i32::from)
            .collect(),
    }
}

#[test]
fn numbers_become_integers_and_come_back() {
    let mut values: Vec<f32> = (0..6000).map(|i| (i as f32 - 3000.0) * 0.0137).collect();
    values[..7].copy_from_slice(&[
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        1e-42,
        0.125,
    ]);
    let dims = [20, 300];
    let mut arena = Arena::new(1 << 18);
    let x = arena.put(&values);
    let out = arena.reserve(1 << 15);
    let back = arena.reserve(1 << 15);
    let scales: Vec<f32> = (0..300).map(|i| 0.05 + i as f32 / 700.0).collect();
    let offsets: Vec<i32> = (0..300).map(|i| i % 31).collect();
    let mut table = arena.put(&scales);
    for (dtype, offset) in [(I8, -3), (U8, 128), (I16, 1000)] {
        for channels in [0, 1, 2] {
            let plain = contiguous(dtype, out, &dims);
            if channels == 2 {
                let both: Vec<u32> = (scales.iter().map(|s| s.to_bits()))
                    .chain(offsets.iter().map(|o| *o as u32))
                    .collect();
                table = arena.put(&both);
            }
            let desc = match channels {
                0 => quantised(plain, 0.25, offset),
                _ => TensorDesc {
                    channel_axis: 1,
                    scales: table,
                    flags: if channels == 2 {
                        tensor_flag::OFFSETS
                    } else {
                        0
                    },
                    ..plain
                },
            };
            let of = |i: usize| match channels {
                0 => (0.25, offset),
                1 => (scales[i % 300], 0),
                _ => (scales[i % 300], offsets[i % 300]),
            };
            let source = contiguous(F32, x, &dims);
            arena
                .run(&Quantize {
                    x: source,
                    out: desc,
                })
                .unwrap();
            let integers = get(&arena, dtype, out, values.len());
            for (i, (q, v)) in integers.iter().zip(&values).enumerate() {
                let (scale, offset) = of(i);
                assert_eq!(
                    *q,
                    whole(*v, scale, offset, dtype),
                    "{dtype:?}, {channels}: {v} at {i}"
                );
            }
            for to in [F32, F16] {
                let target = contiguous(to, back, &dims);
                arena
                    .run(&Quantize {
                        x: desc,
                        out: target,
                    })
                    .unwrap();
                for (i, q) in integers.iter().enumerate() {
                    let (scale, offset) = of(i);
                    let number = scale * (q - offset) as f32;
                    let bits = match to {
                        F32 => (
                            u32::from(arena.get::<u16>(back + 4 * i as u64 + 2, 1)[0]) << 16
                                | u32::from(arena.get::<u16>(back + 4 * i as u64, 1)[0]),
                            number.to_bits(),
                        ),
                        _ => (
                            u32::from(arena.get::<u16>(back + 2 * i as u64, 1)[0]),
                            u32::from(f16::from_f32(number).to_bits()),
                        ),
                    };
                    assert_eq!(bits.0, bits.1, "{dtype:?} → {to:?}: {q} at {i}");
                }
            }
        }
    }
}

/// A quantised product by the definition: sums in i32, the rest in f32.
struct Reference {
    scale_a: f32,
    zero_a: i32,
    zero_b: i32,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
    relu: bool,
}

impl Reference {
    /// The number of a channel from the elements of its sum.
    fn number(&self, channel: usize, pairs: impl Iterator<Item = (i32, i32)>) -> f32 {
        let sum = pairs.fold(0i32, |s, (a, b)| {
            s.wrapping_add((a - self.zero_a).wrapping_mul(b - self.zero_b))
        });
        let scale = self.scales[channel % self.scales.len()] * self.scale_a;
        let mut value = sum as f32 * scale;
        if let Some(bias) = &self.bias {
            value += bias[channel];
        }
        if self.relu && value < 0.0 {
            0.0
        } else {
            value
        }
    }
}

fn noise(rng: &mut Rng, count: usize) -> Vec<u8> {
    (0..count).map(|_| rng.below(256) as u8).collect()
}

fn value(dtype: DataType, byte: u8) -> i32 {
    match dtype {
        U8 => i32::from(byte),
        _ => i32::from(byte as i8),
    }
}

#[test]
fn products_of_quantised_bytes() {
    let mut rng = Rng::new(7);
    for case in 0..160 {
        let mut arena = Arena::new(1 << 21);
        let [m, n, k] = [
            rng.pick(&[1u64, 3, 16, 40]),
            rng.pick(&[17u64, 70, 200]),
            rng.pick(&[33u64, 260, 700]),
        ];
        let (ta, tb) = (rng.pick(&[I8, U8]), rng.pick(&[I8, U8]));
        let to = rng.pick(&[I8, U8, F32, F16]);
        let (a, b) = (
            noise(&mut rng, (m * k) as usize),
            noise(&mut rng, (k * n) as usize),
        );
        let zero = |rng: &mut Rng, t| match rng.below(2) {
            0 => 0,
            _ => value(t, rng.below(256) as u8),
        };
        let channels = rng.below(2) == 0;
        let reference = Reference {
            scale_a: 0.02,
            zero_a: zero(&mut rng, ta),
            zero_b: if channels { 0 } else { zero(&mut rng, tb) },
            scales: match channels {
                true => (0..n).map(|i| 0.001 + i as f32 / 3e4).collect(),
                false => vec![0.0075],
            },
            bias: (rng.below(2) == 0 && to != F16)
                .then(|| (0..n).map(|i| i as f32 - 40.0).collect()),
            relu: rng.below(2) == 0,
        };
        let along = rng.below(2) == 0;
        let pb = arena.put(&b);
        let right = match along {
            true => transposed(contiguous(tb, pb, &[n, k]), 0, 1),
            false => contiguous(tb, pb, &[k, n]),
        };
        let right = match channels {
            true => TensorDesc {
                channel_axis: 1,
                scales: arena.put(&reference.scales),
                ..right
            },
            false => quantised(right, reference.scales[0], reference.zero_b),
        };
        let pa = arena.put(&a);
        let out = arena.reserve((m * n * 4) as usize);
        let target = contiguous(to, out, &[m, n]);
        let (scale, offset) = (1.5, 5);
        let bias = match &reference.bias {
            Some(bias) => contiguous(F32, arena.put(bias), &[n]),
            None => Wire::zeroed(),
        };
        let desc = Matmul {
            a: quantised(
                contiguous(ta, pa, &[m, k]),
                reference.scale_a,
                reference.zero_a,
            ),
            b: right,
            out: if matches!(to, I8 | U8) {
                quantised(target, scale, offset)
            } else {
                target
            },
            bias,
            alpha: 1.0,
            activation: u32::from(reference.relu),
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        for i in 0..m {
            for j in 0..n {
                let pairs = (0..k).map(|l| {
                    let at = if along { j * k + l } else { l * n + j };
                    (
                        value(ta, a[(i * k + l) as usize]),
                        value(tb, b[at as usize]),
                    )
                });
                let number = reference.number(j as usize, pairs);
                let at = i * n + j;
                let what = format!("case {case}: {ta:?}·{tb:?} → {to:?}, {m}×{n}×{k}, at {i}, {j}");
                match to {
                    F32 => assert_eq!(
                        arena.get::<f32>(out + 4 * at, 1)[0].to_bits(),
                        number.to_bits(),
                        "{what}"
                    ),
                    F16 => assert_eq!(
                        arena.get::<u16>(out + 2 * at, 1)[0],
                        f16::from_f32(number).to_bits(),
                        "{what}"
                    ),
                    _ => assert_eq!(
                        get(&arena, to, out + at, 1)[0],
                        whole(number, scale, offset, to),
                        "{what}"
                    ),
                }
            }
        }
    }
}

#[test]
fn convolutions_of_quantised_bytes() {
    let mut rng = Rng::new(11);
    for case in 0..60 {
        let mut arena = Arena::new(1 << 20);
        let (groups, inputs, outputs) = rng.pick(&[(1u64, 5u64, 9u64), (2, 4, 7), (1, 16, 33)]);
        let (size, taps) = (rng.pick(&[5u64, 9]), rng.pick(&[1u64, 3]));
        let pad = if rng.below(2) == 0 { taps / 2 } else { 0 };
        let end = size + 2 * pad - taps + 1;
        let (channels_in, channels_out) = (groups * inputs, groups * outputs);
        let tx = rng.pick(&[I8, U8]);
        let x = noise(&mut rng, (channels_in * size * size) as usize);
        let w = noise(&mut rng, (channels_out * inputs * taps * taps) as usize);
        let to = rng.pick(&[I8, U8, F32]);
        let reference = Reference {
            scale_a: 0.02,
            zero_a: if pad > 0 {
                0
            } else {
                value(tx, rng.below(256) as u8)
            },
            zero_b: 0,
            scales: (0..channels_out).map(|i| 0.002 + i as f32 / 9e3).collect(),
            bias: (rng.below(2) == 0).then(|| (0..channels_out).map(|i| i as f32 - 9.0).collect()),
            relu: rng.below(2) == 0,
        };
        // Channels last or first.
        let last = rng.below(2) == 0;
        let map = |dtype, address, c: u64, s: u64| match last {
            true => strided(
                dtype,
                address,
                &[1, c, s, s],
                &[(s * s * c) as i64, 1, (s * c) as i64, c as i64],
            ),
            false => contiguous(dtype, address, &[1, c, s, s]),
        };
        let at = |c: u64, s: u64, i: u64, y: u64, x: u64| match last {
            true => (y * s + x) * c + i,
            false => (i * s + y) * s + x,
        };
        let out = arena.reserve((channels_out * end * end * 4) as usize);
        let (scale, offset) = (0.75, -2);
        let offset = if to == U8 { 9 } else { offset };
        let target = map(to, out, channels_out, end);
        let desc = Conv {
            x: quantised(
                map(tx, arena.put(&x), channels_in, size),
                reference.scale_a,
                reference.zero_a,
            ),
            w: TensorDesc {
                scales: arena.put(&reference.scales),
                ..contiguous(I8, arena.put(&w), &[channels_out, inputs, taps, taps])
            },
            out: if to == F32 {
                target
            } else {
                quantised(target, scale, offset)
            },
            bias: match &reference.bias {
                Some(bias) => contiguous(F32, arena.put(bias), &[channels_out]),
                None => Wire::zeroed(),
            },
            alpha: 1.0,
            beta: 0.0,
            stride: [1, 1, 0],
            dilation: [1, 1, 0],
            padding: [pad as u32, pad as u32, pad as u32, pad as u32, 0, 0],
            groups: groups as u32,
            activation: u32::from(reference.relu),
        };
        arena.run(&desc).unwrap();
        for o in 0..channels_out {
            for (oy, ox) in (0..end * end).map(|p| (p / end, p % end)) {
                let mut pairs = Vec::new();
                for i in 0..inputs {
                    for (ty, tx_) in (0..taps * taps).map(|t| (t / taps, t % taps)) {
                        let (y, col) = ((oy + ty).wrapping_sub(pad), (ox + tx_).wrapping_sub(pad));
                        if y < size && col < size {
                            let c = o / outputs * inputs + i;
                            let byte = x[at(channels_in, size, c, y, col) as usize];
                            let weight = w[(((o * inputs + i) * taps + ty) * taps + tx_) as usize];
                            pairs.push((value(tx, byte), value(I8, weight)));
                        }
                    }
                }
                let number = reference.number(o as usize, pairs.into_iter());
                let at = at(channels_out, end, o, oy, ox);
                match to {
                    F32 => assert_eq!(
                        arena.get::<f32>(out + 4 * at, 1)[0].to_bits(),
                        number.to_bits(),
                        "case {case}"
                    ),
                    _ => assert_eq!(
                        get(&arena, to, out + at, 1)[0],
                        whole(number, scale, offset, to),
                        "case {case}"
                    ),
                }
            }
        }
    }
}

#[test]
fn what_is_no_quantised_product_is_refused() {
    let mut arena = Arena::new(1 << 16);
    let a = arena.reserve(4096);
    let bytes = |address| quantised(contiguous(I8, address, &[8, 8]), 0.5, 0);
    let good = Matmul {
        a: bytes(a),
        b: bytes(a + 64),
        out: bytes(a + 128),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    arena.run(&good).unwrap();
    let refused = |desc: &Matmul, rule: &str| {
        assert_eq!(arena.run(desc).unwrap_err().rule, rule);
    };
    let plain = contiguous(I8, a, &[8, 8]);
    refused(
        &Matmul { a: plain, ..good },
        "matmul: a is not quantised, but another operand is",
    );
    refused(
        &Matmul {
            out: contiguous(I32, a + 256, &[8, 8]),
            ..good
        },
        "matmul: out.dtype is I32, must be one of [F32, F16, Bf16]",
    );
    refused(
        &Matmul {
            a: quantised(plain, -1.0, 0),
            ..good
        },
        "matmul: a.scale is -1, must be finite and above 0",
    );
    refused(
        &Matmul {
            a: quantised(plain, 1.0, 200),
            ..good
        },
        "matmul: a.offset is 200, must be from -128 to 127",
    );
    refused(
        &Matmul { beta: 1.0, ..good },
        "matmul: a quantised out takes beta 0 only",
    );
    refused(
        &Matmul {
            a: quantised(contiguous(I16, a, &[8, 8]), 1.0, 0),
            ..good
        },
        "matmul: a.dtype is I16, must be one of [I8, U8]",
    );
    let rows = TensorDesc {
        channel_axis: 0,
        scales: a + 1024,
        scale: 0.0,
        ..good.b
    };
    refused(
        &Matmul { b: rows, ..good },
        "matmul: b.channel_axis is 0, must be 1",
    );
}
