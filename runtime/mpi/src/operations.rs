//! The operations of a cluster: what is called is checked, and goes to the rank's engine.

use vmlu::collective::{Function, Memory, Piece};
use vmlu::{DataType, Queue, Result};

use crate::cluster::Cluster;
use crate::engine::{Fold, Work};
use crate::exchange::Stream;
use crate::refuse;

impl Cluster {
    /// `receive` at every rank = the reduction of all ranks' `send`; in place if they are the same.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` for what cannot be called, [`Cluster::async_error`] if the cluster is of no use any more. What fails later fails
    /// on the queue. So do all operations.
    pub fn all_reduce(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        function: Function,
        queue: &Queue,
    ) -> Result<u64> {
        let (send, receive) = (send.into(), receive.into());
        let bytes = self.bytes(count, dtype)?;
        self.check(&[(&send, bytes), (&receive, bytes)])?;
        apart((&send, bytes), (&receive, bytes), 0)?;
        let work = Work::Fold(Fold {
            send,
            receive: Some(receive),
            count,
            dtype,
            function,
        });
        self.submit(work, queue)
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
        let send = send.into();
        let bytes = self.bytes(count, dtype)?;
        let receive = self.at_root(root, receive, bytes)?;
        self.check(&[(&send, bytes)])?;
        if let Some(receive) = &receive {
            apart((&send, bytes), (receive, bytes), 0)?;
        }
        let work = Work::Fold(Fold {
            send,
            receive,
            count,
            dtype,
            function,
        });
        self.submit(work, queue)
    }

    /// `receive` of `count` elements = the rank's part of the reduction of all ranks' `send`, which has a part for each. Takes as much memory as
    /// `send` meanwhile.
    pub fn reduce_scatter(
        &self,
        send: impl Into<Memory>,
        receive: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        function: Function,
        queue: &Queue,
    ) -> Result<u64> {
        let (send, receive) = (send.into(), receive.into());
        let all = count.saturating_mul(u64::from(self.size()));
        let (part, bytes) = (self.bytes(count, dtype)?, self.bytes(all, dtype)?);
        self.check(&[(&send, bytes), (&receive, part)])?;
        let place = part * u64::from(self.rank());
        apart((&send, bytes), (&receive, part), place)?;
        let room = self.context.alloc(bytes.max(1))?;
        let fold = Fold {
            send,
            receive: Some((&room).into()),
            count: all,
            dtype,
            function,
        };
        self.submit(Work::ReduceScatter { fold, receive }, queue)
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
        let receive = receive.into();
        let bytes = self.bytes(count, dtype)?;
        let send = self.at_root(root, send, bytes)?;
        self.check(&[(&receive, bytes)])?;
        if let Some(send) = &send {
            apart((send, bytes), (&receive, bytes), 0)?;
        }
        let work = Work::Broadcast {
            send,
            receive,
            bytes,
            root,
        };
        self.submit(work, queue)
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
        let (send, receive) = (send.into(), receive.into());
        let all = count.saturating_mul(u64::from(self.size()));
        let (bytes, whole) = (self.bytes(count, dtype)?, self.bytes(all, dtype)?);
        self.check(&[(&send, bytes), (&receive, whole)])?;
        let place = bytes * u64::from(self.rank());
        apart((&receive, whole), (&send, bytes), place)?;
        let work = Work::AllGather {
            send,
            receive,
            bytes,
        };
        self.submit(work, queue)
    }

    /// The queue goes on when all ranks' queues have come here.
    pub fn barrier(&self, queue: &Queue) -> Result<u64> {
        self.submit(Work::Barrier, queue)
    }

    /// `receive` at the root = all ranks' `send` of `count` elements, one after another. Other ranks' `receive` is not looked at. In place: `send` is
    /// the rank's part of `receive`.
    pub fn gather(
        &self,
        send: impl Into<Memory>,
        receive: Option<Memory>,
        (count, dtype): (u64, DataType),
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let send = send.into();
        let all = count.saturating_mul(u64::from(self.size()));
        let (bytes, whole) = (self.bytes(count, dtype)?, self.bytes(all, dtype)?);
        let receive = self.at_root(root, receive, whole)?;
        self.check(&[(&send, bytes)])?;
        if let Some(receive) = &receive {
            let place = bytes * u64::from(self.rank());
            apart((receive, whole), (&send, bytes), place)?;
        }
        let work = Work::Gather {
            send,
            receive,
            bytes,
            root,
        };
        self.submit(work, queue)
    }

    /// `receive` of `count` elements = the rank's part of the root's `send`. Other ranks' `send` is not looked at. In place: `receive` is the rank's
    /// part of `send`.
    pub fn scatter(
        &self,
        send: Option<Memory>,
        receive: impl Into<Memory>,
        (count, dtype): (u64, DataType),
        root: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let receive = receive.into();
        let all = count.saturating_mul(u64::from(self.size()));
        let (bytes, whole) = (self.bytes(count, dtype)?, self.bytes(all, dtype)?);
        let send = self.at_root(root, send, whole)?;
        self.check(&[(&receive, bytes)])?;
        if let Some(send) = &send {
            let place = bytes * u64::from(self.rank());
            apart((send, whole), (&receive, bytes), place)?;
        }
        let work = Work::Scatter {
            send,
            receive,
            bytes,
            root,
        };
        self.submit(work, queue)
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
        let bytes = self.bytes(count, dtype)?;
        let pieces = |memory: Memory| -> Vec<Piece> {
            let places = 0..u64::from(self.size());
            let pieces = places.map(|i| Piece {
                memory: memory.after(bytes.saturating_mul(i)),
                count,
                dtype,
            });
            pieces.collect()
        };
        self.all_to_all_v(&pieces(send.into()), &pieces(receive.into()), queue)
    }

    /// Rank `i`'s `send[j]` becomes rank `j`'s `receive[i]`: as many bytes on both sides. Where something that is received overwrites what is
    /// sent, that is set aside before, in memory of its own.
    pub fn all_to_all_v(&self, send: &[Piece], receive: &[Piece], queue: &Queue) -> Result<u64> {
        let size = self.size() as usize;
        if send.len() != size || receive.len() != size {
            return refuse(format!("a part for each of {size} ranks is wanted"));
        }
        let (sends, receives) = (
            self.streams((0..).zip(send))?,
            self.streams((0..).zip(receive))?,
        );
        disjoint(&receives)?;
        let own = self.rank() as usize;
        if sends[own].bytes != receives[own].bytes {
            return refuse("a rank has other bytes for itself than it takes");
        }
        let is_over = |send: &Stream| receives.iter().any(|receive| send.overlaps(receive));
        let aside = if sends.iter().any(is_over) {
            let bytes = sends
                .iter()
                .fold(0u64, |sum, s| sum.saturating_add(s.bytes));
            Some(self.context.alloc(bytes.max(1))?)
        } else {
            None
        };
        let work = Work::AllToAll {
            sends,
            receives,
            aside,
        };
        self.submit(work, queue)
    }

    /// Sends to a rank, which receives as many bytes. Ranks that send to each other do so by [`Cluster::exchange`], or each waits for the other.
    pub fn send(
        &self,
        memory: impl Into<Memory>,
        count: u64,
        dtype: DataType,
        peer: u32,
        queue: &Queue,
    ) -> Result<u64> {
        let piece = Piece {
            memory: memory.into(),
            count,
            dtype,
        };
        self.exchange(&[(peer, piece)], &[], queue)
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
        let piece = Piece {
            memory: memory.into(),
            count,
            dtype,
        };
        self.exchange(&[], &[(peer, piece)], queue)
    }

    /// Sends and receives that go on at the same time: a group of them. What goes from one rank to another is received in the order in which it is
    /// sent. What is sent is not overwritten by the same call.
    pub fn exchange(
        &self,
        sends: &[(u32, Piece)],
        receives: &[(u32, Piece)],
        queue: &Queue,
    ) -> Result<u64> {
        let streams =
            |pieces: &[(u32, Piece)]| self.streams(pieces.iter().map(|(peer, p)| (*peer, p)));
        let (sends, receives) = (streams(sends)?, streams(receives)?);
        disjoint(&receives)?;
        let is_over = |send: &Stream| receives.iter().any(|receive| send.overlaps(receive));
        if sends.iter().any(is_over) {
            return refuse("what is sent overlaps what is received");
        }
        let own = |streams: &[Stream]| -> Vec<u64> {
            let own = streams.iter().filter(|s| s.peer == self.rank());
            own.map(|stream| stream.bytes).collect()
        };
        if own(&sends) != own(&receives) {
            return refuse("a rank sends to itself what it does not receive in the same exchange");
        }
        self.submit(Work::Exchange { sends, receives }, queue)
    }

    fn streams<'a>(&self, pieces: impl Iterator<Item = (u32, &'a Piece)>) -> Result<Vec<Stream>> {
        let stream = |(peer, piece): (u32, &Piece)| {
            if peer >= self.size() {
                return refuse(format!("there is no rank {peer} of {}", self.size()));
            }
            let bytes = self.bytes(piece.count, piece.dtype)?;
            self.check(&[(&piece.memory, bytes)])?;
            Ok(Stream {
                peer,
                memory: piece.memory.clone(),
                bytes,
            })
        };
        pieces.map(stream).collect()
    }

    fn bytes(&self, count: u64, dtype: DataType) -> Result<u64> {
        if dtype == DataType::Bool {
            return refuse("elements of type Bool are not taken");
        }
        match count.checked_mul(dtype.size() as u64) {
            Some(bytes) => Ok(bytes),
            None => refuse(format!("{count} elements are too many")),
        }
    }

    fn at_root(&self, root: u32, memory: Option<Memory>, bytes: u64) -> Result<Option<Memory>> {
        if root >= self.size() {
            return refuse(format!("there is no rank {root} of {}", self.size()));
        }
        if root != self.rank() {
            return Ok(None);
        }
        match &memory {
            None => refuse("the root has no memory for it"),
            Some(at) => {
                self.check(&[(at, bytes)])?;
                Ok(memory)
            }
        }
    }

    fn check(&self, parts: &[(&Memory, u64)]) -> Result<()> {
        for (memory, bytes) in parts {
            if !memory.is_of(&self.context) {
                return refuse("the memory is of another context than the rank");
            }
            if *bytes > memory.room() {
                return refuse(format!("{bytes} bytes do not fit their buffer"));
            }
        }
        Ok(())
    }
}

/// That a part lies at its place in a whole, or beside it.
fn apart(whole: (&Memory, u64), part: (&Memory, u64), place: u64) -> Result<()> {
    let (a, b) = (whole.0.address(), part.0.address());
    let overlap = a < b.saturating_add(part.1) && b < a.saturating_add(whole.1);
    if overlap && a.checked_add(place) != Some(b) {
        return refuse("what is sent overlaps what is received, and is not in place");
    }
    Ok(())
}

/// That nothing is received over something else.
fn disjoint(receives: &[Stream]) -> Result<()> {
    for (i, stream) in receives.iter().enumerate() {
        if receives[..i].iter().any(|other| other.overlaps(stream)) {
            return refuse("what is received overlaps itself");
        }
    }
    Ok(())
}
