//! A clique as a process sees it: its ranks here put their calls on a board, those of other processes arrive there, and whoever completes
//! an operation submits it to the queues of the ranks that are here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmlu_abi::Status;

use super::board::{Board, Here, Key, Post, Progress, Reached, Ticket, Wish};
use super::call::{Call, Kind};
use super::id::hash;
use super::member::{lock, Member};
use super::mesh::Mesh;
use super::topology::Topology;
use super::wire::{CallBody, Message, Refusal};
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::timeline::TimelineToken;

const SPLIT: &str = "split a communicator";

/// Where the ranks of a clique are.
pub(super) struct Places {
    /// Names the clique among those of the mesh.
    pub(super) id: u64,
    /// This process.
    pub(super) me: usize,
    /// The process of each rank.
    pub(super) of: Vec<usize>,
    /// None if all are here.
    pub(super) mesh: Option<Arc<Mesh>>,
}

/// A clique.
pub(super) struct Clique {
    pub(super) topology: Topology,
    /// Of each rank, those that it is joined with.
    joined: Vec<u32>,
    places: Places,
    timeout: Duration,
    board: Mutex<Board>,
    /// Ranks of this process that have called a split: what became of them.
    parts: Mutex<Vec<Option<Part>>>,
    changed: Condvar,
}

/// A rank's part of a split; `None` if it has none.
pub(super) type Part = std::result::Result<Option<(Arc<Member>, Arc<Clique>)>, Refusal>;

fn refuse<T>(call: &'static str, refusal: &Refusal) -> Result<T> {
    Err(Error::new(call, refusal.status(), refusal.text.clone()))
}

impl Clique {
    pub(super) fn new(joined: Vec<u32>, places: Places, timeout: Duration) -> Arc<Self> {
        let size = joined.len() as u32;
        let clique = Arc::new(Self {
            topology: Topology::new(&joined),
            joined,
            timeout,
            board: Mutex::new(Board::new(size)),
            parts: Mutex::new((0..size).map(|_| None).collect()),
            changed: Condvar::new(),
            places,
        });
        if let Some(mesh) = &clique.places.mesh {
            mesh.add(clique.places.id, &clique);
        }
        clique
    }

    /// A clique of ranks of this process.
    pub(super) fn of_members(members: &[Arc<Member>], timeout: Duration) -> Result<Arc<Self>> {
        let places = Places {
            id: 0,
            me: 0,
            of: vec![0; members.len()],
            mesh: None,
        };
        Ok(Self::new(super::meet::joined(members)?, places, timeout))
    }

    /// Tells all other processes that have ranks among these.
    fn tell<'a>(&self, ranks: impl IntoIterator<Item = &'a u32>, message: &Message) {
        let Some(mesh) = &self.places.mesh else {
            return;
        };
        let of = &self.places.of;
        let mut processes: Vec<usize> = ranks.into_iter().map(|r| of[*r as usize]).collect();
        processes.sort_unstable();
        processes.dedup();
        for process in processes {
            if process != self.places.me {
                mesh.tell(process, self.places.id, message);
            }
        }
    }

    fn all(&self) -> Vec<u32> {
        (0..self.joined.len() as u32).collect()
    }

    fn ranks_of(&self, key: Key) -> Vec<u32> {
        match key {
            Key::All(_) => self.all(),
            Key::Pair { from, to, .. } => vec![from, to],
        }
    }

    /// Why nothing goes on, if it does not.
    pub(super) fn broken(&self) -> Option<Refusal> {
        lock(&self.board).broken.clone()
    }

    /// Ends the communicator for all ranks.
    pub(super) fn fail(&self, status: Status, text: &str) {
        let mut board = lock(&self.board);
        self.break_up(&mut board, Refusal::new(status, text));
    }

    fn break_up(&self, board: &mut Board, refusal: Refusal) {
        if board.broken.is_none() {
            self.tell(&self.all(), &Message::Broken(refusal.clone()));
            board.broken = Some(refusal);
        }
        self.changed.notify_all();
    }

    /// A rank of this process takes no part any more.
    pub(super) fn lose(&self, rank: u32, text: &str) {
        let mut board = lock(&self.board);
        board.lost[rank as usize].get_or_insert(text.to_owned());
        self.tell(&self.all(), &Message::Lost(rank, text.to_owned()));
        self.changed.notify_all();
    }

    /// Waits until other processes have been sent what they were told.
    pub(super) fn flush(&self) {
        if let Some(mesh) = &self.places.mesh {
            mesh.flush();
        }
    }

    /// Another process has ended, or is not reached any more.
    pub(super) fn gone(&self, process: usize) {
        let mut board = lock(&self.board);
        let places = self.places.of.iter().enumerate();
        let mut dead = Vec::new();
        for (rank, _) in places.filter(|(_, p)| **p == process) {
            if board.lost[rank].is_none() {
                board.lost[rank] = Some("was lost: its process has ended".to_owned());
                dead.push(rank as u32);
            }
        }
        if let Some(refusal) = board.lost_of(&dead) {
            // Who made it has told, or cannot any more.
            board.broken.get_or_insert(refusal);
        }
        self.changed.notify_all();
    }

    /// Takes in what another process says.
    pub(super) fn receive(&self, process: usize, message: Message) {
        let mut board = lock(&self.board);
        let is_theirs = |rank: u32| self.places.of.get(rank as usize) == Some(&process);
        let fits = match message {
            Message::Call {
                key,
                rank,
                call,
                timeline,
                begin,
            } => {
                let call = call.call().filter(|call| {
                    is_theirs(rank) && call.check(rank, self.joined.len() as u32).is_ok()
                });
                let posted = call.is_some_and(|call| {
                    let post = Post {
                        call,
                        timeline: Some(TimelineToken::from_bytes(&timeline)),
                        begin,
                        here: None,
                    };
                    board.post(key, rank, post)
                });
                if posted {
                    self.advance(&mut board, key);
                }
                posted
            }
            Message::Ends { key, phase, ends } => {
                let fits = ends.iter().all(|(rank, _)| is_theirs(*rank))
                    && board.reached(key, phase, &ends);
                if fits {
                    self.advance(&mut board, key);
                }
                fits
            }
            Message::Split {
                turn,
                rank,
                color,
                key,
            } => {
                let fits = is_theirs(rank);
                if fits {
                    self.wish(&mut board, turn, rank, (color, key, None));
                }
                fits
            }
            Message::Broken(refusal) => {
                board.broken.get_or_insert(refusal);
                true
            }
            Message::Lost(rank, text) => {
                let fits = is_theirs(rank);
                if fits {
                    board.lost[rank as usize].get_or_insert(text);
                }
                fits
            }
        };
        if !fits {
            let text = format!("process {process} says what does not belong here");
            self.break_up(&mut board, Refusal::new(Status::Internal, text));
        }
        self.changed.notify_all();
    }

    /// Puts a call on the board, and submits what it completes.
    pub(super) fn post(
        &self,
        member: &Arc<Member>,
        call: Call,
        queue: &Queue,
    ) -> Result<(Key, Ticket)> {
        member.follow(queue)?;
        let mut begin = queue.submitted();
        // What a cleared error took stays failed for those that wait for it.
        if queue.inner.is_cleared(begin) {
            begin = queue.nop()?;
        }
        // Before the others are told, so that they are told nothing that does not come.
        let told = match self.places.mesh {
            Some(_) => Some((CallBody::of(&call)?, queue.token()?)),
            None => None,
        };
        let mut board = lock(&self.board);
        if let Some(refusal) = &board.broken {
            return refuse(call.kind.name(), refusal);
        }
        let rank = member.rank;
        let key = board.key(rank, &call);
        let done = Ticket::default();
        if let Some((body, timeline)) = &told {
            let message = Message::Call {
                key,
                rank,
                call: body.clone(),
                timeline: timeline.to_bytes(),
                begin,
            };
            self.tell(&self.ranks_of(key), &message);
        }
        let here = Here {
            member: member.clone(),
            queue: queue.clone(),
            done: done.clone(),
        };
        let post = Post {
            call,
            timeline: told.map(|(_, token)| token),
            begin,
            here: Some(here),
        };
        board.post(key, rank, post);
        self.advance(&mut board, key);
        Ok((key, done))
    }

    fn advance(&self, board: &mut Board, key: Key) {
        let mut told: Vec<Reached> = Vec::new();
        let progress = board.advance(key, &self.topology, &mut told);
        for (phase, ends) in told {
            self.tell(&self.ranks_of(key), &Message::Ends { key, phase, ends });
        }
        match progress {
            Progress::Waits => return,
            Progress::Done | Progress::Unfit(_) => {}
            Progress::Failed(refusal) => {
                if self.places.mesh.is_some() {
                    self.break_up(board, refusal);
                }
            }
        }
        self.changed.notify_all();
    }

    fn pause<'a>(&self, board: MutexGuard<'a, Board>, deadline: Instant) -> MutexGuard<'a, Board> {
        let left = deadline.saturating_duration_since(Instant::now());
        let paused = self.changed.wait_timeout(board, left);
        paused.unwrap_or_else(|e| e.into_inner()).0
    }

    /// Waits until a call was submitted at all ranks of this process; its value on the rank's queue.
    pub(super) fn finish(&self, kind: Kind, key: Key, ticket: &Ticket) -> Result<u64> {
        let name = kind.name();
        let taken = |ticket: &Ticket| {
            let outcome = lock(ticket).take()?;
            Some(outcome.or_else(|refusal| refuse(name, &refusal)))
        };
        if let Some(outcome) = taken(ticket) {
            return outcome;
        }
        let deadline = Instant::now() + self.timeout;
        let mut board = lock(&self.board);
        loop {
            if let Some(outcome) = taken(ticket) {
                return outcome;
            }
            let missing = board.missing(key);
            let refused = board.broken.clone().or_else(|| board.lost_of(&missing));
            let refused = refused.or_else(|| {
                (Instant::now() >= deadline).then(|| {
                    let text = format!(
                        "ranks {missing:?} of {} have not called it within {:?}",
                        self.joined.len(),
                        self.timeout
                    );
                    Refusal::new(Status::Timeout, text)
                })
            });
            if let Some(refusal) = refused {
                // The others' calls would not match any more.
                self.break_up(&mut board, refusal.clone());
                board.withdraw(ticket);
                return refuse(name, &refusal);
            }
            board = self.pause(board, deadline);
        }
    }

    /// Splits the clique; returns when all ranks have said how.
    pub(super) fn split(&self, member: &Member, color: Option<u32>, key: u32) -> Result<Part> {
        let deadline = Instant::now() + self.timeout;
        let rank = member.rank;
        let mut board = lock(&self.board);
        if let Some(refusal) = &board.broken {
            return refuse(SPLIT, refusal);
        }
        board.splits[rank as usize] += 1;
        let turn = board.splits[rank as usize];
        let message = Message::Split {
            turn,
            rank,
            color,
            key,
        };
        self.tell(&self.all(), &message);
        self.wish(
            &mut board,
            turn,
            rank,
            (color, key, Some(member.context.clone())),
        );
        loop {
            if let Some(part) = lock(&self.parts)[rank as usize].take() {
                return Ok(part);
            }
            let wishes = board.wishes.get(&turn);
            let missing: Vec<u32> = wishes.map_or(Vec::new(), |wishes| {
                let all = wishes.iter().enumerate();
                let missing = all.filter(|(_, wish)| wish.is_none());
                missing.map(|(rank, _)| rank as u32).collect()
            });
            let refused = board.broken.clone().or_else(|| board.lost_of(&missing));
            let refused = refused.or_else(|| {
                (Instant::now() >= deadline).then(|| {
                    let text = format!("ranks {missing:?} have not come");
                    Refusal::new(Status::Timeout, text)
                })
            });
            if let Some(refusal) = refused {
                self.break_up(&mut board, refusal.clone());
                return refuse(SPLIT, &refusal);
            }
            board = self.pause(board, deadline);
        }
    }

    /// Takes in how a rank wants to be split; the last one's wish splits.
    fn wish(&self, board: &mut Board, turn: u64, rank: u32, wish: Wish) {
        let size = self.joined.len();
        let wishes = board.wishes.entry(turn);
        let wishes = wishes.or_insert_with(|| (0..size).map(|_| None).collect());
        wishes[rank as usize] = Some(wish);
        if wishes.iter().any(Option::is_none) {
            return;
        }
        let wishes: Vec<Wish> = board
            .wishes
            .remove(&turn)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let made = self.split_by(turn, &wishes);
        let mut parts = lock(&self.parts);
        for (rank, part) in made.into_iter().enumerate() {
            if self.places.of[rank] == self.places.me {
                parts[rank] = Some(part);
            }
        }
        self.changed.notify_all();
    }

    /// The cliques that wishes make: of those with one color, by key, then rank.
    fn split_by(&self, turn: u64, wishes: &[Wish]) -> Vec<Part> {
        let mut parts: Vec<Part> = wishes.iter().map(|_| Ok(None)).collect();
        let mut colors: Vec<u32> = wishes.iter().filter_map(|w| w.0).collect();
        colors.sort_unstable();
        colors.dedup();
        for color in colors {
            let mut ranks: Vec<usize> = (0..wishes.len())
                .filter(|r| wishes[*r].0 == Some(color))
                .collect();
            ranks.sort_by_key(|r| (wishes[*r].1, *r));
            let of: Vec<usize> = ranks.iter().map(|r| self.places.of[*r]).collect();
            if !of.contains(&self.places.me) {
                continue;
            }
            let joined = ranks.iter().map(|rank| {
                let bits = ranks.iter().enumerate();
                let joined = bits.filter(|(_, other)| self.joined[*rank] >> **other & 1 != 0);
                joined.fold(0u32, |mask, (place, _)| mask | 1 << place)
            });
            let joined: Vec<u32> = joined.collect();
            let name: Vec<u8> = [self.places.id, turn, color.into()]
                .iter()
                .flat_map(|n: &u64| n.to_le_bytes())
                .collect();
            let alone = of.iter().all(|process| *process == self.places.me);
            let places = Places {
                id: hash(&name),
                me: self.places.me,
                of,
                mesh: self.places.mesh.clone().filter(|_| !alone),
            };
            let clique = Clique::new(joined, places, self.timeout);
            let size = ranks.len() as u32;
            for (rank, old) in ranks.iter().enumerate() {
                if let Some(context) = &wishes[*old].2 {
                    let member = Arc::new(Member::new(context, rank as u32, size));
                    parts[*old] = Ok(Some((member, clique.clone())));
                }
            }
        }
        parts
    }
}
