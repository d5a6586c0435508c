//! Elementwise operators of one tensor: `out = f(x)`, `x` broadcast to `out`.
//!
//! F16 and BF16 are computed in f32. Functions below 16 also take integers (wrapping around); `copy`, `logical_not` and `bit_not` also Bool, and
//! the tests from `is_nan` to `signbit` take all types. `copy` moves bits: NaN payloads survive. Tests and `logical_not` give Bool. A NaN gives
//! NaN except where a function says otherwise. `alpha`, `beta` and `gamma` mean what the function's text says; where it says nothing, they
//! must be 0. For integers they must be whole numbers of 53 bits.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::UNARY`.
    pub struct Unary : 352 {
        /// Operand 0.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type (Bool for tests and `logical_not`); may be exactly `x`.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// Zero.
        pub reserved: u32 = 324,
        /// First parameter of the function.
        pub alpha: f64 = 328,
        /// Second parameter of the function.
        pub beta: f64 = 336,
        /// Third parameter of the function.
        pub gamma: f64 = 344,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// `x`.
        Copy = 0, "copy";
        /// `-x`.
        Neg = 1, "neg";
        /// `|x|`.
        Abs = 2, "abs";
        /// `max(x, 0)`; NaN stays NaN.
        Relu = 3, "relu";
        /// `x²`.
        Square = 4, "square";
        /// -1, 0 or 1; NaN stays NaN.
        Sign = 5, "sign";
        /// Every bit the other way; integers, and Bool, which it negates.
        BitNot = 6, "bit_not";
        /// Whether x is 0.
        LogicalNot = 7, "logical_not";
        /// Whether x is NaN.
        IsNan = 8, "is_nan";
        /// Whether x is infinite.
        IsInf = 9, "is_inf";
        /// Whether x is neither infinite nor NaN.
        IsFinite = 10, "is_finite";
        /// Whether x is +∞.
        IsPosInf = 11, "is_pos_inf";
        /// Whether x is -∞.
        IsNegInf = 12, "is_neg_inf";
        /// Whether the sign is negative, also that of -0 and NaN.
        SignBit = 13, "signbit";
        /// `min(max(x, alpha), beta)`; a NaN among the three gives NaN. Relu6 and hard tanh are this.
        Clamp = 14, "clamp";
        /// `eˣ`.
        Exp = 16, "exp";
        /// `eˣ - 1`.
        Expm1 = 17, "expm1";
        /// Natural logarithm.
        Log = 18, "log";
        /// `log(1 + x)`.
        Log1p = 19, "log1p";
        /// `√x`.
        Sqrt = 20, "sqrt";
        /// `1/√x`.
        Rsqrt = 21, "rsqrt";
        /// `1/x`.
        Reciprocal = 22, "reciprocal";
        /// Hyperbolic tangent.
        Tanh = 23, "tanh";
        /// `1 / (1 + e⁻ˣ)`.
        Sigmoid = 24, "sigmoid";
        /// `x · (1 + erf(x/√2)) / 2`.
        Gelu = 25, "gelu";
        /// `x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2`.
        GeluTanh = 26, "gelu_tanh";
        /// `x · sigmoid(x)`.
        Silu = 27, "silu";
        /// Error function.
        Erf = 28, "erf";
        /// Sine.
        Sin = 29, "sin";
        /// Cosine.
        Cos = 30, "cos";
        /// Down to a whole number.
        Floor = 31, "floor";
        /// Up to a whole number.
        Ceil = 32, "ceil";
        /// To the nearest whole number, halves to even.
        Round = 33, "round";
        /// Towards zero.
        Trunc = 34, "trunc";
        /// `x - trunc(x)`.
        Frac = 35, "frac";
        /// `2ˣ`.
        Exp2 = 36, "exp2";
        /// Logarithm to base 2.
        Log2 = 37, "log2";
        /// Logarithm to base 10.
        Log10 = 38, "log10";
        /// Tangent.
        Tan = 39, "tan";
        /// Inverse sine.
        Asin = 40, "asin";
        /// Inverse cosine.
        Acos = 41, "acos";
        /// Inverse tangent.
        Atan = 42, "atan";
        /// Hyperbolic sine.
        Sinh = 43, "sinh";
        /// Hyperbolic cosine.
        Cosh = 44, "cosh";
        /// Inverse hyperbolic sine.
        Asinh = 45, "asinh";
        /// Inverse hyperbolic cosine.
        Acosh = 46, "acosh";
        /// Inverse hyperbolic tangent.
        Atanh = 47, "atanh";
        /// `1 - erf(x)`.
        Erfc = 48, "erfc";
        /// Inverse of the error function.
        Erfinv = 49, "erfinv";
        /// Logarithm of the absolute value of the gamma function.
        Lgamma = 50, "lgamma";
        /// Derivative of lgamma; NaN at negative whole numbers, `∓∞` at `±0`.
        Digamma = 51, "digamma";
        /// `sin(πx) / (πx)`, 1 at 0.
        Sinc = 52, "sinc";
        /// `x · π/180`.
        Deg2Rad = 53, "deg2rad";
        /// `x · 180/π`.
        Rad2Deg = 54, "rad2deg";
        /// `log(x / (1 - x))`, x first clamped to `alpha … 1 - alpha` if alpha > 0.
        Logit = 55, "logit";
        /// `x`, NaN replaced by alpha, +∞ by beta, -∞ by gamma.
        NanToNum = 56, "nan_to_num";
        /// Modified Bessel function of the first kind, order 0.
        I0 = 57, "i0";
        /// `log(sigmoid(x))`.
        LogSigmoid = 58, "log_sigmoid";
        /// `log(1 + e^(alpha x)) / alpha`; x where `alpha x > beta`.
        Softplus = 59, "softplus";
        /// `beta x` where x > 0, else `alpha · beta · (e^(gamma x) - 1)`. SELU and CELU are this.
        Elu = 60, "elu";
        /// `x` where x > 0, else `alpha x`.
        LeakyRelu = 61, "leaky_relu";
        /// `min(max(x + 3, 0), 6) / 6`.
        HardSigmoid = 62, "hard_sigmoid";
        /// `x · hard_sigmoid(x)`.
        HardSwish = 63, "hard_swish";
        /// `x` where |x| > alpha, else 0; NaN stays NaN.
        HardShrink = 64, "hard_shrink";
        /// `x ∓ alpha` where |x| > alpha, else 0; NaN stays NaN.
        SoftShrink = 65, "soft_shrink";
        /// `x - tanh(x)`.
        TanhShrink = 66, "tanh_shrink";
        /// `x / (1 + |x|)`.
        Softsign = 67, "softsign";
        /// `x · tanh(log(1 + eˣ))`.
        Mish = 68, "mish";
        /// `x` where x > alpha or NaN, else beta.
        Threshold = 69, "threshold";
        /// To the nearest whole number, halves away from zero.
        RoundAway = 70, "round_away";
        /// `x` to the power of alpha.
        Power = 71, "power";
        /// `x · sigmoid(1.702 x)`.
        QuickGelu = 72, "quick_gelu";
        /// `m` of `x = m · 2ᵉ` with `½ ≤ |m| < 1`; x itself if it is 0, infinite or NaN.
        FrexpMantissa = 73, "frexp_mantissa";
        /// `e` of the same, 0 if x is 0, infinite or NaN.
        FrexpExponent = 74, "frexp_exponent";
    }
}

impl Function {
    /// Whether the result is Bool.
    pub const fn is_test(self) -> bool {
        matches!(self.raw(), 7..=13)
    }

    /// How many of `alpha`, `beta` and `gamma` it has.
    pub const fn parameters(self) -> usize {
        match self {
            Self::Logit | Self::LeakyRelu | Self::HardShrink | Self::SoftShrink | Self::Power => 1,
            Self::Clamp | Self::Softplus | Self::Threshold => 2,
            Self::NanToNum | Self::Elu => 3,
            _ => 0,
        }
    }

    /// Whether it takes elements of a type.
    pub fn takes(self, dtype: DataType) -> bool {
        match self {
            Self::Copy => true,
            f if f.is_test() => true,
            Self::BitNot => !is_float(dtype),
            f if f.raw() < 16 => dtype != DataType::Bool,
            _ => is_float(dtype),
        }
    }
}

/// A checked [`Unary`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Strides of `x` over the axes of `out`.
    pub strides: [i64; MAX_DIMS],
    /// What is computed.
    pub function: Function,
    /// `alpha`, `beta`, `gamma`.
    pub parameters: [f64; 3],
}

impl crate::Descriptor for Unary {
    const INFO: Info = Info {
        opcode: opcode::UNARY,
        name: "unary",
        formula: "out = f(x), broadcast",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "floats; those below 16 also integers; copy and tests all",
        backward: "gradients in binary, others by binary and unary",
        cost: "1 per element, 8 from exp on; copy none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let (sx, so) = (Site::new("unary", 0, "x"), Site::new("unary", 1, "out"));
        rule::reserved("unary", &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(
                "unary",
                format_args!("function {} is unknown", self.function),
            )
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if !function.takes(x.dtype) {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        let parameters = [self.alpha, self.beta, self.gamma];
        rule::parameters(
            "unary",
            function.name(),
            function.parameters(),
            parameters,
            x.dtype,
        )?;
        if function.is_test() {
            out.expect_type(so, &[DataType::Bool])?;
        } else {
            out.expect_same_type(so, &x, "x")?;
        }
        let strides = x.broadcast(sx, out.dims())?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked {
            x,
            out,
            strides,
            function,
            parameters,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = match self.function {
            Function::Copy => 0,
            f if f.raw() < 16 => 1,
            _ => 8,
        };
        Cost {
            operations: self.out.elements.saturating_mul(each),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
