//! Memory of calls. A rank's peers read and write its own allocations in place. What is none, or is not one, goes through room of its own: memory
//! mapped at addresses that the program has reserved, piece by piece, memory of another device or process.

use std::sync::Arc;

use vmlu::collective::Memory;
use vmlu::Buffer;
use vmlu_c_abi::memory::{self, Kind};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{virtual_memory, Ptr};

use crate::communicator::Comm;
use crate::error::{Code, Result};

/// Memory of one call.
pub(crate) struct Stage {
    comm: Arc<Comm>,
    queue: Arc<Queue>,
    /// Room that is in use until the queue has passed the call.
    rooms: Vec<Buffer>,
    /// What is to be copied from the rooms when the call is made: from, to, bytes.
    results: Vec<(u64, u64, u64)>,
}

/// A piece of a range that lies in one allocation.
struct Piece {
    address: u64,
    bytes: u64,
}

impl Stage {
    pub(crate) fn new(comm: &Arc<Comm>, queue: &Arc<Queue>) -> Self {
        Self {
            comm: comm.clone(),
            queue: queue.clone(),
            rooms: Vec::new(),
            results: Vec::new(),
        }
    }

    /// The rank that makes the call.
    pub(crate) fn comm(&self) -> &Arc<Comm> {
        &self.comm
    }

    /// Its queue.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// So many bytes that the call sends.
    pub(crate) fn send(&mut self, address: Ptr, bytes: u64) -> Result<Memory> {
        if bytes == 0 {
            return self.comm.nowhere();
        }
        let pieces = self.pieces(address, bytes, false)?;
        if let Some(memory) = self.in_place(&pieces) {
            return Ok(memory);
        }
        let mut place = self.room(bytes)?;
        let memory = Memory::from(&self.rooms[self.rooms.len() - 1]);
        for Piece { address, bytes } in pieces {
            self.queue.runtime().copy(place, address, bytes)?;
            place += bytes;
        }
        Ok(memory)
    }

    /// So many bytes that the call receives.
    pub(crate) fn receive(&mut self, address: Ptr, bytes: u64) -> Result<Memory> {
        if bytes == 0 {
            return self.comm.nowhere();
        }
        let pieces = self.pieces(address, bytes, true)?;
        if let Some(memory) = self.in_place(&pieces) {
            return Ok(memory);
        }
        let mut place = self.room(bytes)?;
        for Piece { address, bytes } in pieces {
            self.results.push((place, address, bytes));
            place += bytes;
        }
        Ok(Memory::from(&self.rooms[self.rooms.len() - 1]))
    }

    /// The pieces of a range, which the rank's context reaches from here on.
    fn pieces(&self, address: Ptr, bytes: u64, written: bool) -> Result<Vec<Piece>> {
        if address.is_null() {
            return Err(Code::NULL_POINTER);
        }
        let (mut at, mut left) = (address.addr() as u64, bytes);
        let mut pieces = Vec::with_capacity(1);
        while left > 0 {
            let block = memory::find(at).ok_or(Code::ARGUMENTS)?;
            let room = block.length - (at - block.start);
            let bytes = match block.kind {
                Kind::Virtual if written && !virtual_memory::access(at)? => {
                    return Err(Code::ARGUMENTS);
                }
                Kind::Virtual => left.min(room),
                _ if left > room => return Err(Code::ARGUMENTS),
                _ => left,
            };
            block.in_context(&self.comm.live)?;
            pieces.push(Piece { address: at, bytes });
            at += bytes;
            left -= bytes;
        }
        Ok(pieces)
    }

    /// Pieces that are one, of an allocation of the rank's own.
    fn in_place(&self, pieces: &[Piece]) -> Option<Memory> {
        let [piece] = pieces else { return None };
        let block = memory::find(piece.address)?;
        let buffer = block.own(&self.comm.live)?;
        Some((buffer, piece.address - block.start).into())
    }

    fn room(&mut self, bytes: u64) -> Result<u64> {
        let room = self.comm.live.runtime.alloc(bytes)?;
        let address = room.address();
        self.rooms.push(room);
        Ok(address)
    }

    /// The call was made, or failed: brings the results where they belong.
    pub(crate) fn end(mut self, made: bool) -> Result<()> {
        let mut result = Ok(());
        if made {
            for (from, to, bytes) in std::mem::take(&mut self.results) {
                let copied = self.queue.runtime().copy(to, from, bytes);
                result = result.and(copied.map(drop).map_err(Code::from));
            }
        }
        result
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.rooms.is_empty() {
            return;
        }
        let rooms = Arc::new(std::mem::take(&mut self.rooms));
        let held = rooms.clone();
        // The queue still works with them.
        if self.queue.runtime().host_fn(move || drop(held)).is_err() {
            self.comm.live.runtime.drain();
        }
    }
}
