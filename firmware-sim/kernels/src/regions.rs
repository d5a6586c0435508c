//! What `roi_align` and its gradient share: regions, their points, and the elements that those are made of.

use vmlu_abi::Status;
use vmlu_ops::roi_align::{Look, MAX_SAMPLES};
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::floats::Float;
use super::math::Real;
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace};
use super::window::load_indices;

/// Which image each region lies on. The numbers stay in operand memory: all are checked before anything is written, and each is checked again when it
/// is used, on a private copy.
pub(super) struct Images<'v, 'a> {
    pub operator: &'static str,
    pub view: &'v View<'a>,
    pub tensor: &'v Tensor,
    pub images: u64,
}

impl Images<'_, '_> {
    /// Checks all.
    pub fn check(&self, env: &dyn Env) -> Result<(), Fault> {
        let regions = self.tensor.elements as usize;
        split(env, regions, 32 * TILE, |range| {
            let mut pace = Pace::new(env);
            for r in range {
                self.get(r)?;
                pace.did(1)?;
            }
            Ok(())
        })
    }

    /// That of a region.
    pub fn get(&self, region: usize) -> Result<usize, Fault> {
        let step = self.tensor.strides()[0] as isize;
        let mut number = [0];
        let offset = region as isize * step;
        load_indices(self.view, self.tensor.dtype, offset, 1, &mut number);
        if u64::try_from(number[0]).is_ok_and(|n| n < self.images) {
            return Ok(number[0] as usize);
        }
        let bytes = offset as i64 * self.tensor.dtype.size() as i64;
        Err(Fault::operand(
            Status::IndexOutOfRange,
            2,
            self.tensor.address.wrapping_add_signed(bytes),
            format!(
                "{}: images[{region}] is {}, but there are {} images",
                self.operator, number[0], self.images
            ),
        ))
    }
}

/// One axis of a region: where its bins begin, how long they are, and how many points they have.
#[derive(Clone, Copy)]
struct Side<T> {
    start: T,
    bin: T,
    points: usize,
    size: i64,
}

/// Elements along an axis that a point is made of, and their weights.
type Pair<T> = [(i64, T); 2];

impl<T: Real> Side<T> {
    /// `None` if the point is outside.
    fn pair(&self, bin: usize, point: usize) -> Option<Pair<T>> {
        let fraction = T::of(point as f64).add(T::of(0.5)).mul(self.bin);
        let at = self
            .start
            .add(T::of(bin as f64).mul(self.bin))
            .add(fraction.div(T::of(self.points as f64)));
        // Written so that NaN is outside too.
        if !(at >= T::of(-1.0) && at <= T::of(self.size as f64)) {
            return None;
        }
        let at = if at < T::default() { T::default() } else { at };
        let low = at.to_i64();
        if low >= self.size - 1 {
            return Some([(self.size - 1, T::ONE), (self.size - 1, T::default())]);
        }
        let far = at.sub(T::of(low as f64));
        Some([(low, T::ONE.sub(far)), (low + 1, far)])
    }
}

/// What a point is made of: rows, columns and weights of elements. `None` stands for one that is outside, which is 0.
pub(super) type Point<T> = [(usize, usize, T); 4];

/// A region.
pub(super) struct Region<T> {
    sides: [Side<T>; 2],
}

impl<T: Float> Region<T> {
    /// Loads a region, of which `bins` rows and columns are made of planes of `sizes`.
    pub fn load(
        look: &Look,
        view: &View<'_>,
        tensor: &Tensor,
        region: usize,
        bins: [usize; 2],
        sizes: [usize; 2],
    ) -> Self {
        let mut corners = [T::default(); 4];
        let [down, across] = [0, 1].map(|i| tensor.strides()[i] as isize);
        T::load(
            tensor.dtype,
            view,
            region as isize * down,
            across,
            &mut corners,
        );
        let shift = T::of(if look.align { 0.5 } else { 0.0 });
        let scale = T::of(look.scale);
        let side = |axis: usize| {
            // Left, top, right, bottom; rows come first here.
            let [start, end] =
                [corners[1 - axis], corners[3 - axis]].map(|c| c.mul(scale).sub(shift));
            let length = end.sub(start);
            let short = !look.align && length < T::ONE;
            let length = if short { T::ONE } else { length };
            let bin = length.div(T::of(bins[axis] as f64));
            let points = match look.samples {
                // Of NaN and what is negative there are none.
                0 => (bin.ceil().to_f64() as usize).min(MAX_SAMPLES as usize),
                n => n as usize,
            };
            Side {
                start,
                bin,
                points,
                size: sizes[axis] as i64,
            }
        };
        Self {
            sides: [side(0), side(1)],
        }
    }

    /// Points of a bin.
    pub fn points(&self) -> usize {
        self.sides[0].points * self.sides[1].points
    }

    /// Calls `each(row, column, weight)` for the elements of all points of a bin, in order.
    pub fn elements(
        &self,
        bin: [usize; 2],
        pace: &mut Pace<'_>,
        mut each: impl FnMut(usize, usize, T, &mut Pace<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.each_point(bin, pace, |point, pace| {
            let mut elements = point.into_iter().flatten();
            elements.try_for_each(|(row, column, weight)| each(row, column, weight, pace))
        })
    }

    /// Calls `each` for all points of a bin, in order.
    pub fn each_point(
        &self,
        bin: [usize; 2],
        pace: &mut Pace<'_>,
        mut each: impl FnMut(Option<Point<T>>, &mut Pace<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let [down, across] = &self.sides;
        for i in 0..down.points {
            let rows = down.pair(bin[0], i);
            for j in 0..across.points {
                pace.did(8)?;
                let point = match (rows, across.pair(bin[1], j)) {
                    (Some(rows), Some(columns)) => Some([0, 1, 2, 3].map(|n| {
                        let ((row, a), (column, b)) = (rows[n / 2], columns[n % 2]);
                        (row as usize, column as usize, a.mul(b))
                    })),
                    _ => None,
                };
                each(point, pace)?;
            }
        }
        Ok(())
    }
}
