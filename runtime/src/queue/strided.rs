//! Copies of boxes: rows at a pitch, slices of rows. Memory that the card knows is copied in place; pageable memory goes through the
//! staging pool, where its rows are packed.

use vmlu_abi::packet::{op, CopyStrided};
use vmlu_abi::{Status, Wire};

use super::transfer::{range, INLINE};
use super::Queue;
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::staging::CHUNK;

/// Most packets that a small box becomes instead of going through the staging pool.
const INLINE_ROWS: u64 = 8;

/// The size of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of a row.
    pub width: u64,
    /// Rows of a slice.
    pub height: u64,
    /// Slices.
    pub depth: u64,
}

/// Where the rows of a box stand: row `y` of slice `z` begins `offset + z * slice + y * pitch` bytes behind the start of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes to the first row.
    pub offset: u64,
    /// Bytes from a row to the next.
    pub pitch: u64,
    /// Bytes from a slice to the next.
    pub slice: u64,
}

impl Extent {
    fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    fn bytes(self) -> Option<u64> {
        self.width.checked_mul(self.height)?.checked_mul(self.depth)
    }
}

impl Layout {
    /// Rows behind each other at a pitch, of one slice.
    pub fn rows(offset: u64, pitch: u64) -> Self {
        Self {
            offset,
            pitch,
            slice: 0,
        }
    }

    /// Bytes from the start of the memory to the end of a box's last row; 0 for an empty one.
    fn end(self, extent: Extent) -> Option<u64> {
        if extent.is_empty() {
            return Some(0);
        }
        let rows = (extent.height - 1).checked_mul(self.pitch)?;
        let slices = (extent.depth - 1).checked_mul(self.slice)?;
        let last = self.offset.checked_add(rows)?.checked_add(slices)?;
        last.checked_add(extent.width)
    }

    fn check(self, what: &str, extent: Extent, length: u64, call: &'static str) -> Result<()> {
        let refuse = |text| Err(Error::new(call, Status::InvalidArgument, text));
        if extent.is_empty() {
            return Ok(());
        }
        let narrow = extent.height > 1 && self.pitch < extent.width;
        let rows = extent.height.checked_mul(self.pitch);
        let shallow = extent.depth > 1 && rows.is_none_or(|rows| self.slice < rows);
        if narrow || shallow {
            return refuse(format!(
                "the {what} has a pitch of {} and slices of {} bytes: the rows of {extent:?} overlap",
                self.pitch, self.slice
            ));
        }
        match self.end(extent) {
            Some(end) if end <= length => Ok(()),
            _ => refuse(format!(
                "{extent:?} at {self:?} does not fit the {what} of {length} bytes"
            )),
        }
    }
}

/// Rows of a box that go through one chunk, packed.
#[derive(Clone, Copy)]
struct Piece {
    x: u64,
    y: u64,
    z: u64,
    width: u64,
    rows: u64,
}

/// Cuts a box, which is not empty, into pieces that fit a chunk.
fn pieces(extent: Extent) -> impl Iterator<Item = Piece> {
    let width = extent.width.min(CHUNK as u64);
    let rows = (CHUNK as u64 / width).min(extent.height);
    (0..extent.depth).flat_map(move |z| {
        (0..extent.height)
            .step_by(rows as usize)
            .flat_map(move |y| {
                (0..extent.width)
                    .step_by(width as usize)
                    .map(move |x| Piece {
                        x,
                        y,
                        z,
                        width: width.min(extent.width - x),
                        rows: rows.min(extent.height - y),
                    })
            })
    })
}

impl Piece {
    /// Where a row of the piece begins in the memory of a layout that was checked.
    fn at(self, layout: Layout, row: u64) -> u64 {
        layout.offset + self.z * layout.slice + (self.y + row) * layout.pitch + self.x
    }

    /// The copy of the piece between packed rows at `chunk` and memory at `base`.
    fn copy(self, layout: Layout, base: u64, chunk: u64, to_chunk: bool) -> CopyStrided {
        let strided = (base + self.at(layout, 0), layout.pitch);
        let packed = (chunk, self.width);
        let (dst, src) = match to_chunk {
            true => (packed, strided),
            false => (strided, packed),
        };
        CopyStrided {
            dst: dst.0,
            src: src.0,
            width: self.width,
            height: self.rows,
            depth: 1,
            dst_pitch: dst.1,
            dst_slice: 0,
            src_pitch: src.1,
            src_slice: 0,
        }
    }
}

impl Queue {
    /// Copies rows between addresses that the card knows, device memory and pinned host memory in any direction: `height` rows of `width`
    /// bytes, each row a pitch behind the one before.
    pub fn copy_2d(
        &self,
        dst: (u64, u64),
        src: (u64, u64),
        width: u64,
        height: u64,
    ) -> Result<u64> {
        let extent = Extent {
            width,
            height,
            depth: 1,
        };
        let (to, from) = (Layout::rows(0, dst.1), Layout::rows(0, src.1));
        self.copy_3d((dst.0, to), (src.0, from), extent)
    }

    /// Copies a box between addresses that the card knows, each with its layout. What the box spans on a side lies in one allocation, as
    /// the card checks; rows that are written do not overlap.
    pub fn copy_3d(
        &self,
        (dst, to): (u64, Layout),
        (src, from): (u64, Layout),
        extent: Extent,
    ) -> Result<u64> {
        const CALL: &str = "copy a box";
        to.check("destination", extent, u64::MAX - dst, CALL)?;
        from.check("source", extent, u64::MAX - src, CALL)?;
        let copy = CopyStrided {
            dst: dst + to.offset,
            src: src + from.offset,
            width: extent.width,
            height: extent.height,
            depth: extent.depth,
            dst_pitch: to.pitch,
            dst_slice: to.slice,
            src_pitch: from.pitch,
            src_slice: from.slice,
        };
        self.submit_raw(op::COPY_STRIDED, copy.as_bytes())
    }

    /// Copies a box of host memory to device memory. The host memory is free when this returns; the copy is ordered on the queue.
    pub fn write_box(
        &self,
        (to, to_layout): (&Buffer, Layout),
        (from, from_layout): (&[u8], Layout),
        extent: Extent,
    ) -> Result<u64> {
        const CALL: &str = "copy a box to the device";
        to_layout.check("buffer", extent, to.len(), CALL)?;
        from_layout.check("host memory", extent, from.len() as u64, CALL)?;
        let base = range(to, 0, 0, CALL)?;
        if extent.is_empty() {
            return self.write_inline(base, &[]);
        }
        let row = |piece: Piece, row| {
            let at = piece.at(from_layout, row) as usize;
            &from[at..at + piece.width as usize]
        };
        let small = extent.bytes().is_some_and(|bytes| bytes <= INLINE as u64);
        let mut value = 0;
        if small && extent.height * extent.depth <= INLINE_ROWS {
            for piece in pieces(extent) {
                for y in 0..piece.rows {
                    value = self.write_inline(base + piece.at(to_layout, y), row(piece, y))?;
                }
            }
            return Ok(value);
        }
        self.refuse_capture(CALL)?;
        let inner = &self.inner;
        for piece in pieces(extent) {
            let mut chunk = inner.context.staging.take(inner)?;
            for y in 0..piece.rows {
                let offset = (y * piece.width) as usize;
                chunk.memory()?.write(offset, row(piece, y));
            }
            let copy = piece.copy(to_layout, base, chunk.memory()?.address(), false);
            value = inner.submit(op::COPY_STRIDED, copy.as_bytes())?;
            chunk.used_by(value);
        }
        Ok(value)
    }

    /// Copies a box of device memory to host memory, after all that was submitted before; returns when it is there. Bytes between the rows
    /// stay as they are.
    pub fn read_box(
        &self,
        (from, from_layout): (&Buffer, Layout),
        (to, to_layout): (&mut [u8], Layout),
        extent: Extent,
    ) -> Result<()> {
        const CALL: &str = "copy a box from the device";
        from_layout.check("buffer", extent, from.len(), CALL)?;
        to_layout.check("host memory", extent, to.len() as u64, CALL)?;
        let base = range(from, 0, 0, CALL)?;
        if extent.is_empty() {
            return self.sync();
        }
        self.read_parts(
            pieces(extent).map(|piece| ((), piece)),
            |(), piece, chunk| {
                let copy = piece.copy(from_layout, base, chunk, true);
                self.inner.submit(op::COPY_STRIDED, copy.as_bytes())
            },
            |piece, chunk| {
                for y in 0..piece.rows {
                    let at = piece.at(to_layout, y) as usize;
                    let row = &mut to[at..at + piece.width as usize];
                    chunk.memory()?.read((y * piece.width) as usize, row);
                }
                Ok(())
            },
        )
    }

    /// [`Queue::write_box`] of one slice: `height` rows of `width` bytes at a pitch on each side.
    pub fn write_2d(
        &self,
        (to, offset, to_pitch): (&Buffer, u64, u64),
        (from, from_pitch): (&[u8], u64),
        width: u64,
        height: u64,
    ) -> Result<u64> {
        let extent = Extent {
            width,
            height,
            depth: 1,
        };
        self.write_box(
            (to, Layout::rows(offset, to_pitch)),
            (from, Layout::rows(0, from_pitch)),
            extent,
        )
    }

    /// [`Queue::read_box`] of one slice: `height` rows of `width` bytes at a pitch on each side.
    pub fn read_2d(
        &self,
        (from, offset, from_pitch): (&Buffer, u64, u64),
        (to, to_pitch): (&mut [u8], u64),
        width: u64,
        height: u64,
    ) -> Result<()> {
        let extent = Extent {
            width,
            height,
            depth: 1,
        };
        self.read_box(
            (from, Layout::rows(offset, from_pitch)),
            (to, Layout::rows(0, to_pitch)),
            extent,
        )
    }
}
