//! A context's address space: a sorted table of segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use vmlu_abi::Status;

pub use super::segment::{PieceCharge, Segment, SegmentUse, REVOKE_LIMIT};

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
            .filter(|s| s.is_host() != device)
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
                None if s.is_host() => (device, host + s.length),
                // Charged to its owner.
                None => (device, host),
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
                let above = self.segments.range(address..).next().map(|(_, s)| s);
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
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::memory::heap::Range;
    use crate::memory::shared::SharedMemory;

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
