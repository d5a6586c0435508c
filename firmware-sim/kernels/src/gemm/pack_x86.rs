//! Packing with AVX-512: sixteen lines at a time.

use std::arch::x86_64::*;

use super::pack::{Feed, Kind, Piece};

/// Bytes of each line that are fetched ahead: eight blocks of sixteen lines, which take longer than memory does to answer.
const AHEAD: usize = 512;
/// Words of depth that are fetched ahead where rows lie across the lines.
const ROWS_AHEAD: usize = 12;

/// Packs elements that lie along the depth.
///
/// # Safety
///
/// AVX-512 F, BW, DQ and VL. `length` elements of each valid line may be read, `to` is valid for `words` rows of 16 words at `pitch`; the
/// distance of elements is 1, words have 32 bits and the feed's kind is not `Plain`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn along<F: Feed>(piece: &Piece<F::Element>, to: *mut u32) {
    for word in (0..piece.words).step_by(16) {
        let at = word * F::STEP;
        let left = piece.length.saturating_sub(at).min(16 * F::STEP);
        let mut rows = [_mm512_setzero_si512(); 16];
        for (l, row) in rows.iter_mut().enumerate() {
            if piece.valid >> l & 1 != 0 {
                let ahead = piece.lines[l].wrapping_byte_add(at * size_of::<F::Element>() + AHEAD);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                // SAFETY: `left` elements from there are in the line.
                *row = unsafe { load::<F>(piece.lines[l].wrapping_add(at), left) };
            } else if F::FLIP != 0 && piece.pad >> l & 1 != 0 {
                *row = _mm512_maskz_mov_epi8(low(left), _mm512_set1_epi8(F::FLIP as i8));
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
            (kind, _) => {
                let v = _mm256_maskz_loadu_epi16(low(count) as u16, from.cast());
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v));
                match kind {
                    Kind::Brain => _mm512_shuffle_epi32::<0b10_11_00_01>(wide),
                    _ => wide,
                }
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

/// Packs elements that lie across the lines. A segment names lanes and where lane 0 would be.
///
/// # Safety
///
/// As [`along`], but any distance of elements, and the segments name all valid lines.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn across<F: Feed>(
    piece: &Piece<F::Element>,
    segments: &[(u16, *const F::Element)],
    to: *mut u32,
) {
    for word in 0..piece.words {
        let at = match F::KIND {
            Kind::Brain => word ^ 1,
            _ => word * F::STEP,
        };
        let mut v = _mm512_setzero_si512();
        for step in 0..F::STEP {
            if at + step >= piece.length {
                break;
            }
            let mut part = _mm512_setzero_si512();
            for &(mask, first) in segments {
                let ahead = (at + step + ROWS_AHEAD * F::STEP) as isize * piece.depth;
                _mm_prefetch::<_MM_HINT_T1>(first.wrapping_offset(ahead).cast());
                let from = first.wrapping_offset((at + step) as isize * piece.depth);
                // SAFETY: masked loads touch elements of valid lines only.
                let new = unsafe {
                    match size_of::<F::Element>() {
                        4 => _mm512_maskz_loadu_epi32(mask, from.cast()),
                        2 => _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast())),
                        _ => _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, from.cast())),
                    }
                };
                part = _mm512_or_si512(part, new);
            }
            if F::FLIP != 0 {
                let mask = piece.valid | piece.pad;
                let flip = _mm512_set1_epi32(i32::from(F::FLIP));
                part = _mm512_mask_xor_epi32(part, mask, part, flip);
            }
            let bits = (step * 8 * size_of::<F::Element>()) as u32;
            v = _mm512_or_si512(v, _mm512_sllv_epi32(part, _mm512_set1_epi32(bits as i32)));
        }
        v = match F::KIND {
            Kind::Half => _mm512_castps_si512(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(v))),
            Kind::Brain | Kind::Straight => _mm512_slli_epi32::<16>(v),
            _ => v,
        };
        // SAFETY: `word` < `words`.
        unsafe { _mm512_storeu_si512(to.add(word * piece.pitch).cast(), v) };
    }
}

/// Rows to columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
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
