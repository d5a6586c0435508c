//! Pooling and its gradient against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I32, I64, I8, U8};
use vmlu_abi::Wire;
use vmlu_ops::pool::{Function, Pool, FLAG_ADAPTIVE};
use vmlu_ops::pool_backward::PoolBackward;

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// Windows, and the shapes that follow.
struct Shape {
    adaptive: bool,
    taps: [u32; 3],
    stride: [u32; 3],
    dilation: [u32; 3],
    padding: [u32; 6],
    x: Vec<u64>,
    y: Vec<u64>,
}

impl Shape {
    fn random(rng: &mut Rng) -> Self {
        let spatial = 1 + rng.below(3) as usize;
        let channels = rng.pick(&[1, 2, 5, 17]);
        let adaptive = rng.below(4) == 0;
        let mut shape = Self {
            adaptive,
            taps: [0; 3],
            stride: [0; 3],
            dilation: [0; 3],
            padding: [0; 6],
            x: vec![1 + rng.below(2), channels],
            y: Vec::new(),
        };
        shape.y = shape.x.clone();
        let most = [70, 11, 6][spatial - 1];
        for i in 0..spatial {
            let size = 1 + rng.below(most);
            if adaptive {
                shape.x.push(size);
                shape.y.push(1 + rng.below(most));
                continue;
            }
            let taps = 1 + rng.below(4);
            let (stride, dilation) = (1 + rng.below(3), 1 + rng.below(2));
            let (before, after) = (rng.below(3), rng.below(3));
            let reach = (taps - 1) * dilation + 1;
            let size = size.max(reach.saturating_sub(before + after)).max(1);
            shape.taps[i] = taps as u32;
            shape.stride[i] = stride as u32;
            shape.dilation[i] = dilation as u32;
            shape.padding[2 * i] = before as u32;
            shape.padding[2 * i + 1] = after as u32;
            shape.x.push(size);
            let room = size + before + after - reach;
            let mut windows = room / stride + 1;
            // Rounded up, where that window begins early enough.
            if rng.below(2) == 0 && !room.is_multiple_of(stride) && windows * stride < size + before
            {
                windows += 1;
            }
            shape.y.push(windows);
        }
        shape
    }

    /// Positions of the taps of a window along an axis, -1 on the padding; those behind it are none.
    fn taps(&self, i: usize, o: u64) -> Vec<i64> {
        let (size, windows) = (self.x[2 + i], self.y[2 + i]);
        if self.adaptive {
            let end = ((o + 1) * size).div_ceil(windows);
            return (o * size / windows..end).map(|p| p as i64).collect();
        }
        let (before, after) = (self.padding[2 * i], self.padding[2 * i + 1]);
        (0..self.taps[i])
            .map(|t| i64::from(t * self.dilation[i]) + o as i64 * i64::from(self.stride[i]))
            .map(|at| at - i64::from(before))
            .filter(|at| *at < (size + u64::from(after)) as i64)
            .map(|at| if at < size as i64 { at.max(-1) } else { -1 })
            .collect()
    }

    /// Positions of the elements of a window, and how many taps there are with those on the padding.
    fn window(&self, y: &[u64]) -> (Vec<Vec<u64>>, usize) {
        let mut all = vec![vec![]];
        for i in 0..y.len() - 2 {
            let taps = self.taps(i, y[2 + i]);
            all = all
                .into_iter()
                .flat_map(|a: Vec<i64>| taps.iter().map(move |t| [&a[..], &[*t]].concat()))
                .collect();
        }
        let count = all.len();
        let inside = all.iter().filter(|p| p.iter().all(|v| *v >= 0));
        let place = |p: &Vec<i64>| {
            let own = p.iter().map(|v| *v as u64);
            y[..2].iter().copied().chain(own).collect()
        };
        (inside.map(place).collect(), count)
    }

    fn number(&self, x: &[u64]) -> i64 {
        (2..x.len()).fold(0, |n, i| n * self.x[i] as i64 + x[i] as i64)
    }

    fn flags(&self) -> u32 {
        u32::from(self.adaptive) * FLAG_ADAPTIVE
    }
}

/// A tensor whose channels lie side by side, or one of any layout.
pub(super) fn tensor(rng: &mut Rng, arena: &mut Arena, dtype: DataType, dims: &[u64]) -> Tensor {
    let mut tensor = Tensor::random(rng, arena, dtype, dims);
    if rng.below(2) == 0 {
        let mut next = 1;
        tensor.strides = vec![0; dims.len()];
        for axis in [1].into_iter().chain((2..dims.len()).rev()).chain([0]) {
            tensor.strides[axis] = next;
            next *= dims[axis] as i64;
        }
        tensor.address = arena.reserve(next as usize * dtype.size());
        for index in tensor.indices() {
            let value = rng.value();
            tensor.set(arena, &index, value);
        }
    }
    tensor
}

/// Precision of what a type is computed in.
pub(super) fn unit(dtype: DataType) -> f64 {
    match dtype {
        F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

fn divided(function: Function, divisor: u32, inside: usize, all: usize) -> f64 {
    match function {
        _ if divisor > 0 => f64::from(divisor),
        Function::AverageValid => inside.max(1) as f64,
        _ => all.max(1) as f64,
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn windows(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let shape = Shape::random(&mut rng);
        let function = rng.pick(Function::ALL);
        let max = function == Function::Max;
        let dtype = if max { rng.pick(&[F32, F16, Bf16, F64, I8, U8, I32]) } else { rng.pick(&[F32, F16, Bf16, F64]) };
        let divisor = if !max && rng.below(4) == 0 { 3 } else { 0 };
        let x = tensor(&mut rng, &mut arena, dtype, &shape.x);
        let out = tensor(&mut rng, &mut arena, dtype, &shape.y);
        let kind = rng.pick(&[I32, I64]);
        let numbers = (max && rng.below(2) == 0).then(|| tensor(&mut rng, &mut arena, kind, &shape.y));
        if max && rng.below(4) == 0 && dtype == F32 {
            let all = x.indices();
            let at = rng.pick(&[0, all.len() / 2, all.len() - 1]);
            x.set(&mut arena, &all[at], f64::NAN);
        }
        let desc = Pool {
            x: x.desc(),
            out: out.desc(),
            indices: numbers.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            taps: shape.taps,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            divisor,
            function: function.raw(),
            flags: shape.flags(),
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for y in out.indices() {
            let (elements, all) = shape.window(&y);
            let values: Vec<f64> = elements.iter().map(|e| x.get(&arena, e)).collect();
            if max {
                let mut best = None;
                for (e, v) in elements.iter().zip(&values) {
                    if best.is_none_or(|(b, _): (f64, _)| *v > b || v.is_nan()) {
                        best = Some((*v, shape.number(e)));
                    }
                }
                let (value, number) = best.map_or((None, -1), |(v, n)| (Some(v), n));
                if let Some(v) = value {
                    out.expect(&arena, &y, v, 0.0);
                }
                if let Some(t) = &numbers {
                    prop_assert_eq!(t.get_whole(&arena, &y), i128::from(number));
                }
            } else {
                let count = divided(function, divisor, elements.len(), all);
                let size: f64 = values.iter().map(|v| v.abs()).sum();
                let tolerance = unit(dtype) * size * (4.0 + values.len() as f64) / count;
                out.expect(&arena, &y, values.iter().sum::<f64>() / count, tolerance);
            }
        }
        let mut written = vec![&out];
        written.extend(&numbers);
        expect_only(&arena, before, &written);
    }

    #[test]
    fn gradients(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let shape = Shape::random(&mut rng);
        let function = rng.pick(Function::ALL);
        let max = function == Function::Max;
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let divisor = if !max && rng.below(4) == 0 { 3 } else { 0 };
        let dy = tensor(&mut rng, &mut arena, dtype, &shape.y);
        let dx = tensor(&mut rng, &mut arena, dtype, &shape.x);
        let kind = rng.pick(&[I32, I64]);
        let numbers = max.then(|| tensor(&mut rng, &mut arena, kind, &shape.y));
        let mut sums: std::collections::HashMap<Vec<u64>, (f64, f64)> = Default::default();
        for y in indices(&shape.y) {
            let (elements, all) = shape.window(&y);
            let v = dy.get(&arena, &y);
            let mut add = |e: &Vec<u64>, v: f64| {
                let (sum, size) = sums.entry(e.clone()).or_default();
                *sum += v;
                *size += v.abs();
            };
            if let Some(t) = &numbers {
                // An element of the window, or one that is none.
                let chosen = rng.below(elements.len() as u64 + 1) as usize;
                let number = elements.get(chosen).map_or(-1, |e| shape.number(e));
                t.set(&mut arena, &y, number as f64 / 5.0 + if number > 0 { 0.01 } else { 0.0 });
                if let Some(e) = elements.get(chosen) {
                    add(e, v);
                }
            } else {
                let count = divided(function, divisor, elements.len(), all);
                for e in &elements {
                    add(e, v / count);
                }
            }
        }
        let desc = PoolBackward {
            dy: dy.desc(),
            indices: numbers.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            dx: dx.desc(),
            taps: shape.taps,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            divisor,
            function: function.raw(),
            flags: shape.flags(),
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for x in dx.indices() {
            let (sum, size) = sums.get(&x).copied().unwrap_or_default();
            dx.expect(&arena, &x, sum, 64.0 * unit(dtype) * size);
        }
        expect_only(&arena, before, &[&dx]);
    }
}

/// Windows wider than a buffer, and rows that fall into pieces.
#[test]
fn wide_windows() {
    let mut rng = Rng::new(9);
    for (width, taps, stride, dilation) in
        [(5000, 3000, 700, 1), (5000, 3, 1, 1500), (9000, 2, 2, 1)]
    {
        for function in Function::ALL {
            let mut arena = Arena::new(1 << 20);
            let windows = (width - (taps - 1) * dilation - 1) / stride + 1;
            let x = Tensor::random(&mut rng, &mut arena, F32, &[1, 1, width]);
            let out = Tensor::random(&mut rng, &mut arena, F32, &[1, 1, windows]);
            let numbers = Tensor::random(&mut rng, &mut arena, I32, &[1, 1, windows]);
            let max = *function == Function::Max;
            let desc = Pool {
                x: x.desc(),
                out: out.desc(),
                indices: if max { numbers.desc() } else { Wire::zeroed() },
                taps: [taps as u32, 0, 0],
                stride: [stride as u32, 0, 0],
                dilation: [dilation as u32, 0, 0],
                function: function.raw(),
                ..Wire::zeroed()
            };
            arena.run(&desc).unwrap();
            for o in 0..windows {
                let at = |t| o * stride + t * dilation;
                let values = (0..taps).map(|t| (x.get(&arena, &[0, 0, at(t)]), at(t)));
                if max {
                    let best =
                        values.fold((f64::NEG_INFINITY, 0), |b, v| if v.0 > b.0 { v } else { b });
                    out.expect(&arena, &[0, 0, o], best.0, 0.0);
                    assert_eq!(numbers.get_whole(&arena, &[0, 0, o]), i128::from(best.1));
                } else {
                    let mean = values.map(|v| v.0).sum::<f64>() / taps as f64;
                    out.expect(&arena, &[0, 0, o], mean, 1e-5);
                }
            }
        }
    }
}
