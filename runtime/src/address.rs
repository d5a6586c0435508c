//! Device addresses: ranges of this process's address space that are reserved and never used by anything else, so that an address names
//! one allocation of one device.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use vmlu_abi::Status;

use crate::error::{Error, Result};
use crate::transport::sys::Reservation;

/// Addresses of a context: more than a chip has memory, so that pinned memory and gaps fit too.
const RESERVED: [usize; 3] = [128 << 30, 32 << 30, 4 << 30];

/// Bytes of a block that the processor maps as one.
const BLOCK: u64 = 2 << 20;

/// The addresses of one context.
pub(crate) struct AddressRange {
    reservation: Reservation,
    length: u64,
    granule: u64,
    state: Mutex<State>,
}

struct State {
    /// Free ranges: start to length.
    free: BTreeMap<u64, u64>,
    used: BTreeMap<u64, u64>,
}

impl AddressRange {
    /// Reserves addresses; takes a smaller range where the process may not have a large one.
    pub(crate) fn new(granule: u64) -> Result<Self> {
        let mut last = None;
        for length in RESERVED {
            match Reservation::new(length) {
                Ok(reservation) => {
                    let start = reservation.start().next_multiple_of(granule);
                    let end = (reservation.start() + length as u64) / granule * granule;
                    let state = State {
                        free: BTreeMap::from([(start, end - start)]),
                        used: BTreeMap::new(),
                    };
                    return Ok(Self {
                        reservation,
                        length: length as u64,
                        granule,
                        state: Mutex::new(state),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.unwrap_or_else(|| std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        Err(Error::system(
            "open a context",
            "cannot reserve 4 GiB of addresses; check `ulimit -v`",
            error,
        ))
    }

    /// Whether an address is in the range, used or not.
    pub(crate) fn has(&self, address: u64) -> bool {
        let start = self.reservation.start();
        address >= start && address - start < self.length
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a range of whole granules, with one unused granule behind it, so that what runs over an end hits nothing.
    pub(crate) fn take(&self, length: u64) -> Result<u64> {
        let wanted = length
            .checked_next_multiple_of(self.granule)
            .and_then(|l| l.checked_add(self.granule));
        // Large mappings begin where the processor can map blocks.
        let align = if length >= BLOCK { BLOCK } else { self.granule };
        let mut state = self.state();
        let found = wanted.and_then(|wanted| {
            state.free.iter().find_map(|(first, length)| {
                let start = first.checked_next_multiple_of(align)?;
                let left = length.checked_sub(start - first)?.checked_sub(wanted)?;
                Some((*first, start, left, wanted))
            })
        });
        let Some((first, start, left, wanted)) = found else {
            return Err(Error::new(
                "allocate memory",
                Status::OutOfResources,
                format!("no address range of {length} bytes is left"),
            ));
        };
        state.free.remove(&first);
        if start > first {
            state.free.insert(first, start - first);
        }
        if left > 0 {
            state.free.insert(start + wanted, left);
        }
        state.used.insert(start, wanted);
        Ok(start)
    }

    /// Gives a range back.
    pub(crate) fn give_back(&self, start: u64) {
        let mut state = self.state();
        let Some(mut length) = state.used.remove(&start) else {
            return;
        };
        let mut start = start;
        if let Some(next) = state.free.remove(&(start + length)) {
            length += next;
        }
        let before = state.free.range(..start).next_back().map(|(s, l)| (*s, *l));
        if let Some((before, size)) = before
            && before + size == start
        {
            state.free.remove(&before);
            start = before;
            length += size;
        }
        state.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back() {
        let range = AddressRange::new(65536).unwrap();
        let all = range.state().free.clone();
        let taken: Vec<u64> = (1..50).map(|i| range.take(i * 1000).unwrap()).collect();
        for (i, a) in taken.iter().enumerate() {
            assert!(
                taken[..i].iter().all(|b| a.abs_diff(*b) >= 2 * 65536),
                "no gap"
            );
        }
        taken
            .iter()
            .rev()
            .step_by(2)
            .chain(taken.iter().rev().skip(1).step_by(2))
            .for_each(|a| range.give_back(*a));
        assert_eq!(range.state().free, all);
        assert!(range.take(u64::MAX).is_err());
    }

    #[test]
    fn large_ranges_begin_at_a_block() {
        let range = AddressRange::new(65536).unwrap();
        let all = range.state().free.clone();
        let lengths = [65536, BLOCK, 3 * BLOCK + 1, 1, BLOCK - 1, 1 << 30];
        let taken: Vec<u64> = lengths.iter().map(|l| range.take(*l).unwrap()).collect();
        for (start, length) in taken.iter().zip(lengths) {
            assert!(length < BLOCK || start.is_multiple_of(BLOCK), "{length:#x}");
        }
        taken.iter().for_each(|start| range.give_back(*start));
        assert_eq!(range.state().free, all);
    }
}
