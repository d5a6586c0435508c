//! Elementary functions of f32 in f32 arithmetic, without branches, so that loops over them become vector code. The same bits on every host: a
//! fused multiply-add stands where `mul_add` does, and nowhere else. Coefficients are least-maximum fits of the relative error.

// Eight digits, of which the last says how the nearest f32 was chosen.
#![allow(clippy::excessive_precision)]

/// `eˣ` to within 1 unit in the last place (2 for denormal results): `x = n·ln 2 + r`, a polynomial of degree 7 in `r`, scaled by `2ⁿ` in two steps.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
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

/// Hyperbolic tangent to within 3 units in the last place: `x · P(x²) / Q(x²)` of degrees 5 and 4, ±1 from 9.02 on.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    const END: f32 = 9.02;
    let z = x * x;
    let mut p = -1.220_171_7e-11f32;
    p = p.mul_add(z, 3.058_255_2e-8);
    p = p.mul_add(z, 2.800_639_7e-5);
    p = p.mul_add(z, 3.868_274_2e-3);
    p = p.mul_add(z, 0.136_798_72);
    p = p.mul_add(z, 1.0);
    let mut q = 1.287_293_5e-6f32;
    q = q.mul_add(z, 3.938_537_4e-4);
    q = q.mul_add(z, 2.724_564_2e-2);
    q = q.mul_add(z, 0.470_132_04);
    q = q.mul_add(z, 1.0);
    let t = x * (p / q);
    bounded(t, x, END)
}

/// Error function to within 3 units in the last place: `x · P(x²) / Q(x²)` of degrees 5 and 5, ±1 from 3.92 on.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    const END: f32 = 3.92;
    let z = x * x;
    let mut p = 2.050_156_2e-6f32;
    p = p.mul_add(z, 2.848_756_6e-4);
    p = p.mul_add(z, 3.765_272_4e-3);
    p = p.mul_add(z, 5.274_764_7e-2);
    p = p.mul_add(z, 0.190_398_35);
    p = p.mul_add(z, std::f32::consts::FRAC_2_SQRT_PI);
    let mut q = 3.809_206_5e-5f32;
    q = q.mul_add(z, 1.162_453_6e-3);
    q = q.mul_add(z, 1.496_852_1e-2);
    q = q.mul_add(z, 0.114_105_76);
    q = q.mul_add(z, 0.502_068_9);
    q = q.mul_add(z, 1.0);
    let t = x * (p / q);
    bounded(t, x, END)
}

/// `t`, at most 1 in magnitude, and ±1 where x is at least `end` in magnitude; NaN where x is.
#[inline(always)]
fn bounded(t: f32, x: f32, end: f32) -> f32 {
    let t = if t > 1.0 { 1.0 } else { t };
    let t = if t < -1.0 { -1.0 } else { t };
    let t = if x >= end { 1.0 } else { t };
    if x <= -end {
        -1.0
    } else {
        t
    }
}
