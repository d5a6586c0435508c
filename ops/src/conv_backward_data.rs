//! Gradient of a convolution's input, which is also the transposed convolution: `dx = activation(alpha · convᵀ(dy, w) + beta · dx + bias)`.
//!
//! The shapes are those of [`crate::conv`]: `dx` as its `x`, `dy` as its `out`. An element sums, in the order of the filter's taps, over those that
//! reached it, and within a tap over the output channels of its group; blocks and pairs as in [`crate::matmul`] along that depth. As a transposed
//! convolution it takes a bias of `dx`'s channels and an activation.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::conv::{activation, bytes, class};
use crate::conv_geometry::{Geometry, Slide};
use crate::cost::Cost;
use crate::matmul::Activation;
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::CONV_BACKWARD_DATA`.
    pub struct ConvBackwardData : 712 {
        /// Operand 0: `[images, outputs, …]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[outputs, channels / groups, …]`, of `dy`'s type.
        pub w: TensorDesc = 160,
        /// Operand 2, written: `[images, channels, …]`, of `dy`'s type; F32 also for F16 and BF16.
        pub dx: TensorDesc = 320,
        /// Operand 3, may be absent: `[channels]`, of `dx`'s type.
        pub bias: TensorDesc = 480,
        /// Factor of the sums.
        pub alpha: f64 = 640,
        /// Factor of the old `dx`, which is not read if this is 0.
        pub beta: f64 = 648,
        /// Steps of the filter by spatial axis; zero behind the last, as in the next two.
        pub stride: [u32; 3] = 656,
        /// Distances of the filter's taps.
        pub dilation: [u32; 3] = 668,
        /// Zeroes before and behind each spatial axis.
        pub padding: [u32; 6] = 680,
        /// Groups.
        pub groups: u32 = 704,
        /// An `Activation` of `matmul`.
        pub activation: u32 = 708,
    }
}

/// A checked [`ConvBackwardData`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub w: Tensor,
    /// Operand 2.
    pub dx: Tensor,
    /// Operand 3.
    pub bias: Option<Tensor>,
    /// How they fit.
    pub geometry: Geometry,
    /// Factor of the sums.
    pub alpha: f64,
    /// Factor of the old result.
    pub beta: f64,
    /// Applied last.
    pub activation: Activation,
}

impl crate::Descriptor for ConvBackwardData {
    const INFO: Info = Info {
        opcode: opcode::CONV_BACKWARD_DATA,
        name: "conv_backward_data",
        formula: "dx = activation(alpha · convᵀ(dy, w) + beta · dx + bias)",
        operands: &["dy", "w", "dx*", "bias?"],
        functions: &[],
        types: "f32, f16, bf16 (dx also f32), f64",
        backward: "conv, conv_backward_filter",
        cost: "2 per tap, channel and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "conv_backward_data";
        let [sy, sw, sx, sb] =
            [(0, "dy"), (1, "w"), (2, "dx"), (3, "bias")].map(|(i, n)| Site::new(NAME, i, n));
        let activation = activation(NAME, self.activation)?;
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let w = Tensor::check(sw, &self.w, Role::Input)?;
        let dx = Tensor::check(sx, &self.dx, Role::Output)?;
        let bias = Tensor::check_optional(sb, &self.bias, Role::Input)?;
        dy.expect_type(sy, &FLOATS)?;
        w.expect_same_type(sw, &dy, "dy")?;
        match dy.dtype {
            DataType::F16 | DataType::Bf16 => dx.expect_type(sx, &[dy.dtype, DataType::F32])?,
            other => dx.expect_type(sx, &[other])?,
        }
        let slide = Slide {
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
        };
        let geometry = Geometry::check(NAME, (sx, &dx), (sw, &w), (sy, &dy), &slide)?;
        dx.refuse_overlap(sx, &dy, "dy", false)?;
        dx.refuse_overlap(sx, &w, "w", false)?;
        if let Some(bias) = &bias {
            bias.expect_same_type(sb, &dx, "dx")?;
            bias.expect_dims(sb, &dx.dims()[1..2], "the channels are")?;
            dx.refuse_overlap(sx, bias, "bias", false)?;
        }
        Ok(Checked {
            dy,
            w,
            dx,
            bias,
            geometry,
            alpha: self.alpha,
            beta: self.beta,
            activation,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let old = (self.beta != 0.0).then_some(&self.dx);
        Cost {
            operations: self.geometry.operations(),
            class: class(self.dy.dtype),
            read: bytes(&[Some(&self.dy), Some(&self.w), self.bias.as_ref(), old]),
            written: self.dx.footprint(),
        }
    }
}
