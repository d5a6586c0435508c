//! What reduces nothing.

use vmlu::collective::{Memory, Piece};
use vmlu::DataType;

use crate::{bytes_of, value, Check, Rank};

/// Bytes that one rank has for another.
fn between(from: u32, to: u32, bytes: u64) -> Vec<u8> {
    let seed = u64::from(from) * 31 + u64::from(to) * 7;
    (0..bytes)
        .map(|i| (i * 13 + seed + (i >> 8)) as u8)
        .collect()
}

impl Rank {
    /// What reduces nothing.
    pub fn moves(&self, count: u64) -> Check {
        let (cluster, queue, rank) = (&self.cluster, &self.queue, self.cluster.rank());
        let of = |rank: u32| bytes_of((0..count).map(move |i| value(rank, i)));
        let all: Vec<u8> = self.ranks().flat_map(of).collect();
        let send = self.holding(&of(rank))?;
        for root in self.ranks() {
            let receive = self.room(4 * count)?;
            let from = (rank == root).then(|| Memory::from(&send));
            cluster.broadcast(from, &receive, (count, DataType::F32), root, queue)?;
            self.expect("broadcast", &receive, &of(root))?;
        }
        let receive = self.room(all.len() as u64)?;
        cluster.all_gather(&send, &receive, count, DataType::F32, queue)?;
        self.expect("all-gather", &receive, &all)?;
        let place = 4 * count * u64::from(rank);
        queue.fill(&receive, 0, all.len() as u64, 0)?;
        queue.copy(receive.address() + place, send.address(), 4 * count)?;
        let own = Memory::from((&receive, place));
        cluster.all_gather(own, &receive, count, DataType::F32, queue)?;
        self.expect("all-gather in place", &receive, &all)?;
        cluster.barrier(queue)?;
        Ok(queue.sync()?)
    }

    /// What one rank has for all, or takes from all.
    pub fn at_roots(&self, count: u64) -> Check {
        let (cluster, queue, rank) = (&self.cluster, &self.queue, self.cluster.rank());
        let of = |rank: u32| bytes_of((0..count).map(move |i| value(rank, i)));
        let all: Vec<u8> = self.ranks().flat_map(of).collect();
        let (bytes, own) = (4 * count, self.holding(&of(rank))?);
        let place = bytes * u64::from(rank);
        let elements = (count, DataType::F32);
        for root in self.ranks() {
            let whole = self.room(all.len() as u64)?;
            let here = (rank == root).then(|| Memory::from(&whole));
            cluster.gather(&own, here, elements, root, queue)?;
            match rank == root {
                true => self.expect("gather", &whole, &all)?,
                false => self.expect("gather elsewhere", &whole, &vec![0xa5; all.len()])?,
            }
            let part = self.room(bytes)?;
            let here = (rank == root).then(|| Memory::from(&whole));
            cluster.scatter(here, &part, elements, root, queue)?;
            self.expect("scatter", &part, &of(rank))?;
        }
        let root = self.cluster.size() - 1;
        let whole = self.holding(&all)?;
        let part = Memory::from((&whole, if rank == root { place } else { 0 }));
        let here = (rank == root).then(|| Memory::from(&whole));
        cluster.scatter(here.clone(), part.clone(), elements, root, queue)?;
        cluster.gather(part, here, elements, root, queue)?;
        if rank == root {
            self.expect("scatter and gather in place", &whole, &all)?;
        }
        Ok(queue.sync()?)
    }

    /// A part for each rank.
    pub fn all_to_all(&self, count: u64) -> Check {
        let (queue, rank) = (&self.queue, self.cluster.rank());
        let sent: Vec<u8> = self
            .ranks()
            .flat_map(|to| between(rank, to, 2 * count))
            .collect();
        let due: Vec<u8> = self
            .ranks()
            .flat_map(|from| between(from, rank, 2 * count))
            .collect();
        let bytes = (sent.len() as u64).max(1);
        let (send, receive) = (self.room(bytes)?, self.room(bytes)?);
        queue.write(&send, 0, &sent)?;
        self.cluster
            .all_to_all(&send, &receive, count, DataType::U16, queue)?;
        self.expect("all-to-all", &receive, &due)?;
        self.expect("all-to-all, sent", &send, &sent)?;
        self.cluster
            .all_to_all(&send, &send, count, DataType::U16, queue)?;
        self.expect("all-to-all in place", &send, &due)
    }

    /// Parts of different lengths, some of which are empty.
    pub fn uneven(&self) -> Check {
        let rank = self.cluster.rank();
        let length = |from: u32, to: u32| u64::from(from * 5 % 3) * 700_001 + u64::from(to);
        let pieces = |memory: &vmlu::Buffer, length: &dyn Fn(u32) -> u64| -> Vec<Piece> {
            let mut at = 0;
            let piece = |peer| {
                let memory = Memory::from((memory, at));
                at += length(peer);
                Piece {
                    memory,
                    count: length(peer),
                    dtype: DataType::U8,
                }
            };
            self.ranks().map(piece).collect()
        };
        let sent: Vec<u8> = self
            .ranks()
            .flat_map(|to| between(rank, to, length(rank, to)))
            .collect();
        let due: Vec<u8> = self
            .ranks()
            .flat_map(|from| between(from, rank, length(from, rank)))
            .collect();
        let send = self.room(sent.len() as u64 + 1)?;
        let receive = self.room(due.len() as u64 + 1)?;
        self.queue.write(&send, 0, &sent)?;
        let to = pieces(&send, &|peer| length(rank, peer));
        let from = pieces(&receive, &|peer| length(peer, rank));
        self.cluster.all_to_all_v(&to, &from, &self.queue)?;
        self.expect("uneven all-to-all", &receive, &due)
    }
}
