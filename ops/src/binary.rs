//! Elementwise operators of two tensors: `out = f(a, b)`, both broadcast to `out`.
//!
//! Integers wrap around; a division by zero, and its remainder, gives 0. F16 and BF16 are computed in f32. `max` and `min` give NaN if either is
//! NaN. Functions from 64 on are gradients: `a` is the gradient of the result, `b` what the text says. Parameters as for `unary`. Which types a
//! function takes: arithmetic (below 16) all but Bool; comparisons and logic (16 to 31) all; bits (32 to 47) integers, `and`, `or`, `xor` also
//! Bool; the rest floats.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{broadcast_dims, is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::BINARY`.
    pub struct Binary : 512 {
        /// Operand 0.
        pub a: TensorDesc = 0,
        /// Operand 1: of `a`'s type.
        pub b: TensorDesc = 160,
        /// Operand 2, written: of `a`'s type (Bool for comparisons and logic); may be exactly `a` or `b`.
        pub out: TensorDesc = 320,
        /// A [`Function`].
        pub function: u32 = 480,
        /// Zero.
        pub reserved: u32 = 484,
        /// First parameter of the function.
        pub alpha: f64 = 488,
        /// Second parameter of the function.
        pub beta: f64 = 496,
        /// Third parameter of the function.
        pub gamma: f64 = 504,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// `a + b`.
        Add = 0, "add";
        /// `a - b`.
        Sub = 1, "sub";
        /// `a · b`.
        Mul = 2, "mul";
        /// `a / b`; of integers, towards zero.
        Div = 3, "div";
        /// The larger one.
        Max = 4, "max";
        /// The smaller one.
        Min = 5, "min";
        /// `a` where `b` > 0, else 0: `a` the gradient, `b` the input or the output of relu.
        ReluBackward = 6, "relu_backward";
        /// `alpha · a + beta · b`; of floats, `beta · b` is rounded, then one fused multiply-add.
        Axpby = 7, "axpby";
        /// `a / b`, down to a whole number.
        FloorDiv = 8, "floor_div";
        /// `a / b`, towards zero to a whole number.
        TruncDiv = 9, "trunc_div";
        /// What remains of the division towards zero; has the sign of a. Exact.
        Fmod = 10, "fmod";
        /// What remains of the division down; has the sign of b.
        Remainder = 11, "remainder";
        /// `a` to the power of `b`; of integers, 0 for a negative power, except of 1 and -1.
        Pow = 12, "pow";
        /// The larger one; the other one if one is NaN.
        Fmax = 13, "fmax";
        /// The smaller one; the other one if one is NaN.
        Fmin = 14, "fmin";
        /// `(a - b)²`.
        SquaredDifference = 15, "squared_difference";
        /// `a == b`.
        Equal = 16, "eq";
        /// `a != b`.
        NotEqual = 17, "ne";
        /// `a < b`.
        Less = 18, "lt";
        /// `a <= b`.
        LessEqual = 19, "le";
        /// `a > b`.
        Greater = 20, "gt";
        /// `a >= b`.
        GreaterEqual = 21, "ge";
        /// Neither is 0.
        LogicalAnd = 22, "logical_and";
        /// Not both are 0.
        LogicalOr = 23, "logical_or";
        /// One of both is 0.
        LogicalXor = 24, "logical_xor";
        /// The bits that both have.
        BitAnd = 32, "bit_and";
        /// The bits that either has.
        BitOr = 33, "bit_or";
        /// The bits that one of both has.
        BitXor = 34, "bit_xor";
        /// `a · 2ᵇ`; 0 if b is negative or at least the type's width.
        ShiftLeft = 35, "shift_left";
        /// `a / 2ᵇ`, down; signed types keep the sign. As if b were the width less 1 if it is negative or more (0 for unsigned types).
        ShiftRight = 36, "shift_right";
        /// Greatest common divisor, not negative.
        Gcd = 37, "gcd";
        /// Least common multiple, not negative.
        Lcm = 38, "lcm";
        /// Angle of the point (b, a).
        Atan2 = 48, "atan2";
        /// `√(a² + b²)`.
        Hypot = 49, "hypot";
        /// `|a|` with the sign of b.
        CopySign = 50, "copysign";
        /// The next number of the type after a in the direction of b.
        NextAfter = 51, "nextafter";
        /// `log(eᵃ + eᵇ)`.
        LogAddExp = 52, "logaddexp";
        /// `log2(2ᵃ + 2ᵇ)`.
        LogAddExp2 = 53, "logaddexp2";
        /// `a · log(b)`; 0 where a is 0 and b is not NaN.
        Xlogy = 54, "xlogy";
        /// `a · log(1 + b)`; 0 where a is 0 and b is not NaN.
        Xlog1py = 55, "xlog1py";
        /// `a · 2ᵇ`.
        Ldexp = 56, "ldexp";
        /// `a` where a > 0, else `a · b`.
        Prelu = 57, "prelu";
        /// 0 where a < 0, b where a = 0, 1 where a > 0.
        Heaviside = 58, "heaviside";
        /// `a + alpha · (b - a)`, from b's side for alpha ≥ ½.
        Lerp = 59, "lerp";
        /// b: output of sigmoid.
        SigmoidBackward = 64, "sigmoid_backward";
        /// b: output of tanh.
        TanhBackward = 65, "tanh_backward";
        /// b: input of gelu.
        GeluBackward = 66, "gelu_backward";
        /// b: input of gelu_tanh.
        GeluTanhBackward = 67, "gelu_tanh_backward";
        /// b: input of silu.
        SiluBackward = 68, "silu_backward";
        /// b: input of elu with the same parameters.
        EluBackward = 69, "elu_backward";
        /// b: output of elu with the same parameters.
        EluBackwardResult = 70, "elu_backward_result";
        /// b: input of leaky_relu with the same parameter.
        LeakyReluBackward = 71, "leaky_relu_backward";
        /// b: input of clamp with the same parameters; 0 at the bounds (hard tanh).
        HardTanhBackward = 72, "hard_tanh_backward";
        /// b: input of hard_sigmoid.
        HardSigmoidBackward = 73, "hard_sigmoid_backward";
        /// b: input of hard_swish.
        HardSwishBackward = 74, "hard_swish_backward";
        /// b: input of softplus with the same parameters.
        SoftplusBackward = 75, "softplus_backward";
        /// b: input of log_sigmoid.
        LogSigmoidBackward = 76, "log_sigmoid_backward";
        /// b: input of mish.
        MishBackward = 77, "mish_backward";
        /// b: input of hard_shrink or soft_shrink with the same parameter.
        ShrinkBackward = 78, "shrink_backward";
        /// b: input of softsign.
        SoftsignBackward = 79, "softsign_backward";
        /// b: input of threshold with the same alpha.
        ThresholdBackward = 80, "threshold_backward";
        /// b: input of clamp with the same parameters; the bounds pass the gradient.
        ClampBackward = 81, "clamp_backward";
        /// b: input of logit with the same parameter.
        LogitBackward = 82, "logit_backward";
        /// b: input of quick_gelu.
        QuickGeluBackward = 83, "quick_gelu_backward";
        /// b: input of tanh_shrink.
        TanhShrinkBackward = 84, "tanh_shrink_backward";
    }
}

impl Function {
    /// Whether the result is Bool.
    pub const fn is_comparison(self) -> bool {
        matches!(self.raw(), 16..=31)
    }

    /// How many of `alpha`, `beta` and `gamma` it has.
    pub const fn parameters(self) -> usize {
        match self {
            Self::Lerp
            | Self::LeakyReluBackward
            | Self::ShrinkBackward
            | Self::ThresholdBackward
            | Self::LogitBackward => 1,
            Self::Axpby | Self::HardTanhBackward | Self::SoftplusBackward | Self::ClampBackward => {
                2
            }
            Self::EluBackward | Self::EluBackwardResult => 3,
            _ => 0,
        }
    }

    /// Whether it takes elements of a type.
    pub fn takes(self, dtype: DataType) -> bool {
        match self.raw() {
            0..=15 => dtype != DataType::Bool,
            16..=31 => true,
            32..=34 => !is_float(dtype),
            35..=47 => !is_float(dtype) && dtype != DataType::Bool,
            _ => is_float(dtype),
        }
    }
}

/// A checked [`Binary`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub a: Tensor,
    /// Operand 1.
    pub b: Tensor,
    /// Operand 2.
    pub out: Tensor,
    /// Strides of `a` and `b` over the axes of `out`.
    pub strides: [[i64; MAX_DIMS]; 2],
    /// What is computed.
    pub function: Function,
    /// `alpha`, `beta`, `gamma`.
    pub parameters: [f64; 3],
}

impl crate::Descriptor for Binary {
    const INFO: Info = Info {
        opcode: opcode::BINARY,
        name: "binary",
        formula: "out = f(a, b), broadcast",
        operands: &["a", "b", "out*"],
        functions: Function::ROWS,
        types: "arithmetic all but bool; comparisons and logic all, giving bool; bits integers; the rest floats",
        backward: "binary, unary and reduce; of activations: the functions from 64 on",
        cost: "1 per element, 8 from 48 on",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let (sa, sb, so) = (
            Site::new("binary", 0, "a"),
            Site::new("binary", 1, "b"),
            Site::new("binary", 2, "out"),
        );
        rule::reserved("binary", &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(
                "binary",
                format_args!("function {} is unknown", self.function),
            )
        })?;
        let a = Tensor::check(sa, &self.a, Role::Input)?;
        let b = Tensor::check(sb, &self.b, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if !function.takes(a.dtype) {
            return Err(sa.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                a.dtype,
                function.name()
            )));
        }
        let parameters = [self.alpha, self.beta, self.gamma];
        rule::parameters(
            "binary",
            function.name(),
            function.parameters(),
            parameters,
            a.dtype,
        )?;
        b.expect_same_type(sb, &a, "a")?;
        if function.is_comparison() {
            out.expect_type(so, &[DataType::Bool])?;
        } else {
            out.expect_same_type(so, &a, "a")?;
        }
        let (dims, rank) = broadcast_dims(a.dims(), b.dims()).map_err(|i| {
            sb.error(format_args!(
                ": axis {i} of the result does not broadcast with that of a"
            ))
        })?;
        let dims = &dims[..rank];
        out.expect_dims(so, dims, "the inputs broadcast to")?;
        let strides = [a.broadcast(sa, dims)?, b.broadcast(sb, dims)?];
        out.refuse_overlap(so, &a, "a", true)?;
        out.refuse_overlap(so, &b, "b", true)?;
        Ok(Checked {
            a,
            b,
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
        let each = if self.function.raw() < 48 { 1 } else { 8 };
        Cost {
            operations: self.out.elements.saturating_mul(each),
            read: self.a.footprint().saturating_add(self.b.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
