//! Elementary functions of f32 in f64 arithmetic: with 29 bits to spare, short series and plain formulas give the nearest f32 (or its
//! neighbour in less than one case of 10⁶). No branches, so that loops over them become vector code; the same bits on every host. Arguments are
//! values of f32: never denormal here, and their squares do not overflow.

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Adding 1.5 · 2⁵² leaves the nearest whole number in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// `(2ⁿ, r · (1 + r/2 + …))` with `x = n·ln 2 + r`: the parts of `eˣ` and `eˣ - 1`.
#[inline(always)]
fn exp_parts(x: f64) -> (f64, f64) {
    let x = if x < -700.0 { -700.0 } else { x };
    let x = if x > 700.0 { 700.0 } else { x };
    let shifted = x.mul_add(std::f64::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.0 / 39_916_800.0;
    p = r.mul_add(p, 1.0 / 3_628_800.0);
    p = r.mul_add(p, 1.0 / 362_880.0);
    p = r.mul_add(p, 1.0 / 40_320.0);
    p = r.mul_add(p, 1.0 / 5_040.0);
    p = r.mul_add(p, 1.0 / 720.0);
    p = r.mul_add(p, 1.0 / 120.0);
    p = r.mul_add(p, 1.0 / 24.0);
    p = r.mul_add(p, 1.0 / 6.0);
    p = r.mul_add(p, 0.5);
    p = r.mul_add(p, 1.0);
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits());
    let scale = f64::from_bits(n.wrapping_add(1023) << 52);
    (scale, p * r)
}

/// `eˣ`.
#[inline(always)]
pub fn exp(x: f64) -> f64 {
    let (scale, p) = exp_parts(x);
    p.mul_add(scale, scale)
}

/// `eˣ - 1`.
#[inline(always)]
pub fn expm1(x: f64) -> f64 {
    let (scale, p) = exp_parts(x);
    p.mul_add(scale, scale - 1.0)
}

/// Natural logarithm of a number that is not denormal: -∞ of 0, NaN of what is less.
#[inline(always)]
pub fn log(x: f64) -> f64 {
    let (e, l) = log_parts(x);
    special_log(x, e.mul_add(std::f64::consts::LN_2, l))
}

/// Logarithm to base 2, exact for powers of 2.
#[inline(always)]
pub fn log2(x: f64) -> f64 {
    let (e, l) = log_parts(x);
    special_log(x, l.mul_add(std::f64::consts::LOG2_E, e))
}

/// Logarithm to base 10.
#[inline(always)]
pub fn log10(x: f64) -> f64 {
    let (e, l) = log_parts(x);
    special_log(
        x,
        e.mul_add(std::f64::consts::LOG10_2, l * std::f64::consts::LOG10_E),
    )
}

/// `(e, log m)` with `x = m · 2ᵉ`, m between √½ and √2.
#[inline(always)]
fn log_parts(x: f64) -> (f64, f64) {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) as i32 & 0x7ff) - 1023;
    let m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    let large = m > std::f64::consts::SQRT_2;
    let m = if large { m * 0.5 } else { m };
    let e = f64::from(exponent) + if large { 1.0 } else { 0.0 };
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut p = 1.0 / 17.0;
    p = z.mul_add(p, 1.0 / 15.0);
    p = z.mul_add(p, 1.0 / 13.0);
    p = z.mul_add(p, 1.0 / 11.0);
    p = z.mul_add(p, 1.0 / 9.0);
    p = z.mul_add(p, 1.0 / 7.0);
    p = z.mul_add(p, 1.0 / 5.0);
    p = z.mul_add(p, 1.0 / 3.0);
    p = z.mul_add(p, 1.0);
    (e, 2.0 * s * p)
}

#[inline(always)]
fn special_log(x: f64, l: f64) -> f64 {
    let l = if x == f64::INFINITY { x } else { l };
    let l = if x == 0.0 { f64::NEG_INFINITY } else { l };
    if x >= 0.0 {
        l
    } else {
        f64::NAN
    }
}

/// `log(1 + x)`.
#[inline(always)]
pub fn log1p(x: f64) -> f64 {
    let u = 1.0 + x;
    let correction = (x - (u - 1.0)) / u;
    let l = log(u) + correction;
    // Infinite u: the correction is no number.
    if x == f64::INFINITY || x == -1.0 {
        log(u)
    } else {
        l
    }
}

/// Largest argument of sine, cosine and tangent whose reduction is good here.
pub const REDUCED: f32 = 1e9;

/// `(sin r, cos r, quadrant)` with `x = quadrant · π/2 + r`.
#[inline(always)]
fn quarter(x: f64) -> (f64, f64, u64) {
    const HALF_PI_HIGH: f64 = std::f64::consts::FRAC_PI_2;
    const HALF_PI_LOW: f64 = 6.123_233_995_736_766e-17;
    let shifted = x.mul_add(std::f64::consts::FRAC_2_PI, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-HALF_PI_LOW, n.mul_add(-HALF_PI_HIGH, x));
    let z = r * r;
    let mut s = 1.0 / 6_227_020_800.0;
    s = z.mul_add(s, -1.0 / 39_916_800.0);
    s = z.mul_add(s, 1.0 / 362_880.0);
    s = z.mul_add(s, -1.0 / 5_040.0);
    s = z.mul_add(s, 1.0 / 120.0);
    s = z.mul_add(s, -1.0 / 6.0);
    s = (z * r).mul_add(s, r);
    // The sign of zero.
    let s = if r == 0.0 { r } else { s };
    let mut c = 1.0 / 479_001_600.0;
    c = z.mul_add(c, -1.0 / 3_628_800.0);
    c = z.mul_add(c, 1.0 / 40_320.0);
    c = z.mul_add(c, -1.0 / 720.0);
    c = z.mul_add(c, 1.0 / 24.0);
    c = z.mul_add(c, -0.5);
    c = z.mul_add(c, 1.0);
    (s, c, shifted.to_bits())
}

/// Sine; |x| at most [`REDUCED`].
#[inline(always)]
pub fn sin(x: f64) -> f64 {
    let (s, c, n) = quarter(x);
    let v = if n & 1 == 0 { s } else { c };
    if n & 2 == 0 {
        v
    } else {
        -v
    }
}

/// Cosine; |x| at most [`REDUCED`].
#[inline(always)]
pub fn cos(x: f64) -> f64 {
    let (s, c, n) = quarter(x);
    let v = if n & 1 == 0 { c } else { s };
    if n.wrapping_add(1) & 2 == 0 {
        v
    } else {
        -v
    }
}

/// Sine and cosine; |x| at most [`REDUCED`].
#[inline(always)]
pub fn sin_cos(x: f64) -> (f64, f64) {
    let (s, c, n) = quarter(x);
    let odd = n & 1 != 0;
    let (sin, cos) = if odd { (c, s) } else { (s, c) };
    let sin = if n & 2 == 0 { sin } else { -sin };
    let cos = if n.wrapping_add(1) & 2 == 0 {
        cos
    } else {
        -cos
    };
    (sin, cos)
}

/// Tangent; |x| at most [`REDUCED`].
#[inline(always)]
pub fn tan(x: f64) -> f64 {
    let (s, c, n) = quarter(x);
    let odd = n & 1 != 0;
    let (a, b) = if odd { (-c, s) } else { (s, c) };
    a / b
}

/// Inverse tangent.
#[inline(always)]
pub fn atan(x: f64) -> f64 {
    const TAN_PI_8: f64 = 0.414_213_562_373_095_03;
    let a = x.abs();
    let inverted = a > 1.0;
    let a = if inverted { 1.0 / a } else { a };
    let turned = a > TAN_PI_8;
    let a = if turned { (a - 1.0) / (a + 1.0) } else { a };
    let z = a * a;
    let mut p = 1.0 / 29.0;
    for k in [
        27.0, 25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0,
    ] {
        p = (-z).mul_add(p, 1.0 / k);
    }
    let p = p * a;
    let p = if turned {
        std::f64::consts::FRAC_PI_4 + p
    } else {
        p
    };
    let p = if inverted {
        std::f64::consts::FRAC_PI_2 - p
    } else {
        p
    };
    p.copysign(x)
}

/// Angle of the point (x, y).
#[inline(always)]
pub fn atan2(y: f64, x: f64) -> f64 {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let q = atan((y / x).abs());
    let both = y.is_infinite() && x.is_infinite();
    let q = if both { FRAC_PI_4 } else { q };
    // Both are 0: the angle is 0 or π, as the sign of x says.
    let q = if y == 0.0 && x == 0.0 { 0.0 } else { q };
    let q = if x == 0.0 && y != 0.0 { FRAC_PI_2 } else { q };
    let q = if x.is_sign_negative() { PI - q } else { q };
    let q = q.copysign(y);
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else {
        q
    }
}

/// Inverse sine.
#[inline(always)]
pub fn asin(x: f64) -> f64 {
    atan(x / ((1.0 - x) * (1.0 + x)).sqrt())
}

/// Inverse cosine.
#[inline(always)]
pub fn acos(x: f64) -> f64 {
    std::f64::consts::FRAC_PI_2 - asin(x)
}

/// Hyperbolic sine.
#[inline(always)]
pub fn sinh(x: f64) -> f64 {
    let u = expm1(x.abs());
    (0.5 * (u + u / (u + 1.0))).copysign(x)
}

/// Hyperbolic cosine.
#[inline(always)]
pub fn cosh(x: f64) -> f64 {
    let e = exp(x);
    0.5 * (e + 1.0 / e)
}

/// Inverse hyperbolic sine.
#[inline(always)]
pub fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let z = a * a;
    let l = log1p(a + z / (1.0 + (z + 1.0).sqrt()));
    let l = if a == f64::INFINITY { a } else { l };
    l.copysign(x)
}

/// Inverse hyperbolic cosine.
#[inline(always)]
pub fn acosh(x: f64) -> f64 {
    let t = x - 1.0;
    let l = log1p(t + (t * (t + 2.0)).sqrt());
    if t >= 0.0 {
        l
    } else {
        f64::NAN
    }
}

/// Inverse hyperbolic tangent.
#[inline(always)]
pub fn atanh(x: f64) -> f64 {
    let a = x.abs();
    (0.5 * log1p(2.0 * a / (1.0 - a))).copysign(x)
}

/// `x` to the power of `y`.
#[inline(always)]
pub fn pow(x: f64, y: f64) -> f64 {
    let a = x.abs();
    // 0 and ∞ take their logarithms along; the product with y = 0 is mended below.
    let p = exp_wide(log(a) * y);
    let whole = y.floor() == y;
    let half = y * 0.5;
    let odd = whole && half.floor() != half && y.abs() < 9_007_199_254_740_992.0;
    let p = if x.is_sign_negative() && odd { -p } else { p };
    let p = if x < 0.0 && !whole && a != f64::INFINITY {
        f64::NAN
    } else {
        p
    };
    let p = if a == 1.0 && y.is_infinite() { 1.0 } else { p };
    let p = if x.is_nan() || y.is_nan() {
        f64::NAN
    } else {
        p
    };
    if y == 0.0 || x == 1.0 {
        1.0
    } else {
        p
    }
}

/// `eˣ` with its limits: 0 and ∞ far out, where an f32 has long reached them.
#[inline(always)]
fn exp_wide(x: f64) -> f64 {
    let e = exp(x);
    let e = if x < -690.0 { 0.0 } else { e };
    if x > 690.0 {
        f64::INFINITY
    } else {
        e
    }
}
