//! Thin products with AVX-512 and VNNI: up to sixteen rows, the other side read as it stands in memory.

use std::arch::x86_64::*;

use super::pack_x86::transpose;

/// How the elements of the other side are multiplied, a step a word of `a`.
pub(super) mod kind {
    /// f32.
    pub const SINGLE: u8 = 0;
    /// binary16, widened.
    pub const HALF: u8 = 1;
    /// bf16, widened; the odd element of a pair first.
    pub const BRAIN: u8 = 2;
    /// Fours of signed bytes with unsigned ones in `a`.
    pub const SIGNED: u8 = 3;
    /// Fours of unsigned bytes with signed ones in `a`.
    pub const UNSIGNED: u8 = 4;
}

/// Bytes of an element.
pub(super) const fn size(kind: u8) -> usize {
    match kind {
        kind::SINGLE => 4,
        kind::HALF | kind::BRAIN => 2,
        _ => 1,
    }
}

/// Whether elements are bytes.
const fn bytes(kind: u8) -> bool {
    size(kind) == 1
}

/// One step: adds products of two vectors to sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
fn step<const KIND: u8>(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    match KIND {
        kind::SIGNED => _mm512_dpbusd_epi32(sum, a, b),
        kind::UNSIGNED => _mm512_dpbusd_epi32(sum, b, a),
        _ => _mm512_castps_si512(_mm512_fmadd_ps(
            _mm512_castsi512_ps(a),
            _mm512_castsi512_ps(b),
            _mm512_castsi512_ps(sum),
        )),
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

/// Where the columns of the other side lie.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    /// First element.
    pub first: *const u8,
    /// Bytes from one line (columns along the depth) or depth (columns side by side) to the next.
    pub pitch: isize,
    /// Columns.
    pub columns: usize,
    /// Elements along the depth.
    pub length: usize,
}

/// Vectors of columns that one pass over some depth handles.
const fn vectors(rows: usize) -> usize {
    match rows {
        1 => 8,
        2 | 4 => 4,
        8 => 2,
        _ => 1,
    }
}

/// Columns side by side: adds words `0 .. words` to `sums`, which has `ROWS` rows (and one of the columns' own sums) at `pitch`.
/// Of bytes, each 64 columns come out in the order of [`unshuffle`].
///
/// # Safety
///
/// The instructions; `a` has `words` rows of `ROWS` words; the elements of `lines` may be read; `sums` has room for the columns, rounded
/// up to 64 (bytes) or 16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(super) unsafe fn across<const KIND: u8, const ROWS: usize, const SUMS: bool>(
    a: *const u32,
    lines: Lines,
    words: usize,
    sums: *mut u32,
    pitch: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        match (bytes(KIND), vectors(ROWS)) {
            (false, 8) => floats::<KIND, ROWS, 8>(a, lines, words, sums, pitch),
            (false, 4) => floats::<KIND, ROWS, 4>(a, lines, words, sums, pitch),
            (false, 2) => floats::<KIND, ROWS, 2>(a, lines, words, sums, pitch),
            (false, _) => floats::<KIND, ROWS, 1>(a, lines, words, sums, pitch),
            (true, 8 | 4) => fours::<KIND, ROWS, 4, SUMS>(a, lines, words, sums, pitch),
            (true, 2) => fours::<KIND, ROWS, 2, SUMS>(a, lines, words, sums, pitch),
            (true, _) => fours::<KIND, ROWS, 1, SUMS>(a, lines, words, sums, pitch),
        }
    }
}

/// Depth that one pass over the columns takes.
const DEEP: usize = 16;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn floats<const KIND: u8, const ROWS: usize, const V: usize>(
    a: *const u32,
    lines: Lines,
    words: usize,
    sums: *mut u32,
    pitch: usize,
) {
    for from in (0..words).step_by(DEEP) {
        let deep = DEEP.min(words - from);
        for column in (0..lines.columns).step_by(16 * V) {
            let masks: [u16; V] = std::array::from_fn(|v| {
                low(lines.columns.saturating_sub(column + 16 * v).min(16)) as u16
            });
            let mut acc = [[_mm512_setzero_si512(); V]; ROWS];
            for (m, row) in acc.iter_mut().enumerate() {
                for (v, acc) in row.iter_mut().enumerate() {
                    // SAFETY: masked to the columns.
                    *acc = unsafe {
                        _mm512_maskz_loadu_epi32(
                            masks[v],
                            sums.wrapping_add(m * pitch + column + 16 * v).cast(),
                        )
                    };
                }
            }
            for word in from..from + deep {
                let at = if KIND == kind::BRAIN { word ^ 1 } else { word };
                let line = lines.first.wrapping_offset(at as isize * lines.pitch);
                let mut b = [_mm512_setzero_si512(); V];
                for (v, b) in b.iter_mut().enumerate() {
                    let p = line.wrapping_add((column + 16 * v) * size(KIND));
                    if size(KIND) == 4 || v % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(
                            p.wrapping_offset(DEEP as isize * lines.pitch).cast(),
                        );
                    }
                    if KIND == kind::BRAIN && at >= lines.length {
                        continue;
                    }
                    // SAFETY: masked to the columns; the depth is within the length.
                    *b = unsafe { widened::<KIND>(p, masks[v]) };
                }
                for (m, row) in acc.iter_mut().enumerate() {
                    // SAFETY: `word` < `words`.
                    let a = unsafe { _mm512_set1_epi32(*a.add(word * ROWS + m) as i32) };
                    for (acc, b) in row.iter_mut().zip(b) {
                        *acc = step::<KIND>(*acc, a, b);
                    }
                }
            }
            for (m, row) in acc.iter().enumerate() {
                for (v, acc) in row.iter().enumerate() {
                    // SAFETY: masked to the columns.
                    unsafe {
                        _mm512_mask_storeu_epi32(
                            sums.wrapping_add(m * pitch + column + 16 * v).cast(),
                            masks[v],
                            *acc,
                        )
                    };
                }
            }
        }
    }
}

/// Up to 16 elements as f32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn widened<const KIND: u8>(from: *const u8, mask: u16) -> __m512i {
    // SAFETY: masked loads touch what the caller vouches for.
    unsafe {
        match KIND {
            kind::SINGLE => _mm512_maskz_loadu_epi32(mask, from.cast()),
            kind::HALF => {
                _mm512_castps_si512(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.cast())))
            }
            _ => _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(
                mask,
                from.cast(),
            ))),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn fours<const KIND: u8, const ROWS: usize, const V: usize, const SUMS: bool>(
    a: *const u32,
    lines: Lines,
    words: usize,
    sums: *mut u32,
    pitch: usize,
) {
    let ones = _mm512_set1_epi8(1);
    for from in (0..words).step_by(DEEP) {
        let deep = DEEP.min(words - from);
        for column in (0..lines.columns).step_by(64) {
            let mask = low(lines.columns - column);
            for j0 in (0..4).step_by(V) {
                let mut acc = [[_mm512_setzero_si512(); V]; ROWS];
                let mut own = [_mm512_setzero_si512(); V];
                // SAFETY: 64 columns of each row of sums.
                unsafe {
                    for v in 0..V {
                        let at = sums.wrapping_add(column + 16 * (j0 + v));
                        for (m, row) in acc.iter_mut().enumerate() {
                            row[v] = _mm512_loadu_si512(at.wrapping_add(m * pitch).cast());
                        }
                        if SUMS {
                            own[v] = _mm512_loadu_si512(at.wrapping_add(ROWS * pitch).cast());
                        }
                    }
                }
                for word in from..from + deep {
                    let mut r = [_mm512_setzero_si512(); 4];
                    for (i, r) in r.iter_mut().enumerate() {
                        let at = 4 * word + i;
                        let p = lines
                            .first
                            .wrapping_offset(at as isize * lines.pitch)
                            .wrapping_add(column);
                        if j0 == 0 {
                            _mm_prefetch::<_MM_HINT_T0>(
                                p.wrapping_offset(4 * DEEP as isize * lines.pitch).cast(),
                            );
                        }
                        if at < lines.length {
                            // SAFETY: masked to the columns; the depth is within the length.
                            *r = unsafe { _mm512_maskz_loadu_epi8(mask, p.cast()) };
                        }
                    }
                    let mut b = [_mm512_setzero_si512(); V];
                    for (v, b) in b.iter_mut().enumerate() {
                        let (x, y) = match (j0 + v) / 2 {
                            0 => (
                                _mm512_unpacklo_epi8(r[0], r[1]),
                                _mm512_unpacklo_epi8(r[2], r[3]),
                            ),
                            _ => (
                                _mm512_unpackhi_epi8(r[0], r[1]),
                                _mm512_unpackhi_epi8(r[2], r[3]),
                            ),
                        };
                        *b = match (j0 + v) % 2 {
                            0 => _mm512_unpacklo_epi16(x, y),
                            _ => _mm512_unpackhi_epi16(x, y),
                        };
                    }
                    for (m, row) in acc.iter_mut().enumerate() {
                        // SAFETY: `word` < `words`.
                        let a = unsafe { _mm512_set1_epi32(*a.add(word * ROWS + m) as i32) };
                        for (acc, b) in row.iter_mut().zip(b) {
                            *acc = step::<KIND>(*acc, a, b);
                        }
                    }
                    if SUMS {
                        for (own, b) in own.iter_mut().zip(b) {
                            *own = step::<KIND>(*own, ones, b);
                        }
                    }
                }
                // SAFETY: as above.
                unsafe {
                    for v in 0..V {
                        let at = sums.wrapping_add(column + 16 * (j0 + v));
                        for (m, row) in acc.iter().enumerate() {
                            _mm512_storeu_si512(at.wrapping_add(m * pitch).cast(), row[v]);
                        }
                        if SUMS {
                            _mm512_storeu_si512(at.wrapping_add(ROWS * pitch).cast(), own[v]);
                        }
                    }
                }
            }
        }
    }
}

/// Puts the sums of 64 columns of bytes into order: part `l` of vector `j` holds columns `16 l + 4 j` and the three behind it.
pub(super) fn unshuffle(sums: &mut [u32]) {
    for group in sums.chunks_exact_mut(64) {
        let mut plain = [0u32; 64];
        for (i, four) in group.chunks_exact(4).enumerate() {
            let (j, l) = (i / 4, i % 4);
            plain[16 * l + 4 * j..][..4].copy_from_slice(four);
        }
        group.copy_from_slice(&plain);
    }
}

/// Bytes of a line that are fetched ahead.
const AHEAD: usize = 1024;

/// Columns along the depth, up to eight rows: the sums of words `0 .. words` of 16 columns, added to those that are there.
///
/// # Safety
///
/// The instructions; `a` has `words` rows of `ROWS` words; the elements of `lines` may be read (1 to 16 columns).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(super) unsafe fn along<const KIND: u8, const ROWS: usize, const SUMS: bool>(
    a: *const u32,
    lines: Lines,
    words: usize,
    sums: &mut [[u32; 16]; 17],
) {
    let ones = _mm512_set1_epi8(1);
    let (elements, steps) = shape(KIND);
    let mut acc = [_mm512_setzero_si512(); ROWS];
    let mut own = _mm512_setzero_si512();
    // SAFETY: arrays of 16 words.
    unsafe {
        for (acc, from) in acc.iter_mut().zip(sums.iter()) {
            *acc = _mm512_loadu_si512(from.as_ptr().cast());
        }
        if SUMS {
            own = _mm512_loadu_si512(sums[ROWS].as_ptr().cast());
        }
    }
    let row = starts(&lines);
    // Even halves of words, then odd ones.
    let order: [u16; 32] = std::array::from_fn(|i| (i % 16 * 2 + i / 16) as u16);
    // SAFETY: an array of 64 bytes.
    let split = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let mut at = 0;
    while at * steps < words {
        let left = (lines.length - at * elements) * size(KIND);
        let mut t = [_mm512_setzero_si512(); 16];
        for (t, row) in t.iter_mut().zip(row) {
            let p = row.wrapping_add(at * 4);
            _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(AHEAD).cast());
            // SAFETY: within the line.
            *t = unsafe {
                match left {
                    64.. => _mm512_loadu_si512(p.cast()),
                    _ => _mm512_maskz_loadu_epi8(low(left), p.cast()),
                }
            };
        }
        let t = transpose(t);
        let here = (words / steps + words % steps - at).min(16);
        let mut one = |word: usize, b: __m512i| {
            for (m, acc) in acc.iter_mut().enumerate() {
                // SAFETY: `word` < `words`.
                let a = unsafe { _mm512_set1_epi32(*a.add(word * ROWS + m) as i32) };
                *acc = step::<KIND>(*acc, a, b);
            }
            if SUMS {
                own = step::<KIND>(own, ones, b);
            }
        };
        for (i, t) in t.into_iter().enumerate() {
            if i >= here {
                break;
            }
            let word = (at + i) * steps;
            match KIND {
                kind::BRAIN => {
                    one(
                        word,
                        _mm512_and_si512(t, _mm512_set1_epi32(0xffff_0000_u32 as i32)),
                    );
                    one(word + 1, _mm512_slli_epi32::<16>(t));
                }
                kind::HALF => {
                    let t = _mm512_permutexvar_epi16(split, t);
                    one(
                        word,
                        _mm512_castps_si512(_mm512_cvtph_ps(_mm512_castsi512_si256(t))),
                    );
                    if word + 1 < words {
                        let odd = _mm512_extracti64x4_epi64::<1>(t);
                        one(word + 1, _mm512_castps_si512(_mm512_cvtph_ps(odd)));
                    }
                }
                _ => one(word, t),
            }
        }
        at += 16;
    }
    // SAFETY: arrays of 16 words.
    unsafe {
        for (acc, to) in acc.iter().zip(sums.iter_mut()) {
            _mm512_storeu_si512(to.as_mut_ptr().cast(), *acc);
        }
        if SUMS {
            _mm512_storeu_si512(sums[ROWS].as_mut_ptr().cast(), own);
        }
    }
}

/// Columns along the depth, sixteen rows in the lanes of vectors: adds words `0 .. words` to the sums of 16 columns, a vector each; and of
/// bytes the columns' own sums to `own`.
///
/// # Safety
///
/// The instructions; `a` has `words` rows of 16 words; the elements of `lines` may be read (1 to 16 columns).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
pub(super) unsafe fn spread<const KIND: u8, const SUMS: bool>(
    a: *const u32,
    lines: Lines,
    words: usize,
    sums: &mut [[u32; 16]; 16],
    own: &mut [u32; 16],
) {
    let (elements, steps) = shape(KIND);
    let row = starts(&lines);
    // SAFETY: arrays of 16 words.
    let mut acc: [__m512i; 16] =
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(sums[i].as_ptr().cast()) });
    // Lines are often a power of two apart, and would throw each other out of the cache while their words are taken one by one.
    let mut near = [[0u32; 32]; 16];
    let mut at = 0;
    while at * steps < words {
        let left = (lines.length - at * elements) * size(KIND);
        for ((row, to), own) in row.iter().zip(&mut near).zip(own.iter_mut()) {
            let p = row.wrapping_add(at * 4);
            _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(AHEAD).cast());
            // SAFETY: within the line; 32 words of room.
            unsafe {
                let v = _mm512_maskz_loadu_epi8(low(left), p.cast());
                let to = to.as_mut_ptr();
                match KIND {
                    kind::HALF => {
                        let (x, y) = (_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
                        _mm512_storeu_ps(to.cast(), _mm512_cvtph_ps(x));
                        _mm512_storeu_ps(to.add(16).cast(), _mm512_cvtph_ps(y));
                    }
                    kind::BRAIN => {
                        let (x, y) = (_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
                        let wide = |v| {
                            _mm512_shuffle_epi32::<0b10_11_00_01>(_mm512_slli_epi32::<16>(
                                _mm512_cvtepu16_epi32(v),
                            ))
                        };
                        _mm512_storeu_si512(to.cast(), wide(x));
                        _mm512_storeu_si512(to.add(16).cast(), wide(y));
                    }
                    _ => _mm512_storeu_si512(to.cast(), v),
                }
                if SUMS {
                    let sum = step::<KIND>(_mm512_setzero_si512(), _mm512_set1_epi8(1), v);
                    *own = own.wrapping_add(_mm512_reduce_add_epi32(sum) as u32);
                }
            }
        }
        let first = at * steps;
        for word in 0..(words - first).min(16 * steps) {
            // SAFETY: `first + word` < `words`.
            unsafe {
                let a = _mm512_loadu_si512(a.add((first + word) * 16).cast());
                for (acc, near) in acc.iter_mut().zip(&near) {
                    *acc = step::<KIND>(*acc, a, _mm512_set1_epi32(near[word] as i32));
                }
            }
        }
        at += 16;
    }
    for (acc, to) in acc.iter().zip(sums) {
        // SAFETY: an array of 16 words.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *acc) };
    }
}

/// Elements of a word of memory, and steps that it takes.
const fn shape(kind: u8) -> (usize, usize) {
    match kind {
        kind::SINGLE => (1, 1),
        kind::HALF | kind::BRAIN => (2, 2),
        _ => (4, 1),
    }
}

/// Where 16 columns along the depth begin; the last stands for those that are missing.
fn starts(lines: &Lines) -> [*const u8; 16] {
    std::array::from_fn(|i| {
        let i = i.min(lines.columns - 1) as isize;
        lines.first.wrapping_offset(i * lines.pitch)
    })
}
