//! All operators: numbers and the table that `docs/operators.md` is made from.

/// Operator numbers, in the ranges `OPERATOR` and `COLLECTIVE` of `vmlu_abi::packet::range`. The upper byte is the group; numbers never change.
pub mod opcode {
    /// [`crate::matmul`].
    pub const MATMUL: u16 = 0x1000;
    /// [`crate::matmul_grouped`].
    pub const MATMUL_GROUPED: u16 = 0x1001;
    /// [`crate::matmul_int4`].
    pub const MATMUL_INT4: u16 = 0x1002;
    /// [`crate::conv`].
    pub const CONV: u16 = 0x1010;
    /// [`crate::conv_backward_data`].
    pub const CONV_BACKWARD_DATA: u16 = 0x1011;
    /// [`crate::conv_backward_filter`].
    pub const CONV_BACKWARD_FILTER: u16 = 0x1012;
    /// [`crate::deform_conv`].
    pub const DEFORM_CONV: u16 = 0x1013;
    /// [`crate::deform_conv_backward_data`].
    pub const DEFORM_CONV_BACKWARD_DATA: u16 = 0x1014;
    /// [`crate::deform_conv_backward_filter`].
    pub const DEFORM_CONV_BACKWARD_FILTER: u16 = 0x1015;
    /// [`crate::attention`].
    pub const ATTENTION: u16 = 0x1020;
    /// [`crate::attention_backward`].
    pub const ATTENTION_BACKWARD: u16 = 0x1021;
    /// [`crate::unary`].
    pub const UNARY: u16 = 0x1100;
    /// [`crate::binary`].
    pub const BINARY: u16 = 0x1101;
    /// [`crate::affine`].
    pub const AFFINE: u16 = 0x1102;
    /// [`crate::cast`].
    pub const CAST: u16 = 0x1103;
    /// [`crate::fill`].
    pub const FILL: u16 = 0x1104;
    /// [`crate::ternary`].
    pub const TERNARY: u16 = 0x1105;
    /// [`crate::quantize`].
    pub const QUANTIZE: u16 = 0x1106;
    /// [`crate::gamma`].
    pub const GAMMA: u16 = 0x1107;
    /// [`crate::reduce`].
    pub const REDUCE: u16 = 0x1200;
    /// [`crate::arg_reduce`].
    pub const ARG_REDUCE: u16 = 0x1201;
    /// [`crate::scan`].
    pub const SCAN: u16 = 0x1202;
    /// [`crate::softmax`].
    pub const SOFTMAX: u16 = 0x1300;
    /// [`crate::softmax_backward`].
    pub const SOFTMAX_BACKWARD: u16 = 0x1301;
    /// [`crate::norm`].
    pub const NORM: u16 = 0x1310;
    /// [`crate::norm_backward`].
    pub const NORM_BACKWARD: u16 = 0x1311;
    /// [`crate::cross_entropy`].
    pub const CROSS_ENTROPY: u16 = 0x1400;
    /// [`crate::cross_entropy_backward`].
    pub const CROSS_ENTROPY_BACKWARD: u16 = 0x1401;
    /// [`crate::loss`].
    pub const LOSS: u16 = 0x1402;
    /// [`crate::loss_backward`].
    pub const LOSS_BACKWARD: u16 = 0x1403;
    /// [`crate::nll`].
    pub const NLL: u16 = 0x1404;
    /// [`crate::ctc`].
    pub const CTC: u16 = 0x1405;
    /// [`crate::ctc_backward`].
    pub const CTC_BACKWARD: u16 = 0x1406;
    /// [`crate::soft_cross_entropy`].
    pub const SOFT_CROSS_ENTROPY: u16 = 0x1407;
    /// [`crate::concat`].
    pub const CONCAT: u16 = 0x1500;
    /// [`crate::pad`].
    pub const PAD: u16 = 0x1501;
    /// [`crate::take`].
    pub const TAKE: u16 = 0x1510;
    /// [`crate::put`].
    pub const PUT: u16 = 0x1511;
    /// [`crate::compact`].
    pub const COMPACT: u16 = 0x1520;
    /// [`crate::sort`].
    pub const SORT: u16 = 0x1530;
    /// [`crate::range`].
    pub const RANGE: u16 = 0x1540;
    /// [`crate::search_sorted`].
    pub const SEARCH_SORTED: u16 = 0x1541;
    /// [`crate::histogram`].
    pub const HISTOGRAM: u16 = 0x1542;
    /// [`crate::pool`].
    pub const POOL: u16 = 0x1600;
    /// [`crate::pool_backward`].
    pub const POOL_BACKWARD: u16 = 0x1601;
    /// [`crate::resize`].
    pub const RESIZE: u16 = 0x1602;
    /// [`crate::resize_backward`].
    pub const RESIZE_BACKWARD: u16 = 0x1603;
    /// [`crate::grid_sample`].
    pub const GRID_SAMPLE: u16 = 0x1604;
    /// [`crate::grid_sample_backward`].
    pub const GRID_SAMPLE_BACKWARD: u16 = 0x1605;
    /// [`crate::affine_grid`].
    pub const AFFINE_GRID: u16 = 0x1606;
    /// [`crate::roi_align`].
    pub const ROI_ALIGN: u16 = 0x1607;
    /// [`crate::roi_align_backward`].
    pub const ROI_ALIGN_BACKWARD: u16 = 0x1608;
    /// [`crate::nms`].
    pub const NMS: u16 = 0x1609;
    /// [`crate::im2col`].
    pub const IM2COL: u16 = 0x160a;
    /// [`crate::col2im`].
    pub const COL2IM: u16 = 0x160b;
    /// [`mod@crate::random`].
    pub const RANDOM: u16 = 0x1700;
    /// [`crate::permutation`].
    pub const PERMUTATION: u16 = 0x1701;
    /// [`crate::dropout`].
    pub const DROPOUT: u16 = 0x1702;
    /// [`crate::sgd`].
    pub const SGD: u16 = 0x1800;
    /// [`crate::fused_sgd`].
    pub const FUSED_SGD: u16 = 0x1801;
    /// [`crate::adam`].
    pub const ADAM: u16 = 0x1802;
    /// [`crate::lamb`].
    pub const LAMB: u16 = 0x1803;
    /// [`crate::adagrad`].
    pub const ADAGRAD: u16 = 0x1804;
    /// [`crate::rmsprop`].
    pub const RMSPROP: u16 = 0x1805;
    /// [`crate::combine`].
    pub const COMBINE: u16 = 0x4000;
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Number.
    pub opcode: u16,
    /// Name, also that of the module and of the kernel's file.
    pub name: &'static str,
    /// What it computes.
    pub formula: &'static str,
    /// Operands in the order of their numbers; those that are written end in `*`, those that may be absent in `?`.
    pub operands: &'static [&'static str],
    /// Functions of a family; empty for a single operator.
    pub functions: &'static [Function],
    /// Element types.
    pub types: &'static str,
    /// Which operator is the gradient, or why there is none.
    pub backward: &'static str,
    /// Operations that the clock is charged; bytes are those of the operands.
    pub cost: &'static str,
    /// Bytes of the descriptor.
    pub body: usize,
    /// Fields of the descriptor.
    pub fields: &'static [Field],
}

/// A function of a family.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Number in the descriptor.
    pub number: u32,
    /// Name.
    pub name: &'static str,
    /// What it computes.
    pub text: &'static str,
}

/// A field of a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: &'static str,
    /// Byte in the body.
    pub offset: usize,
    /// What it means.
    pub text: &'static str,
}

/// Groups of operators that are not served yet.
pub const ABSENT: &[(&str, &str)] = &[
    ("elementwise", "Bessel functions but i0, complex numbers"),
    ("types", "complex, 8-bit floats"),
];

/// All operators by number.
pub static TABLE: &[Info] = &[
    info::<crate::matmul::Matmul>(),
    info::<crate::matmul_grouped::MatmulGrouped>(),
    info::<crate::matmul_int4::MatmulInt4>(),
    info::<crate::conv::Conv>(),
    info::<crate::conv_backward_data::ConvBackwardData>(),
    info::<crate::conv_backward_filter::ConvBackwardFilter>(),
    info::<crate::deform_conv::DeformConv>(),
    info::<crate::deform_conv_backward_data::DeformConvBackwardData>(),
    info::<crate::deform_conv_backward_filter::DeformConvBackwardFilter>(),
    info::<crate::attention::Attention>(),
    info::<crate::attention_backward::AttentionBackward>(),
    info::<crate::unary::Unary>(),
    info::<crate::binary::Binary>(),
    info::<crate::affine::Affine>(),
    info::<crate::cast::Cast>(),
    info::<crate::fill::Fill>(),
    info::<crate::ternary::Ternary>(),
    info::<crate::quantize::Quantize>(),
    info::<crate::gamma::Gamma>(),
    info::<crate::reduce::Reduce>(),
    info::<crate::arg_reduce::ArgReduce>(),
    info::<crate::scan::Scan>(),
    info::<crate::softmax::Softmax>(),
    info::<crate::softmax_backward::SoftmaxBackward>(),
    info::<crate::norm::Norm>(),
    info::<crate::norm_backward::NormBackward>(),
    info::<crate::cross_entropy::CrossEntropy>(),
    info::<crate::cross_entropy_backward::CrossEntropyBackward>(),
    info::<crate::loss::Loss>(),
    info::<crate::loss_backward::LossBackward>(),
    info::<crate::nll::Nll>(),
    info::<crate::ctc::Ctc>(),
    info::<crate::ctc_backward::CtcBackward>(),
    info::<crate::soft_cross_entropy::SoftCrossEntropy>(),
    info::<crate::concat::Concat>(),
    info::<crate::pad::Pad>(),
    info::<crate::take::Take>(),
    info::<crate::put::Put>(),
    info::<crate::compact::Compact>(),
    info::<crate::sort::Sort>(),
    info::<crate::range::Range>(),
    info::<crate::search_sorted::SearchSorted>(),
    info::<crate::histogram::Histogram>(),
    info::<crate::pool::Pool>(),
    info::<crate::pool_backward::PoolBackward>(),
    info::<crate::resize::Resize>(),
    info::<crate::resize_backward::ResizeBackward>(),
    info::<crate::grid_sample::GridSample>(),
    info::<crate::grid_sample_backward::GridSampleBackward>(),
    info::<crate::affine_grid::AffineGrid>(),
    info::<crate::roi_align::RoiAlign>(),
    info::<crate::roi_align_backward::RoiAlignBackward>(),
    info::<crate::nms::Nms>(),
    info::<crate::im2col::Im2col>(),
    info::<crate::col2im::Col2im>(),
    info::<crate::random::Random>(),
    info::<crate::permutation::Permutation>(),
    info::<crate::dropout::Dropout>(),
    info::<crate::sgd::Sgd>(),
    info::<crate::fused_sgd::FusedSgd>(),
    info::<crate::adam::Adam>(),
    info::<crate::lamb::Lamb>(),
    info::<crate::adagrad::Adagrad>(),
    info::<crate::rmsprop::Rmsprop>(),
    info::<crate::combine::Combine>(),
];

const fn info<D: crate::Descriptor>() -> Info {
    D::INFO
}

/// The operator with this number.
pub fn find(opcode: u16) -> Option<&'static Info> {
    let at = TABLE.binary_search_by_key(&opcode, |i| i.opcode).ok()?;
    TABLE.get(at)
}

#[cfg(test)]
mod tests {
    use vmlu_abi::packet::range;

    use super::*;

    #[test]
    fn numbers_are_sorted_and_in_range_and_bodies_fit_a_packet() {
        assert!(TABLE.windows(2).all(|w| w[0].opcode < w[1].opcode));
        for info in TABLE {
            let known = [range::OPERATOR, range::COLLECTIVE];
            assert!(known
                .iter()
                .any(|(first, last)| (first..=last).contains(&&info.opcode)));
            assert!(info.body <= vmlu_abi::packet::MAX_BODY, "{}", info.name);
            assert_eq!(find(info.opcode).map(|i| i.name), Some(info.name));
        }
    }
}
