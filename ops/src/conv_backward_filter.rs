//! Gradient of a convolution's filter: `dw = alpha · Σ dy · x + beta · dw`.
//!
//! The shapes are those of [`crate::conv`]: `dw` as its `w`, `dy` as its `out`. An element sums over images, then over the positions of `dy` in
//! row-major order, positions on the padding as zeroes: a depth of [`crate::matmul`]'s f32 sums, also for bf16.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::conv::{bytes, class};
use crate::conv_geometry::{Geometry, Slide};
use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::CONV_BACKWARD_FILTER`.
    pub struct ConvBackwardFilter : 552 {
        /// Operand 0: `[images, channels, …]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[images, outputs, …]`, of `x`'s type.
        pub dy: TensorDesc = 160,
        /// Operand 2, written: `[outputs, channels / groups, …]`, of `x`'s type; F32 also for F16 and BF16.
        pub dw: TensorDesc = 320,
        /// Factor of the sums.
        pub alpha: f64 = 480,
        /// Factor of the old `dw`, which is not read if this is 0.
        pub beta: f64 = 488,
        /// Steps of the filter by spatial axis; zero behind the last, as in the next two.
        pub stride: [u32; 3] = 496,
        /// Distances of the filter's taps.
        pub dilation: [u32; 3] = 508,
        /// Zeroes before and behind each spatial axis.
        pub padding: [u32; 6] = 520,
        /// Groups.
        pub groups: u32 = 544,
        /// Zero.
        pub reserved: u32 = 548,
    }
}

/// A checked [`ConvBackwardFilter`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub dy: Tensor,
    /// Operand 2.
    pub dw: Tensor,
    /// How they fit.
    pub geometry: Geometry,
    /// Factor of the sums.
    pub alpha: f64,
    /// Factor of the old result.
    pub beta: f64,
}

impl crate::Descriptor for ConvBackwardFilter {
    const INFO: Info = Info {
        opcode: opcode::CONV_BACKWARD_FILTER,
        name: "conv_backward_filter",
        formula: "dw = alpha · Σ dy · x + beta · dw",
        operands: &["x", "dy", "dw*"],
        functions: &[],
        types: "f32, f16, bf16 (dw also f32), f64",
        backward: "conv, conv_backward_data",
        cost: "2 per tap, channel and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "conv_backward_filter";
        let [sx, sy, sw] = [(0, "x"), (1, "dy"), (2, "dw")].map(|(i, n)| Site::new(NAME, i, n));
        rule::reserved(NAME, &[self.reserved])?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let dw = Tensor::check(sw, &self.dw, Role::Output)?;
        x.expect_type(sx, &FLOATS)?;
        dy.expect_same_type(sy, &x, "x")?;
        match x.dtype {
            DataType::F16 | DataType::Bf16 => dw.expect_type(sw, &[x.dtype, DataType::F32])?,
            other => dw.expect_type(sw, &[other])?,
        }
        let slide = Slide {
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
        };
        let geometry = Geometry::check(NAME, (sx, &x), (sw, &dw), (sy, &dy), &slide)?;
        dw.refuse_overlap(sw, &x, "x", false)?;
        dw.refuse_overlap(sw, &dy, "dy", false)?;
        Ok(Checked {
            x,
            dy,
            dw,
            geometry,
            alpha: self.alpha,
            beta: self.beta,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let old = (self.beta != 0.0).then_some(&self.dw);
        Cost {
            operations: self.geometry.operations(),
            class: class(self.x.dtype),
            read: bytes(&[Some(&self.x), Some(&self.dy), old]),
            written: self.dw.footprint(),
        }
    }
}
