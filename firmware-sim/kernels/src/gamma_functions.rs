//! Polygamma, incomplete gamma and zeta functions in f64, one value at a time. The same bits on every host.

use std::f64::consts::PI;

/// Bernoulli numbers of even index, from the second on.
const BERNOULLI: [f64; 10] = [
    1.0 / 6.0,
    -1.0 / 30.0,
    1.0 / 42.0,
    -1.0 / 30.0,
    5.0 / 66.0,
    -691.0 / 2730.0,
    7.0 / 6.0,
    -3617.0 / 510.0,
    43867.0 / 798.0,
    -174_611.0 / 330.0,
];

/// Hurwitz' zeta function: the first summands, and what Euler and Maclaurin say of the rest.
pub(super) fn zeta(s: f64, q: f64) -> f64 {
    if s.is_nan() || q.is_nan() || s < 1.0 || q < 0.0 {
        return f64::NAN;
    }
    if s == 1.0 || q == 0.0 {
        return f64::INFINITY;
    }
    if q == f64::INFINITY {
        return 0.0;
    }
    if s == f64::INFINITY {
        // The first summand is all that is left.
        return match q {
            q if q < 1.0 => f64::INFINITY,
            1.0 => 1.0,
            _ => 0.0,
        };
    }
    let (mut sum, mut a) = (0.0, q);
    while a < 14.0 {
        sum += libm::pow(a, -s);
        a += 1.0;
    }
    let power = libm::pow(a, -s);
    sum += power * a / (s - 1.0) + 0.5 * power;
    // s (s + 1) … (s + 2k - 2) / (2k)! · B₂ₖ · a⁻ˢ⁻²ᵏ⁺¹
    let (mut factor, mut term) = (s / 2.0, power / a);
    for (k, b) in BERNOULLI.iter().enumerate() {
        let part = b * factor * term;
        sum += part;
        if part.abs() < sum.abs() * 1e-17 {
            break;
        }
        let n = 2.0 * k as f64 + 1.0;
        factor *= (s + n) * (s + n + 1.0) / ((n + 2.0) * (n + 3.0));
        term /= a * a;
    }
    sum
}

/// Derivative of an order of digamma; by reflection for negative arguments.
pub(super) fn polygamma(order: u32, x: f64) -> f64 {
    if order == 0 {
        return super::special::digamma(x);
    }
    let (n, odd) = (f64::from(order), order % 2 == 1);
    if x == 0.0 {
        return if odd {
            f64::INFINITY
        } else {
            f64::INFINITY.copysign(-x)
        };
    }
    let sign = if odd { 1.0 } else { -1.0 };
    if x > 0.0 {
        let factorial = (2..=order).fold(1.0, |p, k| p * f64::from(k));
        return sign * factorial * zeta(n + 1.0, x);
    }
    let fraction = x - libm::floor(x);
    if x.is_nan() || x == f64::NEG_INFINITY || (fraction == 0.0 && !odd) {
        return f64::NAN;
    }
    if fraction == 0.0 {
        return f64::INFINITY;
    }
    // ψₙ(1 - x) + (-1)ⁿ⁺¹ ψₙ(x) = (-1)ⁿ π dⁿ/dxⁿ cot(πx)
    let slope = cotangent(order, fraction);
    let mirrored = polygamma(order, 1.0 - x);
    if odd {
        -slope - mirrored
    } else {
        mirrored - slope
    }
}

/// `π dⁿ/dxⁿ cot(πx)`: a polynomial in the cotangent, each derivative made from the last by `c′ = -π (1 + c²)`.
fn cotangent(order: u32, x: f64) -> f64 {
    let mut polynomial = [0.0; vmlu_ops::gamma::MAX_ORDER as usize + 2];
    polynomial[1] = PI;
    for n in 1..=order as usize {
        let mut next = [0.0; vmlu_ops::gamma::MAX_ORDER as usize + 2];
        for k in 1..=n {
            let slope = -PI * k as f64 * polynomial[k];
            next[k - 1] += slope;
            next[k + 1] += slope;
        }
        polynomial = next;
    }
    // At a half the cotangent is 0, which π does not say exactly.
    let c = if x == 0.5 {
        0.0
    } else {
        1.0 / libm::tan(PI * x)
    };
    polynomial.iter().rev().fold(0.0, |p, k| p * c + k)
}

/// From here on the sum of the series and the fraction would take too long.
const LARGE: f64 = 1e5;

/// Lower and upper incomplete gamma functions, divided by the gamma function.
pub(super) fn lower_and_upper(a: f64, x: f64) -> (f64, f64) {
    let neither = (f64::NAN, f64::NAN);
    let infinite = a == f64::INFINITY && x == f64::INFINITY;
    // Written so that NaN has neither.
    if !(a >= 0.0 && x >= 0.0) || (a == 0.0 && x == 0.0) || infinite {
        return neither;
    }
    if x == 0.0 || a == f64::INFINITY {
        return (0.0, 1.0);
    }
    if a == 0.0 || x == f64::INFINITY {
        return (1.0, 0.0);
    }
    if a > LARGE {
        return far(a, x);
    }
    if x <= 1.0 || x <= a {
        let lower = series(a, x);
        if x < 1.0 && lower > 0.5 {
            // What the complement would lose.
            let upper = small_upper(a, x);
            return (1.0 - upper, upper);
        }
        (lower, 1.0 - lower)
    } else {
        let upper = fraction(a, x);
        (1.0 - upper, upper)
    }
}

/// `μ - log(1 + μ)`, where both are near.
fn excess(m: f64) -> f64 {
    if m.abs() > 0.1 {
        return m - libm::log1p(m);
    }
    // μ² / 2 - μ³ / 3 + μ⁴ / 4 …
    let mut sum = 0.0;
    for k in (2..20).rev() {
        sum = 1.0 / f64::from(k) - m * sum;
    }
    sum * m * m
}

/// `xᵃ e⁻ˣ / Γ(a + 1)`.
fn front(a: f64, x: f64) -> f64 {
    if a < 20.0 {
        return libm::exp(a * libm::log(x) - x - libm::lgamma(a + 1.0));
    }
    // By Stirling's series, so that large exponents do not cancel.
    let z = 1.0 / (a * a);
    let stirling = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - z / 1680.0) * z) * z) / a;
    let m = (x - a) / a;
    libm::exp(-a * excess(m) - stirling) / libm::sqrt(2.0 * PI * a)
}

/// The power series of the lower function.
fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0, 1.0, a);
    for _ in 0..20_000 {
        n += 1.0;
        term *= x / n;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (front(a, x) * sum).min(1.0)
}

/// The upper function for x < 1: `1 - xᵃ / Γ(a + 1)`, and the rest of the series.
fn small_upper(a: f64, x: f64) -> f64 {
    // xᵃ / Γ(a + 1) - 1
    let less = libm::expm1(a * libm::log(x) - libm::lgamma(a + 1.0));
    let (mut term, mut sum) = (1.0, 0.0);
    for n in 1..60 {
        term *= -x / f64::from(n);
        sum += term / (a + f64::from(n));
    }
    -less - (1.0 + less) * a * sum
}

/// The continued fraction of the upper function, from the front by the method of Lentz.
fn fraction(a: f64, x: f64) -> f64 {
    let mut b = x + 1.0 - a;
    let mut c = 1e300;
    let mut d = 1.0 / b;
    let mut value = d;
    for i in 1..20_000 {
        let i = f64::from(i);
        let numerator = -i * (i - a);
        b += 2.0;
        d = numerator * d + b;
        d = 1.0 / if d.abs() < 1e-300 { 1e-300 } else { d };
        c = b + numerator / c;
        c = if c.abs() < 1e-300 { 1e-300 } else { c };
        let factor = c * d;
        value *= factor;
        if (factor - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (front(a, x) * a * value).clamp(0.0, 1.0)
}

/// Both for a large parameter: Temme's uniform expansion, of which two coefficients are left.
fn far(a: f64, x: f64) -> (f64, f64) {
    let m = (x - a) / a;
    let half = excess(m);
    let eta = libm::sqrt(2.0 * half).copysign(m);
    let root = libm::sqrt(a * half).copysign(m);
    let near = eta.clamp(-0.1, 0.1);
    // Far from the middle the exponential is 0.
    let c0 = -1.0 / 3.0
        + near * (1.0 / 12.0 + near * (-2.0 / 135.0 + near * (1.0 / 864.0 + near / 2835.0)));
    let c1 = -1.0 / 540.0 + near * (-1.0 / 288.0 + near / 378.0);
    let rest = libm::exp(-a * half) / libm::sqrt(2.0 * PI * a) * (c0 + c1 / a);
    let lower = 0.5 * libm::erfc(-root) - rest;
    let upper = 0.5 * libm::erfc(root) + rest;
    (lower.clamp(0.0, 1.0), upper.clamp(0.0, 1.0))
}
