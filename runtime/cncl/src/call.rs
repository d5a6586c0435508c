//! Collectives, sends and receives, and groups of them.

use std::cell::RefCell;
use std::sync::Arc;

use vmlu::collective::{group_end, group_start, Communicator, Memory, Piece};
use vmlu::{DataType, Error};
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, In, Ptr};

use crate::communicator::Comm;
use crate::error::{run, Code, Result};
use crate::types::{data_type, function};

/// What all calls begin with: a rank, its queue, and elements.
struct Call {
    comm: Arc<Comm>,
    joined: Communicator,
    queue: Arc<Queue>,
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
            queue: comm.queue(queue)?,
            bytes: bytes.ok_or(Code::ARGUMENTS)?,
            comm,
            dtype,
            count,
        })
    }

    /// Memory of `count` elements.
    fn one(&self, address: Ptr) -> Result<Memory> {
        self.comm.memory(address, self.bytes)
    }

    /// Memory of `count` elements for each rank.
    fn all(&self, address: Ptr) -> Result<Memory> {
        let bytes = self.bytes.checked_mul(u64::from(self.joined.size()));
        self.comm.memory(address, bytes.ok_or(Code::ARGUMENTS)?)
    }

    /// A rank that there is.
    fn rank(&self, rank: i32) -> Result<u32> {
        let rank = u32::try_from(rank).ok();
        rank.filter(|r| *r < self.joined.size())
            .ok_or(Code::ARGUMENTS)
    }

    /// Memory that only the root has.
    fn at_root(&self, root: u32, address: Ptr) -> Result<Option<Memory>> {
        match root == self.joined.rank() {
            true => self.one(address).map(Some),
            false => Ok(None),
        }
    }

    /// Makes the call, unless there is nothing to do for any rank.
    fn make(
        self,
        call: impl FnOnce(&Communicator, &vmlu::Queue) -> std::result::Result<u64, Error>,
    ) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        submit(&self.comm, &self.queue, || {
            call(&self.joined, self.queue.runtime())
        })
    }
}

/// The calling thread's groups: how many are open, and whose calls they put off.
#[derive(Default)]
struct Group {
    depth: u32,
    calls: Vec<(Arc<Comm>, Arc<Queue>)>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Makes a call, and notes that the rank's collectives stand in the queue, now or when the group ends.
fn submit(
    comm: &Arc<Comm>,
    queue: &Arc<Queue>,
    call: impl FnOnce() -> std::result::Result<u64, Error>,
) -> Result<()> {
    call()?;
    GROUP.with_borrow_mut(|group| match group.depth {
        0 => comm.used(queue),
        _ => group.calls.push((comm.clone(), queue.clone())),
    });
    Ok(())
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
    let ended = group_end();
    calls.iter().for_each(|(comm, queue)| comm.used(queue));
    Ok(ended?)
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
    let call = Call::new(count, dtype, comm, queue)?;
    let root = call.rank(root)?;
    let (send, receive) = (call.at_root(root, send)?, call.one(receive)?);
    let elements = (call.count, call.dtype);
    call.make(|comm, queue| comm.broadcast(send, receive, elements, root, queue))
}

/// What goes to each rank, or comes from each.
fn pieces(
    comm: &Comm,
    size: u32,
    memory: In<Ptr>,
    counts: In<u32>,
    types: In<i32>,
) -> Result<Vec<Piece>> {
    if memory.is_null() || counts.is_null() || types.is_null() {
        return Err(Code::NULL_POINTER);
    }
    let piece = |rank: usize| {
        let (count, dtype) = (
            u64::from(counts.get_at(rank)?),
            data_type(types.get_at(rank)?)?,
        );
        let memory = comm.memory(memory.get_at(rank)?, count * dtype.size() as u64)?;
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
        let call = Call::new(count, dtype, comm, queue)?;
        let (send, receive) = (call.one(send)?, call.all(receive)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.all_gather(send, receive, count, dtype, queue))
    }

    /// See the header.
    fn cnclReduce(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, root: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let (function, root) = (function(op)?, call.rank(root)?);
        let (send, receive) = (call.one(send)?, call.at_root(root, receive)?);
        let elements = (call.count, call.dtype);
        call.make(|comm, queue| comm.reduce(send, receive, elements, function, root, queue))
    }

    /// See the header.
    fn cnclAllReduce(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let function = function(op)?;
        let (send, receive) = (call.one(send)?, call.one(receive)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.all_reduce(send, receive, count, dtype, function, queue))
    }

    /// See the header.
    fn cnclReduceScatter(send: Ptr, receive: Ptr, count: usize, dtype: i32, op: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let function = function(op)?;
        let (send, receive) = (call.all(send)?, call.one(receive)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.reduce_scatter(send, receive, count, dtype, function, queue))
    }

    /// See the header.
    fn cnclAlltoAll(send: Ptr, receive: Ptr, count: usize, dtype: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let (send, receive) = (call.all(send)?, call.all(receive)?);
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
        let (joined, queue) = (comm.joined()?, comm.queue(queue)?);
        let size = joined.size();
        let send = pieces(&comm, size, send, send_counts, send_types)?;
        let receive = pieces(&comm, size, receive, receive_counts, receive_types)?;
        submit(&comm, &queue, || joined.all_to_all_v(&send, &receive, queue.runtime()))
    }

    /// See the header.
    fn cnclSend(memory: Ptr, count: usize, dtype: i32, peer: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let (peer, memory) = (call.rank(peer)?, call.one(memory)?);
        let (count, dtype) = (call.count, call.dtype);
        call.make(|comm, queue| comm.send(memory, count, dtype, peer, queue))
    }

    /// See the header.
    fn cnclRecv(memory: Ptr, count: usize, dtype: i32, peer: i32, comm: Ptr, queue: Ptr) {
        let call = Call::new(count, dtype, comm, queue)?;
        let (peer, memory) = (call.rank(peer)?, call.one(memory)?);
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
