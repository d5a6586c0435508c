use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{F32, F64, I32, I64};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::{Status, Wire};
use vmlu_ops::cross_entropy::{CrossEntropy, FLAG_IGNORE};
use vmlu_ops::cross_entropy_backward::{CrossEntropyBackward, Source};
use vmlu_ops::loss::{Function as F, Loss, Reduction};
use vmlu_ops::loss_backward::LossBackward;
use vmlu_ops::nll::Nll;
use vmlu_ops::tensor::{contiguous, FLOATS, INDICES};

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// Random labels of some classes, one in ten ignored.
fn labels(rng: &mut Rng, arena: &mut Arena, dims: &[u64], classes: u64) -> (Tensor, Vec<i64>) {
    let dtype = rng.pick(&INDICES);
    let tensor = Tensor::random(rng, arena, dtype, dims);
    let mut values = Vec::new();
    for index in tensor.indices() {
        let label = match rng.below(10) {
            0 => -100,
            _ => rng.below(classes) as i64,
        };
        let at = tensor.element(&index);
        if dtype == I32 {
            arena.set(at, &[label as i32]);
        } else {
            arena.set(at, &[label]);
        }
        values.push(label);
    }
    (tensor, values)
}

/// A problem of rows with classes along the second axis.
struct Rows {
    x: Tensor,
    target: Tensor,
    labels: Vec<i64>,
    /// The rows' dimensions.
    dims: Vec<u64>,
    weight: Option<Tensor>,
    reduction: Reduction,
    loss: Tensor,
    total: Tensor,
}

impl Rows {
    fn random(rng: &mut Rng, arena: &mut Arena) -> Self {
        let dtype = rng.pick(&FLOATS);
        let classes = 1 + rng.below(12);
        let mut dims = vec![rng.below(7)];
        for _ in 0..rng.below(3) {
            dims.push(1 + rng.below(4));
        }
        let all = [&dims[..1], &[classes], &dims[1..]].concat();
        let x = Tensor::random(rng, arena, dtype, &all);
        let (target, labels) = labels(rng, arena, &dims, classes);
        let weight = (rng.below(2) == 0).then(|| {
            let w = Tensor::random(rng, arena, dtype, &[classes]);
            for i in 0..classes {
                w.set(arena, &[i], (1 + rng.below(8)) as f64 / 4.0);
            }
            w
        });
        let reduction = rng.pick(&[Reduction::None, Reduction::Mean, Reduction::Sum]);
        let of = if reduction == Reduction::None {
            &dims[..]
        } else {
            &[]
        };
        let loss = Tensor::random(rng, arena, dtype, of);
        let total = Tensor::random(rng, arena, dtype, &[]);
        Self {
            x,
            target,
            labels,
            dims,
            weight,
            reduction,
            loss,
            total,
        }
    }

    fn classes(&self) -> u64 {
        self.x.dims[1]
    }

    /// Index of a class of row `i` in `x`.
    fn index(&self, i: usize, class: u64) -> Vec<u64> {
        let row = &indices(&self.dims)[i];
        [&row[..1], &[class], &row[1..]].concat()
    }

    fn weight(&self, arena: &Arena, class: i64) -> f64 {
        match &self.weight {
            Some(w) => w.get(arena, &[class as u64]),
            None => 1.0,
        }
    }

    fn total(&self, arena: &Arena) -> f64 {
        let counted = self.labels.iter().filter(|l| **l != -100);
        counted.map(|l| self.weight(arena, *l)).sum()
    }

    fn tolerance(&self) -> f64 {
        if self.x.dtype == F64 {
            1e-13
        } else {
            2e-6
        }
    }

    /// Compares the losses, or what became of them, and the sum of the weights.
    fn expect(&self, arena: &Arena, losses: &[f64]) {
        let total = self.total(arena);
        self.total.expect(arena, &[], total, self.tolerance());
        let (sum, size) = losses
            .iter()
            .fold((0.0, 0.0), |(s, a), l| (s + l, a + l.abs()));
        // Single losses are not rounded before they are summed, but computed in f32.
        let near = self.tolerance() * (1.0 + size);
        match self.reduction {
            Reduction::None => {
                for (l, index) in losses.iter().zip(indices(&self.dims)) {
                    self.loss
                        .expect(arena, &index, *l, self.tolerance() * (1.0 + l.abs()));
                }
            }
            Reduction::Mean => self.loss.expect(arena, &[], sum / total, near / total),
            _ => self.loss.expect(arena, &[], sum, near),
        }
    }
}

fn optional(tensor: &Option<Tensor>) -> TensorDesc {
    tensor.as_ref().map_or(Wire::zeroed(), Tensor::desc)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn cross_entropy_and_its_gradient_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let rows = Rows::random(&mut rng, &mut arena);
        let (dtype, classes) = (rows.x.dtype, rows.classes());
        let probabilities = Tensor::random(&mut rng, &mut arena, dtype, &rows.x.dims);
        let smoothing = rng.pick(&[0.0, 0.0, 0.25, 1.0]);
        let desc = CrossEntropy {
            logits: rows.x.desc(),
            labels: rows.target.desc(),
            loss: rows.loss.desc(),
            probabilities: probabilities.desc(),
            weight: optional(&rows.weight),
            total: rows.total.desc(),
            smoothing,
            ignore_label: -100,
            flags: FLAG_IGNORE,
            reduction: rows.reduction.raw(),
            ..Wire::zeroed()
        };
        arena.threads = 2;
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&rows.loss, &probabilities, &rows.total]);
        let of = rng.pick(&[&rows.dims[..], &[]]);
        let upstream = (rng.below(2) == 0).then(|| Tensor::random(&mut rng, &mut arena, dtype, of));
        let gradient = Tensor::random(&mut rng, &mut arena, dtype, &rows.x.dims);
        let scale = rng.value();
        let kind = rng.pick(Source::ALL);
        let source = if kind == Source::Logits { &rows.x } else { &probabilities };
        let mean = rows.reduction == Reduction::Mean;
        let desc = CrossEntropyBackward {
            source: source.desc(),
            labels: rows.target.desc(),
            upstream: optional(&upstream),
            gradient: gradient.desc(),
            weight: optional(&rows.weight),
            total: if mean { rows.total.desc() } else { Wire::zeroed() },
            smoothing,
            scale,
            ignore_label: -100,
            flags: FLAG_IGNORE,
            source_kind: kind.raw(),
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&gradient]);
        let tolerance = rows.tolerance();
        let all: f64 = (0..classes).map(|c| rows.weight(&arena, c as i64)).sum();
        let mut losses = Vec::new();
        for (i, label) in rows.labels.iter().enumerate() {
            let row = &indices(&rows.dims)[i];
            let exps: Vec<f64> =
                (0..classes).map(|c| rows.x.get(&arena, &rows.index(i, c)).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let mut factor = scale;
            if let Some(u) = &upstream {
                factor *= u.get_broadcast(&arena, row);
            }
            if mean {
                factor /= rows.total.get(&arena, &[]);
            }
            let counts = *label != -100;
            let weight = if counts { rows.weight(&arena, *label) } else { 0.0 };
            let log = |c: usize| exps[c].ln() - sum.ln();
            let mut loss = 0.0;
            if counts {
                loss = -(1.0 - smoothing) * weight * log(*label as usize);
                let each = (0..classes).map(|c| rows.weight(&arena, c as i64) * log(c as usize));
                loss -= smoothing / classes as f64 * each.sum::<f64>();
            }
            losses.push(loss);
            for c in 0..classes {
                let p = exps[c as usize] / sum;
                let index = rows.index(i, c);
                probabilities.expect(&arena, &index, p, tolerance);
                // What the kernel had: rounded probabilities carry their rounding into the gradient.
                let base = if kind == Source::Logits { p } else { probabilities.get(&arena, &index) };
                let hit = if *label == c as i64 { 1.0 } else { 0.0 };
                let own = (1.0 - smoothing) * weight * (base - hit);
                let even = all * base - rows.weight(&arena, c as i64);
                let want = own + smoothing / classes as f64 * even;
                let want = if counts { want * factor } else { 0.0 };
                let near = tolerance * (1.0 + factor.abs() * (1.0 + weight + all));
                gradient.expect(&arena, &index, want, near);
            }
        }
        rows.expect(&arena, &losses);
    }

    #[test]
    fn likelihoods_and_their_gradient_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let rows = Rows::random(&mut rng, &mut arena);
        let dtype = rows.x.dtype;
        let forward = Nll {
            x: rows.x.desc(),
            target: rows.target.desc(),
            weight: optional(&rows.weight),
            loss: rows.loss.desc(),
            total: rows.total.desc(),
            ignore_target: -100,
            flags: FLAG_IGNORE,
            reduction: rows.reduction.raw(),
            ..Wire::zeroed()
        };
        arena.threads = 2;
        let before = arena.snapshot();
        arena.run(&forward).unwrap();
        expect_only(&arena, before, &[&rows.loss, &rows.total]);
        let pick = |(i, l): (usize, &i64)| match *l {
            -100 => 0.0,
            l => -rows.weight(&arena, l) * rows.x.get(&arena, &rows.index(i, l as u64)),
        };
        let losses: Vec<f64> = rows.labels.iter().enumerate().map(pick).collect();
        rows.expect(&arena, &losses);

        let upstream = Tensor::random(&mut rng, &mut arena, dtype, &rows.loss.dims);
        let gradient = Tensor::random(&mut rng, &mut arena, dtype, &rows.x.dims);
        let mean = rows.reduction == Reduction::Mean;
        let backward = Nll {
            x: gradient.desc(),
            loss: upstream.desc(),
            total: if mean { rows.total.desc() } else { Wire::zeroed() },
            function: 1,
            ..forward
        };
        let before = arena.snapshot();
        arena.run(&backward).unwrap();
        expect_only(&arena, before, &[&gradient]);
        for (i, label) in rows.labels.iter().enumerate() {
            let row = &indices(&rows.dims)[i];
            let slope = rows.labels[i];
            let factor = upstream.get_broadcast(&arena, if mean || upstream.dims.is_empty() { &[] } else { row });
            let over = if mean { rows.total.get(&arena, &[]) } else { 1.0 };
            for c in 0..rows.classes() {
                let hit = slope == c as i64;
                let want = if hit { -rows.weight(&arena, *label) * factor / over } else { 0.0 };
                gradient.expect(&arena, &rows.index(i, c), want, 1e-6 * want.abs());
            }
        }
    }

    #[test]
    fn elementwise_losses_and_their_gradients_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let dtype = rng.pick(&FLOATS);
        let dims = rng.dims(1..=4);
        let f = rng.pick(F::ALL);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let target = Tensor::random_broadcast(&mut rng, &mut arena, dtype, &dims);
        let mut some = |arena: &mut Arena| {
            (rng.below(2) == 0).then(|| Tensor::random_broadcast(&mut rng, arena, dtype, &dims))
        };
        let (weight, upstream) = (some(&mut arena), some(&mut arena));
        let positive = if f == F::BceLogits { some(&mut arena) } else { None };
        let between = |v: f64| v.abs() / 2.0;
        let positives = match f {
            F::Bce => vec![&x, &target],
            F::BceLogits | F::Kl => vec![&target],
            _ => vec![],
        };
        for t in positives {
            for i in t.indices() {
                let v = t.get(&arena, &i);
                // Not too near the ends, where a rounded difference loses all digits.
                let v = if f == F::Bce && std::ptr::eq(t, &x) { 0.1 + 0.8 * between(v) } else { between(v) };
                t.set(&mut arena, &i, v);
            }
        }
        let alpha = if f.has_distance() { rng.pick(&[1.0, 0.5]) } else { 0.0 };
        let reduction = rng.pick(Reduction::ALL);
        let of = if reduction == Reduction::None { &dims[..] } else { &[] };
        let out = Tensor::random(&mut rng, &mut arena, dtype, of);
        let dx = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let forward = Loss {
            x: x.desc(),
            target: target.desc(),
            weight: optional(&weight),
            positive: optional(&positive),
            out: out.desc(),
            alpha,
            function: f.raw(),
            reduction: reduction.raw(),
            reserved: 0,
        };
        arena.threads = 2;
        let before = arena.snapshot();
        arena.run(&forward).unwrap();
        expect_only(&arena, before, &[&out]);
        let backward = LossBackward {
            x: x.desc(),
            target: target.desc(),
            weight: optional(&weight),
            positive: optional(&positive),
            upstream: optional(&upstream),
            dx: dx.desc(),
            alpha,
            function: f.raw(),
            reduction: reduction.raw(),
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&backward).unwrap();
        expect_only(&arena, before, &[&dx]);
        let unit = if dtype == F64 { 1e-13 } else { 4e-6 };
        let count = x.indices().len() as f64;
        let over = match reduction {
            Reduction::Mean => count,
            Reduction::BatchMean => dims[0] as f64,
            _ => 1.0,
        };
        let one = |t: &Option<Tensor>, i: &[u64]| t.as_ref().map_or(1.0, |t| t.get_broadcast(&arena, i));
        let (mut sum, mut size) = (0.0, 0.0);
        for i in x.indices() {
            let (v, t) = (x.get(&arena, &i), target.get_broadcast(&arena, &i));
            let (lost, slope) = element(f, v, t, one(&positive, &i), alpha);
            let lost = lost * one(&weight, &i);
            // Terms cancel: of numbers up to 2, and exponentials of 4.
            let terms = 30.0 * (1.0 + lost.abs());
            if reduction == Reduction::None {
                out.expect(&arena, &i, lost, unit * terms);
            }
            (sum, size) = (sum + lost, size + terms);
            let factor = one(&weight, &i) * one(&upstream, &i) / over;
            dx.expect(&arena, &i, slope * factor, unit * 60.0 * factor.abs() * (1.0 + slope.abs()));
        }
        if reduction != Reduction::None {
            out.expect(&arena, &[], sum / over, unit * size / over);
        }
    }
}

/// Loss and derivative of an element.
fn element(f: F, x: f64, t: f64, p: f64, alpha: f64) -> (f64, f64) {
    let d = x - t;
    let sign = if d == 0.0 { 0.0 } else { d.signum() };
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match f {
        F::Mse => (d * d, 2.0 * d),
        F::L1 => (d.abs(), sign),
        F::SmoothL1 if d.abs() < alpha => (d * d / 2.0 / alpha, d / alpha),
        F::SmoothL1 => (d.abs() - alpha / 2.0, sign),
        F::Huber if d.abs() <= alpha => (d * d / 2.0, d),
        F::Huber => (alpha * (d.abs() - alpha / 2.0), alpha * sign),
        F::Bce => (
            -(t * x.ln() + (1.0 - t) * (-x).ln_1p()),
            d / (x * (1.0 - x)),
        ),
        F::BceLogits => {
            let lost = -(p * t * sigmoid.ln() + (1.0 - t) * (1.0 / (1.0 + x.exp())).ln());
            (lost, (p * t + 1.0 - t) * sigmoid - p * t)
        }
        F::Kl if t == 0.0 => (0.0, 0.0),
        F::Kl => (t * (t.ln() - x), -t),
        F::KlLog => (t.exp() * (t - x), -t.exp()),
        F::SoftMargin => ((-t * x).exp().ln_1p(), -t / (1.0 + (t * x).exp())),
        F::Poisson => (x.exp() - t * x, x.exp() - t),
    }
}

/// What is special, as PyTorch has it.
#[test]
fn ends_of_the_range() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let run = |f: F, x: f32, t: f32| {
        let mut arena = Arena::new(4096);
        let (at, to) = (arena.put(&[x, t]), arena.reserve(8));
        let scalar = |at| contiguous(F32, at, &[]);
        let alpha = if f.has_distance() { 1.0 } else { 0.0 };
        let forward = Loss {
            x: scalar(at),
            target: scalar(at + 4),
            out: scalar(to),
            alpha,
            function: f.raw(),
            ..Wire::zeroed()
        };
        arena.run(&forward).unwrap();
        let backward = LossBackward {
            x: scalar(at),
            target: scalar(at + 4),
            dx: scalar(to + 4),
            alpha,
            function: f.raw(),
            ..Wire::zeroed()
        };
        arena.run(&backward).unwrap();
        let got = arena.get::<f32>(to, 2);
        (got[0], got[1])
    };
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
    for (f, x, t, lost, slope) in [
        (F::Mse, inf, 0.0, inf, inf),
        (F::Mse, nan, 0.0, nan, nan),
        (F::L1, 1.0, 1.0, 0.0, 0.0),
        (F::L1, nan, 1.0, nan, nan),
        (F::SmoothL1, -inf, 0.0, inf, -1.0),
        (F::Huber, nan, 0.0, nan, nan),
        (F::Bce, 0.0, 1.0, 100.0, -1e12),
        (F::Bce, 1.0, 1.0, 0.0, 0.0),
        (F::Bce, 1.0, 0.0, 100.0, 1e12),
        (F::Bce, nan, 0.5, nan, nan),
        (F::BceLogits, 1000.0, 0.0, 1000.0, 1.0),
        (F::BceLogits, -1000.0, 0.0, 0.0, 0.0),
        (F::BceLogits, nan, 0.5, nan, nan),
        (F::Kl, 3.0, 0.0, 0.0, 0.0),
        (F::Kl, 3.0, -1.0, nan, 1.0),
        (F::SoftMargin, -1000.0, 1.0, 1000.0, -1.0),
        (F::SoftMargin, 1000.0, 1.0, 0.0, 0.0),
        (F::SoftMargin, nan, 1.0, nan, nan),
        (F::Poisson, -inf, 0.0, nan, 0.0),
    ] {
        let got = run(f, x, t);
        assert!(
            same(got.0, lost) && same(got.1, slope),
            "{f:?}({x}, {t}): {got:?}"
        );
    }
}

/// A mean of nothing is NaN, a sum 0.
#[test]
fn losses_of_nothing() {
    let mut arena = Arena::new(4096);
    let (at, out) = (arena.reserve(64), arena.reserve(64));
    for (reduction, want) in [(1, f32::NAN), (2, 0.0)] {
        let desc = Loss {
            x: contiguous(F32, at, &[0, 3]),
            target: contiguous(F32, at, &[0, 3]),
            out: contiguous(F32, out, &[]),
            reduction,
            ..Wire::zeroed()
        };
        arena.run(&desc).unwrap();
        let entropy = CrossEntropy {
            logits: contiguous(F32, at, &[0, 3]),
            labels: contiguous(I32, at, &[0]),
            loss: contiguous(F32, out + 4, &[]),
            reduction,
            ..Wire::zeroed()
        };
        arena.run(&entropy).unwrap();
        for got in arena.get::<f32>(out, 2) {
            assert!(got == want || (got.is_nan() && want.is_nan()));
        }
    }
}

/// Enough rows and elements for several tasks.
#[test]
fn sums_do_not_depend_on_threads_or_order() {
    let mut arena = Arena::new(16 << 20);
    let mut rng = Rng::new(5);
    let n = 400_000usize;
    let values: Vec<f32> = (0..2 * n).map(|_| rng.value() as f32).collect();
    let classes: Vec<i32> = (0..n / 4).map(|_| rng.below(4) as i32).collect();
    let (x, labels) = (arena.put(&values), arena.put(&classes));
    let out = arena.reserve(64);
    let scalar = |i: u64| contiguous(F32, out + 4 * i, &[]);
    let squares = Loss {
        x: contiguous(F32, x, &[n as u64]),
        target: contiguous(F32, x + 4 * n as u64, &[n as u64]),
        out: scalar(0),
        reduction: 1,
        ..Wire::zeroed()
    };
    let rows = n as u64 / 4;
    let entropy = CrossEntropy {
        logits: contiguous(F32, x, &[rows, 4]),
        labels: contiguous(I32, labels, &[rows]),
        loss: scalar(1),
        reduction: 1,
        smoothing: 0.1,
        ..Wire::zeroed()
    };
    let likelihood = Nll {
        x: entropy.logits,
        target: entropy.labels,
        loss: scalar(2),
        reduction: 2,
        ..Wire::zeroed()
    };
    let mut run = |threads, shuffle| {
        (arena.threads, arena.shuffle) = (threads, shuffle);
        arena.run(&squares).unwrap();
        arena.run(&entropy).unwrap();
        arena.run(&likelihood).unwrap();
        arena.get::<u32>(out, 3)
    };
    let alone = run(1, 0);
    assert!(alone == run(2, 0) && alone == run(3, 99));
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
