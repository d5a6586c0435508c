//! Elementary functions: the same bits on every host, so none of them comes from the host's C library.

use super::number::Number;
use super::simd::multiversion;

/// A floating type of computation.
pub trait Real: Number {
    /// A constant.
    fn of(value: f64) -> Self;
    /// To f64.
    fn real(self) -> f64;
    /// `eˣ` of each element.
    fn exp_all(x: &mut [Self]);
    /// `eˣ - 1`.
    fn expm1(self) -> Self;
    /// Natural logarithm.
    fn log(self) -> Self;
    /// `log(1 + x)`.
    fn log1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Down to a whole number.
    fn floor(self) -> Self;
    /// Up to a whole number.
    fn ceil(self) -> Self;
    /// To the nearest whole number, halves to even.
    fn round(self) -> Self;
    /// Towards zero.
    fn trunc(self) -> Self;
}

macro_rules! real {
    ($t:ident, $exp_all:path, $expm1:ident, $log:ident, $log1p:ident, $tanh:ident, $erf:ident, $sin:ident, $cos:ident) => {
        impl Real for $t {
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn real(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn exp_all(x: &mut [Self]) {
                $exp_all(x)
            }
            #[inline]
            fn expm1(self) -> Self {
                libm::$expm1(self)
            }
            #[inline]
            fn log(self) -> Self {
                libm::$log(self)
            }
            #[inline]
            fn log1p(self) -> Self {
                libm::$log1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline]
            fn tanh(self) -> Self {
                libm::$tanh(self)
            }
            #[inline]
            fn erf(self) -> Self {
                libm::$erf(self)
            }
            #[inline]
            fn sin(self) -> Self {
                libm::$sin(self)
            }
            #[inline]
            fn cos(self) -> Self {
                libm::$cos(self)
            }
            #[inline]
            fn floor(self) -> Self {
                $t::floor(self)
            }
            #[inline]
            fn ceil(self) -> Self {
                $t::ceil(self)
            }
            #[inline]
            fn round(self) -> Self {
                $t::round_ties_even(self)
            }
            #[inline]
            fn trunc(self) -> Self {
                $t::trunc(self)
            }
        }
    };
}
real!(f32, exp_f32, expm1f, logf, log1pf, tanhf, erff, sinf, cosf);
real!(f64, exp_f64, expm1, log, log1p, tanh, erf, sin, cos);

fn exp_f64(x: &mut [f64]) {
    for v in x {
        *v = libm::exp(*v);
    }
}

/// `eˣ` to within 1 unit in the last place (2 for denormal results): `x = n·ln 2 + r`, a polynomial of degree 7 in `r`, scaled by `2ⁿ` in two steps.
#[inline(always)]
fn exp1_f32(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with trailing zeroes.
    const LN2_HIGH: f32 = 0.693_145_75;
    const LN2_LOW: f32 = 1.428_606_8e-6;
    // Adding 1.5 · 2²³ leaves the nearest whole number in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    // Comparisons let NaN through.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x.mul_add(LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.0f32 / 5040.0;
    p = p.mul_add(r, 1.0 / 720.0);
    p = p.mul_add(r, 1.0 / 120.0);
    p = p.mul_add(r, 1.0 / 24.0);
    p = p.mul_add(r, 1.0 / 6.0);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r, 1.0);
    p = p.mul_add(r, 1.0);
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = n >> 1;
    let scale = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
    p * scale(half) * scale(n.wrapping_sub(half))
}

multiversion! {
    fn exp_f32(x: &mut [f32]) {
        for v in x.iter_mut() {
            *v = exp1_f32(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_single_values_give_the_same_bits() {
        let x: Vec<f32> = (0..5000).map(|i| i as f32 * 0.041 - 105.0).collect();
        let mut y = x.clone();
        exp_f32(&mut y);
        let same = |(x, y): (&f32, &f32)| exp1_f32(*x).to_bits() == y.to_bits();
        assert!(x.iter().zip(&y).all(same));
    }
}
