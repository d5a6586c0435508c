//! Folding a tile into one number, in an order that is fixed.

use super::number::Number;
use super::simd::multiversion;

/// Interleaved chains of a tile's fold: enough for the host's vectors.
const LANES: usize = 16;

/// What is done with two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Sum.
    Add,
    /// Larger one, or NaN.
    Max,
}

impl Fold {
    /// Folds a tile into `acc`: in interleaved chains, which are then folded in order, and the rest behind them.
    pub fn tile<T: Number>(self, acc: &mut T, tile: &[T]) {
        match self {
            Self::Add => lanes(acc, tile, T::default(), T::add),
            Self::Max => lanes(acc, tile, T::LOWEST, <T as Number>::max),
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
}
