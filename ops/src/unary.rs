//! Elementwise operators of one tensor: `out = f(x)`, `x` broadcast to `out`.
//!
//! F16 and BF16 are computed in f32. Integers take `copy`, `neg`, `abs`, `relu`, `square` and `sign` and wrap around; Bool takes `copy` only.
//! `copy` moves bits: NaN payloads survive.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::UNARY`.
    pub struct Unary : 328 {
        /// Operand 0.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type; may be exactly `x`.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// Zero.
        pub reserved: u32 = 324,
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
}

impl crate::Descriptor for Unary {
    const INFO: Info = Info {
        opcode: opcode::UNARY,
        name: "unary",
        formula: "out = f(x), broadcast",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "floats; copy all; neg, abs, relu, square, sign also integers",
        backward: "binary and unary; relu: relu_backward of binary",
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
        let served = match function {
            Function::Copy => true,
            f if f.raw() < 16 => x.dtype != DataType::Bool,
            _ => is_float(x.dtype),
        };
        if !served {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        out.expect_same_type(so, &x, "x")?;
        let strides = x.broadcast(sx, out.dims())?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked {
            x,
            out,
            strides,
            function,
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
