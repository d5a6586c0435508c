//! Regions of images and boxes against plain loops in f64.

use std::collections::HashMap;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bf16, F16, F32, F64, I32, I64};
use vmlu_abi::{Status, Wire};
use vmlu_ops::nms::{Nms, FLAG_CENTRE};
use vmlu_ops::roi_align::{Function, RoiAlign, FLAG_ALIGN};
use vmlu_ops::roi_align_backward::RoiAlignBackward;

use super::cases;
use super::pooling::{tensor, unit};
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// A random problem.
struct Problem {
    look: RoiAlign,
    rois: Tensor,
    images: Tensor,
    sizes: [u64; 2],
    bins: [u64; 2],
}

/// Elements with weights.
type Terms = Vec<([u64; 2], f64)>;
/// What a bin is made of: points, and the elements of each.
type Bin = Vec<Terms>;

impl Problem {
    fn random(
        rng: &mut Rng,
        arena: &mut Arena,
        dtype: vmlu_abi::tensor::DataType,
    ) -> (Self, Vec<u64>, Vec<u64>) {
        let (regions, images, channels) =
            (1 + rng.below(4), 1 + rng.below(3), rng.pick(&[1, 3, 17]));
        let sizes = [1 + rng.below(9), 1 + rng.below(9)];
        let bins = [1 + rng.below(4), 1 + rng.below(4)];
        let rois = Tensor::random(rng, arena, dtype, &[regions, 4]);
        for r in 0..regions {
            for i in 0..2 {
                let start = rng.below(60) as f64 / 4.0 - 3.0;
                let length = rng.below(40) as f64 / 4.0 - 1.0;
                rois.set(arena, &[r, i], start);
                rois.set(arena, &[r, 2 + i], start + length);
            }
        }
        let kind = rng.pick(&[I32, I64]);
        let numbers = Tensor::random(rng, arena, kind, &[regions]);
        for r in 0..regions {
            numbers.set(arena, &[r], rng.below(images) as f64 / 5.0 + 0.01);
        }
        let problem = Self {
            look: RoiAlign {
                scale: rng.pick(&[1.0, 0.5]),
                samples: rng.pick(&[0, 1, 2, 3]),
                flags: if rng.below(2) == 0 { FLAG_ALIGN } else { 0 },
                ..Wire::zeroed()
            },
            rois,
            images: numbers,
            sizes,
            bins,
        };
        let x = vec![images, channels, sizes[0], sizes[1]];
        (problem, x, vec![regions, channels, bins[0], bins[1]])
    }

    /// The points of one axis of a bin; `None` where rounding decides whether one is outside.
    fn side(&self, arena: &Arena, r: u64, axis: usize, bin: u64) -> Option<Vec<Vec<(u64, f64)>>> {
        let align = self.look.flags == FLAG_ALIGN;
        let shift = if align { 0.5 } else { 0.0 };
        let corner = |i: usize| self.rois.get(arena, &[r, i as u64]) * self.look.scale - shift;
        let (start, end) = (corner(1 - axis), corner(3 - axis));
        let length = if align {
            end - start
        } else {
            (end - start).max(1.0)
        };
        let step = length / self.bins[axis] as f64;
        let points = match self.look.samples {
            0 => step.ceil().max(0.0) as usize,
            n => n as usize,
        };
        let size = self.sizes[axis] as f64;
        let mut all = Vec::new();
        for i in 0..points {
            let at = start + bin as f64 * step + (i as f64 + 0.5) * step / points as f64;
            if (at + 1.0).abs() < 1e-3 || (at - size).abs() < 1e-3 {
                return None;
            }
            if at < -1.0 || at > size {
                all.push(Vec::new());
                continue;
            }
            let at = at.clamp(0.0, size - 1.0);
            let low = at.floor();
            let far = at - low;
            let high = (low + 1.0).min(size - 1.0);
            all.push(vec![(low as u64, 1.0 - far), (high as u64, far)]);
        }
        Some(all)
    }

    fn bin(&self, arena: &Arena, y: &[u64]) -> Option<Bin> {
        let rows = self.side(arena, y[0], 0, y[2])?;
        let columns = self.side(arena, y[0], 1, y[3])?;
        let mut all = Vec::new();
        for row in &rows {
            for column in &columns {
                let point = row
                    .iter()
                    .flat_map(|(i, a)| column.iter().map(move |(j, b)| ([*i, *j], a * b)));
                all.push(point.collect());
            }
        }
        Some(all)
    }

    fn image(&self, arena: &Arena, y: &[u64]) -> u64 {
        self.images.get_whole(arena, &y[..1]) as u64
    }
}

/// What the largest of a bin is chosen from, in order: values, and the elements that each is made of.
fn candidates(
    function: Function,
    bin: &Bin,
    value: impl Fn(&[u64; 2]) -> f64,
) -> Vec<(f64, Terms)> {
    let mut all = Vec::new();
    for point in bin {
        if function == Function::Max && !point.is_empty() {
            all.extend(point.iter().map(|(e, w)| (value(e) * w, vec![(*e, *w)])));
        } else {
            let sum = point.iter().map(|(e, w)| value(e) * w).sum();
            all.push((sum, point.clone()));
        }
    }
    all
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn regions(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let (problem, x, y) = Problem::random(&mut rng, &mut arena, dtype);
        let (x, out) = (tensor(&mut rng, &mut arena, dtype, &x), tensor(&mut rng, &mut arena, dtype, &y));
        let function = rng.pick(Function::ALL);
        let desc = RoiAlign {
            x: x.desc(),
            rois: problem.rois.desc(),
            images: problem.images.desc(),
            out: out.desc(),
            function: function.raw(),
            ..problem.look
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for y in out.indices() {
            let Some(bin) = problem.bin(&arena, &y) else { continue };
            let image = problem.image(&arena, &y);
            let value = |e: &[u64; 2]| x.get(&arena, &[image, y[1], e[0], e[1]]);
            let want = match function {
                _ if bin.is_empty() => 0.0,
                Function::Average => {
                    let terms = bin.iter().flatten().map(|(e, w)| value(e) * w);
                    terms.sum::<f64>() / bin.len() as f64
                }
                _ => candidates(function, &bin, value)
                    .iter()
                    .fold(f64::NEG_INFINITY, |m, c| m.max(c.0)),
            };
            out.expect(&arena, &y, want, 200.0 * unit(dtype));
        }
        expect_only(&arena, before, &[&out]);
    }

    #[test]
    fn gradients(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let (problem, x, y) = Problem::random(&mut rng, &mut arena, dtype);
        let input = tensor(&mut rng, &mut arena, dtype, &x);
        let (dx, dy) = (tensor(&mut rng, &mut arena, dtype, &x), tensor(&mut rng, &mut arena, dtype, &y));
        let RoiAlign { scale, samples, flags, .. } = problem.look;
        let function = rng.pick(Function::ALL);
        let desc = RoiAlignBackward {
            dy: dy.desc(),
            rois: problem.rois.desc(),
            images: problem.images.desc(),
            dx: dx.desc(),
            x: if function == Function::Average { Wire::zeroed() } else { input.desc() },
            scale,
            samples,
            function: function.raw(),
            flags,
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let mut sums: HashMap<Vec<u64>, f64> = HashMap::new();
        // What rounding may give to one or another.
        let mut slack: HashMap<Vec<u64>, f64> = HashMap::new();
        let mut unclear = false;
        for y in dy.indices() {
            let Some(bin) = problem.bin(&arena, &y) else {
                unclear = true;
                break;
            };
            let image = problem.image(&arena, &y);
            let at = |e: &[u64; 2]| vec![image, y[1], e[0], e[1]];
            let v = dy.get(&arena, &y);
            if function == Function::Average {
                for (e, w) in bin.iter().flatten() {
                    *sums.entry(at(e)).or_default() += v / bin.len() as f64 * w;
                }
                continue;
            }
            let value = |e: &[u64; 2]| input.get(&arena, &at(e));
            let mut all = candidates(function, &bin, value);
            let most = all.iter().fold(f64::NEG_INFINITY, |m, c| m.max(c.0));
            all.retain(|c| c.0 >= most - 1e-4);
            let clear = all.windows(2).all(|w| w[0].1 == w[1].1);
            for (_, elements) in &all {
                for (e, w) in elements {
                    let sums = if clear { &mut sums } else { &mut slack };
                    *sums.entry(at(e)).or_default() += if clear { v * w } else { (v * w).abs() };
                }
                if clear {
                    break;
                }
            }
        }
        if !unclear {
            for e in dx.indices() {
                let want = sums.get(&e).copied().unwrap_or_default();
                let slack = slack.get(&e).copied().unwrap_or_default();
                dx.expect(&arena, &e, want, slack + 500.0 * unit(dtype));
            }
        }
        expect_only(&arena, before, &[&dx]);
    }

    #[test]
    fn suppression(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let (images, classes, number) = (1 + rng.below(3), rng.below(4), rng.below(40));
        let boxes = Tensor::random(&mut rng, &mut arena, dtype, &[images, number, 4]);
        let scores = Tensor::random(&mut rng, &mut arena, dtype, &[images, classes, number]);
        let most = rng.pick(&[0, 5, 60, 500]);
        let kind = rng.pick(&[I32, I64]);
        let out = Tensor::random(&mut rng, &mut arena, kind, &[most, 3]);
        let count = Tensor::random(&mut rng, &mut arena, I64, &[]);
        for at in boxes.indices() {
            // Whole numbers, so that areas are exact.
            boxes.set(&mut arena, &at, rng.below(9) as f64 * 2.0);
        }
        for at in scores.indices() {
            let score = if rng.below(30) == 0 { f64::NAN } else { rng.below(12) as f64 / 4.0 - 1.0 };
            scores.set(&mut arena, &at, score);
        }
        let centre = rng.below(2) == 0;
        let desc = Nms {
            boxes: boxes.desc(),
            scores: scores.desc(),
            out: out.desc(),
            count: count.desc(),
            overlap_threshold: rng.pick(&[0.0, 0.25, 0.5, 0.3, 1.0]),
            score_threshold: rng.pick(&[f64::NEG_INFINITY, 0.25, -2.0]),
            limit: rng.pick(&[0, 1, 3]),
            flags: if centre { FLAG_CENTRE } else { 0 },
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let sides = |image: u64, i: u64| {
            let v: Vec<f64> = (0..4).map(|k| boxes.get(&arena, &[image, i, k])).collect();
            if centre {
                return [v[1] - v[3] / 2.0, v[0] - v[2] / 2.0, v[1] + v[3] / 2.0, v[0] + v[2] / 2.0];
            }
            [v[0].min(v[2]), v[1].min(v[3]), v[0].max(v[2]), v[1].max(v[3])]
        };
        let overlap = |a: [f64; 4], b: [f64; 4]| {
            let h = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
            let w = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
            let area = |s: [f64; 4]| (s[2] - s[0]) * (s[3] - s[1]);
            h * w / (area(a) + area(b) - h * w)
        };
        let mut rows = Vec::new();
        for image in 0..images {
            for class in 0..classes {
                let score = |i: u64| scores.get(&arena, &[image, class, i]);
                let mut left: Vec<u64> = (0..number)
                    .filter(|i| desc.score_threshold == f64::NEG_INFINITY || score(*i) > desc.score_threshold)
                    .collect();
                let rank = |i: u64| if score(i).is_nan() { f64::INFINITY } else { score(i) };
                left.sort_by(|a, b| rank(*b).total_cmp(&rank(*a)));
                let mut kept: Vec<u64> = Vec::new();
                for i in left {
                    let near = |k: &u64| overlap(sides(image, *k), sides(image, i)) > desc.overlap_threshold;
                    let full = desc.limit != 0 && kept.len() as u64 >= desc.limit;
                    if !full && !kept.iter().any(near) {
                        kept.push(i);
                        rows.push([image, class, i].map(i128::from));
                    }
                }
            }
        }
        rows.truncate(most as usize);
        prop_assert_eq!(count.get_whole(&arena, &[]), rows.len() as i128);
        for row in 0..most {
            let want = rows.get(row as usize).copied().unwrap_or([-1; 3]);
            let got = [0, 1, 2].map(|k| out.get_whole(&arena, &[row, k]));
            prop_assert_eq!(got, want);
        }
        expect_only(&arena, before, &[&out, &count]);
    }
}

#[test]
fn an_image_that_is_not_there_is_a_fault_and_nothing_is_written() {
    let mut arena = Arena::new(1 << 12);
    let mut rng = Rng::new(1);
    let x = Tensor::random(&mut rng, &mut arena, F32, &[2, 1, 3, 3]);
    let rois = Tensor::random(&mut rng, &mut arena, F32, &[2, 4]);
    let out = Tensor::random(&mut rng, &mut arena, F32, &[2, 1, 2, 2]);
    let numbers = vmlu_ops::tensor::contiguous(I32, arena.put(&[1i32, 2]), &[2]);
    let before = arena.snapshot();
    let fault = arena
        .run(&RoiAlign {
            x: x.desc(),
            rois: rois.desc(),
            images: numbers,
            out: out.desc(),
            scale: 1.0,
            ..Wire::zeroed()
        })
        .unwrap_err();
    assert_eq!(
        (fault.status, fault.operand, &fault.rule[..]),
        (
            Status::IndexOutOfRange,
            2,
            "roi_align: images[1] is 2, but there are 2 images"
        )
    );
    assert!(before == arena.snapshot());
}
