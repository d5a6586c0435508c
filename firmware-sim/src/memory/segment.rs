//! Segments: the mapped ranges of address spaces, and what commands hold of them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use vmlu_abi::Status;

use super::peer::{Load, Peer, PeerUse};
use super::space::SpaceError;
use crate::hardware::HostRange;
use crate::memory::bytes::Bytes;
use crate::memory::heap::Range;
use crate::memory::shared::SharedMemory;
use crate::token::Secret;

/// How long commands get to stop once they are told to. They look each millisecond, so the wait ends within a few; but on a host with too
/// much to do a worker may be off its core for tens of them, and taking memory from under it is worse than waiting. Well below the 5 s
/// after which a hypervisor gives a device up.
pub const REVOKE_LIMIT: Duration = Duration::from_secs(1);

/// Where a segment's bytes are.
enum Backing {
    /// Device memory.
    Device {
        memory: Arc<SharedMemory>,
        range: Range,
    },
    /// Host memory in pieces, sorted by their offset in the segment.
    Host {
        pieces: Vec<Piece>,
        writable: bool,
        _charge: PieceCharge,
    },
    /// Device memory of another context.
    Peer(Peer),
}

struct Piece {
    offset: u64,
    address: u64,
    range: HostRange,
}

/// Pieces that are counted against a chip's limit as long as this lives.
pub struct PieceCharge {
    counter: Arc<AtomicU64>,
    pieces: u64,
}

impl PieceCharge {
    /// Nothing yet, counted in `counter`.
    pub fn new(counter: Arc<AtomicU64>) -> Self {
        Self { counter, pieces: 0 }
    }

    /// Counts one more piece; `false` if the chip has `limit` of them.
    pub fn add(&mut self, limit: u64) -> bool {
        let added = self
            .counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok();
        self.pieces += u64::from(added);
        added
    }
}

impl Drop for PieceCharge {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.pieces, Ordering::Relaxed);
    }
}

/// A mapped range of a context's address space.
pub struct Segment {
    /// Device virtual address.
    pub va: u64,
    /// Bytes.
    pub length: u64,
    /// Number of the allocation.
    pub allocation: u64,
    backing: Backing,
    revoked: AtomicBool,
    /// Commands that use it, mappings of it by others included.
    users: AtomicUsize,
    /// What names it to others, once it was exported.
    pub(super) secret: OnceLock<Secret>,
}

/// A command's hold on a segment: its memory stays the context's until this is dropped.
pub struct SegmentUse {
    segment: Arc<Segment>,
    /// Of another's memory: the hold on that, and the way to it.
    peer: Option<Box<PeerUse>>,
}

impl SegmentUse {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Why the command is to stop using it, if it is.
    pub fn stopped(&self) -> Option<Status> {
        if self.segment.is_revoked() {
            return Some(Status::AddressFault);
        }
        self.peer.as_ref().and_then(|peer| peer.stopped())
    }

    /// What it moves between chips; `None` for memory of this one.
    pub fn load(&self) -> Option<Load> {
        self.peer.as_ref().and_then(|peer| peer.load())
    }

    /// Counts bytes that the command reads or writes, where they cross a link.
    pub fn count(&self, length: u64, write: bool) {
        if let Some(peer) = &self.peer {
            peer.count(length, write);
        }
    }
}

impl std::ops::Deref for SegmentUse {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

impl Drop for SegmentUse {
    fn drop(&mut self) {
        self.segment.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Segment {
    /// A segment of device memory.
    pub fn device(
        va: u64,
        length: u64,
        allocation: u64,
        memory: Arc<SharedMemory>,
        range: Range,
    ) -> Self {
        Self::new(va, length, allocation, Backing::Device { memory, range })
    }

    fn new(va: u64, length: u64, allocation: u64, backing: Backing) -> Self {
        Self {
            va,
            length,
            allocation,
            backing,
            revoked: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            secret: OnceLock::new(),
        }
    }

    /// A segment of host memory: pieces in order, with their DMA addresses.
    pub fn host(
        va: u64,
        length: u64,
        allocation: u64,
        ranges: Vec<(u64, HostRange)>,
        writable: bool,
        charge: PieceCharge,
    ) -> Self {
        let mut offset = 0;
        let pieces = ranges
            .into_iter()
            .map(|(address, range)| {
                let piece = Piece {
                    offset,
                    address,
                    range,
                };
                offset += piece.range.length as u64;
                piece
            })
            .collect();
        Self::new(
            va,
            length,
            allocation,
            Backing::Host {
                pieces,
                writable,
                _charge: charge,
            },
        )
    }

    /// A segment of another context's device memory.
    pub fn peer(va: u64, allocation: u64, peer: Peer) -> Self {
        Self::new(va, peer.length(), allocation, Backing::Peer(peer))
    }

    /// The device memory of this chip and context that backs the segment; `None` for host memory and for that of others.
    pub fn device_range(&self) -> Option<Range> {
        match &self.backing {
            Backing::Device { range, .. } => Some(*range),
            Backing::Host { .. } | Backing::Peer(_) => None,
        }
    }

    /// Whether it is host memory.
    pub fn is_host(&self) -> bool {
        matches!(self.backing, Backing::Host { .. })
    }

    /// Whose memory it is, if it is not the context's own.
    pub fn owner(&self) -> Option<&Peer> {
        match &self.backing {
            Backing::Peer(peer) => Some(peer),
            Backing::Device { .. } | Backing::Host { .. } => None,
        }
    }

    /// Whether the card may write the segment.
    pub fn writable(&self) -> bool {
        match &self.backing {
            Backing::Device { .. } => true,
            Backing::Host { writable, .. } => *writable,
            Backing::Peer(peer) => peer.writable(),
        }
    }

    /// Whether a DMA range touches the segment's host memory.
    pub fn touches(&self, address: u64, length: u64) -> bool {
        match &self.backing {
            Backing::Device { .. } | Backing::Peer(_) => false,
            Backing::Host { pieces, .. } => {
                let end = address.saturating_add(length);
                pieces.iter().any(|p| {
                    p.address < end && address < p.address.saturating_add(p.range.length as u64)
                })
            }
        }
    }

    /// Whether the commands that use the segment are to stop.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// The longest contiguous run of bytes from an offset on, at most `length`; the offset lies within the segment.
    pub fn run(&self, offset: u64, length: u64) -> Option<Bytes<'_>> {
        let length = length.min(self.length.checked_sub(offset)?);
        match &self.backing {
            Backing::Device { memory, range } => memory.bytes(range.offset + offset, length),
            Backing::Peer(peer) => peer.run(offset, length),
            Backing::Host {
                pieces, writable, ..
            } => {
                let at = pieces
                    .partition_point(|p| p.offset <= offset)
                    .checked_sub(1)?;
                let piece = &pieces[at];
                let within = offset - piece.offset;
                let run = length.min((piece.range.length as u64).checked_sub(within)?);
                // SAFETY: `within + run` lies in the piece, whose mapping `range.keep` holds as long as the segment; nobody makes
                // references to it.
                Some(unsafe {
                    Bytes::new(
                        piece.range.pointer.add(within as usize),
                        run as usize,
                        *writable,
                    )
                })
            }
        }
    }

    /// Begins to use the segment, unless it is revoked. `address` is for the refusal.
    pub fn hold(self: &Arc<Self>, address: u64) -> Result<SegmentUse, SpaceError> {
        // Counted first, then looked: either this sees the revocation, or `is_used` sees this.
        self.users.fetch_add(1, Ordering::SeqCst);
        let mut held = SegmentUse {
            segment: self.clone(),
            peer: None,
        };
        if self.revoked.load(Ordering::SeqCst) {
            let text = format!(
                "{address:#x} is in the allocation {:#x} + {:#x}, which is being freed",
                self.va, self.length
            );
            return Err(SpaceError {
                status: Status::OperandFault,
                text,
                nearest: (self.va, self.length),
            });
        }
        if let Backing::Peer(peer) = &self.backing {
            let peer = peer.hold().map_err(|(status, why)| SpaceError {
                status,
                text: format!("{address:#x}: {why}"),
                nearest: (self.va, self.length),
            })?;
            held.peer = Some(Box::new(peer));
        }
        Ok(held)
    }

    /// Whether commands use the segment.
    pub fn is_used(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Tells the segment's users to stop, and lets nobody use it from here on.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// Waits until nobody uses the segment: `false` if somebody does at `deadline`.
    pub fn wait_unused(&self, deadline: Instant) -> bool {
        while self.is_used() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        true
    }
}
