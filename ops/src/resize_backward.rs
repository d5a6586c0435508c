//! Gradient of [`crate::resize`]: `dx` gets from each element of `dy` what it was weighed with.
//!
//! Weights as there. Sums are of f32 (f64 for F64), rounded at each step, over the elements of `dy` that look at an element, in order: where channels
//! lie side by side Σ (wᵈ · wʰ) · wʷ · dy in row-major order; else the rows of the first two axes are summed, weighed by wᵈ · wʰ, and then the elements of that
//! row, weighed by wʷ, in order. Places outside, with `FLAG_EXTRAPOLATE`, give nothing. `dx` is written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::resize::{self, Function, Look, Resize};
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::RESIZE_BACKWARD`.
    pub struct ResizeBackward : 448 {
        /// Operand 0: gradient of the result, `[images, channels, …]`; floats.
        pub dy: TensorDesc = 0,
        /// Operand 1, written: gradient of the input, `[images, channels, …]`, of `dy`'s type.
        pub dx: TensorDesc = 160,
        /// As for `resize`, as are all that follow.
        pub offset: [f64; 3] = 320,
        /// Factor, ≥ 0.
        pub numerator: [f64; 3] = 344,
        /// Divisor, above 0.
        pub denominator: [f64; 3] = 368,
        /// Added last.
        pub shift: [f64; 3] = 392,
        /// Of the cubic kernel.
        pub coefficient: f64 = 416,
        /// As for `resize`; its value does not matter.
        pub extrapolation: f64 = 424,
        /// A `Function` of `resize`.
        pub function: u32 = 432,
        /// A `Rounding` of `resize`.
        pub rounding: u32 = 436,
        /// `FLAG_*` of `resize`.
        pub flags: u32 = 440,
        /// 0.
        pub reserved: u32 = 444,
    }
}

/// A checked [`ResizeBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub dx: Tensor,
    /// Where elements of `dy` came from.
    pub look: Look,
}

impl ResizeBackward {
    /// The gradient of a resize: its `out` becomes `dy`, its `x` `dx`.
    pub fn of(forward: &Resize) -> Self {
        let Resize {
            x,
            out,
            offset,
            numerator,
            denominator,
            shift,
            coefficient,
            extrapolation,
            function,
            rounding,
            flags,
            reserved,
        } = *forward;
        Self {
            dy: out,
            dx: x,
            offset,
            numerator,
            denominator,
            shift,
            coefficient,
            extrapolation,
            function,
            rounding,
            flags,
            reserved,
        }
    }
}

impl crate::Descriptor for ResizeBackward {
    const INFO: Info = Info {
        opcode: opcode::RESIZE_BACKWARD,
        name: "resize_backward",
        formula: "dx = gradient of resize",
        operands: &["dy", "dx*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "resize",
        cost: "2 per weighed element and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "resize_backward";
        let [sy, sx] = [(0, "dy"), (1, "dx")].map(|(i, n)| Site::new(NAME, i, n));
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let dx = Tensor::check(sx, &self.dx, Role::Output)?;
        dy.expect_type(sy, &FLOATS)?;
        dx.expect_same_type(sx, &dy, "dy")?;
        let fields = Resize {
            x: self.dx,
            out: self.dy,
            offset: self.offset,
            numerator: self.numerator,
            denominator: self.denominator,
            shift: self.shift,
            coefficient: self.coefficient,
            extrapolation: self.extrapolation,
            function: self.function,
            rounding: self.rounding,
            flags: self.flags,
            reserved: self.reserved,
        };
        let look = resize::look(NAME, &fields, (sx, &dx), (sy, &dy))?;
        dx.refuse_overlap(sx, &dy, "dy", false)?;
        Ok(Checked { dy, dx, look })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = self.look.taps().saturating_mul(2);
        Cost {
            operations: self.dy.elements.saturating_mul(each),
            read: self.dy.footprint(),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
