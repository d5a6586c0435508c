//! Kernel of `vmlu_ops::roi_align`. Rows go along the channels, which share their points.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::roi_align::{Checked, Function, RoiAlign};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::regions::{Images, Region};
use super::resize::{at, join};
use super::sampling::largest_weighed;
use super::view::View;
use super::walk::{split, Pace};
use super::window::divide_by;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<RoiAlign>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let rois = View::open(env, 1, &op.rois, Access::Read)?;
    let images = View::open(env, 2, &op.images, Access::Read)?;
    let out = View::output(env, 3, &op.out)?;
    if op.out.elements > 0 {
        let images = Images {
            operator: "roi_align",
            view: &images,
            tensor: &op.images,
            images: op.x.dims()[0],
        };
        images.check(env)?;
        with_compute!(op.x.dtype, T => compute::<T>(&op, env, &x, &rois, &images, &out)?);
    }
    Ok(op.cost().into())
}

fn compute<T: Float>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    rois: &View<'_>,
    images: &Images<'_, '_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let (from, to, dtype) = (
        Geometry::strides(&op.x),
        Geometry::strides(&op.out),
        op.x.dtype,
    );
    let [regions, channels, rows, columns] = [0, 1, 2, 3].map(|i| op.out.dims()[i] as usize);
    let sizes = [2, 3].map(|i| op.x.dims()[i] as usize);
    let grain = (4 * TILE / channels.clamp(1, 4 * TILE)).max(1);
    split(env, regions * rows * columns, grain, |range| {
        let mut pace = Pace::new(env);
        let mut tiles = [[T::default(); TILE]; 3];
        for index in range {
            let (r, bin) = (
                index / (rows * columns),
                [index / columns % rows, index % columns],
            );
            let image = images.get(r)?;
            let region = Region::<T>::load(&op.look, rois, &op.rois, r, [rows, columns], sizes);
            let points = region.points();
            for channel in (0..channels).step_by(TILE) {
                let n = TILE.min(channels - channel);
                let [row, point, acc] = tiles.each_mut().map(|r| &mut r[..n]);
                acc.fill(T::default());
                let mut first = true;
                let load = |i, j, row: &mut [T], pace: &mut Pace<'_>| {
                    let place = at(from, [image, channel, 0, i, j]);
                    T::load(dtype, x, place, from[1], row);
                    pace.did(n)
                };
                if op.function == Function::Average {
                    region.elements(bin, &mut pace, |i, j, weight, pace| {
                        load(i, j, row, pace)?;
                        join(acc, row, weight, &mut first);
                        Ok(())
                    })?;
                    if points > 0 {
                        divide_by(acc, T::from_count(points));
                    }
                } else {
                    region.each_point(bin, &mut pace, |elements, pace| {
                        point.fill(T::default());
                        let mut begin = true;
                        for (i, j, weight) in elements.into_iter().flatten() {
                            load(i, j, row, pace)?;
                            if op.function == Function::Max && !begin {
                                largest_weighed(point, row, weight);
                            } else {
                                join(point, row, weight, &mut begin);
                            }
                        }
                        if std::mem::take(&mut first) {
                            acc.copy_from_slice(point);
                        } else {
                            largest_weighed(acc, point, T::ONE);
                        }
                        Ok(())
                    })?;
                }
                let place = [r, channel, 0, bin[0], bin[1]];
                T::store(dtype, out, at(to, place), to[1], acc);
            }
            pace.did(16)?;
        }
        Ok(())
    })
}
