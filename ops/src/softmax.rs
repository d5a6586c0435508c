//! Softmax and its logarithm along an axis, shifted by the largest element; the sum is accumulated in f64. A row with a NaN, or with +∞,
//! is NaN; so is a softmax over -∞ alone.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::SOFTMAX`.
    pub struct Softmax : 328 {
        /// Operand 0: floats.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type and shape; may be exactly `x`.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// The axis.
        pub axis: u32 = 324,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// `exp(x - max) / Σ exp(x - max)`.
        Softmax = 0, "softmax";
        /// `x - max - log Σ exp(x - max)`.
        LogSoftmax = 1, "log_softmax";
    }
}

/// A checked [`Softmax`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// What is computed.
    pub function: Function,
    /// The axis.
    pub axis: usize,
}

impl crate::Descriptor for Softmax {
    const INFO: Info = Info {
        opcode: opcode::SOFTMAX,
        name: "softmax",
        formula: "out = softmax of x along an axis, or its logarithm",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "softmax_backward",
        cost: "10 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "softmax";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        x.expect_type(sx, &FLOATS)?;
        out.expect_same_type(so, &x, "x")?;
        let axis = self.axis as usize;
        if axis >= x.rank() {
            return Err(sx.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                x.rank()
            )));
        }
        out.expect_dims(so, x.dims(), "x is")?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked {
            x,
            out,
            function,
            axis,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.x.elements.saturating_mul(10),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
