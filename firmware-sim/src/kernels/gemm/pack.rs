//! Packing: lines of an operand in memory become panels of words, which tiles read in order.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use vmlu_abi::Wire;

use crate::kernels::simd::{self, Level};
use crate::kernels::view::View;

/// One side of a product: vectors (rows of `a`, columns of `b`) along the depth.
pub(in crate::kernels) trait Side<W>: Sync {
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
pub(in crate::kernels) enum Kind {
    /// A word is 1, 2 or 4 neighbouring elements as they stand in memory.
    Bits,
    /// binary16 to f32.
    Half,
    /// bf16 to f32, in swapped pairs.
    Brain,
    /// There is none.
    Plain,
}

/// How elements in memory become words.
pub(in crate::kernels) trait Feed: 'static {
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
pub(in crate::kernels) enum Single {}
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
pub(in crate::kernels) enum Double {}
impl Feed for Double {
    type Element = f64;
    type Word = f64;
    #[inline(always)]
    fn word(e: [f64; 4]) -> f64 {
        e[0]
    }
}

/// binary16 to f32.
pub(in crate::kernels) enum Half {}
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
pub(in crate::kernels) enum Brain {}
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

/// Pairs of 16-bit elements as they are: bf16, i16.
pub(in crate::kernels) enum Pairs {}
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
pub(in crate::kernels) enum Bytes<const FLIP: u8> {}
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
pub(in crate::kernels) enum WideBytes<const SIGNED: bool> {}
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
pub(in crate::kernels) enum DoubleOfI16 {}
impl Feed for DoubleOfI16 {
    type Element = i16;
    type Word = f64;
    #[inline(always)]
    fn word(e: [i16; 4]) -> f64 {
        f64::from(e[0])
    }
}

/// An operand with strides.
pub(in crate::kernels) struct Strided<'v, 'a, F> {
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
        let count = lines.len();
        assert!(count <= pitch && to.len() >= words.len() * pitch);
        // Elements that the words take; with `SWAP` they begin at an even one.
        let start = match F::SWAP {
            true => words.start & !1,
            false => words.start * F::STEP,
        };
        let end = match F::SWAP {
            true => words.end.next_multiple_of(2).min(self.length),
            false => (words.end * F::STEP).min(self.length),
        };
        let grid = self.view.grid::<F::Element>(
            self.offset + lines.start as isize * self.line + start as isize * self.depth,
            (count, self.line),
            (end.saturating_sub(start), self.depth),
        );
        let Some(grid) = grid else {
            to[..words.len() * pitch].fill(F::Word::default());
            return;
        };
        let piece = Piece {
            first: grid.first(),
            line: self.line,
            depth: self.depth,
            count,
            length: end - start,
            skip: words.start - if F::SWAP { start } else { words.start },
            words: words.len(),
            pitch,
        };
        #[cfg(target_arch = "x86_64")]
        if simd::level() == Level::V4
            && F::KIND != Kind::Plain
            && piece.skip == 0
            && pitch.is_multiple_of(16)
            && (self.depth == 1 || self.line == 1)
        {
            // SAFETY: the grid has checked that all `count` × `length` elements lie in the operand, whose memory may be read as long as the
            // view lives; `to` has room for all words; the level was found.
            unsafe { super::pack_x86::pack::<F>(&piece, to.as_mut_ptr().cast()) };
            return;
        }
        // SAFETY: as above.
        unsafe { plain::<F>(&piece, to) };
    }
}

/// Elements to pack.
pub(super) struct Piece<E> {
    /// First element of the first line.
    pub first: *const E,
    pub line: isize,
    pub depth: isize,
    /// Lines.
    pub count: usize,
    /// Elements of a line.
    pub length: usize,
    /// Words that are left out before the first.
    pub skip: usize,
    pub words: usize,
    pub pitch: usize,
}

/// Packs in plain code.
///
/// # Safety
///
/// All elements of the piece may be read.
unsafe fn plain<F: Feed>(piece: &Piece<F::Element>, to: &mut [F::Word]) {
    let read = |line: usize, at: usize| {
        if at >= piece.length {
            return F::Element::default();
        }
        let distance = line as isize * piece.line + at as isize * piece.depth;
        // SAFETY: line < `count` and at < `length`, so the element lies in the piece; the read is unaligned.
        unsafe { piece.first.offset(distance).read_unaligned() }
    };
    for (k, row) in (to.chunks_exact_mut(piece.pitch).take(piece.words)).enumerate() {
        let (row, pad) = row.split_at_mut(piece.count);
        for (line, word) in row.iter_mut().enumerate() {
            let mut elements = [F::Element::default(); 4];
            let at = if F::SWAP {
                (k + piece.skip) ^ 1
            } else {
                k * F::STEP
            };
            for (s, e) in elements.iter_mut().enumerate().take(F::STEP) {
                *e = read(line, at + s);
                if F::FLIP != 0 && at + s < piece.length {
                    *e = flip(*e, F::FLIP);
                }
            }
            *word = F::word(elements);
        }
        pad.fill(F::Word::default());
    }
}

/// Flips bits of an element's first byte.
fn flip<E: Wire>(element: E, mask: u8) -> E {
    let byte = [element.as_bytes()[0] ^ mask];
    E::read_from(&byte).expect("only bytes are flipped")
}
