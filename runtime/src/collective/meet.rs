//! How a rank comes into its clique.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use vmlu_abi::link::PeerPath;
use vmlu_abi::rpc::Peer;
use vmlu_abi::Status;

use super::clique::{Clique, Places};
use super::id::{self, CliqueId};
use super::line::{Endpoint, Line, Listener};
use super::member::{lock, Member};
use super::mesh::Mesh;
use super::wire::{Arrival, Hello, News, Refusal};
use super::JOIN;
use crate::error::{Error, Result};

/// Ranks of this process that are joining a clique.
#[derive(Default)]
struct Joining {
    ranks: Mutex<BTreeSet<u32>>,
    /// Where other processes of the clique connect to.
    listener: Mutex<Option<Arc<Listener>>>,
    made: Mutex<Option<std::result::Result<Arc<Clique>, Refusal>>>,
}

fn joining() -> &'static Mutex<HashMap<[u8; 16], Arc<Joining>>> {
    static JOINING: OnceLock<Mutex<HashMap<[u8; 16], Arc<Joining>>>> = OnceLock::new();
    JOINING.get_or_init(Mutex::default)
}

/// Names this process.
fn process() -> Result<[u8; 16]> {
    static NAME: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(name) = NAME.get() {
        return Ok(*name);
    }
    let name = id::random(JOIN)?;
    Ok(*NAME.get_or_init(|| name))
}

fn refused(refusal: Refusal) -> Error {
    Error::new(JOIN, refusal.status(), refusal.text)
}

/// Joins a clique as a rank; returns when all are there.
pub(super) fn join(id: &CliqueId, member: &Member, timeout: Duration) -> Result<Arc<Clique>> {
    let here = lock(joining()).entry(id.name()).or_default().clone();
    lock(&here.ranks).insert(member.rank);
    let joined = here.join(id, member, timeout);
    let mut all = lock(joining());
    let mut ranks = lock(&here.ranks);
    ranks.remove(&member.rank);
    if ranks.is_empty() {
        all.remove(&id.name());
    }
    joined
}

impl Joining {
    fn join(&self, id: &CliqueId, member: &Member, timeout: Duration) -> Result<Arc<Clique>> {
        let deadline = Instant::now() + timeout;
        let line = Line::connect(&id.endpoint(), deadline).map_err(|error| {
            let text = format!(
                "nobody waits for its ranks: the process that made the identity has ended, or they have met already ({error})"
            );
            Error::new(JOIN, Status::BadHandle, text)
        })?;
        let listener = self.listener(&line)?;
        let broken = |error| Error::system(JOIN, "the ranks' meeting place is lost", error);
        let peer = member.peer();
        let hello = Hello {
            secret: id.secret(),
            rank: member.rank,
            size: member.size,
            process: process()?,
            endpoint: listener.endpoint().map_err(broken)?,
            serial: peer.serial,
            chip: peer.chip,
            private: member.context.channel().is_private(),
        };
        line.send(&Arrival::Hello(hello)).map_err(broken)?;
        let mut present = 1u32 << member.rank;
        let mut all: Option<Vec<Hello>> = None;
        let joined = loop {
            match line.receive(Some(deadline)) {
                Ok(News::Present(ranks)) => present = ranks,
                Ok(News::Ranks(ranks)) => {
                    let peers: Vec<Peer> = ranks.iter().map(peer_of).collect();
                    match member.joined(&peers) {
                        Ok(row) => line.send(&Arrival::Joined(row)).map_err(broken)?,
                        Err(error) => {
                            let refusal = Refusal::new(error.status(), error.to_string());
                            let _ = line.send(&Arrival::Refused(refusal));
                            return Err(error);
                        }
                    }
                    all = Some(ranks);
                }
                Ok(News::Joined(rows)) => break rows,
                Ok(News::Refused(refusal)) => return Err(refused(refusal)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let missing: Vec<u32> =
                        (0..member.size).filter(|r| present >> r & 1 == 0).collect();
                    let text = format!(
                        "ranks {missing:?} of {} have not come within {timeout:?}",
                        member.size
                    );
                    // The others do not wait for this one any longer either.
                    let refusal = Refusal::new(Status::Timeout, text);
                    let _ = line.send(&Arrival::Refused(refusal.clone()));
                    return Err(refused(refusal));
                }
                Err(error) => return Err(broken(error)),
            }
        };
        let ranks = all.unwrap_or_default();
        let mut made = lock(&self.made);
        let clique = made.get_or_insert_with(|| {
            build(id, &listener, &ranks, &joined, timeout, deadline)
                .map_err(|e| Refusal::new(e.status(), e.to_string()))
        });
        clique.clone().map_err(refused)
    }

    /// Where this process listens: at the address by which it reaches the others' meeting place.
    fn listener(&self, line: &Line) -> Result<Arc<Listener>> {
        let mut slot = lock(&self.listener);
        if let Some(listener) = &*slot {
            return Ok(listener.clone());
        }
        let made = Listener::open(id::random(JOIN)?, line.own_address())
            .map_err(|e| Error::system(JOIN, "no socket for the other ranks", e))?;
        Ok(slot.insert(Arc::new(made)).clone())
    }
}

fn peer_of(hello: &Hello) -> Peer {
    Peer {
        serial: hello.serial,
        chip: hello.chip,
        reserved: 0,
    }
}

/// The clique, and the connections to the processes of its other ranks.
fn build(
    id: &CliqueId,
    listener: &Listener,
    ranks: &[Hello],
    joined: &[u32],
    timeout: Duration,
    deadline: Instant,
) -> Result<Arc<Clique>> {
    let mut processes: Vec<([u8; 16], Endpoint)> = Vec::new();
    let mut places = Vec::new();
    for rank in ranks {
        let known = processes.iter().position(|(name, _)| *name == rank.process);
        places.push(known.unwrap_or(processes.len()));
        if known.is_none() {
            processes.push((rank.process, rank.endpoint.clone()));
        }
    }
    let own = process()?;
    let me = processes.iter().position(|(name, _)| *name == own);
    let (Some(me), true) = (me, joined.len() == ranks.len()) else {
        let text = "the list of ranks is not one".to_owned();
        return Err(Error::new(JOIN, Status::Internal, text));
    };
    let mesh = if processes.len() == 1 {
        None
    } else {
        let made = Mesh::connect(id.secret(), me, &processes, listener, deadline);
        Some(made.map_err(|e| Error::system(JOIN, "the ranks' processes do not connect", e))?)
    };
    let places = Places {
        id: id.hash(),
        me,
        of: places,
        mesh,
    };
    Ok(Clique::new(joined.to_vec(), places, timeout))
}

/// Which ranks are joined by MLU-Link, as a topology takes it; of ranks that are all here.
///
/// # Errors
///
/// `Status::NotSupported` if one cannot reach another.
pub(super) fn joined(members: &[Arc<Member>]) -> Result<Vec<u32>> {
    let peers: Vec<Peer> = members.iter().map(|m| m.peer()).collect();
    members.iter().map(|m| m.joined(&peers)).collect()
}

impl Member {
    /// What others call this rank's chip.
    fn peer(&self) -> Peer {
        let info = self.context.info().info;
        Peer {
            serial: info.serial,
            chip: info.chip,
            reserved: 0,
        }
    }

    /// The ranks that this one is joined with by MLU-Link, a bit each; all where the transport does not say.
    fn joined(&self, peers: &[Peer]) -> Result<u32> {
        let mut row = 0u32;
        for (rank, peer) in peers.iter().enumerate() {
            let path = match self.context.channel().peer_path(peer) {
                Ok(way) => way.path,
                Err(error) if error.status() == Status::NotSupported => PeerPath::Link as u32,
                Err(error) => return Err(error),
            };
            if path == PeerPath::None as u32 {
                let text = format!(
                    "the chip of rank {} has no way to that of rank {rank}",
                    self.rank
                );
                return Err(Error::new(JOIN, Status::NotSupported, text));
            }
            if path != PeerPath::Pcie as u32 {
                row |= 1u32 << rank;
            }
        }
        Ok(row & !(1u32 << self.rank))
    }
}
