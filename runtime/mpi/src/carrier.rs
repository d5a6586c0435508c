//! The thread that has MPI: it begins transfers once what they wait for is over, sees to it that they go on, and says how they ended.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vmlu::{Error, PinnedBuffer, Queue, Result, Status};

use crate::lane::TAG_BITS;
use crate::library::{Mpi, Request, Seen};
use crate::lock;

/// Between two looks at transfers: at first none, then this long. Ranks of several hosts may share a processor, so nobody spins for long.
pub(crate) const PAUSE: Duration = Duration::from_micros(50);
/// Between two times at which MPI is called if there is nothing to do: a rank that does not call it for seconds is taken for dead.
const IDLE: Duration = Duration::from_millis(50);
/// How long a rank that is told of a failure waits to be told whose it is.
const NEWS: Duration = Duration::from_secs(5);
/// How long a rank that knows of a failure stays to pass it on: one that leaves at once would be the next that is lost to the others.
const STAY: Duration = Duration::from_secs(2);
/// Looks without a pause.
pub(crate) const LOOKS: u32 = 50;

/// Why nothing goes on between hosts.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Broken {
    pub(crate) fn error(&self) -> Error {
        Error::new("collective between hosts", self.status, self.text.clone())
    }
}

type Outcome = std::result::Result<(), Broken>;

/// How a transfer went, once it is known.
#[derive(Clone, Default)]
pub(crate) struct Ticket(Arc<(Mutex<Option<Outcome>>, Condvar)>);

impl Ticket {
    fn settle(&self, outcome: Outcome) {
        let (slot, changed) = &*self.0;
        *slot.lock().unwrap_or_else(|e| e.into_inner()) = Some(outcome);
        changed.notify_all();
    }

    /// Whether it is known; then [`Ticket::wait`] does not wait.
    pub(crate) fn is_settled(&self) -> bool {
        self.outcome().is_some()
    }

    fn outcome(&self) -> Option<Outcome> {
        self.0 .0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Waits until the transfer has ended: it does, or is given up.
    pub(crate) fn wait(&self) -> Result<()> {
        let (slot, changed) = &*self.0;
        let mut slot = slot.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(outcome) = &*slot {
                return outcome.clone().map_err(|broken| broken.error());
            }
            slot = changed.wait(slot).unwrap_or_else(|e| e.into_inner());
        }
    }
}

/// What a transfer waits for.
#[derive(Clone)]
pub(crate) enum After {
    /// A command of a queue.
    Command(Queue, u64),
    /// Another transfer.
    Transfer(Ticket),
}

impl After {
    /// Whether it is over; the error if it failed.
    fn is_over(&self) -> std::result::Result<bool, Broken> {
        match self {
            Self::Command(queue, value) if queue.timeline() < *value => Ok(false),
            Self::Command(queue, value) => match queue.wait(*value) {
                Ok(()) => Ok(true),
                Err(error) => Err(Broken {
                    status: Status::Dependency,
                    text: error.to_string(),
                }),
            },
            Self::Transfer(ticket) => match ticket.outcome() {
                None => Ok(false),
                Some(outcome) => outcome.map(|()| true),
            },
        }
    }

    /// Waits until it is over.
    pub(crate) fn wait(&self) -> Result<()> {
        match self {
            Self::Command(queue, value) => queue.wait(*value),
            Self::Transfer(ticket) => ticket.wait(),
        }
    }
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    To(u32),
    From(u32),
}

/// A transfer of the first bytes of pinned memory.
pub(crate) struct Order {
    pub(crate) way: Way,
    pub(crate) tag: i32,
    pub(crate) memory: PinnedBuffer,
    pub(crate) bytes: usize,
    pub(crate) after: Vec<After>,
    pub(crate) ticket: Ticket,
    /// How long the peer may take.
    pub(crate) patience: Duration,
}

enum Message {
    Order(Order),
    Break(Broken, Sender<Broken>),
    End,
}

/// What ranks know of each other when MPI has started.
pub(crate) struct Started {
    pub(crate) rank: u32,
    pub(crate) size: u32,
    pub(crate) seen: Seen,
    /// The largest tag.
    pub(crate) tags: u32,
}

/// The other side of the thread.
pub(crate) struct Carrier {
    orders: Sender<Message>,
    thread: Option<std::thread::JoinHandle<()>>,
    broken: Arc<Mutex<Option<Broken>>>,
    /// The host of each rank.
    names: Vec<String>,
    /// Held while a cluster is split.
    pub(crate) splits: Mutex<()>,
    /// A number that no cluster of this process has.
    next: AtomicU32,
    /// Numbers that clusters may have.
    clusters: u32,
}

/// A rank, for people.
fn name(names: &[String], rank: u32) -> String {
    let host = names.get(rank as usize);
    format!("rank {rank} on {}", host.map_or("?", String::as_str))
}

impl Carrier {
    /// Starts MPI on a thread of its own.
    pub(crate) fn start() -> Result<(Self, Started)> {
        let failed = |text: String| Error::new("start MPI", Status::NotSupported, text);
        let (orders, incoming) = mpsc::channel();
        let (say, said) = mpsc::channel();
        let broken = Arc::new(Mutex::new(None));
        let shared = broken.clone();
        let run = move || {
            let started = Mpi::start().and_then(|mpi| {
                let seen = mpi.hosts()?;
                Ok((mpi, seen))
            });
            match started {
                Err(text) => drop(say.send(Err(text))),
                Ok((mpi, seen)) => {
                    let names = seen.names.clone();
                    let (rank, size) = (mpi.rank(), mpi.size());
                    let tags = mpi.tags();
                    let started = Started {
                        rank,
                        size,
                        seen,
                        tags,
                    };
                    if say.send(Ok(started)).is_ok() {
                        Work::new(mpi, names, shared).run(&incoming);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("mlu-mpi".into())
            .spawn(run)
            .map_err(|e| Error::system("start MPI", "no thread for it", e))?;
        let started = said
            .recv()
            .unwrap_or_else(|_| Err("its thread ended".to_owned()));
        let started = started.map_err(failed)?;
        let carrier = Self {
            orders,
            thread: Some(thread),
            broken,
            names: started.seen.names.clone(),
            splits: Mutex::new(()),
            next: AtomicU32::new(1),
            clusters: (started.tags >> TAG_BITS).max(1),
        };
        Ok((carrier, started))
    }

    /// Whom a transfer is with.
    pub(crate) fn name(&self, way: Way) -> String {
        let (Way::To(peer) | Way::From(peer)) = way;
        name(&self.names, peer)
    }

    /// A number for a cluster that this process has not used; the largest that the ranks propose is given to [`Carrier::number`].
    pub(crate) fn propose(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes a number for clusters; an error if there are too many.
    pub(crate) fn number(&self, number: u32) -> Result<u32> {
        if number >= self.clusters {
            let text = format!("this MPI has tags for {} clusters", self.clusters);
            return Err(Error::new("split a cluster", Status::NotSupported, text));
        }
        self.next.fetch_max(number + 1, Ordering::Relaxed);
        Ok(number)
    }

    /// Orders a transfer.
    pub(crate) fn order(&self, order: Order) {
        let ticket = order.ticket.clone();
        if self.orders.send(Message::Order(order)).is_err() {
            ticket.settle(Err(self.broken().unwrap_or(Broken {
                status: Status::Internal,
                text: "the thread of MPI has ended".to_owned(),
            })));
        }
    }

    /// Ends all transfers, here and at the other ranks; why, as far as MPI knows it.
    pub(crate) fn break_up(&self, broken: Broken) -> Broken {
        let (say, said) = mpsc::channel();
        let sent = self.orders.send(Message::Break(broken.clone(), say));
        let known = sent.ok().and_then(|()| said.recv().ok());
        known.unwrap_or(broken)
    }

    /// Why nothing goes on, if it does not.
    pub(crate) fn broken(&self) -> Option<Broken> {
        lock(&self.broken).clone()
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let _ = self.orders.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An order on its way.
struct Under {
    order: Order,
    request: Option<Request>,
    since: Instant,
}

/// How far an order has come.
enum Step {
    Waits,
    Begun,
    Ended,
}

/// What the thread has.
struct Work {
    mpi: Mpi,
    /// The host of each rank.
    names: Vec<String>,
    under: Vec<Under>,
    broken: Arc<Mutex<Option<Broken>>>,
    failed_at: Option<Instant>,
    /// Another rank has said why.
    told: bool,
}

impl Work {
    fn new(mpi: Mpi, names: Vec<String>, broken: Arc<Mutex<Option<Broken>>>) -> Self {
        Self {
            mpi,
            names,
            under: Vec::new(),
            broken,
            failed_at: None,
            told: false,
        }
    }

    fn run(mut self, orders: &Receiver<Message>) {
        let mut looks = 0;
        let mut ending = false;
        while !ending || !self.under.is_empty() {
            let message = if self.under.is_empty() {
                let waited = orders.recv_timeout(IDLE);
                if waited.is_err() {
                    self.mpi.progress();
                }
                waited.map_err(|error| error == RecvTimeoutError::Disconnected)
            } else if looks < LOOKS {
                let tried = orders.try_recv();
                tried.map_err(|error| error == TryRecvError::Disconnected)
            } else {
                let waited = orders.recv_timeout(PAUSE);
                waited.map_err(|error| error == RecvTimeoutError::Disconnected)
            };
            match message {
                Ok(Message::Order(order)) => self.take(order),
                Ok(Message::Break(broken, say)) => {
                    let known = self.broken_up(broken);
                    let _ = say.send(known);
                }
                Ok(Message::End) | Err(true) => ending = true,
                Err(false) => {}
            }
            match self.advance() {
                Ok(true) => looks = 0,
                Ok(false) => looks = looks.saturating_add(1),
                Err(broken) => drop(self.fail(broken)),
            }
        }
        // With ranks that have failed MPI does not end well: it is left to the process's end.
        let Some(since) = self.failed_at else {
            return self.mpi.finish();
        };
        while since.elapsed() < STAY {
            self.mpi.progress();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn take(&mut self, order: Order) {
        let broken = lock(&self.broken).clone();
        match broken {
            Some(broken) => order.ticket.settle(Err(broken)),
            None => self.under.push(Under {
                order,
                request: None,
                since: Instant::now(),
            }),
        }
    }

    /// Begins and tests transfers; whether something happened.
    fn advance(&mut self) -> std::result::Result<bool, Broken> {
        let mut under = std::mem::take(&mut self.under);
        let (mut moved, mut failed) = (false, None);
        under.retain_mut(|under| {
            let step = if failed.is_none() {
                self.step(under)
            } else {
                Ok(Step::Waits)
            };
            match step {
                Ok(Step::Waits) => {}
                Ok(Step::Begun) => moved = true,
                Ok(Step::Ended) => {
                    moved = true;
                    under.order.ticket.settle(Ok(()));
                    return false;
                }
                Err(broken) => failed = Some(broken),
            }
            true
        });
        self.under = under;
        failed.map_or(Ok(moved), Err)
    }

    fn step(&mut self, under: &mut Under) -> std::result::Result<Step, Broken> {
        let order = &under.order;
        let Some(request) = &mut under.request else {
            for after in &order.after {
                if !after.is_over()? {
                    return Ok(Step::Waits);
                }
            }
            let (memory, bytes) = (&order.memory, order.bytes);
            let begun = match order.way {
                Way::To(peer) => self.mpi.send(memory, bytes, peer, order.tag),
                Way::From(peer) => self.mpi.receive(memory, bytes, peer, order.tag),
            };
            under.request = Some(begun.map_err(|text| self.lost(order.way, &text))?);
            under.since = Instant::now();
            return Ok(Step::Begun);
        };
        match self.mpi.test(request) {
            Ok(true) => Ok(Step::Ended),
            Ok(false) if under.since.elapsed() > order.patience => {
                Err(self.late(order.way, order.patience))
            }
            Ok(false) => Ok(Step::Waits),
            Err(text) => Err(self.lost(order.way, &text)),
        }
    }

    fn name(&self, rank: u32) -> String {
        name(&self.names, rank)
    }

    fn late(&self, way: Way, patience: Duration) -> Broken {
        let text = match way {
            Way::To(peer) => format!("{} has taken nothing", self.name(peer)),
            Way::From(peer) => format!("{} has sent nothing", self.name(peer)),
        };
        Broken {
            status: Status::Timeout,
            text: format!("{text} for {patience:?}"),
        }
    }

    /// The ranks that MPI knows to have failed; none if it knows none.
    fn failed(&self) -> Option<String> {
        let names: Vec<String> = self
            .mpi
            .failed()
            .into_iter()
            .map(|r| self.name(r))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// What became of the ranks, when MPI reports an error.
    fn lost(&mut self, way: Way, text: &str) -> Broken {
        let (Way::To(peer) | Way::From(peer)) = way;
        let since = Instant::now();
        let mut failed = self.failed();
        let mut told = None;
        while failed.is_none() && told.is_none() && since.elapsed() < NEWS {
            std::thread::sleep(Duration::from_millis(1));
            self.mpi.progress();
            failed = self.failed();
            told = self.mpi.told();
        }
        self.told |= told.is_some();
        let text = match failed {
            Some(names) => format!("{names} is lost: {text}"),
            None if told.is_some() => told.unwrap_or_default(),
            None if text.contains("REVOKED") => {
                format!("another rank has lost one, or has aborted: {text}")
            }
            None => format!("no way to {}: {text}", self.name(peer)),
        };
        Broken {
            status: Status::Dependency,
            text,
        }
    }

    /// Something else than a transfer has failed: because a rank is lost, if one is.
    fn broken_up(&mut self, mut broken: Broken) -> Broken {
        if let Some(names) = self.failed() {
            broken.text = format!("{names} is lost: {}", broken.text);
        }
        self.fail(broken)
    }

    /// Nothing goes on, here and at the others; why, as it was known first.
    fn fail(&mut self, broken: Broken) -> Broken {
        let known = lock(&self.broken).get_or_insert(broken).clone();
        self.failed_at.get_or_insert_with(Instant::now);
        if !self.told {
            self.told = true;
            let from = self.name(self.mpi.rank());
            self.mpi.tell(&format!("{from} says: {}", known.text));
        }
        self.mpi.revoke();
        for under in self.under.drain(..) {
            under.order.ticket.settle(Err(known.clone()));
        }
        known
    }
}
