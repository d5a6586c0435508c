//! Cross-entropy with probabilities as targets, against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bf16, F16, F32, F64};
use vmlu_abi::Wire;
use vmlu_ops::loss::Reduction;
use vmlu_ops::soft_cross_entropy::{Function, SoftCrossEntropy};

use super::cases;
use super::pooling::unit;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// A row: the logarithms of its probabilities, and its weighed targets.
struct Row {
    logs: Vec<f64>,
    targets: Vec<f64>,
}

impl Row {
    fn loss(&self) -> f64 {
        let terms = self.logs.iter().zip(&self.targets);
        -terms
            .map(|(p, t)| if *t == 0.0 { 0.0 } else { p * t })
            .sum::<f64>()
    }

    fn slope(&self, class: usize) -> f64 {
        self.logs[class].exp() * self.targets.iter().sum::<f64>() - self.targets[class]
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn losses_and_gradients(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let classes = rng.pick(&[1, 3, 40, 1500]);
        // Many classes for few rows.
        let mut dims = match classes {
            1500 => vec![1 + rng.below(2)],
            _ => rng.dims(0..=2),
        };
        dims.insert(dims.len().min(1), classes);
        if dims.len() < 2 {
            dims.insert(0, 1 + rng.below(5));
        }
        let rows = [&dims[..1], &dims[2..]].concat();
        let logits = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let target = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        for at in target.indices() {
            let t = rng.below(4) as f64 / classes as f64;
            target.set(&mut arena, &at, t);
        }
        let weight = (rng.below(2) == 0).then(|| Tensor::random(&mut rng, &mut arena, dtype, &[classes]));
        let smoothing = rng.pick(&[0.0, 0.1]);
        // Impossible, but not asked for.
        if smoothing == 0.0 && rng.below(4) == 0 && classes > 1 {
            for row in indices(&rows) {
                let at = [&row[..1], &[0], &row[1..]].concat();
                logits.set(&mut arena, &at, f64::NEG_INFINITY);
                target.set(&mut arena, &at, 0.0);
            }
        }
        let reduction = rng.pick(&[Reduction::None, Reduction::Mean, Reduction::Sum]);
        let shape = if reduction == Reduction::None { rows.clone() } else { Vec::new() };
        let loss = Tensor::random(&mut rng, &mut arena, dtype, &shape);
        let mut desc = SoftCrossEntropy {
            logits: logits.desc(),
            target: target.desc(),
            weight: weight.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            loss: loss.desc(),
            smoothing,
            reduction: reduction as u32,
            ..Wire::zeroed()
        };
        let row = |arena: &Arena, row: &[u64]| {
            let at = |c: u64| [&row[..1], &[c], &row[1..]].concat();
            let x: Vec<f64> = (0..classes).map(|c| logits.get(arena, &at(c))).collect();
            let most = x.iter().fold(f64::NEG_INFINITY, |m, v| m.max(*v));
            let sum: f64 = x.iter().map(|v| (v - most).exp()).sum();
            let targets = (0..classes).map(|c| {
                let t = (1.0 - smoothing) * target.get(arena, &at(c)) + smoothing / classes as f64;
                t * weight.as_ref().map_or(1.0, |w| w.get(arena, &[c]))
            });
            Row { logs: x.iter().map(|v| v - most - sum.ln()).collect(), targets: targets.collect() }
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let all: Vec<f64> = indices(&rows).iter().map(|r| row(&arena, r).loss()).collect();
        let tolerance = 64.0 * unit(dtype) * 10.0;
        match reduction {
            Reduction::None => {
                for (at, want) in indices(&rows).iter().zip(&all) {
                    loss.expect(&arena, at, *want, tolerance);
                }
            }
            _ => {
                let sum: f64 = all.iter().sum();
                let count = if reduction == Reduction::Mean { all.len() as f64 } else { 1.0 };
                loss.expect(&arena, &[], sum / count, tolerance * (1.0 + all.len() as f64 / count));
            }
        }
        expect_only(&arena, before, &[&loss]);

        let upstream = Tensor::random(&mut rng, &mut arena, dtype, &shape);
        let gradient = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        desc.loss = upstream.desc();
        desc.gradient = gradient.desc();
        desc.function = Function::Backward.raw();
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for r in indices(&rows) {
            let own = row(&arena, &r);
            let up = match reduction {
                Reduction::None => upstream.get(&arena, &r),
                Reduction::Mean => upstream.get(&arena, &[]) / all.len() as f64,
                _ => upstream.get(&arena, &[]),
            };
            for c in 0..classes {
                let at = [&r[..1], &[c], &r[1..]].concat();
                gradient.expect(&arena, &at, up * own.slope(c as usize), tolerance);
            }
        }
        expect_only(&arena, before, &[&gradient]);
    }
}
