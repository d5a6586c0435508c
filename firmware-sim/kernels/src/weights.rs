//! What resizing and its gradient share: which elements along an axis an element of the result is made of, and with what weights.

use vmlu_ops::resize::{Axis, Function, Look, Rounding};

use super::math::Real;

/// Places are kept within this, so that whole numbers of them fit.
const FAR: f64 = (1u64 << 33) as f64;

/// The window of one position of the result along an axis.
#[derive(Clone, Debug, Default)]
pub(super) struct Window<T> {
    /// Position of the first element.
    pub first: i64,
    /// Weights of it and those behind it; none if nothing counts.
    pub weights: Vec<T>,
    /// Whether the place is outside, and the result the extrapolated value.
    pub outside: bool,
}

/// Keys' kernel.
fn cubic(t: f64, a: f64) -> f64 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    } else {
        0.0
    }
}

/// The place of a position of the result, in positions of the input.
fn place(axis: &Axis, o: i64) -> f64 {
    let at = (o as f64 + axis.offset) * axis.numerator / axis.denominator + axis.shift;
    // An infinite factor times 0 has no place; the rules leave no other.
    if at.is_nan() {
        0.0
    } else {
        at.clamp(-FAR, FAR)
    }
}

/// First and last element that count for a place, which may lie outside.
fn around(look: &Look, axis: &Axis, at: f64) -> (i64, i64) {
    if look.function == Function::Nearest {
        let at = match look.rounding {
            Rounding::Floor => at.floor(),
            Rounding::Ceil => at.ceil(),
            Rounding::HalfDown => (at - 0.5).ceil(),
            Rounding::HalfUp => (at + 0.5).floor(),
        };
        return (at as i64, at as i64);
    }
    let support = support(look, axis);
    let (first, last) = ((at - support).floor() + 1.0, (at + support).ceil() - 1.0);
    (first as i64, last.max(first) as i64)
}

fn stretch(look: &Look, axis: &Axis) -> f64 {
    let factor = axis.numerator / axis.denominator;
    if look.antialias && factor > 1.0 {
        factor
    } else {
        1.0
    }
}

fn support(look: &Look, axis: &Axis) -> f64 {
    let own = if look.function == Function::Cubic {
        2.0
    } else {
        1.0
    };
    own * stretch(look, axis)
}

/// First and last element of the input that may have weight for a position of the result. Neither falls as positions rise.
pub(super) fn reach(look: &Look, axis: &Axis, o: i64) -> (i64, i64) {
    let (first, last) = around(look, axis, place(axis, o));
    let end = axis.input - 1;
    (first.clamp(0, end), last.clamp(0, end))
}

/// The first position of the result whose elements end at `p` or behind it.
pub(super) fn first_covering(look: &Look, axis: &Axis, p: i64) -> i64 {
    let (mut low, mut high) = (0, axis.output);
    while low < high {
        let middle = low + (high - low) / 2;
        if reach(look, axis, middle).1 < p {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Finds the window of a position of the result.
pub(super) fn window<T: Real>(
    look: &Look,
    axis: &Axis,
    o: i64,
    wide: &mut Vec<f64>,
    to: &mut Window<T>,
) {
    to.weights.clear();
    wide.clear();
    let (at, end) = (place(axis, o), axis.input - 1);
    to.outside = look.extrapolation.is_some() && !(0.0..=end as f64).contains(&at);
    let (first, last) = around(look, axis, at);
    to.first = first.clamp(0, end);
    if to.outside {
        return;
    }
    if look.function == Function::Nearest {
        to.weights.push(T::ONE);
        return;
    }
    wide.resize((last.clamp(0, end) - to.first + 1) as usize, 0.0);
    let stretch = stretch(look, axis);
    let mut sum = 0.0;
    for i in first..=last {
        let t = (i as f64 - at) / stretch;
        let w = match look.function {
            Function::Cubic => cubic(t, look.coefficient),
            _ => (1.0 - t.abs()).max(0.0),
        };
        let inside = i.clamp(0, end);
        if inside == i || !look.exclude {
            wide[(inside - to.first) as usize] += w;
            sum += w;
        }
    }
    if sum == 0.0 {
        return;
    }
    if stretch > 1.0 || look.exclude {
        wide.iter_mut().for_each(|w| *w /= sum);
    }
    let some = |w: &f64| T::of(*w) != T::default();
    let (Some(head), Some(tail)) = (wide.iter().position(some), wide.iter().rposition(some)) else {
        return;
    };
    to.first += head as i64;
    to.weights
        .extend(wide[head..=tail].iter().map(|w| T::of(*w)));
}
