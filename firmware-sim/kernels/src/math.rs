//! Elementary functions: the same bits on every host, so none of them comes from the host's C library. Those of f32 are vector code
//! ([`super::poly32`], [`super::poly64`]) but for a few ([`super::special`]); those of f64 are scalar.

use super::number::Number;
use super::simd::multiversion;
use super::{poly32, poly64, special};

macro_rules! real_methods {
    ($( $(#[$m:meta])* fn $name:ident($($a:ident),*); )*) => {
        /// A floating type of computation.
        pub trait Real: Number {
            /// A constant.
            fn of(value: f64) -> Self;
            /// To f64.
            fn real(self) -> f64;
            /// `eˣ` of each element.
            fn exp_all(x: &mut [Self]);
            /// Sine of each element.
            fn sin_all(x: &mut [Self]);
            /// Cosine of each element.
            fn cos_all(x: &mut [Self]);
            /// Tangent of each element.
            fn tan_all(x: &mut [Self]);
            /// Whether the sign is negative.
            fn is_negative(self) -> bool;
            /// Whether it is neither infinite nor NaN.
            fn is_finite(self) -> bool;
            /// What remains of the division towards zero of each pair.
            fn fmod_all(x: &mut [Self], y: &[Self]);
            $( $(#[$m])* fn $name(self $(, $a: Self)*) -> Self; )*
        }
    };
}
real_methods! {
    /// `eˣ`.
    fn exp();
    /// `2ˣ`.
    fn exp2();
    /// `eˣ - 1`.
    fn expm1();
    /// Natural logarithm.
    fn log();
    /// Logarithm to base 2.
    fn log2();
    /// Logarithm to base 10.
    fn log10();
    /// `log(1 + x)`.
    fn log1p();
    /// Square root.
    fn sqrt();
    /// Hyperbolic tangent.
    fn tanh();
    /// Hyperbolic sine.
    fn sinh();
    /// Hyperbolic cosine.
    fn cosh();
    /// Inverse hyperbolic sine.
    fn asinh();
    /// Inverse hyperbolic cosine.
    fn acosh();
    /// Inverse hyperbolic tangent.
    fn atanh();
    /// Inverse sine.
    fn asin();
    /// Inverse cosine.
    fn acos();
    /// Inverse tangent.
    fn atan();
    /// Error function.
    fn erf();
    /// Its complement.
    fn erfc();
    /// Its inverse.
    fn erfinv();
    /// Logarithm of the gamma function.
    fn lgamma();
    /// Derivative of that.
    fn digamma();
    /// Modified Bessel function of order 0.
    fn i0();
    /// Normalised cardinal sine.
    fn sinc();
    /// Down to a whole number.
    fn floor();
    /// Up to a whole number.
    fn ceil();
    /// To the nearest whole number, halves to even.
    fn round();
    /// To the nearest whole number, halves away from zero.
    fn round_away();
    /// Towards zero.
    fn trunc();
    /// The magnitude with another's sign.
    fn copysign(sign);
    /// A power.
    fn pow(exponent);
    /// Angle of the point (x, self).
    fn atan2(x);
    /// `√(a² + b²)`.
    fn hypot(other);
    /// `self · 2ᵉ`.
    fn ldexp(exponent);
    /// The next value in a direction.
    fn next_after(towards);
}

macro_rules! common {
    ($t:ident) => {
        #[inline(always)]
        fn of(value: f64) -> Self {
            value as $t
        }
        #[inline(always)]
        fn real(self) -> f64 {
            f64::from(self)
        }
        #[inline(always)]
        fn is_negative(self) -> bool {
            self.is_sign_negative()
        }
        #[inline(always)]
        fn is_finite(self) -> bool {
            $t::is_finite(self)
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            $t::sqrt(self)
        }
        #[inline(always)]
        fn floor(self) -> Self {
            $t::floor(self)
        }
        #[inline(always)]
        fn ceil(self) -> Self {
            $t::ceil(self)
        }
        #[inline(always)]
        fn round(self) -> Self {
            $t::round_ties_even(self)
        }
        #[inline(always)]
        fn round_away(self) -> Self {
            let whole = $t::trunc(self);
            let up = (self - whole).abs() >= 0.5;
            (whole + if up { $t::copysign(1.0, self) } else { 0.0 }).copysign(self)
        }
        #[inline(always)]
        fn trunc(self) -> Self {
            $t::trunc(self)
        }
        #[inline(always)]
        fn copysign(self, sign: Self) -> Self {
            $t::copysign(self, sign)
        }
        fn next_after(self, towards: Self) -> Self {
            if self.is_nan() || towards.is_nan() {
                $t::NAN
            } else if self == towards {
                towards
            } else if self == 0.0 {
                $t::from_bits(1).copysign(towards)
            } else if (self < towards) == (self > 0.0) {
                $t::from_bits(self.to_bits() + 1)
            } else {
                $t::from_bits(self.to_bits() - 1)
            }
        }
    };
}

/// Functions of f32 by way of f64.
macro_rules! wide {
    ($($name:ident = $path:path),* $(,)?) => { $(
        #[inline(always)]
        fn $name(self) -> Self {
            $path(f64::from(self)) as f32
        }
    )* };
}

impl Real for f32 {
    common!(f32);
    wide!(
        expm1 = poly64::expm1,
        log = poly64::log,
        log2 = poly64::log2,
        log10 = poly64::log10,
        log1p = poly64::log1p,
        sinh = poly64::sinh,
        cosh = poly64::cosh,
        asinh = poly64::asinh,
        acosh = poly64::acosh,
        atanh = poly64::atanh,
        asin = poly64::asin,
        acos = poly64::acos,
        atan = poly64::atan,
        erfc = libm::erfc,
        erfinv = special::erfinv,
        lgamma = libm::lgamma,
        digamma = special::digamma,
        i0 = special::i0,
        sinc = special::sinc,
    );
    fn exp_all(x: &mut [Self]) {
        exp_f32(x);
    }
    fn sin_all(x: &mut [Self]) {
        periodic(x, sin_f32, libm::sinf);
    }
    fn cos_all(x: &mut [Self]) {
        periodic(x, cos_f32, libm::cosf);
    }
    fn tan_all(x: &mut [Self]) {
        periodic(x, tan_f32, libm::tanf);
    }
    fn fmod_all(x: &mut [Self], y: &[Self]) {
        fmod_f32(x, y);
    }
    #[inline(always)]
    fn exp(self) -> Self {
        poly32::exp(self)
    }
    #[inline(always)]
    fn exp2(self) -> Self {
        poly64::exp(f64::from(self) * std::f64::consts::LN_2) as f32
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        poly32::tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        poly32::erf(self)
    }
    #[inline(always)]
    fn pow(self, exponent: Self) -> Self {
        poly64::pow(f64::from(self), f64::from(exponent)) as f32
    }
    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        poly64::atan2(f64::from(self), f64::from(x)) as f32
    }
    #[inline(always)]
    fn hypot(self, other: Self) -> Self {
        let (a, b) = (f64::from(self), f64::from(other));
        let infinite = a.is_infinite() || b.is_infinite();
        let h = (a * a + b * b).sqrt();
        (if infinite { f64::INFINITY } else { h }) as f32
    }
    #[inline(always)]
    fn ldexp(self, exponent: Self) -> Self {
        let e = f64::from(exponent) * std::f64::consts::LN_2;
        (f64::from(self) * poly64::exp(e)) as f32
    }
}

/// Functions of f64 from the pure Rust library.
macro_rules! library {
    ($($name:ident),* $(,)?) => { $(
        #[inline]
        fn $name(self) -> Self {
            libm::$name(self)
        }
    )* };
}

impl Real for f64 {
    common!(f64);
    library!(
        exp, exp2, expm1, log, log2, log10, log1p, tanh, sinh, cosh, asinh, atanh, asin, acos,
        atan, erf, erfc, lgamma,
    );
    fn exp_all(x: &mut [Self]) {
        x.iter_mut().for_each(|v| *v = libm::exp(*v));
    }
    fn sin_all(x: &mut [Self]) {
        x.iter_mut().for_each(|v| *v = libm::sin(*v));
    }
    fn cos_all(x: &mut [Self]) {
        x.iter_mut().for_each(|v| *v = libm::cos(*v));
    }
    fn tan_all(x: &mut [Self]) {
        x.iter_mut().for_each(|v| *v = libm::tan(*v));
    }
    fn fmod_all(x: &mut [Self], y: &[Self]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = libm::fmod(*x, *y);
        }
    }
    fn acosh(self) -> Self {
        // The library takes numbers of -2 and less for others.
        if self < 1.0 {
            return f64::NAN;
        }
        libm::acosh(self)
    }
    fn erfinv(self) -> Self {
        special::erfinv(self)
    }
    fn digamma(self) -> Self {
        special::digamma(self)
    }
    fn i0(self) -> Self {
        special::i0(self)
    }
    fn sinc(self) -> Self {
        special::sinc(self)
    }
    fn pow(self, exponent: Self) -> Self {
        libm::pow(self, exponent)
    }
    fn atan2(self, x: Self) -> Self {
        libm::atan2(self, x)
    }
    fn hypot(self, other: Self) -> Self {
        libm::hypot(self, other)
    }
    fn ldexp(self, exponent: Self) -> Self {
        self * libm::exp2(exponent)
    }
}

multiversion! {
    fn exp_f32(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = poly32::exp(*v);
        }
    }

    fn sin_f32(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = poly64::sin(f64::from(*v)) as f32;
        }
    }

    fn cos_f32(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = poly64::cos(f64::from(*v)) as f32;
        }
    }

    fn tan_f32(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = poly64::tan(f64::from(*v)) as f32;
        }
    }

    /// `x mod y` of those whose quotient is small, and where it is not.
    fn fmod_small(x: &mut [f32], y: &[f32], large: &mut bool) {
        // Up to here the quotient's product with y is exact in f64.
        const LIMIT: f64 = (1u64 << 28) as f64;
        let mut any = false;
        for (x, y) in x.iter_mut().zip(y) {
            let (a, b) = (f64::from(*x), f64::from(*y));
            let quotient = (a / b).trunc();
            let small = quotient.abs() < LIMIT;
            any |= !small;
            let r = a - quotient * b;
            // The quotient may have been rounded up to a whole number.
            let over = r != 0.0 && (r < 0.0) != (a < 0.0);
            let r = if over { r + b.abs().copysign(a) } else { r };
            let r = (r as f32).copysign(*x);
            *x = if small { r } else { *x };
        }
        *large = any;
    }
}

/// Exact remainders: the fast way, and those that it leaves the slow way.
fn fmod_f32(x: &mut [f32], y: &[f32]) {
    let mut large = false;
    let mut old = [0.0; super::number::TILE];
    for (x, y) in x
        .chunks_mut(super::number::TILE)
        .zip(y.chunks(super::number::TILE))
    {
        let old = &mut old[..x.len()];
        old.copy_from_slice(x);
        fmod_small(x, y, &mut large);
        if large {
            for ((x, o), y) in x.iter_mut().zip(old.iter()).zip(y) {
                *x = libm::fmodf(*o, *y);
            }
        }
    }
}

/// A periodic function: vector code where the argument's reduction is good, scalar code elsewhere.
fn periodic(x: &mut [f32], all: fn(&mut [f32]), one: fn(f32) -> f32) {
    let far = |v: f32| v.abs() > poly64::REDUCED;
    if !x.iter().fold(false, |any, v| any | far(*v)) {
        return all(x);
    }
    let mut old = [0.0; super::number::TILE];
    for x in x.chunks_mut(super::number::TILE) {
        let old = &mut old[..x.len()];
        old.copy_from_slice(x);
        all(x);
        for (x, o) in x.iter_mut().zip(old.iter()) {
            if far(*o) {
                *x = one(*o);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acosh_of_less_than_1_is_not_a_number() {
        for x in [-1e300, -18227.2, -2.0, -1.0, 0.0, 0.999] {
            assert!(Real::acosh(x).is_nan(), "{x}");
            assert!(Real::acosh(x as f32).is_nan(), "{x}");
        }
        assert_eq!(Real::acosh(1.0f64), 0.0);
    }

    #[test]
    fn vectors_and_single_values_give_the_same_bits() {
        let x: Vec<f32> = (0..5000).map(|i| i as f32 * 0.041 - 105.0).collect();
        let mut y = x.clone();
        exp_f32(&mut y);
        let same = |(x, y): (&f32, &f32)| poly32::exp(*x).to_bits() == y.to_bits();
        assert!(x.iter().zip(&y).all(same));
    }
}
