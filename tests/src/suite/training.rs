//! What training needs besides products: random numbers, dropout, optimisers, losses.

use vmlu::operators::{
    AdamOptions, ClassOptions, Common, CtcExamples, Distribution, Draw, FusedSgdOptions, Generator,
    LossFunction, LossOptions, Parameter, Reduction, SoftmaxFunction, Source, UnaryFunction,
};
use vmlu::{DataType, Status, Tensor};

use super::operators::{close, numbers};
use super::{refused, Bench, Check};

/// Philox of key 0 and counter 0, from the paper's own tests.
const FIRST: [u32; 4] = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];

pub(super) fn random_numbers(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let out = Tensor::zeros(&queue, DataType::F32, &[4])?;
    let uniform = Distribution::Uniform {
        low: 0.0,
        high: 1.0,
    };
    let generator = Generator::new(0);
    queue.random(uniform, Draw::From(&generator), &out)?;
    let want = FIRST.map(|w| (w >> 8) as f32 / (1 << 24) as f32);
    assert_eq!(out.to_vec::<f32>(&queue)?, want);
    assert_eq!(generator.offset(), 1);

    // The same from memory, twice: the state moves on.
    let state = Tensor::from_slice(&queue, &[0u64, 0], &[2])?;
    let long = Tensor::zeros(&queue, DataType::F32, &[3, 4])?;
    queue.random(uniform, Draw::State(&state), &long)?;
    let all = long.to_vec::<f32>(&queue)?;
    assert_eq!(all[..4], want);
    assert_eq!(state.to_vec::<u64>(&queue)?, [0, 3]);
    state.write(&queue, &[0u64, 2])?;
    queue.random(uniform, Draw::State(&state), &out)?;
    assert_eq!(out.to_vec::<f32>(&queue)?, all[8..]);

    let order = Tensor::zeros(&queue, DataType::I32, &[1000])?;
    queue.permutation(Draw::From(&generator), &order)?;
    let mut order = order.to_vec::<i32>(&queue)?;
    assert!(!order.is_sorted());
    order.sort_unstable();
    assert!(order.iter().copied().eq(0..1000));

    let before = generator.offset();
    let wrong = Distribution::Bernoulli(1.5);
    let text = refused(
        queue.random(wrong, Draw::From(&generator), &out),
        Status::BadOperand,
    );
    assert!(text.contains("random: alpha is 1.5"), "{text}");
    assert_eq!(generator.offset(), before, "numbers were taken for nothing");
    Ok(())
}

pub(super) fn dropout(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let values = numbers(5000, 8);
    let x = Tensor::from_slice(&queue, &values, &[5000])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[5000])?;
    let mask = Tensor::zeros(&queue, DataType::U8, &[5000])?;
    let generator = Generator::new(11);
    queue.dropout(Draw::From(&generator), 0.75, &x, Some(&mask), &out)?;
    let (kept, found) = (mask.to_vec::<u8>(&queue)?, out.to_vec::<f32>(&queue)?);
    let share = kept.iter().filter(|k| **k != 0).count();
    assert!((1100..1400).contains(&share), "{share} of 5000 were kept");
    for ((v, k), f) in values.iter().zip(&kept).zip(&found) {
        assert_eq!(*f, v * if *k != 0 { 4.0 } else { 0.0 });
    }
    queue.dropout_backward(0.75, &x, &mask, &x)?;
    assert_eq!(x.to_vec::<f32>(&queue)?, found);
    Ok(())
}

/// More parameters than one command takes.
pub(super) fn optimisers(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let count = 70;
    let make = |seed: u32| -> vmlu::Result<Vec<Tensor>> {
        (0..count)
            .map(|i| {
                let size = i % 5 * 7 + 1;
                Tensor::from_slice(&queue, &numbers(size, seed + i as u32), &[size as u64])
            })
            .collect()
    };
    let (weights, gradients) = (make(1)?, make(1001)?);
    let zeros = || -> vmlu::Result<Vec<Tensor>> {
        let zero = |w: &Tensor| Tensor::zeros(&queue, DataType::F32, w.dims());
        weights.iter().map(zero).collect()
    };
    let (first, second) = (zeros()?, zeros()?);
    let parameters: Vec<Parameter<'_>> = (0..count)
        .map(|i| Parameter::new(&weights[i], &gradients[i], &[&first[i], &second[i]]))
        .collect();
    let common = Common {
        rate: 0.01,
        weight_decay: 0.1,
        ..Common::default()
    };
    let before = queue.submitted();
    let options = AdamOptions {
        common,
        decoupled: true,
        ..AdamOptions::default()
    };
    assert_eq!(queue.adam(&parameters, &options)?, before + 2);
    let sgd = FusedSgdOptions {
        common: Common {
            rate: 0.5,
            ..Common::default()
        },
        ..FusedSgdOptions::default()
    };
    let plain: Vec<Parameter<'_>> = (0..count)
        .map(|i| Parameter::new(&weights[i], &gradients[i], &[]))
        .collect();
    queue.fused_sgd(&plain, &sgd)?;
    for (i, weight) in weights.iter().enumerate() {
        let size = i % 5 * 7 + 1;
        let old = numbers(size, 1 + i as u32);
        let slopes = numbers(size, 1001 + i as u32);
        let want: Vec<f64> = (old.iter().zip(&slopes))
            .map(|(w, g)| {
                let (w, g) = (f64::from(*w), f64::from(*g));
                // In the first step the moments are the gradient and its square.
                w * (1.0 - 0.001) - 0.01 * g / (g.abs() + 1e-8) - 0.5 * g
            })
            .collect();
        close(&weight.to_vec(&queue)?, &want, 1e-6);
    }
    let column = weights[1].with_layout(&[4], &[2]);
    let bad = [Parameter::new(&column, &gradients[1], &[])];
    refused(queue.fused_sgd(&bad, &sgd), Status::InvalidArgument);
    let square = Tensor::zeros(&queue, DataType::F32, &[4])?;
    queue.unary(UnaryFunction::Copy, &square, &square)?;
    let twice = [Parameter::new(&square, &square, &[])];
    let text = refused(queue.fused_sgd(&twice, &sgd), Status::BadOperand);
    assert!(text.contains("operand 1 overlaps operand 0"), "{text}");
    Ok(())
}

pub(super) fn losses(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let scalar = || Tensor::zeros(&queue, DataType::F32, &[]);
    let (a, b) = (numbers(60, 1), numbers(60, 2));
    let x = Tensor::from_slice(&queue, &a, &[3, 20])?;
    let y = Tensor::from_slice(&queue, &b, &[3, 20])?;
    let (out, dx) = (scalar()?, Tensor::zeros(&queue, DataType::F32, &[3, 20])?);
    let options = LossOptions::default();
    queue.loss(LossFunction::Mse, &x, &y, &options, &out)?;
    queue.loss_backward(LossFunction::Mse, [&x, &y], &options, None, &dx)?;
    let differences: Vec<f64> = (a.iter().zip(&b))
        .map(|(a, b)| f64::from(*a) - f64::from(*b))
        .collect();
    let mean = differences.iter().map(|d| d * d).sum::<f64>() / 60.0;
    close(&out.to_vec(&queue)?, &[mean], 1e-6);
    let slopes: Vec<f64> = differences.iter().map(|d| 2.0 * d / 60.0).collect();
    close(&dx.to_vec(&queue)?, &slopes, 1e-6);

    // Images of classes: a likelihood of logarithms is the entropy of logits.
    let labels = Tensor::from_slice(&queue, &[0i32, 3, -1, 2, 1, 1], &[3, 2])?;
    let weight = Tensor::from_slice(&queue, &[1.0f32, 2.0, 0.5, 4.0], &[4])?;
    let logits = Tensor::from_slice(&queue, &a[..24], &[3, 4, 2])?;
    let logs = Tensor::zeros(&queue, DataType::F32, &[3, 4, 2])?;
    queue.softmax(SoftmaxFunction::LogSoftmax, &logits, 1, &logs)?;
    let options = ClassOptions {
        weight: Some(&weight),
        ignore: Some(-1),
        ..ClassOptions::default()
    };
    let (one, two, total) = (scalar()?, scalar()?, scalar()?);
    queue.nll(&logs, &labels, &options, &one, None)?;
    queue.cross_entropy_with(&logits, &labels, &options, &two, None, Some(&total))?;
    let (one, two) = (one.to_vec::<f32>(&queue)?[0], two.to_vec::<f32>(&queue)?[0]);
    assert!((one - two).abs() < 1e-5 * one.abs(), "{one} and {two}");
    assert_eq!(total.to_vec::<f32>(&queue)?, [1.0 + 4.0 + 0.5 + 2.0 + 2.0]);
    let gradient = Tensor::zeros(&queue, DataType::F32, &[3, 4, 2])?;
    let source = (Source::Logits, &logits);
    queue.cross_entropy_backward_with(source, &labels, &options, None, Some(&total), &gradient)?;
    // Each pixel's gradient adds up to 0.
    let found = gradient.to_vec::<f32>(&queue)?;
    for pixel in 0..6 {
        let sum: f32 = (0..4)
            .map(|c| found[pixel / 2 * 8 + c * 2 + pixel % 2])
            .sum();
        assert!(sum.abs() < 1e-6, "pixel {pixel}: {sum}");
    }
    Ok(())
}

/// Two steps, one label: three paths out of four.
pub(super) fn ctc(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let x = Tensor::from_slice(&queue, &[0.5f32.ln(); 4], &[2, 1, 2])?;
    let one = Tensor::from_slice(&queue, &[1i32], &[1])?;
    let two = Tensor::from_slice(&queue, &[2i32], &[1])?;
    let alpha = Tensor::zeros(&queue, DataType::F64, &[1, 2, 3])?;
    let (out, dx) = (
        Tensor::zeros(&queue, DataType::F32, &[])?,
        Tensor::zeros(&queue, DataType::F32, &[2, 1, 2])?,
    );
    let examples = CtcExamples {
        x: &x,
        targets: &one,
        input_lengths: &two,
        target_lengths: &one,
        alpha: &alpha,
        blank: 0,
        zero_infinity: false,
        reduction: Reduction::Mean,
    };
    queue.ctc(&examples, &out)?;
    close(&out.to_vec(&queue)?, &[-0.75f64.ln()], 1e-6);
    let upstream = Tensor::from_slice(&queue, &[3.0f32], &[])?;
    queue.ctc_backward(&examples, &upstream, &dx)?;
    // Of the three paths two have the label in a step.
    close(&dx.to_vec(&queue)?, &[0.5, -0.5, 0.5, -0.5], 1e-6);
    let late = CtcExamples {
        targets: &two,
        ..examples
    };
    let value = queue.ctc(&late, &out)?;
    let record = super::failed(&queue, value, Status::IndexOutOfRange)?;
    assert_eq!(record.operand, 1);
    Ok(())
}
