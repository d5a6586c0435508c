//! The operators of the virtual MLU: what stands in their packets, which shapes, types and strides they take, and what they cost.
//!
//! One module an operator. A descriptor is the body of a packet; [`Descriptor::check`] is the whole of its rules, called by the
//! runtime for an early error and by the firmware on its own copy. `firmware-sim/kernels/src/` has a file of the same name that computes
//! it. Operands are counted in the order of the descriptor's tensors. `docs/operators.md` is made by [`document`].
#![no_std]

extern crate alloc;

#[macro_use]
mod descriptor;

pub mod accuracy;
pub mod adagrad;
pub mod adam;
pub mod affine;
pub mod affine_grid;
pub mod arg_reduce;
pub mod attention;
pub mod attention_backward;
pub mod binary;
pub mod cast;
pub mod col2im;
pub mod combine;
pub mod compact;
pub mod concat;
pub mod conv;
pub mod conv_backward_data;
pub mod conv_backward_filter;
pub mod conv_geometry;
pub mod cost;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod ctc;
pub mod ctc_backward;
pub mod deform_conv;
pub mod deform_conv_backward_data;
pub mod deform_conv_backward_filter;
pub mod document;
pub mod dropout;
pub mod fill;
pub mod fused_sgd;
pub mod gamma;
pub mod grid_sample;
pub mod grid_sample_backward;
pub mod histogram;
pub mod im2col;
pub mod lamb;
pub mod loss;
pub mod loss_backward;
pub mod matmul;
pub mod matmul_grouped;
pub mod matmul_int4;
pub mod nibbles;
pub mod nll;
pub mod nms;
pub mod norm;
pub mod norm_backward;
pub mod pad;
pub mod parameters;
pub mod permutation;
pub mod pool;
pub mod pool_backward;
pub mod put;
pub mod quant;
pub mod quantize;
pub mod random;
pub mod range;
pub mod reduce;
pub mod resize;
pub mod resize_backward;
pub mod rmsprop;
pub mod roi_align;
pub mod roi_align_backward;
pub mod rule;
pub mod scan;
pub mod search_sorted;
pub mod sgd;
pub mod soft_cross_entropy;
pub mod softmax;
pub mod softmax_backward;
pub mod sort;
pub mod speed;
pub mod table;
pub mod take;
pub mod tensor;
pub mod ternary;
pub mod unary;
pub mod window;

pub use self::cost::{Class, Cost};
pub use self::rule::RuleError;
pub use self::table::opcode;

/// A packet body of an operator.
pub trait Descriptor: vmlu_abi::Wire {
    /// Its row of the table.
    const INFO: table::Info;
    /// The operator's number.
    const OPCODE: u16 = Self::INFO.opcode;
    /// What the kernel computes from: checked tensors and the iteration space.
    type Checked;

    /// Checks all rules that need no memory: rank, types, shapes, strides, alignment, overflow, aliasing.
    fn check(&self) -> Result<Self::Checked, RuleError>;
}
