//! Kernel of `vmlu_ops::roi_align_backward`: each plane of `dx` goes over all regions on its image.

use vmlu_abi::tensor::DataType;
use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::roi_align::Function;
use vmlu_ops::roi_align_backward::{Checked, RoiAlignBackward};

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::regions::{Images, Point, Region};
use super::resize::at;
use super::sampling::each_plane;
use super::view::View;
use super::walk::Pace;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<RoiAlignBackward>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let rois = View::open(env, 1, &op.rois, Access::Read)?;
    let images = View::open(env, 2, &op.images, Access::Read)?;
    let dx = View::output(env, 3, &op.dx)?;
    let x = match &op.x {
        Some(tensor) => Some(View::open(env, 4, tensor, Access::Read)?),
        None => None,
    };
    if op.dx.elements > 0 {
        let images = Images {
            operator: "roi_align_backward",
            view: &images,
            tensor: &op.images,
            images: op.dx.dims()[0],
        };
        images.check(env)?;
        with_compute!(op.dx.dtype, T => {
            compute::<T>(&op, env, &dy, &rois, &images, &dx, x.as_ref())?
        });
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
    x: Option<&View<'_>>,
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
            let plane = op.x.as_ref().zip(x).map(|(tensor, view)| Plane {
                view,
                dtype,
                strides: Geometry::strides(tensor),
                image,
                channel,
            });
            for i in 0..rows {
                for start in (0..columns).step_by(TILE) {
                    let row = &mut row[..TILE.min(columns - start)];
                    let place = at(from, [r, channel, 0, i, start]);
                    T::load(dtype, dy, place, from[4], row);
                    for (j, v) in row.iter().enumerate() {
                        let bin = [i, start + j];
                        let mut add = |(down, across, weight): (usize, usize, T), v: T| {
                            band.add((down * sizes[1] + across) as isize, weight.mul(v));
                        };
                        let Some(plane) = &plane else {
                            let v = v.div(points);
                            region.elements(bin, pace, |down, across, weight, _| {
                                add((down, across, weight), v);
                                Ok(())
                            })?;
                            continue;
                        };
                        match op.function {
                            Function::Max => {
                                let element = plane.largest_element(&region, bin, pace)?;
                                element.into_iter().for_each(|e| add(e, *v));
                            }
                            _ => {
                                let point = plane.largest_point(&region, bin, pace)?;
                                point.into_iter().flatten().for_each(|e| add(e, *v));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    })
}

/// A plane of the input.
struct Plane<'p, 'a> {
    view: &'p View<'a>,
    dtype: DataType,
    strides: [isize; 5],
    image: usize,
    channel: usize,
}

/// Whether `value` takes the place of the largest so far: NaN does, and nothing takes that of NaN.
fn wins<T: Float>(value: T, most: Option<T>) -> bool {
    most.is_none_or(|most| value > most || (value.is_nan() && !most.is_nan()))
}

impl Plane<'_, '_> {
    /// An element by its weight.
    fn weighed<T: Float>(&self, (down, across, weight): (usize, usize, T)) -> T {
        let mut one = [T::default()];
        let place = at(self.strides, [self.image, self.channel, 0, down, across]);
        T::load(self.dtype, self.view, place, 1, &mut one);
        weight.mul(one[0])
    }

    /// The weighed element of a bin that is the largest; `None` if a point outside is.
    fn largest_element<T: Float>(
        &self,
        region: &Region<T>,
        bin: [usize; 2],
        pace: &mut Pace<'_>,
    ) -> Result<Option<(usize, usize, T)>, Fault> {
        let (mut most, mut found) = (None, None);
        region.each_point(bin, pace, |point, _| {
            let Some(point) = point else {
                if wins(T::default(), most) {
                    (most, found) = (Some(T::default()), None);
                }
                return Ok(());
            };
            for element in point {
                let value = self.weighed(element);
                if wins(value, most) {
                    (most, found) = (Some(value), Some(element));
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The point of a bin that is the largest; `None` if one outside is.
    fn largest_point<T: Float>(
        &self,
        region: &Region<T>,
        bin: [usize; 2],
        pace: &mut Pace<'_>,
    ) -> Result<Option<Point<T>>, Fault> {
        let (mut most, mut found) = (None, None);
        region.each_point(bin, pace, |point, _| {
            let terms = point.iter().flatten().map(|e| self.weighed(*e));
            let value = terms.reduce(|a, b| a.add(b)).unwrap_or_default();
            if wins(value, most) {
                (most, found) = (Some(value), point);
            }
            Ok(())
        })?;
        Ok(found)
    }
}
