//! Gradient of softmax and its logarithm along an axis, from the result `y` and the gradient `dy` of it: `dx = y · (dy - Σ dy · y)`, or for the
//! logarithm `dx = dy - eʸ · Σ dy`. Sums are accumulated in f64.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::softmax::Function;
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::SOFTMAX_BACKWARD`.
    pub struct SoftmaxBackward : 488 {
        /// Operand 0: the result, floats.
        pub y: TensorDesc = 0,
        /// Operand 1: its gradient, of `y`'s type and shape.
        pub dy: TensorDesc = 160,
        /// Operand 2, written: of `y`'s type and shape; may be exactly `y` or `dy`.
        pub dx: TensorDesc = 320,
        /// A function of softmax.
        pub function: u32 = 480,
        /// The axis.
        pub axis: u32 = 484,
    }
}

/// A checked [`SoftmaxBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub y: Tensor,
    /// Operand 1.
    pub dy: Tensor,
    /// Operand 2.
    pub dx: Tensor,
    /// Which function it is the gradient of.
    pub function: Function,
    /// The axis.
    pub axis: usize,
}

impl crate::Descriptor for SoftmaxBackward {
    const INFO: Info = Info {
        opcode: opcode::SOFTMAX_BACKWARD,
        name: "softmax_backward",
        formula: "dx = gradient of softmax or its logarithm along an axis",
        operands: &["y", "dy", "dx*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "by binary, unary and reduce",
        cost: "4 per element; log_softmax 10",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "softmax_backward";
        let (sy, sg) = (Site::new(NAME, 0, "y"), Site::new(NAME, 1, "dy"));
        let so = Site::new(NAME, 2, "dx");
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let y = Tensor::check(sy, &self.y, Role::Input)?;
        let dy = Tensor::check(sg, &self.dy, Role::Input)?;
        let dx = Tensor::check(so, &self.dx, Role::Output)?;
        y.expect_type(sy, &FLOATS)?;
        let axis = self.axis as usize;
        if axis >= y.rank() {
            return Err(sy.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                y.rank()
            )));
        }
        for (site, t) in [(sg, &dy), (so, &dx)] {
            t.expect_same_type(site, &y, "y")?;
            t.expect_dims(site, y.dims(), "y is")?;
        }
        dx.refuse_overlap(so, &y, "y", true)?;
        dx.refuse_overlap(so, &dy, "dy", true)?;
        Ok(Checked {
            y,
            dy,
            dx,
            function,
            axis,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = if self.function == Function::Softmax {
            4
        } else {
            10
        };
        Cost {
            operations: self.y.elements.saturating_mul(each),
            read: self.y.footprint().saturating_add(self.dy.footprint()),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
