//! Device memory that another context was given: its token, its mapping, and a command's hold on it.
//!
//! The owner's segment is the truth: a mapping holds a reference to it, and a command that uses the mapping holds the owner's segment too.
//! So when the owner frees its memory, commands of others that use it are told to stop and waited for like its own, and from then on the
//! mapping leads nowhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use vmlu_abi::link::PeerPath;
use vmlu_abi::rpc::MemoryToken;
use vmlu_abi::Status;

use super::bytes::Bytes;
use super::segment::{Segment, SegmentUse};
use crate::fabric::{LinkDown, Place, Route};
use crate::hardware::Hardware;
use crate::token::{self, Secret};

/// An exported allocation.
struct Exported {
    segment: Weak<Segment>,
    serial: u64,
    chip: u32,
    number: usize,
}

/// The exported allocations of this process.
fn registry() -> MutexGuard<'static, HashMap<Secret, Exported>> {
    static REGISTRY: OnceLock<Mutex<HashMap<Secret, Exported>>> = OnceLock::new();
    REGISTRY
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(|e| e.into_inner())
}

impl Segment {
    /// The token of an allocation of a chip, the same each time. Only the chip's own device memory has one.
    pub fn export(self: &Arc<Self>, hardware: &Hardware) -> Result<MemoryToken, (Status, String)> {
        if self.device_range().is_none() {
            let text = format!(
                "the memory at {:#x} is not device memory of this context",
                self.va
            );
            return Err((Status::InvalidArgument, text));
        }
        let fresh = token::fresh().map_err(|s| (s, "no random numbers".to_owned()))?;
        let mut registry = registry();
        // With the registry locked: who revokes the segment later leaves a token that leads to nothing that can be held.
        if self.is_revoked() {
            return Err((
                Status::BadHandle,
                format!("the memory at {:#x} is being freed", self.va),
            ));
        }
        let secret = *self.secret.get_or_init(|| fresh);
        registry.entry(secret).or_insert_with(|| Exported {
            segment: Arc::downgrade(self),
            serial: hardware.serial,
            chip: hardware.chip,
            number: hardware.place.number,
        });
        Ok(MemoryToken {
            secret,
            serial: hardware.serial,
            chip: hardware.chip,
            reserved: 0,
            length: self.length,
        })
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Some(secret) = self.secret.get() {
            registry().remove(secret);
        }
    }
}

/// A mapping of another context's memory.
pub struct Peer {
    origin: Arc<Segment>,
    writable: bool,
    /// The chip that uses it.
    place: Place,
    /// The chip that has it.
    owner: usize,
}

impl Peer {
    /// The mapping that a token gives a chip.
    pub fn import(
        token: &MemoryToken,
        writable: bool,
        place: &Place,
    ) -> Result<Self, (Status, String)> {
        let unknown = || {
            (
                Status::BadHandle,
                "the token leads to no allocation of this server".to_owned(),
            )
        };
        let (origin, owner) = {
            let registry = registry();
            let exported = registry.get(&token.secret).ok_or_else(unknown)?;
            let same = (exported.serial, exported.chip) == (token.serial, token.chip);
            (exported.segment.upgrade().filter(|_| same), exported.number)
        };
        let origin = origin
            .filter(|s| s.length == token.length && !s.is_revoked())
            .ok_or_else(unknown)?;
        let peer = Self {
            origin,
            writable,
            place: place.clone(),
            owner,
        };
        peer.route()
            .map_err(|down| (Status::NotSupported, down.to_string()))?;
        Ok(peer)
    }

    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        self.origin.length
    }

    /// Whether the chip that uses it may write it.
    pub(super) fn writable(&self) -> bool {
        self.writable
    }

    pub(super) fn run(&self, offset: u64, length: u64) -> Option<Bytes<'_>> {
        self.origin.run(offset, length)
    }

    /// The way to it, as things are now.
    pub fn route(&self) -> Result<Route, LinkDown> {
        self.place.fabric.route(self.place.number, self.owner)
    }

    /// Begins to use it.
    pub(super) fn hold(&self) -> Result<PeerUse, (Status, String)> {
        let route = self
            .route()
            .map_err(|down| (Status::LinkDown, down.to_string()))?;
        match self.origin.hold(self.origin.va) {
            Ok(origin) => Ok(PeerUse {
                origin,
                route,
                owner: self.owner,
                read: AtomicU64::new(0),
                written: AtomicU64::new(0),
            }),
            Err(_) => Err((
                Status::OperandFault,
                "its owner has freed the peer's memory behind it".to_owned(),
            )),
        }
    }
}

/// A command's hold on another's memory.
pub(super) struct PeerUse {
    origin: SegmentUse,
    route: Route,
    owner: usize,
    read: AtomicU64,
    written: AtomicU64,
}

impl PeerUse {
    /// Why the command is to stop, if it is.
    pub(super) fn stopped(&self) -> Option<Status> {
        if self.origin.is_revoked() {
            return Some(Status::AddressFault);
        }
        self.route.check().err().map(|_| Status::LinkDown)
    }

    /// Counts bytes that the command reads or writes.
    pub(super) fn count(&self, length: u64, write: bool) {
        let (read, written) = if write { (0, length) } else { (length, 0) };
        self.read.fetch_add(read, Ordering::Relaxed);
        self.written.fetch_add(written, Ordering::Relaxed);
        if self.route.path() == PeerPath::Link {
            self.route.count(read, written);
        }
    }

    /// What it moves between chips.
    pub(super) fn load(&self) -> Option<Load> {
        let peer = match self.route.path() {
            PeerPath::Link => Some(self.owner),
            PeerPath::Pcie => None,
            PeerPath::Same | PeerPath::None => return None,
        };
        Some(Load {
            peer,
            rate: self.route.rate(),
            read: self.read.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
        })
    }
}

/// Bytes that a command moves between chips, by one way.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The other chip; `None` for all that are reached over PCIe, which share it.
    pub peer: Option<usize>,
    /// Bytes/s in each direction.
    rate: u64,
    read: u64,
    written: u64,
}

impl Load {
    /// Adds what goes the same way.
    pub fn add(&mut self, other: &Self) {
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
    }

    /// How long the way is busy, ns. Its two directions work at once, but where chips do this to each other, what one reads goes the way
    /// that the other's writes go: so both count.
    pub fn ns(&self) -> u64 {
        let bytes = u128::from(self.read) + u128::from(self.written);
        u64::try_from(bytes * 1_000_000_000 / u128::from(self.rate.max(1))).unwrap_or(u64::MAX)
    }
}
