//! What a rank's thread does for the collectives of its host's queue, one after another.
//!
//! The first rank of each host has to do with MPI. Chunks go up the hosts, from the first to the last, and come back: host `h` takes what the
//! hosts before it have reduced to, reduces it further with its own ranks, over the fabric, and hands it on. So while a chunk is between hosts
//! others are inside them, and each element is reduced in the order of ranks.

mod fold;
mod moves;
mod split;

use std::sync::mpsc::{Receiver, Sender};
use std::sync::Arc;

use vmlu::collective::{Communicator, Function, Memory};
use vmlu::{Buffer, DataType, HostTimeline, Queue, Result};

use crate::carrier::{After, Broken, Carrier};
use crate::exchange::{Exchange, Stream};
use crate::lane::{Lane, CHUNK};
use crate::layout::Layout;

pub(crate) use split::{Part, BYTES as WISH};

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
    /// `receive` at the root = all `send` of `bytes`, in the order of ranks.
    Gather {
        send: Memory,
        receive: Option<Memory>,
        bytes: u64,
        root: u32,
    },
    /// `receive` of `bytes` = the rank's part of the root's `send`.
    Scatter {
        send: Option<Memory>,
        receive: Memory,
        bytes: u64,
        root: u32,
    },
    /// One for each rank, and one from each; room for what is sent, if something is received over it.
    AllToAll {
        sends: Vec<Stream>,
        receives: Vec<Stream>,
        aside: Option<Buffer>,
    },
    /// Between pairs of ranks, all at the same time.
    Exchange {
        sends: Vec<Stream>,
        receives: Vec<Stream>,
    },
    /// Parts of the ranks become clusters.
    Split {
        color: Option<u32>,
        key: u32,
        /// Room for what ranks tell each other.
        room: Buffer,
        reply: Sender<Result<Option<Part>>>,
    },
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

/// A collective.
pub(crate) struct Job {
    pub(crate) work: Work,
    /// The command of a queue that it comes after, if there is one.
    pub(crate) after: Option<(Queue, u64)>,
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
    /// What pairs of ranks of the host do beside those of several hosts.
    pub(crate) side: Queue,
    pub(crate) timeline: HostTimeline,
    pub(crate) previous: Option<Neighbour>,
    pub(crate) next: Option<Neighbour>,
    pub(crate) exchange: Exchange,
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
        if let Some((queue, value)) = &job.after {
            self.queue.wait_for(queue, *value)?;
            self.side.wait_for(queue, *value)?;
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
            Work::Gather {
                send,
                receive,
                bytes,
                root,
            } => self.gather(send, receive.as_ref(), *bytes, *root)?,
            Work::Scatter {
                send,
                receive,
                bytes,
                root,
            } => self.scatter(send.as_ref(), receive, *bytes, *root)?,
            Work::AllToAll {
                sends,
                receives,
                aside,
            } => self.all_to_all(sends, receives, aside.as_ref())?,
            Work::Exchange { sends, receives } => self.pairs(sends, receives)?,
            Work::Split {
                color,
                key,
                room,
                reply,
            } => {
                let part = self.split(*color, *key, room)?;
                let _ = reply.send(part);
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
