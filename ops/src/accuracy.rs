//! How exact results are. For results `r` and the exact ones `e`: DIFF1 = Σ|r - e| / Σ|e|, DIFF2 = √(Σ(r - e)² / Σe²), DIFF3_MAX = the largest
//! |r - e| / |e|. A bound of n units means that all three are at most n · ε, with ε = 2⁻²³ for F32, 2⁻¹⁰ for F16, 2⁻⁷ for BF16 and 2⁻⁵² for F64,
//! denormal results aside, which may be off by n of the smallest number.

use vmlu_abi::tensor::DataType;

use crate::{binary, ternary, unary};

/// A bound on the error of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accuracy {
    /// The result is the exact one.
    Exact,
    /// Within so many units of the result.
    Units(f64),
    /// Within so many units of the largest of the result, the operands and 1: terms of both signs may cancel.
    Cancelling(f64),
}

/// ε of a type; 0 for integers.
pub const fn epsilon(dtype: DataType) -> f64 {
    match dtype {
        DataType::F32 => 1.0 / (1u64 << 23) as f64,
        DataType::F16 => 1.0 / 1024.0,
        DataType::Bf16 => 1.0 / 128.0,
        DataType::F64 => f64::EPSILON,
        _ => 0.0,
    }
}

/// The 16-bit types are computed in f32 and rounded once.
fn narrowed(dtype: DataType, units: f64) -> f64 {
    match dtype {
        DataType::F16 | DataType::Bf16 => 0.51,
        _ => units,
    }
}

/// Functions of [`mod@unary`].
pub fn unary(function: unary::Function, dtype: DataType) -> Accuracy {
    use unary::Function as F;
    let of = |units| Accuracy::Units(narrowed(dtype, units));
    let near = |units| Accuracy::Cancelling(narrowed(dtype, units));
    match function {
        f if f.raw() < 16 && f != F::Square => Accuracy::Exact,
        F::Floor | F::Ceil | F::Round | F::RoundAway | F::Trunc | F::Frac => Accuracy::Exact,
        F::NanToNum | F::HardShrink | F::Threshold => Accuracy::Exact,
        F::Square | F::Sqrt | F::LeakyRelu => of(0.5),
        F::SoftShrink => near(0.5),
        F::Reciprocal | F::Deg2Rad | F::Rad2Deg => of(1.0),
        F::Exp | F::Rsqrt => of(2.0),
        F::Erf | F::Tanh => of(3.0),
        F::Log | F::Log2 | F::Log10 | F::Log1p | F::Expm1 | F::Exp2 => of(1.0),
        F::Sin | F::Cos | F::Tan | F::Asin | F::Acos | F::Atan => of(1.0),
        F::Sinh | F::Cosh | F::Asinh | F::Acosh | F::Atanh | F::Power => of(2.0),
        F::Erfc | F::Erfinv | F::I0 => of(if matches!(dtype, DataType::F64) {
            16.0
        } else {
            1.0
        }),
        F::Lgamma | F::Digamma | F::Sinc => near(if matches!(dtype, DataType::F64) {
            16.0
        } else {
            1.0
        }),
        F::Sigmoid | F::Softsign => of(4.0),
        F::Softplus => near(4.0),
        F::Silu | F::QuickGelu | F::Mish => near(4.0),
        F::HardSigmoid | F::HardSwish | F::Gelu | F::GeluTanh | F::TanhShrink => near(4.0),
        F::LogSigmoid | F::Logit | F::Elu => near(4.0),
        _ => Accuracy::Exact,
    }
}

/// Functions of [`mod@binary`].
pub fn binary(function: binary::Function, dtype: DataType) -> Accuracy {
    use binary::Function as F;
    if epsilon(dtype) == 0.0 {
        return Accuracy::Exact;
    }
    let of = |units| Accuracy::Units(narrowed(dtype, units));
    let near = |units| Accuracy::Cancelling(narrowed(dtype, units));
    match function {
        F::Add | F::Sub | F::Mul | F::Div => of(0.5),
        F::Axpby | F::SquaredDifference | F::Lerp | F::Remainder => near(1.5),
        F::Pow | F::Atan2 | F::Hypot | F::Ldexp | F::Prelu => of(2.0),
        F::LogAddExp | F::LogAddExp2 | F::Xlogy | F::Xlog1py => near(4.0),
        f if f.raw() >= 64 => near(8.0),
        _ => Accuracy::Exact,
    }
}

/// Functions of [`mod@ternary`].
pub fn ternary(function: ternary::Function, dtype: DataType) -> Accuracy {
    use ternary::Function as F;
    match function {
        F::Where | F::Clamp => Accuracy::Exact,
        _ if epsilon(dtype) == 0.0 => Accuracy::Exact,
        F::PreluBackward => Accuracy::Units(narrowed(dtype, 0.5)),
        _ => Accuracy::Cancelling(narrowed(dtype, 1.5)),
    }
}
