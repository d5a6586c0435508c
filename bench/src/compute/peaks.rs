//! What the processor can do at best: loops in registers, and loops over memory.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Which instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// f32 fused multiply-adds.
    F32,
    /// Pairs of bf16.
    Bf16,
    /// Fours of bytes.
    Bytes,
}

/// Steps of a measurement: about two milliseconds.
const STEPS: u64 = 500_000;
/// Independent sums: enough to hide the latency of an instruction.
const SUMS: u64 = 16;

/// Runs `work` on some threads at once; seconds until the last has ended.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let ends = std::thread::scope(|scope| {
        let run = |t: usize| {
            let (barrier, work) = (&barrier, &work);
            move || {
                barrier.wait();
                let start = Instant::now();
                work(t);
                start.elapsed().as_secs_f64()
            }
        };
        let others: Vec<_> = (1..threads).map(|t| scope.spawn(run(t))).collect();
        let mut ends = vec![run(0)()];
        ends.extend(others.into_iter().filter_map(|t| t.join().ok()));
        ends
    });
    ends.into_iter().fold(0.0, f64::max)
}

/// Operations a second of an instruction, 10⁹; not a number where the processor does not have it in 512 bits (f32: 256).
pub fn rate(kind: Kind, threads: usize) -> f64 {
    let Some((loop_of, operations)) = find(kind) else {
        return f64::NAN;
    };
    let seconds = together(threads, |_| loop_of());
    (STEPS * SUMS * operations * threads as u64) as f64 / seconds / 1e9
}

#[cfg(not(target_arch = "x86_64"))]
fn find(_: Kind) -> Option<(fn(), u64)> {
    None
}

/// The loop of an instruction, and its operations.
#[cfg(target_arch = "x86_64")]
fn find(kind: Kind) -> Option<(fn(), u64)> {
    let wide = is_x86_feature_detected!("avx512f");
    match kind {
        Kind::F32 if wide => Some((
            || {
                // SAFETY: the processor has AVX-512F.
                unsafe { x86::f32_512() }
            },
            32,
        )),
        Kind::F32 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => Some((
            || {
                // SAFETY: the processor has AVX2 and FMA.
                unsafe { x86::f32_256() }
            },
            16,
        )),
        Kind::Bf16 if wide && is_x86_feature_detected!("avx512bf16") => Some((
            || {
                // SAFETY: the processor has AVX512-BF16.
                unsafe { x86::bf16() }
            },
            64,
        )),
        Kind::Bytes if wide && is_x86_feature_detected!("avx512vnni") => Some((
            || {
                // SAFETY: the processor has AVX512-VNNI.
                unsafe { x86::bytes() }
            },
            128,
        )),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{black_box, STEPS, SUMS};

    /// Sum of words by whole vectors.
    #[target_feature(enable = "avx512f")]
    pub fn sum(from: &[u64], ahead: usize) -> u64 {
        let mut sums = [_mm512_setzero_si512(); 8];
        for chunk in from.chunks_exact(64) {
            for (sum, line) in sums.iter_mut().zip(chunk.chunks_exact(8)) {
                if ahead > 0 {
                    _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_byte_add(ahead).cast());
                }
                // SAFETY: eight words.
                let line = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
                *sum = _mm512_add_epi64(*sum, line);
            }
        }
        let total = sums
            .into_iter()
            .fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi64(a, b));
        _mm512_reduce_add_epi64(total) as u64
    }

    macro_rules! peak {
        ($name:ident, $features:literal, $zero:expr, $a:expr, |$acc:ident, $v:ident| $step:expr) => {
            /// A loop of independent sums.
            #[target_feature(enable = $features)]
            pub fn $name() {
                let mut sums = [$zero; SUMS as usize];
                let $v = black_box($a);
                for _ in 0..STEPS {
                    for sum in &mut sums {
                        let $acc = *sum;
                        *sum = $step;
                    }
                }
                black_box(sums);
            }
        };
    }
    peak!(
        f32_512,
        "avx512f",
        _mm512_setzero_ps(),
        _mm512_set1_ps(0.5),
        |acc, v| _mm512_fmadd_ps(v, v, acc)
    );
    peak!(
        f32_256,
        "avx2,fma",
        _mm256_setzero_ps(),
        _mm256_set1_ps(0.5),
        |acc, v| _mm256_fmadd_ps(v, v, acc)
    );
    peak!(
        bf16,
        "avx512f,avx512bf16",
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |acc, v| _mm512_dpbf16_ps(acc, v, v)
    );
    peak!(
        bytes,
        "avx512f,avx512vnni",
        _mm512_setzero_si512(),
        _mm512_set1_epi8(3),
        |acc, v| _mm512_dpbusd_epi32(acc, v, v)
    );
}

/// Memory for loops over it, one a thread.
fn areas(bytes: usize, threads: usize) -> Vec<std::sync::Mutex<(Vec<u64>, Vec<u64>)>> {
    let words = bytes / 8 / threads;
    let area = || std::sync::Mutex::new((vec![1; words], vec![2; words]));
    (0..threads).map(|_| area()).collect()
}

/// Times a loop over memory that is warm: the third of three.
fn over(bytes: usize, threads: usize, work: impl Fn(&mut (Vec<u64>, Vec<u64>)) + Sync) -> f64 {
    let areas = areas(bytes, threads);
    let once = || {
        together(threads, |t| {
            let mut area = areas[t].lock().unwrap_or_else(|e| e.into_inner());
            work(&mut area);
        })
    };
    once();
    once().min(once())
}

/// STREAM's copy, bytes read and written, GB/s.
pub fn copy(bytes: usize, threads: usize) -> f64 {
    let seconds = over(bytes, threads, |(from, to)| {
        copy_past_caches(from, to);
        black_box(&to);
    });
    2.0 * bytes as f64 / seconds / 1e9
}

/// Copies with stores that go past the caches, where there are some.
fn copy_past_caches(from: &[u64], to: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_sfence, _mm_stream_si64};
        for (f, t) in from.iter().zip(to) {
            // SAFETY: SSE2 is part of x86-64; the place is a reference of the right type.
            unsafe { _mm_stream_si64(std::ptr::from_mut(t).cast(), *f as i64) };
        }
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// Bytes read, GB/s: the best of some distances of fetching ahead.
pub fn read(bytes: usize, threads: usize) -> f64 {
    let with = |ahead: usize| {
        let seconds = over(bytes, threads, |(from, _)| {
            black_box(sum(from, ahead));
        });
        bytes as f64 / seconds / 1e9
    };
    [0, 1024, 2048].into_iter().map(with).fold(0.0, f64::max)
}

/// Sum of words, so that each is read; `ahead` bytes are fetched ahead.
fn sum(from: &[u64], ahead: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F.
        return unsafe { x86::sum(from, ahead) };
    }
    from.iter()
        .fold(0u64, |sum, v| sum.wrapping_add(*v))
        .wrapping_add(ahead as u64)
}
