//! Windows of images side by side, and their sums, against plain loops.

use std::collections::HashMap;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bf16, Bool, F16, F32, F64, I64, U8};
use vmlu_ops::col2im::Col2im;
use vmlu_ops::im2col::Im2col;

use super::cases;
use super::pooling::unit;
use super::tensors::{expect_only, indices, Rng, Tensor};
use crate::testing::Arena;

struct Shape {
    taps: [u32; 3],
    stride: [u32; 3],
    dilation: [u32; 3],
    padding: [u32; 6],
    image: Vec<u64>,
    columns: Vec<u64>,
}

impl Shape {
    fn random(rng: &mut Rng) -> Self {
        let spatial = 1 + rng.below(3) as usize;
        let first = [1 + rng.below(2), 1 + rng.below(3)];
        let mut shape = Self {
            taps: [0; 3],
            stride: [0; 3],
            dilation: [0; 3],
            padding: [0; 6],
            image: first.to_vec(),
            columns: first.to_vec(),
        };
        let most = [60, 8, 5][spatial - 1];
        let mut windows = Vec::new();
        for i in 0..spatial {
            let (taps, stride, dilation) = (1 + rng.below(3), 1 + rng.below(3), 1 + rng.below(2));
            let (before, after) = (rng.below(4), rng.below(3));
            let reach = (taps - 1) * dilation + 1;
            let size = (1 + rng.below(most)).max(reach.saturating_sub(before + after));
            shape.taps[i] = taps as u32;
            shape.stride[i] = stride as u32;
            shape.dilation[i] = dilation as u32;
            shape.padding[2 * i] = before as u32;
            shape.padding[2 * i + 1] = after as u32;
            shape.image.push(size);
            shape.columns.push(taps);
            windows.push((size + before + after - reach) / stride + 1);
        }
        shape.columns.extend(windows);
        shape
    }

    /// Where an element of the columns lies in the image, if it does.
    fn place(&self, at: &[u64]) -> Option<Vec<u64>> {
        let spatial = self.image.len() - 2;
        let mut place = at[..2].to_vec();
        for i in 0..spatial {
            let (tap, window) = (at[2 + i], at[2 + spatial + i]);
            let far = tap * u64::from(self.dilation[i]) + window * u64::from(self.stride[i]);
            let p = far.checked_sub(self.padding[2 * i].into())?;
            place.push(Some(p).filter(|p| *p < self.image[2 + i])?);
        }
        Some(place)
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn side_by_side(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let shape = Shape::random(&mut rng);
        let dtype = rng.pick(&[F32, F16, Bf16, F64, U8, I64, Bool]);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &shape.image);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &shape.columns);
        let before = arena.snapshot();
        arena.run(&Im2col {
            x: x.desc(),
            out: out.desc(),
            taps: shape.taps,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            reserved: 0,
        }).unwrap();
        for at in out.indices() {
            let want = shape.place(&at).map_or(0.0, |p| x.get(&arena, &p));
            out.expect(&arena, &at, want, 0.0);
        }
        expect_only(&arena, before, &[&out]);
    }

    #[test]
    fn sums(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let shape = Shape::random(&mut rng);
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let x = Tensor::random(&mut rng, &mut arena, dtype, &shape.columns);
        let out = Tensor::random(&mut rng, &mut arena, dtype, &shape.image);
        let before = arena.snapshot();
        arena.run(&Col2im {
            x: x.desc(),
            out: out.desc(),
            taps: shape.taps,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            reserved: 0,
        }).unwrap();
        let mut sums: HashMap<Vec<u64>, f64> = HashMap::new();
        for at in indices(&shape.columns) {
            if let Some(p) = shape.place(&at) {
                *sums.entry(p).or_default() += x.get(&arena, &at);
            }
        }
        for at in out.indices() {
            let want = sums.get(&at).copied().unwrap_or_default();
            out.expect(&arena, &at, want, 64.0 * unit(dtype));
        }
        expect_only(&arena, before, &[&out]);
    }
}

/// Rows that fall into pieces.
#[test]
fn long_rows() {
    let mut rng = Rng::new(2);
    for (stride, dilation) in [(1u64, 1u64), (2, 1), (3, 700)] {
        let mut arena = Arena::new(1 << 20);
        let (size, taps, before) = (5000u64, 3u64, 5u64);
        let windows = (size + before - (taps - 1) * dilation - 1) / stride + 1;
        let shape = Shape {
            taps: [taps as u32, 0, 0],
            stride: [stride as u32, 0, 0],
            dilation: [dilation as u32, 0, 0],
            padding: [before as u32, 0, 0, 0, 0, 0],
            image: vec![1, 1, size],
            columns: vec![1, 1, taps, windows],
        };
        let x = Tensor::random(&mut rng, &mut arena, F32, &shape.image);
        let columns = Tensor::random(&mut rng, &mut arena, F32, &shape.columns);
        let sums = Tensor::random(&mut rng, &mut arena, F32, &shape.image);
        let im2col = Im2col {
            x: x.desc(),
            out: columns.desc(),
            taps: shape.taps,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            reserved: 0,
        };
        arena.run(&im2col).unwrap();
        let mut counts = vec![0; size as usize];
        for at in columns.indices() {
            let place = shape.place(&at);
            let want = place.as_ref().map_or(0.0, |p| x.get(&arena, p));
            columns.expect(&arena, &at, want, 0.0);
            if let Some(p) = place {
                counts[p[2] as usize] += 1;
            }
        }
        arena
            .run(&Col2im {
                x: columns.desc(),
                out: sums.desc(),
                taps: im2col.taps,
                stride: im2col.stride,
                dilation: im2col.dilation,
                padding: im2col.padding,
                reserved: 0,
            })
            .unwrap();
        for (p, count) in counts.iter().enumerate() {
            let at = [0, 0, p as u64];
            let want = x.get(&arena, &at) * f64::from(*count);
            sums.expect(&arena, &at, want, 1e-5);
        }
    }
}
