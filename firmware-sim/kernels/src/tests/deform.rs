//! Deformable convolution and its gradients against plain loops in f64.

use std::collections::HashMap;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, F64};
use vmlu_abi::Wire;
use vmlu_ops::deform_conv::DeformConv;
use vmlu_ops::deform_conv_backward_data::DeformConvBackwardData;
use vmlu_ops::deform_conv_backward_filter::DeformConvBackwardFilter;

use super::cases;
use super::pooling::{tensor, unit};
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

struct Problem {
    desc: DeformConv,
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    mask: Option<Tensor>,
    bias: Option<Tensor>,
    out: Tensor,
}

/// What a tap sees: elements of the image with weights, and how those change as the place moves down and across.
type Seen = Vec<([u64; 2], f64, [f64; 2])>;

/// A tap of an output: its channel, the number of its offsets, the filter's element, and what it sees.
struct Tap {
    channel: u64,
    number: u64,
    filter: Vec<u64>,
    seen: Seen,
}

impl Problem {
    fn random(rng: &mut Rng, arena: &mut Arena, dtype: DataType) -> Self {
        let (groups, shared) = (1 + rng.below(2), 1 + rng.below(2));
        let own = (1 + rng.below(3)) * shared;
        let channels = groups * own;
        let offset_groups = rng.pick(&[1, groups, channels / shared]);
        let outputs = groups * (1 + rng.below(3));
        let images = 1 + rng.below(2);
        let taps = [1 + rng.below(3), 1 + rng.below(3)];
        let stride = [1 + rng.below(2), 1 + rng.below(2)];
        let dilation = [1 + rng.below(2), 1 + rng.below(2)];
        let padding = [rng.below(2), rng.below(2), rng.below(2), rng.below(2)];
        let (mut sizes, mut out_sizes) = ([0; 2], [0; 2]);
        for i in 0..2 {
            let reach = (taps[i] - 1) * dilation[i] + 1;
            let pad = padding[2 * i] + padding[2 * i + 1];
            sizes[i] = reach.saturating_sub(pad).max(1) + rng.below(10);
            out_sizes[i] = (sizes[i] + pad - reach) / stride[i] + 1;
        }
        let moved = offset_groups * taps[0] * taps[1];
        let [r, c] = out_sizes;
        let x = tensor(rng, arena, dtype, &[images, channels, sizes[0], sizes[1]]);
        let w = Tensor::random(rng, arena, dtype, &[outputs, own, taps[0], taps[1]]);
        let offset = Tensor::random(rng, arena, dtype, &[images, 2 * moved, r, c]);
        let some = rng.below(4);
        let mask =
            (some & 1 == 0).then(|| Tensor::random(rng, arena, dtype, &[images, moved, r, c]));
        let bias = (some & 2 == 0).then(|| Tensor::random(rng, arena, dtype, &[outputs]));
        let out = tensor(rng, arena, dtype, &[images, outputs, r, c]);
        let given = |t: &Option<Tensor>| t.as_ref().map_or(Wire::zeroed(), Tensor::desc);
        let desc = DeformConv {
            x: x.desc(),
            w: w.desc(),
            offset: offset.desc(),
            mask: given(&mask),
            bias: given(&bias),
            out: out.desc(),
            stride: stride.map(|v| v as u32),
            dilation: dilation.map(|v| v as u32),
            padding: padding.map(|v| v as u32),
            groups: groups as u32,
            offset_groups: offset_groups as u32,
            reserved: 0,
        };
        Self {
            desc,
            x,
            w,
            offset,
            mask,
            bias,
            out,
        }
    }

    /// The elements around a place.
    fn around(&self, place: [f64; 2]) -> Seen {
        let mut seen = Vec::new();
        let low = place.map(f64::floor);
        let size = |i: usize| self.x.dims[2 + i] as f64;
        if (0..2).any(|i| place[i] <= -1.0 || place[i] >= size(i)) {
            return seen;
        }
        for i in 0..2 {
            for j in 0..2 {
                let at = [low[0] + f64::from(i), low[1] + f64::from(j)];
                if (0..2).all(|k| at[k] >= 0.0 && at[k] < size(k)) {
                    let near = [0, 1].map(|k| 1.0 - (place[k] - at[k]).abs());
                    let sign = |v: i32| if v == 0 { -1.0 } else { 1.0 };
                    let slopes = [sign(i) * near[1], sign(j) * near[0]];
                    seen.push((at.map(|v| v as u64), near[0] * near[1], slopes));
                }
            }
        }
        seen
    }

    /// All taps of an element of the result.
    fn taps(&self, arena: &Arena, at: &[u64]) -> Vec<Tap> {
        let d = &self.desc;
        let (groups, offset_groups) = (u64::from(d.groups), u64::from(d.offset_groups));
        let [outputs, own, down, across] = [0, 1, 2, 3].map(|i| self.w.dims[i]);
        let channels = groups * own;
        let group = at[1] / (outputs / groups);
        let mut all = Vec::new();
        for c in 0..own {
            let channel = group * own + c;
            let moving = channel / (channels / offset_groups);
            for (i, j) in (0..down).flat_map(|i| (0..across).map(move |j| (i, j))) {
                let number = moving * down * across + i * across + j;
                let far = |axis: u64| {
                    let index = [at[0], 2 * number + axis, at[2], at[3]];
                    self.offset.get(arena, &index)
                };
                let own_place = |axis: usize, window: u64, tap: u64| {
                    let start = window * u64::from(d.stride[axis]);
                    let at = start + tap * u64::from(d.dilation[axis]);
                    at as f64 - f64::from(d.padding[2 * axis])
                };
                // Slopes jump at whole numbers, so a place is rounded where the operator's is.
                let rounded = |place: f64| match self.x.dtype {
                    F64 => place,
                    _ => f64::from(place as f32),
                };
                let place = [
                    rounded(own_place(0, at[2], i) + far(0)),
                    rounded(own_place(1, at[3], j) + far(1)),
                ];
                all.push(Tap {
                    channel,
                    number,
                    filter: vec![at[1], c, i, j],
                    seen: self.around(place),
                });
            }
        }
        all
    }

    fn masked(&self, arena: &Arena, at: &[u64], number: u64) -> f64 {
        let index = [at[0], number, at[2], at[3]];
        self.mask.as_ref().map_or(1.0, |m| m.get(arena, &index))
    }

    fn value(&self, arena: &Arena, at: &[u64], tap: &Tap, e: [u64; 2]) -> f64 {
        self.x.get(arena, &[at[0], tap.channel, e[0], e[1]])
    }
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn moved_taps(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let problem = Problem::random(&mut rng, &mut arena, dtype);
        let before = arena.snapshot();
        arena.run(&problem.desc).unwrap();
        for at in problem.out.indices() {
            let mut want = problem.bias.as_ref().map_or(0.0, |b| b.get(&arena, &[at[1]]));
            let mut size = want.abs();
            for tap in problem.taps(&arena, &at) {
                let w = problem.w.get(&arena, &tap.filter) * problem.masked(&arena, &at, tap.number);
                for (e, weight, _) in &tap.seen {
                    let v = problem.value(&arena, &at, &tap, *e) * weight * w;
                    (want, size) = (want + v, size + v.abs());
                }
            }
            problem.out.expect(&arena, &at, want, 100.0 * unit(dtype) * size.max(1.0));
        }
        expect_only(&arena, before, &[&problem.out]);
    }

    #[test]
    fn gradients(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 22));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let problem = Problem::random(&mut rng, &mut arena, dtype);
        let DeformConv { stride, dilation, padding, groups, offset_groups, .. } = problem.desc;
        let mut like = |t: &Tensor| Tensor::random(&mut rng, &mut arena, dtype, &t.dims);
        let dy = like(&problem.out);
        let (dx, doffset, dw) = (like(&problem.x), like(&problem.offset), like(&problem.w));
        let dmask = problem.mask.as_ref().map(&mut like);
        let given = |t: &Option<Tensor>| t.as_ref().map_or(Wire::zeroed(), Tensor::desc);
        let data = DeformConvBackwardData {
            dy: dy.desc(),
            x: problem.x.desc(),
            w: problem.w.desc(),
            offset: problem.offset.desc(),
            mask: given(&problem.mask),
            dx: dx.desc(),
            doffset: doffset.desc(),
            dmask: given(&dmask),
            stride, dilation, padding, groups, offset_groups,
            reserved: 0,
        };
        let filter = DeformConvBackwardFilter {
            dy: dy.desc(),
            x: problem.x.desc(),
            offset: problem.offset.desc(),
            mask: given(&problem.mask),
            dw: dw.desc(),
            stride, dilation, padding, groups, offset_groups,
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&data).unwrap();
        arena.run(&filter).unwrap();
        // Of each element: its value, and the sum of the terms' magnitudes.
        type Sums = HashMap<Vec<u64>, (f64, f64)>;
        let (mut of_x, mut of_offset, mut of_mask, mut of_w) = (Sums::new(), Sums::new(), Sums::new(), Sums::new());
        fn add(sums: &mut Sums, at: Vec<u64>, v: f64) {
            let (sum, size) = sums.entry(at).or_default();
            (*sum, *size) = (*sum + v, *size + v.abs());
        }
        for at in dy.indices() {
            let up = dy.get(&arena, &at);
            for tap in problem.taps(&arena, &at) {
                let (w, mask) = (problem.w.get(&arena, &tap.filter), problem.masked(&arena, &at, tap.number));
                for (e, weight, slopes) in &tap.seen {
                    let v = problem.value(&arena, &at, &tap, *e);
                    add(&mut of_x, vec![at[0], tap.channel, e[0], e[1]], up * w * mask * weight);
                    add(&mut of_w, tap.filter.clone(), up * mask * weight * v);
                    add(&mut of_mask, vec![at[0], tap.number, at[2], at[3]], up * w * weight * v);
                    for (axis, slope) in slopes.iter().enumerate() {
                        let place = vec![at[0], 2 * tap.number + axis as u64, at[2], at[3]];
                        add(&mut of_offset, place, up * w * mask * slope * v);
                    }
                }
            }
        }
        let mut checked = vec![(&dx, &of_x), (&doffset, &of_offset), (&dw, &of_w)];
        checked.extend(dmask.as_ref().map(|t| (t, &of_mask)));
        for (tensor, sums) in &checked {
            for at in tensor.indices() {
                let (want, size) = sums.get(&at).copied().unwrap_or_default();
                tensor.expect(&arena, &at, want, 100.0 * unit(dtype) * size.max(1.0));
            }
        }
        let written: Vec<&Tensor> = checked.iter().map(|(t, _)| *t).collect();
        expect_only(&arena, before, &written);
    }
}
