//! Kernel of `vmlu_ops::affine_grid`.

use vmlu_ops::affine_grid::{AffineGrid, Checked};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<AffineGrid>(body)?;
    let theta = View::open(env, 0, &op.theta, Access::Read)?;
    let grid = View::output(env, 1, &op.grid)?;
    if op.grid.elements > 0 {
        with_compute!(op.grid.dtype, T => compute::<T>(&op, env, &theta, &grid)?);
    }
    Ok(op.cost().into())
}

/// The place of a position along an axis.
fn place(align: bool, i: usize, n: usize) -> f64 {
    let i = i as f64;
    match (align, n) {
        (true, 1) => 0.0,
        (true, n) => 2.0 * i / (n as f64 - 1.0) - 1.0,
        (false, n) => (2.0 * i + 1.0) / n as f64 - 1.0,
    }
}

multiversion! {
    /// `row = factor · row`, then the rest of a line.
    fn line<T: Float>(row: &mut [T], factor: T, rest: &[T]) {
        for v in row.iter_mut() {
            let mut sum = factor.mul(*v);
            for r in rest {
                sum = sum.add(*r);
            }
            *v = sum;
        }
    }
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    theta: &View<'_>,
    grid: &View<'_>,
) -> Result<(), Fault> {
    let (spatial, dtype) = (op.spatial, op.grid.dtype);
    let dims = &op.grid.dims()[1..=spatial];
    let width = dims[spatial - 1] as usize;
    let pieces = width.div_ceil(TILE);
    let outer: usize = dims[..spatial - 1].iter().map(|d| *d as usize).product();
    let images = op.grid.dims()[0] as usize;
    let (from, to) = (op.theta.strides(), op.grid.strides());
    let grain = 16 * TILE / width.clamp(1, TILE);
    split(env, images * outer * pieces, grain, |range| {
        let mut pace = Pace::new(env);
        let mut row = [T::default(); TILE];
        for index in range {
            let (line_number, start) = (index / pieces, index % pieces * TILE);
            let (image, mut rest) = (line_number / outer, line_number % outer);
            let n = TILE.min(width - start);
            let mut offset =
                image as isize * to[0] as isize + start as isize * to[spatial] as isize;
            // Places of the other axes, the last but one first.
            let mut others = [T::default(); 2];
            for axis in (0..spatial - 1).rev() {
                let size = dims[axis] as usize;
                others[spatial - 2 - axis] = T::of(place(op.align, rest % size, size));
                offset += (rest % size) as isize * to[1 + axis] as isize;
                rest /= size;
            }
            for component in 0..spatial {
                let mut factors = [T::default(); 4];
                let at = image as isize * from[0] as isize + component as isize * from[1] as isize;
                let factors = &mut factors[..=spatial];
                T::load(dtype, theta, at, from[2] as isize, factors);
                let row = &mut row[..n];
                for (i, v) in row.iter_mut().enumerate() {
                    *v = T::of(place(op.align, start + i, width));
                }
                let mut terms = [T::default(); 3];
                for axis in 1..spatial {
                    terms[axis - 1] = factors[axis].mul(others[axis - 1]);
                }
                terms[spatial - 1] = factors[spatial];
                line(row, factors[0], &terms[..spatial]);
                let to_component = offset + component as isize * to[1 + spatial] as isize;
                T::store(dtype, grid, to_component, to[spatial] as isize, row);
                pace.did(4 * n)?;
            }
        }
        Ok(())
    })
}
