//! Kernel of `vmlu_ops::roi_align_backward`: each plane of `dx` goes over all regions on its image.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::roi_align_backward::{Checked, RoiAlignBackward};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::regions::{Images, Region};
use super::resize::at;
use super::sampling::each_plane;
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<RoiAlignBackward>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let rois = View::open(env, 1, &op.rois, Access::Read)?;
    let images = View::open(env, 2, &op.images, Access::Read)?;
    let dx = View::output(env, 3, &op.dx)?;
    if op.dx.elements > 0 {
        let images = Images {
            operator: "roi_align_backward",
            view: &images,
            tensor: &op.images,
            images: op.dx.dims()[0],
        };
        images.check(env)?;
        with_compute!(op.dx.dtype, T => compute::<T>(&op, env, &dy, &rois, &images, &dx)?);
    }
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    dy: &View<'_>,
    rois: &View<'_>,
    images: &Images<'_, '_>,
    dx: &View<'_>,
) -> Result<(), Fault> {
    let (from, dtype) = (Geometry::strides(&op.dy), op.dy.dtype);
    let [regions, _, rows, columns] = [0, 1, 2, 3].map(|i| op.dy.dims()[i] as usize);
    let sizes = [2, 3].map(|i| op.dx.dims()[i] as usize);
    // Regions without bins have no part in anything, however many there are.
    let regions = if op.dy.elements == 0 { 0 } else { regions };
    each_plane::<T>(env, dx, &op.dx, |image, channel, band, pace| {
        let mut row = [T::default(); TILE];
        for r in 0..regions {
            pace.did(1)?;
            if images.get(r)? != image {
                continue;
            }
            let region = Region::<T>::load(&op.look, rois, &op.rois, r, [rows, columns], sizes);
            let points = T::from_count(region.points().max(1));
            for i in 0..rows {
                for start in (0..columns).step_by(TILE) {
                    let row = &mut row[..TILE.min(columns - start)];
                    let place = at(from, [r, channel, 0, i, start]);
                    T::load(dtype, dy, place, from[4], row);
                    for (j, v) in row.iter().enumerate() {
                        let v = v.div(points);
                        region.elements([i, start + j], pace, |down, across, weight, _| {
                            band.add((down * sizes[1] + across) as isize, weight.mul(v));
                            Ok(())
                        })?;
                    }
                }
            }
        }
        Ok(())
    })
}
