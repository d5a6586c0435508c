//! Resizing and its gradient against sums over whole matrices of weights in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I16, U8};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::resize::{
    self, Function, Resize, Rounding, FLAG_ANTIALIAS, FLAG_EXCLUDE, FLAG_EXTRAPOLATE,
};
use vmlu_ops::resize_backward::ResizeBackward;

use super::cases;
use super::pooling::{tensor, unit};
use super::tensors::{expect_only, indices, Rng};
use crate::testing::Arena;

/// A descriptor without tensors, and the shapes that go with it.
struct Setting {
    body: Resize,
    x: Vec<u64>,
    y: Vec<u64>,
}

impl Setting {
    fn random(rng: &mut Rng) -> Self {
        let spatial = 1 + rng.below(3) as usize;
        let function = rng.pick(Function::ALL);
        let channels = rng.pick(&[1, 2, 5, 17]);
        let most = [90, 12, 6][spatial - 1];
        let mut body = Resize {
            function: function.raw(),
            ..Wire::zeroed()
        };
        let mut x = vec![1 + rng.below(2), channels];
        let mut y = x.clone();
        let convention = rng.below(4);
        for i in 0..spatial {
            let (input, output) = (1 + rng.below(most), rng.below(most + 1));
            let place = match convention {
                0 => resize::half_pixel(input, output.max(1)),
                1 => resize::align_corners(input, output),
                2 => resize::asymmetric(input, output.max(1)),
                _ => {
                    let factor = rng.value().abs() * 2.0;
                    [
                        rng.value(),
                        factor,
                        1.0 + rng.value().abs(),
                        4.0 * rng.value(),
                    ]
                }
            };
            [
                body.offset[i],
                body.numerator[i],
                body.denominator[i],
                body.shift[i],
            ] = place;
            x.push(input);
            y.push(output);
        }
        match function {
            Function::Nearest => body.rounding = rng.below(4) as u32,
            _ => body.flags = rng.below(4) as u32 & (FLAG_ANTIALIAS | FLAG_EXCLUDE),
        }
        if function == Function::Cubic {
            body.coefficient = rng.pick(&[-0.75, -0.5]);
        }
        if rng.below(4) == 0 {
            body.flags |= FLAG_EXTRAPOLATE;
            body.extrapolation = 1.5;
        }
        Self { body, x, y }
    }

    /// The weight of each element along an axis for a position of the result; `None` outside.
    fn weights(&self, i: usize, o: u64) -> Option<Vec<f64>> {
        let b = &self.body;
        let at = (o as f64 + b.offset[i]) * b.numerator[i] / b.denominator[i] + b.shift[i];
        let size = self.x[2 + i] as i64;
        if b.flags & FLAG_EXTRAPOLATE != 0 && (at < 0.0 || at > (size - 1) as f64) {
            return None;
        }
        let mut weights = vec![0.0; size as usize];
        let inside = |p: i64| p.clamp(0, size - 1) as usize;
        let function = Function::from_raw(b.function).unwrap();
        if function == Function::Nearest {
            let nearest = match Rounding::from_raw(b.rounding).unwrap() {
                Rounding::Floor => at.floor(),
                Rounding::Ceil => at.ceil(),
                Rounding::HalfDown => (at - 0.5).ceil(),
                Rounding::HalfUp => (at + 0.5).floor(),
            };
            weights[inside(nearest as i64)] = 1.0;
            return Some(weights);
        }
        let factor = b.numerator[i] / b.denominator[i];
        let stretched = b.flags & FLAG_ANTIALIAS != 0 && factor > 1.0;
        let stretch = if stretched { factor } else { 1.0 };
        let exclude = b.flags & FLAG_EXCLUDE != 0;
        // Far enough for every factor of the tests.
        for p in at as i64 - 400..at as i64 + 400 {
            let t = ((p as f64 - at) / stretch).abs();
            let a = b.coefficient;
            // Rounded as by the card: weights that nearly cancel and are divided by their sum magnify what another order of terms gives.
            let weight = match function {
                Function::Cubic if t <= 1.0 => ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
                Function::Cubic if t < 2.0 => ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a,
                Function::Linear if t < 1.0 => 1.0 - t,
                _ => 0.0,
            };
            if !exclude || (0..size).contains(&p) {
                weights[inside(p)] += weight;
            }
        }
        if stretched || exclude {
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|w| *w /= sum);
            }
        }
        Some(weights)
    }

    /// Elements that have weight for an element of the result; `None` outside.
    fn sources(&self, y: &[u64]) -> Option<Vec<(Vec<u64>, f64)>> {
        let mut all = vec![(y[..2].to_vec(), 1.0)];
        for i in 0..y.len() - 2 {
            let weights = self.weights(i, y[2 + i])?;
            let some = weights.iter().enumerate().filter(|(_, w)| **w != 0.0);
            let some: Vec<(u64, f64)> = some.map(|(p, w)| (p as u64, *w)).collect();
            all = all
                .into_iter()
                .flat_map(|(at, v)| {
                    let next = some.iter();
                    next.map(move |(p, w)| ([&at[..], &[*p]].concat(), v * w))
                })
                .collect();
        }
        Some(all)
    }

    fn with(&self, x: TensorDesc, out: TensorDesc) -> Resize {
        Resize {
            x,
            out,
            ..self.body
        }
    }
}

/// Weights are differences of places of a few hundred, so they are off by that many units where they are not rounded.
fn units(dtype: DataType) -> f64 {
    unit(dtype) * if dtype == F64 { 1000.0 } else { 64.0 }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn every_convention(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let setting = Setting::random(&mut rng);
        let nearest = setting.body.function == Function::Nearest.raw();
        let types = &[F32, F16, Bf16, F64, U8, I16][..if nearest { 6 } else { 4 }];
        let dtype = rng.pick(types);
        let x = tensor(&mut rng, &mut arena, dtype, &setting.x);
        let out = tensor(&mut rng, &mut arena, dtype, &setting.y);
        let before = arena.snapshot();
        arena.run(&setting.with(x.desc(), out.desc())).unwrap();
        for y in out.indices() {
            let Some(sources) = setting.sources(&y) else {
                let outside = if dtype == U8 || dtype == I16 { 1.0 } else { 1.5 };
                out.expect(&arena, &y, outside, 0.0);
                continue;
            };
            let terms: Vec<f64> = sources.iter().map(|(e, w)| x.get(&arena, e) * w).collect();
            let size: f64 = terms.iter().map(|v| v.abs()).sum();
            let tolerance = if nearest { 0.0 } else { units(dtype) * size.max(1.0) };
            out.expect(&arena, &y, terms.iter().sum(), tolerance);
        }
        expect_only(&arena, before, &[&out]);
    }

    #[test]
    fn gradients(seed: u64) {
        gradient(seed);
    }
}

/// Weights that nearly cancel, divided by their sum.
#[test]
fn gradient_of_small_sums() {
    gradient(2545216654354567278);
}

fn gradient(seed: u64) {
    let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
    arena.threads = 1 + rng.below(2) as usize;
    arena.shuffle = rng.next();
    let setting = Setting::random(&mut rng);
    let dtype = rng.pick(&[F32, F16, Bf16, F64]);
    let dy = tensor(&mut rng, &mut arena, dtype, &setting.y);
    let dx = tensor(&mut rng, &mut arena, dtype, &setting.x);
    let mut sums: std::collections::HashMap<Vec<u64>, (f64, f64)> = Default::default();
    for y in indices(&setting.y) {
        let v = dy.get(&arena, &y);
        for (e, w) in setting.sources(&y).unwrap_or_default() {
            let (sum, size) = sums.entry(e).or_default();
            *sum += v * w;
            *size += (v * w).abs();
        }
    }
    let desc = ResizeBackward::of(&setting.with(dx.desc(), dy.desc()));
    let before = arena.snapshot();
    arena.run(&desc).unwrap();
    for x in dx.indices() {
        let (sum, size) = sums.get(&x).copied().unwrap_or_default();
        dx.expect(&arena, &x, sum, units(dtype) * size.max(1.0));
    }
    expect_only(&arena, before, &[&dx]);
}

/// Rows that fall into pieces, and windows wider than a buffer.
#[test]
fn wide_rows() {
    let mut rng = Rng::new(4);
    for (input, output) in [(9000, 7), (9000, 5000), (3, 5000), (5000, 9000)] {
        for function in Function::ALL {
            let mut setting = Setting {
                body: Resize {
                    function: function.raw(),
                    ..Wire::zeroed()
                },
                x: vec![1, 1, input],
                y: vec![1, 1, output],
            };
            let place = resize::half_pixel(input, output);
            let b = &mut setting.body;
            [b.offset[0], b.numerator[0], b.denominator[0], b.shift[0]] = place;
            if *function == Function::Cubic {
                b.coefficient = -0.75;
            }
            let stretch = input / output;
            if *function != Function::Nearest && stretch < 100 {
                b.flags = FLAG_ANTIALIAS;
            }
            let mut arena = Arena::new(1 << 20);
            let x = tensor(&mut rng, &mut arena, F32, &setting.x);
            let out = tensor(&mut rng, &mut arena, F32, &setting.y);
            arena.run(&setting.with(x.desc(), out.desc())).unwrap();
            for o in (0..output).step_by(13) {
                let sources = setting.sources(&[0, 0, o]).unwrap();
                let want = sources.iter().map(|(e, w)| x.get(&arena, e) * w).sum();
                // Places of thousands have that much smaller fractions.
                out.expect(&arena, &[0, 0, o], want, 1e-4);
            }
        }
    }
}

/// A row that becomes a few elements: all of it counts for each of them.
#[test]
fn antialiasing_takes_the_mean_of_all() {
    let mut arena = Arena::new(1 << 20);
    let mut rng = Rng::new(5);
    let x = tensor(&mut rng, &mut arena, F32, &[1, 1, 20_000]);
    let out = tensor(&mut rng, &mut arena, F32, &[1, 1, 4]);
    for i in 0..20_000 {
        x.set(&mut arena, &[0, 0, i], 3.0);
    }
    let mut desc = Resize::new(Function::Linear, x.desc(), out.desc(), resize::half_pixel);
    desc.flags = FLAG_ANTIALIAS;
    arena.run(&desc).unwrap();
    for o in 0..4 {
        out.expect(&arena, &[0, 0, o], 3.0, 1e-3);
    }
}
