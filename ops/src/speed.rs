//! What runs as vector code on the host, and what falls back to one element at a time. The fallbacks are as right, but slower than memory.

use crate::table::opcode;
use crate::{binary, unary};

/// How an operator, or a function of a family, is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// Vector code for all types.
    Vector,
    /// Vector code for F32, F16 and BF16; one element at a time for F64.
    VectorButF64,
    /// One element at a time.
    Scalar,
}

impl Speed {
    /// As the document prints it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::VectorButF64 => "vector; f64 scalar",
            Self::Scalar => "scalar",
        }
    }
}

/// Functions of [`mod@unary`].
pub fn unary(function: unary::Function) -> Speed {
    use unary::Function as F;
    match function {
        F::Erfc | F::Erfinv | F::Lgamma | F::Digamma | F::I0 | F::Sinc => Speed::Scalar,
        F::FrexpMantissa | F::FrexpExponent => Speed::Scalar,
        f if f.raw() < 16 => Speed::Vector,
        F::Sqrt | F::Rsqrt | F::Reciprocal | F::Deg2Rad | F::Rad2Deg | F::NanToNum => Speed::Vector,
        F::Floor | F::Ceil | F::Round | F::RoundAway | F::Trunc | F::Frac => Speed::Vector,
        F::LeakyRelu | F::HardSigmoid | F::HardSwish | F::HardShrink | F::SoftShrink => {
            Speed::Vector
        }
        F::Softsign | F::Threshold => Speed::Vector,
        _ => Speed::VectorButF64,
    }
}

/// Functions of [`mod@binary`].
pub fn binary(function: binary::Function) -> Speed {
    use binary::Function as F;
    match function {
        F::Gcd | F::Lcm | F::NextAfter => Speed::Scalar,
        F::FloorDiv | F::Fmod | F::Remainder | F::Pow => Speed::VectorButF64,
        F::CopySign | F::Prelu | F::Heaviside | F::Lerp => Speed::Vector,
        F::SigmoidBackward | F::TanhBackward | F::LeakyReluBackward | F::HardTanhBackward => {
            Speed::Vector
        }
        F::HardSigmoidBackward | F::HardSwishBackward | F::ShrinkBackward => Speed::Vector,
        F::SoftsignBackward | F::ThresholdBackward | F::ClampBackward => Speed::Vector,
        F::EluBackwardResult | F::LogitBackward => Speed::Vector,
        f if f.raw() < 48 => Speed::Vector,
        _ => Speed::VectorButF64,
    }
}

/// Of a whole operator: what is said of its accuracy and speed; `None` where its own text says it.
pub fn operator(number: u16) -> Option<(&'static str, &'static str)> {
    const EXACT: &str = "exact";
    Some(match number {
        opcode::UNARY | opcode::BINARY | opcode::TERNARY => ("by function", "by function"),
        opcode::AFFINE => ("0.5 ε", "vector"),
        opcode::CAST => ("rounded once", "vector; modes but the default, 64-bit integers to floats, and four-bit integers, scalar"),
        opcode::FILL => (EXACT, "vector"),
        opcode::QUANTIZE => ("rounded at each step", "vector"),
        opcode::REDUCE => ("0.51 ε; logsumexp 4 ε", "vector; norm_p, and logsumexp of neighbouring outputs, scalar"),
        opcode::ARG_REDUCE => (EXACT, "vector along an axis whose elements lie together; else scalar"),
        opcode::SCAN => ("0.51 ε an element; logcumsumexp 4 ε", "vector across rows that lie side by side; along a row scalar; cummax, cummin, logcumsumexp scalar"),
        opcode::SOFTMAX => ("4 ε of 1", "vector; f64 scalar"),
        opcode::SOFTMAX_BACKWARD => ("4 ε of the terms", "vector; f64 log_softmax scalar"),
        opcode::NORM => ("8 ε of the terms", "vector"),
        opcode::NORM_BACKWARD => ("16 ε of the terms", "vector"),
        opcode::CONCAT | opcode::PAD => (EXACT, "vector"),
        opcode::TAKE => (EXACT, "vector where the index is constant along the last axis; else scalar"),
        opcode::PUT => ("rounded at each step", "vector where the index is constant along the last axis; else scalar"),
        opcode::COMPACT | opcode::SORT => (EXACT, "scalar"),
        opcode::RANDOM => ("exact; from normal on 2 ε, f64 2⁻⁴⁰, of the terms", "vector; bernoulli of a tensor, integers, bits, geometric scalar"),
        opcode::PERMUTATION => (EXACT, "scalar"),
        opcode::DROPOUT => ("0.5 ε", "vector"),
        opcode::FUSED_SGD | opcode::ADAM | opcode::ADAGRAD | opcode::RMSPROP => ("8 ε of the terms", "vector"),
        opcode::LAMB => ("16 ε of the terms", "vector"),
        opcode::CROSS_ENTROPY | opcode::CROSS_ENTROPY_BACKWARD => ("4 ε of the terms", "vector; f64 scalar; classes that do not lie side by side gathered"),
        opcode::LOSS | opcode::LOSS_BACKWARD => ("8 ε of the terms", "vector; f64 from bce on scalar"),
        opcode::NLL => ("0.51 ε", "scalar, but for the zeroes of the gradient"),
        opcode::CTC | opcode::CTC_BACKWARD => ("0.51 ε; f64 4096 ε of the terms", "vector over states; the rest scalar"),
        opcode::RANGE => ("rounded once", "scalar; triangles vector"),
        opcode::POOL => ("max exact; averages 1 ε of the terms a tap", "vector; adaptive windows scalar along the last axis"),
        opcode::POOL_BACKWARD => ("1 ε of the terms a window", "vector along channels; scalar along the last axis"),
        opcode::RESIZE => ("nearest exact; 1 ε of the terms a weighed element along an axis; 8 ε at least", "vector along channels; along the last axis scalar, but for the sums of rows"),
        opcode::RESIZE_BACKWARD => ("1 ε of the terms an element of dy that looks there; 8 ε at least", "vector along channels; along the last axis scalar, but for the sums of rows"),
        opcode::GRID_SAMPLE => ("2 ε of the terms a position along an axis; 8 ε at least", "vector along channels; places scalar"),
        opcode::GRID_SAMPLE_BACKWARD => ("2 ε of the terms a position along an axis, and 1 ε a place; 8 ε at least", "scalar; the sums over channels vector"),
        opcode::AFFINE_GRID => ("4 ε of the terms", "vector"),
        opcode::ROI_ALIGN => ("2 ε of the terms a position along an axis, and 1 ε a point; 8 ε at least", "vector along channels; points scalar"),
        opcode::ROI_ALIGN_BACKWARD => ("2 ε of the terms a position along an axis, and 1 ε a point; 8 ε at least", "scalar"),
        opcode::NMS => (EXACT, "overlaps vector; sorting scalar"),
        opcode::SOFT_CROSS_ENTROPY => ("8 ε of the terms", "vector; f64 scalar; sums in f64, scalar"),
        opcode::DEFORM_CONV_BACKWARD_DATA => ("1 ε of the terms a position; 8 ε at least", "products vector; moved elements scalar"),
        opcode::DEFORM_CONV_BACKWARD_FILTER => ("8 ε of the terms", "products vector; moved elements scalar"),
        opcode::DEFORM_CONV => ("8 ε of the terms", "products vector; moved elements scalar"),
        opcode::GAMMA => ("1 ε; f64 2⁻³⁶", "scalar"),
        opcode::SEARCH_SORTED => (EXACT, "scalar"),
        opcode::HISTOGRAM => ("exact; weights 0.51 ε", "scalar"),
        opcode::IM2COL => (EXACT, "vector"),
        opcode::COL2IM => ("1 ε of the terms a tap", "scalar, but for the loads"),
        _ => return None,
    })
}

/// The bound of a function for a type, as the document prints it.
pub(crate) fn bound(accuracy: crate::accuracy::Accuracy) -> alloc::string::String {
    use crate::accuracy::Accuracy;
    match accuracy {
        Accuracy::Exact => "exact".into(),
        Accuracy::Units(n) => alloc::format!("{n} ε"),
        Accuracy::Cancelling(n) => alloc::format!("{n} ε of the terms"),
    }
}
