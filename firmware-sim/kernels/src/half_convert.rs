//! Conversions between f32 and the 16-bit floats, whole slices at a time: to nearest, ties to even, denormals kept. A NaN stays one, made quiet.

use super::simd::{level, multiversion, Level};

/// f16 to f32. Exact.
pub fn widen_f16(from: &[u16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if level() != Level::Plain {
        // SAFETY: `level` has found F16C and AVX.
        done = unsafe { x86::widen_f16(from, to) };
    }
    for (t, f) in to[done..].iter_mut().zip(&from[done..]) {
        *t = half::f16::from_bits(*f).to_f32();
    }
}

/// f32 to f16.
pub fn narrow_f16(from: &[f32], to: &mut [u16]) {
    assert_eq!(from.len(), to.len());
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if level() != Level::Plain {
        // SAFETY: `level` has found F16C and AVX.
        done = unsafe { x86::narrow_f16(from, to) };
    }
    for (t, f) in to[done..].iter_mut().zip(&from[done..]) {
        *t = half::f16::from_f32(*f).to_bits();
    }
}

multiversion! {
    /// bf16 to f32. Exact.
    pub fn widen_bf16(from: &[u16], to: &mut [f32]) {
        for (t, f) in to.iter_mut().zip(from) {
            let bits = u32::from(*f) << 16;
            let quiet = if bits & 0x7fff_ffff > 0x7f80_0000 { 0x0040_0000 } else { 0 };
            *t = f32::from_bits(bits | quiet);
        }
    }

    /// f32 to bf16. The processor's own instruction would flush denormals.
    pub fn narrow_bf16(from: &[f32], to: &mut [u16]) {
        for (t, f) in to.iter_mut().zip(from) {
            let bits = f.to_bits();
            let round = 0x7fff + ((bits >> 16) & 1);
            let near = bits.wrapping_add(round) >> 16;
            let quiet = (bits >> 16) | 0x40;
            let nan = bits & 0x7fff_ffff > 0x7f80_0000;
            *t = if nan { quiet } else { near } as u16;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Converts all but the last few; returns how many.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen_f16(from: &[u16], to: &mut [f32]) -> usize {
        let count = from.len().min(to.len()) / 8 * 8;
        for at in (0..count).step_by(8) {
            // SAFETY: `at + 8` is at most the length of both.
            unsafe {
                let raw = _mm_loadu_si128(from.as_ptr().add(at).cast());
                _mm256_storeu_ps(to.as_mut_ptr().add(at), _mm256_cvtph_ps(raw));
            }
        }
        count
    }

    /// Converts all but the last few; returns how many.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn narrow_f16(from: &[f32], to: &mut [u16]) -> usize {
        let count = from.len().min(to.len()) / 8 * 8;
        for at in (0..count).step_by(8) {
            // SAFETY: `at + 8` is at most the length of both.
            unsafe {
                let wide = _mm256_loadu_ps(from.as_ptr().add(at));
                let raw = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide);
                _mm_storeu_si128(to.as_mut_ptr().add(at).cast(), raw);
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn every_16_bit_value_survives_and_widens_as_defined() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let (mut wide, mut back) = (vec![0.0; all.len()], vec![0; all.len()]);
        widen_f16(&all, &mut wide);
        narrow_f16(&wide, &mut back);
        for ((a, w), b) in all.iter().zip(&wide).zip(&back) {
            let v = f16::from_bits(*a);
            assert_eq!(w.to_bits(), v.to_f32().to_bits(), "{a:#x}");
            assert_eq!(*b, if v.is_nan() { a | 0x200 } else { *a });
        }
        widen_bf16(&all, &mut wide);
        narrow_bf16(&wide, &mut back);
        for ((a, w), b) in all.iter().zip(&wide).zip(&back) {
            let v = bf16::from_bits(*a);
            assert_eq!(w.to_bits(), v.to_f32().to_bits(), "{a:#x}");
            assert_eq!(*b, if v.is_nan() { a | 0x40 } else { *a });
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        let mut state = 1u32;
        let values: Vec<f32> = (0..200_000)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Half of them around what the types can hold, with many ties.
                let bits = if i % 2 == 0 {
                    state
                } else {
                    state & 0xffff_f000
                };
                f32::from_bits(if i % 3 == 0 {
                    bits & 0x8fff_ffff | 0x3000_0000
                } else {
                    bits
                })
            })
            .collect();
        let mut raw = vec![0; values.len()];
        narrow_f16(&values, &mut raw);
        assert!(values
            .iter()
            .zip(&raw)
            .all(|(v, r)| f16::from_f32(*v).to_bits() == *r));
        narrow_bf16(&values, &mut raw);
        assert!(values
            .iter()
            .zip(&raw)
            .all(|(v, r)| bf16::from_f32(*v).to_bits() == *r));
    }
}
