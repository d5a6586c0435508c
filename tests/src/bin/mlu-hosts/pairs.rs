//! Sends and receives.

use vmlu::collective::{Memory, Piece};
use vmlu::{Buffer, DataType};

use crate::{Check, Rank};

/// Less than a chunk, and several.
const BYTES: [u64; 2] = [5_003, 3_500_007];

fn message(from: u32, number: usize) -> Vec<u8> {
    let seed = u64::from(from) * 5 + number as u64;
    (0..BYTES[number])
        .map(|i| (i * 7 + seed + (i >> 9)) as u8)
        .collect()
}

fn piece(buffer: &Buffer) -> Piece {
    Piece {
        memory: Memory::from(buffer),
        count: buffer.len(),
        dtype: DataType::U8,
    }
}

impl Rank {
    pub fn pairs(&self) -> Check {
        let (cluster, queue) = (&self.cluster, &self.queue);
        let (rank, size) = (cluster.rank(), cluster.size());
        // One after another.
        let buffer = self.holding(&message(0, 1))?;
        let bytes = buffer.len();
        if rank > 0 {
            queue.fill(&buffer, 0, bytes, 0)?;
            cluster.receive(&buffer, bytes, DataType::U8, rank - 1, queue)?;
        }
        if rank + 1 < size {
            cluster.send(&buffer, bytes, DataType::U8, rank + 1, queue)?;
        }
        self.expect("passed on", &buffer, &message(0, 1))?;
        // Everybody with everybody and itself, two messages each, in different orders.
        let mine: Vec<Buffer> = (0..2)
            .map(|number| self.holding(&message(rank, number)))
            .collect::<vmlu::Result<_>>()?;
        let theirs: Vec<(u32, usize, Buffer)> = self
            .ranks()
            .rev()
            .flat_map(|peer| (0..2).map(move |number| (peer, number)))
            .map(|(peer, number)| Ok((peer, number, self.room(BYTES[number])?)))
            .collect::<vmlu::Result<_>>()?;
        let sends: Vec<(u32, Piece)> = (0..size)
            .map(|i| (rank + i) % size)
            .flat_map(|peer| mine.iter().map(move |buffer| (peer, piece(buffer))))
            .collect();
        let receives: Vec<(u32, Piece)> = theirs
            .iter()
            .map(|(peer, _, buffer)| (*peer, piece(buffer)))
            .collect();
        cluster.exchange(&sends, &receives, queue)?;
        for (peer, number, buffer) in &theirs {
            let what = format!("message {number} of rank {peer}");
            self.expect(&what, buffer, &message(*peer, *number))?;
        }
        if cluster.send(&mine[0], 1, DataType::U8, rank, queue).is_ok() {
            return Err("what a rank sends to itself alone is taken".into());
        }
        self.circle()
    }

    /// A rank's sends do not wait for each other: the last rank, which may be on another host, frees the second for the first.
    fn circle(&self) -> Check {
        let (cluster, queue) = (&self.cluster, &self.queue);
        let (rank, last) = (cluster.rank(), cluster.size() - 1);
        if last < 2 {
            return Ok(());
        }
        let (a, b) = (self.holding(&message(rank, 0))?, self.room(BYTES[0])?);
        let bytes = a.len();
        let from = |peer: u32, to: &Buffer| cluster.receive(to, bytes, DataType::U8, peer, queue);
        match rank {
            0 => drop(cluster.exchange(&[(1, piece(&a)), (last, piece(&a))], &[], queue)?),
            1 => {
                from(last, &b)?;
                from(0, &a)?;
                self.expect("of the last", &b, &message(last, 0))?;
                self.expect("of the first", &a, &message(0, 0))?;
            }
            _ if rank == last => {
                from(0, &b)?;
                cluster.send(&a, bytes, DataType::U8, 1, queue)?;
                self.expect("of the first, too", &b, &message(0, 0))?;
            }
            _ => {}
        }
        Ok(queue.sync()?)
    }

    /// The last rank takes more than the first sends: what all ranks are told.
    pub fn disagree(&self) -> Result<vmlu::Error, Box<dyn std::error::Error>> {
        let (cluster, queue) = (&self.cluster, &self.queue);
        let memory = self.room(64)?;
        let last = cluster.size() - 1;
        match cluster.rank() {
            0 => drop(cluster.send(&memory, 8, DataType::U8, last, queue)?),
            rank if rank == last => drop(cluster.receive(&memory, 16, DataType::U8, 0, queue)?),
            _ => {}
        }
        let ended = cluster.barrier(queue).and_then(|_| queue.sync());
        ended.err().ok_or_else(|| "16 bytes of 8 are taken".into())
    }
}
