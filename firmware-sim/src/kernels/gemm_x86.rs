//! Register tiles of f32 for x86-64.

use std::arch::x86_64::*;

/// 12 × 32 with AVX-512. Call it only where `simd::level` is `V4`.
pub(super) fn tile_v4(a: &[f32], b: &[f32], out: &mut [f32], pitch: usize, first: bool) {
    let deep = a.len() / 12;
    assert!(b.len() >= deep * 32 && out.len() >= 11 * pitch + 32);
    // SAFETY: only chosen where `simd::level` has found AVX-512F; the lengths have just been checked.
    unsafe { tile_v4_inner(deep, a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), pitch, first) }
}

/// # Safety
///
/// AVX-512F; `a` has 12 × `deep` elements, `b` 32 × `deep`, `out` 11 × `pitch` + 32.
#[target_feature(enable = "avx512f")]
unsafe fn tile_v4_inner(
    deep: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    pitch: usize,
    first: bool,
) {
    let mut acc = [[_mm512_setzero_ps(); 2]; 12];
    for k in 0..deep {
        // SAFETY: `k` < `deep`, so all reads lie in `a` and `b`.
        unsafe {
            let b0 = _mm512_loadu_ps(b.add(k * 32));
            let b1 = _mm512_loadu_ps(b.add(k * 32 + 16));
            for (i, row) in acc.iter_mut().enumerate() {
                let v = _mm512_set1_ps(*a.add(k * 12 + i));
                row[0] = _mm512_fmadd_ps(v, b0, row[0]);
                row[1] = _mm512_fmadd_ps(v, b1, row[1]);
            }
        }
    }
    for (i, row) in acc.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            // SAFETY: row `i` < 12 and columns `16 j` to `16 j + 15` < 32 of `out`.
            unsafe {
                let to = out.add(i * pitch + j * 16);
                let sum = if first {
                    *v
                } else {
                    _mm512_add_ps(_mm512_loadu_ps(to), *v)
                };
                _mm512_storeu_ps(to, sum);
            }
        }
    }
}

/// 6 × 16 with AVX2 and FMA. Call it only where `simd::level` is at least `V3`.
pub(super) fn tile_v3(a: &[f32], b: &[f32], out: &mut [f32], pitch: usize, first: bool) {
    let deep = a.len() / 6;
    assert!(b.len() >= deep * 16 && out.len() >= 5 * pitch + 16);
    // SAFETY: only chosen where `simd::level` has found AVX2 and FMA; the lengths have just been checked.
    unsafe { tile_v3_inner(deep, a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), pitch, first) }
}

/// # Safety
///
/// AVX2 and FMA; `a` has 6 × `deep` elements, `b` 16 × `deep`, `out` 5 × `pitch` + 16.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_v3_inner(
    deep: usize,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    pitch: usize,
    first: bool,
) {
    let mut acc = [[_mm256_setzero_ps(); 2]; 6];
    for k in 0..deep {
        // SAFETY: `k` < `deep`, so all reads lie in `a` and `b`.
        unsafe {
            let b0 = _mm256_loadu_ps(b.add(k * 16));
            let b1 = _mm256_loadu_ps(b.add(k * 16 + 8));
            for (i, row) in acc.iter_mut().enumerate() {
                let v = _mm256_set1_ps(*a.add(k * 6 + i));
                row[0] = _mm256_fmadd_ps(v, b0, row[0]);
                row[1] = _mm256_fmadd_ps(v, b1, row[1]);
            }
        }
    }
    for (i, row) in acc.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            // SAFETY: row `i` < 6 and columns `8 j` to `8 j + 7` < 16 of `out`.
            unsafe {
                let to = out.add(i * pitch + j * 8);
                let sum = if first {
                    *v
                } else {
                    _mm256_add_ps(_mm256_loadu_ps(to), *v)
                };
                _mm256_storeu_ps(to, sum);
            }
        }
    }
}
