//! Rules of the operators that look between elements, search and count, and of gradients that came later: their texts name operator, operand, rule and
//! values.

use vmlu_abi::status::{NO_OPERAND, RULE_TEXT};
use vmlu_abi::tensor::DataType::{self, Bool, F16, F32, F64, I32, I64};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::attention::Attention;
use vmlu_ops::attention_backward::AttentionBackward;
use vmlu_ops::roi_align_backward::RoiAlignBackward;
use vmlu_ops::tensor::contiguous;
use vmlu_ops::{
    affine_grid, col2im, deform_conv, gamma, grid_sample, histogram, im2col, nms, roi_align,
    search_sorted, soft_cross_entropy, Descriptor,
};

/// A tensor at an address of its own for each `place`.
fn at(place: u64, dtype: DataType, dims: &[u64]) -> TensorDesc {
    contiguous(dtype, place << 32, dims)
}

/// Fails unless a change of a good descriptor is refused with this operand and text.
#[track_caller]
fn bad<D: Descriptor>(good: &D, change: impl Fn(&mut D), operand: u16, rule: &str)
where
    D::Checked: std::fmt::Debug,
{
    good.check().expect("good");
    let mut op = *good;
    change(&mut op);
    let error = op.check().expect_err("refused");
    let rule = format!("{}: {rule}", D::INFO.name);
    assert_eq!((error.operand, &error.rule), (operand, &rule));
    assert!(rule.len() <= RULE_TEXT, "{} bytes", rule.len());
}

#[test]
fn sampling_rules() {
    let good = grid_sample::GridSample {
        x: at(1, F32, &[2, 3, 8, 9]),
        grid: at(2, F32, &[2, 4, 5, 2]),
        out: at(3, F32, &[2, 3, 4, 5]),
        ..Wire::zeroed()
    };
    bad(
        &good,
        |s| s.function = 3,
        NO_OPERAND,
        "function 3 is unknown",
    );
    bad(&good, |s| s.padding = 3, NO_OPERAND, "padding 3 is unknown");
    bad(
        &good,
        |s| s.flags = 2,
        NO_OPERAND,
        "flags are 0x2, of which some are unknown",
    );
    bad(
        &good,
        |s| s.grid.dtype = F64 as u16,
        1,
        "grid.dtype is F64, but x.dtype is F32",
    );
    bad(
        &good,
        |s| s.x.dims[3] = 0,
        0,
        "x.dims[3] is 0, there is nothing",
    );
    let mut empty = good;
    (empty.x.dims[3], empty.grid.dims[1], empty.out.dims[2]) = (0, 0, 0);
    empty.check().unwrap();
    let grid = affine_grid::AffineGrid {
        theta: at(1, F32, &[2, 2, 3]),
        grid: at(2, F32, &[2, 4, 5, 2]),
        ..Wire::zeroed()
    };
    bad(
        &grid,
        |g| g.theta.dims[1] = 4,
        0,
        "theta.dims[1] is 4, must be 1 to 3",
    );
    bad(
        &grid,
        |g| g.grid = at(2, F32, &[2, 4, 2]),
        1,
        "grid.rank is 3, must be 4",
    );
}

#[test]
fn rules_of_regions_and_boxes() {
    let good = roi_align::RoiAlign {
        x: at(1, F32, &[2, 3, 8, 9]),
        rois: at(2, F32, &[5, 4]),
        images: at(3, I32, &[5]),
        out: at(4, F32, &[5, 3, 2, 2]),
        scale: 0.5,
        ..Wire::zeroed()
    };
    bad(
        &good,
        |r| r.samples = 5000,
        NO_OPERAND,
        "samples are 5000, at most 4096",
    );
    bad(
        &good,
        |r| r.scale = f64::NAN,
        NO_OPERAND,
        "scale is NaN, must be finite",
    );
    bad(
        &good,
        |r| r.images.dtype = F32 as u16,
        2,
        "images.dtype is F32, must be one of [I32, I64]",
    );
    let backward = RoiAlignBackward {
        dy: at(4, F32, &[5, 3, 2, 2]),
        rois: good.rois,
        images: good.images,
        dx: at(5, F32, &[2, 3, 8, 9]),
        x: good.x,
        scale: 0.5,
        function: roi_align::Function::Max.raw(),
        ..Wire::zeroed()
    };
    bad(
        &backward,
        |r| r.function = 3,
        NO_OPERAND,
        "function 3 is unknown",
    );
    bad(
        &backward,
        |r| r.function = 0,
        4,
        "x is given, but average takes none",
    );
    bad(
        &backward,
        |r| r.x = Wire::zeroed(),
        4,
        "x is absent, but max needs it",
    );
    bad(
        &backward,
        |r| r.x.dims[3] = 8,
        4,
        "x.dims[3] is 8, but dx is [2, 3, 8, 9]",
    );
    bad(
        &backward,
        |r| r.x.address = r.dx.address,
        3,
        "dx overlaps x, but must not",
    );
    let good = nms::Nms {
        boxes: at(1, F32, &[2, 6, 4]),
        scores: at(2, F32, &[2, 3, 6]),
        out: at(3, I64, &[20, 3]),
        count: at(4, I64, &[1]),
        ..Wire::zeroed()
    };
    bad(
        &good,
        |n| n.overlap_threshold = f64::NAN,
        NO_OPERAND,
        "a threshold is NaN",
    );
    bad(
        &good,
        |n| n.count.dims[0] = 2,
        3,
        "count has 2 elements, must have one",
    );
    bad(
        &good,
        |n| (n.boxes.dims[1], n.scores.dims[2]) = (1 << 21, 1 << 21),
        0,
        "boxes.dims[1] is 2097152, at most 1048576",
    );
}

#[test]
fn window_rules() {
    let good = im2col::Im2col {
        x: at(1, F32, &[1, 2, 8, 9]),
        out: at(2, F32, &[1, 2, 3, 2, 6, 8]),
        taps: [3, 2, 0],
        stride: [1, 1, 0],
        dilation: [1, 1, 0],
        ..Wire::zeroed()
    };
    bad(
        &good,
        |w| w.out.dims[2] = 2,
        1,
        "out.dims[2] is 2, must be 3",
    );
    bad(
        &good,
        |w| w.out.dims[5] = 7,
        1,
        "out.dims[5] is 7, but 8 windows fit",
    );
    let back = col2im::Col2im {
        x: good.out,
        out: good.x,
        taps: good.taps,
        stride: good.stride,
        dilation: good.dilation,
        ..Wire::zeroed()
    };
    bad(&back, |w| w.x.dims[1] = 1, 0, "x.dims[1] is 1, must be 2");
    let good = deform_conv::DeformConv {
        x: at(1, F32, &[1, 4, 8, 9]),
        w: at(2, F32, &[6, 2, 3, 2]),
        offset: at(3, F32, &[1, 24, 6, 8]),
        out: at(4, F32, &[1, 6, 6, 8]),
        stride: [1, 1],
        dilation: [1, 1],
        groups: 2,
        offset_groups: 2,
        ..Wire::zeroed()
    };
    bad(
        &good,
        |d| d.groups = 3,
        NO_OPERAND,
        "groups are 3, must divide 4 channels and 6 outputs",
    );
    bad(
        &good,
        |d| d.offset_groups = 0,
        NO_OPERAND,
        "offset_groups are 0, must divide 4 channels",
    );
}

#[test]
fn rules_of_searching_and_counting() {
    let good = search_sorted::SearchSorted {
        sorted: at(1, F32, &[3, 9]),
        values: at(2, F32, &[3, 4]),
        out: at(3, I32, &[3, 4]),
        ..Wire::zeroed()
    };
    bad(
        &good,
        |s| s.sorted.dims[0] = 2,
        0,
        "sorted: its axes but the last are not those of values, and it has more than one",
    );
    bad(
        &good,
        |s| (s.sorted.dtype, s.values.dtype) = (Bool as u16, Bool as u16),
        0,
        "sorted.dtype is Bool, which has no order",
    );
    let good = histogram::Histogram {
        x: at(1, F32, &[3, 9]),
        out: at(2, I64, &[4]),
        low: -1.0,
        high: 1.0,
        ..Wire::zeroed()
    };
    bad(
        &good,
        |h| h.high = -1.0,
        NO_OPERAND,
        "low is -1, high -1: must be finite and ascend",
    );
    bad(
        &good,
        |h| (h.function, h.low, h.high) = (2, 0.0, 0.0),
        0,
        "x.dtype is F32, which count does not take",
    );
    bad(
        &good,
        |h| (h.function, h.low, h.high) = (1, 0.0, 0.0),
        1,
        "edges is absent, but edges needs it",
    );
    let good = gamma::Gamma {
        a: at(1, F32, &[3, 9]),
        b: at(2, F32, &[9]),
        out: at(3, F32, &[3, 9]),
        function: gamma::Function::Lower.raw(),
        order: 0,
    };
    bad(
        &good,
        |g| g.order = 1,
        NO_OPERAND,
        "order is 1, at most 0 for igamma",
    );
    bad(&good, |g| g.function = 0, 1, "b: polygamma takes none");
    bad(&good, |g| g.b = Wire::zeroed(), 1, "b: igamma needs it");
}

#[test]
fn rules_of_later_gradients() {
    let forward = Attention {
        q: at(1, F32, &[2, 4, 5, 8]),
        k: at(2, F32, &[2, 2, 7, 8]),
        v: at(3, F32, &[2, 2, 7, 6]),
        out: at(4, F32, &[2, 4, 5, 6]),
        lse: at(5, F32, &[2, 4, 5]),
        scale: 1.0,
        ..Wire::zeroed()
    };
    let gradients = [
        at(7, F32, &[2, 4, 5, 8]),
        at(8, F32, &[2, 2, 7, 8]),
        at(9, F32, &[2, 2, 7, 6]),
    ];
    let good = AttentionBackward::of(&forward, at(6, F32, &[2, 4, 5, 6]), gradients);
    bad(&good, |a| a.causal = 3, NO_OPERAND, "causal 3 is unknown");
    bad(
        &good,
        |a| a.dk.dtype = F16 as u16,
        9,
        "dk.dtype is F16, but q.dtype is F32",
    );
    bad(
        &good,
        |a| a.dv.address = a.dk.address,
        10,
        "dv overlaps dk, but must not",
    );
    bad(
        &good,
        |a| a.dmask = at(10, F32, &[5, 7]),
        6,
        "mask is absent, but dmask is its gradient",
    );
    let masked = AttentionBackward {
        mask: at(11, F32, &[5, 7]),
        dmask: at(10, F32, &[5, 7]),
        ..good
    };
    masked.check().unwrap();
    bad(
        &masked,
        |a| a.mask.dtype = Bool as u16,
        6,
        "mask is Bool, which has no gradient",
    );
    bad(
        &masked,
        |a| a.dmask.dims[1] = 1,
        12,
        "dmask.dims[1] is 1, but mask is [5, 7]",
    );
    bad(
        &masked,
        |a| a.dmask.address = a.dq.address,
        12,
        "dmask overlaps dq, but must not",
    );
    bad(
        &good,
        |a| a.table = at(12, I32, &[2, 3]),
        1,
        "k.dims[2] is 7: pages have an even size",
    );
    bad(
        &good,
        |a| a.table = at(12, I32, &[3, 3]),
        11,
        "table.dims[0] is 3, but q says [2, 3]",
    );
    let good = soft_cross_entropy::SoftCrossEntropy {
        logits: at(1, F32, &[4, 5]),
        target: at(2, F32, &[4, 5]),
        loss: at(3, F32, &[4]),
        ..Wire::zeroed()
    };
    bad(
        &good,
        |s| s.smoothing = 2.0,
        NO_OPERAND,
        "smoothing is 2, must be 0 to 1",
    );
    bad(
        &good,
        |s| s.function = 1,
        4,
        "gradient is absent, but backward writes it",
    );
    bad(
        &good,
        |s| (s.logits.dims[1], s.target.dims[1]) = (0, 0),
        0,
        "logits.dims[1] is 0, there are no classes",
    );
}
