//! Connectionist temporal classification against the sum over all paths, one by one.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{F32, F64, I32, I64};
use vmlu_abi::{Status, Wire};
use vmlu_ops::ctc::{Ctc, FLAG_ZERO_INFINITY};
use vmlu_ops::ctc_backward::CtcBackward;
use vmlu_ops::loss::Reduction;
use vmlu_ops::tensor::{contiguous, FLOATS, INDICES};

use super::cases;
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

fn put(arena: &mut Arena, tensor: &Tensor, index: &[u64], value: i64) {
    let at = tensor.element(index);
    match tensor.dtype {
        I32 => arena.set(at, &[value as i32]),
        _ => arena.set(at, &[value]),
    }
}

/// What a path spells.
fn spells(path: &[usize], blank: usize) -> Vec<usize> {
    let mut all = Vec::new();
    for (i, c) in path.iter().enumerate() {
        if *c != blank && (i == 0 || path[i - 1] != *c) {
            all.push(*c);
        }
    }
    all
}

/// Loss and shares of classes at each step, by all paths.
fn by_paths(x: &[Vec<f64>], target: &[usize], blank: usize) -> (f64, Vec<Vec<f64>>) {
    let classes = x.first().map_or(1, Vec::len);
    let (mut total, mut shares) = (0.0, vec![vec![0.0; classes]; x.len()]);
    for mut number in 0..classes.pow(x.len() as u32) {
        let path: Vec<usize> = (0..x.len())
            .map(|_| {
                let c = number % classes;
                number /= classes;
                c
            })
            .collect();
        if spells(&path, blank) == target {
            let p: f64 = path
                .iter()
                .enumerate()
                .map(|(t, c)| x[t][*c])
                .sum::<f64>()
                .exp();
            total += p;
            path.iter()
                .enumerate()
                .for_each(|(t, c)| shares[t][*c] += p);
        }
    }
    shares.iter_mut().flatten().for_each(|s| *s /= total);
    (-total.ln(), shares)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn losses_and_gradients_are_those_of_all_paths(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let dtype = rng.pick(&FLOATS);
        let (steps, batch, classes) = (rng.below(6), rng.below(4), 2 + rng.below(3));
        let longest = rng.below(4);
        let blank = rng.below(classes) as usize;
        let x = Tensor::random(&mut rng, &mut arena, dtype, &[steps, batch, classes]);
        let kind = rng.pick(&INDICES);
        let inputs = Tensor::random(&mut rng, &mut arena, kind, &[batch]);
        let lengths = Tensor::random(&mut rng, &mut arena, kind, &[batch]);
        let mut all: Vec<(u64, Vec<usize>)> = Vec::new();
        for n in 0..batch {
            let length = rng.below(longest + 1);
            let target = (0..length).map(|_| (blank + 1 + rng.below(classes - 1) as usize) % classes as usize);
            let target: Vec<usize> = target.collect();
            let counted = steps - rng.below(2).min(steps);
            put(&mut arena, &inputs, &[n], counted as i64);
            put(&mut arena, &lengths, &[n], length as i64);
            all.push((counted, target));
        }
        let flat = rng.below(2) == 0;
        let count: u64 = all.iter().map(|(_, t)| t.len() as u64).sum();
        let dims = if flat { vec![count + 1] } else { vec![batch, longest] };
        let kind = rng.pick(&INDICES);
        let targets = Tensor::random(&mut rng, &mut arena, kind, &dims);
        let mut at = 0;
        for (n, (_, target)) in all.iter().enumerate() {
            for (i, c) in target.iter().enumerate() {
                let index = if flat { vec![at] } else { vec![n as u64, i as u64] };
                put(&mut arena, &targets, &index, *c as i64);
                at += 1;
            }
        }
        let reduction = rng.pick(&[Reduction::None, Reduction::Mean, Reduction::Sum]);
        let of = if reduction == Reduction::None { vec![batch] } else { vec![] };
        let loss = Tensor::random(&mut rng, &mut arena, dtype, &of);
        let states = 2 * if flat { count + 1 } else { longest } + 1;
        let alpha = Tensor::random(&mut rng, &mut arena, F64, &[batch, steps, states]);
        let zero_infinity = rng.below(2) == 0;
        let forward = Ctc {
            x: x.desc(),
            targets: targets.desc(),
            input_lengths: inputs.desc(),
            target_lengths: lengths.desc(),
            loss: loss.desc(),
            alpha: alpha.desc(),
            blank: blank as u32,
            flags: if zero_infinity { FLAG_ZERO_INFINITY } else { 0 },
            reduction: reduction.raw(),
            reserved: 0,
        };
        arena.threads = 2;
        let before = arena.snapshot();
        arena.run(&forward).unwrap();
        expect_only(&arena, before, &[&loss, &alpha]);
        let upstream = Tensor::random(&mut rng, &mut arena, dtype, &of);
        let dx = Tensor::random(&mut rng, &mut arena, dtype, &x.dims);
        let backward = CtcBackward {
            x: forward.x,
            targets: forward.targets,
            input_lengths: forward.input_lengths,
            target_lengths: forward.target_lengths,
            upstream: upstream.desc(),
            alpha: forward.alpha,
            dx: dx.desc(),
            blank: forward.blank,
            flags: forward.flags,
            reduction: forward.reduction,
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&backward).unwrap();
        expect_only(&arena, before, &[&dx]);
        let near = if dtype == F64 { 1e-12 } else { 1e-6 };
        let mut sum = 0.0;
        for (n, (counted, target)) in all.iter().enumerate() {
            let n = n as u64;
            let row = |t| (0..classes).map(|c| x.get(&arena, &[t, n, c])).collect::<Vec<f64>>();
            let rows: Vec<Vec<f64>> = (0..*counted).map(row).collect();
            let (lost, shares) = by_paths(&rows, target, blank);
            let none = lost == f64::INFINITY;
            let lost = if none && zero_infinity { 0.0 } else { lost };
            if reduction == Reduction::None {
                loss.expect(&arena, &[n], lost, near * (1.0 + lost.abs()));
            }
            let length = target.len().max(1) as f64;
            sum += if reduction == Reduction::Mean { lost / length / batch as f64 } else { lost };
            let mut factor = upstream.get_broadcast(&arena, if of.is_empty() { &[] } else { std::slice::from_ref(&n) });
            if reduction == Reduction::Mean {
                factor /= length * batch as f64;
            }
            for t in 0..steps {
                for c in 0..classes {
                    let want = if t >= *counted || (none && zero_infinity) {
                        0.0
                    } else if none {
                        // No share, or none that is a number.
                        continue;
                    } else {
                        let share = shares[t as usize][c as usize];
                        (x.get(&arena, &[t, n, c]).exp() - share) * factor
                    };
                    dx.expect(&arena, &[t, n, c], want, near * (1.0 + 10.0 * factor.abs()));
                }
            }
        }
        match reduction {
            Reduction::None => {}
            Reduction::Mean if batch == 0 => loss.expect(&arena, &[], f64::NAN, 0.0),
            _ => loss.expect(&arena, &[], sum, near * (1.0 + sum.abs())),
        }
    }
}

/// More steps and states than a tile or a product of probabilities holds: a target of ones and zeroes, all classes equally likely.
#[test]
fn long_sequences() {
    let (steps, length) = (2500usize, 1100usize);
    let mut arena = Arena::new(64 << 20);
    let x = arena.put(&vec![0.5f32.ln(); steps * 3]);
    let target: Vec<i32> = (0..length as i32).map(|i| 1 + i % 2).collect();
    let targets = arena.put(&target);
    let lengths = arena.put(&[steps as i64, length as i64]);
    let (loss, dx) = (arena.reserve(4), arena.reserve(steps * 12));
    let states = 2 * length as u64 + 1;
    let alpha = arena.reserve(steps * states as usize * 8);
    let forward = Ctc {
        x: contiguous(F32, x, &[steps as u64, 1, 3]),
        targets: contiguous(I32, targets, &[1, length as u64]),
        input_lengths: contiguous(I64, lengths, &[1]),
        target_lengths: contiguous(I64, lengths + 8, &[1]),
        loss: contiguous(F32, loss, &[1]),
        alpha: contiguous(F64, alpha, &[1, steps as u64, states]),
        ..Wire::zeroed()
    };
    arena.run(&forward).unwrap();
    // Paths that spell n labels of which neighbours differ: each step is a label or a blank; the number of ways is the binomial
    // coefficient of steps + n over 2 n.
    let ways: f64 = (0..2 * length)
        .map(|i| ((steps + length - i) as f64 / (i + 1) as f64).ln())
        .sum();
    let want = steps as f64 * 2f64.ln() - ways;
    let got = f64::from(arena.get::<f32>(loss, 1)[0]);
    assert!((got - want).abs() < 1e-5 * want.abs(), "{got}, not {want}");
    let upstream = arena.put(&[1f32]);
    let backward = CtcBackward {
        x: forward.x,
        targets: forward.targets,
        input_lengths: forward.input_lengths,
        target_lengths: forward.target_lengths,
        upstream: contiguous(F32, upstream, &[1]),
        alpha: forward.alpha,
        dx: contiguous(F32, dx, &[steps as u64, 1, 3]),
        ..Wire::zeroed()
    };
    arena.run(&backward).unwrap();
    // Shares of a step add up to 1, and probabilities here to 3 / 2.
    for (t, row) in arena.get::<f32>(dx, steps * 3).chunks(3).enumerate() {
        let sum: f32 = row.iter().sum();
        assert!((sum - 0.5).abs() < 1e-4, "step {t}: {row:?}");
    }
}

#[test]
fn lengths_and_targets_out_of_range_are_faults_and_nothing_is_written() {
    let mut arena = Arena::new(1 << 16);
    let x = arena.put(&[-1.0f32; 4 * 2 * 3]);
    let targets = arena.put(&[1i32, 2, 2, 1]);
    let (inputs, lengths) = (arena.put(&[4i32, 3]), arena.put(&[2i32, 1]));
    let (loss, alpha) = (arena.reserve(8), arena.reserve(8 * 2 * 4 * 5));
    let good = Ctc {
        x: contiguous(F32, x, &[4, 2, 3]),
        targets: contiguous(I32, targets, &[2, 2]),
        input_lengths: contiguous(I32, inputs, &[2]),
        target_lengths: contiguous(I32, lengths, &[2]),
        loss: contiguous(F32, loss, &[2]),
        alpha: contiguous(F64, alpha, &[2, 4, 5]),
        ..Wire::zeroed()
    };
    arena.run(&good).unwrap();
    let mut bad = |at: u64, value: i32, operand: u16, text: &str| {
        let old: i32 = arena.get(at, 1)[0];
        arena.set(at, &[value]);
        let before = arena.snapshot();
        let fault = arena.run(&good).unwrap_err();
        assert!(before == arena.snapshot());
        assert_eq!(
            (fault.status, fault.operand, &fault.rule[..]),
            (Status::IndexOutOfRange, operand, text)
        );
        arena.set(at, &[old]);
    };
    bad(
        inputs + 4,
        5,
        2,
        "ctc: input_lengths[1] is 5, there are 4 steps",
    );
    bad(
        inputs,
        -1,
        2,
        "ctc: input_lengths[0] is -1, there are 4 steps",
    );
    bad(
        lengths,
        3,
        3,
        "ctc: target_lengths[0] is 3, there is room for 2",
    );
    bad(
        targets + 4,
        3,
        1,
        "ctc: target 1 of example 0 is 3, there are 3 classes",
    );
    bad(
        targets + 8,
        -7,
        1,
        "ctc: target 0 of example 1 is -7, there are 3 classes",
    );
}
