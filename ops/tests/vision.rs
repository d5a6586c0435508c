//! Rules of the operators of images, and that their texts name operator, operand, rule and values.

use vmlu_abi::status::{NO_OPERAND, RULE_TEXT};
use vmlu_abi::tensor::DataType::{self, Bool, F32, I32, I64, I8};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::tensor::contiguous;
use vmlu_ops::{pool, pool_backward, resize, resize_backward, Descriptor};

/// Fails unless the descriptor is refused with this operand and text.
#[track_caller]
fn refused<D: Descriptor>(desc: &D, operand: u16, rule: &str)
where
    D::Checked: std::fmt::Debug,
{
    let error = desc.check().expect_err("refused");
    assert_eq!((error.operand, &error.rule[..]), (operand, rule));
    assert!(rule.len() <= RULE_TEXT, "{} bytes", rule.len());
}

/// A tensor at an address of its own for each `place`.
fn at(place: u64, dtype: DataType, dims: &[u64]) -> TensorDesc {
    contiguous(dtype, place << 32, dims)
}

#[test]
fn pooling_rules() {
    let good = pool::Pool {
        x: at(1, F32, &[2, 3, 8, 9]),
        out: at(2, F32, &[2, 3, 4, 4]),
        taps: [3, 3, 0],
        stride: [2, 2, 0],
        dilation: [1, 1, 0],
        padding: [1, 0, 0, 0, 0, 0],
        ..Wire::zeroed()
    };
    good.check().unwrap();
    let bad = |change: &dyn Fn(&mut pool::Pool), operand: u16, rule: &str| {
        let mut op = good;
        change(&mut op);
        refused(&op, operand, &format!("pool: {rule}"));
    };
    bad(&|p| p.function = 3, NO_OPERAND, "function 3 is unknown");
    bad(
        &|p| p.flags = 6,
        NO_OPERAND,
        "flags are 0x6, of which some are unknown",
    );
    bad(
        &|p| (p.x.dtype, p.out.dtype) = (Bool as u16, Bool as u16),
        0,
        "x.dtype is Bool, which has no largest",
    );
    bad(
        &|p| (p.x.dtype, p.function) = (I8 as u16, 1),
        0,
        "x.dtype is I8, must be one of [F32, F16, Bf16, F64]",
    );
    bad(
        &|p| p.out.dtype = I32 as u16,
        1,
        "out.dtype is I32, but x.dtype is F32",
    );
    bad(
        &|p| p.x = at(1, F32, &[8, 9]),
        0,
        "x.rank is 2, must be 3 to 5",
    );
    bad(
        &|p| p.out = at(2, F32, &[2, 3, 4]),
        1,
        "out.rank is 3, must be 4",
    );
    bad(
        &|p| p.out.dims[1] = 2,
        1,
        "out.dims[1] is 2, but the input has 3",
    );
    bad(
        &|p| p.taps[1] = 0,
        NO_OPERAND,
        "spatial axis 1: 0 taps, stride 2, dilation 1: all must be positive",
    );
    bad(
        &|p| p.taps[2] = 1,
        NO_OPERAND,
        "taps, stride, dilation and padding of axis 2 must be 0: there are 2",
    );
    bad(
        &|p| p.dilation[0] = 5,
        0,
        "x.dims[2] is 8, 9 with padding; 3 taps at distance 5 reach over more",
    );
    bad(
        &|p| p.out = at(2, F32, &[2, 3, 5, 4]),
        1,
        "out.dims[2] is 5, but 4 windows fit",
    );
    bad(
        &|p| (p.stride[0], p.out.dims[2]) = (4, 1),
        1,
        "out.dims[2] is 1, but 2 windows fit, one more rounded up",
    );
    // Rounded up, where that window begins before the end of the input.
    let mut up = good;
    (up.stride[0], up.out) = (4, at(2, F32, &[2, 3, 3, 4]));
    up.check().unwrap();
    bad(
        &|p| p.divisor = 2,
        NO_OPERAND,
        "divisor is 2, but max has none",
    );
    bad(
        &|p| p.flags = pool::FLAG_ADAPTIVE,
        NO_OPERAND,
        "adaptive windows have no taps, strides, dilation and padding: all must be 0",
    );
    bad(
        &|p| p.x.dims[3] = 1 << 31,
        0,
        "x.dims[3] is 2147483648, at most 2147483647",
    );
    bad(
        &|p| p.out.address = p.x.address,
        1,
        "out overlaps x, but must not",
    );
    bad(
        &|p| p.indices = at(3, F32, &[2, 3, 4, 4]),
        2,
        "indices.dtype is F32, must be one of [I32, I64]",
    );
    bad(
        &|p| p.indices = at(3, I32, &[2, 3, 4, 5]),
        2,
        "indices.dims[3] is 5, but out is [2, 3, 4, 4]",
    );
    bad(
        &|p| (p.indices, p.function) = (at(3, I64, &[2, 3, 4, 4]), 2),
        2,
        "indices is given, but average_valid has none",
    );
    let back = pool_backward::PoolBackward {
        dy: good.out,
        dx: good.x,
        taps: good.taps,
        stride: good.stride,
        dilation: good.dilation,
        padding: good.padding,
        ..Wire::zeroed()
    };
    refused(
        &back,
        1,
        "pool_backward: indices is absent, but max needs it",
    );
    let mut average = back;
    average.function = 1;
    average.check().unwrap();
    average.indices = at(3, I32, &[2, 3, 4, 4]);
    refused(
        &average,
        1,
        "pool_backward: indices is given, but average has none",
    );
}

#[test]
fn resizing_rules() {
    let good = resize::Resize::new(
        resize::Function::Linear,
        at(1, F32, &[2, 3, 8, 9]),
        at(2, F32, &[2, 3, 4, 20]),
        resize::half_pixel,
    );
    good.check().unwrap();
    let bad = |change: &dyn Fn(&mut resize::Resize), operand: u16, rule: &str| {
        let mut op = good;
        change(&mut op);
        refused(&op, operand, &format!("resize: {rule}"));
    };
    bad(&|r| r.function = 3, NO_OPERAND, "function 3 is unknown");
    bad(&|r| r.rounding = 1, NO_OPERAND, "rounding is 1, must be 0");
    bad(
        &|r| (r.function, r.rounding) = (0, 4),
        NO_OPERAND,
        "rounding is 4, must be at most 3",
    );
    bad(
        &|r| (r.function, r.flags) = (0, 1),
        NO_OPERAND,
        "flags are 0x1, of which nearest has only 0x4",
    );
    bad(
        &|r| r.extrapolation = 1.0,
        NO_OPERAND,
        "extrapolation is 1, must be 0 without its flag",
    );
    bad(
        &|r| r.coefficient = 0.5,
        NO_OPERAND,
        "coefficient is 0.5, must be 0",
    );
    bad(
        &|r| (r.function, r.coefficient) = (2, f64::NAN),
        NO_OPERAND,
        "coefficient is NaN, must be finite",
    );
    bad(
        &|r| r.shift[2] = 1.0,
        NO_OPERAND,
        "offset, numerator, denominator and shift of axis 2 must be 0: there are 2",
    );
    bad(
        &|r| r.denominator[1] = 0.0,
        NO_OPERAND,
        "spatial axis 1: (o + 0.5) · 9 / 0 + -0.5: all must be finite, the factor ≥ 0, the divisor > 0",
    );
    bad(
        &|r| (r.numerator[0], r.flags) = (1e6, resize::FLAG_ANTIALIAS),
        NO_OPERAND,
        "spatial axis 0: numerator / denominator is 250000, too large",
    );
    bad(&|r| r.out.dims[1] = 2, 1, "out.dims[1] is 2, but x has 3");
    bad(&|r| r.x.dims[2] = 0, 0, "x.dims[2] is 0, there is nothing");
    bad(
        &|r| r.x.dtype = I8 as u16,
        0,
        "x.dtype is I8, must be one of [F32, F16, Bf16, F64]",
    );
    bad(
        &|r| r.reserved = 1,
        NO_OPERAND,
        "a reserved field is 0x1, must be 0",
    );
    let back = resize_backward::ResizeBackward::of(&good);
    back.check().unwrap();
    let mut op = back;
    op.dx.dims[0] = 1;
    refused(&op, 0, "resize_backward: dy.dims[0] is 2, but dx has 1");
}
