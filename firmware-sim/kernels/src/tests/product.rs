use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I16, I32, I64, I8, U8};
use vmlu_abi::Wire;
use vmlu_ops::matmul::{Activation, Matmul};
use vmlu_ops::tensor::contiguous;

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// Checks a product of random operands against sums in f64 (exact for integers).
fn check(
    rng: &mut Rng,
    arena: &mut Arena,
    types: (DataType, DataType),
    batch: &[u64],
    [m, n, k]: [u64; 3],
) {
    let some = |rng: &mut Rng| -> Vec<u64> {
        let skip = if rng.below(3) == 0 {
            rng.below(batch.len() as u64 + 1) as usize
        } else {
            0
        };
        batch[skip..]
            .iter()
            .map(|d| if rng.below(4) == 0 { 1 } else { *d })
            .collect()
    };
    let (batch_a, batch_b) = (some(rng), some(rng));
    let rank = batch_a.len().max(batch_b.len());
    let at = |d: &[u64], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |j| d[j]);
    let result: Vec<u64> = (0..rank)
        .map(|i| match at(&batch_a, i) {
            1 => at(&batch_b, i),
            d => d,
        })
        .collect();
    let a = Tensor::random(rng, arena, types.0, &[&batch_a[..], &[m, k]].concat());
    let type_b = match types.0 {
        I8 | U8 => rng.pick(&[I8, U8]),
        other => other,
    };
    let b = Tensor::random(rng, arena, type_b, &[&batch_b[..], &[k, n]].concat());
    let dims = [&result[..], &[m, n]].concat();
    let out = Tensor::random(rng, arena, types.1, &dims);
    let bias = (rng.below(2) == 0).then(|| Tensor::random_broadcast(rng, arena, types.1, &dims));
    let whole = matches!(types.0, I8 | U8 | I16);
    let desc = Matmul {
        a: a.desc(),
        b: b.desc(),
        out: out.desc(),
        bias: bias.as_ref().map_or(Wire::zeroed(), Tensor::desc),
        alpha: if whole { 1.0 } else { rng.pick(&[1.0, -0.5]) },
        beta: rng.pick(if whole {
            &[0.0, 1.0]
        } else {
            &[0.0, 1.0, 0.25]
        }),
        activation: rng.below(if whole { 2 } else { 8 }) as u32,
        reserved: 0,
    };
    let old: Vec<f64> = out.indices().iter().map(|i| out.get(arena, i)).collect();
    let before = arena.snapshot();
    arena.run(&desc).unwrap();
    expect_only(arena, before, &[&out]);
    for (i, old) in out.indices().iter().zip(old) {
        let (outer, inner) = i.split_at(rank);
        let side = |t: &Tensor, tail: [u64; 2]| {
            let lead = t.dims.len() - 2;
            let mut index: Vec<u64> = outer[rank - lead..].to_vec();
            for (x, d) in index.iter_mut().zip(&t.dims) {
                *x = if *d == 1 { 0 } else { *x };
            }
            index.extend(tail);
            t.get(arena, &index)
        };
        let (mut sum, mut size) = (0.0, 0.0);
        for l in 0..k {
            let p = side(&a, [inner[0], l]) * side(&b, [l, inner[1]]);
            sum += p;
            size += p.abs();
        }
        let mut want = desc.alpha * sum;
        want += if desc.beta == 0.0 {
            0.0
        } else {
            desc.beta * old
        };
        want += bias.as_ref().map_or(0.0, |b| b.get_broadcast(arena, i));
        let slope = activate(desc.activation, &mut want);
        let unit = match types.0 {
            I8 | U8 | I16 => 0.0,
            F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        };
        out.expect(
            arena,
            i,
            want,
            8.0 * unit * slope * (size + old.abs() + 4.0),
        );
    }
}

/// Applies an activation; returns a bound of its slope.
fn activate(activation: u32, x: &mut f64) -> f64 {
    let v = *x;
    let slope = match Activation::from_raw(activation).unwrap() {
        Activation::Gelu | Activation::GeluTanh | Activation::Silu => 2.0,
        _ => 1.0,
    };
    *x = match Activation::from_raw(activation).unwrap() {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
        Activation::Relu6 => v.clamp(0.0, 6.0),
        Activation::Gelu => 0.5 * v * (1.0 + libm::erf(v / 2f64.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
            0.5 * v * (1.0 + inner.tanh())
        }
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::Tanh => v.tanh(),
    };
    slope
}

const TYPES: [(DataType, DataType); 10] = [
    (F32, F32),
    (F16, F16),
    (F16, F32),
    (Bf16, Bf16),
    (Bf16, F32),
    (F64, F64),
    (I8, I32),
    (U8, I32),
    (I16, I32),
    (I16, I64),
];

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn small_products_match_their_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let batch = rng.dims(0..=3);
        let mnk = [(); 3].map(|()| if rng.below(20) == 0 { 0 } else { 1 + rng.below(9) });
        let types = rng.pick(&TYPES);
        check(&mut rng, &mut arena, types, &batch, mnk);
    }
}

proptest! {
    #![proptest_config(cases(12))]

    /// Sizes around those of tiles and blocks.
    #[test]
    fn large_products_match_their_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(12 << 20));
        let mnk = [
            rng.pick(&[1, 11, 12, 13, 97, 193]),
            rng.pick(&[1, 31, 33, 64, 100]),
            rng.pick(&[1, 64, 511, 512, 513, 1100]),
        ];
        let types = rng.pick(&TYPES);
        check(&mut rng, &mut arena, types, &[], mnk);
    }
}

/// The rounding is defined: ascending order, blocks of `K_BLOCK`, fused multiply-adds. So plain code gives the same bits as vectors.
#[test]
fn every_bit_of_f32_is_as_defined() {
    let (m, n, k) = (37usize, 45usize, 1300usize);
    let (mut rng, mut arena) = (Rng::new(7), Arena::new(4 << 20));
    let a: Vec<f32> = (0..m * k).map(|_| rng.value() as f32).collect();
    let b: Vec<f32> = (0..k * n).map(|_| rng.value() as f32).collect();
    let (pa, pb, pc) = (arena.put(&a), arena.put(&b), arena.reserve(m * n * 4));
    let dims = |x: usize, y: usize| [x as u64, y as u64];
    let desc = Matmul {
        a: contiguous(F32, pa, &dims(m, k)),
        b: contiguous(F32, pb, &dims(k, n)),
        out: contiguous(F32, pc, &dims(m, n)),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    let got: Vec<f32> = arena.get(pc, m * n);
    for i in 0..m {
        for j in 0..n {
            let mut total = None;
            for start in (0..k).step_by(vmlu_ops::matmul::K_BLOCK as usize) {
                let end = k.min(start + vmlu_ops::matmul::K_BLOCK as usize);
                let block = (start..end).fold(0.0f32, |s, l| a[i * k + l].mul_add(b[l * n + j], s));
                total = Some(total.map_or(block, |t: f32| t + block));
            }
            assert_eq!(
                got[i * n + j].to_bits(),
                total.unwrap().to_bits(),
                "{i}, {j}"
            );
        }
    }
}
