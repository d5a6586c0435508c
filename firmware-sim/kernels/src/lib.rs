//! The operators of `ops/`, run on memory. One file an operator, named as in `ops/`.
//!
//! A kernel parses its private copy of the body, checks it, resolves all operands, and only then computes: a rejected command writes
//! nothing. Operand memory is only touched through [`view::View`], a row at a time, by way of private buffers.

pub mod bytes;
pub mod env;

mod activation;
mod adagrad;
mod adam;
mod affine;
mod affine_grid;
mod arg_reduce;
mod attention;
mod attention_backward;
mod attention_mask;
mod binary;
mod cast;
mod cast_int4;
mod col2im;
mod combine;
mod compact;
mod concat;
mod conv;
mod conv_backward_data;
mod conv_backward_filter;
mod conv_sides;
mod cross_entropy;
mod cross_entropy_backward;
mod ctc;
mod ctc_backward;
mod deform_conv;
mod deform_conv_backward_data;
mod deform_conv_backward_filter;
mod dropout;
mod epilogue;
mod fill;
mod floats;
mod fold;
mod folding;
mod fused_sgd;
mod gamma;
mod gamma_functions;
mod gemm;
mod grid_sample;
mod grid_sample_backward;
mod half_convert;
mod histogram;
mod im2col;
mod labels;
mod lamb;
mod loss;
mod loss_backward;
mod math;
mod matmul;
mod matmul_grouped;
mod matmul_int4;
mod moved;
mod nll;
mod nms;
mod norm;
mod norm_backward;
mod number;
mod pad;
mod pages;
mod parameters;
mod permutation;
mod philox;
mod poly32;
mod poly64;
mod pool;
mod pool_backward;
mod private_product;
mod put;
mod quantize;
mod random;
mod range;
mod reduce;
mod reducers;
mod regions;
mod resize;
mod resize_backward;
mod rmsprop;
mod roi_align;
mod roi_align_backward;
mod sampling;
mod scan;
mod search_sorted;
mod sgd;
mod simd;
mod soft_cross_entropy;
mod softmax;
mod softmax_backward;
mod sort;
mod special;
mod stream;
mod take;
mod ternary;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transpose;
mod unary;
mod view;
mod walk;
mod weights;
mod window;

use vmlu_abi::Status;
use vmlu_ops::table::Info;
use vmlu_ops::{Class, Cost, Descriptor, RuleError};

use self::env::{Env, Fault, RateClass, Work};

/// An operator's implementation.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the operator.
    pub name: &'static str,
    /// Number of the operator.
    pub opcode: u16,
    /// Bytes of its descriptor; a packet's body may be longer by the padding of its last unit only.
    pub body: usize,
    /// Runs it on a private copy of the descriptor.
    pub run: fn(&[u8], &dyn Env) -> Result<Work, Fault>,
}

/// All kernels, in the order of `vmlu_ops::table::TABLE`.
pub static KERNELS: &[Kernel] = &[
    kernel(vmlu_ops::matmul::Matmul::INFO, matmul::run),
    kernel(
        vmlu_ops::matmul_grouped::MatmulGrouped::INFO,
        matmul_grouped::run,
    ),
    kernel(vmlu_ops::matmul_int4::MatmulInt4::INFO, matmul_int4::run),
    kernel(vmlu_ops::conv::Conv::INFO, conv::run),
    kernel(
        vmlu_ops::conv_backward_data::ConvBackwardData::INFO,
        conv_backward_data::run,
    ),
    kernel(
        vmlu_ops::conv_backward_filter::ConvBackwardFilter::INFO,
        conv_backward_filter::run,
    ),
    kernel(vmlu_ops::deform_conv::DeformConv::INFO, deform_conv::run),
    kernel(
        vmlu_ops::deform_conv_backward_data::DeformConvBackwardData::INFO,
        deform_conv_backward_data::run,
    ),
    kernel(
        vmlu_ops::deform_conv_backward_filter::DeformConvBackwardFilter::INFO,
        deform_conv_backward_filter::run,
    ),
    kernel(vmlu_ops::attention::Attention::INFO, attention::run),
    kernel(
        vmlu_ops::attention_backward::AttentionBackward::INFO,
        attention_backward::run,
    ),
    kernel(vmlu_ops::unary::Unary::INFO, unary::run),
    kernel(vmlu_ops::binary::Binary::INFO, binary::run),
    kernel(vmlu_ops::affine::Affine::INFO, affine::run),
    kernel(vmlu_ops::cast::Cast::INFO, cast::run),
    kernel(vmlu_ops::fill::Fill::INFO, fill::run),
    kernel(vmlu_ops::ternary::Ternary::INFO, ternary::run),
    kernel(vmlu_ops::quantize::Quantize::INFO, quantize::run),
    kernel(vmlu_ops::gamma::Gamma::INFO, gamma::run),
    kernel(vmlu_ops::reduce::Reduce::INFO, reduce::run),
    kernel(vmlu_ops::arg_reduce::ArgReduce::INFO, arg_reduce::run),
    kernel(vmlu_ops::scan::Scan::INFO, scan::run),
    kernel(vmlu_ops::softmax::Softmax::INFO, softmax::run),
    kernel(
        vmlu_ops::softmax_backward::SoftmaxBackward::INFO,
        softmax_backward::run,
    ),
    kernel(vmlu_ops::norm::Norm::INFO, norm::run),
    kernel(
        vmlu_ops::norm_backward::NormBackward::INFO,
        norm_backward::run,
    ),
    kernel(
        vmlu_ops::cross_entropy::CrossEntropy::INFO,
        cross_entropy::run,
    ),
    kernel(
        vmlu_ops::cross_entropy_backward::CrossEntropyBackward::INFO,
        cross_entropy_backward::run,
    ),
    kernel(vmlu_ops::loss::Loss::INFO, loss::run),
    kernel(
        vmlu_ops::loss_backward::LossBackward::INFO,
        loss_backward::run,
    ),
    kernel(vmlu_ops::nll::Nll::INFO, nll::run),
    kernel(vmlu_ops::ctc::Ctc::INFO, ctc::run),
    kernel(vmlu_ops::ctc_backward::CtcBackward::INFO, ctc_backward::run),
    kernel(
        vmlu_ops::soft_cross_entropy::SoftCrossEntropy::INFO,
        soft_cross_entropy::run,
    ),
    kernel(vmlu_ops::concat::Concat::INFO, concat::run),
    kernel(vmlu_ops::pad::Pad::INFO, pad::run),
    kernel(vmlu_ops::take::Take::INFO, take::run),
    kernel(vmlu_ops::put::Put::INFO, put::run),
    kernel(vmlu_ops::compact::Compact::INFO, compact::run),
    kernel(vmlu_ops::sort::Sort::INFO, sort::run),
    kernel(vmlu_ops::range::Range::INFO, range::run),
    kernel(
        vmlu_ops::search_sorted::SearchSorted::INFO,
        search_sorted::run,
    ),
    kernel(vmlu_ops::histogram::Histogram::INFO, histogram::run),
    kernel(vmlu_ops::pool::Pool::INFO, pool::run),
    kernel(
        vmlu_ops::pool_backward::PoolBackward::INFO,
        pool_backward::run,
    ),
    kernel(vmlu_ops::resize::Resize::INFO, resize::run),
    kernel(
        vmlu_ops::resize_backward::ResizeBackward::INFO,
        resize_backward::run,
    ),
    kernel(vmlu_ops::grid_sample::GridSample::INFO, grid_sample::run),
    kernel(
        vmlu_ops::grid_sample_backward::GridSampleBackward::INFO,
        grid_sample_backward::run,
    ),
    kernel(vmlu_ops::affine_grid::AffineGrid::INFO, affine_grid::run),
    kernel(vmlu_ops::roi_align::RoiAlign::INFO, roi_align::run),
    kernel(
        vmlu_ops::roi_align_backward::RoiAlignBackward::INFO,
        roi_align_backward::run,
    ),
    kernel(vmlu_ops::nms::Nms::INFO, nms::run),
    kernel(vmlu_ops::im2col::Im2col::INFO, im2col::run),
    kernel(vmlu_ops::col2im::Col2im::INFO, col2im::run),
    kernel(vmlu_ops::random::Random::INFO, random::run),
    kernel(vmlu_ops::permutation::Permutation::INFO, permutation::run),
    kernel(vmlu_ops::dropout::Dropout::INFO, dropout::run),
    kernel(vmlu_ops::sgd::Sgd::INFO, sgd::run),
    kernel(vmlu_ops::fused_sgd::FusedSgd::INFO, fused_sgd::run),
    kernel(vmlu_ops::adam::Adam::INFO, adam::run),
    kernel(vmlu_ops::lamb::Lamb::INFO, lamb::run),
    kernel(vmlu_ops::adagrad::Adagrad::INFO, adagrad::run),
    kernel(vmlu_ops::rmsprop::Rmsprop::INFO, rmsprop::run),
    kernel(vmlu_ops::combine::Combine::INFO, combine::run),
];

const fn kernel(info: Info, run: fn(&[u8], &dyn Env) -> Result<Work, Fault>) -> Kernel {
    Kernel {
        name: info.name,
        opcode: info.opcode,
        body: info.body,
        run,
    }
}

/// The kernel of an operator; `None` if the number names no operator.
pub fn find(opcode: u16) -> Option<&'static Kernel> {
    let at = KERNELS.binary_search_by_key(&opcode, |k| k.opcode).ok()?;
    KERNELS.get(at)
}

/// Takes and checks a descriptor.
fn parse<D: Descriptor>(body: &[u8]) -> Result<D::Checked, Fault> {
    Ok(env::body::<D>(body, D::INFO.name)?.check()?)
}

impl From<RuleError> for Fault {
    fn from(error: RuleError) -> Self {
        Self::operand(Status::BadOperand, error.operand, 0, error.rule)
    }
}

impl From<Cost> for Work {
    fn from(cost: Cost) -> Self {
        Self {
            operations: cost.operations,
            class: match cost.class {
                Class::F32 => RateClass::F32,
                Class::F16 => RateClass::F16,
                Class::I16 => RateClass::I16,
                Class::I8 => RateClass::I8,
            },
            read: cost.read,
            written: cost.written,
        }
    }
}
