//! Packing: lines of an operand in memory become panels of words, which tiles read in order.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use vmlu_abi::Wire;

use crate::simd::{self, Level};
use crate::view::View;

/// One side of a product: vectors (rows of `a`, columns of `b`) along the depth.
pub(crate) trait Side<W>: Sync {
    /// Number of vectors.
    fn lines(&self) -> usize;

    /// Whether neighbouring lines lie closer in memory than neighbours along the depth.
    fn across(&self) -> bool;

    /// Writes word `k` of line `l` to `to[(k - words.start) * pitch + (l - lines.start)]`, and zero behind the lines and behind the depth.
    /// At most `pitch` lines.
    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [W]);
}

/// How vector code loads words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word is 1, 2 or 4 neighbouring elements as they stand in memory.
    Bits,
    /// binary16 to f32.
    Half,
    /// bf16 to f32, in swapped pairs.
    Brain,
    /// bf16 to f32.
    Straight,
    /// There is none.
    Plain,
}

/// How elements in memory become words.
pub(crate) trait Feed: 'static {
    /// An element's bits.
    type Element: Wire + Default;
    /// What they become.
    type Word: Wire + Default + Send + Sync;
    /// Elements of a word, at most 4.
    const STEP: usize = 1;
    /// Pairs of elements change places, so that the odd one comes first.
    const SWAP: bool = false;
    /// Added to each byte, wrapping, as an exclusive or: 0 or 0x80.
    const FLIP: u8 = 0;
    /// Vector code.
    const KIND: Kind = Kind::Plain;

    /// Makes a word of the first [`Feed::STEP`] elements.
    fn word(elements: [Self::Element; 4]) -> Self::Word;

    /// Words that some elements take.
    fn words(elements: usize) -> usize {
        if Self::SWAP {
            elements.next_multiple_of(2)
        } else {
            elements.div_ceil(Self::STEP)
        }
    }
}

/// f32 as it is.
pub(crate) enum Single {}
impl Feed for Single {
    type Element = f32;
    type Word = f32;
    const KIND: Kind = Kind::Bits;
    #[inline(always)]
    fn word(e: [f32; 4]) -> f32 {
        e[0]
    }
}

/// f64 as it is.
pub(crate) enum Double {}
impl Feed for Double {
    type Element = f64;
    type Word = f64;
    #[inline(always)]
    fn word(e: [f64; 4]) -> f64 {
        e[0]
    }
}

/// binary16 to f32.
pub(crate) enum Half {}
impl Feed for Half {
    type Element = u16;
    type Word = f32;
    const KIND: Kind = Kind::Half;
    #[inline(always)]
    fn word(e: [u16; 4]) -> f32 {
        f16::from_bits(e[0]).to_f32()
    }
}

/// bf16 to f32, in the order in which pairs are summed.
pub(crate) enum Brain {}
impl Feed for Brain {
    type Element = u16;
    type Word = f32;
    const SWAP: bool = true;
    const KIND: Kind = Kind::Brain;
    #[inline(always)]
    fn word(e: [u16; 4]) -> f32 {
        bf16::from_bits(e[0]).to_f32()
    }
}

/// bf16 to f32, in order.
pub(crate) enum BrainStraight {}
impl Feed for BrainStraight {
    type Element = u16;
    type Word = f32;
    const KIND: Kind = Kind::Straight;
    #[inline(always)]
    fn word(e: [u16; 4]) -> f32 {
        bf16::from_bits(e[0]).to_f32()
    }
}

/// Pairs of 16-bit elements as they are: bf16, i16.
pub(crate) enum Pairs {}
impl Feed for Pairs {
    type Element = u16;
    type Word = u32;
    const STEP: usize = 2;
    const KIND: Kind = Kind::Bits;
    #[inline(always)]
    fn word(e: [u16; 4]) -> u32 {
        u32::from(e[0]) | u32::from(e[1]) << 16
    }
}

/// Fours of bytes; with a flip of 0x80, signed ones become unsigned and 128 larger, and unsigned ones signed and 128 smaller.
pub(crate) enum Bytes<const FLIP: u8> {}
impl<const FLIP: u8> Feed for Bytes<FLIP> {
    type Element = u8;
    type Word = u32;
    const STEP: usize = 4;
    const FLIP: u8 = FLIP;
    const KIND: Kind = Kind::Bits;
    #[inline(always)]
    fn word(e: [u8; 4]) -> u32 {
        u32::from_le_bytes(e)
    }
}

/// Pairs of bytes, widened to i16.
pub(crate) enum WideBytes<const SIGNED: bool> {}
impl<const SIGNED: bool> Feed for WideBytes<SIGNED> {
    type Element = u8;
    type Word = u32;
    const STEP: usize = 2;
    #[inline(always)]
    fn word(e: [u8; 4]) -> u32 {
        let wide = |b: u8| match SIGNED {
            true => u32::from(i16::from(b as i8) as u16),
            false => u32::from(b),
        };
        wide(e[0]) | wide(e[1]) << 16
    }
}

/// i16 to f64.
pub(crate) enum DoubleOfI16 {}
impl Feed for DoubleOfI16 {
    type Element = i16;
    type Word = f64;
    #[inline(always)]
    fn word(e: [i16; 4]) -> f64 {
        f64::from(e[0])
    }
}

/// An operand with strides.
pub(crate) struct Strided<'v, 'a, F> {
    /// Its memory.
    pub view: &'v View<'a>,
    /// First element.
    pub offset: isize,
    /// Elements from a line to the next.
    pub line: isize,
    /// Elements from one to the next along the depth.
    pub depth: isize,
    /// Number of lines.
    pub lines: usize,
    /// Elements along the depth.
    pub length: usize,
    /// How they are read.
    pub feed: PhantomData<fn() -> F>,
}

impl<F: Feed> Side<F::Word> for Strided<'_, '_, F> {
    fn lines(&self) -> usize {
        self.lines
    }

    fn across(&self) -> bool {
        self.line.unsigned_abs() < self.depth.unsigned_abs()
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        assert!(lines.len() <= pitch);
        let depth = Depth::of::<F>(words, self.depth, self.length);
        let start = self.offset + lines.start as isize * self.line;
        for from in (0..pitch).step_by(LANES) {
            let count = lines.len().saturating_sub(from).min(LANES);
            // Lines behind the last may wrap around: they are not read.
            let first = start.wrapping_add((from as isize).wrapping_mul(self.line));
            let lanes = Lanes {
                offsets: std::array::from_fn(|l| {
                    first.wrapping_add((l as isize).wrapping_mul(self.line))
                }),
                valid: low(count),
                pad: 0,
                regular: Some(self.line),
            };
            pack_lanes::<F>(self.view, &lanes, &depth, pitch, &mut to[from..]);
        }
    }
}

/// Lines that are packed at a time.
pub(crate) const LANES: usize = 16;

/// A mask of the lowest bits.
fn low(count: usize) -> u16 {
    ((1u32 << count) - 1) as u16
}

/// Up to [`LANES`] neighbouring lines of a panel.
pub(crate) struct Lanes {
    /// Where each begins: its element at depth 0.
    pub offsets: [isize; LANES],
    /// Those that have elements.
    pub valid: u16,
    /// Those whose elements all count as the number zero. The others, which are in neither mask, become words of zero.
    pub pad: u16,
    /// The distance of neighbours, if it is always the same and the lowest ones are valid.
    pub regular: Option<isize>,
}

/// Some words of depth.
pub(crate) struct Depth {
    /// First element.
    start: usize,
    /// Elements.
    length: usize,
    /// Distance of elements.
    stride: isize,
    /// Words that are left out before the first.
    skip: usize,
    /// Words.
    words: usize,
}

impl Depth {
    /// Words of a depth of `length` elements.
    pub fn of<F: Feed>(words: Range<usize>, stride: isize, length: usize) -> Self {
        // With `SWAP`, elements begin at an even one.
        let (start, end) = match F::SWAP {
            true => (words.start & !1, words.end.next_multiple_of(2)),
            false => (words.start * F::STEP, words.end * F::STEP),
        };
        Self {
            start,
            length: end.min(length).saturating_sub(start),
            stride,
            skip: if F::SWAP { words.start & 1 } else { 0 },
            words: words.len(),
        }
    }
}

/// Packs lanes: word `k` of lane `l` goes to `to[k * pitch + l]`. In the last row, only lanes that `to` has.
pub(crate) fn pack_lanes<F: Feed>(
    view: &View<'_>,
    lanes: &Lanes,
    depth: &Depth,
    pitch: usize,
    to: &mut [F::Word],
) {
    if depth.words == 0 {
        return;
    }
    let (mut least, mut most) = (isize::MAX, isize::MIN);
    for (l, offset) in lanes.offsets.iter().enumerate() {
        if lanes.valid >> l & 1 != 0 {
            least = least.min(*offset);
            most = most.max(*offset);
        }
    }
    let start = depth.start as isize * depth.stride;
    let grid = match lanes.valid {
        0 => None,
        _ => view.grid::<F::Element>(
            least + start,
            (2, most - least),
            (depth.length, depth.stride),
        ),
    };
    let first = grid.map_or(std::ptr::null(), |g| g.first());
    // SAFETY: the grid has checked that the operand holds all elements between the least and the most, so those of all valid lines; its
    // memory may be read as long as the view lives.
    unsafe { pack_checked::<F>(first, least, lanes, depth, pitch, to) };
}

/// Packs lanes whose elements have been checked; `first` is the element at `least` and the depth's start.
///
/// # Safety
///
/// All elements of the valid lanes may be read.
unsafe fn pack_checked<F: Feed>(
    first: *const F::Element,
    least: isize,
    lanes: &Lanes,
    depth: &Depth,
    pitch: usize,
    to: &mut [F::Word],
) {
    let width = pitch.min(LANES);
    assert!(to.len() >= (depth.words - 1) * pitch + width);
    let lines: [*const F::Element; LANES] =
        std::array::from_fn(|l| first.wrapping_offset(lanes.offsets[l].wrapping_sub(least)));
    let piece = Piece {
        lines,
        valid: if depth.length == 0 { 0 } else { lanes.valid },
        pad: lanes.pad,
        depth: depth.stride,
        length: depth.length,
        words: depth.words,
        pitch,
    };
    #[cfg(target_arch = "x86_64")]
    if simd::level() == Level::V4
        && F::KIND != Kind::Plain
        && depth.skip == 0
        && width == LANES
        && size_of::<F::Word>() == 4
    {
        let to = to.as_mut_ptr().cast();
        // SAFETY: the caller vouches for the elements; `to` has room for all words; the level was found.
        unsafe {
            if depth.stride == 1 {
                return super::pack_x86::along::<F>(&piece, to);
            }
            if let Some((segments, count)) = segments(lanes) {
                let segments = segments.map(|(mask, l)| (mask, piece.lines[l].wrapping_sub(l)));
                return super::pack_x86::across::<F>(&piece, &segments[..count], to);
            }
        }
    }
    // SAFETY: as above.
    unsafe { plain::<F>(&piece, depth.skip, width, to) };
}

/// A row-major matrix in private memory; the depth goes along its rows.
pub(crate) struct Private<'s, F: Feed> {
    /// Its elements.
    pub data: &'s [F::Element],
    /// Elements from a row to the next.
    pub pitch: usize,
    /// Rows.
    pub lines: usize,
    /// Elements of a row.
    pub length: usize,
}

impl<F: Feed<Element: Sync>> Side<F::Word> for Private<'_, F> {
    fn lines(&self) -> usize {
        self.lines
    }

    fn across(&self) -> bool {
        false
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [F::Word]) {
        assert!(lines.len() <= pitch && self.length <= self.pitch && lines.end <= self.lines);
        assert!(self.lines * self.pitch <= self.data.len());
        let depth = Depth::of::<F>(words, 1, self.length);
        for from in (0..pitch).step_by(LANES) {
            let count = lines.len().saturating_sub(from).min(LANES);
            let start = (lines.start + from) * self.pitch + depth.start;
            let lanes = Lanes {
                offsets: std::array::from_fn(|l| (start + l * self.pitch) as isize),
                valid: low(count),
                pad: 0,
                regular: None,
            };
            if depth.words > 0 {
                // SAFETY: rows below `lines` and elements below `length` lie in `data`, as has been checked.
                unsafe {
                    pack_checked::<F>(
                        self.data.as_ptr(),
                        0,
                        &lanes,
                        &depth,
                        pitch,
                        &mut to[from..],
                    )
                };
            }
        }
    }
}

/// Splits valid lanes into at most 4 runs that lie side by side in memory: a mask and a lane of each.
#[cfg(target_arch = "x86_64")]
fn segments(lanes: &Lanes) -> Option<([(u16, usize); 4], usize)> {
    let mut found = [(0, 0); 4];
    if lanes.regular == Some(1) {
        found[0] = (lanes.valid, 0);
        return Some((found, 1));
    }
    let mut count = 0;
    for l in 0..LANES {
        if lanes.valid >> l & 1 == 0 {
            continue;
        }
        let follows = l > 0
            && lanes.valid >> (l - 1) & 1 != 0
            && lanes.offsets[l] == lanes.offsets[l - 1] + 1;
        if !follows {
            if count == found.len() {
                return None;
            }
            found[count].1 = l;
            count += 1;
        }
        found[count - 1].0 |= 1 << l;
    }
    Some((found, count))
}

/// Elements to pack.
pub(super) struct Piece<E> {
    /// First element of each valid line.
    pub lines: [*const E; LANES],
    /// See [`Lanes`].
    pub valid: u16,
    /// See [`Lanes`].
    pub pad: u16,
    /// Distance of elements.
    pub depth: isize,
    /// Elements of a line.
    pub length: usize,
    /// Words of a line.
    pub words: usize,
    /// Distance of words in a panel.
    pub pitch: usize,
}

/// Packs in plain code.
///
/// # Safety
///
/// All elements of the valid lines may be read.
unsafe fn plain<F: Feed>(piece: &Piece<F::Element>, skip: usize, width: usize, to: &mut [F::Word]) {
    let read = |line: usize, at: usize| {
        if at >= piece.length || (piece.valid | piece.pad) >> line & 1 == 0 {
            return F::Element::default();
        }
        let element = match piece.valid >> line & 1 {
            0 => F::Element::default(),
            // SAFETY: a valid line and at < `length`, so the element may be read; the read is unaligned.
            _ => unsafe {
                piece.lines[line]
                    .offset(at as isize * piece.depth)
                    .read_unaligned()
            },
        };
        match F::FLIP {
            0 => element,
            mask => flip(element, mask),
        }
    };
    for (k, row) in to.chunks_mut(piece.pitch).take(piece.words).enumerate() {
        for (line, word) in row.iter_mut().enumerate().take(width) {
            let mut elements = [F::Element::default(); 4];
            let at = if F::SWAP { (k + skip) ^ 1 } else { k * F::STEP };
            for (s, e) in elements.iter_mut().enumerate().take(F::STEP) {
                *e = read(line, at + s);
            }
            *word = F::word(elements);
        }
    }
}

/// Flips bits of an element's first byte.
fn flip<E: Wire>(element: E, mask: u8) -> E {
    let byte = [element.as_bytes()[0] ^ mask];
    E::read_from(&byte).expect("only bytes are flipped")
}
