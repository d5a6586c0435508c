//! Normalisation, softmax's gradient, and the gradients of both against difference quotients.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, F32, F64};
use vmlu_abi::Wire;
use vmlu_ops::tensor::{absent, contiguous, FLOATS};
use vmlu_ops::{norm, norm_backward, softmax, softmax_backward};

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// The statistics' index of a position.
fn group(index: &[u64], axes: u32, keep: bool) -> Vec<u64> {
    (0..index.len())
        .filter(|i| keep || axes >> i & 1 == 0)
        .map(|i| if axes >> i & 1 != 0 { 0 } else { index[i] })
        .collect()
}

fn kept(dims: &[u64], axes: u32, keep: bool) -> Vec<u64> {
    (0..dims.len())
        .filter(|i| keep || axes >> i & 1 == 0)
        .map(|i| if axes >> i & 1 != 0 { 1 } else { dims[i] })
        .collect()
}

/// Mean and variance of the group of a position.
fn statistics(x: &dyn Fn(&[u64]) -> f64, dims: &[u64], index: &[u64], axes: u32) -> (f64, f64) {
    let inner: Vec<u64> = (0..dims.len())
        .map(|i| if axes >> i & 1 != 0 { dims[i] } else { 1 })
        .collect();
    let values: Vec<f64> = indices(&inner)
        .iter()
        .map(|r| {
            let at: Vec<u64> = (0..dims.len())
                .map(|i| if axes >> i & 1 != 0 { r[i] } else { index[i] })
                .collect();
            x(&at)
        })
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (
        mean,
        values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n,
    )
}

const EPS: f64 = 1e-3;

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn norm_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let dims: Vec<u64> = rng.dims(1..=4).iter().map(|d| *d.max(&1)).collect();
        let axes = 1 + rng.below((1 << dims.len()) - 1) as u32;
        let dtype = rng.pick(&FLOATS);
        let f = rng.pick(norm::Function::ALL);
        let small = rng.pick(&[dtype, F32]);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let w = Tensor::random_broadcast(&mut rng, &mut arena, small, &dims);
        let b = Tensor::random_broadcast(&mut rng, &mut arena, small, &dims);
        let (has_w, has_b) = (rng.below(3) > 0, rng.below(3) > 0);
        let keep = rng.below(2) == 0;
        let stat_type = rng.pick(&[dtype, F32]);
        let shape = kept(&dims, axes, keep);
        let [mean, rstd, running_mean, running_var] =
            [(); 4].map(|()| Tensor::random(&mut rng, &mut arena, stat_type, &shape));
        for i in rstd.indices() {
            let v = rstd.get(&arena, &i).abs() + 0.5;
            rstd.set(&mut arena, &i, v);
        }
        let given = f == norm::Function::Inference;
        let stats = given || rng.below(2) == 0;
        let runs = f == norm::Function::Standard && rng.below(3) == 0;
        let old: Vec<[f64; 4]> = mean.indices().iter()
            .map(|i| [&mean, &rstd, &running_mean, &running_var].map(|t| t.get(&arena, i))).collect();
        let of = |t: &Tensor, there: bool| if there { t.desc() } else { absent() };
        let desc = norm::Norm {
            x: x.desc(), weight: of(&w, has_w), bias: of(&b, has_b), out: out.desc(),
            mean: of(&mean, stats && f != norm::Function::Rms), rstd: of(&rstd, stats),
            running_mean: of(&running_mean, runs), running_var: of(&running_var, runs),
            function: f.raw(), axes, eps: EPS, momentum: if runs { 0.25 } else { 0.0 },
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let mut written = vec![&out];
        if stats && !given { written.push(&rstd); if f != norm::Function::Rms { written.push(&mean); } }
        if runs { written.extend([&running_mean, &running_var]); }
        expect_only(&arena, before, &written);
        let count: u64 = (0..dims.len()).filter(|i| axes >> i & 1 != 0).map(|i| dims[i]).product();
        let places = mean.indices();
        for i in out.indices() {
            let g = group(&i, axes, keep);
            let at = places.iter().position(|p| *p == g).unwrap();
            let (mut m, mut v) = statistics(&|p| x.get(&arena, p), &dims, &i, axes);
            if f == norm::Function::Rms {
                (m, v) = (0.0, v + m * m);
            }
            if given {
                (m, v) = (old[at][0], old[at][1]);
            }
            let r = 1.0 / (v + EPS).sqrt();
            let weight = if has_w { w.get_broadcast(&arena, &i) } else { 1.0 };
            let bias = if has_b { b.get_broadcast(&arena, &i) } else { 0.0 };
            let n = (x.get(&arena, &i) - m) * r;
            let tolerance = 4.0 * f64::from(f32::EPSILON) * (1.0 + r) * (1.0 + (n * weight).abs() + m.abs() * r * weight.abs());
            out.expect(&arena, &i, n * weight + bias, tolerance);
            if stats && !given {
                rstd.expect(&arena, &g, r, 1e-6 * r);
                if f != norm::Function::Rms { mean.expect(&arena, &g, m, 1e-6); }
            }
            if runs {
                let unbiased = if count > 1 { v * count as f64 / (count as f64 - 1.0) } else { f64::NAN };
                running_mean.expect(&arena, &g, old[at][2] + 0.25 * (m - old[at][2]), 1e-6);
                running_var.expect(&arena, &g, old[at][3] + 0.25 * (unbiased - old[at][3]), 1e-6);
            }
        }
    }

    #[test]
    fn norm_backward_matches_the_difference_quotient(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        let dims: Vec<u64> = rng.dims(1..=3).iter().map(|d| 1 + d % 4).collect();
        let axes = 1 + rng.below((1 << dims.len()) - 1) as u32;
        let dtype = rng.pick(&[F32, F64]);
        let f = rng.pick(norm::Function::ALL);
        let given = f == norm::Function::Inference;
        let x = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let dy = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let dx = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let w_dims: Vec<u64> = dims.iter().map(|d| if rng.below(2) == 0 { 1 } else { *d }).collect();
        let w = Tensor::random(&mut rng, &mut arena, dtype, &w_dims);
        let [dw, db] = [(); 2].map(|()| Tensor::random(&mut rng, &mut arena, dtype, &w_dims));
        let shape = kept(&dims, axes, true);
        let [mean, rstd] = [(); 2].map(|()| Tensor::random(&mut rng, &mut arena, dtype, &shape));
        for g in mean.indices() {
            let (m, v) = statistics(&|p| x.get(&arena, p), &dims, &g, axes);
            let (m, v) = match f {
                norm::Function::Rms => (0.0, v + m * m),
                norm::Function::Standard => (m, v),
                norm::Function::Inference => (0.5, 2.0),
            };
            mean.set(&mut arena, &g, m);
            rstd.set(&mut arena, &g, if given { v } else { 1.0 / (v + EPS).sqrt() });
        }
        let desc = norm_backward::NormBackward {
            dy: dy.desc(), x: x.desc(), weight: w.desc(),
            mean: if f == norm::Function::Rms { absent() } else { mean.desc() },
            rstd: rstd.desc(), dx: dx.desc(), dweight: dw.desc(), dbias: db.desc(),
            function: f.raw(), axes, eps: if given { EPS } else { 0.0 },
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&dx, &dw, &db]);
        // The loss Σ dy · out, as a function of one changed element of x.
        let loss = |changed: &[u64], by: f64| {
            let value = |p: &[u64]| x.get(&arena, p) + if p == changed { by } else { 0.0 };
            indices(&dims).iter().map(|i| {
                let (m, v) = statistics(&value, &dims, i, axes);
                let (m, v) = match f {
                    norm::Function::Rms => (0.0, v + m * m),
                    norm::Function::Standard => (m, v),
                    norm::Function::Inference => (0.5, 2.0),
                };
                dy.get(&arena, i) * (value(i) - m) / (v + EPS).sqrt() * w.get_broadcast(&arena, i)
            }).sum::<f64>()
        };
        let (h, tolerance) = (1e-4, if dtype == F64 { 1e-4 } else { 2e-3 });
        for i in dx.indices() {
            let want = (8.0 * (loss(&i, h) - loss(&i, -h)) - (loss(&i, 2.0 * h) - loss(&i, -2.0 * h))) / (12.0 * h);
            // Small variances make steep functions, where the quotient is no good.
            let (_, v) = statistics(&|p| x.get(&arena, p), &dims, &i, axes);
            if v > 0.05 || given {
                dx.expect(&arena, &i, want, tolerance * (1.0 + want.abs()));
            }
        }
        for o in dw.indices() {
            let (mut sum_w, mut sum_b, mut size) = (0.0, 0.0, 0.0);
            for i in indices(&dims) {
                if dw.broadcast(&i) == o {
                    let (m, v) = statistics(&|p| x.get(&arena, p), &dims, &i, axes);
                    let (m, v) = match f {
                        norm::Function::Rms => (0.0, v + m * m),
                        norm::Function::Standard => (m, v),
                        norm::Function::Inference => (0.5, 2.0),
                    };
                    let n = (x.get(&arena, &i) - m) / (v + EPS).sqrt();
                    sum_w += dy.get(&arena, &i) * n;
                    sum_b += dy.get(&arena, &i);
                    size += n.abs() + 2.0 + 1.0 / (v + EPS).sqrt();
                }
            }
            dw.expect(&arena, &o, sum_w, 1e-6 * size * 30.0);
            db.expect(&arena, &o, sum_b, 1e-6 * size);
        }
    }

    #[test]
    fn softmax_backward_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 19));
        let dims: Vec<u64> = rng.dims(1..=4);
        let axis = rng.below(dims.len() as u64) as usize;
        let dtype = rng.pick(&FLOATS);
        let f = rng.pick(softmax::Function::ALL);
        let [y, dy, dx] = [(); 3].map(|()| Tensor::random(&mut rng, &mut arena, dtype, &dims));
        let desc = softmax_backward::SoftmaxBackward {
            y: y.desc(), dy: dy.desc(), dx: dx.desc(), function: f.raw(), axis: axis as u32,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&dx]);
        for i in dx.indices() {
            let at = |j: u64| { let mut p = i.clone(); p[axis] = j; p };
            let row: Vec<(f64, f64)> = (0..dims[axis]).map(|j| (y.get(&arena, &at(j)), dy.get(&arena, &at(j)))).collect();
            let (v, g) = (y.get(&arena, &i), dy.get(&arena, &i));
            let (want, size) = match f {
                softmax::Function::Softmax => {
                    let s: f64 = row.iter().map(|(y, g)| y * g).sum();
                    (v * (g - s), v.abs() * (g.abs() + s.abs()))
                }
                softmax::Function::LogSoftmax => {
                    let s: f64 = row.iter().map(|(_, g)| g).sum();
                    (g - v.exp() * s, g.abs() + v.exp() * s.abs())
                }
            };
            dx.expect(&arena, &i, want, 1e-6 * (1.0 + size));
        }
    }
}

/// Large shapes of every layout: held rows, blocks, and columns side by side give what f64 does, on any number of threads.
#[test]
fn large_norms() {
    let mut arena = Arena::new(64 << 20);
    let mut rng = Rng::new(4);
    let noise: Vec<f32> = (0..1 << 20).map(|_| rng.value() as f32 + 0.5).collect();
    let x = arena.put(&noise);
    let out = arena.reserve(4 << 20);
    let stats = arena.reserve(8 << 20);
    for (dims, axes) in [
        // Layer norm; batch norm of both layouts; instance norm.
        (vec![256u64, 4096], 2u32),
        (vec![16, 64, 1024], 5),
        (vec![16384, 64], 1),
        (vec![8, 131_072], 2),
    ] {
        let shape = kept(&dims, axes, true);
        let groups: u64 = shape.iter().product();
        let desc = norm::Norm {
            x: contiguous(F32, x, &dims),
            out: contiguous(F32, out, &dims),
            mean: contiguous(F32, stats, &shape),
            rstd: contiguous(F32, stats + 4 * groups, &shape),
            axes,
            eps: 1e-5,
            ..Wire::zeroed()
        };
        let mut results: Vec<Vec<f32>> = vec![];
        for (threads, shuffle) in [(1, 0), (3, 7)] {
            arena.threads = threads;
            arena.shuffle = shuffle;
            arena.run(&desc).unwrap();
            results.push(
                [
                    arena.get::<f32>(out, 1 << 20),
                    arena.get::<f32>(stats, 2 * groups as usize),
                ]
                .concat(),
            );
        }
        assert!(results[0]
            .iter()
            .zip(&results[1])
            .all(|(a, b)| a.to_bits() == b.to_bits()));
        // One group by hand.
        let inner: usize = dims
            .iter()
            .enumerate()
            .filter(|(i, _)| axes >> i & 1 != 0)
            .map(|(_, d)| *d as usize)
            .product();
        let tensor = Tensor {
            dtype: DataType::F32,
            dims: dims.clone(),
            strides: contiguous(F32, x, &dims).strides[..dims.len()].to_vec(),
            address: x,
        };
        let position = vec![1u64; dims.len()];
        let (mut sum, mut squares) = (0.0, 0.0);
        let mut at = position.clone();
        let walk = |at: &mut Vec<u64>, f: &mut dyn FnMut(f64)| {
            for k in 0..inner {
                let mut rest = k as u64;
                for i in (0..dims.len()).rev() {
                    if axes >> i & 1 != 0 {
                        at[i] = rest % dims[i];
                        rest /= dims[i];
                    }
                }
                f(tensor.get(&arena, at));
            }
        };
        walk(&mut at, &mut |v| sum += v);
        let mean = sum / inner as f64;
        walk(&mut at, &mut |v| squares += (v - mean) * (v - mean));
        let rstd = 1.0 / (squares / inner as f64 + 1e-5).sqrt();
        let got = Tensor {
            address: out,
            ..tensor.clone()
        }
        .get(&arena, &position);
        let want = (tensor.get(&arena, &position) - mean) * rstd;
        assert!(
            (got - want).abs() < 1e-6 * (1.0 + want.abs()),
            "{dims:?} {axes:#b}: {got}, want {want}"
        );
    }
}

/// Softmax across rows that lie side by side, held and too long for that: as along rows of the transpose.
#[test]
fn softmax_of_columns() {
    let mut arena = Arena::new(8 << 20);
    let mut rng = Rng::new(6);
    let noise: Vec<f32> = (0..1 << 18).map(|_| rng.value() as f32 * 4.0).collect();
    let x = arena.put(&noise);
    let (out, turned) = (arena.reserve(1 << 20), arena.reserve(1 << 20));
    for (rows, columns) in [(256u64, 1024u64), (4096, 64), (5000, 40)] {
        for f in softmax::Function::ALL {
            let from = contiguous(F32, x, &[rows, columns]);
            let across = softmax::Softmax {
                x: from,
                out: contiguous(F32, out, &[rows, columns]),
                function: f.raw(),
                axis: 0,
            };
            let along = softmax::Softmax {
                x: vmlu_ops::tensor::transposed(from, 0, 1),
                out: contiguous(F32, turned, &[columns, rows]),
                function: f.raw(),
                axis: 1,
            };
            arena.threads = 2;
            arena.run(&across).unwrap();
            arena.run(&along).unwrap();
            let count = (rows * columns) as usize;
            let (a, b) = (
                arena.get::<f32>(out, count),
                arena.get::<f32>(turned, count),
            );
            for (i, a) in a.iter().enumerate() {
                let (row, column) = (i / columns as usize, i % columns as usize);
                let b = b[column * rows as usize + row];
                assert!(
                    (a - b).abs() <= 1e-6 * (1.0 + b.abs()),
                    "{rows} x {columns}: {a}, {b}"
                );
            }
        }
    }
}
