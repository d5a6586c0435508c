//! What a rank's thread does for the collectives of its host's queue, one after another.
//!
//! The first rank of each host has to do with MPI. Chunks go up the hosts, from the first to the last, and come back: host `h` takes what the
//! hosts before it have reduced to, reduces it further with its own ranks, over the fabric, and hands it on. So while a chunk is between hosts
//! others are inside them, and each element is reduced in the order of ranks.

use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;

use vmlu::abi::Wire;
use vmlu::collective::{Communicator, Function, Memory};
use vmlu::ops::binary::{self, Binary};
use vmlu::ops::cast::Cast;
use vmlu::ops::combine::Combine;
use vmlu::ops::tensor::contiguous;
use vmlu::{Buffer, DataType, HostTimeline, Queue, Result};

use crate::carrier::{After, Broken, Carrier};
use crate::lane::{Lane, CHUNK, SLOTS};
use crate::Layout;

/// What is asked of all ranks.
pub(crate) enum Work {
    /// `receive` at all ranks, or where there is one, = the reduction of all `send`.
    Fold(Fold),
    /// `receive` at all ranks = the root's `send`.
    Broadcast {
        send: Option<Memory>,
        receive: Memory,
        bytes: u64,
        root: u32,
    },
    /// `receive` at all ranks = all `send` of `bytes`, in the order of ranks.
    AllGather {
        send: Memory,
        receive: Memory,
        bytes: u64,
    },
    /// `receive` = the rank's part of the reduction of all `send`, which has one for each.
    ReduceScatter { fold: Fold, receive: Memory },
    /// Nothing but that all ranks have come here.
    Barrier,
}

/// A reduction.
pub(crate) struct Fold {
    pub(crate) send: Memory,
    pub(crate) receive: Option<Memory>,
    pub(crate) count: u64,
    pub(crate) dtype: DataType,
    pub(crate) function: Function,
}

/// A collective on a queue.
pub(crate) struct Job {
    pub(crate) work: Work,
    pub(crate) queue: Queue,
    /// What the queue had before it.
    pub(crate) begin: u64,
    /// What the timeline reaches with it.
    pub(crate) number: u64,
}

/// A host before or behind this one.
pub(crate) struct Neighbour {
    pub(crate) to: Lane,
    pub(crate) from: Lane,
}

/// Room for a chunk.
pub(crate) struct Room {
    /// What the hosts before have reduced to.
    pub(crate) before: Buffer,
    /// The same with this host's ranks.
    pub(crate) with: Buffer,
    /// The rank's own part, and the result, in the type that goes over.
    pub(crate) own: Buffer,
    pub(crate) result: Buffer,
    /// The number of ranks, by which averages are divided.
    pub(crate) divisor: Buffer,
}

/// A rank's thread.
pub(crate) struct Engine {
    pub(crate) layout: Layout,
    pub(crate) carrier: Arc<Carrier>,
    /// The ranks of the host; none if it has one.
    pub(crate) comm: Option<Communicator>,
    pub(crate) queue: Queue,
    pub(crate) timeline: HostTimeline,
    pub(crate) previous: Option<Neighbour>,
    pub(crate) next: Option<Neighbour>,
    pub(crate) room: Room,
    pub(crate) failed: Arc<std::sync::Mutex<Option<Broken>>>,
    /// Takes what is done. Its memory is not freed here: that waits for the context's queues, and these for what this thread does next.
    pub(crate) done: Sender<Work>,
}

/// Part of a vector: its first element, and how many.
type Chunk = (u64, u64);

fn chunks(count: u64, size: u64) -> Vec<Chunk> {
    let each = CHUNK / size;
    let number = count.div_ceil(each);
    (0..number)
        .map(|i| (i * each, each.min(count - i * each)))
        .collect()
}

/// F16 and BF16 go over as f32, so that they are rounded once, wherever a host ends.
fn wire(dtype: DataType) -> DataType {
    match dtype {
        DataType::F16 | DataType::Bf16 => DataType::F32,
        other => other,
    }
}

/// A number in a type, as the card has it.
fn number(n: u32, dtype: DataType) -> Vec<u8> {
    match dtype {
        DataType::F32 => (n as f32).to_le_bytes().to_vec(),
        DataType::F64 => f64::from(n).to_le_bytes().to_vec(),
        other => u64::from(n).to_le_bytes()[..other.size()].to_vec(),
    }
}

impl Engine {
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if let Err(error) = self.serve(&job) {
                self.fail(Broken {
                    status: error.status(),
                    text: error.to_string(),
                });
                return;
            }
            let _ = self.done.send(job.work);
        }
    }

    /// Nothing goes on, here and at the others: what waits for the timeline fails.
    fn fail(&self, broken: Broken) {
        let known = self.carrier.break_up(broken);
        *self.failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(known);
        if let Some(comm) = &self.comm {
            comm.abort();
        }
        self.timeline.end();
    }

    fn serve(&mut self, job: &Job) -> Result<()> {
        if job.begin > 0 {
            self.queue.wait_for(&job.queue, job.begin)?;
        }
        match &job.work {
            Work::Fold(fold) => self.fold(fold)?,
            Work::Broadcast {
                send,
                receive,
                bytes,
                root,
            } => self.broadcast(send.as_ref(), receive, *bytes, *root)?,
            Work::AllGather {
                send,
                receive,
                bytes,
            } => self.all_gather(send, receive, *bytes)?,
            Work::ReduceScatter { fold, receive } => {
                self.fold(fold)?;
                let each = fold.count / u64::from(self.layout.size);
                let bytes = each * fold.dtype.size() as u64;
                if let (Some(all), true) = (&fold.receive, bytes > 0) {
                    let own = all.after(bytes * u64::from(self.layout.rank));
                    self.copy(receive, &own, bytes)?;
                }
            }
            Work::Barrier => {
                let one = Memory::from(&self.room.own);
                self.fold(&Fold {
                    send: one.clone(),
                    receive: None,
                    count: 1,
                    dtype: DataType::U32,
                    function: Function::Max,
                })?;
            }
        }
        self.queue.sync()?;
        for neighbour in self.previous.iter_mut().chain(&mut self.next) {
            neighbour.to.finish()?;
            neighbour.from.finish()?;
        }
        self.timeline.signal(job.number)
    }

    fn is_first(&self) -> bool {
        self.layout.local() == 0
    }

    fn copy(&self, to: &Memory, from: &Memory, bytes: u64) -> Result<()> {
        if to.address() != from.address() {
            self.queue.copy(to.address(), from.address(), bytes)?;
        }
        Ok(())
    }

    fn cast(&self, from: (&Memory, DataType), to: (&Memory, DataType), count: u64) -> Result<()> {
        let tensor =
            |(memory, dtype): (&Memory, DataType)| contiguous(dtype, memory.address(), &[count]);
        self.queue.submit(&Cast {
            x: tensor(from),
            out: tensor(to),
            ..Cast::zeroed()
        })?;
        Ok(())
    }

    /// `all[0] = f(all[0], all[1])`.
    fn combine(&self, all: [u64; 2], count: u64, dtype: DataType, f: Function) -> Result<()> {
        let mut combine = Combine {
            count,
            dtype: u32::from(dtype as u16),
            function: f as u32,
            input_count: 2,
            output_count: 1,
            ..Combine::zeroed()
        };
        combine.inputs[..2].copy_from_slice(&all);
        combine.outputs[0] = all[0];
        self.queue.submit(&combine)?;
        Ok(())
    }

    fn divide(&self, sum: &Memory, count: u64, dtype: DataType) -> Result<()> {
        let divisor = &self.room.divisor;
        self.queue
            .write(divisor, 0, &number(self.layout.size, dtype))?;
        let sum = contiguous(dtype, sum.address(), &[count]);
        self.queue.submit(&Binary {
            a: sum,
            b: contiguous(dtype, divisor.address(), &[1]),
            out: sum,
            function: binary::Function::Div as u32,
            ..Binary::zeroed()
        })?;
        Ok(())
    }

    /// Host by host, and back.
    fn fold(&mut self, fold: &Fold) -> Result<()> {
        let size = wire(fold.dtype).size() as u64;
        let chunks = chunks(fold.count, size);
        let bytes = || chunks.iter().map(|(_, count)| count * size);
        if let Some(previous) = &mut self.previous {
            previous.from.expect(bytes());
        }
        if let Some(next) = &mut self.next {
            next.from.expect(bytes());
        }
        // As many chunks are on their way as it takes to go through all hosts and back, or as there are slots for.
        let lag = (2 * self.layout.hosts.len()).min(2 * SLOTS);
        for step in 0..chunks.len() + lag {
            if let Some(chunk) = chunks.get(step) {
                self.up(fold, *chunk)?;
            }
            if let Some(chunk) = step.checked_sub(lag).and_then(|i| chunks.get(i)) {
                self.back(fold, *chunk)?;
            }
        }
        Ok(())
    }

    /// Where a chunk's result goes: in the type that goes over, and in the end if that is another place.
    fn target(&self, fold: &Fold, (first, _): Chunk) -> (Memory, Option<Memory>) {
        let result = Memory::from(&self.room.result);
        let size = fold.dtype.size() as u64;
        let end = fold.receive.as_ref().map(|to| to.after(first * size));
        match end {
            Some(end) if wire(fold.dtype) == fold.dtype => (end, None),
            end => (result, end),
        }
    }

    /// A chunk is reduced with what comes from the host before, and goes on.
    fn up(&mut self, fold: &Fold, chunk: Chunk) -> Result<()> {
        let (first, count) = chunk;
        let dtype = wire(fold.dtype);
        let bytes = count * dtype.size() as u64;
        let function = match fold.function {
            Function::Average => Function::Sum,
            other => other,
        };
        let mut own = fold.send.after(first * fold.dtype.size() as u64);
        if dtype != fold.dtype {
            let wide = Memory::from(&self.room.own);
            self.cast((&own, fold.dtype), (&wide, dtype), count)?;
            own = wide;
        }
        if let Some(previous) = &mut self.previous {
            let before = Memory::from(&self.room.before);
            let arrived = previous.from.take()?;
            let copied = self
                .queue
                .copy(before.address(), arrived.address(), bytes)?;
            let after = vec![After::Command(self.queue.clone(), copied)];
            previous.from.done(arrived, after);
            self.combine([before.address(), own.address()], count, dtype, function)?;
            own = before;
        }
        let first_rank = self.is_first();
        if !self.layout.is_last_host() {
            let mut with = own;
            if let Some(comm) = &self.comm {
                let send = with;
                with = Memory::from(&self.room.with);
                let to = first_rank.then(|| with.clone());
                comm.reduce(send, to, (count, dtype), function, 0, &self.queue)?;
            }
            if let Some(next) = &mut self.next {
                next.to.send(&self.queue, with.address(), bytes)?;
            }
            return Ok(());
        }
        let (target, _) = self.target(fold, chunk);
        match &self.comm {
            // Not by an all-reduce, whose order may follow the fabric.
            Some(comm) => {
                let to = first_rank.then(|| target.clone());
                comm.reduce(own, to, (count, dtype), function, 0, &self.queue)?;
            }
            None => self.copy(&target, &own, bytes)?,
        }
        if first_rank && fold.function == Function::Average {
            self.divide(&target, count, dtype)?;
        }
        if let Some(previous) = &mut self.previous {
            previous.to.send(&self.queue, target.address(), bytes)?;
        }
        self.inside(fold, chunk)
    }

    /// A chunk's result comes from the host behind.
    fn back(&mut self, fold: &Fold, chunk: Chunk) -> Result<()> {
        if self.layout.is_last_host() {
            return Ok(());
        }
        let bytes = chunk.1 * wire(fold.dtype).size() as u64;
        let (target, _) = self.target(fold, chunk);
        if let Some(next) = &mut self.next {
            pass(
                &mut next.from,
                self.previous.as_mut().map(|p| &mut p.to),
                (&self.queue, &target, bytes),
            )?;
        }
        self.inside(fold, chunk)
    }

    /// The first rank's result is the others' too.
    fn inside(&self, fold: &Fold, chunk: Chunk) -> Result<()> {
        let (target, end) = self.target(fold, chunk);
        let dtype = wire(fold.dtype);
        if let Some(comm) = &self.comm {
            let from = self.is_first().then(|| target.clone());
            comm.broadcast(from, target.clone(), (chunk.1, dtype), 0, &self.queue)?;
        }
        match end {
            Some(end) => self.cast((&target, dtype), (&end, fold.dtype), chunk.1),
            None => Ok(()),
        }
    }

    fn broadcast(
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

    fn all_gather(&mut self, send: &Memory, receive: &Memory, bytes: u64) -> Result<()> {
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
}

/// The next chunk of a lane goes on to another one, and to the chip.
fn pass(
    from: &mut Lane,
    on: Option<&mut Lane>,
    (queue, to, bytes): (&Queue, &Memory, u64),
) -> Result<()> {
    let arrived = from.take()?;
    let mut after = Vec::new();
    if let Some(on) = on {
        after.push(After::Transfer(on.forward(&arrived, bytes)));
    }
    let copied = queue.copy(to.address(), arrived.address(), bytes)?;
    after.push(After::Command(queue.clone(), copied));
    from.done(arrived, after);
    Ok(())
}
