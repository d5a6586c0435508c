//! Every rule of bad input, and that its text names operator, operand, rule and values.

use vmlu_abi::status::{NO_OPERAND, RULE_TEXT};
use vmlu_abi::tensor::DataType::{self, Bool, F32, F64, I16, I32, I64, I8, U8};
use vmlu_abi::tensor::{reserved_type, TensorDesc};
use vmlu_abi::Wire;
use vmlu_ops::tensor::{absent, contiguous, strided, transposed};
use vmlu_ops::{
    affine, arg_reduce, attention, binary, cast, concat, conv, conv_backward_data,
    conv_backward_filter, cross_entropy, cross_entropy_backward, fill, matmul, matmul_grouped,
    norm, pad, range, reduce, scan, sgd, softmax, sort, take, ternary, unary, Descriptor,
};

/// Fails unless the descriptor is refused with this operand and text.
#[track_caller]
fn refused<D: Descriptor>(desc: &D, operand: u16, rule: &str)
where
    D::Checked: std::fmt::Debug,
{
    let error = desc.check().expect_err("refused");
    assert_eq!((error.operand, &error.rule[..]), (operand, rule));
    assert!(
        rule.len() <= RULE_TEXT,
        "{} bytes do not fit the error record",
        rule.len()
    );
}

fn copy(x: TensorDesc, out: TensorDesc) -> unary::Unary {
    unary::Unary {
        x,
        out,
        function: 0,
        ..vmlu_abi::Wire::zeroed()
    }
}

fn vector(address: u64, length: u64) -> TensorDesc {
    contiguous(F32, address, &[length])
}

#[test]
fn tensors() {
    let (x, out) = (vector(0x1000, 8), vector(0x2000, 8));
    copy(x, out).check().unwrap();
    let bad = |desc: TensorDesc, rule: &str| {
        refused(&copy(desc, out), 0, &format!("unary: x{rule}"));
    };
    bad(TensorDesc { dtype: 0, ..x }, ".dtype is 0, no known type");
    let complex = reserved_type::COMPLEX_F32;
    bad(
        TensorDesc {
            dtype: complex,
            ..x
        },
        ".dtype is 33, no known type",
    );
    bad(TensorDesc { rank: 9, ..x }, ".rank is 9, at most 8");
    bad(
        contiguous(F32, 0x1000, &[1; 300]),
        ".rank is 255, at most 8",
    );
    bad(TensorDesc { flags: 2, ..x }, ".flags is 0x2, must be 0");
    let quantised = " has quantisation fields, which must be 0 here";
    bad(TensorDesc { scale: 0.5, ..x }, quantised);
    bad(TensorDesc { scale: -0.0, ..x }, quantised);
    bad(TensorDesc { offset: -1, ..x }, quantised);
    bad(TensorDesc { scales: 64, ..x }, quantised);
    bad(
        TensorDesc {
            channel_axis: 1,
            ..x
        },
        quantised,
    );
    let mut dirty = x;
    dirty.dims[3] = 1;
    bad(dirty, ".dims[3] or its stride is not 0, but the rank is 1");
    dirty = x;
    dirty.strides[7] = -1;
    bad(dirty, ".dims[7] or its stride is not 0, but the rank is 1");
    bad(vector(0x1002, 8), ".address 0x1002 is not a multiple of 4");
    bad(
        contiguous(F32, 0x1000, &[1 << 32, 1 << 31]),
        ".dims [4294967296, 2147483648]: the product overflows",
    );
    bad(
        strided(F32, 0x1000, &[0, u64::MAX], &[1, 0]),
        ".dims [0, 18446744073709551615]: the product overflows",
    );
    bad(
        strided(F32, 0x1000, &[3], &[i64::MAX]),
        ".strides[0] = 9223372036854775807 times 3 elements overflows",
    );
    bad(
        strided(F32, 0x1000, &[2, 2, 2], &[1 << 60, 1 << 60, 1 << 60]),
        ".strides: the extent of the tensor overflows",
    );
    let outside = ".strides: elements lie outside the 64-bit address space";
    bad(strided(F32, 0x1000, &[8], &[-1000]), outside);
    bad(vector(u64::MAX - 7, 8), outside);
    bad(
        strided(F32, 1 << 63, &[2, 2], &[-(1 << 60), 1 << 60]),
        outside,
    );
}

#[test]
fn outputs_that_overlap_themselves() {
    let x = contiguous(F32, 0x1000, &[4, 4]);
    let out = |strides: &[i64]| strided(F32, 0x2000, &[4, 4], strides);
    let bad = |strides: &[i64], rule: &str| {
        let text = format!("unary: out.strides{rule}, elements of an output would overlap");
        refused(&copy(x, out(strides)), 1, &text);
    };
    bad(&[0, 1], "[0] is 0");
    bad(&[4, 0], "[1] is 0");
    bad(&[3, 1], "[0] is 3");
    bad(&[1, -2], "[1] is -2");
    bad(&[-4, 4], "[1] is 4");
    for fine in [[4, 1], [1, 4], [-4, 1], [7, -1], [1, 9]] {
        copy(x, out(&fine)).check().unwrap();
    }
    // The stride of an axis of one element does not matter.
    let one = strided(F32, 0x2000, &[1, 4], &[0, 1]);
    copy(contiguous(F32, 0x1000, &[1, 4]), one).check().unwrap();
}

#[test]
fn aliasing() {
    let x = contiguous(F32, 0x1000, &[8, 8]);
    copy(x, x).check().unwrap();
    let partial = "unary: out overlaps x, but is not exactly it";
    refused(&copy(x, contiguous(F32, 0x1004, &[8, 8])), 1, partial);
    refused(&copy(x, contiguous(F32, 0xffc, &[8, 8])), 1, partial);
    refused(&copy(x, transposed(x, 0, 1)), 1, partial);
    copy(x, contiguous(F32, 0x1100, &[8, 8])).check().unwrap();
    // Column blocks of one matrix: apart, overlapping, and wrapping around into the next row.
    let block = |column: u64, width: u64| strided(F32, 0x1000 + 4 * column, &[8, width], &[20, 1]);
    copy(block(0, 10), block(10, 10)).check().unwrap();
    copy(block(10, 10), block(0, 10)).check().unwrap();
    copy(block(3, 5), block(12, 5)).check().unwrap();
    refused(&copy(block(0, 10), block(9, 10)), 1, partial);
    refused(&copy(block(0, 10), block(11, 10)), 1, partial);
    let product = matmul::Matmul {
        a: x,
        b: contiguous(F32, 0x2000, &[8, 8]),
        out: x,
        ..Wire::zeroed()
    };
    refused(&product, 2, "matmul: out overlaps a, but must not");
}

#[test]
fn matmul_rules() {
    let good = matmul::Matmul {
        a: contiguous(F32, 0x1000, &[3, 4, 128]),
        b: contiguous(F32, 0x1_0000, &[128, 10]),
        out: contiguous(F32, 0x2_0000, &[3, 4, 10]),
        bias: contiguous(F32, 0x3_0000, &[10]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    let checked = good.check().unwrap();
    assert_eq!((checked.m, checked.n, checked.k), (4, 10, 128));
    let cost = checked.cost();
    assert_eq!(cost.operations, 2 * 3 * 4 * 10 * 128);
    assert_eq!(cost.read, 4 * (3 * 4 * 128 + 1280 + 10));
    assert_eq!(cost.written, 4 * 120);

    let at = |dims: &[u64]| contiguous(F32, 0x1_0000, dims);
    let with_b = |b| matmul::Matmul { b, ..good };
    refused(
        &with_b(at(&[10, 10])),
        1,
        "matmul: b.dims[0] is 10, but a.dims[2] is 128",
    );
    refused(&with_b(at(&[128])), 1, "matmul: b.rank is 1, at least 2");
    refused(
        &with_b(at(&[2, 128, 10])),
        1,
        "matmul: b: batch axis 0 does not broadcast with that of a",
    );
    let b = contiguous(F64, 0x1_0000, &[128, 10]);
    refused(&with_b(b), 1, "matmul: b.dtype is F64, but a.dtype is F32");
    let out = contiguous(F32, 0x2_0000, &[3, 4, 11]);
    refused(
        &matmul::Matmul { out, ..good },
        2,
        "matmul: out.dims[2] is 11, but the product is [3, 4, 10]",
    );
    let out = contiguous(F64, 0x2_0000, &[3, 4, 10]);
    refused(
        &matmul::Matmul { out, ..good },
        2,
        "matmul: out.dtype is F64, must be one of [F32]",
    );
    let bias = contiguous(F32, 0x3_0000, &[9]);
    refused(
        &matmul::Matmul { bias, ..good },
        3,
        "matmul: bias.dims[0] is 9, does not broadcast to [3, 4, 10]",
    );
    let a = contiguous(I32, 0x1000, &[4, 128]);
    refused(
        &matmul::Matmul { a, ..good },
        0,
        "matmul: a.dtype is I32, must be one of [F32, F16, Bf16, F64, I16, I8, U8]",
    );
    refused(
        &matmul::Matmul {
            activation: 9,
            ..good
        },
        NO_OPERAND,
        "matmul: activation 9 is unknown",
    );
    refused(
        &matmul::Matmul {
            reserved: 1,
            ..good
        },
        NO_OPERAND,
        "matmul: a reserved field is 0x1, must be 0",
    );
    let whole = matmul::Matmul {
        a: contiguous(I8, 0x1000, &[2, 2]),
        b: contiguous(I8, 0x1100, &[2, 2]),
        out: contiguous(I32, 0x1200, &[2, 2]),
        alpha: 0.5,
        ..Wire::zeroed()
    };
    refused(
        &whole,
        NO_OPERAND,
        "matmul: integers take alpha 1 and beta 0 or 1 only",
    );
    let whole = matmul::Matmul {
        alpha: 1.0,
        activation: matmul::Activation::Gelu.raw(),
        ..whole
    };
    refused(
        &whole,
        NO_OPERAND,
        "matmul: integers take the activations none and relu only",
    );
    let mixed = matmul::Matmul {
        b: contiguous(I16, 0x1100, &[2, 2]),
        ..whole
    };
    refused(&mixed, 1, "matmul: b.dtype is I16, must be one of [I8, U8]");
    let long = matmul::Matmul {
        a: strided(I16, 0x1000, &[2, (1 << 23) + 1], &[0, 0]),
        b: strided(I16, 0x1100, &[(1 << 23) + 1, 2], &[0, 0]),
        out: contiguous(I64, 0x1200, &[2, 2]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    refused(
        &long,
        0,
        "matmul: a.dims[1] is 8388609, at most 8388608 for I64 sums",
    );
}

#[test]
fn elementwise_rules() {
    let (a, out) = (
        contiguous(F32, 0x1000, &[2, 3]),
        contiguous(F32, 0x2000, &[2, 3]),
    );
    let good = binary::Binary {
        a,
        b: contiguous(F32, 0x3000, &[3]),
        out,
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let b = contiguous(F32, 0x3000, &[4]);
    refused(
        &binary::Binary { b, ..good },
        1,
        "binary: b: axis 1 of the result does not broadcast with that of a",
    );
    refused(
        &binary::Binary {
            function: 200,
            ..good
        },
        NO_OPERAND,
        "binary: function 200 is unknown",
    );
    refused(
        &binary::Binary {
            function: 16,
            ..good
        },
        2,
        "binary: out.dtype is F32, must be one of [Bool]",
    );
    let flat = contiguous(F32, 0x2000, &[6]);
    refused(
        &binary::Binary { out: flat, ..good },
        2,
        "binary: out.rank is 1, but the inputs broadcast to [2, 3]",
    );
    let truth = |address| contiguous(Bool, address, &[2]);
    let and = binary::Binary {
        a: truth(0),
        b: truth(8),
        out: truth(16),
        ..Wire::zeroed()
    };
    refused(&and, 0, "binary: a.dtype is Bool, which add does not take");
    refused(
        &binary::Binary { alpha: 2.0, ..good },
        NO_OPERAND,
        "binary: alpha is 2, but add has no such parameter",
    );

    let tiny = contiguous(F32, 0x2000, &[3]);
    refused(
        &copy(a, tiny),
        0,
        "unary: x.rank is 2, more than that of [3]",
    );
    let whole = |address| contiguous(I32, address, &[3]);
    let exp = unary::Unary {
        function: unary::Function::Exp.raw(),
        ..copy(whole(0), whole(64))
    };
    refused(&exp, 0, "unary: x.dtype is I32, which exp does not take");
    refused(
        &copy(whole(0), contiguous(F32, 64, &[3])),
        1,
        "unary: out.dtype is F32, but x.dtype is I32",
    );

    let scale = |x, out, alpha| affine::Affine {
        x,
        out,
        alpha,
        beta: 0.0,
    };
    scale(whole(0), whole(64), -3.0).check().unwrap();
    for (alpha, text) in [(0.5, "0.5"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let rule = format!("affine: alpha is {text}, but I32 needs a whole number");
        refused(&scale(whole(0), whole(64), alpha), NO_OPERAND, &rule);
    }
    let convert = cast::Cast {
        x: a,
        out: contiguous(U8, 0x4000, &[2, 3]),
        rounding: 9,
        reserved: 0,
    };
    refused(&convert, NO_OPERAND, "cast: rounding mode 9 is unknown");
    let set = fill::Fill {
        out: contiguous(U8, 0, &[3]),
        bits: 0x100,
    };
    refused(&set, NO_OPERAND, "fill: bits 0x100 do not fit U8");
}

#[test]
fn reduction_rules() {
    let x = contiguous(F32, 0x1000, &[4, 5, 6]);
    let sum = |dims: &[u64], axes| reduce::Reduce {
        x,
        out: contiguous(F32, 0x2000, dims),
        function: 0,
        axes,
        ..vmlu_abi::Wire::zeroed()
    };
    for (dims, axes) in [
        (&[4u64, 6][..], 2),
        (&[4, 1, 6], 2),
        (&[], 7),
        (&[1, 1, 1], 7),
        (&[4, 5, 6], 0),
    ] {
        sum(dims, axes).check().unwrap();
    }
    refused(
        &sum(&[4, 5], 2),
        1,
        "reduce: out.dims[1] is 5, but x reduces to [4, 6]",
    );
    refused(
        &sum(&[4, 5, 6], 2),
        1,
        "reduce: out.dims[1] is 5, but x reduces to [4, 1, 6]",
    );
    refused(
        &sum(&[4], 8),
        NO_OPERAND,
        "reduce: axes 0b1000 name more than the 3 of x",
    );
    refused(
        &sum(&[4], 1 << 31),
        NO_OPERAND,
        &format!("reduce: axes {:#b} name more than the 3 of x", 1u32 << 31),
    );
    let mean = reduce::Reduce {
        x: contiguous(I32, 0x1000, &[4]),
        out: contiguous(I32, 0x2000, &[]),
        function: reduce::Function::Mean.raw(),
        axes: 1,
        ..vmlu_abi::Wire::zeroed()
    };
    refused(&mean, 0, "reduce: x.dtype is I32, which mean does not take");

    let arg = |axis, dims: &[u64], dtype: DataType| arg_reduce::ArgReduce {
        x,
        out: contiguous(dtype, 0x2000, dims),
        function: 0,
        axis,
    };
    arg(1, &[4, 6], I32).check().unwrap();
    refused(
        &arg(3, &[4, 5], I32),
        0,
        "arg_reduce: x.rank is 3, but the axis is 3",
    );
    refused(
        &arg(1, &[4, 6], F32),
        1,
        "arg_reduce: out.dtype is F32, must be one of [I32, I64]",
    );

    let soft = softmax::Softmax {
        x,
        out: contiguous(F32, 0x2000, &[4, 5, 6]),
        function: 0,
        axis: u32::MAX,
    };
    refused(&soft, 0, "softmax: x.rank is 3, but the axis is 4294967295");
}

#[test]
fn loss_and_optimiser_rules() {
    let logits = contiguous(F32, 0x1000, &[4, 10]);
    let loss = cross_entropy::CrossEntropy {
        logits,
        labels: contiguous(I32, 0x2000, &[4]),
        loss: contiguous(F32, 0x3000, &[4]),
        probabilities: absent(),
        ..Wire::zeroed()
    };
    loss.check().unwrap();
    let labels = contiguous(I32, 0x2000, &[5]);
    refused(
        &cross_entropy::CrossEntropy { labels, ..loss },
        1,
        "cross_entropy: labels.dims[0] is 5, but the rows are [4]",
    );
    let labels = contiguous(U8, 0x2000, &[4]);
    refused(
        &cross_entropy::CrossEntropy { labels, ..loss },
        1,
        "cross_entropy: labels.dtype is U8, must be one of [I32, I64]",
    );
    refused(
        &cross_entropy::CrossEntropy { flags: 2, ..loss },
        NO_OPERAND,
        "cross_entropy: flags 0x2 are unknown",
    );
    refused(
        &cross_entropy::CrossEntropy {
            ignore_label: -1,
            ..loss
        },
        NO_OPERAND,
        "cross_entropy: ignore_label is set, but its flag is not",
    );
    let gradient = cross_entropy_backward::CrossEntropyBackward {
        source: logits,
        labels: loss.labels,
        upstream: absent(),
        gradient: logits,
        ..Wire::zeroed()
    };
    gradient.check().unwrap();
    let odd = cross_entropy_backward::CrossEntropyBackward {
        source_kind: 2,
        ..gradient
    };
    refused(
        &odd,
        NO_OPERAND,
        "cross_entropy_backward: source_kind 2 is unknown",
    );

    let step = sgd::Sgd {
        weight: vector(0x1000, 8),
        gradient: vector(0x2000, 8),
        velocity: absent(),
        rate: 0.1,
        ..Wire::zeroed()
    };
    step.check().unwrap();
    refused(
        &sgd::Sgd {
            momentum: 0.9,
            ..step
        },
        2,
        "sgd: velocity is absent, but momentum is asked for",
    );
    refused(
        &sgd::Sgd { flags: 8, ..step },
        NO_OPERAND,
        "sgd: flags 0x8 are unknown",
    );
    refused(
        &sgd::Sgd {
            gradient: vector(0x2000, 7),
            ..step
        },
        1,
        "sgd: gradient.dims[0] is 7, but weight is [8]",
    );
    refused(
        &sgd::Sgd {
            velocity: vector(0x1010, 8),
            ..step
        },
        2,
        "sgd: velocity overlaps weight, but must not",
    );
}

#[test]
fn convolution_rules() {
    let good = conv::Conv {
        x: contiguous(F32, 0x1000, &[2, 4, 9, 9]),
        w: contiguous(F32, 0x4000, &[6, 2, 3, 3]),
        out: contiguous(F32, 0x8000, &[2, 6, 5, 5]),
        bias: contiguous(F32, 0xc000, &[6]),
        alpha: 1.0,
        beta: 0.0,
        stride: [2, 2, 0],
        dilation: [1, 1, 0],
        padding: [1, 1, 1, 1, 0, 0],
        groups: 2,
        activation: 0,
    };
    good.check().unwrap();
    let bad = |desc: conv::Conv, operand: u16, rule: &str| refused(&desc, operand, rule);
    bad(
        conv::Conv { groups: 3, ..good },
        NO_OPERAND,
        "conv: 3 groups do not divide 4 channels into 6",
    );
    bad(
        conv::Conv { groups: 1, ..good },
        1,
        "conv: w.dims[1] is 2, but a group has 4",
    );
    bad(
        conv::Conv {
            stride: [2, 1, 0],
            ..good
        },
        2,
        "conv: out.dims[3] is 5, but the filter fits 9",
    );
    bad(
        conv::Conv {
            stride: [0, 2, 0],
            ..good
        },
        NO_OPERAND,
        "conv: spatial axis 0: stride 0, dilation 1, 3 taps: all must be positive",
    );
    bad(
        conv::Conv {
            stride: [2, 2, 1],
            ..good
        },
        NO_OPERAND,
        "conv: stride, dilation and padding of axis 2 must be 0: there are 2",
    );
    bad(
        conv::Conv {
            dilation: [1, 9, 0],
            ..good
        },
        1,
        "conv: w.dims[3]: the filter reaches over 19, the padded input has 11",
    );
    bad(
        conv::Conv {
            x: contiguous(F32, 0x1000, &[2, 4]),
            ..good
        },
        0,
        "conv: x.rank is 2, must be 3 to 5",
    );
    bad(
        conv::Conv {
            bias: contiguous(F32, 0xc000, &[5]),
            ..good
        },
        3,
        "conv: bias.dims[0] is 5, but the filters are [6]",
    );
    bad(
        conv::Conv {
            out: contiguous(F32, 0x1100, &[2, 6, 5, 5]),
            ..good
        },
        2,
        "conv: out overlaps x, but must not",
    );
    let bytes = conv::Conv {
        x: contiguous(U8, 0x1000, &[2, 4, 9, 9]),
        ..good
    };
    bad(bytes, 1, "conv: w.dtype is F32, must be one of [I8]");
    let data = conv_backward_data::ConvBackwardData {
        dy: good.out,
        w: good.w,
        dx: good.x,
        bias: contiguous(F32, 0xc000, &[6]),
        alpha: 1.0,
        beta: 0.0,
        stride: good.stride,
        dilation: good.dilation,
        padding: good.padding,
        groups: 2,
        activation: 0,
    };
    refused(
        &data,
        3,
        "conv_backward_data: bias.dims[0] is 6, but the channels are [4]",
    );
    let filter = conv_backward_filter::ConvBackwardFilter {
        x: good.x,
        dy: good.out,
        dw: contiguous(F32, 0x4000, &[6, 4, 3, 3]),
        alpha: 1.0,
        beta: 0.0,
        stride: good.stride,
        dilation: good.dilation,
        padding: good.padding,
        groups: 2,
        reserved: 0,
    };
    refused(
        &filter,
        2,
        "conv_backward_filter: dw.dims[1] is 4, but a group has 2",
    );
}

#[test]
fn ternary_and_scan_rules() {
    let line = |dtype, address| contiguous(dtype, address, &[4]);
    let good = ternary::Ternary {
        a: line(Bool, 0x1000),
        b: line(F32, 0x2000),
        c: line(F32, 0x3000),
        out: line(F32, 0x4000),
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let number = ternary::Ternary {
        a: line(F32, 0x1000),
        ..good
    };
    refused(&number, 0, "ternary: a.dtype is F32, must be one of [Bool]");
    let long = ternary::Ternary {
        c: contiguous(F32, 0x3000, &[5]),
        ..good
    };
    let rule = "ternary: c: axis 0 of the result does not broadcast with that of a and b";
    refused(&long, 2, rule);
    let good = scan::Scan {
        x: line(F32, 0x1000),
        out: line(F32, 0x2000),
        ..Wire::zeroed()
    };
    good.check().unwrap();
    refused(
        &scan::Scan { axis: 1, ..good },
        0,
        "scan: x.rank is 1, but the axis is 1",
    );
    let indices = line(I32, 0x3000);
    refused(
        &scan::Scan { indices, ..good },
        2,
        "scan: indices is given, but cumsum has none",
    );
}

#[test]
fn norm_rules() {
    let good = norm::Norm {
        x: contiguous(F32, 0x1000, &[4, 8]),
        weight: contiguous(F32, 0x2000, &[8]),
        out: contiguous(F32, 0x3000, &[4, 8]),
        mean: contiguous(F32, 0x4000, &[4]),
        rstd: contiguous(F32, 0x5000, &[4, 1]),
        axes: 2,
        eps: 1e-5,
        ..Wire::zeroed()
    };
    good.check().unwrap();
    refused(
        &norm::Norm { axes: 0, ..good },
        NO_OPERAND,
        "norm: axes 0b0 must name some of the 2 of x",
    );
    refused(
        &norm::Norm {
            eps: f64::NAN,
            ..good
        },
        NO_OPERAND,
        "norm: eps is NaN, must not be negative",
    );
    let weight = contiguous(F32, 0x2000, &[4]);
    refused(
        &norm::Norm { weight, ..good },
        1,
        "norm: weight.dims[0] is 4, does not broadcast to [4, 8]",
    );
    let mean = contiguous(F32, 0x5000, &[4]);
    refused(
        &norm::Norm { mean, ..good },
        5,
        "norm: rstd overlaps mean, but must not",
    );
    refused(
        &norm::Norm {
            function: 1,
            ..good
        },
        4,
        "norm: mean is given, but rms has none",
    );
}

#[test]
fn movement_rules() {
    let mut parts = [absent(); 16];
    parts[0] = contiguous(F32, 0x1000, &[2, 3]);
    parts[1] = contiguous(F32, 0x2000, &[2, 4]);
    let good = concat::Concat {
        whole: contiguous(F32, 0x3000, &[2, 7]),
        parts,
        count: 2,
        axis: 1,
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let whole = contiguous(F32, 0x3000, &[2, 8]);
    refused(
        &concat::Concat { whole, ..good },
        0,
        "concat: whole.dims[1] is 8, but the parts have 7",
    );
    refused(
        &concat::Concat { count: 17, ..good },
        NO_OPERAND,
        "concat: count is 17, must be 1 to 16",
    );
    let good = pad::Pad {
        x: vector(0x1000, 4),
        out: vector(0x2000, 8),
        before: [2, 0, 0, 0, 0, 0, 0, 0],
        function: pad::Function::Reflect.raw(),
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let wide = pad::Pad {
        out: vector(0x2000, 12),
        ..good
    };
    refused(
        &wide,
        0,
        "pad: x.dims[0] is 4, too few for 6 positions of reflect",
    );
    let far = pad::Pad {
        before: [i64::MIN, 0, 0, 0, 0, 0, 0, 0],
        ..good
    };
    assert!(far.check().is_err());
    let mut indices = [absent(); 8];
    indices[0] = contiguous(I32, 0x3000, &[8]);
    let mut axes = [take::NONE; 8];
    axes[0] = 0;
    let good = take::Take {
        x: vector(0x1000, 4),
        out: vector(0x2000, 8),
        indices,
        axes,
        map: [take::NONE; 8],
        ..Wire::zeroed()
    };
    good.check().unwrap();
    axes[0] = 1;
    refused(
        &take::Take { axes, ..good },
        2,
        "take: index is for axis 1 of x, which is none, or has one already",
    );
    indices[0] = contiguous(F32, 0x3000, &[8]);
    refused(
        &take::Take { indices, ..good },
        2,
        "take: index.dtype is F32, must be one of [I32, I64]",
    );
    let good = sort::Sort {
        x: vector(0x1000, 8),
        values: vector(0x2000, 3),
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let values = vector(0x2000, 9);
    refused(
        &sort::Sort { values, ..good },
        1,
        "sort: values.dims[0] is 9, but x has 8",
    );
    refused(
        &sort::Sort {
            values: absent(),
            ..good
        },
        1,
        "sort: values and indices are absent",
    );
    let eye = range::Range {
        out: contiguous(F32, 0x1000, &[3, 3]),
        function: range::Function::Eye.raw(),
        alpha: 0.5,
        ..Wire::zeroed()
    };
    refused(
        &eye,
        NO_OPERAND,
        "range: alpha is 0.5, but I64 needs a whole number",
    );
}

#[test]
fn attention_rules() {
    let good = attention::Attention {
        q: contiguous(F32, 0x1000, &[2, 4, 5, 8]),
        k: contiguous(F32, 0x3000, &[2, 2, 6, 8]),
        v: contiguous(F32, 0x5000, &[2, 2, 6, 3]),
        out: contiguous(F32, 0x7000, &[2, 4, 5, 3]),
        mask: contiguous(Bool, 0x9000, &[5, 6]),
        scale: 1.0,
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let bad = |desc: attention::Attention, operand: u16, rule: &str| {
        refused(&desc, operand, &format!("attention: {rule}"));
    };
    let k = contiguous(F32, 0x3000, &[2, 3, 6, 8]);
    bad(
        attention::Attention { k, ..good },
        1,
        "k.dims[1] is 3, which does not divide the 4 heads of q",
    );
    let v = contiguous(F32, 0x5000, &[2, 2, 7, 3]);
    bad(
        attention::Attention { v, ..good },
        2,
        "v.dims[2] is 7, but k says [2, 2, 6, 3]",
    );
    let mask = contiguous(Bool, 0x9000, &[5, 7]);
    bad(
        attention::Attention { mask, ..good },
        4,
        "mask.dims[1] is 7, does not broadcast to [2, 4, 5, 6]",
    );
    let table = contiguous(I32, 0xa000, &[2, 4]);
    let k = contiguous(F32, 0x3000, &[2, 2, 3, 8]);
    let v = contiguous(F32, 0x5000, &[2, 2, 3, 3]);
    bad(
        attention::Attention {
            table,
            k,
            v,
            ..good
        },
        1,
        "k.dims[2] is 3: pages have an even size",
    );
    let lse = contiguous(F32, 0x7000, &[2, 4, 5]);
    bad(
        attention::Attention { lse, ..good },
        7,
        "lse overlaps out, but must not",
    );
    let q = strided(F32, 0x1000, &[(1 << 20) + 1, 4, 5, 8], &[0, 0, 0, 0]);
    bad(
        attention::Attention { q, ..good },
        0,
        "q.dims[0] is 1048577, at most 1048576",
    );
    bad(
        attention::Attention { causal: 3, ..good },
        NO_OPERAND,
        "causal 3 is unknown",
    );
}

#[test]
fn grouped_product_rules() {
    let good = matmul_grouped::MatmulGrouped {
        a: contiguous(F32, 0x1000, &[6, 4]),
        b: contiguous(F32, 0x2000, &[3, 4, 5]),
        ends: contiguous(I32, 0x3000, &[3]),
        out: contiguous(F32, 0x4000, &[6, 5]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let ends = contiguous(I32, 0x3000, &[2]);
    refused(
        &matmul_grouped::MatmulGrouped { ends, ..good },
        2,
        "matmul_grouped: ends.dims[0] is 2, but b says [3]",
    );
    let groups = (1 << 20) + 1;
    refused(
        &matmul_grouped::MatmulGrouped {
            b: strided(F32, 0x2000, &[groups, 4, 5], &[0, 5, 1]),
            ..good
        },
        1,
        "matmul_grouped: b.dims[0] is 1048577, at most 1048576",
    );
    refused(
        &matmul_grouped::MatmulGrouped {
            out: contiguous(F32, 0x2000, &[6, 5]),
            ..good
        },
        3,
        "matmul_grouped: out overlaps b, but must not",
    );
}
