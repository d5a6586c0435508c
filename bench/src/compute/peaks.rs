//! What the processor can do at best: loops in registers, and loops over memory.

use std::hint::black_box;
use std::sync::{Barrier, Mutex};
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

    /// Sum of words by whole vectors: two lines of each part in turn.
    #[target_feature(enable = "avx512f")]
    pub fn sum(from: &[u64], ahead: usize, part: usize) -> u64 {
        const LINES: usize = 2;
        let mut sums = [_mm512_setzero_si512(); 4 * LINES];
        let parts: Vec<&[u64]> = from.chunks_exact(part).collect();
        for at in (0..part).step_by(8 * LINES) {
            for (i, part) in parts.iter().enumerate() {
                let lines = part[at..at + 8 * LINES].chunks_exact(8);
                let sums = &mut sums[i % 4 * LINES..][..LINES];
                for (sum, line) in sums.iter_mut().zip(lines) {
                    if ahead > 0 {
                        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_byte_add(ahead).cast());
                    }
                    // SAFETY: eight words.
                    let line = unsafe { _mm512_loadu_si512(line.as_ptr().cast()) };
                    *sum = _mm512_add_epi64(*sum, line);
                }
            }
        }
        let total = sums
            .into_iter()
            .fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi64(a, b));
        _mm512_reduce_add_epi64(total) as u64
    }

    /// Copies by whole vectors past the caches; `ahead` bytes are fetched ahead.
    #[target_feature(enable = "avx512f")]
    pub fn copy(from: &[u64], to: &mut [u64], ahead: usize) {
        // SAFETY: any bytes are a vector.
        let (head, body, tail) = unsafe { to.align_to_mut::<__m512i>() };
        let (first, rest) = from.split_at(head.len());
        let (middle, last) = rest.split_at(8 * body.len());
        head.copy_from_slice(first);
        tail.copy_from_slice(last);
        for (from, to) in middle.chunks(32).zip(body.chunks_mut(4)) {
            for line in from.chunks_exact(8) {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_byte_add(ahead).cast());
            }
            for (line, to) in from.chunks_exact(8).zip(to) {
                // SAFETY: eight words; the place is a reference of the right type.
                unsafe { _mm512_stream_si512(to, _mm512_loadu_si512(line.as_ptr().cast())) };
            }
        }
        _mm_sfence();
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

/// A loop over two arrays of words.
type Loop<'l> = &'l (dyn Fn(&mut [u64], &mut [u64]) + Sync);

/// Memory for loops over it, one a thread.
fn areas(bytes: usize, threads: usize) -> Vec<Mutex<(Vec<u64>, Vec<u64>)>> {
    let words = bytes / 8 / threads;
    let area = || Mutex::new((vec![1; words], vec![2; words]));
    (0..threads).map(|_| area()).collect()
}

/// Seconds of the fastest of some loops over memory that is warm: the better of its second and third run.
fn best(bytes: usize, threads: usize, loops: &[Loop<'_>]) -> f64 {
    let areas = areas(bytes, threads);
    let time = |work: Loop<'_>| {
        let once = || {
            together(threads, |t| {
                let mut area = areas[t].lock().unwrap_or_else(|e| e.into_inner());
                let (from, to) = &mut *area;
                work(from, to);
            })
        };
        once();
        once().min(once())
    };
    loops.iter().map(|l| time(*l)).fold(f64::INFINITY, f64::min)
}

/// STREAM's copy, bytes read and written, GB/s: the best of plain stores and of stores past the caches, fetched some distances ahead.
pub fn copy(bytes: usize, threads: usize) -> f64 {
    let plain: Loop<'_> = &|from, to| {
        to.copy_from_slice(from);
        black_box(&to);
    };
    let near: Loop<'_> = &|from, to| copy_past_caches(from, to, 1024);
    let far: Loop<'_> = &|from, to| copy_past_caches(from, to, 4096);
    let seconds = best(bytes, threads, &[plain, near, far]);
    2.0 * bytes as f64 / seconds / 1e9
}

/// Copies with stores that go past the caches, where there are some; `ahead` bytes are fetched ahead.
fn copy_past_caches(from: &[u64], to: &mut [u64], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F.
        return unsafe { x86::copy(from, to, ahead) };
    }
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _mm_sfence, _mm_stream_si64, _MM_HINT_T0};
        for (from, to) in from.chunks(8).zip(to.chunks_mut(8)) {
            // SAFETY: SSE2 is part of x86-64; what is fetched ahead may lie anywhere, and the place of a store is a reference of the right type.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_byte_add(ahead).cast());
                for (f, t) in from.iter().zip(to) {
                    _mm_stream_si64(std::ptr::from_mut(t).cast(), *f as i64);
                }
            }
        }
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = ahead;
        to.copy_from_slice(from);
    }
}

/// Bytes read, GB/s: the best of some distances of fetching ahead, and of reading in several places at once.
pub fn read(bytes: usize, threads: usize) -> f64 {
    let read = |ahead, places| {
        move |from: &mut [u64], _: &mut [u64]| {
            black_box(sum(from, ahead, places));
        }
    };
    let ways = [
        read(0, 1),
        read(1024, 1),
        read(4096, 1),
        read(0, 8),
        read(0, 16),
    ];
    let loops: Vec<Loop<'_>> = ways.iter().map(|way| way as Loop<'_>).collect();
    bytes as f64 / best(bytes, threads, &loops) / 1e9
}

/// Sum of words, so that each is read, in some places in turn; `ahead` bytes are fetched ahead.
fn sum(from: &[u64], ahead: usize, places: usize) -> u64 {
    let part = from.len() / places;
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && part.is_multiple_of(16) {
        // SAFETY: the processor has AVX-512F.
        return unsafe { x86::sum(from, ahead, part) };
    }
    let _ = (ahead, part);
    from.iter().fold(0u64, |sum, v| sum.wrapping_add(*v))
}
