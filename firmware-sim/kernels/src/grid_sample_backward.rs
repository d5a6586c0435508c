//! Kernel of `vmlu_ops::grid_sample_backward`.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::grid_sample_backward::{Checked, GridSampleBackward};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::resize::at;
use super::sampling::{dot, each_plane, plane, Places, Weighed};
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<GridSampleBackward>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let x = View::open(env, 1, &op.x, Access::Read)?;
    let grid = View::open(env, 2, &op.grid, Access::Read)?;
    let dx = match &op.dx {
        Some(t) => Some(View::output(env, 3, t)?),
        None => None,
    };
    let dgrid = match &op.dgrid {
        Some(t) => Some(View::output(env, 4, t)?),
        None => None,
    };
    let job = Job {
        op: &op,
        env,
        dy: &dy,
        x: &x,
        places: Places::new(&grid, &op.grid, &op.look, &op.x),
        from: Geometry::strides(&op.dy),
    };
    with_compute!(op.x.dtype, T => {
        if let Some(dx) = &dx {
            job.of_input::<T>(dx)?;
        }
        if let Some(dgrid) = &dgrid {
            job.of_grid::<T>(dgrid)?;
        }
    });
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    dy: &'j View<'a>,
    x: &'j View<'a>,
    places: Places<'j, 'a>,
    from: [isize; 5],
}

impl Job<'_, '_> {
    fn of_input<T: Float>(&self, dx: &View<'_>) -> Result<(), Fault> {
        let Some(tensor) = &self.op.dx else {
            return Ok(());
        };
        let [_, _, high, wide] = plane(tensor);
        let strides = [(high * wide) as isize, wide as isize, 1];
        let ([_, d, h, w], dtype) = (plane(&self.op.dy), self.op.dy.dtype);
        // Rows without elements have no part in anything, however many there are.
        let rows = if w == 0 { 0 } else { d * h };
        each_plane::<T>(self.env, dx, tensor, |image, channel, band, pace| {
            let mut weighed = Weighed::default();
            let mut row = [T::default(); TILE];
            for index in 0..rows {
                let (i, j) = (index / h, index % h);
                for start in (0..w).step_by(TILE) {
                    let row = &mut row[..TILE.min(w - start)];
                    let from = at(self.from, [image, channel, i, j, start]);
                    T::load(dtype, self.dy, from, self.from[4], row);
                    for (k, v) in row.iter().enumerate() {
                        let taps = self.places.taps::<T>([image, i, j, start + k]);
                        weighed.gather(&taps, strides, false);
                        for (position, weight) in &weighed.all {
                            band.add(*position, weight.mul(*v));
                        }
                        pace.did(32 + weighed.all.len())?;
                    }
                }
            }
            Ok(())
        })
    }

    fn of_grid<T: Float>(&self, dgrid: &View<'_>) -> Result<(), Fault> {
        let Some(tensor) = &self.op.dgrid else {
            return Ok(());
        };
        if tensor.elements == 0 {
            return Ok(());
        }
        let to = Places::new(dgrid, tensor, &self.op.look, &self.op.x);
        let ([channels, d, h, w], dtype) = (plane(&self.op.dy), self.op.dy.dtype);
        let (inner, spatial) = (Geometry::strides(&self.op.x), self.op.look.spatial);
        let each = channels.saturating_mul(self.op.look.taps() as usize) + 32;
        let grain = (16 * TILE / each.min(16 * TILE)).max(1);
        let images = self.op.dy.dims()[0] as usize;
        split(self.env, images * d * h * w, grain, |range| {
            let mut pace = Pace::new(self.env);
            let mut weighed = Weighed::default();
            let (mut row, mut other) = ([T::default(); TILE], [T::default(); TILE]);
            let mut dots = Vec::new();
            for index in range {
                let place = [
                    index / (d * h * w),
                    index / (h * w) % d,
                    index / w % h,
                    index % w,
                ];
                let [image, i, j, k] = place;
                let taps = self.places.taps::<T>(place);
                weighed.gather(&taps, [inner[2], inner[3], inner[4]], true);
                pace.did(64)?;
                dots.clear();
                dots.resize(weighed.all.len(), T::default());
                for channel in (0..channels).step_by(TILE) {
                    let n = TILE.min(channels - channel);
                    let (row, other) = (&mut row[..n], &mut other[..n]);
                    let from = at(self.from, [image, channel, i, j, k]);
                    T::load(dtype, self.dy, from, self.from[1], row);
                    let base = at(inner, [image, channel, 0, 0, 0]);
                    for ((offset, _), total) in weighed.all.iter().zip(&mut dots) {
                        T::load(dtype, self.x, base + offset, inner[1], other);
                        dot(row, other, total);
                        pace.did(2 * n)?;
                    }
                }
                let mut sums = [T::default(); 3];
                for (slopes, total) in weighed.slopes.iter().zip(&dots) {
                    for (number, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add(slopes[2 - number].mul(*total));
                    }
                }
                T::store(dtype, dgrid, to.at(place), to.step(), &sums[..spatial]);
            }
            Ok(())
        })
    }
}
