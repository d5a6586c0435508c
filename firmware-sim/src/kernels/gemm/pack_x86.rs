//! Packing with AVX-512: sixteen lines at a time.

use std::arch::x86_64::*;

use super::pack::{Feed, Kind, Piece};

/// Packs a piece into words of 32 bits.
///
/// # Safety
///
/// AVX-512 F, BW, DQ and VL. All elements of the piece may be read, `to` is valid for `words · pitch` words, `pitch` is a multiple of 16 and
/// at least `count`; one of the strides is 1; the feed's kind is not `Plain`, nothing is skipped.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn pack<F: Feed>(piece: &Piece<F::Element>, to: *mut u32) {
    for half in (0..piece.pitch).step_by(16) {
        let lines = piece.count.saturating_sub(half).min(16);
        // SAFETY: the half's lines are in the piece, its columns in the rows of `to`.
        unsafe {
            let first = piece.first.wrapping_offset(half as isize * piece.line);
            let to = to.add(half);
            if piece.depth == 1 {
                along::<F>(piece, first, lines, to);
            } else {
                across::<F>(piece, first, lines, to);
            }
        }
    }
}

/// Elements that lie along the depth.
///
/// # Safety
///
/// As [`pack`], for `lines` ≤ 16 lines from `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn along<F: Feed>(
    piece: &Piece<F::Element>,
    first: *const F::Element,
    lines: usize,
    to: *mut u32,
) {
    for word in (0..piece.words).step_by(16) {
        let at = word * F::STEP;
        let left = piece.length.saturating_sub(at).min(16 * F::STEP);
        let mut rows = [_mm512_setzero_si512(); 16];
        for (l, row) in rows.iter_mut().enumerate() {
            if l < lines {
                let from = first.wrapping_offset(l as isize * piece.line + at as isize);
                // SAFETY: `left` elements from there are in the piece.
                *row = unsafe { load::<F>(from, left) };
            }
        }
        let rows = transpose(rows);
        for (k, row) in rows.into_iter().enumerate().take(piece.words - word) {
            // SAFETY: `word + k` < `words`.
            unsafe { _mm512_storeu_si512(to.add((word + k) * piece.pitch).cast(), row) };
        }
    }
}

/// Up to 16 words of one line.
///
/// # Safety
///
/// `count` ≤ 16 · `STEP` elements may be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn load<F: Feed>(from: *const F::Element, count: usize) -> __m512i {
    // SAFETY: masked loads touch the first `count` elements only.
    unsafe {
        match (F::KIND, size_of::<F::Element>()) {
            (Kind::Bits, 4) => _mm512_maskz_loadu_epi32(low(count) as u16, from.cast()),
            (Kind::Bits, 2) => _mm512_maskz_loadu_epi16(low(count) as u32, from.cast()),
            (Kind::Bits, _) => {
                let mask = low(count);
                let v = _mm512_maskz_loadu_epi8(mask, from.cast());
                if F::FLIP == 0 {
                    v
                } else {
                    let flipped = _mm512_xor_si512(v, _mm512_set1_epi8(F::FLIP as i8));
                    _mm512_maskz_mov_epi8(mask, flipped)
                }
            }
            (Kind::Half, _) => {
                let v = _mm256_maskz_loadu_epi16(low(count) as u16, from.cast());
                _mm512_castps_si512(_mm512_cvtph_ps(v))
            }
            _ => {
                let v = _mm256_maskz_loadu_epi16(low(count) as u16, from.cast());
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v));
                _mm512_shuffle_epi32::<0b10_11_00_01>(wide)
            }
        }
    }
}

/// A mask of the lowest bits.
#[inline(always)]
fn low(count: usize) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

/// Elements that lie across the lines.
///
/// # Safety
///
/// As [`pack`], for `lines` ≤ 16 lines from `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn across<F: Feed>(
    piece: &Piece<F::Element>,
    first: *const F::Element,
    lines: usize,
    to: *mut u32,
) {
    let mask = low(lines) as u16;
    for word in 0..piece.words {
        let at = word * F::STEP;
        let row = |s: usize| first.wrapping_offset((at + s) as isize * piece.depth);
        let have = |s: usize| at + s < piece.length;
        // SAFETY: masked loads touch `lines` elements of rows that are in the piece.
        let v = unsafe {
            match (F::KIND, size_of::<F::Element>()) {
                (Kind::Bits, 4) if have(0) => _mm512_maskz_loadu_epi32(mask, row(0).cast()),
                (Kind::Bits, 2) => {
                    let part = |s: usize| match have(s) {
                        true => _mm256_maskz_loadu_epi16(mask, row(s).cast()),
                        false => _mm256_setzero_si256(),
                    };
                    let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(part(1)));
                    _mm512_or_si512(_mm512_cvtepu16_epi32(part(0)), high)
                }
                (Kind::Bits, 1) => {
                    let part = |s: usize| match have(s) {
                        true => {
                            let v = _mm_maskz_loadu_epi8(mask, row(s).cast());
                            let v = _mm_xor_si128(v, _mm_set1_epi8(F::FLIP as i8));
                            _mm512_cvtepu8_epi32(v)
                        }
                        false => _mm512_setzero_si512(),
                    };
                    let low = _mm512_or_si512(part(0), _mm512_slli_epi32::<8>(part(1)));
                    let high = _mm512_or_si512(
                        _mm512_slli_epi32::<16>(part(2)),
                        _mm512_slli_epi32::<24>(part(3)),
                    );
                    _mm512_maskz_or_epi32(mask, low, high)
                }
                (Kind::Half, _) if have(0) => {
                    let v = _mm256_maskz_loadu_epi16(mask, row(0).cast());
                    _mm512_castps_si512(_mm512_cvtph_ps(v))
                }
                (Kind::Brain, _) if word ^ 1 < piece.length => {
                    let from = first.wrapping_offset((word ^ 1) as isize * piece.depth);
                    let v = _mm256_maskz_loadu_epi16(mask, from.cast());
                    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v))
                }
                _ => _mm512_setzero_si512(),
            }
        };
        // SAFETY: `word` < `words`.
        unsafe { _mm512_storeu_si512(to.add(word * piece.pitch).cast(), v) };
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        let q = 4 * i;
        u[q] = _mm512_unpacklo_epi64(t[q], t[q + 2]);
        u[q + 1] = _mm512_unpackhi_epi64(t[q], t[q + 2]);
        u[q + 2] = _mm512_unpacklo_epi64(t[q + 1], t[q + 3]);
        u[q + 3] = _mm512_unpackhi_epi64(t[q + 1], t[q + 3]);
    }
    // `u[4 i + c]` has in its 128-bit part `p` column `4 p + c` of rows `4 i` to `4 i + 3`.
    let mut out = u;
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[c], u[4 + c]);
        let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[c], u[4 + c]);
        let low2 = _mm512_shuffle_i32x4::<0b10_00_10_00>(u[8 + c], u[12 + c]);
        let high2 = _mm512_shuffle_i32x4::<0b11_01_11_01>(u[8 + c], u[12 + c]);
        // `low`: parts 0 and 2 of rows 0 to 3, then of rows 4 to 7.
        out[c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, low2);
        out[8 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, low2);
        out[4 + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(high, high2);
        out[12 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(high, high2);
    }
    out
}
