//! Element types: how they stand in memory and what they are computed in.

use half::{bf16, f16};
use vmlu_abi::Wire;

use super::half_convert;
use super::view::View;

/// Most elements that are loaded at once: a row's private buffer stays in the first-level cache.
pub const TILE: usize = 1024;

/// An element type in memory.
pub trait Storage: 'static {
    /// Its bits.
    type Raw: Wire + Default + Send + Sync;
    /// What it is computed in.
    type Compute: Number;

    /// To the type of computation.
    fn widen(raw: Self::Raw) -> Self::Compute;
    /// From the type of computation.
    fn narrow(value: Self::Compute) -> Self::Raw;

    /// Loads a row of at most [`TILE`] elements.
    #[inline]
    fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [Self::Compute]) {
        let mut raw = [Self::Raw::default(); TILE];
        let raw = &mut raw[..to.len()];
        view.load(offset, stride, raw);
        for (t, r) in to.iter_mut().zip(raw) {
            *t = Self::widen(*r);
        }
    }

    /// Stores a row of at most [`TILE`] elements.
    #[inline]
    fn store(view: &View<'_>, offset: isize, stride: isize, from: &[Self::Compute]) {
        let mut raw = [Self::Raw::default(); TILE];
        let raw = &mut raw[..from.len()];
        for (r, f) in raw.iter_mut().zip(from) {
            *r = Self::narrow(*f);
        }
        view.store(offset, stride, raw);
    }
}

/// A type of computation.
pub trait Number: Wire + Default + PartialOrd + Send + Sync {
    /// Accumulator of sums and products: f64, or wrapping i64.
    type Sum: Number;
    /// One.
    const ONE: Self;
    /// Lowest value of the order: -∞ or the least integer.
    const LOWEST: Self;
    /// Highest value of the order.
    const HIGHEST: Self;

    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`; 0 for an integer divided by 0.
    fn div(self, other: Self) -> Self;
    /// `self · factor + summand`, rounded once.
    fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// `-self`.
    fn neg(self) -> Self;
    /// `|self|`.
    fn abs(self) -> Self;
    /// -1, 0, 1; NaN stays.
    fn sign(self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// A scalar of a descriptor.
    fn from_scalar(value: f64) -> Self;
    /// To the accumulator.
    fn to_sum(self) -> Self::Sum;
    /// From the accumulator.
    fn from_sum(sum: Self::Sum) -> Self;
    /// As f64, rounded if it must be.
    fn to_f64(self) -> f64;
    /// As i64, cut off.
    fn to_i64(self) -> i64;
    /// From a count, for means.
    fn from_count(count: usize) -> Self;

    /// The larger; NaN if either is.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other || self.is_nan() {
            self
        } else {
            other
        }
    }

    /// The smaller; NaN if either is.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if self < other || self.is_nan() {
            self
        } else {
            other
        }
    }
}

macro_rules! float_number {
    ($($t:ty),*) => { $(
        impl Number for $t {
            type Sum = f64;
            const ONE: Self = 1.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            #[inline(always)]
            fn add(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn sub(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn mul(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn div(self, other: Self) -> Self { self / other }
            #[inline(always)]
            fn mul_add(self, factor: Self, summand: Self) -> Self { <$t>::mul_add(self, factor, summand) }
            #[inline(always)]
            fn neg(self) -> Self { -self }
            #[inline(always)]
            fn abs(self) -> Self { <$t>::abs(self) }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else if self == 0.0 { 0.0 } else { self }
            }
            #[inline(always)]
            fn is_nan(self) -> bool { <$t>::is_nan(self) }
            #[inline(always)]
            fn from_scalar(value: f64) -> Self { value as $t }
            #[inline(always)]
            fn to_sum(self) -> f64 { f64::from(self) }
            #[inline(always)]
            fn from_sum(sum: f64) -> Self { sum as $t }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_count(count: usize) -> Self { count as $t }
        }
    )* };
}
float_number!(f32, f64);

macro_rules! integer_number {
    ($($t:ty, $neg:expr, $abs:expr, $sign:expr);* $(;)?) => { $(
        impl Number for $t {
            type Sum = i64;
            const ONE: Self = 1;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            #[inline(always)]
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)]
            fn div(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            #[inline(always)]
            fn mul_add(self, factor: Self, summand: Self) -> Self {
                self.wrapping_mul(factor).wrapping_add(summand)
            }
            #[inline(always)]
            fn neg(self) -> Self { $neg(self) }
            #[inline(always)]
            fn abs(self) -> Self { $abs(self) }
            #[inline(always)]
            fn sign(self) -> Self { $sign(self) }
            #[inline(always)]
            fn is_nan(self) -> bool { false }
            #[inline(always)]
            fn from_scalar(value: f64) -> Self { value as i64 as $t }
            #[inline(always)]
            fn to_sum(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_sum(sum: i64) -> Self { sum as $t }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn from_count(count: usize) -> Self { count as $t }
        }
    )* };
}
integer_number!(
    i8, i8::wrapping_neg, i8::wrapping_abs, i8::signum;
    i16, i16::wrapping_neg, i16::wrapping_abs, i16::signum;
    i32, i32::wrapping_neg, i32::wrapping_abs, i32::signum;
    i64, i64::wrapping_neg, i64::wrapping_abs, i64::signum;
    u8, u8::wrapping_neg, |v| v, |v: u8| Ord::min(v, 1);
    u16, u16::wrapping_neg, |v| v, |v: u16| Ord::min(v, 1);
    u32, u32::wrapping_neg, |v| v, |v: u32| Ord::min(v, 1);
    u64, u64::wrapping_neg, |v| v, |v: u64| Ord::min(v, 1);
);

/// A whole number.
pub trait Whole: Number + Ord {
    /// All bits the other way.
    fn not(self) -> Self;
    /// Bits that both have.
    fn and(self, other: Self) -> Self;
    /// Bits that either has.
    fn or(self, other: Self) -> Self;
    /// Bits that one has.
    fn xor(self, other: Self) -> Self;
    /// `self · 2ᵇ`, 0 out of range.
    fn shift_left(self, bits: Self) -> Self;
    /// `self / 2ᵇ` down, as far as the width goes.
    fn shift_right(self, bits: Self) -> Self;
    /// What remains of the division towards zero; 0 for a division by 0.
    fn rem(self, other: Self) -> Self;
    /// Quotient, rounded down; 0 for a division by 0.
    fn floor_div(self, other: Self) -> Self;
    /// What remains of the division down; 0 for a division by 0.
    fn modulo(self, other: Self) -> Self;
    /// A power.
    fn power(self, exponent: Self) -> Self;
    /// Greatest common divisor.
    fn gcd(self, other: Self) -> Self;
    /// Least common multiple.
    fn lcm(self, other: Self) -> Self {
        let divisor = self.gcd(other);
        self.div(divisor).mul(other).abs()
    }
}

macro_rules! whole {
    ($($t:ty),*) => { $(
        impl Whole for $t {
            #[inline(always)]
            fn not(self) -> Self { !self }
            #[inline(always)]
            fn and(self, other: Self) -> Self { self & other }
            #[inline(always)]
            fn or(self, other: Self) -> Self { self | other }
            #[inline(always)]
            fn xor(self, other: Self) -> Self { self ^ other }
            #[inline(always)]
            fn shift_left(self, bits: Self) -> Self {
                #[allow(unused_comparisons)]
                let fits = bits >= 0 && (bits as u64) < u64::from(<$t>::BITS);
                if fits { self << bits } else { 0 }
            }
            #[inline(always)]
            fn shift_right(self, bits: Self) -> Self {
                #[allow(unused_comparisons)]
                let fits = bits >= 0 && (bits as u64) < u64::from(<$t>::BITS);
                if fits {
                    return self >> bits;
                }
                // Only the sign is left, if there is one.
                (self >> (<$t>::BITS - 1)) & if <$t>::MIN == 0 { 0 } else { !0 }
            }
            #[inline(always)]
            fn rem(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_rem(other) } }
            #[inline(always)]
            fn floor_div(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let (q, r) = (self.wrapping_div(other), self.wrapping_rem(other));
                #[allow(unused_comparisons)]
                let down = r != 0 && ((r < 0) != (other < 0));
                if down { q.wrapping_sub(1) } else { q }
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                let r = Whole::rem(self, other);
                #[allow(unused_comparisons)]
                let down = r != 0 && ((r < 0) != (other < 0));
                if down { r.wrapping_add(other) } else { r }
            }
            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                #[allow(unused_comparisons)]
                if exponent < 0 {
                    let odd = exponent & 1 != 0;
                    return match self {
                        1 => 1,
                        // -1, which unsigned types do not have; their exponents are not negative either.
                        v if v.wrapping_add(1) == 0 => if odd { v } else { 1 },
                        _ => 0,
                    };
                }
                let (mut base, mut left, mut result) = (self, exponent as u64, 1 as $t);
                while left > 0 {
                    if left & 1 != 0 {
                        result = result.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                result
            }
            fn gcd(self, other: Self) -> Self {
                // As unsigned, so that the least number has a magnitude.
                let (mut a, mut b) = (Number::abs(self) as u64, Number::abs(other) as u64);
                let mask = u64::MAX >> (64 - <$t>::BITS);
                (a, b) = (a & mask, b & mask);
                while b != 0 {
                    (a, b) = (b, a % b);
                }
                a as $t
            }
        }
    )* };
}
whole!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! plain_storage {
    ($($t:ty),*) => { $(
        impl Storage for $t {
            type Raw = $t;
            type Compute = $t;

            #[inline(always)]
            fn widen(raw: $t) -> $t { raw }
            #[inline(always)]
            fn narrow(value: $t) -> $t { value }
            #[inline]
            fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [$t]) {
                view.load(offset, stride, to);
            }
            #[inline]
            fn store(view: &View<'_>, offset: isize, stride: isize, from: &[$t]) {
                view.store(offset, stride, from);
            }
        }
    )* };
}
plain_storage!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);

/// Elements of the 16-bit types that are converted at once.
const CHUNK: usize = 256;

macro_rules! half_storage {
    ($t:ty, $widen:ident, $narrow:ident) => {
        impl Storage for $t {
            type Raw = u16;
            type Compute = f32;

            #[inline(always)]
            fn widen(raw: u16) -> f32 {
                Self::from_bits(raw).to_f32()
            }
            #[inline(always)]
            fn narrow(value: f32) -> u16 {
                Self::from_f32(value).to_bits()
            }
            fn load(view: &View<'_>, offset: isize, stride: isize, to: &mut [f32]) {
                let mut raw = [0; CHUNK];
                for (i, to) in to.chunks_mut(CHUNK).enumerate() {
                    let raw = &mut raw[..to.len()];
                    view.load(offset + (i * CHUNK) as isize * stride, stride, raw);
                    half_convert::$widen(raw, to);
                }
            }
            fn store(view: &View<'_>, offset: isize, stride: isize, from: &[f32]) {
                let mut raw = [0; CHUNK];
                for (i, from) in from.chunks(CHUNK).enumerate() {
                    let raw = &mut raw[..from.len()];
                    half_convert::$narrow(from, raw);
                    view.store(offset + (i * CHUNK) as isize * stride, stride, raw);
                }
            }
        }
    };
}
half_storage!(f16, widen_f16, narrow_f16);
half_storage!(bf16, widen_bf16, narrow_bf16);

/// Bool in memory: any byte is read, 0 or 1 is written.
pub struct Truth;

impl Storage for Truth {
    type Raw = u8;
    type Compute = u8;

    #[inline(always)]
    fn widen(raw: u8) -> u8 {
        u8::from(raw != 0)
    }
    #[inline(always)]
    fn narrow(value: u8) -> u8 {
        u8::from(value != 0)
    }
}

/// Runs `$body` with `$s` as the [`Storage`] of an element type.
macro_rules! with_storage {
    ($dtype:expr, $s:ident => $body:expr) => {{
        use vmlu_abi::tensor::DataType as D;
        match $dtype {
            D::F32 => {
                type $s = f32;
                $body
            }
            D::F16 => {
                type $s = half::f16;
                $body
            }
            D::Bf16 => {
                type $s = half::bf16;
                $body
            }
            D::F64 => {
                type $s = f64;
                $body
            }
            D::I8 => {
                type $s = i8;
                $body
            }
            D::I16 => {
                type $s = i16;
                $body
            }
            D::I32 => {
                type $s = i32;
                $body
            }
            D::I64 => {
                type $s = i64;
                $body
            }
            D::U8 => {
                type $s = u8;
                $body
            }
            D::U16 => {
                type $s = u16;
                $body
            }
            D::U32 => {
                type $s = u32;
                $body
            }
            D::U64 => {
                type $s = u64;
                $body
            }
            D::Bool => {
                type $s = $crate::number::Truth;
                $body
            }
        }
    }};
}

/// As [`with_storage`], for the types with a fraction; the rules of the operator exclude the others.
macro_rules! with_float {
    ($dtype:expr, $s:ident => $body:expr) => {{
        use vmlu_abi::tensor::DataType as D;
        match $dtype {
            D::F32 => {
                type $s = f32;
                $body
            }
            D::F16 => {
                type $s = half::f16;
                $body
            }
            D::Bf16 => {
                type $s = half::bf16;
                $body
            }
            D::F64 => {
                type $s = f64;
                $body
            }
            other => unreachable!("checked to be a float, is {other:?}"),
        }
    }};
}

/// As [`with_storage`], for the types without a fraction but Bool; the rules of the operator exclude the others.
macro_rules! with_whole {
    ($dtype:expr, $s:ident => $body:expr) => {{
        use vmlu_abi::tensor::DataType as D;
        match $dtype {
            D::I8 => {
                type $s = i8;
                $body
            }
            D::I16 => {
                type $s = i16;
                $body
            }
            D::I32 => {
                type $s = i32;
                $body
            }
            D::I64 => {
                type $s = i64;
                $body
            }
            D::U8 => {
                type $s = u8;
                $body
            }
            D::U16 => {
                type $s = u16;
                $body
            }
            D::U32 => {
                type $s = u32;
                $body
            }
            D::U64 => {
                type $s = u64;
                $body
            }
            other => unreachable!("checked to be an integer, is {other:?}"),
        }
    }};
}

pub(crate) use {with_float, with_storage, with_whole};
