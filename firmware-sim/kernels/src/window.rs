//! What kernels that slide windows share: which axis makes the rows, and folding rows and strided rows.

use vmlu_abi::tensor::DataType;
use vmlu_ops::window::Axis;

use super::number::{Number, TILE};
use super::simd::multiversion;
use super::view::View;

/// How elements are folded.
pub(super) trait Fold<T: Number>: Send + Sync + 'static {
    /// The result of nothing.
    const START: T;
    /// A result and what comes next.
    fn join(a: T, b: T) -> T;
}

/// Sums.
pub(super) struct Total;

impl<T: Number<Sum = f64>> Fold<T> for Total
where
    T: Zero,
{
    const START: T = T::ZERO;
    #[inline(always)]
    fn join(a: T, b: T) -> T {
        a.add(b)
    }
}

/// Zero as a constant.
pub(super) trait Zero {
    /// Zero.
    const ZERO: Self;
}

impl Zero for f32 {
    const ZERO: Self = 0.0;
}

impl Zero for f64 {
    const ZERO: Self = 0.0;
}

/// The first of the largest; the last NaN.
pub(super) struct Largest;

impl<T: Number> Fold<T> for Largest {
    const START: T = T::LOWEST;
    #[inline(always)]
    fn join(a: T, b: T) -> T {
        if b > a || b.is_nan() {
            b
        } else {
            a
        }
    }
}

multiversion! {
    /// Joins each element of a row to an accumulator.
    pub(super) fn join_rows<T: Number, F: Fold<T>>(acc: &mut [T], row: &[T]) {
        for (a, v) in acc.iter_mut().zip(row) {
            *a = F::join(*a, *v);
        }
    }

    /// Joins every `step`th element of a row to an accumulator.
    pub(super) fn join_strided<T: Number, F: Fold<T>>(acc: &mut [T], row: &[T], step: usize) {
        match step {
            1 => {
                for (a, v) in acc.iter_mut().zip(row) {
                    *a = F::join(*a, *v);
                }
            }
            2 => {
                for (a, v) in acc.iter_mut().zip(row.chunks(2)) {
                    *a = F::join(*a, v[0]);
                }
            }
            _ => {
                for (a, v) in acc.iter_mut().zip(row.iter().step_by(step)) {
                    *a = F::join(*a, *v);
                }
            }
        }
    }

    /// As joining by [`Largest`], keeping the number of the largest: element `i` of the row has number `first + i · step`.
    pub(super) fn largest_strided<T: Number>(acc: &mut [T], numbers: &mut [i64], row: &[T], every: usize, first: i64, step: i64) {
        for (i, ((a, n), v)) in acc.iter_mut().zip(numbers).zip(row.iter().step_by(every)).enumerate() {
            let take = *n < 0 || *v > *a || v.is_nan();
            *a = if take { *v } else { *a };
            *n = if take { first + i as i64 * step } else { *n };
        }
    }

    /// Divides each element by a count.
    pub(super) fn divide<T: Number>(acc: &mut [T], counts: &[i64], factor: i64) {
        for (a, c) in acc.iter_mut().zip(counts) {
            *a = a.div(T::from_count((c * factor) as usize));
        }
    }

    /// Divides each element by one count.
    pub(super) fn divide_by<T: Number>(acc: &mut [T], count: T) {
        for a in acc.iter_mut() {
            *a = a.div(count);
        }
    }

    /// Adds those elements of a row whose number is a certain one.
    pub(super) fn add_where<T: Number>(acc: &mut [T], row: &[T], numbers: &[i64], number: i64) {
        for ((a, v), n) in acc.iter_mut().zip(row).zip(numbers) {
            let sum = a.add(*v);
            *a = if *n == number { sum } else { *a };
        }
    }
}

/// Whether rows go along the channels: they lie closer together than the elements of the last axis, and make rows that pay.
pub(super) fn along_channels(channels: usize, strides: [isize; 5], width: usize) -> bool {
    let near = strides[1].unsigned_abs() < strides[4].unsigned_abs() || width == 1;
    channels >= 4 && near
}

/// Loads indices of either type.
pub(super) fn load_indices(
    view: &View<'_>,
    dtype: DataType,
    offset: isize,
    stride: isize,
    to: &mut [i64],
) {
    if dtype == DataType::I64 {
        return view.load(offset, stride, to);
    }
    let mut short = [0i32; TILE];
    let short = &mut short[..to.len()];
    view.load(offset, stride, short);
    for (t, s) in to.iter_mut().zip(short) {
        *t = i64::from(*s);
    }
}

/// Stores indices as either type.
pub(super) fn store_indices(
    view: &View<'_>,
    dtype: DataType,
    offset: isize,
    stride: isize,
    from: &[i64],
) {
    if dtype == DataType::I64 {
        return view.store(offset, stride, from);
    }
    let mut short = [0i32; TILE];
    let short = &mut short[..from.len()];
    for (s, f) in short.iter_mut().zip(from) {
        *s = *f as i32;
    }
    view.store(offset, stride, short);
}

/// How averages divide.
#[derive(Clone, Copy)]
pub(super) enum Divide {
    /// By the taps in the input and its padding.
    Padded,
    /// By those in the input.
    Valid,
    /// By a number.
    Fixed(i64),
}

impl Divide {
    /// What an operator says.
    pub(super) fn new(function: vmlu_ops::pool::Function, divisor: Option<u32>) -> Self {
        match (divisor, function) {
            (Some(n), _) => Self::Fixed(n.into()),
            (None, vmlu_ops::pool::Function::AverageValid) => Self::Valid,
            _ => Self::Padded,
        }
    }

    /// The factor that window `o` of an axis has in the divisor; at least 1, so that nothing is divided by nothing.
    pub(super) fn count(self, axis: &Axis, o: i64) -> i64 {
        match self {
            Self::Fixed(_) => 1,
            Self::Padded => Ord::max(axis.padded(o), 1),
            Self::Valid => Ord::max(axis.span(o).count, 1),
        }
    }

    /// The factor that all axes have together.
    pub(super) fn factor(self) -> i64 {
        match self {
            Self::Fixed(n) => n,
            _ => 1,
        }
    }
}
