//! The ranks of several hosts as one communicator, and parts of it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vmlu::collective::{CliqueId, Communicator};
use vmlu::{Context, Error, HostTimeline, Queue, Result, Status};

use crate::carrier::{Broken, Carrier, Way};
use crate::engine::{Engine, Job, Neighbour, Part, Room, Work, WISH};
use crate::exchange::Exchange;
use crate::lane::{Lane, CHUNK};
use crate::layout::{Host, Layout};
use crate::world::World;
use crate::{lock, refuse};

const JOIN: &str = "make a cluster";
const SPLIT: &str = "split a cluster";

/// Ranks of several hosts. Calls are made in the same order at all ranks that they concern.
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) context: Context,
    carrier: Arc<Carrier>,
    timeline: HostTimeline,
    timeout: Duration,
    jobs: Mutex<Jobs>,
    failed: Arc<Mutex<Option<Broken>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Jobs {
    /// None when nothing comes any more.
    sender: Option<Sender<Job>>,
    number: u64,
    /// What is done, with its memory.
    done: Receiver<Work>,
}

impl Cluster {
    /// Makes the ranks' contexts, each on its chip, one communicator; returns when those of the host are there. Once: others are parts of it
    /// ([`Cluster::split`]).
    ///
    /// # Errors
    ///
    /// As [`Communicator::new`] for the ranks of a host; an error of MPI.
    pub fn new(world: &World, context: &Context, timeout: Duration) -> Result<Self> {
        let layout = &world.layout;
        let host = &layout.hosts[layout.host()];
        let comm = if host.ranks > 1 {
            let made = (layout.local() == 0).then(CliqueId::new).transpose()?;
            let mut bytes = made.map_or([0; 128], |id| id.to_bytes());
            world.share(context, &mut bytes, timeout)?;
            let id = CliqueId::from_bytes(&bytes)?;
            let joined = Communicator::new(context, &id, layout.local(), host.ranks, timeout)?;
            Some(joined)
        } else {
            None
        };
        let part = Part {
            layout: layout.clone(),
            comm,
            id: 0,
        };
        Self::of(&world.carrier, context, part, timeout)
    }

    fn of(
        carrier: &Arc<Carrier>,
        context: &Context,
        part: Part,
        timeout: Duration,
    ) -> Result<Self> {
        let Part { layout, comm, id } = part;
        let neighbour = |host: Option<&Host>| {
            let Some(peer) = host.filter(|_| layout.local() == 0) else {
                return Ok(None);
            };
            let peer = layout.world[peer.first as usize];
            let lane = |way| Lane::new(carrier, context, way, id, timeout);
            Ok::<_, Error>(Some(Neighbour {
                to: lane(Way::To(peer))?,
                from: lane(Way::From(peer))?,
            }))
        };
        let before = layout.host().checked_sub(1);
        let room = || context.alloc(CHUNK);
        let timeline = context.host_timeline()?;
        let failed = Arc::new(Mutex::new(None));
        let (sender, jobs) = mpsc::channel();
        let (say_done, done) = mpsc::channel();
        let engine = Engine {
            done: say_done,
            carrier: carrier.clone(),
            comm,
            queue: context.queue()?,
            side: context.queue()?,
            timeline: timeline.clone(),
            previous: neighbour(before.map(|i| &layout.hosts[i]))?,
            next: neighbour(layout.hosts.get(layout.host() + 1))?,
            exchange: Exchange::new(carrier, context, id, timeout),
            room: Room {
                before: room()?,
                with: room()?,
                own: room()?,
                result: room()?,
                divisor: context.alloc(64)?,
            },
            failed: failed.clone(),
            layout: layout.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("mlu-cluster".into())
            .spawn(move || engine.run(&jobs))
            .map_err(|e| Error::system(JOIN, "no thread for it", e))?;
        Ok(Self {
            layout,
            context: context.clone(),
            carrier: carrier.clone(),
            timeline,
            timeout,
            jobs: Mutex::new(Jobs {
                sender: Some(sender),
                number: 0,
                done,
            }),
            failed,
            thread: Some(thread),
        })
    }

    /// Makes clusters of the ranks with the same color, in the order of `key`, then of rank; none for ranks without a color. All ranks call it,
    /// after what they have called before; it returns when they have. Ranks that split several clusters do so in the same order.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument`, at all ranks, if the ranks of a host would not follow each other in a part; [`Cluster::async_error`] if the
    /// cluster is of no use any more.
    pub fn split(&self, color: Option<u32>, key: u32) -> Result<Option<Self>> {
        // So that the number that this process proposes for the parts is of one split.
        let _one = lock(&self.carrier.splits);
        let (reply, part) = mpsc::channel();
        let work = Work::Split {
            color,
            key,
            room: self.context.alloc(WISH * u64::from(self.size()))?,
            reply,
        };
        self.order(work, None)?;
        let part = part.recv().unwrap_or_else(|_| {
            let ended = Error::new(SPLIT, Status::Cancelled, "the cluster has ended");
            Err(self.async_error().unwrap_or(ended))
        })?;
        let of = |part| Self::of(&self.carrier, &self.context, part, self.timeout);
        part.map(of).transpose()
    }

    /// This rank.
    pub fn rank(&self) -> u32 {
        self.layout.rank
    }

    /// Ranks.
    pub fn size(&self) -> u32 {
        self.layout.size
    }

    /// The hosts, in the order of their ranks.
    pub fn hosts(&self) -> &[Host] {
        &self.layout.hosts
    }

    /// This rank's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Why the cluster is of no use any more: who is lost, or what failed.
    pub fn async_error(&self) -> Option<Error> {
        lock(&self.failed).as_ref().map(Broken::error)
    }

    /// Ends the cluster, and all others of these processes, for all ranks: what they have called and what they call fails. A rank that cannot go on does this, or the others wait for
    /// it until their timeout.
    pub fn abort(&self) {
        let status = Status::Cancelled;
        let text = format!("rank {} aborted the cluster", self.rank());
        let known = self.carrier.break_up(Broken { status, text });
        lock(&self.failed).get_or_insert(known);
        self.timeline.end();
    }
}

impl Cluster {
    /// Has the engine do something in the order of a queue; the value on it.
    pub(crate) fn submit(&self, work: Work, queue: &Queue) -> Result<u64> {
        if !queue.context().is_same(&self.context) {
            return refuse("the queue is of another context than the rank");
        }
        if queue.capture_id().is_some() {
            let text = "a collective between hosts is not captured, since the host takes part in it: capture what stands before and behind it";
            let call = "collective between hosts";
            return Err(Error::new(call, Status::CaptureUnsupported, text));
        }
        self.order(work, Some(queue))
    }

    fn order(&self, work: Work, queue: Option<&Queue>) -> Result<u64> {
        let mut jobs = lock(&self.jobs);
        // Here memory may be freed whose last owner was a collective.
        while jobs.done.try_recv().is_ok() {}
        if let Some(error) = self.async_error() {
            return Err(error);
        }
        let number = jobs.number + 1;
        let (mut value, mut after) = (0, None);
        if let Some(queue) = queue {
            let begin = queue.submitted();
            after = (begin > 0).then(|| (queue.clone(), begin));
            value = queue.wait_for_timeline(&self.timeline, number)?;
        }
        jobs.number = number;
        if let Some(sender) = &jobs.sender {
            // If its thread has ended, the timeline has too.
            let _ = sender.send(Job {
                work,
                after,
                number,
            });
        }
        Ok(value)
    }
}

impl Drop for Cluster {
    /// Returns when what was called has ended.
    fn drop(&mut self) {
        lock(&self.jobs).sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
