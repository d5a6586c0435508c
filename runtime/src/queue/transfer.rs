//! Copies between host and device: inline in the packet when small, through pinned staging memory otherwise, directly when pinned.

use vmlu_abi::packet::{self, op, WriteInline};
use vmlu_abi::Wire;

use super::{lock, Queue};
use crate::error::{Error, Result};
use crate::memory::{Buffer, PinnedBuffer};
use vmlu_abi::Status;

/// Copies to the device of at most this many bytes stand in their packets.
const INLINE: usize = 2048;
/// Bytes of one half of the staging memory.
const HALF: usize = 1 << 20;

/// Pinned memory through which pageable memory goes, in two halves.
pub(super) struct Staging {
    memory: PinnedBuffer,
    /// Timeline value after which a half is free again.
    free_at: [u64; 2],
    next: usize,
}

impl Queue {
    /// Copies host memory to device memory, from byte `offset` on. The host memory is free when this returns; the copy is ordered on
    /// the queue.
    pub fn write(&self, to: &Buffer, offset: u64, from: &[u8]) -> Result<u64> {
        self.write_address(
            range(to, offset, from.len() as u64, "copy to the device")?,
            from,
        )
    }

    /// As [`Queue::write`], to an address.
    pub fn write_address(&self, address: u64, from: &[u8]) -> Result<u64> {
        let inner = &self.inner;
        if from.len() <= INLINE {
            let head = WriteInline {
                dst: address,
                length: from.len() as u32,
                reserved: 0,
            };
            return inner.submit_parts(op::WRITE, &[head.as_bytes(), from]);
        }
        let mut slot = lock(&inner.staging);
        let staging = self.staging(&mut slot)?;
        let mut value = 0;
        for (i, chunk) in from.chunks(HALF).enumerate() {
            let half = staging.take_half(self)?;
            staging.memory.write(half * HALF, chunk);
            let src = staging.memory.address() + (half * HALF) as u64;
            let copy = packet::Copy {
                dst: address + (i * HALF) as u64,
                src,
                length: chunk.len() as u64,
            };
            value = inner.submit(op::COPY, copy.as_bytes())?;
            staging.free_at[half] = value;
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
        let inner = &self.inner;
        let mut slot = lock(&inner.staging);
        let staging = self.staging(&mut slot)?;
        // One chunk ahead: the card fills one half while the other is emptied.
        let mut filled: Option<(usize, u64, &mut [u8])> = None;
        for (i, chunk) in to.chunks_mut(HALF).enumerate() {
            let half = staging.take_half(self)?;
            let dst = staging.memory.address() + (half * HALF) as u64;
            let copy = packet::Copy {
                dst,
                src: address + (i * HALF) as u64,
                length: chunk.len() as u64,
            };
            let value = inner.submit(op::COPY, copy.as_bytes())?;
            staging.free_at[half] = value;
            if let Some((half, value, chunk)) = filled.replace((half, value, chunk)) {
                self.wait(value)?;
                staging.memory.read(half * HALF, chunk);
            }
        }
        if let Some((half, value, chunk)) = filled {
            self.wait(value)?;
            staging.memory.read(half * HALF, chunk);
        }
        Ok(())
    }

    /// Copies between addresses that the card knows: device memory and pinned host memory, in any direction.
    pub fn copy(&self, dst: u64, src: u64, length: u64) -> Result<u64> {
        self.inner
            .submit(op::COPY, packet::Copy { dst, src, length }.as_bytes())
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
        self.inner.submit(op::FILL, fill.as_bytes())
    }

    fn staging<'a>(&self, slot: &'a mut Option<Staging>) -> Result<&'a mut Staging> {
        if slot.is_none() {
            let memory = self.context().alloc_pinned(2 * HALF as u64)?;
            *slot = Some(Staging {
                memory,
                free_at: [0; 2],
                next: 0,
            });
        }
        slot.as_mut()
            .ok_or_else(|| Error::new("stage a copy", Status::Internal, "no staging memory"))
    }
}

impl Staging {
    /// The half that is free next, once its last copy has ended.
    fn take_half(&mut self, queue: &Queue) -> Result<usize> {
        let half = self.next;
        self.next = 1 - half;
        queue.inner.pass(self.free_at[half], u64::MAX)?;
        Ok(half)
    }
}

fn range(buffer: &Buffer, offset: u64, length: u64, call: &'static str) -> Result<u64> {
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
