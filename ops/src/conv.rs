//! Convolution (as networks call it: correlation) of 1 to 3 spatial axes: `out = activation(alpha · conv(x, w) + beta · out + bias)`.
//!
//! `x` is `[images, channels, …]`, `w` `[outputs, channels / groups, …]`, `out` `[images, outputs, …]` with 1 to 3 spatial axes; the layout, such as
//! channels last, is a matter of strides. Output channel `o` sums over the channels of its group. Sums are those of
//! [`crate::matmul`] along a depth that goes through the taps in order and, within a tap, through the channels; pairs of bf16 are channels of
//! one tap. Taps on the padding count as zero.
//!
//! Quantised bytes are multiplied as [`crate::matmul`] does: `x` and `w` have a scale and an offset, `w` may have scales of its outputs. With
//! padding, `x.offset` is 0.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::conv_geometry::{Geometry, Slide};
use crate::cost::{Class, Cost};
use crate::matmul::{Activation, Quantised};
use crate::quant;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::CONV`.
    pub struct Conv : 712 {
        /// Operand 0: `[images, channels, …]`; F32, F16, BF16, F64, I8 or U8.
        pub x: TensorDesc = 0,
        /// Operand 1: `[outputs, channels / groups, …]`, of `x`'s type; I8 if that is U8.
        pub w: TensorDesc = 160,
        /// Operand 2, written: `[images, outputs, …]`, of `x`'s type; F32 also for F16 and BF16; I32 for bytes; floats, I8 or U8 for quantised bytes.
        pub out: TensorDesc = 320,
        /// Operand 3, may be absent: `[outputs]`, of `out`'s type.
        pub bias: TensorDesc = 480,
        /// Factor of the sums; 1 for integers.
        pub alpha: f64 = 640,
        /// Factor of the old `out`, which is not read if this is 0; 0 or 1 for integers.
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

/// A checked [`Conv`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub w: Tensor,
    /// Operand 2.
    pub out: Tensor,
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
    /// What bytes stand for, if they are quantised.
    pub quantised: Option<Quantised>,
}

/// The activation with a number.
pub(crate) fn activation(name: &str, raw: u32) -> Result<Activation, RuleError> {
    Activation::from_raw(raw)
        .ok_or_else(|| rule::error(name, format_args!("activation {raw} is unknown")))
}

/// The rate that products of a type run at.
pub(crate) fn class(dtype: DataType) -> Class {
    match dtype {
        DataType::F16 | DataType::Bf16 => Class::F16,
        DataType::I8 | DataType::U8 => Class::I8,
        DataType::I16 => Class::I16,
        _ => Class::F32,
    }
}

/// Bytes of some operands.
pub(crate) fn bytes(tensors: &[Option<&Tensor>]) -> u64 {
    let given = tensors.iter().flatten();
    given.fold(0, |s: u64, t| s.saturating_add(t.footprint()))
}

impl crate::Descriptor for Conv {
    const INFO: Info = Info {
        opcode: opcode::CONV,
        name: "conv",
        formula: "out = activation(alpha · conv(x, w) + beta · out + bias)",
        operands: &["x", "w", "out*", "bias?"],
        functions: &[],
        types: "f32, f16, bf16 (out also f32), f64, i8 and u8 (out i32; quantised: floats, i8, u8)",
        backward: "conv_backward_data, conv_backward_filter; bias: reduce sum",
        cost: "2 per tap, channel and element of out",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        use DataType::{Bf16, F16, F32, F64, I32, I8, U8};
        const NAME: &str = "conv";
        let [sx, sw, so, sb] =
            [(0, "x"), (1, "w"), (2, "out"), (3, "bias")].map(|(i, n)| Site::new(NAME, i, n));
        let activation = activation(NAME, self.activation)?;
        let (x, qx) = quant::check(sx, &self.x, Role::Input)?;
        let (w, qw) = quant::check(sw, &self.w, Role::Input)?;
        let (out, qo) = quant::check(so, &self.out, Role::Output)?;
        let bias = Tensor::check_optional(sb, &self.bias, Role::Input)?;
        let quantised = Quantised::of([sx, sw, so], [qx, qw, qo], 0)?;
        x.expect_type(sx, &[F32, F16, Bf16, F64, I8, U8])?;
        match x.dtype {
            U8 => w.expect_type(sw, &[I8])?,
            _ => w.expect_same_type(sw, &x, "x")?,
        }
        if let Some(q) = &quantised {
            let tensors = [&x, &w, &out];
            crate::matmul::quantised_types(q, tensors, bias.as_ref(), [sx, sw, so, sb])?;
            if q.a.1 != 0 && self.padding != [0; 6] {
                return Err(sx.error(format_args!(".offset is {}, must be 0 with padding", q.a.1)));
            }
            if q.out.is_some() && self.beta != 0.0 {
                return Err(rule::error(NAME, "a quantised out takes beta 0 only"));
            }
            if let Some(scales) = &q.channels {
                out.refuse_overlap(so, scales, "w's scales", false)?;
            }
        }
        match x.dtype {
            _ if quantised.is_some() => {}
            I8 | U8 => out.expect_type(so, &[I32])?,
            F16 | Bf16 => out.expect_type(so, &[x.dtype, F32])?,
            other => out.expect_type(so, &[other])?,
        }
        if out.dtype == I32
            && (self.alpha != 1.0
                || (self.beta != 0.0 && self.beta != 1.0)
                || self.activation > Activation::Relu.raw())
        {
            return Err(rule::error(
                NAME,
                "integers take alpha 1, beta 0 or 1, and the activations none and relu only",
            ));
        }
        let slide = Slide {
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
        };
        let geometry = Geometry::check(NAME, (sx, &x), (sw, &w), (so, &out), &slide)?;
        out.refuse_overlap(so, &x, "x", false)?;
        out.refuse_overlap(so, &w, "w", false)?;
        if let Some(bias) = &bias {
            if quantised.is_none() {
                bias.expect_same_type(sb, &out, "out")?;
            }
            bias.expect_dims(sb, &out.dims()[1..2], "the filters are")?;
            out.refuse_overlap(so, bias, "bias", false)?;
        }
        Ok(Checked {
            x,
            w,
            out,
            bias,
            geometry,
            alpha: self.alpha,
            beta: self.beta,
            activation,
            quantised,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let old = (self.beta != 0.0).then_some(&self.out);
        Cost {
            operations: self.geometry.operations(),
            class: class(self.x.dtype),
            read: bytes(&[Some(&self.x), Some(&self.w), self.bias.as_ref(), old]),
            written: self.out.footprint(),
        }
    }
}
