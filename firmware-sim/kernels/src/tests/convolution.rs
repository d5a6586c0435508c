//! Convolutions against plain loops in f64.

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64, I32, I8, U8};
use vmlu_abi::Wire;
use vmlu_ops::conv::Conv;
use vmlu_ops::conv_backward_data::ConvBackwardData;
use vmlu_ops::conv_backward_filter::ConvBackwardFilter;

use super::cases;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

/// How a filter slides, and the shapes that follow.
struct Shape {
    spatial: usize,
    groups: u64,
    stride: [u32; 3],
    dilation: [u32; 3],
    padding: [u32; 6],
    x: Vec<u64>,
    w: Vec<u64>,
    y: Vec<u64>,
}

impl Shape {
    fn random(rng: &mut Rng) -> Self {
        let spatial = 1 + rng.below(3) as usize;
        let groups = rng.pick(&[1, 1, 1, 2, 3]);
        let (inputs, outputs) = match rng.below(4) {
            0 => (1, 1),
            1 => (rng.pick(&[3, 16, 17, 33]), rng.pick(&[2, 15, 33])),
            _ => (1 + rng.below(5), 1 + rng.below(5)),
        };
        let images = 1 + rng.below(2);
        let mut shape = Self {
            spatial,
            groups,
            stride: [0; 3],
            dilation: [0; 3],
            padding: [0; 6],
            x: vec![images, inputs * groups],
            w: vec![outputs * groups, inputs],
            y: vec![images, outputs * groups],
        };
        let most = [40, 9, 5][spatial - 1];
        for i in 0..spatial {
            let taps = 1 + rng.below(3);
            let (stride, dilation) = (1 + rng.below(3), 1 + rng.below(2));
            let (before, after) = (rng.below(3), rng.below(3));
            let reach = (taps - 1) * dilation + 1;
            let size = (1 + rng.below(most)).max(reach.saturating_sub(before + after));
            shape.stride[i] = stride as u32;
            shape.dilation[i] = dilation as u32;
            shape.padding[2 * i] = before as u32;
            shape.padding[2 * i + 1] = after as u32;
            shape.x.push(size);
            shape.w.push(taps);
            shape.y.push((size + before + after - reach) / stride + 1);
        }
        shape
    }

    /// Calls `each(x, w, y)` with the indices of all elements that are multiplied.
    fn each(&self, mut each: impl FnMut(&[u64], &[u64], &[u64])) {
        let (inputs, outputs) = (self.w[1], self.w[0] / self.groups);
        for y in indices(&self.y) {
            for w in indices(&self.w[1..]) {
                let group = y[1] / outputs;
                let mut x = vec![y[0], group * inputs + w[0]];
                let inside = (0..self.spatial).all(|i| {
                    let at = y[2 + i] * u64::from(self.stride[i])
                        + w[1 + i] * u64::from(self.dilation[i]);
                    let at = at.wrapping_sub(self.padding[2 * i].into());
                    x.push(at);
                    at < self.x[2 + i]
                });
                if inside {
                    each(&x, &[&[y[1]], &w[..]].concat(), &y);
                }
            }
        }
    }
}

/// Sums by element of a tensor: the sum, and that of the magnitudes.
struct SumsOf(Vec<(f64, f64)>, Vec<u64>);

impl SumsOf {
    fn new(dims: &[u64]) -> Self {
        Self(vec![(0.0, 0.0); indices(dims).len()], dims.to_vec())
    }
    fn add(&mut self, index: &[u64], value: f64) {
        let at = (index.iter().zip(&self.1)).fold(0, |a, (i, d)| a * d + i);
        let (sum, size) = &mut self.0[at as usize];
        *sum += value;
        *size += value.abs();
    }
}

fn unit(dtype: DataType) -> f64 {
    match dtype {
        I8 | U8 => 0.0,
        F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

/// Checks a result: `alpha · sum + beta · old + bias of the channel`.
fn expect(
    arena: &Arena,
    out: &Tensor,
    sums: &SumsOf,
    old: &[f64],
    (alpha, beta): (f64, f64),
    bias: Option<&Tensor>,
    unit: f64,
) {
    for ((i, (sum, size)), old) in out.indices().iter().zip(&sums.0).zip(old) {
        let mut want = alpha * sum;
        if beta != 0.0 {
            want += beta * old;
        }
        want += bias.map_or(0.0, |b| b.get(arena, &i[1..2]));
        out.expect(arena, i, want, 16.0 * unit * (size + old.abs() + 4.0));
    }
}

const FLOATS: [(DataType, DataType); 6] = [
    (F32, F32),
    (F16, F16),
    (F16, F32),
    (Bf16, Bf16),
    (Bf16, F32),
    (F64, F64),
];

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn forward_matches_its_definition(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let shape = Shape::random(&mut rng);
        let (tx, to) = match rng.below(3) {
            0 => (rng.pick(&[I8, U8]), I32),
            _ => rng.pick(&FLOATS),
        };
        let x = Tensor::random(&mut rng, &mut arena, tx, &shape.x);
        let w = Tensor::random(&mut rng, &mut arena, if tx == U8 { I8 } else { tx }, &shape.w);
        let out = Tensor::random(&mut rng, &mut arena, to, &shape.y);
        let bias = (rng.below(2) == 0).then(|| Tensor::random(&mut rng, &mut arena, to, &shape.y[1..2]));
        let whole = to == I32;
        let desc = Conv {
            x: x.desc(),
            w: w.desc(),
            out: out.desc(),
            bias: bias.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            alpha: if whole { 1.0 } else { rng.pick(&[1.0, -0.5]) },
            beta: rng.pick(if whole { &[0.0, 1.0] } else { &[0.0, 0.25] }),
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            groups: shape.groups as u32,
            activation: 0,
        };
        let mut sums = SumsOf::new(&shape.y);
        shape.each(|ix, iw, iy| sums.add(iy, x.get(&arena, ix) * w.get(&arena, iw)));
        let old: Vec<f64> = out.indices().iter().map(|i| out.get(&arena, i)).collect();
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        expect_only(&arena, before, &[&out]);
        expect(&arena, &out, &sums, &old, (desc.alpha, desc.beta), bias.as_ref(), unit(tx));
    }

    #[test]
    fn gradients_match_their_definitions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(8 << 20));
        let shape = Shape::random(&mut rng);
        let (t, to) = rng.pick(&FLOATS);
        let x = Tensor::random(&mut rng, &mut arena, t, &shape.x);
        let w = Tensor::random(&mut rng, &mut arena, t, &shape.w);
        let dy = Tensor::random(&mut rng, &mut arena, t, &shape.y);
        let dx = Tensor::random(&mut rng, &mut arena, to, &shape.x);
        let dw = Tensor::random(&mut rng, &mut arena, to, &shape.w);
        let bias = (rng.below(2) == 0).then(|| Tensor::random(&mut rng, &mut arena, to, &shape.x[1..2]));
        let (alpha, beta) = (rng.pick(&[1.0, -0.5]), rng.pick(&[0.0, 0.25]));
        let data = ConvBackwardData {
            dy: dy.desc(),
            w: w.desc(),
            dx: dx.desc(),
            bias: bias.as_ref().map_or(Wire::zeroed(), Tensor::desc),
            alpha,
            beta,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            groups: shape.groups as u32,
            activation: 0,
        };
        let filter = ConvBackwardFilter {
            x: x.desc(),
            dy: dy.desc(),
            dw: dw.desc(),
            alpha,
            beta,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            groups: shape.groups as u32,
            reserved: 0,
        };
        let (mut sums_x, mut sums_w) = (SumsOf::new(&shape.x), SumsOf::new(&shape.w));
        shape.each(|ix, iw, iy| {
            let gradient = dy.get(&arena, iy);
            sums_x.add(ix, gradient * w.get(&arena, iw));
            sums_w.add(iw, gradient * x.get(&arena, ix));
        });
        let old = |t: &Tensor, arena: &Arena| -> Vec<f64> { t.indices().iter().map(|i| t.get(arena, i)).collect() };
        let (old_x, old_w) = (old(&dx, &arena), old(&dw, &arena));
        let before = arena.snapshot();
        arena.run(&data).unwrap();
        arena.run(&filter).unwrap();
        expect_only(&arena, before, &[&dx, &dw]);
        expect(&arena, &dx, &sums_x, &old_x, (alpha, beta), bias.as_ref(), unit(t));
        expect(&arena, &dw, &sums_w, &old_w, (alpha, beta), None, unit(t));
    }
}

/// Larger maps in the two usual layouts, whose vector code the random layouts rarely reach; several parts on several threads.
#[test]
fn usual_layouts_match_their_definition() {
    for (t, to) in [(F32, F32), (Bf16, F32), (F16, F32), (I8, I32), (U8, I32)] {
        for last in [false, true] {
            for (channels, filters, stride, groups) in [(20, 36, 1, 1), (3, 16, 2, 1), (4, 4, 1, 4)]
            {
                let (mut rng, mut arena) = (Rng::new(5), Arena::new(8 << 20));
                arena.threads = 2;
                let shape = Shape {
                    spatial: 2,
                    groups,
                    stride: [stride, stride, 0],
                    dilation: [1, 1, 0],
                    padding: [1, 1, 1, 1, 0, 0],
                    x: vec![2, channels, 13, 19],
                    w: vec![filters, channels / groups, 3, 3],
                    y: vec![
                        2,
                        filters,
                        12 / u64::from(stride) + 1,
                        18 / u64::from(stride) + 1,
                    ],
                };
                let mut tensor = |dtype, dims: &[u64]| {
                    let mut tensor = Tensor::random(&mut rng, &mut arena, dtype, dims);
                    let order = if last { [0, 2, 3, 1] } else { [0, 1, 2, 3] };
                    let mut next = 1;
                    for axis in order.into_iter().rev() {
                        tensor.strides[axis] = next;
                        next *= dims[axis] as i64;
                    }
                    tensor.address = arena.reserve(next as usize * dtype.size());
                    for index in tensor.indices() {
                        let value = rng.value();
                        tensor.set(&mut arena, &index, value);
                    }
                    tensor
                };
                let x = tensor(t, &shape.x);
                let w = tensor(if t == U8 { I8 } else { t }, &shape.w);
                let out = tensor(to, &shape.y);
                let desc = Conv {
                    x: x.desc(),
                    w: w.desc(),
                    out: out.desc(),
                    bias: Wire::zeroed(),
                    alpha: 1.0,
                    beta: 0.0,
                    stride: shape.stride,
                    dilation: shape.dilation,
                    padding: shape.padding,
                    groups: shape.groups as u32,
                    activation: 0,
                };
                let mut sums = SumsOf::new(&shape.y);
                shape.each(|ix, iw, iy| sums.add(iy, x.get(&arena, ix) * w.get(&arena, iw)));
                arena.run(&desc).unwrap();
                let old = vec![0.0; sums.0.len()];
                expect(&arena, &out, &sums, &old, (1.0, 0.0), None, unit(t));
            }
        }
    }
}
