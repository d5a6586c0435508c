//! Elementwise operators of two and three tensors.

#![allow(clippy::type_complexity)]

use proptest::prelude::*;
use vmlu_abi::tensor::DataType;
use vmlu_abi::Wire;
use vmlu_ops::binary::{Binary, Function as F};
use vmlu_ops::tensor::{contiguous, is_float};
use vmlu_ops::ternary::{Function as G, Ternary};
use vmlu_ops::{accuracy, unary};

use super::cases;
use super::elementwise::wrap;
use super::single::{reference as unary_reference, sigmoid};
use super::tensors::{expect_bound, expect_only, Rng, Tensor};
use crate::testing::Arena;

fn floats(f: F, a: f64, b: f64, p: [f64; 3]) -> Option<f64> {
    let truth = |t: bool| if t { 1.0 } else { 0.0 };
    Some(match f {
        F::Add => a + b,
        F::Sub => a - b,
        F::Mul => a * b,
        F::Div => a / b,
        F::Max => a.max(b),
        F::Min => a.min(b),
        F::ReluBackward => a * truth(b > 0.0),
        F::Axpby => p[0] * a + p[1] * b,
        F::FloorDiv => (a / b).floor(),
        F::TruncDiv => (a / b).trunc(),
        F::Fmod => a % b,
        F::Remainder => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) {
                r + b
            } else {
                r
            }
        }
        F::Pow => a.powf(b),
        F::Fmax => a.max(b),
        F::Fmin => a.min(b),
        F::SquaredDifference => (a - b) * (a - b),
        F::Equal => truth(a == b),
        F::NotEqual => truth(a != b),
        F::Less => truth(a < b),
        F::LessEqual => truth(a <= b),
        F::Greater => truth(a > b),
        F::GreaterEqual => truth(a >= b),
        F::LogicalAnd => truth(a != 0.0 && b != 0.0),
        F::LogicalOr => truth(a != 0.0 || b != 0.0),
        F::LogicalXor => truth((a != 0.0) != (b != 0.0)),
        F::Atan2 => a.atan2(b),
        F::Hypot => a.hypot(b),
        F::CopySign => a.copysign(b),
        F::LogAddExp => a.max(b) + (-(a - b).abs()).exp().ln_1p(),
        F::LogAddExp2 => a.max(b) + (1.0 + (-(a - b).abs()).exp2()).log2(),
        F::Xlogy => {
            if a == 0.0 {
                0.0
            } else {
                a * b.ln()
            }
        }
        F::Xlog1py => {
            if a == 0.0 {
                0.0
            } else {
                a * b.ln_1p()
            }
        }
        F::Ldexp => a * b.exp2(),
        F::Prelu => {
            if a > 0.0 {
                a
            } else {
                a * b
            }
        }
        F::Heaviside => {
            if a == 0.0 {
                b
            } else {
                truth(a > 0.0)
            }
        }
        F::Lerp => a + p[0] * (b - a),
        F::SigmoidBackward => a * b * (1.0 - b),
        F::TanhBackward => a * (1.0 - b * b),
        f if f.raw() >= 64 => return gradient(f, a, b, p),
        _ => return None,
    })
}

/// By the difference quotient of the function itself; steps are chosen so that its error stays below 1e-8.
fn gradient(f: F, a: f64, x: f64, p: [f64; 3]) -> Option<f64> {
    use unary::Function as U;
    let of = match f {
        F::GeluBackward => U::Gelu,
        F::GeluTanhBackward => U::GeluTanh,
        F::SiluBackward => U::Silu,
        F::QuickGeluBackward => U::QuickGelu,
        F::EluBackward => U::Elu,
        F::LeakyReluBackward => U::LeakyRelu,
        F::HardTanhBackward | F::ClampBackward => U::Clamp,
        F::HardSigmoidBackward => U::HardSigmoid,
        F::HardSwishBackward => U::HardSwish,
        F::SoftplusBackward => U::Softplus,
        F::LogSigmoidBackward => return Some(a * sigmoid(-x)),
        F::MishBackward => U::Mish,
        F::ShrinkBackward => U::SoftShrink,
        F::SoftsignBackward => U::Softsign,
        F::ThresholdBackward => U::Threshold,
        F::TanhShrinkBackward => U::TanhShrink,
        F::LogitBackward => U::Logit,
        // The input by the inverse of the function.
        F::EluBackwardResult if x > 0.0 => return Some(a * p[1]),
        F::EluBackwardResult => return Some(a * (x + p[0] * p[1]) * p[2]),
        _ => return None,
    };
    let h = 1e-4
        * if matches!(of, U::Logit) {
            (x * (1.0 - x)).abs().max(1e-3)
        } else {
            1.0
        };
    let at = |v: f64| unary_reference(of, v, p).expect("it has a reference");
    // Kinks have two slopes.
    let kinks: &[f64] = match of {
        U::HardSigmoid | U::HardSwish => &[-3.0, 3.0],
        U::Clamp => &[p[0], p[1]],
        U::SoftShrink => &[-p[0], p[0]],
        U::Threshold => &[p[0]],
        U::Logit => &[p[0], 1.0 - p[0], 0.0, 1.0],
        U::LeakyRelu | U::Elu | U::Softsign => &[0.0],
        _ => &[],
    };
    if kinks.iter().any(|k| (x - k).abs() <= 2.0 * h) {
        return None;
    }
    Some(a * (8.0 * (at(x + h) - at(x - h)) - (at(x + 2.0 * h) - at(x - 2.0 * h))) / (12.0 * h))
}

fn wholes(f: F, a: i128, b: i128, p: [f64; 3], dtype: DataType) -> i128 {
    let bits = 8 * dtype.size() as i128;
    let signed = matches!(
        dtype,
        DataType::I8 | DataType::I16 | DataType::I32 | DataType::I64
    );
    let floor_div = |a: i128, b: i128| {
        if b == 0 {
            0
        } else {
            a.div_euclid(b) - i128::from(b < 0 && a.rem_euclid(b) != 0)
        }
    };
    match f {
        F::Add => a + b,
        F::Sub => a - b,
        F::Mul => a.wrapping_mul(b),
        F::Div | F::TruncDiv => a.checked_div(b).unwrap_or(0),
        F::FloorDiv => floor_div(a, b),
        F::Fmod => a.checked_rem(b).unwrap_or(0),
        F::Remainder => {
            if b == 0 {
                0
            } else {
                a - b * floor_div(a, b)
            }
        }
        F::Pow if b < 0 => match a {
            1 => 1,
            -1 => {
                if b & 1 == 0 {
                    1
                } else {
                    -1
                }
            }
            _ => 0,
        },
        F::Pow => {
            // 64 bits of it, by the bits of the exponent.
            let squares = (0..64).scan(a as u64, |s, _| {
                Some(std::mem::replace(s, s.wrapping_mul(*s)))
            });
            let factors = squares.enumerate().filter(|(i, _)| b >> i & 1 != 0);
            factors.fold(1u64, |p, (_, s)| p.wrapping_mul(s)).into()
        }
        F::Max | F::Fmax => a.max(b),
        F::Min | F::Fmin => a.min(b),
        F::ReluBackward => a * i128::from(b > 0),
        F::Axpby => p[0] as i128 * a + p[1] as i128 * b,
        F::SquaredDifference => (a - b).wrapping_mul(a - b),
        F::Equal => (a == b).into(),
        F::NotEqual => (a != b).into(),
        F::Less => (a < b).into(),
        F::LessEqual => (a <= b).into(),
        F::Greater => (a > b).into(),
        F::GreaterEqual => (a >= b).into(),
        F::LogicalAnd => (a != 0 && b != 0).into(),
        F::LogicalOr => (a != 0 || b != 0).into(),
        F::LogicalXor => ((a != 0) != (b != 0)).into(),
        F::BitAnd => a & b,
        F::BitOr => a | b,
        F::BitXor => a ^ b,
        F::ShiftLeft => {
            if (0..bits).contains(&b) {
                a << b
            } else {
                0
            }
        }
        F::ShiftRight if (0..bits).contains(&b) => a >> b,
        F::ShiftRight => {
            if signed && a < 0 {
                -1
            } else {
                0
            }
        }
        F::Gcd => {
            let (mut a, mut b) = (a.abs(), b.abs());
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        }
        F::Lcm => {
            let g = wholes(F::Gcd, a, b, p, dtype);
            if g == 0 {
                0
            } else {
                wrap(dtype, a / g * b).abs()
            }
        }
        other => panic!("{other:?}"),
    }
}

/// What the shapes of some tensors broadcast to.
fn shape(tensors: &[&Tensor]) -> Vec<u64> {
    let rank = tensors.iter().map(|t| t.dims.len()).max().unwrap_or(0);
    (0..rank)
        .map(|i| {
            let at = |t: &&Tensor| {
                (i + t.dims.len())
                    .checked_sub(rank)
                    .map_or(1, |j| t.dims[j])
            };
            tensors.iter().map(at).find(|d| *d != 1).unwrap_or(1)
        })
        .collect()
}

/// Larger or smaller values, and some ties and zeroes.
fn vary(rng: &mut Rng, arena: &mut Arena, t: &Tensor) {
    let scale = rng.pick(&[1.0, 1.0, 3.0, 20.0]);
    for i in t.indices() {
        let v = match rng.below(8) {
            0 => 0.0,
            1 => rng.value().round(),
            _ => rng.value() * scale,
        };
        t.set(arena, &i, v);
    }
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn two(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let f = rng.pick(F::ALL);
        let types: Vec<DataType> = DataType::ALL.into_iter().filter(|t| f.takes(*t)).collect();
        let dtype = rng.pick(&types);
        let dims = rng.dims(0..=4);
        let a = Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims);
        let b = Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims);
        vary(&mut rng, &mut arena, &a);
        vary(&mut rng, &mut arena, &b);
        let out_type = if f.is_comparison() { DataType::Bool } else { dtype };
        let out = Tensor::random(&mut rng, &mut arena, out_type, &shape(&[&a, &b]));
        let mut p = [0.0; 3];
        for v in &mut p[..f.parameters()] {
            *v = 1.0 + rng.below(4) as f64;
        }
        match f {
            F::HardTanhBackward | F::ClampBackward => p[1] = p[0] + 1.0,
            F::LogitBackward => p[0] = 0.125,
            F::Lerp => p[0] /= 8.0,
            F::SoftplusBackward => p[1] = 20.0,
            _ => {}
        }
        let desc = Binary {
            a: a.desc(), b: b.desc(), out: out.desc(), function: f.raw(),
            alpha: p[0], beta: p[1], gamma: p[2], ..Wire::zeroed()
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for i in out.indices() {
            if !is_float(dtype) {
                let whole = |t: &Tensor| t.get_whole(&arena, &t.broadcast(&i));
                let (va, vb) = (whole(&a), whole(&b));
                let mut want = wholes(f, va, vb, p, dtype);
                if !f.is_comparison() && dtype != DataType::Bool {
                    want = wrap(dtype, want);
                }
                prop_assert_eq!(out.get_whole(&arena, &i), want, "{}({}, {}) of {:?}", f.name(), va, vb, dtype);
                continue;
            }
            let (va, vb) = (a.get_broadcast(&arena, &i), b.get_broadcast(&arena, &i));
            let Some(want) = floats(f, va, vb, p) else { continue };
            let scale = va.abs().max(vb.abs()) * if f.raw() >= 64 { 1.0 + vb.abs() } else { 1.0 };
            let mut bound = accuracy::binary(f, dtype);
            if f.raw() >= 64 && dtype == DataType::F64 {
                // The difference quotient is no better.
                bound = accuracy::Accuracy::Cancelling(1e-9 / f64::EPSILON);
            }
            // A quotient that is a whole number but for the type's rounding may fall to either side.
            if matches!(f, F::FloorDiv | F::TruncDiv) && !((va / vb).fract().abs() > 1e-2 && (va / vb).fract().abs() < 0.99) {
                continue;
            }
            expect_bound(&out, &arena, &i, want, bound, scale * (1.0 + p[0]), &format!("{}({va:e}, {vb:e}, {p:?})", f.name()));
        }
    }

    #[test]
    fn three(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let g = rng.pick(G::ALL);
        let types: Vec<DataType> = DataType::ALL.into_iter().filter(|t| g.takes(*t)).collect();
        let dtype = rng.pick(&types);
        let dims = rng.dims(0..=4);
        let first = if g == G::Where { DataType::Bool } else { dtype };
        let a = Tensor::random_broadcast(&mut rng, &mut arena, first, &dims);
        let [b, c] = [(); 2].map(|()| Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims));
        let out = Tensor::random(&mut rng, &mut arena, dtype, &shape(&[&a, &b, &c]));
        let alpha = if matches!(g, G::AddCmul | G::AddCdiv) { rng.below(5) as f64 - 2.0 } else { 0.0 };
        let desc = Ternary {
            a: a.desc(), b: b.desc(), c: c.desc(), out: out.desc(), function: g.raw(), alpha, ..Wire::zeroed()
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        for i in out.indices() {
            if !is_float(dtype) {
                let [x, y, z] = [&a, &b, &c].map(|t| t.get_whole(&arena, &t.broadcast(&i)));
                let alpha = alpha as i128;
                let want = match g {
                    G::Where => if x != 0 { y } else { z },
                    G::AddCmul => x + alpha * y * z,
                    G::AddCdiv => x + alpha * wrap(dtype, y.checked_div(z).unwrap_or(0)),
                    G::Clamp => x.max(y).min(z),
                    G::Fma => x * y + z,
                    other => panic!("{other:?}"),
                };
                let want = if dtype == DataType::Bool { want } else { wrap(dtype, want) };
                prop_assert_eq!(out.get_whole(&arena, &i), want);
                continue;
            }
            let [x, y, z] = [&a, &b, &c].map(|t| t.get_broadcast(&arena, &i));
            let (want, scale) = match g {
                G::Where => (if x != 0.0 { y } else { z }, 0.0),
                G::AddCmul => (x + alpha * y * z, (alpha * y * z).abs()),
                G::AddCdiv => (x + alpha * y / z, (alpha * y / z).abs()),
                G::Lerp => (x + z * (y - x), (z * (y - x)).abs() + ((1.0 - z) * (y - x)).abs()),
                G::Clamp => (x.max(y).min(z), 0.0),
                G::Fma => (x * y + z, (x * y).abs()),
                G::PreluBackward => (if y > 0.0 { x } else { x * z }, 0.0),
            };
            expect_bound(&out, &arena, &i, want, accuracy::ternary(g, dtype), scale, &format!("{}({x:e}, {y:e}, {z:e}, {alpha})", g.name()));
        }
    }
}

fn run_f32(f: F, a: &[f32], b: &[f32], p: [f64; 3]) -> Vec<f32> {
    let mut arena = Arena::new(1 << 16);
    let (pa, pb, out) = (arena.put(a), arena.put(b), arena.reserve(size_of_val(a)));
    let tensor = |at| contiguous(DataType::F32, at, &[a.len() as u64]);
    let desc = Binary {
        a: tensor(pa),
        b: tensor(pb),
        out: tensor(out),
        function: f.raw(),
        alpha: p[0],
        beta: p[1],
        gamma: p[2],
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    arena.get(out, a.len())
}

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// As PyTorch has it; the sign of zero counts.
#[test]
fn extremes() {
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let tiny = f32::from_bits(1);
    #[rustfmt::skip]
    let table: &[(F, [f64; 3], &[(f32, f32, f32)])] = &[
        (F::Max, [0.0; 3], &[(NAN, 1.0, NAN), (1.0, NAN, NAN), (INF, 2.0, INF)]),
        (F::Min, [0.0; 3], &[(NAN, 1.0, NAN), (1.0, NAN, NAN), (-INF, 2.0, -INF)]),
        (F::Fmax, [0.0; 3], &[(NAN, 1.0, 1.0), (1.0, NAN, 1.0), (NAN, NAN, NAN), (-INF, 2.0, 2.0)]),
        (F::Fmin, [0.0; 3], &[(NAN, 1.0, 1.0), (1.0, NAN, 1.0), (NAN, NAN, NAN)]),
        (F::Div, [0.0; 3], &[(1.0, 0.0, INF), (0.0, 0.0, NAN), (-1.0, 0.0, -INF)]),
        (F::Sub, [0.0; 3], &[(INF, INF, NAN), (1.0, INF, -INF), (tiny, tiny, 0.0)]),
        (F::Add, [0.0; 3], &[(-0.0, -0.0, -0.0), (tiny, tiny, 2.0 * tiny)]),
        (F::ReluBackward, [0.0; 3], &[(NAN, -1.0, 0.0), (INF, 0.0, 0.0), (3.0, NAN, 0.0), (4.0, 0.1, 4.0)]),
        (F::Fmod, [0.0; 3], &[(5.0, 3.0, 2.0), (-5.0, 3.0, -2.0), (5.0, -3.0, 2.0), (-6.0, 3.0, -0.0), (1.0, 0.0, NAN), (INF, 2.0, NAN), (2.0, INF, 2.0), (3e38, 7.0, 3e38 % 7.0), (1e10, 3e-5, 1e10 % 3e-5)]),
        (F::Remainder, [0.0; 3], &[(5.0, 3.0, 2.0), (-5.0, 3.0, 1.0), (5.0, -3.0, -1.0), (-5.0, -3.0, -2.0), (1.0, 0.0, NAN)]),
        (F::FloorDiv, [0.0; 3], &[(5.0, 3.0, 1.0), (-5.0, 3.0, -2.0), (1.0, 0.0, INF), (-1.0, 0.0, -INF), (0.0, 0.0, NAN), (6.0, 0.1, 59.0), (-0.0, 3.0, -0.0), (INF, 2.0, NAN)]),
        (F::Pow, [0.0; 3], &[(NAN, 0.0, 1.0), (1.0, NAN, 1.0), (-2.0, 3.0, -8.0), (-2.0, 0.5, NAN), (0.0, -1.0, INF), (-0.0, -1.0, -INF), (-0.0, -2.0, INF), (0.0, 0.0, 1.0), (INF, -1.0, 0.0), (-INF, 3.0, -INF), (-INF, 0.5, INF), (-1.0, INF, 1.0), (0.5, INF, 0.0), (2.0, INF, INF), (0.5, -INF, INF), (2.0, -INF, 0.0), (10.0, 2.0, 100.0), (2.0, -149.0, tiny), (2.0, 127.0, 1.701_411_8e38), (2.0, 128.0, INF)]),
        (F::Atan2, [0.0; 3], &[(0.0, 0.0, 0.0), (0.0, -0.0, PI), (-0.0, -0.0, -PI), (-0.0, 1.0, -0.0), (1.0, 0.0, FRAC_PI_2), (-1.0, 0.0, -FRAC_PI_2), (INF, INF, FRAC_PI_4), (INF, -INF, 3.0 * FRAC_PI_4), (1.0, -INF, PI), (1.0, INF, 0.0), (NAN, 1.0, NAN)]),
        (F::Hypot, [0.0; 3], &[(3.0, 4.0, 5.0), (INF, NAN, INF), (NAN, 1.0, NAN), (3e38, 3e38, INF), (tiny, 0.0, tiny)]),
        (F::CopySign, [0.0; 3], &[(1.0, -0.0, -1.0), (-2.0, NAN, 2.0)]),
        (F::NextAfter, [0.0; 3], &[(0.0, 1.0, tiny), (0.0, -1.0, -tiny), (1.0, INF, 1.000_000_1), (1.0, 1.0, 1.0), (NAN, 1.0, NAN), (f32::MAX, INF, INF), (tiny, 0.0, 0.0), (0.0, -0.0, -0.0)]),
        (F::LogAddExp, [0.0; 3], &[(-INF, -INF, -INF), (INF, INF, INF), (-INF, 3.0, 3.0), (NAN, 1.0, NAN), (1.0, NAN, NAN), (INF, -INF, INF)]),
        (F::LogAddExp2, [0.0; 3], &[(1.0, 1.0, 2.0), (-INF, 3.0, 3.0)]),
        (F::Xlogy, [0.0; 3], &[(0.0, 0.0, 0.0), (0.0, NAN, NAN), (2.0, 0.0, -INF), (0.0, INF, 0.0), (1.0, 1.0, 0.0)]),
        (F::Xlog1py, [0.0; 3], &[(0.0, -1.0, 0.0), (0.0, NAN, NAN), (2.0, -1.0, -INF)]),
        (F::Ldexp, [0.0; 3], &[(1.5, 3.0, 12.0), (1.0, -149.0, tiny)]),
        (F::Heaviside, [0.0; 3], &[(0.0, 0.5, 0.5), (-1.0, 0.5, 0.0), (2.0, 0.5, 1.0), (NAN, 0.5, NAN), (-0.0, 7.0, 7.0)]),
        (F::Lerp, [0.5, 0.0, 0.0], &[(1.0, 3.0, 2.0)]),
        (F::Lerp, [1.0, 0.0, 0.0], &[(1.0, 3.0, 3.0), (1e8, 1.0, 1.0)]),
        (F::ShrinkBackward, [0.5, 0.0, 0.0], &[(2.0, 0.5, 0.0), (2.0, -0.6, 2.0)]),
        (F::HardTanhBackward, [-1.0, 1.0, 0.0], &[(2.0, 1.0, 0.0), (2.0, 0.5, 2.0)]),
        (F::ClampBackward, [-1.0, 1.0, 0.0], &[(2.0, 1.0, 2.0), (2.0, 1.5, 0.0)]),
    ];
    let mut bad: Vec<String> = vec![];
    for (f, p, rows) in table {
        let a: Vec<f32> = rows.iter().map(|r| r.0).collect();
        let b: Vec<f32> = rows.iter().map(|r| r.1).collect();
        for ((a, b, want), got) in rows.iter().zip(run_f32(*f, &a, &b, *p)) {
            let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
            if !same {
                bad.push(format!(
                    "{}({a}, {b}, {p:?}) = {got:?}, want {want:?}",
                    f.name()
                ));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn neighbours_of_16_bit_floats() {
    let mut arena = Arena::new(4096);
    let a = arena.put(&[0x3c00u16, 0x0000, 0x8000, 0x7bff, 0x0001, 0xbc00]);
    let b = arena.put(&[0x4000u16, 0x3c00, 0x8000, 0x7c00, 0xbc00, 0x0000]);
    let out = arena.reserve(12);
    let tensor = |at| contiguous(DataType::F16, at, &[6]);
    let desc = Binary {
        a: tensor(a),
        b: tensor(b),
        out: tensor(out),
        function: F::NextAfter.raw(),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    assert_eq!(
        arena.get::<u16>(out, 6),
        [0x3c01, 0x0001, 0x8000, 0x7c00, 0x0000, 0xbbff]
    );
}
