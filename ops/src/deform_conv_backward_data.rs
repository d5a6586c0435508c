//! Gradients of [`crate::deform_conv`] by its input, its offsets and its mask.
//!
//! The shapes are those of `deform_conv`. The gradient of what a tap sees is `Σ w · dy` over the outputs of its group; `dx` gets it times the mask times the weight of each
//! element, `dmask` times what was seen, and `doffset` times the mask times the slope of that. Sums over outputs are those of [`crate::matmul`] of f32 (f64
//! for F64); then `dx` is summed over positions and taps in order, `dmask` and `doffset` over channels in order, rounded at each step. All are written,
//! not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::deform_conv::{self, Look, Numbers, Parts};
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::DEFORM_CONV_BACKWARD_DATA`.
    pub struct DeformConvBackwardData : 1328 {
        /// Operand 0: `[images, outputs, rows, columns]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[images, channels, height, width]`, of `dy`'s type, as are all that follow.
        pub x: TensorDesc = 160,
        /// Operand 2: `[outputs, channels / groups, taps down, taps across]`.
        pub w: TensorDesc = 320,
        /// Operand 3: `[images, offset groups · taps · 2, rows, columns]`.
        pub offset: TensorDesc = 480,
        /// Operand 4, may be absent: `[images, offset groups · taps, rows, columns]`.
        pub mask: TensorDesc = 640,
        /// Operand 5, written, may be absent: gradient of `x`, of its shape.
        pub dx: TensorDesc = 800,
        /// Operand 6, written, may be absent: gradient of `offset`, of its shape.
        pub doffset: TensorDesc = 960,
        /// Operand 7, written, may be absent, as it must be without a mask: gradient of `mask`, of its shape.
        pub dmask: TensorDesc = 1120,
        /// As for `deform_conv`, as are all that follow.
        pub stride: [u32; 2] = 1280,
        /// Distances of the filter's taps.
        pub dilation: [u32; 2] = 1288,
        /// Zeroes above, below, left and right.
        pub padding: [u32; 4] = 1296,
        /// Groups of channels and outputs.
        pub groups: u32 = 1312,
        /// Groups of channels that share offsets.
        pub offset_groups: u32 = 1316,
        /// Zero.
        pub reserved: u64 = 1320,
    }
}

/// A checked [`DeformConvBackwardData`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub x: Tensor,
    /// Operand 2.
    pub w: Tensor,
    /// Operand 3.
    pub offset: Tensor,
    /// Operand 4.
    pub mask: Option<Tensor>,
    /// Operand 5.
    pub dx: Option<Tensor>,
    /// Operand 6.
    pub doffset: Option<Tensor>,
    /// Operand 7.
    pub dmask: Option<Tensor>,
    /// How taps were moved.
    pub look: Look,
}

impl crate::Descriptor for DeformConvBackwardData {
    const INFO: Info = Info {
        opcode: opcode::DEFORM_CONV_BACKWARD_DATA,
        name: "deform_conv_backward_data",
        formula: "dx, doffset, dmask = gradients of deform_conv",
        operands: &[
            "dy",
            "x",
            "w",
            "offset",
            "mask?",
            "dx*?",
            "doffset*?",
            "dmask*?",
        ],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none",
        cost: "4 per tap, channel and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "deform_conv_backward_data";
        const NAMES: [&str; 8] = ["dy", "x", "w", "offset", "mask", "dx", "doffset", "dmask"];
        let site = |i: u16| Site::new(NAME, i, NAMES[i as usize]);
        let input = |i: u16, desc| Tensor::check(site(i), desc, Role::Input);
        let (dy, x, w) = (input(0, &self.dy)?, input(1, &self.x)?, input(2, &self.w)?);
        let offset = input(3, &self.offset)?;
        let mask = Tensor::check_optional(site(4), &self.mask, Role::Input)?;
        let output = |i: u16, desc| Tensor::check_optional(site(i), desc, Role::Output);
        let (dx, doffset) = (output(5, &self.dx)?, output(6, &self.doffset)?);
        let dmask = output(7, &self.dmask)?;
        let parts = Parts {
            x: (site(1), &x),
            w: (site(2), &w),
            offset: (site(3), &offset),
            mask: mask.as_ref().map(|t| (site(4), t)),
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
        if dmask.is_some() && mask.is_none() {
            return Err(site(7).error(" is given, but there is no mask"));
        }
        if dx.is_none() && doffset.is_none() && dmask.is_none() {
            return Err(site(5).error(", doffset and dmask are absent"));
        }
        let outputs = [
            (5, &dx, Some(&x), "x is"),
            (6, &doffset, Some(&offset), "offset is"),
            (7, &dmask, mask.as_ref(), "mask is"),
        ];
        let inputs = [
            Some((&dy, "dy")),
            Some((&x, "x")),
            Some((&w, "w")),
            Some((&offset, "offset")),
            mask.as_ref().map(|t| (t, "mask")),
        ];
        for (k, (i, out, like, why)) in outputs.iter().enumerate() {
            let (Some(out), Some(like)) = (out, like) else {
                continue;
            };
            out.expect_same_type(site(*i), &dy, "dy")?;
            out.expect_dims(site(*i), like.dims(), why)?;
            for (other, name) in inputs.iter().flatten() {
                out.refuse_overlap(site(*i), other, name, false)?;
            }
            for (j, other, _, _) in &outputs[..k] {
                if let Some(other) = other {
                    out.refuse_overlap(site(*i), other, NAMES[*j as usize], false)?;
                }
            }
        }
        Ok(Checked {
            dy,
            x,
            w,
            offset,
            mask,
            dx,
            doffset,
            dmask,
            look,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let depth = self.w.dims()[1..].iter().product::<u64>();
        let read = [
            Some(self.dy),
            Some(self.x),
            Some(self.w),
            Some(self.offset),
            self.mask,
        ];
        let written = [self.dx, self.doffset, self.dmask];
        Cost {
            operations: self.dy.elements.saturating_mul(4 * depth),
            read: read.iter().flatten().map(Tensor::footprint).sum(),
            written: written.iter().flatten().map(Tensor::footprint).sum(),
            ..Cost::default()
        }
    }
}
