//! Sums of windows that overlap, as PyTorch's `fold`, which is the gradient of [`crate::im2col`]: `out[n, c, p] = Σ x[n, c, taps, windows]` over the taps that lie at `p`.
//!
//! The shapes are those of `im2col`: `x` as its `out`, `out` as its `x`. Sums are of f32 (f64 for F64), rounded at each step, from zero, over
//! taps in row-major order. What lies on the padding counts for nothing, and positions without taps are 0.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::im2col;
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};
use crate::window::{Axes, Fields};

descriptor! {
    /// Body of `opcode::COL2IM`.
    pub struct Col2im : 384 {
        /// Operand 0: `[images, channels, taps…, windows…]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `[images, channels, …]`, of `x`'s type.
        pub out: TensorDesc = 160,
        /// As for `im2col`, as are all that follow.
        pub taps: [u32; 3] = 320,
        /// Steps of the window.
        pub stride: [u32; 3] = 332,
        /// Distances of its taps.
        pub dilation: [u32; 3] = 344,
        /// Padding before and behind each spatial axis.
        pub padding: [u32; 6] = 356,
        /// 0.
        pub reserved: u32 = 380,
    }
}

/// A checked [`Col2im`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// The windows.
    pub axes: Axes,
}

impl crate::Descriptor for Col2im {
    const INFO: Info = Info {
        opcode: opcode::COL2IM,
        name: "col2im",
        formula: "out = sums of windows that overlap",
        operands: &["x", "out*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "im2col",
        cost: "1 per element of x",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "col2im";
        let [sx, so] = [(0, "x"), (1, "out")].map(|(i, n)| Site::new(NAME, i, n));
        crate::rule::reserved(NAME, &[self.reserved])?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        x.expect_type(sx, &FLOATS)?;
        out.expect_same_type(so, &x, "x")?;
        let fields = Fields {
            taps: self.taps,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
        };
        let axes = im2col::windows(NAME, (so, &out), (sx, &x), &fields)?;
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked { x, out, axes })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.x.elements,
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
