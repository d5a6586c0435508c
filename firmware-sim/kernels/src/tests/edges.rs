//! NaN, infinities, extremes and empty tensors, as PyTorch has them.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType::{self, Bf16, Bool, F16, F32, F64, I32, I64, I8, U64, U8};
use vmlu_abi::Wire;
use vmlu_ops::matmul::Matmul;
use vmlu_ops::tensor::contiguous;
use vmlu_ops::{arg_reduce, binary, cast, reduce, softmax, unary};

use crate::testing::Arena;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Equal, with NaN equal to itself.
#[track_caller]
fn same(got: &[f32], want: &[f32]) {
    let equal = |g: &f32, w: &f32| g == w || (g.is_nan() && w.is_nan());
    assert!(
        got.len() == want.len() && got.iter().zip(want).all(|(g, w)| equal(g, w)),
        "got {got:?}, want {want:?}"
    );
}

fn unary_of(function: unary::Function, x: &[f32]) -> Vec<f32> {
    let mut arena = Arena::new(4096);
    let (at, out) = (arena.put(x), arena.reserve(size_of_val(x)));
    let n = x.len() as u64;
    let desc = unary::Unary {
        x: contiguous(F32, at, &[n]),
        out: contiguous(F32, out, &[n]),
        function: function.raw(),
        ..vmlu_abi::Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    arena.get(out, x.len())
}

fn binary_of(function: binary::Function, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut arena = Arena::new(4096);
    let (pa, pb, out) = (arena.put(a), arena.put(b), arena.reserve(size_of_val(a)));
    let n = a.len() as u64;
    let desc = binary::Binary {
        a: contiguous(F32, pa, &[n]),
        b: contiguous(F32, pb, &[n]),
        out: contiguous(F32, out, &[n]),
        function: function.raw(),
        ..vmlu_abi::Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    arena.get(out, a.len())
}

#[test]
fn unary_extremes() {
    use unary::Function as F;
    same(
        &unary_of(F::Relu, &[NAN, -INF, INF, -0.5]),
        &[NAN, 0.0, INF, 0.0],
    );
    same(
        &unary_of(F::Sign, &[NAN, -INF, INF, 0.0]),
        &[NAN, -1.0, 1.0, 0.0],
    );
    same(
        &unary_of(F::Exp, &[NAN, -INF, INF, 0.0, 200.0, -200.0]),
        &[NAN, 0.0, INF, 1.0, INF, 0.0],
    );
    same(
        &unary_of(F::Log, &[NAN, -1.0, INF, 0.0, 1.0]),
        &[NAN, NAN, INF, -INF, 0.0],
    );
    same(
        &unary_of(F::Sqrt, &[NAN, -1.0, INF, 0.0]),
        &[NAN, NAN, INF, 0.0],
    );
    same(
        &unary_of(F::Rsqrt, &[NAN, -1.0, INF, 0.0]),
        &[NAN, NAN, 0.0, INF],
    );
    same(
        &unary_of(F::Reciprocal, &[NAN, -INF, 0.0, -0.0]),
        &[NAN, 0.0, INF, -INF],
    );
    same(
        &unary_of(F::Tanh, &[NAN, -INF, INF, 50.0]),
        &[NAN, -1.0, 1.0, 1.0],
    );
    same(
        &unary_of(F::Sigmoid, &[NAN, -INF, INF, 0.0]),
        &[NAN, 0.0, 1.0, 0.5],
    );
    same(
        &unary_of(F::Erf, &[NAN, -INF, INF, 0.0]),
        &[NAN, -1.0, 1.0, 0.0],
    );
    same(&unary_of(F::Gelu, &[NAN, INF, 0.0]), &[NAN, INF, 0.0]);
    same(
        &unary_of(F::Round, &[0.5, 1.5, -2.5, NAN]),
        &[0.0, 2.0, -2.0, NAN],
    );
    assert_eq!(unary_of(F::Neg, &[0.0])[0].to_bits(), (-0.0f32).to_bits());
    // Copies move bits.
    let odd = f32::from_bits(0x7fa1_2345);
    assert_eq!(unary_of(F::Copy, &[odd])[0].to_bits(), 0x7fa1_2345);
}

/// Against the host's f64: at most one unit in the last place, two where the result is denormal.
#[test]
fn exp_is_accurate_everywhere() {
    let x: Vec<f32> = (0..20_000).map(|i| -104.0 + i as f32 * 0.00965).collect();
    for part in x.chunks(500) {
        for (x, got) in part.iter().zip(unary_of(unary::Function::Exp, part)) {
            let want = f64::from(*x).exp();
            if want > f64::from(f32::MAX) {
                assert_eq!(got, INF);
                continue;
            }
            let nearest = want as f32;
            let off = (i64::from(got.to_bits()) - i64::from(nearest.to_bits())).abs();
            assert!(
                off <= if nearest.is_normal() { 1 } else { 2 },
                "exp({x}): {got}, not {nearest}"
            );
        }
    }
}

#[test]
fn binary_extremes() {
    use binary::Function as F;
    same(
        &binary_of(F::Max, &[NAN, 1.0, INF], &[1.0, NAN, 2.0]),
        &[NAN, NAN, INF],
    );
    same(
        &binary_of(F::Min, &[NAN, 1.0, -INF], &[1.0, NAN, 2.0]),
        &[NAN, NAN, -INF],
    );
    same(
        &binary_of(F::Div, &[1.0, 0.0, -1.0], &[0.0, 0.0, 0.0]),
        &[INF, NAN, -INF],
    );
    same(&binary_of(F::Sub, &[INF, 1.0], &[INF, INF]), &[NAN, -INF]);
    // A gradient that is not finite does not leak through a closed gate, and NaN inputs close it.
    same(
        &binary_of(
            F::ReluBackward,
            &[NAN, INF, 3.0, 4.0],
            &[-1.0, 0.0, NAN, 0.1],
        ),
        &[0.0, 0.0, 0.0, 4.0],
    );
}

#[test]
fn integers_wrap_and_divide_without_traps() {
    let mut arena = Arena::new(4096);
    let (a, b, out) = (
        arena.put(&[i32::MIN, i32::MAX, 7, -7]),
        arena.put(&[-1i32, 1, 0, 2]),
        arena.reserve(16),
    );
    let run = |function: binary::Function| {
        let desc = binary::Binary {
            a: contiguous(I32, a, &[4]),
            b: contiguous(I32, b, &[4]),
            out: contiguous(I32, out, &[4]),
            function: function.raw(),
            ..vmlu_abi::Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        arena.get::<i32>(out, 4)
    };
    assert_eq!(run(binary::Function::Div), [i32::MIN, i32::MAX, 0, -3]);
    assert_eq!(run(binary::Function::Add), [i32::MAX, i32::MIN, 7, -5]);
    assert_eq!(run(binary::Function::Mul), [i32::MIN, i32::MAX, 0, -14]);
}

fn cast_one<X: Wire, Y: Wire>(from: DataType, x: X, to: DataType) -> Y {
    let mut arena = Arena::new(4096);
    let (at, out) = (arena.put(&[x]), arena.reserve(8));
    let desc = cast::Cast {
        x: contiguous(from, at, &[]),
        out: contiguous(to, out, &[]),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    arena.get(out, 1)[0]
}

#[test]
fn casts_at_the_limits() {
    assert_eq!(cast_one::<f32, i8>(F32, 300.7, I8), 127);
    assert_eq!(cast_one::<f32, i8>(F32, -1e9, I8), -128);
    assert_eq!(cast_one::<f32, u8>(F32, -1.0, U8), 0);
    assert_eq!(cast_one::<f32, i32>(F32, NAN, I32), 0);
    assert_eq!(cast_one::<f32, i64>(F32, INF, I64), i64::MAX);
    assert_eq!(cast_one::<f32, u8>(F32, NAN, Bool), 1);
    assert_eq!(cast_one::<u8, f32>(Bool, 200, F32), 1.0);
    assert_eq!(cast_one::<u64, f32>(U64, u64::MAX, F32), 2f32.powi(64));
    assert_eq!(cast_one::<i64, i8>(I64, 0x1ff, I8), -1);
    assert_eq!(cast_one::<f64, f32>(F64, 1e300, F32), INF);
    assert_eq!(
        cast_one::<f32, u16>(F32, 70000.0, F16),
        f16::INFINITY.to_bits()
    );
    // Ties to even, and a result that rounding twice gets wrong.
    assert_eq!(
        cast_one::<f32, u16>(F32, 1.0 + 1.0 / 256.0, Bf16),
        bf16::ONE.to_bits()
    );
    let value = (1i64 << 62) + (1 << 54) + 1;
    let up = bf16::from_f64(2f64.powi(62) + 2f64.powi(55)).to_bits();
    assert_eq!(cast_one::<i64, u16>(I64, value, Bf16), up);
    assert_eq!(
        cast_one::<f64, u16>(F64, 1.0 + 2f64.powi(-11) + 2f64.powi(-40), F16),
        f16::ONE.to_bits() + 1
    );
}

#[test]
fn reductions_of_nan_and_of_nothing() {
    let mut arena = Arena::new(4096);
    let x = arena.put(&[1.0f32, NAN, 3.0, 2.0]);
    let out = arena.reserve(64);
    let reduce_of = |arena: &Arena, function: reduce::Function, dims: &[u64], result: &[u64]| {
        let desc = reduce::Reduce {
            x: contiguous(F32, x, dims),
            out: contiguous(F32, out, result),
            function: function.raw(),
            axes: 1 << (dims.len() - 1),
            ..vmlu_abi::Wire::zeroed()
        };
        arena
            .run(&desc)
            .map(|_| arena.get::<f32>(out, result.iter().product::<u64>() as usize))
    };
    use reduce::Function as F;
    let others = [F::Any, F::All, F::CountNonzero, F::NanSum, F::NormP];
    for f in F::ALL.iter().filter(|f| !others.contains(f)) {
        same(&reduce_of(&arena, *f, &[4], &[]).unwrap(), &[NAN]);
    }
    same(
        &reduce_of(&arena, F::Sum, &[3, 0], &[3]).unwrap(),
        &[0.0; 3],
    );
    same(
        &reduce_of(&arena, F::Prod, &[3, 0], &[3]).unwrap(),
        &[1.0; 3],
    );
    same(
        &reduce_of(&arena, F::Mean, &[3, 0], &[3]).unwrap(),
        &[NAN; 3],
    );
    let refused = reduce_of(&arena, F::Max, &[3, 0], &[3]).unwrap_err();
    assert_eq!(refused.rule, "reduce: x is empty, max needs an element");
    same(&reduce_of(&arena, F::Max, &[0, 3], &[0]).unwrap(), &[]);

    for function in arg_reduce::Function::ALL {
        let desc = arg_reduce::ArgReduce {
            x: contiguous(F32, x, &[4]),
            out: contiguous(I64, out, &[]),
            function: function.raw(),
            axis: 0,
        };
        arena.run(&desc).unwrap();
        assert_eq!(arena.get::<i64>(out, 1), [1], "NaN is the extreme");
    }
}

#[test]
fn softmax_extremes() {
    let mut arena = Arena::new(4096);
    let rows = [
        [1000.0f32, 999.0, -1000.0],
        [-INF, 0.0, -INF],
        [-INF; 3],
        [INF, 0.0, 0.0],
        [NAN, 0.0, 0.0],
    ];
    let x = arena.put(&rows.concat());
    let out = arena.reserve(60);
    let desc = softmax::Softmax {
        x: contiguous(F32, x, &[5, 3]),
        out: contiguous(F32, out, &[5, 3]),
        function: 0,
        axis: 1,
    };
    arena.run(&desc).unwrap();
    let got: Vec<f32> = arena.get(out, 15);
    assert!(
        (got[0] - 0.731_058_6).abs() < 1e-6 && got[2] == 0.0,
        "{got:?}"
    );
    same(&got[3..6], &[0.0, 1.0, 0.0]);
    assert!(got[6..].iter().all(|v| v.is_nan()), "{got:?}");
}

#[test]
fn products_of_nothing_and_of_nan() {
    let mut arena = Arena::new(4096);
    let (a, b) = (
        arena.put(&[NAN, 1.0, 2.0, 0.0]),
        arena.put(&[1.0f32, 0.0, 0.0, INF]),
    );
    let out = arena.put(&[NAN; 4]);
    let bias = arena.put(&[5.0f32, -5.0]);
    let mut desc = Matmul {
        a: contiguous(F32, a, &[2, 0]),
        b: contiguous(F32, b, &[0, 2]),
        out: contiguous(F32, out, &[2, 2]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    desc.bias = contiguous(F32, bias, &[2]);
    arena.run(&desc).unwrap();
    // With beta 0 the old result does not matter, not even as NaN.
    same(&arena.get::<f32>(out, 4), &[5.0, -5.0, 5.0, -5.0]);
    desc.a = contiguous(F32, a, &[2, 2]);
    desc.b = contiguous(F32, b, &[2, 2]);
    desc.bias = Wire::zeroed();
    desc.activation = 1;
    arena.run(&desc).unwrap();
    same(&arena.get::<f32>(out, 4), &[NAN, NAN, 2.0, NAN]);
    desc.out = contiguous(F32, out, &[0, 2]);
    desc.a = contiguous(F32, a, &[0, 2]);
    let before = arena.snapshot();
    assert_eq!(arena.run(&desc).unwrap().operations, 0);
    assert!(before == arena.snapshot());
}

#[test]
fn bounds_beyond_an_integer_bound_nothing() {
    let mut arena = Arena::new(4096);
    let x = arena.put(&[-128i8, 0, 127]);
    let out = arena.reserve(3);
    let desc = unary::Unary {
        x: contiguous(I8, x, &[3]),
        out: contiguous(I8, out, &[3]),
        function: unary::Function::Clamp.raw(),
        alpha: -1000.0,
        beta: 5.0,
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    assert_eq!(arena.get::<i8>(out, 3), [-128, 0, 5]);
}
