//! Collectives, sends and receives, and groups of them.

use std::cell::RefCell;

use vmlu::collective::{group_end, group_start, Communicator, Memory, Piece};
use vmlu::{DataType, Error};
use vmlu_c_abi::{exports, In, Ptr};

use crate::communicator::Comm;
use crate::error::{run, Code, Result};
use crate::memory::Stage;
use crate::types::{data_type, function};

/// What all calls begin with: a rank, its queue, and elements.
struct Call {
    joined: Communicator,
    stage: Stage,
    dtype: DataType,
    count: u64,
    bytes: u64,
}

impl Call {
    fn new(count: usize, dtype: i32, comm: Ptr, queue: Ptr) -> Result<Self> {
        let comm = Comm::find(comm)?;
        let dtype = data_type(dtype)?;
        let count = count as u64;
        let bytes = count.checked_mul(dtype.size() as u64);
        Ok(Self {
            joined: comm.joined()?,
            stage: Stage::new(&comm, &comm.queue(queue)?),
            bytes: bytes.ok_or(Code::ARGUMENTS)?,
            dtype,
            count,
        })
    }

    /// Bytes of `count` elements for each rank.
    fn all(&self) -> Result<u64> {
        let bytes = self.bytes.checked_mul(u64::from(self.joined.size()));
        bytes.ok_or(Code::ARGUMENTS)
    }

    /// A rank that there is.
    fn rank(&self, rank: i32) -> Result<u32> {
        let rank = u32::try_from(rank).ok();
        rank.filter(|r| *r < self.joined.size())
            .ok_or(Code::ARGUMENTS)
    }

    fn is_root(&self, root: u32) -> bool {
        root == self.joined.rank()
    }

    /// Makes the call, unless there is nothing to do for any rank.
    fn make(
        self,
        call: impl FnOnce(&Communicator, &vmlu::Queue) -> std::result::Result<u64, Error>,
    ) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let joined = self.joined;
        submit(self.stage, |queue| call(&joined, queue))
    }
}

/// The calling thread's groups: how many are open, and the memory of the calls that they put off.
#[derive(Default)]
struct Group {
    depth: u32,
    calls: Vec<Stage>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Makes a call, and notes that the rank's collectives stand in the queue, now or when the group ends.
fn submit(
    stage: Stage,
    call: impl FnOnce(&vmlu::Queue) -> std::result::Result<u64, Error>,
) -> Result<()> {
    let made = call(stage.queue().runtime());
    let grouped = GROUP.with_borrow_mut(|group| match (group.depth, &made) {
        (0, _) | (_, Err(_)) => Some(stage),
        _ => {
            group.calls.push(stage);
            None
        }
    });
    let ended = grouped.map_or(Ok(()), |stage| finish(stage, made.is_ok()));
    made?;
    ended
}

/// A call was made, or failed.
fn finish(stage: Stage, made: bool) -> Result<()> {
    let (comm, queue) = (stage.comm().clone(), stage.queue().clone());
    let ended = stage.end(made);
    if made {
        comm.used(&queue);
    }
    ended
}

/// Ends a group.
fn end() -> Result<()> {
    let calls = GROUP.with_borrow_mut(|group| {
        group.depth = group.depth.checked_sub(1).ok_or(Code::NOT_INIT)?;
        Ok::<_, Code>(match group.depth {
            0 => std::mem::take(&mut group.calls),
            _ => Vec::new(),
        })
    })?;
    let made = group_end();
    let well = made.is_ok();
    let mut result = made.map_err(Code::from);
    for stage in calls {
        let ended = finish(stage, well);
        result = result.and(ended);
    }
    result
}

fn broadcast(
    send: Ptr,
    receive: Ptr,
    count: usize,
    dtype: i32,
    root: i32,
    comm: Ptr,
    queue: Ptr,
) -> Result<()> {
    let mut call = Call::new(count, dtype, comm, queue)?;
    let root = call.rank(root)?;
    let bytes = call.bytes;
    let send = match call.is_root(root) {
        true => Some(call.stage.send(send, bytes)?),
        false => None,
    };
    let receive = call.stage.receive(receive, bytes)?;
    let elements = (call.count, call.dtype);
    call.make(|comm, queue| comm.broadcast(send, receive, elements, root, queue))
}

/// What goes to each rank, or comes from each.
fn pieces(
    size: u32,
    memory: In<Ptr>,
    counts: In<u32>,
    types: In<i32>,
    mut place: impl FnMut(Ptr, u64) -> Result<Memory>,
) -> Result<Vec<Piece>> {
    if memory.is_null() || counts.is_null() || types.is_null() {
        return Err(Code::NULL_POINTER);
    }
    let piece = |rank: usize| {
        let count = u64::from(counts.get_at(rank)?);
        let dtype = data_type(types.get_at(rank)?)?;
        let memory = place(memory.get_at(rank)?, count * dtype.size() as u64)?;
        Ok(Piece {
            memory,
            count,
            dtype,
        })
    };
    (0..size as usize).map(piece).collect()
}

exports! { run;
    /// See the header.
    fn cnclBcast(memory: Ptr, count: usize, dtype: i32, root: i32, comm: Ptr, queue: Ptr) {
        broadcast(memory, memory, count, dtype, root, comm, queue)
    }

    /// See the header.
    fn cnclBroadcast(send: Ptr, receive: Ptr, count: usize, dtype: i32, root: i32, comm: Ptr, queue: Ptr) {
        broadcast(send, receive, count, dtype, root, comm, queue)
    }

    /// See the header.
    fn cnclAllGather(send: Ptr, receive: Ptr, count: usize, dtype: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let (one, all) = (call.bytes, call.all()?);
        let (send, receive) = (call.stage.send(send, one)?, call.stage.receive(receive, all)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.all_gather(send, receive, count, dtype, queue))
    }

    /// See the header.
    fn cnclReduce(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, root: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let (function, root) = (function(op)?, call.rank(root)?);
        let bytes = call.bytes;
        let send = call.stage.send(send, bytes)?;
        let receive = match call.is_root(root) {
            true => Some(call.stage.receive(receive, bytes)?),
            false => None,
        };
        let elements = (call.count, call.dtype);
        call.make(|comm, queue| comm.reduce(send, receive, elements, function, root, queue))
    }

    /// See the header.
    fn cnclAllReduce(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let function = function(op)?;
        let bytes = call.bytes;
        let (send, receive) = (call.stage.send(send, bytes)?, call.stage.receive(receive, bytes)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.all_reduce(send, receive, count, dtype, function, queue))
    }

    /// See the header.
    fn cnclReduceScatter(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let function = function(op)?;
        let (one, all) = (call.bytes, call.all()?);
        let (send, receive) = (call.stage.send(send, all)?, call.stage.receive(receive, one)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.reduce_scatter(send, receive, count, dtype, function, queue))
    }

    /// See the header.
    fn cnclAlltoAll(send: Ptr, receive: Ptr, count: usize, dtype: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let all = call.all()?;
        let (send, receive) = (call.stage.send(send, all)?, call.stage.receive(receive, all)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.all_to_all(send, receive, count, dtype, queue))
    }

    /// See the header.
    fn cnclAlltoAllv(
        send: In<Ptr>,
        send_counts: In<u32>,
        send_types: In<i32>,
        receive: In<Ptr>,
        receive_counts: In<u32>,
        receive_types: In<i32>,
        comm: Ptr,
        queue: Ptr,
    ) {
        let comm = Comm::find(comm)?;
        let joined = comm.joined()?;
        let mut stage = Stage::new(&comm, &comm.queue(queue)?);
        let size = joined.size();
        let send = pieces(size, send, send_counts, send_types, |p, n| stage.send(p, n))?;
        let receive = pieces(size, receive, receive_counts, receive_types, |p, n| stage.receive(p, n))?;
        submit(stage, |queue| joined.all_to_all_v(&send, &receive, queue))
    }

    /// See the header.
    fn cnclSend(memory: Ptr, count: usize, dtype: i32, peer: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let (peer, bytes) = (call.rank(peer)?, call.bytes);
        let memory = call.stage.send(memory, bytes)?;
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.send(memory, count, dtype, peer, queue))
    }

    /// See the header.
    fn cnclRecv(memory: Ptr, count: usize, dtype: i32, peer: i32, comm: Ptr, queue: Ptr) {
        let mut call = Call::new(count, dtype, comm, queue)?;
        let (peer, bytes) = (call.rank(peer)?, call.bytes);
        let memory = call.stage.receive(memory, bytes)?;
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.receive(memory, count, dtype, peer, queue))
    }

    /// See the header.
    fn cnclGroupStart() {
        GROUP.with_borrow_mut(|group| group.depth += 1);
        group_start();
        Ok(())
    }

    /// See the header.
    fn cnclGroupEnd() { end() }
}
