use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{F32, F64, I32, I64};
use vmlu_abi::{Status, Wire};
use vmlu_ops::cross_entropy::{CrossEntropy, FLAG_IGNORE};
use vmlu_ops::cross_entropy_backward::{CrossEntropyBackward, Source};
use vmlu_ops::tensor::{contiguous, FLOATS, INDICES};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// Random labels of some classes, one in ten ignored.
fn labels(rng: &mut Rng, arena: &mut Arena, rows: u64, classes: u64) -> (Tensor, Vec<i64>) {
    let dtype = rng.pick(&INDICES);
    let tensor = Tensor::random(rng, arena, dtype, &[rows]);
    let values: Vec<i64> = (0..rows)
        .map(|_| {
            if rng.below(10) == 0 {
                -100
            } else {
                rng.below(classes) as i64
            }
        })
        .collect();
    for (i, v) in values.iter().enumerate() {
        let at = tensor.element(&[i as u64]);
        if dtype == I32 {
            arena.set(at, &[*v as i32]);
        } else {
            arena.set(at, &[*v]);
        }
    }
    (tensor, values)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn cross_entropy_and_its_gradient_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let (rows, classes) = (rng.below(9), 1 + rng.below(12));
        let dtype = rng.pick(&FLOATS);
        let logits = Tensor::random(&mut rng, &mut arena, dtype, &[rows, classes]);
        let (label_tensor, labels) = labels(&mut rng, &mut arena, rows, classes);
        let loss = Tensor::random(&mut rng, &mut arena, dtype, &[rows]);
        let probabilities = Tensor::random(&mut rng, &mut arena, dtype, &[rows, classes]);
        let upstream = Tensor::random(&mut rng, &mut arena, dtype, &[rows]);
        let gradient = Tensor::random(&mut rng, &mut arena, dtype, &[rows, classes]);
        let desc = CrossEntropy {
            logits: logits.desc(),
            labels: label_tensor.desc(),
            loss: loss.desc(),
            probabilities: probabilities.desc(),
            ignore_label: -100,
            flags: FLAG_IGNORE,
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&loss, &probabilities]);
        let scale = rng.value();
        let with_upstream = rng.below(2) == 0;
        let kind = rng.pick(Source::ALL);
        let source = if kind == Source::Logits { &logits } else { &probabilities };
        let desc = CrossEntropyBackward {
            source: source.desc(),
            labels: label_tensor.desc(),
            upstream: if with_upstream { upstream.desc() } else { Wire::zeroed() },
            gradient: gradient.desc(),
            scale,
            ignore_label: -100,
            flags: FLAG_IGNORE,
            source_kind: kind.raw(),
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&gradient]);
        let tolerance = if dtype == F64 { 1e-13 } else { 2e-6 };
        for (i, label) in labels.iter().enumerate() {
            let i = i as u64;
            let exps: Vec<f64> = (0..classes).map(|j| logits.get(&arena, &[i, j]).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let factor = scale * if with_upstream { upstream.get(&arena, &[i]) } else { 1.0 };
            let counts = *label != -100;
            let want = if counts { sum.ln() - exps[*label as usize].ln() } else { 0.0 };
            loss.expect(&arena, &[i], want, tolerance);
            for j in 0..classes {
                let p = exps[j as usize] / sum;
                probabilities.expect(&arena, &[i, j], p, tolerance);
                // What the kernel had: rounded probabilities carry their rounding into the gradient.
                let base = if kind == Source::Logits { p } else { probabilities.get(&arena, &[i, j]) };
                let hit = if *label == j as i64 { 1.0 } else { 0.0 };
                let want = if counts { (base - hit) * factor } else { 0.0 };
                gradient.expect(&arena, &[i, j], want, tolerance * (1.0 + factor.abs()));
            }
        }
    }
}

#[test]
fn a_label_out_of_range_is_a_fault_and_nothing_is_written() {
    for bad in [-1i64, 10, i64::MAX, i64::MIN] {
        let mut arena = Arena::new(1 << 16);
        let logits = arena.put(&[0.5f32; 40]);
        let labels = arena.put(&[1i64, 9, bad, 0]);
        let (loss, gradient) = (arena.reserve(16), arena.reserve(160));
        let before = arena.snapshot();
        let forward = CrossEntropy {
            logits: contiguous(F32, logits, &[4, 10]),
            labels: contiguous(I64, labels, &[4]),
            loss: contiguous(F32, loss, &[4]),
            ..Wire::zeroed()
        };
        let backward = CrossEntropyBackward {
            source: forward.logits,
            labels: forward.labels,
            gradient: contiguous(F32, gradient, &[4, 10]),
            scale: 1.0,
            ..Wire::zeroed()
        };
        for fault in [
            arena.run(&forward).unwrap_err(),
            arena.run(&backward).unwrap_err(),
        ] {
            assert_eq!(fault.status, Status::IndexOutOfRange);
            assert_eq!((fault.operand, fault.address), (1, labels + 16));
            let text = format!("labels[2] is {bad}, but there are 10 classes");
            assert!(fault.rule.ends_with(&text), "{}", fault.rule);
        }
        assert!(before == arena.snapshot());
    }
}

#[test]
fn rows_longer_than_a_tile_and_in_place_probabilities() {
    let mut arena = Arena::new(1 << 20);
    let n = 5000usize;
    let values: Vec<f32> = (0..n).map(|i| (i % 17) as f32 / 4.0).collect();
    let logits = arena.put(&values);
    let labels = arena.put(&[4321i32]);
    let loss = arena.reserve(4);
    let desc = CrossEntropy {
        logits: contiguous(F32, logits, &[1, n as u64]),
        labels: contiguous(I32, labels, &[1]),
        loss: contiguous(F32, loss, &[1]),
        probabilities: contiguous(F32, logits, &[1, n as u64]),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    let sum: f64 = values.iter().map(|v| f64::from(*v).exp()).sum();
    let want = sum.ln() - f64::from(values[4321]);
    assert!((f64::from(arena.get::<f32>(loss, 1)[0]) - want).abs() < 1e-5);
    let got: Vec<f32> = arena.get(logits, n);
    for (g, v) in got.iter().zip(&values) {
        let want = f64::from(*v).exp() / sum;
        assert!((f64::from(*g) - want).abs() < 1e-6 * want);
    }
}
