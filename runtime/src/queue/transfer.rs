//! Copies of contiguous bytes: inline in the packet when small, through the context's staging pool when pageable, directly when the card
//! knows both sides.

use std::collections::VecDeque;

use vmlu_abi::packet::{self, op, WriteInline};
use vmlu_abi::{Status, Wire};

use super::Queue;
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::staging::{Chunk, CHUNK};

/// Copies to the device of at most this many bytes stand in their packets.
pub(super) const INLINE: usize = 2048;
/// Chunks that a read has the card fill ahead.
const AHEAD: usize = 3;
/// Most bytes of a copy from pageable memory that becomes part of a graph.
const CAPTURED: usize = 64 << 10;

impl Queue {
    /// Copies host memory to device memory, from byte `offset` on. The host memory is free when this returns; the copy is ordered on
    /// the queue.
    pub fn write(&self, to: &Buffer, offset: u64, from: &[u8]) -> Result<u64> {
        self.write_address(
            range(to, offset, from.len() as u64, "copy to the device")?,
            from,
        )
    }

    /// As [`Queue::write`], to an address. While the queue is being captured the bytes, at most 64 KiB, become part of the graph.
    pub fn write_address(&self, address: u64, from: &[u8]) -> Result<u64> {
        let inner = &self.inner;
        if from.len() <= INLINE {
            return self.write_inline(address, from);
        }
        if self.is_capturing() {
            return self.write_captured(address, from);
        }
        let mut value = 0;
        for (i, part) in from.chunks(CHUNK).enumerate() {
            let mut chunk = inner.context.staging.take(inner)?;
            chunk.memory()?.write(0, part);
            let src = chunk.memory()?.address();
            value = self.staged_copy(address + (i * CHUNK) as u64, src, part.len())?;
            chunk.used_by(value);
        }
        Ok(value)
    }

    pub(super) fn write_inline(&self, address: u64, from: &[u8]) -> Result<u64> {
        let head = WriteInline {
            dst: address,
            length: from.len() as u32,
            reserved: 0,
        };
        self.submit_pieces(op::WRITE, &[head.as_bytes(), from])
    }

    fn write_captured(&self, address: u64, from: &[u8]) -> Result<u64> {
        if from.len() > CAPTURED {
            let text = format!(
                "{} bytes of pageable memory do not become part of a graph, at most {CAPTURED} do; copy from pinned memory",
                from.len()
            );
            return Err(Error::new(
                "copy to the device",
                Status::CaptureUnsupported,
                text,
            ));
        }
        let mut value = 0;
        for (i, part) in from.chunks(INLINE).enumerate() {
            value = self.write_inline(address + (i * INLINE) as u64, part)?;
        }
        Ok(value)
    }

    /// Copies device memory, from byte `offset` on, to host memory, after all that was submitted before; returns when it is there.
    pub fn read(&self, from: &Buffer, offset: u64, to: &mut [u8]) -> Result<()> {
        self.read_address(
            range(from, offset, to.len() as u64, "copy from the device")?,
            to,
        )
    }

    /// As [`Queue::read`], from an address.
    pub fn read_address(&self, address: u64, to: &mut [u8]) -> Result<()> {
        let parts = to.chunks_mut(CHUNK).enumerate();
        let parts = parts.map(|(i, part)| ((i * CHUNK) as u64, part));
        self.read_parts(
            parts,
            |offset, part, chunk| self.staged_copy(chunk, address + offset, part.len()),
            |part, chunk| {
                chunk.memory()?.read(0, part);
                Ok(())
            },
        )
    }

    /// Has the card fill chunks, a few ahead, and empties them in order: `fill` submits the copy of a part to a chunk's address, `empty`
    /// takes the part out of the chunk once it is there.
    pub(super) fn read_parts<P, W>(
        &self,
        parts: impl Iterator<Item = (W, P)>,
        mut fill: impl FnMut(W, &P, u64) -> Result<u64>,
        mut empty: impl FnMut(P, &Chunk<'_>) -> Result<()>,
    ) -> Result<()> {
        self.refuse_capture("copy from the device")?;
        let inner = &self.inner;
        let pool = &inner.context.staging;
        let mut parts = parts.peekable();
        // A chunk that is dropped before its copy has ended stays taken until then.
        let mut filled: VecDeque<(Chunk<'_>, u64, P)> = VecDeque::new();
        while parts.peek().is_some() || !filled.is_empty() {
            let chunk = match (parts.peek().is_some(), filled.len()) {
                (true, 0) => Some(pool.take(inner)?),
                // Whoever has a chunk does not wait for another.
                (true, 1..AHEAD) => pool.try_take(inner)?,
                _ => None,
            };
            if let Some(mut chunk) = chunk {
                if let Some((at, part)) = parts.next() {
                    let value = fill(at, &part, chunk.memory()?.address())?;
                    chunk.used_by(value);
                    filled.push_back((chunk, value, part));
                }
            } else if let Some((chunk, value, part)) = filled.pop_front() {
                inner.wait(value, u64::MAX)?;
                empty(part, &chunk)?;
            }
        }
        Ok(())
    }

    /// Copies between addresses that the card knows: device memory and pinned host memory, in any direction.
    pub fn copy(&self, dst: u64, src: u64, length: u64) -> Result<u64> {
        self.submit_raw(op::COPY, packet::Copy { dst, src, length }.as_bytes())
    }

    /// A copy that uses a chunk. Never captured: if a capture begins meanwhile, this was before it.
    fn staged_copy(&self, dst: u64, src: u64, length: usize) -> Result<u64> {
        let length = length as u64;
        let copy = packet::Copy { dst, src, length };
        self.inner.submit(op::COPY, copy.as_bytes())
    }

    /// Fills memory with a byte.
    pub fn fill(&self, to: &Buffer, offset: u64, length: u64, byte: u8) -> Result<u64> {
        let dst = range(to, offset, length, "fill device memory")?;
        let fill = packet::Fill {
            dst,
            length,
            pattern: u64::from(byte),
            width: 1,
            reserved: 0,
        };
        self.submit_raw(op::FILL, fill.as_bytes())
    }
}

/// The address of a range of a buffer.
pub(super) fn range(buffer: &Buffer, offset: u64, length: u64, call: &'static str) -> Result<u64> {
    if offset
        .checked_add(length)
        .is_none_or(|end| end > buffer.len())
    {
        let text = format!(
            "{length} bytes at offset {offset} do not fit the buffer of {} bytes",
            buffer.len()
        );
        return Err(Error::new(call, Status::InvalidArgument, text));
    }
    Ok(buffer.address() + offset)
}
