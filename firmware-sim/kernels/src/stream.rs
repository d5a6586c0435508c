//! Copies of large ranges past the caches: a store that goes around them saves reading the line that it overwrites.

/// Bytes of one round of the vector loop: a line.
const ROUND: usize = 64;

/// Copies with non-temporal stores where the processor has them; the stores are visible to other cores when it returns.
///
/// # Safety
///
/// `from` must be valid for reads and `to` for writes of `length` bytes. Where they overlap the result is unspecified.
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: as the caller says.
    unsafe { store(from, to, length) };
    fence();
}

/// Orders this thread's stores past the caches before all that it stores next.
#[inline]
pub(super) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// As [`copy`]; the stores are visible to other cores after [`fence`].
///
/// # Safety
///
/// As for [`copy`].
#[inline]
pub(super) unsafe fn store(from: *const u8, to: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        let head = to.align_offset(ROUND).min(length);
        let rounds = (length - head) / ROUND;
        let done = head + rounds * ROUND;
        // SAFETY: the three parts lie within the ranges, one after the other; the vector loop is called with what it needs: its processor,
        // a destination aligned to 64 bytes, and whole rounds.
        unsafe {
            if head > 0 {
                std::ptr::copy(from, to, head);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                x86::avx512(from.add(head), to.add(head), rounds);
            } else if std::arch::is_x86_feature_detected!("avx") {
                x86::avx(from.add(head), to.add(head), rounds);
            } else {
                x86::sse2(from.add(head), to.add(head), rounds);
            }
            if done < length {
                std::ptr::copy(from.add(done), to.add(done), length - done);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: as the caller says.
    unsafe {
        std::ptr::copy(from, to, length)
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ROUND;
    use std::arch::x86_64::*;

    /// # Safety
    ///
    /// AVX-512F; `rounds` rounds to read and write; `to` is aligned to 64 bytes.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(from: *const u8, to: *mut u8, rounds: usize) {
        for round in 0..rounds {
            // SAFETY: within the ranges, as the caller says.
            unsafe {
                let from = from.add(round * ROUND).cast::<__m512i>();
                let to = to.add(round * ROUND).cast::<__m512i>();
                _mm512_stream_si512(to, _mm512_loadu_si512(from));
            }
        }
    }

    /// # Safety
    ///
    /// As [`avx512`], with AVX.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn avx(from: *const u8, to: *mut u8, rounds: usize) {
        for round in 0..rounds {
            // SAFETY: within the ranges, as the caller says.
            unsafe {
                let from = from.add(round * ROUND).cast::<__m256i>();
                let to = to.add(round * ROUND).cast::<__m256i>();
                let (a, b) = (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)));
                _mm256_stream_si256(to, a);
                _mm256_stream_si256(to.add(1), b);
            }
        }
    }

    /// # Safety
    ///
    /// As [`avx512`], with what every x86-64 processor has.
    pub(super) unsafe fn sse2(from: *const u8, to: *mut u8, rounds: usize) {
        for part in 0..rounds * (ROUND / 16) {
            // SAFETY: within the ranges, as the caller says.
            unsafe {
                let from = from.add(part * 16).cast::<__m128i>();
                let to = to.add(part * 16).cast::<__m128i>();
                _mm_stream_si128(to, _mm_loadu_si128(from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At every alignment of both sides, against a plain copy.
    #[test]
    fn every_byte_is_copied_and_no_other() {
        let from: Vec<u8> = (0..4096_u32).map(|i| (i * 7 + i / 256) as u8).collect();
        for (start, offset) in (0..65).flat_map(|s| (0..65).map(move |o| (s, o))) {
            for length in [0, 1, 63, 64, 255, 256, 257, 319, 320, 3000] {
                let mut to = vec![0xa5_u8; 3200];
                // SAFETY: both ranges lie within their vectors, which are not the same.
                unsafe { copy(from[start..].as_ptr(), to[offset..].as_mut_ptr(), length) };
                let case = (start, offset, length);
                assert!(
                    to[offset..offset + length] == from[start..start + length],
                    "{case:?}"
                );
                let (before, rest) = to.split_at(offset);
                let rest = &rest[length..];
                assert!(before.iter().chain(rest).all(|b| *b == 0xa5), "{case:?}");
            }
        }
    }

    /// The ways that this processor has but does not take.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn all_vector_loops_copy() {
        #[repr(align(64))]
        struct Aligned([u8; 4 * ROUND]);
        let from: Vec<u8> = (0..5 * ROUND).map(|i| (i * 13) as u8).collect();
        for start in 0..64 {
            for rounds in 0..=4 {
                let mut ways: Vec<unsafe fn(*const u8, *mut u8, usize)> = vec![x86::sse2];
                if std::arch::is_x86_feature_detected!("avx512f") {
                    ways.push(x86::avx512);
                }
                if std::arch::is_x86_feature_detected!("avx") {
                    ways.push(x86::avx);
                }
                for way in ways {
                    let mut to = Aligned([0xa5; 4 * ROUND]);
                    // SAFETY: the processor has it; source and destination have four rounds, and the destination is aligned.
                    unsafe { way(from[start..].as_ptr(), to.0.as_mut_ptr(), rounds) };
                    let (done, rest) = to.0.split_at(rounds * ROUND);
                    assert!(done == &from[start..start + done.len()]);
                    assert!(rest.iter().all(|b| *b == 0xa5));
                }
            }
        }
    }
}
