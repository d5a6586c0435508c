//! Sampling by a grid, its gradients, and grids of affine maps, against sums over padded images in f64.

use std::collections::HashMap;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bf16, F16, F32, F64};
use vmlu_abi::Wire;
use vmlu_ops::affine_grid::AffineGrid;
use vmlu_ops::grid_sample::{Function, GridSample, Padding, FLAG_ALIGN};
use vmlu_ops::grid_sample_backward::GridSampleBackward;

use super::cases;
use super::pooling::{tensor, unit};
use super::tensors::{expect_only, Rng, Tensor};
use crate::testing::Arena;

/// An element along an axis (none where the padding is 0), its weight, and how that changes with the grid's number.
type Tap = (Option<u64>, f64, f64);

/// An element, its weight, and how that changes with each axis' number of the grid.
type Source = (Vec<u64>, f64, Vec<f64>);

struct Setting {
    function: Function,
    padding: Padding,
    align: bool,
    x: Vec<u64>,
    y: Vec<u64>,
}

impl Setting {
    fn random(rng: &mut Rng) -> Self {
        let spatial = 1 + rng.below(3) as usize;
        let most = [40, 9, 5][spatial - 1];
        let channels = rng.pick(&[1, 3, 17]);
        let (mut x, mut y) = (vec![1 + rng.below(2), channels], Vec::new());
        y.extend(&x);
        for _ in 0..spatial {
            x.push(1 + rng.below(most));
            y.push(1 + rng.below(most));
        }
        Self {
            function: rng.pick(Function::ALL),
            padding: rng.pick(Padding::ALL),
            align: rng.below(2) == 0,
            x,
            y,
        }
    }

    fn grid(&self) -> Vec<u64> {
        let mut dims = vec![self.y[0]];
        dims.extend(&self.y[2..]);
        dims.push(self.y.len() as u64 - 2);
        dims
    }

    /// The element that the padded image has at a position.
    fn padded(&self, axis: usize, i: i64) -> Option<u64> {
        let n = self.x[2 + axis] as i64;
        Some(match self.padding {
            Padding::Zeros if !(0..n).contains(&i) => return None,
            Padding::Zeros => i,
            Padding::Border => i.clamp(0, n - 1),
            Padding::Reflection if self.align && n == 1 => 0,
            Padding::Reflection if self.align => {
                let i = i.rem_euclid(2 * n - 2);
                i.min(2 * n - 2 - i)
            }
            Padding::Reflection => {
                let i = i.rem_euclid(2 * n);
                i.min(2 * n - 1 - i)
            }
        } as u64)
    }

    /// The taps of a number of the grid; `None` where rounding decides which they are.
    fn taps(&self, axis: usize, g: f64) -> Option<Vec<Tap>> {
        let n = self.x[2 + axis] as f64;
        let (at, factor) = match self.align {
            true => ((g + 1.0) / 2.0 * (n - 1.0), (n - 1.0) / 2.0),
            false => (((g + 1.0) * n - 1.0) / 2.0, n / 2.0),
        };
        // Where the slope jumps: at elements, and between them, where a reflection or the nearest changes.
        let jump = (2.0 * at - (2.0 * at).round()).abs() < 1e-3;
        if jump && !(self.align && n == 1.0) {
            return None;
        }
        if self.function == Function::Nearest {
            let nearest = self.padded(axis, at.round_ties_even() as i64);
            return Some(vec![(nearest, 1.0, 0.0)]);
        }
        let floor = at.floor() as i64;
        let a = -0.75;
        let taps = (floor - 2..=floor + 3).map(|i| {
            let d = at - i as f64;
            let t = d.abs();
            let (weight, slope) = match self.function {
                Function::Cubic if t <= 1.0 => (
                    (a + 2.0) * t.powi(3) - (a + 3.0) * t * t + 1.0,
                    3.0 * (a + 2.0) * t * t - 2.0 * (a + 3.0) * t,
                ),
                Function::Cubic if t < 2.0 => (
                    a * (t.powi(3) - 5.0 * t * t + 8.0 * t - 4.0),
                    a * (3.0 * t * t - 10.0 * t + 8.0),
                ),
                Function::Linear if t < 1.0 => (1.0 - t, -1.0),
                _ => (0.0, 0.0),
            };
            (self.padded(axis, i), weight, slope * d.signum() * factor)
        });
        Some(taps.filter(|t| t.1 != 0.0 || t.2 != 0.0).collect())
    }

    /// All elements that a place is made of, with weights and slopes by axis.
    fn sources(&self, arena: &Arena, grid: &Tensor, y: &[u64]) -> Option<Vec<Source>> {
        let spatial = y.len() - 2;
        let mut all = vec![(y[..2].to_vec(), 1.0, vec![1.0; spatial])];
        for axis in 0..spatial {
            let number = (spatial - 1 - axis) as u64;
            let at = [&y[..1], &y[2..], &[number]].concat();
            let taps = self.taps(axis, grid.get(arena, &at))?;
            let mut next = Vec::new();
            for (index, weight, slopes) in &all {
                for (i, w, s) in &taps {
                    let Some(i) = i else { continue };
                    let slopes = slopes.iter().enumerate();
                    let slopes = slopes.map(|(k, v)| v * if k == axis { *s } else { *w });
                    next.push(([&index[..], &[*i]].concat(), weight * w, slopes.collect()));
                }
            }
            all = next;
        }
        Some(all)
    }

    fn flags(&self) -> u32 {
        if self.align {
            FLAG_ALIGN
        } else {
            0
        }
    }
}

/// Places are of the type that is computed in, so weights are off by that much.
fn close(dtype: vmlu_abi::tensor::DataType) -> f64 {
    unit(dtype) * 500.0
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn samples(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let setting = Setting::random(&mut rng);
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let x = tensor(&mut rng, &mut arena, dtype, &setting.x);
        let grid = Tensor::random(&mut rng, &mut arena, dtype, &setting.grid());
        let out = tensor(&mut rng, &mut arena, dtype, &setting.y);
        let desc = GridSample {
            x: x.desc(),
            grid: grid.desc(),
            out: out.desc(),
            function: setting.function.raw(),
            padding: setting.padding as u32,
            flags: setting.flags(),
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        for y in out.indices() {
            let Some(sources) = setting.sources(&arena, &grid, &y) else { continue };
            let terms: Vec<f64> = sources.iter().map(|(e, w, _)| x.get(&arena, e) * w).collect();
            let size: f64 = terms.iter().map(|t| t.abs()).sum();
            out.expect(&arena, &y, terms.iter().sum(), close(dtype) * size.max(1.0));
        }
        expect_only(&arena, before, &[&out]);
    }

    #[test]
    fn gradients(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 21));
        arena.threads = 1 + rng.below(2) as usize;
        arena.shuffle = rng.next();
        let setting = Setting::random(&mut rng);
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let x = tensor(&mut rng, &mut arena, dtype, &setting.x);
        let grid = Tensor::random(&mut rng, &mut arena, dtype, &setting.grid());
        let dy = tensor(&mut rng, &mut arena, dtype, &setting.y);
        let which = rng.below(3);
        let dx = (which != 0).then(|| tensor(&mut rng, &mut arena, dtype, &setting.x));
        let dgrid = (which != 1).then(|| Tensor::random(&mut rng, &mut arena, dtype, &setting.grid()));
        let given = |t: &Option<Tensor>| t.as_ref().map_or(Wire::zeroed(), Tensor::desc);
        let desc = GridSampleBackward {
            dy: dy.desc(),
            x: x.desc(),
            grid: grid.desc(),
            dx: given(&dx),
            dgrid: given(&dgrid),
            function: setting.function.raw(),
            padding: setting.padding as u32,
            flags: setting.flags(),
            reserved: 0,
        };
        let before = arena.snapshot();
        arena.run(&desc).unwrap();
        let mut of_x: HashMap<Vec<u64>, (f64, f64)> = HashMap::new();
        let mut of_grid: HashMap<Vec<u64>, Option<(f64, f64)>> = HashMap::new();
        let mut unclear = false;
        for y in dy.indices() {
            let v = dy.get(&arena, &y);
            let spatial = y.len() - 2;
            let sources = setting.sources(&arena, &grid, &y);
            unclear |= sources.is_none();
            for axis in 0..spatial {
                let number = (spatial - 1 - axis) as u64;
                let at = [&y[..1], &y[2..], &[number]].concat();
                let sum = of_grid.entry(at).or_insert(Some((0.0, 0.0)));
                let Some(sources) = &sources else {
                    *sum = None;
                    continue;
                };
                if let Some((sum, size)) = sum {
                    for (e, _, slopes) in sources {
                        let term = v * x.get(&arena, e) * slopes[axis];
                        (*sum, *size) = (*sum + term, *size + term.abs());
                    }
                }
            }
            for (e, w, _) in sources.unwrap_or_default() {
                let (sum, size) = of_x.entry(e).or_default();
                (*sum, *size) = (*sum + v * w, *size + (v * w).abs());
            }
        }
        // What rounding decides may go to one element or the next.
        if let Some(dx) = dx.as_ref().filter(|_| !unclear) {
            for e in dx.indices() {
                let (sum, size) = of_x.get(&e).copied().unwrap_or_default();
                dx.expect(&arena, &e, sum, close(dtype) * size.max(1.0));
            }
        }
        if let Some(dgrid) = &dgrid {
            for at in dgrid.indices() {
                if let Some((sum, size)) = of_grid.get(&at).copied().unwrap_or(Some((0.0, 0.0))) {
                    dgrid.expect(&arena, &at, sum, close(dtype) * size.max(10.0));
                }
            }
        }
        let written: Vec<&Tensor> = dx.iter().chain(&dgrid).collect();
        expect_only(&arena, before, &written);
    }

    #[test]
    fn affine_maps(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(1 << 20));
        arena.threads = 1 + rng.below(2) as usize;
        let spatial = 1 + rng.below(3);
        let images = 1 + rng.below(3);
        let dtype = rng.pick(&[F32, F16, Bf16, F64]);
        let align = rng.below(2) == 0;
        let mut dims = vec![images];
        dims.extend((0..spatial).map(|_| 1 + rng.below(9)));
        dims.push(spatial);
        let theta = Tensor::random(&mut rng, &mut arena, dtype, &[images, spatial, spatial + 1]);
        let grid = Tensor::random(&mut rng, &mut arena, dtype, &dims);
        let before = arena.snapshot();
        arena.run(&AffineGrid {
            theta: theta.desc(),
            grid: grid.desc(),
            flags: if align { FLAG_ALIGN } else { 0 },
            reserved: 0,
        }).unwrap();
        for at in grid.indices() {
            let (image, component) = (at[0], at[1 + spatial as usize]);
            let mut want = theta.get(&arena, &[image, component, spatial]);
            for column in 0..spatial {
                let axis = (spatial - column) as usize;
                let (i, n) = (at[axis] as f64, dims[axis] as f64);
                let place = match align {
                    true if n == 1.0 => 0.0,
                    true => 2.0 * i / (n - 1.0) - 1.0,
                    false => (2.0 * i + 1.0) / n - 1.0,
                };
                want += place * theta.get(&arena, &[image, component, column]);
            }
            grid.expect(&arena, &at, want, 32.0 * unit(dtype));
        }
        expect_only(&arena, before, &[&grid]);
    }
}

/// Numbers of a grid that are none, or beyond all.
#[test]
fn places_that_are_nowhere() {
    let mut arena = Arena::new(1 << 12);
    let mut tensor =
        |dims: &[u64], values: &[f32]| vmlu_ops::tensor::contiguous(F32, arena.put(values), dims);
    let x = tensor(&[1, 1, 3], &[1.0, 2.0, 4.0]);
    let grid = tensor(
        &[1, 4, 1],
        &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30],
    );
    let out = tensor(&[1, 1, 4], &[9.0; 4]);
    for function in Function::ALL {
        for (padding, want) in [
            (Padding::Zeros, [0.0; 4]),
            (Padding::Border, [1.0, 4.0, 1.0, 4.0]),
        ] {
            let desc = GridSample {
                x,
                grid,
                out,
                function: function.raw(),
                padding: padding as u32,
                flags: 0,
                reserved: 0,
            };
            arena.run(&desc).unwrap();
            assert_eq!(arena.get::<f32>(out.address, 4), want, "{function:?}");
        }
        let desc = GridSample {
            x,
            grid,
            out,
            function: function.raw(),
            padding: Padding::Reflection as u32,
            flags: FLAG_ALIGN,
            reserved: 0,
        };
        arena.run(&desc).unwrap();
        assert!(arena
            .get::<f32>(out.address, 4)
            .iter()
            .all(|v| v.is_finite()));
    }
}

/// A result without elements may have any number of rows; the gradient is 0.
#[test]
fn rows_of_nothing_take_no_time() {
    let mut arena = Arena::new(1 << 12);
    let of = |address, dims: &[u64]| vmlu_ops::tensor::contiguous(F32, address, dims);
    let (x, dx) = (arena.put(&[1f32; 4]), arena.put(&[9f32; 4]));
    let desc = GridSampleBackward {
        dy: of(x, &[1, 1, 1 << 30, 0]),
        x: of(x, &[1, 1, 2, 2]),
        grid: of(x, &[1, 1 << 30, 0, 2]),
        dx: of(dx, &[1, 1, 2, 2]),
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    assert_eq!(arena.get::<f32>(dx, 4), [0.0; 4]);
}
