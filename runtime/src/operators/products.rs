//! Convolutions, attention, and products with packed weights. Larger bodies are filled in by the caller: see the modules of [`vmlu_ops`] for what the
//! fields mean.

use vmlu_abi::tensor::{reserved_type, DataType, TensorDesc};
use vmlu_ops::{
    attention, attention_backward, conv, conv_backward_data, conv_backward_filter, deform_conv,
    deform_conv_backward_data, deform_conv_backward_filter, matmul_grouped, matmul_int4,
};

use super::{optional, Activation};
use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

/// Weights of four bits, as linear layers store them: two an octet, the one of the lower index in the lower half.
#[derive(Clone, Copy)]
pub struct Int4Weights<'a> {
    /// `[N, K / 2]`, U8: rows of outputs. Each row begins with an octet.
    pub packed: &'a Tensor,
    /// Whether they are -8 to 7, not 0 to 15.
    pub signed: bool,
    /// `[⌈K / group⌉, N]`, F32 or of the other side's type.
    pub scales: &'a Tensor,
    /// `[⌈K / group⌉, N]`, I8.
    pub zeros: Option<&'a Tensor>,
    /// Elements along K that share a scale, an even number; 0 for all.
    pub group: u32,
}

impl Int4Weights<'_> {
    /// The matrix `[K, N]`.
    fn desc(&self) -> TensorDesc {
        let mut desc = *self.packed.desc();
        // What is no packed matrix keeps its type, which the operator's rules refuse.
        if self.packed.dtype() != DataType::U8 || self.packed.dims().len() != 2 {
            return desc;
        }
        let ([rows, octets], [down, across]) = (
            [desc.dims[0], desc.dims[1]],
            [desc.strides[0], desc.strides[1]],
        );
        desc.dtype = match self.signed {
            true => reserved_type::I4,
            false => reserved_type::U4,
        };
        [desc.dims[0], desc.dims[1]] = [octets.saturating_mul(2), rows];
        [desc.strides[0], desc.strides[1]] = [across, down.saturating_mul(2)];
        desc
    }
}

impl Queue {
    /// `out = activation(a @ weights + bias)`, the weights being `scale · (w - zero)`; `a` is `[M, K]`, `out` `[M, N]`.
    pub fn matmul_int4(
        &self,
        a: &Tensor,
        weights: &Int4Weights<'_>,
        bias: Option<&Tensor>,
        activation: Activation,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&matmul_int4::MatmulInt4 {
            a: *a.desc(),
            w: weights.desc(),
            scales: *weights.scales.desc(),
            zeros: optional(weights.zeros),
            out: *out.desc(),
            bias: optional(bias),
            alpha: 1.0,
            activation: activation as u32,
            group: weights.group,
        })
    }

    /// Products of groups of rows, each with a matrix of its own; see [`matmul_grouped::MatmulGrouped`].
    pub fn matmul_grouped(&self, body: &matmul_grouped::MatmulGrouped) -> Result<u64> {
        self.submit(body)
    }

    /// Convolution; see [`conv::Conv`].
    pub fn conv(&self, body: &conv::Conv) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::conv`] by its input, which is also the transposed convolution.
    pub fn conv_backward_data(&self, body: &conv_backward_data::ConvBackwardData) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::conv`] by its filter.
    pub fn conv_backward_filter(
        &self,
        body: &conv_backward_filter::ConvBackwardFilter,
    ) -> Result<u64> {
        self.submit(body)
    }

    /// Convolution whose taps are moved; see [`deform_conv::DeformConv`].
    pub fn deform_conv(&self, body: &deform_conv::DeformConv) -> Result<u64> {
        self.submit(body)
    }

    /// Gradients of [`Queue::deform_conv`] by input, offsets and mask.
    pub fn deform_conv_backward_data(
        &self,
        body: &deform_conv_backward_data::DeformConvBackwardData,
    ) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::deform_conv`] by its filter.
    pub fn deform_conv_backward_filter(
        &self,
        body: &deform_conv_backward_filter::DeformConvBackwardFilter,
    ) -> Result<u64> {
        self.submit(body)
    }

    /// Attention; see [`attention::Attention`]. Its `lse` is what the gradient needs.
    pub fn attention(&self, body: &attention::Attention) -> Result<u64> {
        self.submit(body)
    }

    /// Gradients of [`Queue::attention`].
    pub fn attention_backward(&self, body: &attention_backward::AttentionBackward) -> Result<u64> {
        self.submit(body)
    }
}
