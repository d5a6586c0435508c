//! The inner loops of matrix products: packing into private buffers, and register tiles.
//!
//! Each element of the result is accumulated in ascending order of depth, in blocks of [`DEPTH`], each block from zero with fused
//! multiply-adds. How the result is cut into parts, tiles and vectors does not change that, so neither does the host: a host without FMA
//! instructions computes the same bits, slowly.

use std::cell::RefCell;

use half::{bf16, f16};

use super::env::{Env, Fault};
use super::number::{Number, Storage, TILE};
use super::simd::{self, multiversion, Level};
use super::view::View;

#[cfg(target_arch = "x86_64")]
use super::gemm_x86;

/// Depth of a block; a part of the definition of the result's rounding.
const DEPTH: usize = vmlu_ops::matmul::K_BLOCK as usize;
/// Most rows and columns of a part that one task computes.
pub(super) const PART: usize = 512;
/// Rows of `a` that are packed at a time: with the depth, half of a second-level cache.
const ROWS: usize = 192;

/// The next multiple.
pub(super) fn round_up(value: usize, multiple: usize) -> usize {
    value.div_ceil(multiple) * multiple
}

/// One side of a product: `lines` vectors (rows of `a`, columns of `b`) along the depth.
pub(super) struct Operand<'v, 'a> {
    pub(super) view: &'v View<'a>,
    /// First element.
    pub(super) offset: isize,
    /// Distance between lines.
    pub(super) line: isize,
    /// Distance along the depth.
    pub(super) depth: isize,
    pub(super) lines: usize,
}

/// Elements that are multiplied as `T`.
pub(super) trait Source<T> {
    /// Loads at most [`TILE`] elements.
    fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [T]);
}

macro_rules! source {
    ($($s:ty => $t:ty),*) => { $(
        impl Source<$t> for $s {
            fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [$t]) {
                <$s as Storage>::load(view, offset, stride, to);
            }
        }
    )* };
}
source!(f32 => f32, f16 => f32, bf16 => f32, f64 => f64);

impl Source<i32> for i8 {
    fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [i32]) {
        let mut narrow = [0i8; TILE];
        let narrow = &mut narrow[..to.len()];
        view.load(offset, stride, narrow);
        for (t, n) in to.iter_mut().zip(narrow) {
            *t = i32::from(*n);
        }
    }
}

/// A register tile: `acc[i][j] = Σ a[k][i] · b[k][j]`, added to the result unless this is the first block.
type Tile<T> = fn(a: &[T], b: &[T], out: &mut [T], pitch: usize, first: bool);

/// Shape of the register tile, and its code.
#[derive(Clone, Copy)]
pub(super) struct Plan<T> {
    rows: usize,
    columns: usize,
    tile: Tile<T>,
}

/// A type that is multiplied and accumulated.
pub(super) trait Gemm: Number {
    /// The register tile for this host.
    fn plan() -> Plan<Self>;
    /// This thread's buffers.
    fn with_pool<R>(f: impl FnOnce(&mut Vec<Space<Self>>) -> R) -> R;
}

macro_rules! gemm {
    ($t:ty, $plan:expr) => {
        impl Gemm for $t {
            fn plan() -> Plan<Self> {
                $plan
            }
            fn with_pool<R>(f: impl FnOnce(&mut Vec<Space<Self>>) -> R) -> R {
                thread_local!(static POOL: RefCell<Vec<Space<$t>>> = const { RefCell::new(Vec::new()) });
                POOL.with_borrow_mut(f)
            }
        }
    };
}
gemm!(f32, plan_f32());
gemm!(
    f64,
    Plan {
        rows: 4,
        columns: 16,
        tile: tile_any::<f64, 4, 16>
    }
);
gemm!(
    i32,
    Plan {
        rows: 4,
        columns: 32,
        tile: tile_any::<i32, 4, 32>
    }
);

fn plan_f32() -> Plan<f32> {
    plan_f32_for(simd::level())
}

fn plan_f32_for(level: Level) -> Plan<f32> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::V4 => Plan {
            rows: 12,
            columns: 32,
            tile: gemm_x86::tile_v4,
        },
        #[cfg(target_arch = "x86_64")]
        Level::V3 => Plan {
            rows: 6,
            columns: 16,
            tile: gemm_x86::tile_v3,
        },
        _ => Plan {
            rows: 4,
            columns: 16,
            tile: tile_any::<f32, 4, 16>,
        },
    }
}

/// Private buffers of a task.
pub(super) struct Space<T> {
    a: Vec<T>,
    b: Vec<T>,
    out: Vec<T>,
    pitch: usize,
}

impl<T: Gemm> Space<T> {
    /// Takes this thread's buffers, or new ones.
    pub(super) fn take() -> Self {
        T::with_pool(Vec::pop).unwrap_or(Self {
            a: Vec::new(),
            b: Vec::new(),
            out: Vec::new(),
            pitch: 0,
        })
    }

    /// Leaves the buffers to the thread's next task.
    pub(super) fn give_back(self) {
        T::with_pool(|pool| {
            if pool.is_empty() {
                pool.push(self);
            }
        });
    }

    /// A row of the last product.
    pub(super) fn row(&mut self, row: usize, columns: usize) -> &mut [T] {
        &mut self.out[row * self.pitch..][..columns]
    }
}

/// Grows a buffer without caring for what is in it.
fn room<T: Default + Clone>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// Computes the product of two operands of some depth into `space`; read it with [`Space::row`].
pub(super) fn multiply<I: Source<T>, T: Gemm>(
    env: &dyn Env,
    a: &Operand<'_, '_>,
    b: &Operand<'_, '_>,
    depth: usize,
    space: &mut Space<T>,
) -> Result<(), Fault> {
    multiply_with::<I, T>(T::plan(), env, a, b, depth, space)
}

fn multiply_with<I: Source<T>, T: Gemm>(
    plan: Plan<T>,
    env: &dyn Env,
    a: &Operand<'_, '_>,
    b: &Operand<'_, '_>,
    depth: usize,
    space: &mut Space<T>,
) -> Result<(), Fault> {
    let pitch = round_up(b.lines, plan.columns);
    let rows = round_up(a.lines, plan.rows);
    space.pitch = pitch;
    let out = room(&mut space.out, rows * pitch);
    if depth == 0 {
        out.fill(T::default());
    }
    // A whole number of tiles.
    let rows_at_once = ROWS / plan.rows * plan.rows;
    let mut from = 0;
    while from < depth {
        let deep = (depth - from).min(DEPTH);
        let packed_b = room(&mut space.b, pitch * deep);
        pack::<I, T>(env, b, 0..b.lines, from, deep, plan.columns, packed_b)?;
        for start in (0..a.lines).step_by(rows_at_once) {
            let lines = start..a.lines.min(start + rows_at_once);
            let packed_rows = round_up(lines.len(), plan.rows);
            let packed_a = room(&mut space.a, packed_rows * deep);
            pack::<I, T>(env, a, lines, from, deep, plan.rows, packed_a)?;
            for (j, panel_b) in packed_b.chunks_exact(plan.columns * deep).enumerate() {
                for (i, panel_a) in packed_a.chunks_exact(plan.rows * deep).enumerate() {
                    let at = (start + i * plan.rows) * pitch + j * plan.columns;
                    (plan.tile)(panel_a, panel_b, &mut out[at..], pitch, from == 0);
                    env.check()?;
                }
            }
        }
        from += deep;
    }
    Ok(())
}

/// Copies lines into panels of `width`: panel, then depth, then line; missing lines are zero.
fn pack<I: Source<T>, T: Gemm>(
    env: &dyn Env,
    operand: &Operand<'_, '_>,
    lines: std::ops::Range<usize>,
    from: usize,
    deep: usize,
    width: usize,
    to: &mut [T],
) -> Result<(), Fault> {
    let mut buffer = [T::default(); TILE];
    let count = lines.len();
    let base = operand.offset + lines.start as isize * operand.line + from as isize * operand.depth;
    if !count.is_multiple_of(width) {
        let last = count / width * width * deep;
        to[last..].fill(T::default());
    }
    if operand.line.unsigned_abs() < operand.depth.unsigned_abs() {
        // Neighbouring lines are closest: load across them. `PART` keeps them below a tile.
        for k in 0..deep {
            let row = &mut buffer[..count];
            I::load(
                operand.view,
                base + k as isize * operand.depth,
                operand.line,
                row,
            );
            for (panel, values) in row.chunks(width).enumerate() {
                let at = (panel * deep + k) * width;
                to[at..at + values.len()].copy_from_slice(values);
            }
            if k % 64 == 0 {
                env.check()?;
            }
        }
    } else {
        for l in 0..count {
            let column = &mut buffer[..deep];
            I::load(
                operand.view,
                base + l as isize * operand.line,
                operand.depth,
                column,
            );
            let start = l / width * width * deep + l % width;
            for (slot, v) in to[start..].iter_mut().step_by(width).zip(column.iter()) {
                *slot = *v;
            }
            if l % 64 == 0 {
                env.check()?;
            }
        }
    }
    Ok(())
}

/// A register tile in plain code.
fn tile_any<T: Gemm, const R: usize, const C: usize>(
    a: &[T],
    b: &[T],
    out: &mut [T],
    pitch: usize,
    first: bool,
) {
    let mut acc = [[T::default(); C]; R];
    steps(a, b, &mut acc);
    for (i, row) in acc.iter().enumerate() {
        let to = &mut out[i * pitch..][..C];
        for (t, v) in to.iter_mut().zip(row) {
            *t = if first { *v } else { t.add(*v) };
        }
    }
}

/// A register tile's accumulators, whatever their number.
trait Accumulate<T> {
    fn step(&mut self, a: &[T], b: &[T]);
}

impl<T: Gemm, const R: usize, const C: usize> Accumulate<T> for [[T; C]; R] {
    #[inline(always)]
    fn step(&mut self, a: &[T], b: &[T]) {
        for (a, b) in a.chunks_exact(R).zip(b.chunks_exact(C)) {
            for i in 0..R {
                for j in 0..C {
                    self[i][j] = a[i].mul_add(b[j], self[i][j]);
                }
            }
        }
    }
}

multiversion! {
    fn steps<T: Number, A: Accumulate<T>>(a: &[T], b: &[T], acc: &mut A) {
        acc.step(a, b);
    }
}

const _: () = assert!(PART <= TILE && DEPTH <= TILE);

#[cfg(test)]
mod tests {
    use vmlu_abi::tensor::DataType::F32;
    use vmlu_ops::rule::Site;
    use vmlu_ops::tensor::{contiguous, Role, Tensor};

    use super::*;
    use crate::kernels::env::Access;
    use crate::kernels::testing::Arena;

    /// What a host with fewer instructions computes, this host can show as well.
    #[test]
    fn all_instruction_sets_give_the_same_bits() {
        let (m, n, k) = (29, 41, 1100);
        let mut arena = Arena::new(1 << 20);
        let noise = |count: usize| -> Vec<f32> {
            (0..count as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 22) as f32 - 2.0)
                .collect()
        };
        let (pa, pb) = (arena.put(&noise(m * k)), arena.put(&noise(k * n)));
        let open = |address, dims: [usize; 2]| {
            let desc = contiguous(F32, address, &dims.map(|d| d as u64));
            let tensor = Tensor::check(Site::new("test", 0, "x"), &desc, Role::Input).unwrap();
            View::open(&arena, 0, &tensor, Access::Read).unwrap()
        };
        let (a, b) = (open(pa, [m, k]), open(pb, [k, n]));
        let side = |view, line: usize, depth: usize, lines| Operand {
            view,
            offset: 0,
            line: line as isize,
            depth: depth as isize,
            lines,
        };
        let (a, b) = (side(&a, k, 1, m), side(&b, 1, n, n));
        let run = |level: Level| {
            let mut space = Space::take();
            multiply_with::<f32, f32>(plan_f32_for(level), &arena, &a, &b, k, &mut space).unwrap();
            let rows = (0..m).flat_map(|i| space.row(i, n).to_vec());
            rows.map(f32::to_bits).collect::<Vec<u32>>()
        };
        let plain = run(Level::Plain);
        let best = simd::level();
        if best != Level::Plain {
            assert!(run(Level::V3) == plain);
        }
        if best == Level::V4 {
            assert!(run(Level::V4) == plain);
        }
    }
}
