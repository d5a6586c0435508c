//! Elementwise operators of two tensors: `out = f(a, b)`, both broadcast to `out`.
//!
//! Integers wrap around; their division truncates, and a division by zero gives 0. `max` and `min` give NaN if either is NaN.
//! `relu_backward` is `a` where `b` > 0, else 0: `a` the gradient, `b` the input or the output of relu. F16 and BF16 are computed in f32.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{broadcast_dims, Role, Tensor};

descriptor! {
    /// Body of `opcode::BINARY`.
    pub struct Binary : 488 {
        /// Operand 0: any type but Bool.
        pub a: TensorDesc = 0,
        /// Operand 1: of `a`'s type.
        pub b: TensorDesc = 160,
        /// Operand 2, written: of `a`'s type (Bool for comparisons); may be exactly `a` or `b`.
        pub out: TensorDesc = 320,
        /// A [`Function`].
        pub function: u32 = 480,
        /// Zero.
        pub reserved: u32 = 484,
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
        /// `a / b`.
        Div = 3, "div";
        /// The larger one.
        Max = 4, "max";
        /// The smaller one.
        Min = 5, "min";
        /// `a` where `b` > 0, else 0.
        ReluBackward = 6, "relu_backward";
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
    }
}

impl Function {
    /// Whether the result is Bool.
    pub const fn is_comparison(self) -> bool {
        self.raw() >= 16
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
}

impl crate::Descriptor for Binary {
    const INFO: Info = Info {
        opcode: opcode::BINARY,
        name: "binary",
        formula: "out = f(a, b), broadcast",
        operands: &["a", "b", "out*"],
        functions: Function::ROWS,
        types: "all but bool; comparisons give bool",
        backward: "binary, unary and reduce; relu: relu_backward",
        cost: "1 per element",
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
        if a.dtype == DataType::Bool && !function.is_comparison() {
            return Err(sa.error(format_args!(
                ".dtype is Bool, {} needs a number",
                function.name()
            )));
        }
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
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements,
            read: self.a.footprint().saturating_add(self.b.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
