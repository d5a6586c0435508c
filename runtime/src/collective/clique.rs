//! Ranks of one process: they put their calls on a board, and whoever completes a collective submits it to all of their queues.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmlu_abi::packet::Wait;
use vmlu_abi::Status;

use super::call::{Call, Kind};
use super::id;
use super::member::{lock, submit, wait, Member};
use super::plan::{self, Plan, Topology};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::queue::Queue;

/// The board of a communicator whose ranks are all here.
pub(super) struct Clique {
    pub(super) topology: Topology,
    timeout: Duration,
    board: Mutex<Board>,
    changed: Condvar,
}

#[derive(Default)]
struct Board {
    /// Of each rank, the collectives that it has called and others have not.
    calls: Vec<VecDeque<Posted>>,
    /// Of each pair of ranks, from and to, what waits for the other side.
    sends: HashMap<(u32, u32), VecDeque<Posted>>,
    receives: HashMap<(u32, u32), VecDeque<Posted>>,
    /// Of each rank, how it wants to be split, until all have said so.
    splits: Vec<Option<Wish>>,
    /// What the split made of each rank, until it has taken it.
    parts: Vec<Option<Split>>,
    /// Why a rank takes no part any more.
    lost: Vec<Option<String>>,
    /// Why nothing goes on.
    broken: Option<(Status, String)>,
}

struct Posted {
    call: Call,
    member: Arc<Member>,
    queue: Queue,
    done: Ticket,
}

/// How a rank wants to be split: the part, and its place there.
type Wish = (Option<u32>, u32, Context);

/// A rank of a part; `None` if it is in no part.
pub(super) type Split = std::result::Result<Option<(Arc<Member>, Arc<Clique>)>, (Status, String)>;

type Outcome = std::result::Result<u64, (Status, String)>;

/// How a call went, once it is known.
pub(super) type Ticket = Arc<Mutex<Option<Outcome>>>;

impl Clique {
    pub(super) fn new(size: u32, topology: Topology, timeout: Duration) -> Self {
        let board = Board {
            calls: (0..size).map(|_| VecDeque::new()).collect(),
            splits: vec![None; size as usize],
            parts: (0..size).map(|_| None).collect(),
            lost: vec![None; size as usize],
            ..Board::default()
        };
        Self {
            topology,
            timeout,
            board: Mutex::new(board),
            changed: Condvar::new(),
        }
    }

    /// Why nothing goes on, if it does not.
    pub(super) fn broken(&self) -> Option<(Status, String)> {
        lock(&self.board).broken.clone()
    }

    /// Ends the communicator for all ranks.
    pub(super) fn fail(&self, status: Status, text: &str) {
        let mut board = lock(&self.board);
        board.broken.get_or_insert((status, text.to_owned()));
        self.changed.notify_all();
    }

    /// A rank takes no part any more.
    pub(super) fn lose(&self, rank: u32, text: &str) {
        let mut board = lock(&self.board);
        board.lost[rank as usize].get_or_insert(text.to_owned());
        self.changed.notify_all();
    }

    /// Puts a call on the board, and submits what it completes.
    pub(super) fn post(&self, member: &Arc<Member>, call: Call, queue: &Queue) -> Result<Ticket> {
        let mut board = lock(&self.board);
        if let Some((status, text)) = &board.broken {
            return Err(Error::new(call.kind.name(), *status, text.clone()));
        }
        let done = Ticket::default();
        let rank = member.rank;
        let (kind, peer) = (call.kind, call.root);
        let posted = Posted {
            call,
            member: member.clone(),
            queue: queue.clone(),
            done: done.clone(),
        };
        match kind {
            Kind::Send | Kind::Receive => {
                let (mine, theirs, key) = if kind == Kind::Send {
                    let Board {
                        sends, receives, ..
                    } = &mut *board;
                    (sends, receives, (rank, peer))
                } else {
                    let Board {
                        sends, receives, ..
                    } = &mut *board;
                    (receives, sends, (peer, rank))
                };
                let Some(other) = theirs.get_mut(&key).and_then(VecDeque::pop_front) else {
                    mine.entry(key).or_default().push_back(posted);
                    return Ok(done);
                };
                let both = if kind == Kind::Send {
                    [posted, other]
                } else {
                    [other, posted]
                };
                let plan = plan::pair(&both[0].call, &both[1].call);
                run(&both, plan);
            }
            _ => {
                board.calls[rank as usize].push_back(posted);
                if board.calls.iter().any(VecDeque::is_empty) {
                    return Ok(done);
                }
                let all: Vec<Posted> = board
                    .calls
                    .iter_mut()
                    .filter_map(VecDeque::pop_front)
                    .collect();
                let calls: Vec<&Call> = all.iter().map(|p| &p.call).collect();
                let plan = plan::plan(&calls, &self.topology);
                run(&all, plan);
            }
        }
        self.changed.notify_all();
        Ok(done)
    }

    /// Splits the clique; returns when all ranks have said how.
    pub(super) fn split(&self, member: &Member, color: Option<u32>, key: u32) -> Result<Split> {
        const CALL: &str = "split a communicator";
        let deadline = Instant::now() + self.timeout;
        let place = member.rank as usize;
        let mut board = lock(&self.board);
        board.splits[place] = Some((color, key, member.context.clone()));
        if board.splits.iter().all(Option::is_some) {
            let wishes = board.splits.iter_mut().filter_map(Option::take).collect();
            board.parts = parts(wishes, self.timeout).into_iter().map(Some).collect();
            self.changed.notify_all();
        }
        loop {
            if let Some(part) = board.parts[place].take() {
                self.changed.notify_all();
                return Ok(part);
            }
            let missing: Vec<usize> = (0..board.splits.len())
                .filter(|r| board.splits[*r].is_none())
                .collect();
            let lost = missing
                .iter()
                .find_map(|r| Some((*r, board.lost[*r].as_ref()?)));
            let refused = match (&board.broken, lost) {
                (Some(broken), _) => Some(broken.clone()),
                (_, Some((rank, why))) => Some((Status::Dependency, format!("rank {rank} {why}"))),
                _ => (Instant::now() >= deadline).then(|| {
                    let text = format!("ranks {missing:?} have not come");
                    (Status::Timeout, text)
                }),
            };
            if let Some((status, text)) = refused {
                board.broken.get_or_insert((status, text.clone()));
                self.changed.notify_all();
                return Err(Error::new(CALL, status, text));
            }
            board = self.pause(board, deadline);
        }
    }

    fn pause<'a>(&self, board: MutexGuard<'a, Board>, deadline: Instant) -> MutexGuard<'a, Board> {
        let left = deadline.saturating_duration_since(Instant::now());
        let paused = self.changed.wait_timeout(board, left);
        paused.unwrap_or_else(|e| e.into_inner()).0
    }

    /// Waits until a call was submitted everywhere; its value on the rank's queue.
    pub(super) fn finish(&self, member: &Member, call: &Waiting, ticket: &Ticket) -> Result<u64> {
        let name = call.kind.name();
        if let Some(outcome) = lock(ticket).take() {
            return outcome.map_err(|(status, text)| Error::new(name, status, text));
        }
        let deadline = Instant::now() + self.timeout;
        let mut board = lock(&self.board);
        loop {
            if let Some(outcome) = lock(ticket).take() {
                return outcome.map_err(|(status, text)| Error::new(name, status, text));
            }
            let refused = board.broken.clone().or_else(|| {
                let missing = board.missing(member.rank, call, ticket);
                let lost = missing
                    .iter()
                    .find_map(|r| Some((*r, board.lost[*r as usize].as_ref()?)));
                if let Some((rank, why)) = lost {
                    return Some((Status::Dependency, format!("rank {rank} {why}")));
                }
                (Instant::now() >= deadline).then(|| {
                    let text = format!(
                        "ranks {missing:?} of {} have not called it within {:?}",
                        member.size, self.timeout
                    );
                    (Status::Timeout, text)
                })
            });
            if let Some((status, text)) = refused {
                // The others' calls would not match any more.
                board.broken.get_or_insert((status, text.clone()));
                board.withdraw(ticket);
                self.changed.notify_all();
                return Err(Error::new(name, status, text));
            }
            board = self.pause(board, deadline);
        }
    }
}

/// The cliques that wishes make: of those with one part, by key, then rank.
fn parts(wishes: Vec<Wish>, timeout: Duration) -> Vec<Split> {
    let mut parts: Vec<Split> = wishes.iter().map(|_| Ok(None)).collect();
    let mut colors: Vec<u32> = wishes.iter().filter_map(|w| w.0).collect();
    colors.sort_unstable();
    colors.dedup();
    for color in colors {
        let mut ranks: Vec<usize> = (0..wishes.len())
            .filter(|r| wishes[*r].0 == Some(color))
            .collect();
        ranks.sort_by_key(|r| (wishes[*r].1, *r));
        let size = ranks.len() as u32;
        let members: Vec<Arc<Member>> = (0..size)
            .zip(&ranks)
            .map(|(rank, old)| Arc::new(Member::new(&wishes[*old].2, rank, size)))
            .collect();
        let made = id::topology(&members)
            .map(|topology| Arc::new(Clique::new(size, topology, timeout)))
            .map_err(|e| (e.status(), e.to_string()));
        for (old, member) in ranks.iter().zip(&members) {
            parts[*old] = made.clone().map(|clique| Some((member.clone(), clique)));
        }
    }
    parts
}

/// What is waited for.
pub(super) struct Waiting {
    pub(super) kind: Kind,
    pub(super) peer: u32,
}

impl Board {
    /// The ranks that a call waits for.
    fn missing(&self, rank: u32, call: &Waiting, ticket: &Ticket) -> Vec<u32> {
        if call.kind.is_pair() {
            return vec![call.peer];
        }
        let mine = &self.calls[rank as usize];
        let place = mine.iter().position(|p| Arc::ptr_eq(&p.done, ticket));
        let place = place.unwrap_or(0);
        let all = self.calls.iter().enumerate();
        all.filter(|(_, calls)| calls.len() <= place)
            .map(|(r, _)| r as u32)
            .collect()
    }

    fn withdraw(&mut self, ticket: &Ticket) {
        let pairs = self.sends.values_mut().chain(self.receives.values_mut());
        for calls in self.calls.iter_mut().chain(pairs) {
            calls.retain(|p| !Arc::ptr_eq(&p.done, ticket));
        }
    }
}

/// Submits a plan to the queues of all, and tells all how it went.
fn run(all: &[Posted], plan: std::result::Result<Plan, String>) {
    let ran = match plan {
        Ok(plan) => submit_all(all, &plan).map_err(|e| (e.status(), e.to_string())),
        Err(text) => Err((Status::InvalidArgument, text)),
    };
    for (i, posted) in all.iter().enumerate() {
        let outcome = match &ran {
            Ok(values) => Ok(values[i]),
            Err(error) => Err(error.clone()),
        };
        *lock(&posted.done) = Some(outcome);
    }
}

fn submit_all(all: &[Posted], plan: &Plan) -> Result<Vec<u64>> {
    let calls: Vec<&Call> = all.iter().map(|p| &p.call).collect();
    all.iter().for_each(|posted| posted.member.trim());
    // Everything that can be refused is, before anything is submitted.
    let mut ready = Vec::with_capacity(plan.len());
    for phase in plan {
        let turns = phase.iter().zip(all).map(|(turn, posted)| {
            let steps = turn.steps.iter();
            steps
                .map(|step| posted.member.ready(step, &calls))
                .collect::<Result<Vec<_>>>()
        });
        ready.push(turns.collect::<Result<Vec<_>>>()?);
    }
    for posted in all {
        posted.member.follow(&posted.queue)?;
    }
    let begins = all.iter().map(|posted| {
        let value = posted.queue.submitted();
        // What a cleared error took stays failed for those that wait for it.
        match posted.queue.inner.is_cleared(value) {
            true => posted.queue.nop(),
            false => Ok(value),
        }
    });
    let mut ends = begins.collect::<Result<Vec<u64>>>()?;
    let mut waits = Vec::new();
    for (index, (phase, ready)) in plan.iter().zip(&ready).enumerate() {
        let before = ends.clone();
        for (rank, (turn, steps)) in phase.iter().zip(ready).enumerate() {
            let posted = &all[rank];
            waits.clear();
            for (other, peer) in all.iter().enumerate() {
                if turn.waits >> other & 1 == 0 {
                    continue;
                }
                let value = before[other];
                // Often nothing of the phase before is left.
                if value == 0 || (index == 0 && peer.queue.inner.is_over(value)) {
                    continue;
                }
                let token = peer.queue.token()?;
                let queue = posted.member.timeline(&token)?;
                waits.push(Wait { queue, value });
            }
            if !waits.is_empty() {
                ends[rank] = wait(&posted.queue, &waits)?;
            }
            for step in steps {
                ends[rank] = submit(&posted.queue, step)?;
            }
        }
    }
    for (posted, end) in all.iter().zip(&ends) {
        posted.member.submitted(&posted.queue, *end);
    }
    Ok(ends)
}
