//! What operators that look between elements share: the elements along an axis that a place is made of, and gradients of planes.

use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::grid_sample::{Function, Look, Padding};
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::floats::Float;
use super::math::Real;
use super::number::TILE;
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace};

/// Places are kept within this, so that whole numbers of them fit.
const FAR: f64 = (1u64 << 33) as f64;

/// Keys' coefficient.
const KEYS: f64 = -0.75;

/// The elements along an axis that a place is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps<T> {
    /// How many.
    pub count: usize,
    /// Their positions, negative for those outside that are 0.
    pub index: [i64; 4],
    /// Their weights.
    pub weight: [T; 4],
    /// How those change with the number of the grid.
    pub slope: [T; 4],
}

impl<T: Real> Taps<T> {
    /// An axis that is not there.
    pub fn none() -> Self {
        Self::one(0)
    }

    /// One element.
    fn one(index: i64) -> Self {
        let zero = T::default();
        Self {
            count: 1,
            index: [index, -1, -1, -1],
            weight: [T::ONE, zero, zero, zero],
            slope: [zero; 4],
        }
    }

    /// Those of a place on the grid.
    pub fn of(look: &Look, size: i64, grid: T) -> Self {
        let (n, one, half) = (T::of(size as f64), T::ONE, T::of(0.5));
        let grid = if grid.is_nan() { T::of(-FAR) } else { grid };
        let (at, factor) = if look.align {
            let last = n.sub(one);
            (grid.add(one).mul(half).mul(last), last.mul(half))
        } else {
            (grid.add(one).mul(n).sub(one).mul(half), n.mul(half))
        };
        let at = clamp(at, T::of(-FAR), T::of(FAR));
        let inside = |p: T| {
            let p = p.to_i64();
            if (0..size).contains(&p) {
                p
            } else {
                -1
            }
        };
        if look.function == Function::Cubic {
            let floor = at.floor();
            let t = at.sub(floor);
            let (weight, slope) = cubic(t);
            let index = std::array::from_fn(|k| {
                inside(padded(look, n, floor.add(T::of(k as f64 - 1.0))).0)
            });
            return Self {
                count: 4,
                index,
                weight,
                slope: slope.map(|s| s.mul(factor)),
            };
        }
        let (at, sign) = padded(look, n, at);
        if look.function == Function::Nearest {
            return Self::one(inside(at.round()));
        }
        let (floor, zero) = (at.floor(), T::default());
        let t = at.sub(floor);
        let slope = factor.mul(sign);
        Self {
            count: 2,
            index: [inside(floor), inside(floor.add(one)), -1, -1],
            weight: [one.sub(t), t, zero, zero],
            slope: [slope.neg(), slope, zero, zero],
        }
    }
}

fn clamp<T: Real>(v: T, low: T, high: T) -> T {
    if v < low {
        low
    } else if v > high {
        high
    } else {
        v
    }
}

/// Weights of Keys' kernel at a fraction, and their slopes.
fn cubic<T: Real>(t: T) -> ([T; 4], [T; 4]) {
    let c = |v: f64| T::of(v);
    let near = |x: T| {
        c(KEYS + 2.0)
            .mul(x)
            .sub(c(KEYS + 3.0))
            .mul(x)
            .mul(x)
            .add(T::ONE)
    };
    let far = |x: T| {
        let inner = c(KEYS).mul(x).sub(c(5.0 * KEYS)).mul(x).add(c(8.0 * KEYS));
        inner.mul(x).sub(c(4.0 * KEYS))
    };
    let near_slope = |x: T| {
        c(3.0 * (KEYS + 2.0))
            .mul(x)
            .sub(c(2.0 * (KEYS + 3.0)))
            .mul(x)
    };
    let far_slope = |x: T| {
        c(3.0 * KEYS)
            .mul(x)
            .sub(c(10.0 * KEYS))
            .mul(x)
            .add(c(8.0 * KEYS))
    };
    let (one, two) = (T::ONE, c(2.0));
    (
        [far(t.add(one)), near(t), near(one.sub(t)), far(two.sub(t))],
        [
            far_slope(t.add(one)),
            near_slope(t),
            near_slope(one.sub(t)).neg(),
            far_slope(two.sub(t)).neg(),
        ],
    )
}

/// Where the padding moves a place to, and how that changes with it.
fn padded<T: Real>(look: &Look, n: T, at: T) -> (T, T) {
    let (zero, one) = (T::default(), T::ONE);
    let (at, sign) = match look.padding {
        Padding::Zeros => return (at, one),
        Padding::Border => (at, one),
        Padding::Reflection => {
            let (low, span) = if look.align {
                (zero, n.sub(one))
            } else {
                (T::of(-0.5), n)
            };
            if span == zero {
                return (zero, zero);
            }
            let far = at.sub(low);
            let sign = if far < zero { one.neg() } else { one };
            let far = far.abs();
            let mut extra = [far];
            T::fmod_all(&mut extra, &[span]);
            if far.div(span).floor().to_i64() & 1 == 0 {
                (extra[0].add(low), sign)
            } else {
                (span.sub(extra[0]).add(low), sign.neg())
            }
        }
    };
    let last = n.sub(one);
    if at <= zero {
        (zero, zero)
    } else if at >= last {
        (last, zero)
    } else {
        (at, sign)
    }
}

/// Elements of a plane, or of something else with three axes, that a place is made of.
#[derive(Default)]
pub(super) struct Weighed<T> {
    /// Where each lies, and its weight.
    pub all: Vec<(isize, T)>,
    /// How the weights change with each axis, if that was asked for.
    pub slopes: Vec<[T; 3]>,
}

impl<T: Real> Weighed<T> {
    /// Those of a place, at distances along the axes.
    pub fn gather(&mut self, taps: &[Taps<T>; 3], strides: [isize; 3], slopes: bool) {
        self.all.clear();
        self.slopes.clear();
        let [a, b, c] = taps;
        let there = |t: &Taps<T>| (0..t.count).filter(|i| t.index[*i] >= 0).collect::<Few>();
        let (first, second, third) = (there(a), there(b), there(c));
        for &i in first.as_slice() {
            for &j in second.as_slice() {
                let outer = a.weight[i].mul(b.weight[j]);
                let from = a.index[i] as isize * strides[0] + b.index[j] as isize * strides[1];
                for &k in third.as_slice() {
                    let at = from + c.index[k] as isize * strides[2];
                    self.all.push((at, outer.mul(c.weight[k])));
                    if slopes {
                        self.slopes.push([
                            a.slope[i].mul(b.weight[j]).mul(c.weight[k]),
                            a.weight[i].mul(b.slope[j]).mul(c.weight[k]),
                            outer.mul(c.slope[k]),
                        ]);
                    }
                }
            }
        }
    }
}

/// At most four numbers.
#[derive(Default)]
struct Few([usize; 4], usize);

impl Few {
    fn as_slice(&self) -> &[usize] {
        &self.0[..self.1]
    }
}

impl FromIterator<usize> for Few {
    fn from_iter<I: IntoIterator<Item = usize>>(all: I) -> Self {
        let mut few = Self::default();
        for v in all.into_iter().take(4) {
            few.0[few.1] = v;
            few.1 += 1;
        }
        few
    }
}

/// A grid of places: their numbers, loaded a row at a time.
pub(super) struct Places<'p, 'a> {
    view: &'p View<'a>,
    tensor: &'p Tensor,
    look: &'p Look,
    /// Along images, three axes, and the numbers of a place.
    strides: [isize; 5],
    /// Extents of what is looked at.
    sizes: [i64; 3],
}

impl<'p, 'a> Places<'p, 'a> {
    /// The places of a grid on tensors of the shape of `x`.
    pub fn new(view: &'p View<'a>, tensor: &'p Tensor, look: &'p Look, x: &Tensor) -> Self {
        let (given, n) = (tensor.strides(), look.spatial);
        let mut strides = [0; 5];
        let mut sizes = [1; 3];
        strides[0] = given[0] as isize;
        strides[4] = given[1 + n] as isize;
        for i in 0..n {
            strides[4 - n + i] = given[1 + i] as isize;
            sizes[3 - n + i] = x.dims()[2 + i] as i64;
        }
        Self {
            view,
            tensor,
            look,
            strides,
            sizes,
        }
    }

    /// Where the numbers of a place lie.
    pub fn at(&self, [image, d, h, w]: [usize; 4]) -> isize {
        [image, d, h, w]
            .iter()
            .zip(&self.strides)
            .map(|(i, s)| *i as isize * s)
            .sum()
    }

    /// Distance of the numbers of a place.
    pub fn step(&self) -> isize {
        self.strides[4]
    }

    /// The taps of a place.
    pub fn taps<T: Float>(&self, place: [usize; 4]) -> [Taps<T>; 3] {
        let mut numbers = [T::default(); 3];
        let n = self.look.spatial;
        let (dtype, from) = (self.tensor.dtype, self.at(place));
        T::load(dtype, self.view, from, self.strides[4], &mut numbers[..n]);
        std::array::from_fn(|axis| {
            // The last axis has the first number.
            let number = 2 - axis;
            if number < n {
                Taps::of(self.look, self.sizes[axis], numbers[number])
            } else {
                Taps::none()
            }
        })
    }
}

multiversion! {
    /// `total += a · b`, in order.
    pub(super) fn dot<T: Float>(a: &[T], b: &[T], total: &mut T) {
        for (a, b) in a.iter().zip(b) {
            *total = total.add(a.mul(*b));
        }
    }

    /// The larger of each element and `weight · row`.
    pub(super) fn largest_weighed<T: Float>(acc: &mut [T], row: &[T], weight: T) {
        for (a, v) in acc.iter_mut().zip(row) {
            *a = a.max(weight.mul(*v));
        }
    }
}

/// Most elements of a plane that are summed at once.
const BAND: usize = 1 << 20;

/// Part of a plane, in private memory: what does not fall into it is left to other parts.
pub(super) struct Band<T> {
    first: usize,
    values: Vec<T>,
}

impl<T: Float> Band<T> {
    /// Adds to an element, which is counted in row-major order.
    #[inline]
    pub fn add(&mut self, position: isize, value: T) {
        let at = (position as usize).wrapping_sub(self.first);
        if let Some(v) = self.values.get_mut(at) {
            *v = v.add(value);
        }
    }
}

/// Makes a gradient `[images, channels, …]` plane by plane: `sum(image, channel, band)` adds all that there is to each, in order.
pub(super) fn each_plane<T: Float>(
    env: &dyn Env,
    view: &View<'_>,
    tensor: &Tensor,
    sum: impl Fn(usize, usize, &mut Band<T>, &mut Pace<'_>) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    if tensor.elements == 0 {
        return Ok(());
    }
    let strides = Geometry::strides(tensor);
    let [channels, d, h, w] = plane(tensor);
    let size = d * h * w;
    let bands = size.div_ceil(BAND);
    let planes = tensor.dims()[0] as usize * channels;
    split(env, planes * bands, 1, |range| {
        let mut pace = Pace::new(env);
        let mut band = Band {
            first: 0,
            values: Vec::new(),
        };
        for index in range {
            let (number, first) = (index / bands, index % bands * BAND);
            let (image, channel) = (number / channels, number % channels);
            band.first = first;
            band.values.clear();
            band.values.resize(BAND.min(size - first), T::default());
            sum(image, channel, &mut band, &mut pace)?;
            let mut at = 0;
            while at < band.values.len() {
                let position = first + at;
                let column = position % w;
                let n = TILE.min(w - column).min(band.values.len() - at);
                let place = [image, channel, position / (h * w), position / w % h, column];
                let to = super::resize::at(strides, place);
                T::store(tensor.dtype, view, to, strides[4], &band.values[at..at + n]);
                at += n;
                pace.did(n)?;
            }
        }
        Ok(())
    })
}

/// Channels and extents of three axes.
pub(super) fn plane(tensor: &Tensor) -> [usize; 4] {
    let mut sizes = [tensor.dims()[1] as usize, 1, 1, 1];
    let spatial = &tensor.dims()[2..];
    for (i, d) in spatial.iter().enumerate() {
        sizes[4 - spatial.len() + i] = *d as usize;
    }
    sizes
}
