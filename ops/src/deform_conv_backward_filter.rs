//! Gradient of [`crate::deform_conv`] by its filter: `dw = Σ dy · what the tap saw`.
//!
//! The shapes are those of `deform_conv`, `dw` as its `w`. What taps see is as there; sums are those of [`crate::matmul`] of f32 (f64 for F64) along
//! [`BLOCK`] positions of an image, from zero, and those of blocks and images are added in order. `dw` is written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::deform_conv::{self, Look, Numbers, Parts};
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

/// Positions that are summed at once.
pub const BLOCK: usize = 256;

descriptor! {
    /// Body of `opcode::DEFORM_CONV_BACKWARD_FILTER`.
    pub struct DeformConvBackwardFilter : 848 {
        /// Operand 0: `[images, outputs, rows, columns]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[images, channels, height, width]`, of `dy`'s type, as are all that follow.
        pub x: TensorDesc = 160,
        /// Operand 2: `[images, offset groups · taps · 2, rows, columns]`.
        pub offset: TensorDesc = 320,
        /// Operand 3, may be absent: `[images, offset groups · taps, rows, columns]`.
        pub mask: TensorDesc = 480,
        /// Operand 4, written: `[outputs, channels / groups, taps down, taps across]`.
        pub dw: TensorDesc = 640,
        /// As for `deform_conv`, as are all that follow.
        pub stride: [u32; 2] = 800,
        /// Distances of the filter's taps.
        pub dilation: [u32; 2] = 808,
        /// Zeroes above, below, left and right.
        pub padding: [u32; 4] = 816,
        /// Groups of channels and outputs.
        pub groups: u32 = 832,
        /// Groups of channels that share offsets.
        pub offset_groups: u32 = 836,
        /// Zero.
        pub reserved: u64 = 840,
    }
}

/// A checked [`DeformConvBackwardFilter`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub x: Tensor,
    /// Operand 2.
    pub offset: Tensor,
    /// Operand 3.
    pub mask: Option<Tensor>,
    /// Operand 4.
    pub dw: Tensor,
    /// How taps were moved.
    pub look: Look,
}

impl crate::Descriptor for DeformConvBackwardFilter {
    const INFO: Info = Info {
        opcode: opcode::DEFORM_CONV_BACKWARD_FILTER,
        name: "deform_conv_backward_filter",
        formula: "dw = gradient of deform_conv",
        operands: &["dy", "x", "offset", "mask?", "dw*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none",
        cost: "2 per tap, channel and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "deform_conv_backward_filter";
        let site = |i: u16| Site::new(NAME, i, ["dy", "x", "offset", "mask", "dw"][i as usize]);
        let dy = Tensor::check(site(0), &self.dy, Role::Input)?;
        let x = Tensor::check(site(1), &self.x, Role::Input)?;
        let offset = Tensor::check(site(2), &self.offset, Role::Input)?;
        let mask = Tensor::check_optional(site(3), &self.mask, Role::Input)?;
        let dw = Tensor::check(site(4), &self.dw, Role::Output)?;
        let parts = Parts {
            x: (site(1), &x),
            w: (site(4), &dw),
            offset: (site(2), &offset),
            mask: mask.as_ref().map(|t| (site(3), t)),
            out: (site(0), &dy),
        };
        let numbers = Numbers {
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
            offset_groups: self.offset_groups,
            reserved: self.reserved,
        };
        let look = deform_conv::look(NAME, &parts, &numbers)?;
        let inputs = [
            Some((&dy, "dy")),
            Some((&x, "x")),
            Some((&offset, "offset")),
            mask.as_ref().map(|t| (t, "mask")),
        ];
        for (input, name) in inputs.into_iter().flatten() {
            dw.refuse_overlap(site(4), input, name, false)?;
        }
        Ok(Checked {
            dy,
            x,
            offset,
            mask,
            dw,
            look,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let depth = self.dw.dims()[1..].iter().product::<u64>();
        let read = [Some(self.dy), Some(self.x), Some(self.offset), self.mask];
        Cost {
            operations: self.dy.elements.saturating_mul(2 * depth),
            read: read.iter().flatten().map(Tensor::footprint).sum(),
            written: self.dw.footprint(),
            ..Cost::default()
        }
    }
}
