//! What [`super::folding`] can fold into: sums, products, extremes, tests, moments and sums of exponentials.

use std::marker::PhantomData;

use super::folding::Reducer;
use super::math::Real;
use super::number::Number;
use super::simd::multiversion;

/// Interleaved chains of a tile's fold: enough for the host's vectors.
const LANES: usize = 32;

multiversion! {
    /// Folds a tile in interleaved chains, which are then folded in order, and the rest behind them.
    fn lanes<A: Copy, T: Copy, F: Fn(A, T) -> A, G: Fn(A, A) -> A>(acc: &mut A, tile: &[T], identity: A, f: F, join: G) {
        // Arrays of fixed size, which stay in registers.
        let (chunks, rest) = tile.as_chunks::<LANES>();
        let mut total = *acc;
        if !chunks.is_empty() {
            let mut lanes = [identity; LANES];
            for chunk in chunks {
                for i in 0..LANES {
                    lanes[i] = f(lanes[i], chunk[i]);
                }
            }
            for l in lanes {
                total = join(total, l);
            }
        }
        for v in rest {
            total = f(total, *v);
        }
        *acc = total;
    }

    fn each<A: Copy, T: Copy, F: Fn(A, T) -> A>(acc: &mut [A], tile: &[T], f: F) {
        for (a, v) in acc.iter_mut().zip(tile) {
            *a = f(*a, *v);
        }
    }
}

/// What is added of an element.
#[derive(Clone, Copy, Debug)]
pub enum Term {
    /// Itself.
    Plain,
    /// Its magnitude.
    Magnitude,
    /// Its square.
    Square,
    /// A power of its magnitude.
    Power(f64),
    /// Itself if it is not NaN.
    Number,
}

/// A sum of floats, in f64.
pub struct Sum<T> {
    term: Term,
    of: PhantomData<fn(T)>,
}

impl<T> Sum<T> {
    /// A sum of such terms.
    pub fn new(term: Term) -> Self {
        Self {
            term,
            of: PhantomData,
        }
    }
}

/// A sum of whole numbers, wrapping, or of floats, in f64.
pub struct Total<T>(pub PhantomData<fn(T)>);

impl<T: Number> Reducer for Total<T> {
    type Value = T;
    type Acc = T::Sum;

    fn identity(&self) -> T::Sum {
        T::Sum::default()
    }
    fn tile(&self, acc: &mut T::Sum, tile: &[T]) {
        let f = |a: T::Sum, v: T| a.add(v.to_sum());
        lanes(acc, tile, T::Sum::default(), f, T::Sum::add);
    }
    fn columns(&self, acc: &mut [T::Sum], tile: &[T]) {
        each(acc, tile, |a: T::Sum, v: T| a.add(v.to_sum()));
    }
    fn merge(&self, a: T::Sum, b: T::Sum) -> T::Sum {
        a.add(b)
    }
}

/// How many elements are not 0.
pub struct Count<T>(pub PhantomData<fn(T)>);

impl<T: Number> Reducer for Count<T> {
    type Value = T;
    type Acc = i64;

    fn identity(&self) -> i64 {
        0
    }
    fn tile(&self, acc: &mut i64, tile: &[T]) {
        let zero = T::default();
        let f = |a: i64, v: T| a + i64::from(v != zero);
        lanes(acc, tile, 0, f, |a, b| a + b);
    }
    fn columns(&self, acc: &mut [i64], tile: &[T]) {
        let zero = T::default();
        each(acc, tile, |a: i64, v: T| a + i64::from(v != zero));
    }
    fn merge(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

macro_rules! by_term {
    ($self:ident, $T:ident, $f:ident, $($arguments:expr),* ; $($behind:expr),*) => {{
        type S<T> = <T as Number>::Sum;
        match $self.term {
            Term::Plain => $f($($arguments,)* |a: S<$T>, v: $T| a.add(v.to_sum()) $(, $behind)*),
            Term::Magnitude => $f($($arguments,)* |a: S<$T>, v: $T| a.add(v.abs().to_sum()) $(, $behind)*),
            Term::Square => $f($($arguments,)* |a: S<$T>, v: $T| a.add(v.to_sum().mul(v.to_sum())) $(, $behind)*),
            Term::Power(p) => $f($($arguments,)* |a: S<$T>, v: $T| a.add(power::<$T>(v, p)) $(, $behind)*),
            Term::Number => $f($($arguments,)* |a: S<$T>, v: $T| a.add(if v.is_nan() { S::<$T>::default() } else { v.to_sum() }) $(, $behind)*),
        }
    }};
}

fn power<T: Number>(value: T, exponent: f64) -> T::Sum {
    // Floats only, whose sums are f64.
    let wide: f64 = value.abs().to_sum().to_f64();
    T::Sum::from_scalar(libm::pow(wide, exponent))
}

impl<T: Real> Reducer for Sum<T> {
    type Value = T;
    type Acc = T::Sum;

    fn identity(&self) -> T::Sum {
        T::Sum::default()
    }
    fn tile(&self, acc: &mut T::Sum, tile: &[T]) {
        by_term!(self, T, lanes, acc, tile, T::Sum::default(); T::Sum::add);
    }
    fn columns(&self, acc: &mut [T::Sum], tile: &[T]) {
        by_term!(self, T, each, acc, tile;);
    }
    fn merge(&self, a: T::Sum, b: T::Sum) -> T::Sum {
        a.add(b)
    }
}

/// A product, in f64 or wrapping.
pub struct Product<T>(pub PhantomData<fn(T)>);

impl<T: Number> Reducer for Product<T> {
    type Value = T;
    type Acc = T::Sum;

    fn identity(&self) -> T::Sum {
        T::Sum::ONE
    }
    fn tile(&self, acc: &mut T::Sum, tile: &[T]) {
        let f = |a: T::Sum, v: T| a.mul(v.to_sum());
        lanes(acc, tile, T::Sum::ONE, f, T::Sum::mul);
    }
    fn columns(&self, acc: &mut [T::Sum], tile: &[T]) {
        each(acc, tile, |a: T::Sum, v: T| a.mul(v.to_sum()));
    }
    fn merge(&self, a: T::Sum, b: T::Sum) -> T::Sum {
        a.mul(b)
    }
}

/// The largest or smallest element or magnitude; NaN if one is.
pub struct Extreme<T> {
    /// Whether the largest.
    pub largest: bool,
    /// Whether of magnitudes.
    pub magnitude: bool,
    /// The element type.
    pub of: PhantomData<fn(T)>,
}

impl<T> Extreme<T> {
    /// The largest element.
    pub fn largest() -> Self {
        Self {
            largest: true,
            magnitude: false,
            of: PhantomData,
        }
    }
}

impl<T: Number> Reducer for Extreme<T> {
    type Value = T;
    type Acc = T;

    fn identity(&self) -> T {
        if self.largest {
            T::LOWEST
        } else {
            T::HIGHEST
        }
    }
    fn tile(&self, acc: &mut T, tile: &[T]) {
        let identity = self.identity();
        match (self.largest, self.magnitude) {
            (true, false) => lanes(acc, tile, identity, <T as Number>::max, <T as Number>::max),
            (false, false) => lanes(acc, tile, identity, <T as Number>::min, <T as Number>::min),
            (true, true) => lanes(
                acc,
                tile,
                identity,
                |a: T, v: T| Number::max(a, v.abs()),
                <T as Number>::max,
            ),
            (false, true) => lanes(
                acc,
                tile,
                identity,
                |a: T, v: T| Number::min(a, v.abs()),
                <T as Number>::min,
            ),
        }
    }
    fn columns(&self, acc: &mut [T], tile: &[T]) {
        match (self.largest, self.magnitude) {
            (true, false) => each(acc, tile, <T as Number>::max),
            (false, false) => each(acc, tile, <T as Number>::min),
            (true, true) => each(acc, tile, |a: T, v: T| Number::max(a, v.abs())),
            (false, true) => each(acc, tile, |a: T, v: T| Number::min(a, v.abs())),
        }
    }
    fn merge(&self, a: T, b: T) -> T {
        if self.largest {
            Number::max(a, b)
        } else {
            Number::min(a, b)
        }
    }
}

/// Whether any or every element is not 0.
pub struct Test<T> {
    /// Whether every.
    pub all: bool,
    /// The element type.
    pub of: PhantomData<fn(T)>,
}

impl<T: Number> Reducer for Test<T> {
    type Value = T;
    type Acc = u8;

    fn identity(&self) -> u8 {
        u8::from(self.all)
    }
    fn tile(&self, acc: &mut u8, tile: &[T]) {
        let zero = T::default();
        if self.all {
            lanes(
                acc,
                tile,
                1,
                |a: u8, v: T| a & u8::from(v != zero),
                |a, b| a & b,
            );
        } else {
            lanes(
                acc,
                tile,
                0,
                |a: u8, v: T| a | u8::from(v != zero),
                |a, b| a | b,
            );
        }
    }
    fn columns(&self, acc: &mut [u8], tile: &[T]) {
        let zero = T::default();
        if self.all {
            each(acc, tile, |a: u8, v: T| a & u8::from(v != zero));
        } else {
            each(acc, tile, |a: u8, v: T| a | u8::from(v != zero));
        }
    }
    fn merge(&self, a: u8, b: u8) -> u8 {
        if self.all {
            a & b
        } else {
            a | b
        }
    }
}

/// Count, mean, and sum of squared distances from the mean, in f64.
pub struct Moments<T>(pub PhantomData<fn(T)>);

impl<T: Real> Reducer for Moments<T> {
    type Value = T;
    type Acc = [f64; 3];

    fn identity(&self) -> [f64; 3] {
        [0.0; 3]
    }
    fn tile(&self, acc: &mut [f64; 3], tile: &[T]) {
        let (mut sum, mut squares) = (0.0, 0.0);
        lanes(
            &mut sum,
            tile,
            0.0,
            |a: f64, v: T| a + v.real(),
            |a, b| a + b,
        );
        let count = tile.len() as f64;
        let mean = sum / count;
        let f = |a: f64, v: T| {
            let d = v.real() - mean;
            a + d * d
        };
        lanes(&mut squares, tile, 0.0, f, |a, b| a + b);
        *acc = self.merge(*acc, [count, mean, squares]);
    }
    fn columns(&self, acc: &mut [[f64; 3]], tile: &[T]) {
        for (a, v) in acc.iter_mut().zip(tile) {
            a[0] += 1.0;
            let d = v.real() - a[1];
            a[1] += d / a[0];
            a[2] += d * (v.real() - a[1]);
        }
    }
    fn merge(&self, a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
        let count = a[0] + b[0];
        if a[0] == 0.0 || b[0] == 0.0 {
            return if a[0] == 0.0 { b } else { a };
        }
        let d = b[1] - a[1];
        let share = b[0] / count;
        [count, a[1] + d * share, a[2] + b[2] + d * d * a[0] * share]
    }
}

/// The largest element, and the sum of the exponentials of the distances from it.
pub struct Exponentials<T>(pub PhantomData<fn(T)>);

impl<T: Real> Reducer for Exponentials<T> {
    type Value = T;
    type Acc = [f64; 2];

    fn identity(&self) -> [f64; 2] {
        [f64::NEG_INFINITY, 0.0]
    }
    fn tile(&self, acc: &mut [f64; 2], tile: &[T]) {
        let mut max = T::LOWEST;
        lanes(
            &mut max,
            tile,
            T::LOWEST,
            <T as Number>::max,
            <T as Number>::max,
        );
        // Distances from infinities are no numbers.
        let base = if max.is_finite() { max } else { T::default() };
        let mut powers = [T::default(); super::number::TILE];
        let powers = &mut powers[..tile.len()];
        for (p, v) in powers.iter_mut().zip(tile) {
            *p = v.sub(base);
        }
        T::exp_all(powers);
        let mut sum = 0.0;
        lanes(
            &mut sum,
            powers,
            0.0,
            |a: f64, v: T| a + v.real(),
            |a, b| a + b,
        );
        *acc = self.merge(*acc, [base.real(), sum]);
    }
    fn columns(&self, acc: &mut [[f64; 2]], tile: &[T]) {
        for (a, v) in acc.iter_mut().zip(tile) {
            *a = self.merge(*a, [v.real(), if v.is_nan() { f64::NAN } else { 1.0 }]);
        }
    }
    fn merge(&self, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        let high = if a[0] > b[0] { a[0] } else { b[0] };
        if high == f64::NEG_INFINITY {
            return [high, a[1] + b[1]];
        }
        if high == f64::INFINITY || !high.is_finite() {
            return [
                high,
                if a[1].is_nan() || b[1].is_nan() {
                    f64::NAN
                } else {
                    1.0
                },
            ];
        }
        let part = |p: [f64; 2]| {
            if p[1] == 0.0 {
                0.0
            } else {
                p[1] * libm::exp(p[0] - high)
            }
        };
        [high, part(a) + part(b)]
    }
}

/// What [`Exponentials`] stand for.
pub fn log_sum([max, sum]: [f64; 2]) -> f64 {
    if sum.is_nan() {
        sum
    } else {
        max + libm::log(sum)
    }
}
