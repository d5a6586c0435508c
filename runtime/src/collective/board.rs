//! What a process knows of a clique's calls, its own and those of other processes, and of how far their plans are.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmlu_abi::packet::Wait;
use vmlu_abi::Status;

use super::call::{Call, Kind};
use super::member::{lock, submit, wait, Member, Ready};
use super::plan::{self, Plan};
use super::topology::Topology;
use super::wire::Refusal;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::timeline::TimelineToken;

/// More phases than any plan has.
const MAX_PHASES: usize = 64;

/// Names an operation, the same at all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Key {
    /// The collectives of a communicator are counted.
    All(u64),
    /// So are what a rank sends to another, and what that receives.
    Pair { from: u32, to: u32, turn: u64 },
}

/// One rank's call.
pub(super) struct Post {
    pub(super) call: Call,
    /// The timeline of its queue; not asked for where only this process needs it.
    pub(super) timeline: Option<TimelineToken>,
    /// What the timeline is to have reached before the rank's memory is used.
    pub(super) begin: u64,
    /// Of a rank of this process.
    pub(super) here: Option<Here>,
}

/// What a rank of this process calls with.
pub(super) struct Here {
    pub(super) member: Arc<Member>,
    pub(super) queue: Queue,
    pub(super) done: Ticket,
}

pub(super) type Outcome = std::result::Result<u64, Refusal>;

/// How a call went, once it is known.
pub(super) type Ticket = Arc<Mutex<Option<Outcome>>>;

/// An operation for which calls are made.
#[derive(Default)]
pub(super) struct Operation {
    /// Who takes part, in the order of the plan.
    ranks: Vec<u32>,
    posts: Vec<Option<Post>>,
    /// What each has reached before phase 0, 1 and so on; of other processes, as they have told it.
    ends: Vec<Vec<Option<u64>>>,
    run: Option<Run>,
}

/// A plan that is being submitted.
struct Run {
    plan: Plan,
    /// Of each phase and rank the commands, for ranks of this process.
    ready: Vec<Vec<Vec<Ready>>>,
    phase: usize,
}

/// How far an operation was brought.
pub(super) enum Progress {
    /// It waits for others.
    Waits,
    /// Everything was submitted.
    Done,
    /// The calls do not fit together: all processes see that.
    Unfit(Refusal),
    /// It cannot go on here, and others do not know.
    Failed(Refusal),
}

/// What ranks have reached before a phase, for other processes.
pub(super) type Reached = (u32, Vec<(u32, u64)>);

impl Operation {
    fn new(key: Key, size: u32) -> Self {
        let ranks = match key {
            Key::All(_) => (0..size).collect(),
            Key::Pair { from, to, .. } => vec![from, to],
        };
        Self {
            posts: ranks.iter().map(|_| None).collect(),
            ranks,
            ..Self::default()
        }
    }

    fn place(&self, rank: u32) -> Option<usize> {
        self.ranks.iter().position(|r| *r == rank)
    }

    fn end(&mut self, phase: usize, place: usize) -> Option<&mut Option<u64>> {
        if phase >= MAX_PHASES {
            return None;
        }
        while self.ends.len() <= phase {
            self.ends.push(vec![None; self.ranks.len()]);
        }
        self.ends[phase].get_mut(place)
    }

    /// The ranks that it waits for.
    fn missing(&self) -> Vec<u32> {
        let phase = self.run.as_ref().map(|run| run.phase);
        let all = self.ranks.iter().enumerate();
        all.filter(|(place, _)| match phase {
            None => self.posts[*place].is_none(),
            Some(phase) => self.ends.get(phase).is_none_or(|e| e[*place].is_none()),
        })
        .map(|(_, rank)| *rank)
        .collect()
    }

    /// The tickets of this process's ranks.
    fn tickets(&self) -> impl Iterator<Item = &Ticket> {
        let posts = self.posts.iter().flatten();
        posts.filter_map(|p| p.here.as_ref()).map(|h| &h.done)
    }

    fn settle(&self, refusal: &Refusal) {
        for ticket in self.tickets() {
            *lock(ticket) = Some(Err(refusal.clone()));
        }
    }

    /// Goes as far as it can; `tell` is what other processes are to know.
    fn advance(&mut self, topology: &Topology, tell: &mut Vec<Reached>) -> Progress {
        if self.run.is_none() {
            if self.posts.iter().any(Option::is_none) {
                return Progress::Waits;
            }
            match self.prepare(topology) {
                Ok(run) => self.run = Some(run),
                Err(stopped) => return stopped,
            }
        }
        match self.submit(tell) {
            Ok(true) => Progress::Done,
            Ok(false) => Progress::Waits,
            Err(error) => Progress::Failed(Refusal::new(error.status(), error.to_string())),
        }
    }

    /// Makes the plan, and everything that can be refused, before anything is submitted.
    fn prepare(&mut self, topology: &Topology) -> std::result::Result<Run, Progress> {
        let posts: Vec<&Post> = self.posts.iter().flatten().collect();
        let calls: Vec<&Call> = posts.iter().map(|p| &p.call).collect();
        let plan = match calls[0].kind {
            Kind::Send | Kind::Receive => plan::pair(calls[0], calls[1]),
            _ => plan::plan(&calls, topology),
        };
        let plan =
            plan.map_err(|text| Progress::Unfit(Refusal::new(Status::InvalidArgument, text)))?;
        let here = || posts.iter().map(|p| p.here.as_ref());
        here().flatten().for_each(|here| here.member.trim());
        let phase = |phase: &Vec<plan::Turn>| {
            let turns = phase.iter().zip(here()).map(|(turn, here)| {
                let Some(here) = here else {
                    return Ok(Vec::new());
                };
                let steps = turn.steps.iter();
                steps.map(|step| here.member.ready(step, &calls)).collect()
            });
            turns.collect::<Result<Vec<Vec<Ready>>>>()
        };
        let ready = plan.iter().map(phase).collect::<Result<Vec<_>>>();
        let ready = ready.map_err(|e| Progress::Failed(Refusal::new(e.status(), e.to_string())))?;
        let begins: Vec<u64> = posts.iter().map(|p| p.begin).collect();
        for (place, begin) in begins.into_iter().enumerate() {
            if let Some(end) = self.end(0, place) {
                *end = Some(begin);
            }
        }
        Ok(Run {
            plan,
            ready,
            phase: 0,
        })
    }

    /// Submits the phases for which it is known what to wait for; whether that were all.
    fn submit(&mut self, tell: &mut Vec<Reached>) -> Result<bool> {
        let Some(run) = &mut self.run else {
            return Ok(false);
        };
        while run.phase < run.plan.len() {
            let (turns, ready) = (&run.plan[run.phase], &run.ready[run.phase]);
            let before = &self.ends[run.phase];
            let known = |turn: &plan::Turn| {
                let all = before.iter().enumerate();
                let mut awaited = all.filter(|(place, _)| turn.waits >> place & 1 != 0);
                awaited.all(|(_, end)| end.is_some())
            };
            let here = |place: usize| self.posts[place].as_ref().and_then(|p| p.here.as_ref());
            if !turns
                .iter()
                .enumerate()
                .all(|(place, turn)| here(place).is_none() || known(turn))
            {
                return Ok(false);
            }
            let mut after = Vec::with_capacity(self.ranks.len());
            for (place, (turn, steps)) in turns.iter().zip(ready).enumerate() {
                let Some(here) = here(place) else {
                    continue;
                };
                let mut end = before[place].unwrap_or_default();
                let waits = waits(&self.posts, here, turn, before, run.phase == 0)?;
                if !waits.is_empty() {
                    end = wait(&here.queue, &waits)?;
                }
                for step in steps {
                    end = submit(&here.queue, step)?;
                }
                after.push((place, end));
            }
            run.phase += 1;
            let phase = run.phase;
            if phase < run.plan.len() {
                let ends = after.iter().map(|(place, end)| (self.ranks[*place], *end));
                tell.push((phase as u32, ends.collect()));
            } else {
                for (place, end) in &after {
                    if let Some(Some(here)) = self
                        .posts
                        .get(*place)
                        .map(|p| p.as_ref().and_then(|p| p.here.as_ref()))
                    {
                        here.member.submitted(&here.queue, *end);
                        *lock(&here.done) = Some(Ok(*end));
                    }
                }
            }
            if self.ends.len() <= phase {
                self.ends.push(vec![None; self.ranks.len()]);
            }
            for (place, end) in after {
                self.ends[phase][place] = Some(end);
            }
        }
        if run.plan.is_empty() {
            for post in self.posts.iter().flatten() {
                if let Some(here) = &post.here {
                    *lock(&here.done) = Some(Ok(post.begin));
                }
            }
        }
        Ok(true)
    }
}

/// What a rank's turn waits for.
fn waits(
    posts: &[Option<Post>],
    here: &Here,
    turn: &plan::Turn,
    before: &[Option<u64>],
    first: bool,
) -> Result<Vec<Wait>> {
    let mut waits = Vec::new();
    for (place, post) in posts.iter().enumerate() {
        let value = before[place].unwrap_or_default();
        let Some(post) = post else { continue };
        if turn.waits >> place & 1 == 0 || value == 0 {
            continue;
        }
        let token = match (&post.here, post.timeline) {
            // What stands before it in one queue is over.
            (Some(peer), _) if Arc::ptr_eq(&peer.queue.inner, &here.queue.inner) => continue,
            // Often nothing of what was before the collective is left.
            (Some(peer), _) if first && peer.queue.inner.is_over(value) => continue,
            (Some(peer), None) => peer.queue.token()?,
            (_, Some(token)) => token,
            (None, None) => {
                let text = "a rank of another process names no timeline";
                return Err(Error::new("collective", Status::Internal, text));
            }
        };
        let queue = here.member.timeline(&token)?;
        waits.push(Wait { queue, value });
    }
    Ok(waits)
}

/// How a rank wants to be split: the part, and its place there; of a rank of this process its context.
pub(super) type Wish = (Option<u32>, u32, Option<Context>);

/// The calls of a clique.
#[derive(Default)]
pub(super) struct Board {
    size: u32,
    operations: BTreeMap<Key, Operation>,
    /// Collectives that each rank of this process has called.
    called: Vec<u64>,
    /// What was sent from one rank to another and is called by one of this process, and what is received.
    sent: HashMap<(u32, u32), u64>,
    received: HashMap<(u32, u32), u64>,
    /// Splits that each rank of this process has called, and what all wish, by split.
    pub(super) splits: Vec<u64>,
    pub(super) wishes: BTreeMap<u64, Vec<Option<Wish>>>,
    /// Why a rank takes no part any more.
    pub(super) lost: Vec<Option<String>>,
    /// Why nothing goes on.
    pub(super) broken: Option<Refusal>,
}

impl Board {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            called: vec![0; size as usize],
            splits: vec![0; size as usize],
            lost: vec![None; size as usize],
            ..Self::default()
        }
    }

    /// What a rank of this process calls next.
    pub(super) fn key(&mut self, rank: u32, call: &Call) -> Key {
        let (from, to) = match call.kind {
            Kind::Send => (rank, call.root),
            Kind::Receive => (call.root, rank),
            _ => {
                let count = &mut self.called[rank as usize];
                *count += 1;
                return Key::All(*count);
            }
        };
        let counts = match call.kind {
            Kind::Send => &mut self.sent,
            _ => &mut self.received,
        };
        let turn = counts.entry((from, to)).or_default();
        *turn += 1;
        Key::Pair {
            from,
            to,
            turn: *turn,
        }
    }

    /// Takes a rank's call in; `false` if it has made it already, or has no part in it.
    pub(super) fn post(&mut self, key: Key, rank: u32, post: Post) -> bool {
        if let Key::Pair { from, to, .. } = key
            && from.max(to) >= self.size
        {
            return false;
        }
        let size = self.size;
        let operations = self.operations.entry(key);
        let operation = operations.or_insert_with(|| Operation::new(key, size));
        let place = match (key, post.call.kind) {
            (Key::Pair { from, .. }, Kind::Send) if from == rank => 0,
            (Key::Pair { to, .. }, Kind::Receive) if to == rank => 1,
            (Key::All(_), kind) if !kind.is_pair() => rank as usize,
            _ => return false,
        };
        match operation.posts.get_mut(place) {
            Some(slot @ None) => {
                *slot = Some(post);
                true
            }
            _ => false,
        }
    }

    /// Takes in what a rank of another process has reached.
    pub(super) fn reached(&mut self, key: Key, phase: u32, ends: &[(u32, u64)]) -> bool {
        let Some(operation) = self.operations.get_mut(&key) else {
            // Who goes on has all calls, those of this process among them: it was given up here, or did not need this.
            return true;
        };
        ends.iter().all(|(rank, value)| {
            let Some(place) = operation.place(*rank) else {
                return false;
            };
            match operation.end(phase as usize, place) {
                Some(end) => {
                    *end = Some(*value);
                    true
                }
                None => false,
            }
        })
    }

    /// Brings an operation as far as it goes.
    pub(super) fn advance(
        &mut self,
        key: Key,
        topology: &Topology,
        tell: &mut Vec<Reached>,
    ) -> Progress {
        let Some(operation) = self.operations.get_mut(&key) else {
            return Progress::Waits;
        };
        let progress = operation.advance(topology, tell);
        match &progress {
            Progress::Waits => {}
            Progress::Done => {
                self.operations.remove(&key);
            }
            Progress::Unfit(refusal) | Progress::Failed(refusal) => {
                operation.settle(refusal);
                self.operations.remove(&key);
            }
        }
        progress
    }

    /// The ranks that a call waits for.
    pub(super) fn missing(&self, key: Key) -> Vec<u32> {
        let operation = self.operations.get(&key);
        operation.map_or(Vec::new(), Operation::missing)
    }

    /// Gives a call up, of which nothing was submitted.
    pub(super) fn withdraw(&mut self, ticket: &Ticket) {
        self.operations
            .retain(|_, operation| !operation.tickets().any(|t| Arc::ptr_eq(t, ticket)));
    }

    /// The ranks of those that have gone, and why, among these.
    pub(super) fn lost_of(&self, ranks: &[u32]) -> Option<Refusal> {
        let mut lost = ranks.iter().filter_map(|rank| {
            let why = self.lost.get(*rank as usize)?.as_ref()?;
            Some(format!("rank {rank} {why}"))
        });
        Some(Refusal::new(Status::Dependency, lost.next()?))
    }
}
