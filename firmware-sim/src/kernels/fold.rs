//! Folding many elements into one, in an order that is fixed.

use super::number::Number;
use super::simd::multiversion;

/// Interleaved chains of a tile's fold: enough for the host's vectors.
const LANES: usize = 16;

/// What is done with two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Sum.
    Add,
    /// Product.
    Mul,
    /// Larger one, or NaN.
    Max,
    /// Smaller one, or NaN.
    Min,
}

impl Fold {
    /// What leaves every element as it is.
    pub fn identity<T: Number>(self) -> T {
        match self {
            Self::Add => T::default(),
            Self::Mul => T::ONE,
            Self::Max => T::LOWEST,
            Self::Min => T::HIGHEST,
        }
    }

    /// Folds two elements.
    pub fn pair<T: Number>(self, a: T, b: T) -> T {
        match self {
            Self::Add => a.add(b),
            Self::Mul => a.mul(b),
            Self::Max => Number::max(a, b),
            Self::Min => Number::min(a, b),
        }
    }

    /// Folds a tile into `acc`: in interleaved chains, which are then folded in order, and the rest behind them.
    pub fn tile<T: Number>(self, acc: &mut T, tile: &[T]) {
        let identity = self.identity();
        match self {
            Self::Add => lanes(acc, tile, identity, T::add),
            Self::Mul => lanes(acc, tile, identity, T::mul),
            Self::Max => lanes(acc, tile, identity, <T as Number>::max),
            Self::Min => lanes(acc, tile, identity, <T as Number>::min),
        }
    }

    /// Folds each element of a tile into an accumulator of its own.
    pub fn columns<T: Number>(self, acc: &mut [T], tile: &[T]) {
        match self {
            Self::Add => each(acc, tile, T::add),
            Self::Mul => each(acc, tile, T::mul),
            Self::Max => each(acc, tile, <T as Number>::max),
            Self::Min => each(acc, tile, <T as Number>::min),
        }
    }
}

multiversion! {
    fn lanes<T: Number, F: Fn(T, T) -> T>(acc: &mut T, tile: &[T], identity: T, f: F) {
        let chunks = tile.chunks_exact(LANES);
        let rest = chunks.remainder();
        let mut total = *acc;
        if tile.len() >= LANES {
            let mut lanes = [identity; LANES];
            for chunk in chunks {
                for (l, v) in lanes.iter_mut().zip(chunk) {
                    *l = f(*l, *v);
                }
            }
            for l in lanes {
                total = f(total, l);
            }
        }
        for v in rest {
            total = f(total, *v);
        }
        *acc = total;
    }

    fn each<T: Number, F: Fn(T, T) -> T>(acc: &mut [T], tile: &[T], f: F) {
        for (a, v) in acc.iter_mut().zip(tile) {
            *a = f(*a, *v);
        }
    }
}
