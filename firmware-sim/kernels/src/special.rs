//! Special functions in f64, one value at a time. The same bits on every host.

use std::f64::consts::PI;

/// Logarithmic derivative of the gamma function: reflected, stepped up to 10, then the asymptotic series.
pub fn digamma(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY.copysign(-x);
    }
    if x < 0.0 {
        let fraction = x - libm::floor(x);
        if fraction == 0.0 || x == f64::NEG_INFINITY {
            return f64::NAN;
        }
        return digamma(1.0 - x) - PI / libm::tan(PI * fraction);
    }
    let (mut x, mut sum) = (x, 0.0);
    while x < 10.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let z = 1.0 / (x * x);
    // Bernoulli numbers over 2k.
    let series = [
        1.0 / 12.0,
        -1.0 / 120.0,
        1.0 / 252.0,
        -1.0 / 240.0,
        1.0 / 132.0,
        -691.0 / 32_760.0,
        1.0 / 12.0,
    ];
    let tail = series.iter().rev().fold(0.0, |p, c| (p + c) * z);
    sum + libm::log(x) - 0.5 / x - tail
}

/// Inverse of the error function: an estimate, then steps of Halley's method.
pub fn erfinv(y: f64) -> f64 {
    let a = y.abs();
    if a.is_nan() || a > 1.0 {
        return f64::NAN;
    }
    if a == 1.0 {
        return f64::INFINITY.copysign(y);
    }
    if a == 0.0 {
        return y;
    }
    let l = libm::log1p(-a * a);
    let t = 2.0 / (PI * 0.147) + l / 2.0;
    let mut x = (libm::sqrt(t * t - l / 0.147) - t).max(0.0).sqrt();
    for _ in 0..4 {
        // Near 1 the complement keeps the digits.
        let error = if a < 0.5 {
            libm::erf(x) - a
        } else {
            (1.0 - a) - libm::erfc(x)
        };
        let slope = 2.0 / PI.sqrt() * libm::exp(-x * x);
        let step = error / slope;
        if !step.is_finite() {
            break;
        }
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

/// Modified Bessel function of the first kind, order 0: the power series, from 30 on the asymptotic one.
pub fn i0(x: f64) -> f64 {
    let x = x.abs();
    if x > 30.0 {
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..30 {
            let odd = f64::from(2 * k - 1);
            term *= odd * odd / (8.0 * x * f64::from(k));
            sum += term;
        }
        // In two factors, so that the exponential does not overflow too early.
        let half = libm::exp(x / 2.0);
        return if x == f64::INFINITY {
            x
        } else {
            half / libm::sqrt(2.0 * PI * x) * half * sum
        };
    }
    let (mut term, mut sum, z) = (1.0, 1.0, x * x / 4.0);
    for k in 1..100 {
        term *= z / f64::from(k * k);
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    sum
}

/// `m` and `e` of `x = m · 2ᵉ` with `½ ≤ |m| < 1`; x itself and 0 if there are none.
pub fn frexp(x: f64) -> (f64, f64) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0.0);
    }
    let (mantissa, exponent) = libm::frexp(x);
    (mantissa, exponent.into())
}

/// `sin(πx) / (πx)`.
pub fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let p = PI * x;
    libm::sin(p) / p
}
