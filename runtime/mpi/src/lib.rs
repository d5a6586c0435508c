//! Collectives between hosts: MPI carries what goes from host to host, the fabric of each host what goes from chip to chip.
//!
//! `mpirun` starts the ranks, a process each. [`World::start`] starts MPI in each, and finds out who shares a host; [`Cluster::new`] makes the
//! ranks' contexts one communicator. A host's chips are of one device server or machine, whose ranks use the fabric among themselves
//! ([`vmlu::collective::Communicator`]); its first rank exchanges chunks with the hosts before and behind it, through pinned memory.
//!
//! - A collective stands in its queue as a wait for a timeline, which a thread of the rank advances when the result is there. So a call returns
//!   at once, and what follows on the queue waits on the card. Between hosts the host takes part: such a collective cannot be captured.
//! - Reductions are in the order of ranks, `f(… f(f(rank 0, rank 1), rank 2) …)`, F16 and BF16 in f32 and rounded once: the bits are the same
//!   however the ranks are spread over hosts, and the same as [`vmlu::collective::Communicator`]'s on one host whose chips are one group.
//! - A rank that fails, or a host that is lost, is an error of the other ranks: their queues fail with `Status::Dependency`, and
//!   [`Cluster::async_error`] says who is lost, as far as the rank was told. That needs an MPI that reports failures instead of ending the job: OpenMPI 5 with
//!   `mpirun --with-ft ulfm`, and `--mca mpi_ft_detector true` for hosts that vanish from the network. Without it `mpirun` ends all ranks, or
//!   they give up after the timeout.
//!
//! MPI is loaded when [`World::start`] is called (`libmpi.so.40`, or what `MLU_MPI_LIBRARY` names); it must be OpenMPI.

mod carrier;
mod engine;
mod lane;
mod library;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vmlu::collective::{CliqueId, Communicator, Function, Memory};
use vmlu::{Context, DataType, Error, HostTimeline, Queue, Result, Status};

use carrier::{Broken, Carrier, Order, Started, Ticket, Way};
use engine::{Engine, Fold, Job, Neighbour, Room, Work};
use lane::{Lane, CHUNK};

const START: &str = "start MPI";
const JOIN: &str = "make a cluster";
/// Of the message with the identity by which ranks of a host meet; lanes have smaller ones.
const MEET: i32 = (1 << 15) - 1;

/// A host, and its ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As it calls itself.
    pub name: String,
    /// Its first rank.
    pub first: u32,
    /// Number of its ranks, which follow each other.
    pub ranks: u32,
}

/// Where the ranks are.
#[derive(Clone, Debug)]
struct Layout {
    rank: u32,
    size: u32,
    hosts: Vec<Host>,
}

impl Layout {
    fn new(started: Started) -> Result<Self> {
        let Started { rank, size, seen } = started;
        let mut hosts: Vec<Host> = Vec::new();
        for (rank, (first, name)) in (0..).zip(seen.first.into_iter().zip(seen.names)) {
            match hosts.last_mut() {
                Some(host) if host.first == first => host.ranks += 1,
                _ if first == rank => hosts.push(Host {
                    name,
                    first,
                    ranks: 1,
                }),
                _ => {
                    let text = format!(
                        "rank {rank} is on the host of rank {first}, and others are between them: start with `mpirun --map-by slot`"
                    );
                    return Err(Error::new(START, Status::InvalidArgument, text));
                }
            }
        }
        Ok(Self { rank, size, hosts })
    }

    fn host_of(&self, rank: u32) -> usize {
        let behind = self.hosts.iter().position(|host| host.first > rank);
        behind.unwrap_or(self.hosts.len()) - 1
    }

    fn host(&self) -> usize {
        self.host_of(self.rank)
    }

    fn is_last_host(&self) -> bool {
        self.host() + 1 == self.hosts.len()
    }

    /// Number of the rank among those of its host.
    fn local(&self) -> u32 {
        self.rank - self.hosts[self.host()].first
    }
}

/// MPI, as a process has it.
pub struct World {
    layout: Layout,
    carrier: Arc<Carrier>,
}

impl World {
    /// Starts MPI; all ranks that `mpirun` has started do, once.
    ///
    /// # Errors
    ///
    /// `Status::NotSupported` if there is no OpenMPI, or it does not start; `Status::InvalidArgument` if the ranks of a host do not follow each
    /// other.
    pub fn start() -> Result<Self> {
        let (carrier, started) = Carrier::start()?;
        Ok(Self {
            layout: Layout::new(started)?,
            carrier: Arc::new(carrier),
        })
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

    /// Number of this rank among those of its host: by default, its chip.
    pub fn local_rank(&self) -> u32 {
        self.layout.local()
    }

    /// Has a rank of this host send 128 bytes to the others of it.
    fn share(&self, context: &Context, bytes: &mut [u8; 128], patience: Duration) -> Result<()> {
        let host = &self.layout.hosts[self.layout.host()];
        let memory = context.alloc_pinned(128)?;
        memory.write(0, bytes);
        let ways: Vec<Way> = match self.local_rank() {
            0 => (1..host.ranks).map(|i| Way::To(host.first + i)).collect(),
            _ => vec![Way::From(host.first)],
        };
        let order = |way: Way| {
            let ticket = Ticket::default();
            self.carrier.order(Order {
                way,
                tag: MEET,
                memory: memory.clone(),
                bytes: bytes.len(),
                after: Vec::new(),
                ticket: ticket.clone(),
                patience,
            });
            ticket
        };
        let tickets: Vec<Ticket> = ways.into_iter().map(order).collect();
        tickets.iter().try_for_each(Ticket::wait)?;
        memory.read(0, bytes);
        Ok(())
    }
}

/// Ranks of several hosts. Calls are made in the same order at all ranks.
pub struct Cluster {
    layout: Layout,
    context: Context,
    carrier: Arc<Carrier>,
    timeline: HostTimeline,
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Cluster {
    /// Makes the ranks' contexts, each on its chip, one communicator; returns when those of the host are there. One cluster at a time.
    ///
    /// # Errors
    ///
    /// As [`Communicator::new`] for the ranks of a host; an error of MPI.
    pub fn new(world: &World, context: &Context, timeout: Duration) -> Result<Self> {
        let layout = world.layout.clone();
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
        let neighbour = |host: Option<&Host>| {
            let Some(peer) = host.filter(|_| layout.local() == 0) else {
                return Ok(None);
            };
            let lane = |way| Lane::new(&world.carrier, context, way, timeout);
            Ok::<_, Error>(Some(Neighbour {
                to: lane(Way::To(peer.first))?,
                from: lane(Way::From(peer.first))?,
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
            carrier: world.carrier.clone(),
            comm,
            queue: context.queue()?,
            timeline: timeline.clone(),
            previous: neighbour(before.map(|i| &layout.hosts[i]))?,
            next: neighbour(layout.hosts.get(layout.host() + 1))?,
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
            carrier: world.carrier.clone(),
            timeline,
            jobs: Mutex::new(Jobs {
                sender: Some(sender),
                number: 0,
                done,
            }),
            failed,
            thread: Some(thread),
        })
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

    /// Ends the cluster, for all ranks: what they have called and what they call fails. A rank that cannot go on does this, or the others wait for
    /// it until their timeout.
    pub fn abort(&self) {
        let status = Status::Cancelled;
        let text = format!("rank {} aborted the cluster", self.rank());
        let known = self.carrier.break_up(Broken { status, text });
        lock(&self.failed).get_or_insert(known);
        self.timeline.end();
    }

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

    fn submit(&self, work: Work, queue: &Queue) -> Result<u64> {
        if !queue.context().is_same(&self.context) {
            return refuse("the queue is of another context than the rank");
        }
        let mut jobs = lock(&self.jobs);
        // Here memory may be freed whose last owner was a collective.
        while jobs.done.try_recv().is_ok() {}
        if let Some(error) = self.async_error() {
            return Err(error);
        }
        let begin = queue.submitted();
        let number = jobs.number + 1;
        let value = queue.wait_for_timeline(&self.timeline, number)?;
        jobs.number = number;
        if let Some(sender) = &jobs.sender {
            // If its thread has ended, the timeline has too.
            let _ = sender.send(Job {
                work,
                queue: queue.clone(),
                begin,
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

fn refuse<T>(text: impl Into<String>) -> Result<T> {
    let call = "collective between hosts";
    Err(Error::new(call, Status::InvalidArgument, text))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::Seen;

    fn layout(rank: u32, first: &[u32]) -> Result<Layout> {
        Layout::new(Started {
            rank,
            size: first.len() as u32,
            seen: Seen {
                first: first.to_vec(),
                names: first.iter().map(|f| format!("host{f}")).collect(),
            },
        })
    }

    #[test]
    fn ranks_know_their_hosts() {
        let layout = layout(3, &[0, 0, 2, 2, 2, 5]).unwrap();
        let hosts: Vec<(u32, u32)> = layout.hosts.iter().map(|h| (h.first, h.ranks)).collect();
        assert_eq!(hosts, [(0, 2), (2, 3), (5, 1)]);
        assert_eq!((layout.host(), layout.local()), (1, 1));
        assert!(!layout.is_last_host());
        let of: Vec<usize> = (0..6).map(|rank| layout.host_of(rank)).collect();
        assert_eq!(of, [0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn ranks_of_a_host_follow_each_other() {
        let error = layout(0, &[0, 1, 0, 1]).unwrap_err();
        assert_eq!(error.status(), Status::InvalidArgument);
        assert!(error.to_string().contains("--map-by slot"), "{error}");
    }
}
