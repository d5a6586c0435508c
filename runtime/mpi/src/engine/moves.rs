//! What reduces nothing.

use vmlu::collective::{group, Communicator, Memory, Piece};
use vmlu::{Buffer, DataType, Error, Queue, Result, Status};

use super::{chunks, pass, Engine};
use crate::exchange::Stream;
use crate::layout::Layout;

/// The streams with ranks of this host, the rank itself among them, and the others.
fn near_and_far(layout: &Layout, streams: &[Stream]) -> (Vec<Stream>, Vec<Stream>) {
    let near = |stream: &Stream| layout.is_near(stream.peer);
    streams.iter().cloned().partition(near)
}

/// Streams whose peers are named as MPI does.
fn to_world(layout: &Layout, mut streams: Vec<Stream>) -> Vec<Stream> {
    for stream in &mut streams {
        stream.peer = layout.world[stream.peer as usize];
    }
    streams
}

/// The streams of the ranks of a host, as the fabric takes them.
fn pieces(streams: &[Stream]) -> Vec<Piece> {
    let piece = |stream: &Stream| Piece {
        memory: stream.memory.clone(),
        count: stream.bytes,
        dtype: DataType::U8,
    };
    streams.iter().map(piece).collect()
}

/// Sends and receives of ranks of a host, until they have ended.
fn over_the_fabric(
    comm: &Communicator,
    first: u32,
    queue: &Queue,
    sends: &[Stream],
    receives: &[Stream],
) -> Result<()> {
    group(|| {
        for stream in sends {
            let (memory, peer) = (stream.memory.clone(), stream.peer - first);
            comm.send(memory, stream.bytes, DataType::U8, peer, queue)?;
        }
        for stream in receives {
            let (memory, peer) = (stream.memory.clone(), stream.peer - first);
            comm.receive(memory, stream.bytes, DataType::U8, peer, queue)?;
        }
        Ok(())
    })?;
    queue.sync()
}

impl Engine {
    pub(super) fn broadcast(
        &mut self,
        send: Option<&Memory>,
        receive: &Memory,
        bytes: u64,
        root: u32,
    ) -> Result<()> {
        let host = self.layout.host_of(root);
        let root = root - self.layout.hosts[host].first;
        if host != self.layout.host() {
            return self.take(receive, bytes, host);
        }
        for (first, count) in chunks(bytes, 1) {
            let to = receive.after(first);
            let from = send
                .filter(|_| root == self.layout.local())
                .map(|send| send.after(first));
            match (&self.comm, from) {
                (Some(comm), from) => {
                    comm.broadcast(from, to, (count, DataType::U8), root, &self.queue)?;
                }
                (None, Some(from)) => self.copy(&to, &from, count)?,
                (None, None) => {}
            }
            self.give(&receive.after(first), count)?;
        }
        Ok(())
    }

    /// What the first rank has goes to the hosts on both sides.
    fn give(&mut self, from: &Memory, bytes: u64) -> Result<()> {
        for neighbour in self.previous.iter_mut().chain(&mut self.next) {
            neighbour.to.send(&self.queue, from.address(), bytes)?;
        }
        Ok(())
    }

    /// What another host gives: it comes from its side, goes on to the other one, and to all ranks of this host.
    fn take(&mut self, receive: &Memory, bytes: u64, host: usize) -> Result<()> {
        let chunks = chunks(bytes, 1);
        let (from, on) = match host < self.layout.host() {
            true => (&mut self.previous, &mut self.next),
            false => (&mut self.next, &mut self.previous),
        };
        if let Some(neighbour) = from {
            neighbour
                .from
                .expect(chunks.iter().map(|(_, count)| *count));
        }
        for (first, count) in chunks {
            let to = receive.after(first);
            if let Some(neighbour) = from {
                let on = on.as_mut().map(|n| &mut n.to);
                pass(&mut neighbour.from, on, (&self.queue, &to, count))?;
            }
            if let Some(comm) = &self.comm {
                let root = (self.layout.local() == 0).then(|| to.clone());
                comm.broadcast(root, to, (count, DataType::U8), 0, &self.queue)?;
            }
        }
        Ok(())
    }

    pub(super) fn all_gather(&mut self, send: &Memory, receive: &Memory, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let hosts = self.layout.hosts.clone();
        for (number, host) in hosts.iter().enumerate() {
            let part = receive.after(bytes * u64::from(host.first));
            let length = bytes * u64::from(host.ranks);
            if number != self.layout.host() {
                self.take(&part, length, number)?;
                continue;
            }
            match &self.comm {
                Some(comm) => {
                    comm.all_gather(send.clone(), part.clone(), bytes, DataType::U8, &self.queue)?;
                }
                None => self.copy(&part, send, bytes)?,
            }
            for (first, count) in chunks(length, 1) {
                self.give(&part.after(first), count)?;
            }
        }
        Ok(())
    }

    /// Streams with ranks of other hosts.
    fn far(&mut self, sends: Vec<Stream>, receives: Vec<Stream>) -> Result<()> {
        let sends = to_world(&self.layout, sends);
        let receives = to_world(&self.layout, receives);
        self.exchange.run(&self.queue, &sends, &receives)
    }

    /// What each rank of other hosts has in a vector with a part for each.
    fn parts_elsewhere(&self, whole: &Memory, bytes: u64) -> Vec<Stream> {
        let others = (0..self.layout.size).filter(|rank| !self.layout.is_near(*rank));
        let stream = |peer: u32| Stream {
            peer,
            memory: whole.after(bytes * u64::from(peer)),
            bytes,
        };
        others.map(stream).collect()
    }

    pub(super) fn gather(
        &mut self,
        send: &Memory,
        receive: Option<&Memory>,
        bytes: u64,
        root: u32,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if !self.layout.is_near(root) {
            let memory = send.clone();
            let stream = Stream {
                peer: root,
                memory,
                bytes,
            };
            return self.far(vec![stream], Vec::new());
        }
        let first = self.layout.ranks_of(self.layout.host()).start;
        let own = receive.map(|all| all.after(bytes * u64::from(first)));
        match (&self.comm, own) {
            (Some(comm), own) => {
                let count = (bytes, DataType::U8);
                comm.gather(send.clone(), own, count, root - first, &self.queue)?;
            }
            (None, Some(own)) => self.copy(&own, send, bytes)?,
            (None, None) => {}
        }
        match receive {
            Some(all) => self.far(Vec::new(), self.parts_elsewhere(all, bytes)),
            None => Ok(()),
        }
    }

    pub(super) fn scatter(
        &mut self,
        send: Option<&Memory>,
        receive: &Memory,
        bytes: u64,
        root: u32,
    ) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if !self.layout.is_near(root) {
            let memory = receive.clone();
            let stream = Stream {
                peer: root,
                memory,
                bytes,
            };
            return self.far(Vec::new(), vec![stream]);
        }
        let first = self.layout.ranks_of(self.layout.host()).start;
        let own = send.map(|all| all.after(bytes * u64::from(first)));
        match (&self.comm, own) {
            (Some(comm), own) => {
                let count = (bytes, DataType::U8);
                comm.scatter(own, receive.clone(), count, root - first, &self.queue)?;
            }
            (None, Some(own)) => self.copy(receive, &own, bytes)?,
            (None, None) => {}
        }
        match send {
            Some(all) => self.far(self.parts_elsewhere(all, bytes), Vec::new()),
            None => Ok(()),
        }
    }

    pub(super) fn all_to_all(
        &mut self,
        sends: &[Stream],
        receives: &[Stream],
        aside: Option<&Buffer>,
    ) -> Result<()> {
        let mut sends = sends.to_vec();
        if let Some(aside) = aside {
            let mut room = Memory::from(aside);
            for send in &mut sends {
                if send.bytes > 0 {
                    self.copy(&room, &send.memory, send.bytes)?;
                }
                send.memory = room.clone();
                room = room.after(send.bytes);
            }
        }
        let (near, far) = near_and_far(&self.layout, &sends);
        let (near_in, far_in) = near_and_far(&self.layout, receives);
        match (&self.comm, &near[..], &near_in[..]) {
            (Some(comm), ..) => {
                comm.all_to_all_v(&pieces(&near), &pieces(&near_in), &self.queue)?;
            }
            (None, [own], [to]) if own.bytes > 0 => {
                self.copy(&to.memory, &own.memory, own.bytes)?;
            }
            (None, ..) => {}
        }
        self.far(far, far_in)
    }

    /// Pairs of ranks of the host use the fabric, others MPI, both at the same time: which of them wait for which is the callers' affair.
    pub(super) fn pairs(&mut self, sends: &[Stream], receives: &[Stream]) -> Result<()> {
        let (near, far) = near_and_far(&self.layout, sends);
        let (near_in, far_in) = near_and_far(&self.layout, receives);
        let first = self.layout.ranks_of(self.layout.host()).start;
        let Some(comm) = self.comm.clone() else {
            // With itself alone.
            for (from, to) in near.iter().zip(&near_in).filter(|(from, _)| from.bytes > 0) {
                self.copy(&to.memory, &from.memory, from.bytes)?;
            }
            return self.far(far, far_in);
        };
        if near.is_empty() && near_in.is_empty() {
            return self.far(far, far_in);
        }
        let side = self.side.clone();
        std::thread::scope(|scope| {
            let inside = || over_the_fabric(&comm, first, &side, &near, &near_in);
            let inside = scope.spawn(inside);
            let outside = self.far(far, far_in);
            if outside.is_err() {
                // Who it waits for may wait for what has failed.
                comm.abort();
            }
            let inside = inside.join().unwrap_or_else(|_| {
                let text = "the thread of a pair has panicked";
                Err(Error::new("exchange", Status::Internal, text))
            });
            outside.and(inside)
        })
    }
}
