//! Collectives: operations that ranks, each a chip, do together.
//!
//! Ranks meet by a [`CliqueId`]; each gets a [`Communicator`]. A call names memory of the rank's context and a queue of it. It returns when
//! all ranks have made theirs, and the commands stand in the queues: from then on the host takes no part. The commands wait for each
//! other's timelines, read and write the peers' memory in place, and are ordered on the queue like any operator. A rank's place in its
//! queue is reached when its result is there and nobody uses its memory any more.
//!
//! A thread that drives several ranks groups its calls: [`group`], or [`group_start`] and [`group_end`].
//!
//! - An all-reduce goes by the [`Algorithm`] that a measured table says for the [`Shape`] of the topology, the number of ranks and the size.
//!   Others: one rank does everything for small messages and the others wait for it; for large ones each rank does its slice for all. Results
//!   depend on the order of ranks and on the topology, and are the same bits at every rank; F16 and BF16 are rounded once, between groups
//!   twice.
//! - What fails on one rank's queue, because of a link, a chip or an earlier command, fails the commands of the other ranks
//!   (`Status::Dependency`), whose queues are in error then. A rank that has gone, or does not come, is an error of the others' calls; the
//!   communicator is broken after that ([`Communicator::async_error`]), and a new one is made.
//! - A collective on a queue that is being captured becomes part of the graph; what is grouped stays together. Each launch of the graph makes
//!   the calls anew, so all ranks launch their graphs, as often and in the same order, and a launch returns when all have. A thread that
//!   drives several ranks groups the launches. The graph keeps the rank in its clique, is neither updated nor kept as an image.

mod algorithm;
mod board;
mod call;
mod clique;
mod group;
mod hub;
mod id;
mod line;
mod meet;
mod member;
mod mesh;
mod neighbours;
mod plan;
mod script;
mod topology;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use vmlu_abi::tensor::DataType;
use vmlu_abi::Status;
use vmlu_ops::combine::MAX_PARTS;

use call::{Call, Held, Kind, Part};
use clique::Clique;
use member::Member;
use script::Grouped;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::memory::{Buffer, Owner};
use crate::queue::Queue;

pub use algorithm::{Algorithm, Shape};
pub use group::{group, group_end, group_start};
pub use id::CliqueId;
pub(crate) use script::{Captured, Script};
pub use vmlu_ops::combine::Function;

/// Most ranks of a communicator.
pub const MAX_RANKS: u32 = MAX_PARTS as u32;

const JOIN: &str = "join a clique";

/// How long ranks wait for each other, where nothing else is said: `MLU_COLLECTIVE_TIMEOUT` seconds, or 30.
pub fn default_timeout() -> Duration {
    let seconds = std::env::var("MLU_COLLECTIVE_TIMEOUT");
    let seconds = seconds.ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}

/// Device memory from a byte on.
#[derive(Clone)]
pub struct Memory {
    buffer: Buffer,
    offset: u64,
}

impl Memory {
    /// What stands at an address of a context.
    ///
    /// # Errors
    ///
    /// `Status::AddressFault` if that is no device memory.
    pub fn at(context: &Context, address: u64) -> Result<Self> {
        match context.inner.allocations.owner(address) {
            Some(Owner::Device(buffer)) => {
                let offset = address - buffer.address();
                Ok(Self { buffer, offset })
            }
            _ => {
                let text = format!("no device memory at {address:#x}");
                Err(Error::new("collective", Status::AddressFault, text))
            }
        }
    }

    /// Its address, in the context that it is of.
    pub fn address(&self) -> u64 {
        self.buffer.address().saturating_add(self.offset)
    }

    /// Bytes to the end of the allocation.
    pub fn room(&self) -> u64 {
        self.buffer.len().saturating_sub(self.offset)
    }

    /// The memory that begins so many bytes further on.
    pub fn after(&self, bytes: u64) -> Self {
        let offset = self.offset.saturating_add(bytes);
        (&self.buffer, offset).into()
    }

    /// Whether it is of a context.
    pub fn is_of(&self, context: &Context) -> bool {
        Arc::ptr_eq(self.buffer.context(), &context.inner)
    }
}

impl From<&Buffer> for Memory {
    fn from(buffer: &Buffer) -> Self {
        (buffer, 0).into()
    }
}

impl From<(&Buffer, u64)> for Memory {
    fn from((buffer, offset): (&Buffer, u64)) -> Self {
        let buffer = buffer.clone();
        Self { buffer, offset }
    }
}

/// What a rank sends to, or receives from, one other in [`Communicator::all_to_all_v`].
#[derive(Clone)]
pub struct Piece {
    /// Where.
    pub memory: Memory,
    /// Elements.
    pub count: u64,
    /// Their type.
    pub dtype: DataType,
}

/// A rank's part in a clique. Cloning it gives another handle on the same rank, which leaves with its last handle. A rank's calls are made
/// by one thread at a time, in the same order at all ranks.
#[derive(Clone)]
pub struct Communicator {
    inner: Arc<Inner>,
}

struct Inner {
    member: Arc<Member>,
    clique: Arc<Clique>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.clique.lose(self.member.rank, "has left");
        // The process may end next, and others may still wait for what it has said.
        self.clique.flush();
    }
}

impl Communicator {
    /// Joins a clique of `size` ranks as `rank`, with a context on this rank's chip; returns when all are there.
    ///
    /// # Errors
    ///
    /// `Status::Timeout` after `timeout` (for calls later on as well), naming who is missing; `Status::NotSupported` if there are more than
    /// [`MAX_RANKS`] or chips that do not reach each other.
    pub fn new(
        context: &Context,
        id: &CliqueId,
        rank: u32,
        size: u32,
        timeout: Duration,
    ) -> Result<Self> {
        check_size(rank, size)?;
        let member = Arc::new(Member::new(context, rank, size));
        let clique = meet::join(id, &member, timeout)?;
        let inner = Arc::new(Inner { member, clique });
        Ok(Self { inner })
    }

    /// A clique of contexts of this process, as ranks 0 on.
    ///
    /// # Errors
    ///
    /// As [`Communicator::new`].
    pub fn all(contexts: &[Context], timeout: Duration) -> Result<Vec<Self>> {
        let size = contexts.len() as u32;
        check_size(0, size)?;
        let members: Vec<Arc<Member>> = (0..size)
            .zip(contexts)
            .map(|(rank, context)| Arc::new(Member::new(context, rank, size)))
            .collect();
        let clique = Clique::of_members(&members, timeout)?;
        let inners = members.into_iter().map(|member| Inner {
            member,
            clique: clique.clone(),
        });
        Ok(inners
            .map(|inner| Self {
                inner: Arc::new(inner),
            })
            .collect())
    }

    /// Makes communicators of the ranks with the same color, in the order of `key`, then of rank; none for ranks without a color. All ranks
    /// call it, each from a thread of its own.
    ///
    /// # Errors
    ///
    /// As a collective's.
    pub fn split(&self, color: Option<u32>, key: u32) -> Result<Option<Self>> {
        let part = self
            .inner
            .clique
            .split(&self.inner.member, color, key)?
            .map_err(|r| Error::new("split a communicator", r.status(), r.text))?;
        Ok(part.map(|(member, clique)| Self {
            inner: Arc::new(Inner { member, clique }),
        }))
    }

    /// How the joined chips of the ranks look, by which algorithms are chosen.
    pub fn shape(&self) -> Shape {
        self.inner.clique.topology.shape
    }

    /// Has all-reduces of the clique's ranks in this process go by one algorithm where it can be, instead of the measured table's choice; `None`
    /// goes back to the table. Ranks in other processes have to be told the same, or their calls disagree. `MLU_COLLECTIVE_ALGORITHM` says it for
    /// all communicators of a process.
    ///
    /// What an algorithm cannot do goes by [`Algorithm::Direct`]: averages and half precision by steps that round, groups where there are none.
    pub fn set_algorithm(&self, algorithm: Option<Algorithm>) {
        self.inner.clique.topology.force(algorithm);
    }

    /// Ranks.
    pub fn size(&self) -> u32 {
        self.inner.member.size
    }

    /// This rank.
    pub fn rank(&self) -> u32 {
        self.inner.member.rank
    }

    /// Number of this rank's chip.
    pub fn device(&self) -> u32 {
        self.context().info().device
    }

    /// This rank's context.
    pub fn context(&self) -> &Context {
        &self.inner.member.context
    }

    /// Ends the communicator: calls that wait for other ranks, at any rank, and later ones fail with `Status::Cancelled`. What was
    /// submitted goes on.
    pub fn abort(&self) {
        let text = format!("rank {} aborted the communicator", self.rank());
        self.inner.clique.fail(Status::Cancelled, &text);
    }

    /// Why the communicator is of no use any more, or what failed of the rank's last collective on its queue.
    pub fn async_error(&self) -> Option<Error> {
        let Inner { member, clique } = &*self.inner;
        let broken = clique.broken();
        let broken = broken.map(|r| Error::new("collective", r.status(), r.text));
        broken.or_else(|| member.failed())
    }

    /// `receive` at every rank = the reduction of all ranks' `send`.
    pub fn all_reduce(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        function: Function,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::AllReduce, count, dtype);
        call.function = function;
        call.sends = part(send, call.bytes());
        call.receives = part(receive, call.bytes());
        let topology = &self.inner.clique.topology;
        call.algorithm = topology.algorithm(call.bytes(), dtype, function);
        if call.algorithm == Algorithm::Hierarchical {
            let groups = &topology.groups;
            let (_, largest) = plan::slice(count, dtype.size() as u64, groups[0].len(), 0);
            let bytes = largest.saturating_mul(dtype.size() as u64);
            call.scratch = Some(self.scratch(bytes)?);
        }
        self.submit(call, queue)
    }

    /// `receive` at the root = the reduction of all ranks' `send`. Other ranks' `receive` is not looked at.
    pub fn reduce(
        &self,
        send: impl Into<Memory>,
        receive: Option<Memory>,
        (count, dtype): (u64, DataType),
        function: Function,
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Reduce, count, dtype);
        (call.function, call.root) = (function, root);
        call.sends = part(send, call.bytes());
        call.receives = self.at_root(root, receive, call.bytes());
        self.submit(call, queue)
    }

    /// `receive` at every rank = the root's `send`. Other ranks' `send` is not looked at.
    pub fn broadcast(
        &self,
        send: Option<Memory>,
        receive: impl Into<Memory>,
        (count, dtype): (u64, DataType),
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Broadcast, count, dtype);
        call.root = root;
        call.sends = self.at_root(root, send, call.bytes());
        call.receives = part(receive, call.bytes());
        self.submit(call, queue)
    }

    /// `receive` at every rank = all ranks' `send` of `count` elements, one after another. In place: `send` is the rank's part of `receive`.
    pub fn all_gather(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::AllGather, count, dtype);
        call.sends = part(send, call.bytes());
        call.receives = part(receive, self.times(&call));
        self.submit(call, queue)
    }

    /// `receive` of `count` elements = the rank's part of the reduction of all ranks' `send`, which has a part for each. In place: `receive`
    /// is the rank's part of `send`.
    pub fn reduce_scatter(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        function: Function,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::ReduceScatter, count, dtype);
        call.function = function;
        call.sends = part(send, self.times(&call));
        call.receives = part(receive, call.bytes());
        self.submit(call, queue)
    }

    /// Part `j` of rank `i`'s `send` becomes part `i` of rank `j`'s `receive`; parts of `count` elements. In place: `send` is `receive`.
    pub fn all_to_all(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        queue: &Queue,
    ) -> Result<u64> {
        let pieces = |memory: Memory| -> Vec<Piece> {
            let bytes = count.saturating_mul(dtype.size() as u64);
            (0..u64::from(self.size()))
                .map(|i| Piece {
                    memory: Memory {
                        buffer: memory.buffer.clone(),
                        offset: memory.offset.saturating_add(bytes.saturating_mul(i)),
                    },
                    count,
                    dtype,
                })
                .collect()
        };
        self.all_to_all_v(&pieces(send.into()), &pieces(receive.into()), queue)
    }

    /// Rank `i`'s `send[j]` becomes rank `j`'s `receive[i]`: as many bytes on both sides.
    pub fn all_to_all_v(&self, send: &[Piece], receive: &[Piece], queue: &Queue) -> Result<u64> {
        let mut call = self.call(Kind::AllToAll, 0, DataType::U8);
        let parts = |pieces: &[Piece]| {
            let parts = pieces.iter().map(|p| Part {
                memory: Held::Here(p.memory.buffer.clone()),
                offset: p.memory.offset,
                bytes: p.count.saturating_mul(p.dtype.size() as u64),
            });
            parts.collect::<Vec<_>>()
        };
        call.sends = parts(send);
        call.receives = parts(receive);
        if call.is_in_place() {
            let bytes = call
                .sends
                .iter()
                .fold(0u64, |n, p| n.saturating_add(p.bytes));
            call.scratch = Some(self.scratch(bytes)?);
        }
        self.submit(call, queue)
    }

    /// `receive` at the root = all ranks' `send` of `count` elements, one after another.
    pub fn gather(
        &self,
        send: impl Into<Memory>,
        receive: Option<Memory>,
        (count, dtype): (u64, DataType),
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Gather, count, dtype);
        call.root = root;
        call.sends = part(send, call.bytes());
        call.receives = self.at_root(root, receive, self.times(&call));
        self.submit(call, queue)
    }

    /// `receive` of `count` elements = the rank's part of the root's `send`.
    pub fn scatter(
        &self,
        send: Option<Memory>,
        receive: impl Into<Memory>,
        (count, dtype): (u64, DataType),
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Scatter, count, dtype);
        call.root = root;
        call.sends = self.at_root(root, send, self.times(&call));
        call.receives = part(receive, call.bytes());
        self.submit(call, queue)
    }

    /// Sends to a rank, which receives as many bytes.
    pub fn send(
        &self,
        memory: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        peer: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Send, count, dtype);
        call.root = peer;
        call.sends = part(memory, call.bytes());
        self.submit(call, queue)
    }

    /// Receives what a rank sends.
    pub fn receive(
        &self,
        memory: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        peer: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let mut call = self.call(Kind::Receive, count, dtype);
        call.root = peer;
        call.receives = part(memory, call.bytes());
        self.submit(call, queue)
    }

    /// The queue goes on when all ranks' queues have come here.
    pub fn barrier(&self, queue: &Queue) -> Result<u64> {
        self.submit(self.call(Kind::Barrier, 0, DataType::U8), queue)
    }

    fn call(&self, kind: Kind, count: u64, dtype: DataType) -> Call {
        Call {
            kind,
            function: Function::Sum,
            dtype,
            root: 0,
            count,
            algorithm: Algorithm::Direct,
            sends: Vec::new(),
            receives: Vec::new(),
            scratch: None,
        }
    }

    fn times(&self, call: &Call) -> u64 {
        call.bytes().saturating_mul(u64::from(self.size()))
    }

    fn at_root(&self, root: u32, memory: Option<Memory>, bytes: u64) -> Vec<Part> {
        let memory = memory.filter(|_| root == self.rank());
        memory.map_or(Vec::new(), |m| part(m, bytes))
    }

    fn scratch(&self, bytes: u64) -> Result<Part> {
        Ok(Part {
            memory: Held::Here(self.inner.member.scratch(bytes)?),
            offset: 0,
            bytes,
        })
    }

    /// Checks a call, and makes it, captures it or puts it off; the value on the queue, 0 if it was put off.
    fn submit(&self, call: Call, queue: &Queue) -> Result<u64> {
        let name = call.kind.name();
        let refuse = |status, text: String| Err(Error::new(name, status, text));
        let context = &self.context().inner;
        let mut parts = call.sends.iter().chain(&call.receives);
        let own = parts.all(|part| part.is_of(context));
        if !own || !Arc::ptr_eq(queue.inner.context(), context) {
            let text = "the memory or the queue is of another context than the rank";
            return refuse(Status::BadHandle, text.to_owned());
        }
        if call.kind.is_pair() && call.root == self.rank() && !group::is_begun() {
            let text = "a rank sends to itself only in a group, in which it receives too";
            return refuse(Status::InvalidArgument, text.to_owned());
        }
        if let Err(text) = call.check(self.rank(), self.size()) {
            return refuse(Status::InvalidArgument, text);
        }
        let grouped = Grouped {
            communicator: self.clone(),
            call,
            queue: queue.clone(),
        };
        if !group::is_begun() && queue.capture_id().is_some() {
            return script::captured(vec![grouped]);
        }
        Script::call(grouped).run()
    }
}

fn part(memory: impl Into<Memory>, bytes: u64) -> Vec<Part> {
    let Memory { buffer, offset } = memory.into();
    vec![Part {
        memory: Held::Here(buffer),
        offset,
        bytes,
    }]
}

fn check_size(rank: u32, size: u32) -> Result<()> {
    if size == 0 || rank >= size {
        let text = format!("there is no rank {rank} of {size}");
        return Err(Error::new(JOIN, Status::InvalidArgument, text));
    }
    if size > MAX_RANKS {
        let text = format!("{size} ranks, at most {MAX_RANKS}");
        return Err(Error::new(JOIN, Status::NotSupported, text));
    }
    Ok(())
}
