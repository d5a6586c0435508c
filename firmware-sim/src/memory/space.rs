//! A context's address space: a sorted table of segments.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmlu_abi::Status;

use crate::hardware::HostRange;
use crate::memory::bytes::Bytes;
use crate::memory::heap::Range;
use crate::memory::shared::SharedMemory;

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
    /// Commands that use it.
    users: AtomicUsize,
}

/// A command's hold on a segment: its memory stays the context's until this is dropped.
pub struct SegmentUse(Arc<Segment>);

impl SegmentUse {
    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.0
    }
}

impl std::ops::Deref for SegmentUse {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.0
    }
}

impl Drop for SegmentUse {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
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

    /// The device memory that backs the segment; `None` for host memory.
    pub fn device_range(&self) -> Option<Range> {
        match &self.backing {
            Backing::Device { range, .. } => Some(*range),
            Backing::Host { .. } => None,
        }
    }

    /// Whether the card may write the segment.
    pub fn writable(&self) -> bool {
        match &self.backing {
            Backing::Device { .. } => true,
            Backing::Host { writable, .. } => *writable,
        }
    }

    /// Whether a DMA range touches the segment's host memory.
    pub fn touches(&self, address: u64, length: u64) -> bool {
        match &self.backing {
            Backing::Device { .. } => false,
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
        let held = SegmentUse(self.clone());
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

/// Why an address range was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct SpaceError {
    /// Kind of refusal.
    pub status: Status,
    /// What was wrong, for people.
    pub text: String,
    /// Start and length of the nearest segment; zero if there is none.
    pub nearest: (u64, u64),
}

/// The table.
#[derive(Default)]
pub struct Space {
    segments: BTreeMap<u64, Arc<Segment>>,
    /// The context has ended: nothing is added any more.
    closed: bool,
}

impl Space {
    /// Whether a range is free and sane.
    pub fn check_free(&self, va: u64, length: u64) -> Result<(), SpaceError> {
        let refuse = |status, text, nearest| {
            Err(SpaceError {
                status,
                text,
                nearest,
            })
        };
        if self.closed {
            return refuse(
                Status::ContextStopped,
                "the context has ended".into(),
                (0, 0),
            );
        }
        let Some(end) = va.checked_add(length).filter(|_| length > 0 && va > 0) else {
            return refuse(
                Status::InvalidArgument,
                format!("the range {va:#x} + {length:#x} is empty or leaves the address space"),
                (0, 0),
            );
        };
        match self.segments.range(..end).next_back() {
            Some((start, s)) if start + s.length > va => refuse(
                Status::AddressInUse,
                format!(
                    "{va:#x} + {length:#x} overlaps the mapping {start:#x} + {:#x}",
                    s.length
                ),
                (*start, s.length),
            ),
            _ => Ok(()),
        }
    }

    /// Adds a segment whose range was checked.
    pub fn insert(&mut self, segment: Segment) {
        self.segments.insert(segment.va, Arc::new(segment));
    }

    /// The segment that begins at an address, if it is of the kind asked for.
    pub fn at(&self, va: u64, device: bool) -> Option<Arc<Segment>> {
        self.segments
            .get(&va)
            .filter(|s| s.device_range().is_some() == device)
            .cloned()
    }

    /// Takes out a segment; `false` if it is not there any more.
    pub fn remove(&mut self, segment: &Arc<Segment>) -> bool {
        let there = self
            .segments
            .get(&segment.va)
            .is_some_and(|s| Arc::ptr_eq(s, segment));
        if there {
            self.segments.remove(&segment.va);
        }
        there
    }

    /// All segments whose host memory a DMA range touches.
    pub fn host_at(&self, address: u64, length: u64) -> Vec<Arc<Segment>> {
        self.segments
            .values()
            .filter(|s| s.touches(address, length))
            .cloned()
            .collect()
    }

    /// Lets nothing in any more; all that is there.
    pub fn close(&mut self) -> Vec<Arc<Segment>> {
        self.closed = true;
        self.segments.values().cloned().collect()
    }

    /// All segments.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.values()
    }

    /// Device memory and host memory mapped, bytes.
    pub fn totals(&self) -> (u64, u64) {
        self.segments
            .values()
            .fold((0, 0), |(device, host), s| match s.device_range() {
                Some(range) => (device + range.length, host),
                None => (device, host + s.length),
            })
    }

    /// The segment in which `address + length` lies wholly.
    pub fn find(
        &self,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<&Arc<Segment>, SpaceError> {
        let below = self.segments.range(..=address).next_back().map(|(_, s)| s);
        let above = self.segments.range(address..).next().map(|(_, s)| s);
        let name = |s: &Arc<Segment>| (s.va, s.length);
        let refuse = |text: String, nearest| {
            Err(SpaceError {
                status: Status::OperandFault,
                text,
                nearest,
            })
        };
        let Some(end) = address.checked_add(length) else {
            return refuse(
                format!("{address:#x} + {length:#x} leaves the address space"),
                (0, 0),
            );
        };
        match below {
            Some(s) if address < s.va + s.length => {
                if end > s.va + s.length {
                    let text = format!(
                        "{address:#x} + {length:#x} goes beyond its allocation {:#x} + {:#x}",
                        s.va, s.length
                    );
                    return refuse(text, name(s));
                }
                if write && !s.writable() {
                    let text = format!("{address:#x} is in the allocation {:#x} + {:#x}, which the card may not write", s.va, s.length);
                    return refuse(text, name(s));
                }
                Ok(s)
            }
            _ => {
                let gap = |s: &Arc<Segment>| {
                    if s.va > address {
                        s.va - address
                    } else {
                        address - (s.va + s.length)
                    }
                };
                let nearest = below
                    .into_iter()
                    .chain(above)
                    .min_by_key(|s| gap(s))
                    .map_or((0, 0), name);
                refuse(
                    format!("{address:#x} + {length:#x} is not in any allocation of this context"),
                    nearest,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> (Space, Arc<SharedMemory>) {
        let memory = Arc::new(SharedMemory::new("test", 1 << 20).unwrap());
        let mut space = Space::default();
        for (va, offset, length) in [
            (0x1000, 0, 0x1000),
            (0x2000, 0x4000, 0x800),
            (0x8000, 0x8000, 0x1000),
        ] {
            space.insert(Segment::device(
                va,
                length,
                va,
                memory.clone(),
                Range { offset, length },
            ));
        }
        (space, memory)
    }

    #[test]
    fn an_operand_lies_in_one_allocation() {
        let (space, _memory) = space();
        assert_eq!(space.find(0x1000, 0x1000, true).map(|s| s.va), Ok(0x1000));
        for (address, length, nearest) in [
            (0x1800, 0x1000, 0x1000),
            (0x2800, 8, 0x2000),
            (0x7ff8, 8, 0x8000),
            (0x10, 8, 0x1000),
            (0x9000, 1, 0x8000),
        ] {
            let error = space
                .find(address, length, false)
                .map(|s| s.va)
                .unwrap_err();
            assert_eq!(
                (error.status, error.nearest.0),
                (Status::OperandFault, nearest),
                "{address:#x}"
            );
        }
        assert!(space.find(u64::MAX - 4, 8, false).is_err());
    }

    #[test]
    fn overlaps_are_refused() {
        let (space, _memory) = space();
        for (va, length) in [(0x1000, 1), (0x1fff, 2), (0x800, 0x801), (0x500, 0x10000)] {
            assert_eq!(
                space.check_free(va, length).unwrap_err().status,
                Status::AddressInUse,
                "{va:#x}"
            );
        }
        assert_eq!(
            space.check_free(u64::MAX, 2).unwrap_err().status,
            Status::InvalidArgument
        );
        assert_eq!(
            space.check_free(0x3000, 0).unwrap_err().status,
            Status::InvalidArgument
        );
        assert!(space.check_free(0x3000, 0x5000).is_ok());
    }

    #[test]
    fn revocation_waits_for_users() {
        let (mut space, _memory) = space();
        let segment = space.at(0x1000, true).unwrap();
        let user = segment.hold(0x1000).unwrap();
        let soon = || Instant::now() + Duration::from_millis(5);
        segment.revoke();
        assert!(user.is_revoked() && !segment.wait_unused(soon()));
        assert_eq!(
            segment.hold(0x1234).err().map(|e| e.status),
            Some(Status::OperandFault)
        );
        assert!(space.check_free(0x1000, 0x1000).is_err());
        drop(user);
        assert!(segment.wait_unused(soon()));
        assert!(space.remove(&segment) && !space.remove(&segment));
        assert!(space.at(0x2000, false).is_none());
    }

    #[test]
    fn a_closed_space_takes_nothing() {
        let (mut space, _memory) = space();
        assert_eq!(space.close().len(), 3);
        assert_eq!(
            space.check_free(0x3000, 0x1000).unwrap_err().status,
            Status::ContextStopped
        );
    }

    #[test]
    fn pieces_are_counted() {
        let counter = Arc::new(AtomicU64::new(0));
        let (mut a, mut b) = (
            PieceCharge::new(counter.clone()),
            PieceCharge::new(counter.clone()),
        );
        assert!(a.add(3) && a.add(3) && b.add(3) && !b.add(3) && !a.add(3));
        drop(a);
        assert!(b.add(3) && b.add(3));
        drop(b);
        assert_eq!(counter.load(Ordering::Relaxed), 0);
    }
}
