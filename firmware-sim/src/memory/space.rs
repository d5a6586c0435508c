//! A context's address space: a sorted table of segments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu_abi::Status;

use crate::hardware::HostRange;
use crate::memory::bytes::Bytes;
use crate::memory::heap::Range;
use crate::memory::shared::SharedMemory;

/// How long a segment's users get to end once it is revoked: they look at their cancel flag each millisecond.
pub const REVOKE_LIMIT: Duration = Duration::from_millis(50);

/// Where a segment's bytes are.
enum Backing {
    /// Device memory.
    Device { memory: Arc<SharedMemory>, range: Range },
    /// Host memory in pieces, sorted by their offset in the segment.
    Host { pieces: Vec<Piece>, writable: bool },
}

struct Piece {
    offset: u64,
    address: u64,
    range: HostRange,
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
}

impl Segment {
    /// A segment of device memory.
    pub fn device(va: u64, length: u64, allocation: u64, memory: Arc<SharedMemory>, range: Range) -> Self {
        Self { va, length, allocation, backing: Backing::Device { memory, range }, revoked: AtomicBool::new(false) }
    }

    /// A segment of host memory: pieces in order, with their DMA addresses.
    pub fn host(va: u64, length: u64, allocation: u64, ranges: Vec<(u64, HostRange)>, writable: bool) -> Self {
        let mut offset = 0;
        let pieces = ranges
            .into_iter()
            .map(|(address, range)| {
                let piece = Piece { offset, address, range };
                offset += piece.range.length as u64;
                piece
            })
            .collect();
        Self { va, length, allocation, backing: Backing::Host { pieces, writable }, revoked: AtomicBool::new(false) }
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
                pieces.iter().any(|p| p.address < address.saturating_add(length) && address < p.address + p.range.length as u64)
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
            Backing::Host { pieces, writable } => {
                let at = pieces.partition_point(|p| p.offset <= offset).checked_sub(1)?;
                let piece = &pieces[at];
                let within = offset - piece.offset;
                let run = length.min((piece.range.length as u64).checked_sub(within)?);
                // SAFETY: `within + run` lies in the piece, whose mapping `range.keep` holds as long as the segment; nobody makes
                // references to it.
                Some(unsafe { Bytes::new(piece.range.pointer.add(within as usize), run as usize, *writable) })
            }
        }
    }

    /// Tells the segment's users to stop and waits until they did: `false` if some are left after [`REVOKE_LIMIT`].
    pub fn revoke(self: &Arc<Self>) -> bool {
        self.revoked.store(true, Ordering::SeqCst);
        let start = Instant::now();
        while Arc::strong_count(self) > 1 {
            if start.elapsed() > REVOKE_LIMIT {
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
}

impl Space {
    /// Whether a range is free and sane.
    pub fn check_free(&self, va: u64, length: u64) -> Result<(), SpaceError> {
        let refuse = |status, text, nearest| Err(SpaceError { status, text, nearest });
        let Some(end) = va.checked_add(length).filter(|_| length > 0 && va > 0) else {
            return refuse(Status::InvalidArgument, format!("the range {va:#x} + {length:#x} is empty or leaves the address space"), (0, 0));
        };
        match self.segments.range(..end).next_back() {
            Some((start, s)) if start + s.length > va => refuse(
                Status::AddressInUse,
                format!("{va:#x} + {length:#x} overlaps the mapping {start:#x} + {:#x}", s.length),
                (*start, s.length),
            ),
            _ => Ok(()),
        }
    }

    /// Adds a segment whose range was checked.
    pub fn insert(&mut self, segment: Segment) {
        self.segments.insert(segment.va, Arc::new(segment));
    }

    /// Takes out the segment that begins at an address, if it is of the kind asked for.
    pub fn remove(&mut self, va: u64, device: bool) -> Option<Arc<Segment>> {
        if self.segments.get(&va)?.device_range().is_some() != device {
            return None;
        }
        self.segments.remove(&va)
    }

    /// Puts a segment back that could not be revoked.
    pub fn restore(&mut self, segment: Arc<Segment>) {
        self.segments.insert(segment.va, segment);
    }

    /// Takes out all segments whose host memory a DMA range touches.
    pub fn remove_host(&mut self, address: u64, length: u64) -> Vec<Arc<Segment>> {
        let keys: Vec<u64> = self.segments.values().filter(|s| s.touches(address, length)).map(|s| s.va).collect();
        keys.into_iter().filter_map(|k| self.segments.remove(&k)).collect()
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> Vec<Arc<Segment>> {
        std::mem::take(&mut self.segments).into_values().collect()
    }

    /// Device memory and host memory mapped, bytes.
    pub fn totals(&self) -> (u64, u64) {
        self.segments.values().fold((0, 0), |(device, host), s| match s.device_range() {
            Some(range) => (device + range.length, host),
            None => (device, host + s.length),
        })
    }

    /// The segment in which `address + length` lies wholly.
    pub fn find(&self, address: u64, length: u64, write: bool) -> Result<&Arc<Segment>, SpaceError> {
        let below = self.segments.range(..=address).next_back().map(|(_, s)| s);
        let above = self.segments.range(address..).next().map(|(_, s)| s);
        let name = |s: &Arc<Segment>| (s.va, s.length);
        let refuse = |text: String, nearest| Err(SpaceError { status: Status::OperandFault, text, nearest });
        let Some(end) = address.checked_add(length) else {
            return refuse(format!("{address:#x} + {length:#x} leaves the address space"), (0, 0));
        };
        match below {
            Some(s) if address < s.va + s.length => {
                if end > s.va + s.length {
                    let text = format!("{address:#x} + {length:#x} goes beyond its allocation {:#x} + {:#x}", s.va, s.length);
                    return refuse(text, name(s));
                }
                if write && !s.writable() {
                    let text = format!("{address:#x} is in the allocation {:#x} + {:#x}, which the card may not write", s.va, s.length);
                    return refuse(text, name(s));
                }
                Ok(s)
            }
            _ => {
                let gap = |s: &Arc<Segment>| if s.va > address { s.va - address } else { address - (s.va + s.length) };
                let nearest = below.into_iter().chain(above).min_by_key(|s| gap(s)).map_or((0, 0), name);
                refuse(format!("{address:#x} + {length:#x} is not in any allocation of this context"), nearest)
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
        for (va, offset, length) in [(0x1000, 0, 0x1000), (0x2000, 0x4000, 0x800), (0x8000, 0x8000, 0x1000)] {
            space.insert(Segment::device(va, length, va, memory.clone(), Range { offset, length }));
        }
        (space, memory)
    }

    #[test]
    fn an_operand_lies_in_one_allocation() {
        let (space, _memory) = space();
        assert_eq!(space.find(0x1000, 0x1000, true).map(|s| s.va), Ok(0x1000));
        for (address, length, nearest) in
            [(0x1800, 0x1000, 0x1000), (0x2800, 8, 0x2000), (0x7ff8, 8, 0x8000), (0x10, 8, 0x1000), (0x9000, 1, 0x8000)]
        {
            let error = space.find(address, length, false).map(|s| s.va).unwrap_err();
            assert_eq!((error.status, error.nearest.0), (Status::OperandFault, nearest), "{address:#x}");
        }
        assert!(space.find(u64::MAX - 4, 8, false).is_err());
    }

    #[test]
    fn overlaps_are_refused() {
        let (space, _memory) = space();
        for (va, length) in [(0x1000, 1), (0x1fff, 2), (0x800, 0x801), (0x500, 0x10000)] {
            assert_eq!(space.check_free(va, length).unwrap_err().status, Status::AddressInUse, "{va:#x}");
        }
        assert_eq!(space.check_free(u64::MAX, 2).unwrap_err().status, Status::InvalidArgument);
        assert_eq!(space.check_free(0x3000, 0).unwrap_err().status, Status::InvalidArgument);
        assert!(space.check_free(0x3000, 0x5000).is_ok());
    }

    #[test]
    fn revocation_waits_for_users() {
        let (mut space, _memory) = space();
        let user = space.find(0x1000, 8, false).unwrap().clone();
        let segment = space.remove(0x1000, true).unwrap();
        assert!(!segment.revoke());
        assert!(user.is_revoked());
        drop(user);
        assert!(segment.revoke());
    }
}
