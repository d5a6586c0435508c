//! What a clique is called, and where ranks of this process meet.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use vmlu_abi::link::PeerPath;
use vmlu_abi::rpc::Peer;
use vmlu_abi::Status;

use super::clique::Clique;
use super::member::{lock, Member};
use super::plan::Topology;
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"MLUCLIQ1";
const JOIN: &str = "join a clique";

/// Names a clique: the ranks that have the same one meet. 128 bytes, to be passed on to whoever is to take part. Whoever has them can.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CliqueId([u8; 128]);

impl CliqueId {
    /// A new clique. Ranks in other processes of the machine join as long as this process lives.
    ///
    /// # Errors
    ///
    /// Those of the operating system, without random numbers.
    pub fn new() -> Result<Self> {
        let mut random = [0; 32];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .map_err(|e| Error::system("make a clique", "cannot read /dev/urandom", e))?;
        let mut bytes = [0; 128];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..40].copy_from_slice(&random);
        let id = Self(bytes);
        lock(registry()).insert(id.key(), Arc::default());
        Ok(id)
    }

    /// The bytes, to be passed on.
    pub fn to_bytes(&self) -> [u8; 128] {
        self.0
    }

    /// The identity that was passed on.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` if these bytes are none.
    pub fn from_bytes(bytes: &[u8; 128]) -> Result<Self> {
        if bytes[..8] != MAGIC || bytes[40..].iter().any(|b| *b != 0) {
            let text = "these bytes are no clique's identity";
            return Err(Error::new(JOIN, Status::InvalidArgument, text));
        }
        Ok(Self(*bytes))
    }

    /// A number of the bytes, for tables (FNV-1a, 64 bits).
    pub fn hash(&self) -> u64 {
        self.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    fn key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(&self.0[8..40]);
        key
    }
}

impl std::fmt::Debug for CliqueId {
    /// Without the bytes, which let in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CliqueId({:#x})", self.hash())
    }
}

fn registry() -> &'static Mutex<HashMap<[u8; 32], Arc<Meeting>>> {
    static REGISTRY: OnceLock<Mutex<HashMap<[u8; 32], Arc<Meeting>>>> = OnceLock::new();
    REGISTRY.get_or_init(Mutex::default)
}

/// Where ranks meet.
#[derive(Default)]
struct Meeting {
    state: Mutex<Gathered>,
    changed: Condvar,
}

#[derive(Default)]
struct Gathered {
    size: u32,
    members: Vec<Option<Weak<Member>>>,
    met: Option<std::result::Result<Arc<Clique>, (Status, String)>>,
}

/// Joins a clique as a rank; returns when all are there.
pub(super) fn join(id: &CliqueId, member: &Arc<Member>, timeout: Duration) -> Result<Arc<Clique>> {
    let Some(meeting) = lock(registry()).get(&id.key()).cloned() else {
        let text = "no clique of this identity is open in this process";
        return Err(Error::new(JOIN, Status::BadHandle, text));
    };
    let met = meeting.meet(member, timeout);
    if met.is_ok() || lock(&meeting.state).met.is_some() {
        lock(registry()).remove(&id.key());
    }
    met
}

impl Meeting {
    fn meet(&self, member: &Arc<Member>, timeout: Duration) -> Result<Arc<Clique>> {
        let refuse = |status, text| Err(Error::new(JOIN, status, text));
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        if state.size == 0 {
            state.size = member.size;
            state.members = vec![None; member.size as usize];
        }
        if state.met.is_some() {
            return refuse(Status::BadState, "the clique is complete".to_owned());
        }
        if state.size != member.size {
            let text = format!("{} ranks, others say {}", member.size, state.size);
            return refuse(Status::InvalidArgument, text);
        }
        let place = member.rank as usize;
        if state.members[place].is_some() {
            let text = format!("there is a rank {place} already");
            return refuse(Status::InvalidArgument, text);
        }
        state.members[place] = Some(Arc::downgrade(member));
        let all: Option<Vec<_>> = state
            .members
            .iter()
            .map(|m| m.as_ref().and_then(Weak::upgrade))
            .collect();
        if let Some(all) = all {
            let made = topology(&all)
                .map(|topology| Arc::new(Clique::new(member.size, topology, timeout)));
            state.met = Some(made.map_err(|e| (e.status(), e.to_string())));
            self.changed.notify_all();
        }
        loop {
            if let Some(met) = &state.met {
                return met
                    .clone()
                    .map_err(|(status, text)| Error::new(JOIN, status, text));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.members[place] = None;
                let ranks = state.members.iter().enumerate();
                let missing: Vec<usize> = ranks
                    .filter(|(r, m)| m.is_none() && *r != place)
                    .map(|(r, _)| r)
                    .collect();
                let text = format!(
                    "ranks {missing:?} of {} have not come within {timeout:?}",
                    member.size
                );
                return refuse(Status::Timeout, text);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
    }
}

/// How the chips of ranks are joined.
///
/// # Errors
///
/// `Status::NotSupported` if one cannot reach another.
pub(super) fn topology(members: &[Arc<Member>]) -> Result<Topology> {
    let peers: Vec<Peer> = members.iter().map(|m| m.peer()).collect();
    let rows = members.iter().map(|m| m.joined(&peers));
    Ok(Topology::new(&rows.collect::<Result<Vec<u32>>>()?))
}

impl Member {
    /// What others call this rank's chip.
    pub(super) fn peer(&self) -> Peer {
        let info = self.context.info().info;
        Peer {
            serial: info.serial,
            chip: info.chip,
            reserved: 0,
        }
    }

    /// The ranks that this one is joined with by MLU-Link, a bit each; all where the transport does not say.
    pub(super) fn joined(&self, peers: &[Peer]) -> Result<u32> {
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
