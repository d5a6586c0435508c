//! Rules of what training needs: random numbers, dropout, optimisers, losses; that each is refused with a text that names operand, rule and values.

use vmlu_abi::status::{NO_OPERAND, RULE_TEXT};
use vmlu_abi::tensor::DataType::{Bf16, Bool, F16, F32, F64, I32, I64, I8, U64, U8};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::parameters::{Part, MAX_PARTS};
use vmlu_ops::tensor::contiguous;
use vmlu_ops::{
    adam, cross_entropy, ctc, dropout, fused_sgd, loss, nll, permutation, random, rmsprop,
    Descriptor,
};

/// Fails unless a descriptor that was changed is refused with this operand and text.
#[track_caller]
fn refused<D: Descriptor>(good: &D, change: impl Fn(&mut D), operand: u16, rule: &str)
where
    D::Checked: std::fmt::Debug,
{
    good.check().expect("it is good before");
    let mut bad = *good;
    change(&mut bad);
    let error = bad.check().expect_err("refused");
    assert_eq!((error.operand, &error.rule[..]), (operand, rule));
    assert!(rule.len() <= RULE_TEXT, "{} bytes", rule.len());
}

fn vector(dtype: vmlu_abi::tensor::DataType, address: u64, length: u64) -> TensorDesc {
    contiguous(dtype, address, &[length])
}

#[test]
fn random() {
    let good = random::Random {
        out: vector(F32, 0x1000, 8),
        beta: 1.0,
        ..Wire::zeroed()
    };
    let bad = |change: &dyn Fn(&mut random::Random), operand, rule: &str| {
        refused(&good, change, operand, &format!("random: {rule}"));
    };
    let none = NO_OPERAND;
    bad(&|d| d.function = 9, none, "function 9 is unknown");
    bad(
        &|d| d.reserved = 1,
        none,
        "a reserved field is 0x1, must be 0",
    );
    bad(
        &|d| d.out.dtype = I32 as u16,
        0,
        "out.dtype is I32, which uniform does not give",
    );
    bad(
        &|d| d.beta = -1.0,
        none,
        "uniform from 0e0 to -1e0: no range",
    );
    bad(&|d| d.beta = f64::NAN, none, "beta is NaN, must be finite");
    bad(
        &|d| (d.alpha, d.beta) = (-1e308, 1e308),
        none,
        "uniform from -1e308 to 1e308: no range",
    );
    bad(
        &|d| d.high = 1,
        none,
        "low or high is not 0, but uniform has none",
    );
    bad(
        &|d| d.probability = vector(F32, 0x2000, 8),
        1,
        "probability is given, but uniform has none",
    );
    let state = vector(U64, 0x3000, 2);
    bad(
        &|d| (d.state, d.seed) = (state, 1),
        2,
        "state is given, and seed or offset is not 0",
    );
    bad(
        &|d| d.state = vector(I64, 0x3000, 2),
        2,
        "state.dtype is I64, must be one of [U64]",
    );
    bad(
        &|d| d.state = vector(U64, 0x3000, 3),
        2,
        "state.dims[0] is 3, but it must be [2]",
    );
    bad(
        &|d| d.state = vector(U64, 0x1010, 2),
        2,
        "state overlaps out, but must not",
    );
    let of = |f: random::Function| {
        move |d: &mut random::Random| {
            (d.function, d.alpha, d.beta) = (f.raw(), 0.0, 0.0);
        }
    };
    use random::Function as F;
    bad(
        &|d| (of(F::Normal)(d), d.beta = -1.0).0,
        none,
        "beta is -1: a deviation is not negative",
    );
    bad(
        &|d| (of(F::Bernoulli)(d), d.alpha = 1.5).0,
        none,
        "alpha is 1.5: a probability is 0 to 1",
    );
    bad(
        &|d| (of(F::Exponential)(d), d.alpha = 0.0).0,
        none,
        "alpha is 0: a rate is positive",
    );
    bad(
        &|d| (of(F::Exponential)(d), d.beta = 2.0).0,
        none,
        "beta is 2, which exponential does not take here",
    );
    bad(
        &|d| (of(F::Cauchy)(d), d.beta = 0.0).0,
        none,
        "beta is 0: a width is positive",
    );
    bad(
        &|d| (of(F::Geometric)(d), d.alpha = 1.0).0,
        none,
        "alpha is 1, must lie between 0 and 1",
    );
    bad(
        &|d| of(F::Bits)(d),
        0,
        "out.dtype is F32, which bits does not give",
    );
    bad(
        &|d| of(F::Integers)(d),
        none,
        "integers from 0 up to 0: no range",
    );
    let narrow = "integers from -5 up to 200: I8 does not hold all of them";
    bad(
        &|d| {
            of(F::Integers)(d);
            (d.low, d.high) = (-5, 200);
            d.out.dtype = I8 as u16;
        },
        none,
        narrow,
    );
    let chances = random::Random {
        probability: vector(F16, 0x2000, 1),
        function: F::Bernoulli.raw(),
        out: vector(Bool, 0x1000, 8),
        beta: 0.0,
        ..good
    };
    let wide = "random: probability.dims[0] is 3, does not broadcast to [8]";
    refused(&chances, |d| d.probability.dims[0] = 3, 1, wide);
    let twice = "random: alpha is 0.5, which bernoulli does not take here";
    refused(&chances, |d| d.alpha = 0.5, none, twice);
    let whole = "random: probability.dtype is I32, must be one of [F32, F16, Bf16, F64]";
    refused(&chances, |d| d.probability.dtype = I32 as u16, 1, whole);
}

#[test]
fn permutation_and_dropout() {
    let good = permutation::Permutation {
        out: vector(I32, 0x1000, 8),
        ..Wire::zeroed()
    };
    let float = "permutation: out.dtype is F32, must be one of [I32, I64]";
    refused(&good, |d| d.out.dtype = F32 as u16, 0, float);
    let rank = "permutation: out.rank is 2, must be 1";
    refused(&good, |d| d.out = contiguous(I32, 0x1000, &[2, 2]), 0, rank);
    let many = "permutation: out.dims[0] is 2147483649: I32 does not hold all of them";
    refused(
        &good,
        |d| d.out = vector(I32, 0x1000, (1 << 31) + 1),
        0,
        many,
    );
    let reserved = "permutation: a reserved field is 0x7, must be 0";
    refused(&good, |d| d.reserved = 7, NO_OPERAND, reserved);

    let good = dropout::Dropout {
        x: vector(F32, 0x1000, 8),
        mask: vector(U8, 0x2000, 8),
        out: vector(F32, 0x1000, 8),
        p: 0.5,
        ..Wire::zeroed()
    };
    let bad = |change: &dyn Fn(&mut dropout::Dropout), operand, rule: &str| {
        refused(&good, change, operand, &format!("dropout: {rule}"));
    };
    bad(
        &|d| d.p = 1.25,
        NO_OPERAND,
        "p is 1.25: a probability is 0 to 1",
    );
    bad(
        &|d| d.p = f64::NAN,
        NO_OPERAND,
        "p is NaN: a probability is 0 to 1",
    );
    bad(&|d| d.function = 2, NO_OPERAND, "function 2 is unknown");
    bad(
        &|d| d.mask.dtype = F32 as u16,
        1,
        "mask.dtype is F32, must be one of [Bool, U8]",
    );
    bad(
        &|d| d.mask.dims[0] = 7,
        1,
        "mask.dims[0] is 7, but x is [8]",
    );
    bad(
        &|d| d.mask.address = 0x1008,
        1,
        "mask overlaps out, but must not",
    );
    bad(
        &|d| d.out.address = 0x1004,
        2,
        "out overlaps x, but is not exactly it",
    );
    bad(
        &|d| (d.function, d.mask) = (1, Wire::zeroed()),
        1,
        "mask is absent, but is to be applied",
    );
    let drawn = "state, seed, offset or stream is given, but nothing is drawn";
    bad(&|d| (d.function, d.seed) = (1, 3), 3, drawn);
}

fn parts() -> [Part; MAX_PARTS] {
    let mut parts = [Part::zeroed(); MAX_PARTS];
    for (i, part) in parts[..2].iter_mut().enumerate() {
        let at = 0x10000 * (i as u64 + 1);
        *part = Part {
            weight: at,
            gradient: at + 0x1000,
            states: [at + 0x2000, at + 0x3000, 0],
            copy: 0,
            count: 16,
        };
    }
    parts
}

#[test]
fn optimisers() {
    let good = adam::Adam {
        parts: parts(),
        count: 2,
        dtype: F32 as u32,
        gradient_type: Bf16 as u32,
        rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        step: 1,
        ..Wire::zeroed()
    };
    let bad = |change: &dyn Fn(&mut adam::Adam), operand, rule: &str| {
        refused(&good, change, operand, &format!("adam: {rule}"));
    };
    let none = NO_OPERAND;
    bad(&|d| d.flags = 8, none, "flags 0x8 are unknown");
    bad(&|d| d.dtype = 99, none, "dtype is 99, no type of floats");
    bad(
        &|d| d.gradient_type = F64 as u32,
        none,
        "gradient_type is F64, which does not go with F32",
    );
    bad(
        &|d| d.copy_type = F64 as u32,
        none,
        "copy_type is F64, which does not go with F32",
    );
    bad(&|d| d.count = 0, none, "count is 0, must be 1 to 64");
    bad(&|d| d.count = 65, none, "count is 65, must be 1 to 64");
    bad(
        &|d| d.count = 1,
        none,
        "a parameter behind the 1 in use is not zero",
    );
    bad(&|d| d.step = 0, none, "step is 0: the first is 1");
    bad(
        &|d| d.rate = f64::INFINITY,
        none,
        "rate is inf, must be finite",
    );
    bad(
        &|d| d.beta1 = 1.0,
        none,
        "beta1 is 1, must be at least 0 and below 1",
    );
    bad(
        &|d| d.beta2 = f64::NAN,
        none,
        "beta2 is NaN, must be at least 0 and below 1",
    );
    bad(&|d| d.parts[1].gradient = 0, 7, "gradient[1] is 0");
    bad(
        &|d| d.parts[0].states[2] = 64,
        4,
        "state[0] is not used, but not 0",
    );
    bad(&|d| d.flags = adam::FLAG_AMSGRAD, 4, "largest[0] is 0");
    bad(
        &|d| d.parts[1].copy = 64,
        11,
        "copy[1] is not used, but not 0",
    );
    bad(&|d| d.copy_type = F16 as u32, 5, "copy[0] is 0");
    bad(
        &|d| d.parts[0].weight = 0x10002,
        0,
        "weight.address 0x10002 is not a multiple of 4",
    );
    let many = "weight.dims [9223372036854775807]: the product overflows";
    bad(&|d| d.parts[0].count = u64::MAX / 2, 0, many);
    bad(
        &|d| d.parts[1].weight = 0x10020,
        6,
        "operand 6 overlaps operand 0, but must not",
    );
    bad(
        &|d| d.parts[1].states[0] = 0x11010,
        8,
        "operand 8 overlaps operand 1, but must not",
    );
    bad(
        &|d| d.scale_address = 0x12010,
        384,
        "operand 384 overlaps operand 2, but must not",
    );
    bad(
        &|d| d.skip_address = 0x12012,
        385,
        "skip.address 0x12012 is not a multiple of 4",
    );
    // Gradients may be shared: they are only read.
    let mut shared = good;
    shared.parts[1].gradient = shared.parts[0].gradient;
    shared.check().unwrap();

    let mut plain = fused_sgd::FusedSgd {
        parts: parts(),
        count: 2,
        dtype: F32 as u32,
        gradient_type: F32 as u32,
        ..Wire::zeroed()
    };
    plain.parts.iter_mut().for_each(|p| p.states = [0; 3]);
    let lone = "fused_sgd: momentum is 0, but something of it is asked for";
    refused(&plain, |d| d.flags = fused_sgd::FLAG_NESTEROV, none, lone);
    refused(
        &plain,
        |d| d.momentum = 0.5,
        2,
        "fused_sgd: velocity[0] is 0",
    );
    let square = rmsprop::Rmsprop {
        momentum: 0.5,
        parts: parts(),
        count: 2,
        dtype: F32 as u32,
        gradient_type: F32 as u32,
        ..Wire::zeroed()
    };
    refused(
        &square,
        |d| d.flags = rmsprop::FLAG_CENTRED,
        4,
        "rmsprop: velocity[0] is 0",
    );
}

#[test]
fn losses() {
    let good = loss::Loss {
        x: vector(F32, 0x1000, 8),
        target: vector(F32, 0x2000, 8),
        out: contiguous(F32, 0x3000, &[]),
        reduction: 1,
        ..Wire::zeroed()
    };
    let none = NO_OPERAND;
    let bad = |change: &dyn Fn(&mut loss::Loss), operand, rule: &str| {
        refused(&good, change, operand, &format!("loss: {rule}"));
    };
    bad(&|d| d.function = 10, none, "function 10 is unknown");
    bad(&|d| d.reduction = 4, none, "reduction 4 is unknown");
    bad(
        &|d| d.reserved = 1,
        none,
        "a reserved field is 0x1, must be 0",
    );
    bad(
        &|d| d.alpha = 1.0,
        none,
        "alpha is 1, but mse has no such parameter",
    );
    bad(
        &|d| d.function = 3,
        none,
        "alpha is 0, no distance for huber",
    );
    bad(
        &|d| (d.function, d.alpha) = (2, -1.0),
        none,
        "alpha is -1, no distance for smooth_l1",
    );
    bad(
        &|d| d.target.dtype = F16 as u16,
        1,
        "target.dtype is F16, but x.dtype is F32",
    );
    bad(
        &|d| d.target.dims[0] = 3,
        1,
        "target.dims[0] is 3, does not broadcast to [8]",
    );
    bad(
        &|d| d.positive = d.target,
        3,
        "positive is given, but mse has none",
    );
    bad(
        &|d| d.out = vector(F32, 0x3000, 8),
        4,
        "out.rank is 1, must be 0",
    );
    bad(
        &|d| d.out.address = 0x1004,
        4,
        "out overlaps x, but must not",
    );
    bad(&|d| d.reduction = 0, 4, "out.rank is 0, but x is [8]");
    let scalar = |at| contiguous(F32, at, &[]);
    let batch = |d: &mut loss::Loss| (d.x, d.target, d.reduction) = (scalar(0), scalar(64), 3);
    bad(&batch, 0, "x.rank is 0: there is no first axis");

    let good = nll::Nll {
        x: contiguous(F32, 0x1000, &[4, 10, 3]),
        target: contiguous(I64, 0x2000, &[4, 3]),
        loss: scalar(0x3000),
        total: scalar(0x3100),
        function: 1,
        reduction: 1,
        ..Wire::zeroed()
    };
    let bad = |change: &dyn Fn(&mut nll::Nll), operand, rule: &str| {
        refused(&good, change, operand, &format!("nll: {rule}"));
    };
    bad(&|d| d.reduction = 3, none, "reduction 3 is unknown");
    bad(&|d| d.flags = 2, none, "flags 0x2 are unknown");
    bad(
        &|d| d.ignore_target = 5,
        none,
        "ignore_target is set, but its flag is not",
    );
    bad(
        &|d| d.x = vector(F32, 0x1000, 4),
        0,
        "x.rank is 1, must be at least 2",
    );
    bad(
        &|d| d.target.dims[1] = 2,
        1,
        "target.dims[1] is 2, but the rows are [4, 3]",
    );
    bad(
        &|d| d.weight = vector(F32, 0x4000, 4),
        2,
        "weight.dims[0] is 4, but the classes are [10]",
    );
    bad(
        &|d| d.total = Wire::zeroed(),
        4,
        "total is absent, but the loss is a mean",
    );
    bad(
        &|d| d.reduction = 2,
        4,
        "total is given, but there is no mean",
    );
    bad(
        &|d| d.loss.address = 0x1010,
        3,
        "loss overlaps x, but must not",
    );

    let entropy = cross_entropy::CrossEntropy {
        logits: contiguous(F32, 0x1000, &[4, 10, 3]),
        labels: contiguous(I64, 0x2000, &[4, 3]),
        loss: scalar(0x3000),
        reduction: 2,
        ..Wire::zeroed()
    };
    let much = "cross_entropy: smoothing is 1.5, must be 0 to 1";
    refused(&entropy, |d| d.smoothing = 1.5, none, much);
    let shared = "cross_entropy: total overlaps loss, but must not";
    refused(&entropy, |d| d.total = d.loss, 5, shared);
}

#[test]
fn ctc() {
    let good = ctc::Ctc {
        x: contiguous(F32, 0x1000, &[6, 2, 5]),
        targets: contiguous(I32, 0x2000, &[2, 3]),
        input_lengths: vector(I32, 0x3000, 2),
        target_lengths: vector(I64, 0x3100, 2),
        loss: vector(F32, 0x4000, 2),
        alpha: contiguous(F64, 0x5000, &[2, 6, 7]),
        ..Wire::zeroed()
    };
    let bad = |change: &dyn Fn(&mut ctc::Ctc), operand, rule: &str| {
        refused(&good, change, operand, &format!("ctc: {rule}"));
    };
    bad(
        &|d| d.blank = 5,
        NO_OPERAND,
        "blank is 5, there are 5 classes",
    );
    bad(&|d| d.flags = 2, NO_OPERAND, "flags 0x2 are unknown");
    bad(
        &|d| d.x = contiguous(F32, 0, &[2, 5]),
        0,
        "x.rank is 2, must be 3",
    );
    bad(
        &|d| d.targets.dims[0] = 3,
        1,
        "targets.dims[0] is 3, but x says [2, 3]",
    );
    bad(
        &|d| d.targets.dtype = F32 as u16,
        1,
        "targets.dtype is F32, must be one of [I32, I64]",
    );
    bad(
        &|d| d.input_lengths.dims[0] = 1,
        2,
        "input_lengths.dims[0] is 1, but x says [2]",
    );
    bad(&|d| d.reduction = 1, 4, "loss.rank is 1, must be 0");
    let small = contiguous(F64, 0x5000, &[2, 6, 6]);
    bad(
        &|d| d.alpha = small,
        5,
        "alpha.dims[2] is 6, at least 7 are needed",
    );
    bad(
        &|d| d.alpha.dtype = I64 as u16,
        5,
        "alpha.dtype is I64, must be one of [F64]",
    );
    bad(
        &|d| d.alpha.address = 0x4000,
        5,
        "alpha overlaps loss, but must not",
    );
}
