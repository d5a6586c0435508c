//! Register tiles for x86-64.

use std::arch::x86_64::*;

use super::tile::{versions, Plan};

/// Defines a tile: `$lanes` columns a vector, `$pitch` words a step in a panel of `a`.
macro_rules! tile {
    (
        $plan:ident, $name:ident, $features:literal, $w:ty, $t:ty, rows $rows:literal of $pitch:literal ($($r:literal)*), lanes $lanes:literal,
        zero $zero:expr, load |$lp:ident| $load:expr, splat |$sp:ident| $splat:expr,
        step |$acc:ident, $a:ident, $b:ident| $step:expr, sum |$op:ident| $sum_load:expr, add $add:ident, store $store:expr
    ) => {
        /// # Safety
        ///
        /// As `Tile`; the processor has the instructions named in `target_feature`.
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const V: usize>(
            deep: usize,
            a: *const $w,
            b: *const $w,
            out: *mut $t,
            pitch: usize,
            first: bool,
        ) {
            // SAFETY: steps below `deep` lie in the panels and the tile in `out`, as the caller vouches.
            unsafe {
                let mut acc = [[$zero; V]; R];
                let (mut a, mut b) = (a, b);
                for _ in 0..deep {
                    let mut row = [$zero; V];
                    for (v, to) in row.iter_mut().enumerate() {
                        let $lp = b.add(v * $lanes);
                        *to = $load;
                    }
                    for (i, line) in acc.iter_mut().enumerate() {
                        let $sp = a.add(i);
                        let $a = $splat;
                        for (to, $b) in line.iter_mut().zip(row) {
                            let $acc = *to;
                            *to = $step;
                        }
                    }
                    a = a.add($pitch);
                    b = b.add(2 * $lanes);
                }
                for (i, line) in acc.into_iter().enumerate() {
                    for (v, value) in line.into_iter().enumerate() {
                        let $op = out.add(i * pitch + v * $lanes);
                        let value = if first { value } else { $add($sum_load, value) };
                        $store($op.cast(), value);
                    }
                }
            }
        }

        /// Tiles of these instructions.
        pub(super) static $plan: Plan<$w, $t> = Plan {
            rows: $rows,
            pitch_a: $pitch,
            columns: 2 * $lanes,
            lanes: $lanes,
            tiles: versions!($name: $($r)*),
        };
    };
}

tile!(
    F32_V4, f32_v4, "avx512f", f32, f32, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 16,
    zero _mm512_setzero_ps(), load |p| _mm512_loadu_ps(p), splat |p| _mm512_set1_ps(*p),
    step |acc, a, b| _mm512_fmadd_ps(a, b, acc),
    sum |p| _mm512_loadu_ps(p), add _mm512_add_ps, store _mm512_storeu_ps
);
tile!(
    F32_V3, f32_v3, "avx2,fma", f32, f32, rows 6 of 8 (1 2 3 4 5 6), lanes 8,
    zero _mm256_setzero_ps(), load |p| _mm256_loadu_ps(p), splat |p| _mm256_set1_ps(*p),
    step |acc, a, b| _mm256_fmadd_ps(a, b, acc),
    sum |p| _mm256_loadu_ps(p), add _mm256_add_ps, store _mm256_storeu_ps
);
tile!(
    F64_V4, f64_v4, "avx512f", f64, f64, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 8,
    zero _mm512_setzero_pd(), load |p| _mm512_loadu_pd(p), splat |p| _mm512_set1_pd(*p),
    step |acc, a, b| _mm512_fmadd_pd(a, b, acc),
    sum |p| _mm512_loadu_pd(p), add _mm512_add_pd, store _mm512_storeu_pd
);
tile!(
    F64_V3, f64_v3, "avx2,fma", f64, f64, rows 6 of 8 (1 2 3 4 5 6), lanes 4,
    zero _mm256_setzero_pd(), load |p| _mm256_loadu_pd(p), splat |p| _mm256_set1_pd(*p),
    step |acc, a, b| _mm256_fmadd_pd(a, b, acc),
    sum |p| _mm256_loadu_pd(p), add _mm256_add_pd, store _mm256_storeu_pd
);
tile!(
    BF16, bf16, "avx512f,avx512bf16", u32, f32, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 16,
    zero _mm512_setzero_ps(), load |p| _mm512_loadu_ps(p.cast()), splat |p| _mm512_set1_ps(f32::from_bits(*p)),
    step |acc, a, b| _mm512_dpbf16_ps(acc, pairs(a), pairs(b)),
    sum |p| _mm512_loadu_ps(p), add _mm512_add_ps, store _mm512_storeu_ps
);
tile!(
    I8_VNNI, i8_vnni, "avx512f,avx512vnni", u32, i32, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 16,
    zero _mm512_setzero_si512(), load |p| _mm512_loadu_si512(p.cast()), splat |p| _mm512_set1_epi32(*p as i32),
    step |acc, a, b| _mm512_dpbusd_epi32(acc, a, b),
    sum |p| _mm512_loadu_si512(p.cast()), add _mm512_add_epi32, store _mm512_storeu_si512
);
tile!(
    I16_VNNI, i16_vnni, "avx512f,avx512vnni", u32, i32, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 16,
    zero _mm512_setzero_si512(), load |p| _mm512_loadu_si512(p.cast()), splat |p| _mm512_set1_epi32(*p as i32),
    step |acc, a, b| _mm512_dpwssd_epi32(acc, a, b),
    sum |p| _mm512_loadu_si512(p.cast()), add _mm512_add_epi32, store _mm512_storeu_si512
);
tile!(
    I16_V4, i16_v4, "avx512f,avx512bw", u32, i32, rows 14 of 16 (1 2 3 4 5 6 7 8 9 10 11 12 13 14), lanes 16,
    zero _mm512_setzero_si512(), load |p| _mm512_loadu_si512(p.cast()), splat |p| _mm512_set1_epi32(*p as i32),
    step |acc, a, b| _mm512_add_epi32(acc, _mm512_madd_epi16(a, b)),
    sum |p| _mm512_loadu_si512(p.cast()), add _mm512_add_epi32, store _mm512_storeu_si512
);
tile!(
    I16_V3, i16_v3, "avx2", u32, i32, rows 6 of 8 (1 2 3 4 5 6), lanes 8,
    zero _mm256_setzero_si256(), load |p| _mm256_loadu_si256(p.cast()), splat |p| _mm256_set1_epi32(*p as i32),
    step |acc, a, b| _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)),
    sum |p| _mm256_loadu_si256(p.cast()), add _mm256_add_epi32, store _mm256_storeu_si256
);

/// Takes a vector's bits for pairs of bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(v: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes without invalid bit patterns.
    unsafe { std::mem::transmute(v) }
}
