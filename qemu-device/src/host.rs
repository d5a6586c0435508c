//! Host memory that a chip can reach: a table from DMA addresses to memory of this process.

use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock};

use vmlu_firmware::hardware::HostRange;

/// Contiguous memory behind a range of DMA addresses.
#[derive(Clone)]
pub struct HostRegion {
    /// First DMA address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// First byte, in this process.
    pub pointer: *mut u8,
    /// Whether the card may write it.
    pub writable: bool,
    /// Keeps the memory alive and mapped.
    pub keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the pointer names plain memory that `keep` holds mapped; any thread may use it through bounds-checked raw accesses.
unsafe impl Send for HostRegion {}
// SAFETY: as for `Send`.
unsafe impl Sync for HostRegion {}

impl HostRegion {
    /// Address behind the last byte. Regions in a table never overflow.
    fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// A region that cannot enter a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// It is empty, or its end overflows an address.
    Invalid,
    /// It overlaps the region that begins at this address.
    Overlap(u64),
}

/// The regions of a chip, sorted by address and without overlap.
#[derive(Default)]
pub struct HostTable {
    // Readers hold the lock for one binary search and one clone; writers come only when the host maps or unmaps.
    regions: RwLock<Vec<HostRegion>>,
}

impl HostTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a region.
    ///
    /// # Safety
    ///
    /// `pointer` must be valid for reads (and writes, if `writable`) of `length` bytes as long as `keep` lives, or until the region was
    /// removed and every [`HostRange`] given out for it is gone; no Rust reference to the bytes may exist meanwhile.
    pub unsafe fn insert(&self, region: HostRegion) -> Result<(), InsertError> {
        if region.length == 0
            || usize::try_from(region.length).is_err()
            || region.address.checked_add(region.length).is_none()
        {
            return Err(InsertError::Invalid);
        }
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let at = regions.partition_point(|r| r.end() <= region.address);
        if let Some(next) = regions.get(at).filter(|next| next.address < region.end()) {
            return Err(InsertError::Overlap(next.address));
        }
        regions.insert(at, region);
        Ok(())
    }

    /// Takes out every region that touches the range, and returns them. New translations fail from here on; ranges given out before stay
    /// valid as long as they are held.
    pub fn remove(&self, address: u64, length: u64) -> Vec<HostRegion> {
        let end = address.saturating_add(length);
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let first = regions.partition_point(|r| r.end() <= address);
        let last = regions.partition_point(|r| r.address < end);
        if first >= last {
            return Vec::new();
        }
        regions.drain(first..last).collect()
    }

    /// Takes out everything.
    pub fn clear(&self) -> Vec<HostRegion> {
        std::mem::take(&mut *self.regions.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Regions in the table.
    pub fn len(&self) -> usize {
        self.regions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all regions.
    pub fn bytes(&self) -> u64 {
        self.regions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|r| r.length)
            .sum()
    }

    /// The memory behind a range; `None` unless one region holds all of it, and allows writing if that is asked. An empty range has none.
    pub fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange> {
        let end = address.checked_add(length)?;
        let bytes = usize::try_from(length).ok().filter(|n| *n != 0)?;
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let region = regions.get(regions.partition_point(|r| r.end() <= address))?;
        if region.address > address || region.end() < end || (write && !region.writable) {
            return None;
        }
        let offset = usize::try_from(address - region.address).ok()?;
        Some(HostRange {
            pointer: region.pointer.wrapping_add(offset),
            length: bytes,
            writable: region.writable,
            keep: region.keep.clone(),
        })
    }

    /// Copies from DMA addresses into private memory, across adjacent regions; `false` if a part is not mapped.
    pub fn read(&self, address: u64, to: &mut [u8]) -> bool {
        let mut done = 0usize;
        while done < to.len() {
            let Some(at) = address.checked_add(done as u64) else {
                return false;
            };
            let Some(piece) = self.piece(at, to.len() - done) else {
                return false;
            };
            let part = &mut to[done..done + piece.length];
            // SAFETY: the piece is valid for reads of its length while `keep` is held; `part` is private memory of the same length.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.pointer, part.as_mut_ptr(), piece.length);
            }
            done += piece.length;
        }
        true
    }

    /// The longest piece at an address, up to `most` bytes, that one region holds.
    fn piece(&self, address: u64, most: usize) -> Option<HostRange> {
        let length = {
            let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
            let region = regions.get(regions.partition_point(|r| r.end() <= address))?;
            if region.address > address {
                return None;
            }
            (region.end() - address).min(most as u64)
        };
        self.translate(address, length, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A region over private memory, filled with one byte.
    fn region(address: u64, length: usize, fill: u8, writable: bool) -> HostRegion {
        let mut memory = vec![fill; length].into_boxed_slice();
        HostRegion {
            address,
            length: length as u64,
            pointer: memory.as_mut_ptr(),
            writable,
            keep: Arc::new(memory),
        }
    }

    fn insert(table: &HostTable, region: HostRegion) -> Result<(), InsertError> {
        // SAFETY: `keep` owns the memory, and the tests access it through the table alone.
        unsafe { table.insert(region) }
    }

    #[test]
    fn a_range_must_lie_in_one_region() {
        let table = HostTable::new();
        insert(&table, region(0x1000, 0x1000, 1, true)).unwrap();
        insert(&table, region(0x2000, 0x1000, 2, false)).unwrap();
        assert!(table.translate(0x1000, 0x1000, true).is_some());
        assert!(table.translate(0x1fff, 2, false).is_none());
        assert!(table.translate(0x2000, 1, true).is_none());
        assert!(table.translate(0x2000, 1, false).is_some());
        assert!(table.translate(0xfff, 2, false).is_none());
        assert!(table.translate(0x2fff, 2, false).is_none());
        assert!(table.translate(u64::MAX, 2, false).is_none());
        assert!(table.translate(0x1000, 0, false).is_none());
    }

    #[test]
    fn a_copy_goes_across_adjacent_regions_and_stops_at_a_hole() {
        let table = HostTable::new();
        insert(&table, region(0x1000, 4, 1, true)).unwrap();
        insert(&table, region(0x1004, 4, 2, false)).unwrap();
        let mut to = [0u8; 6];
        assert!(table.read(0x1001, &mut to));
        assert_eq!(to, [1, 1, 1, 2, 2, 2]);
        assert!(!table.read(0x1003, &mut to));
        assert!(!table.read(u64::MAX - 1, &mut to));
    }

    #[test]
    fn overlap_and_overflow_are_refused() {
        let table = HostTable::new();
        insert(&table, region(0x1000, 0x1000, 0, true)).unwrap();
        for (address, length) in [(0x1000, 1), (0xfff, 2), (0x1fff, 1), (0x800, 0x2000)] {
            assert_eq!(
                insert(&table, region(address, length, 0, true)),
                Err(InsertError::Overlap(0x1000))
            );
        }
        assert_eq!(
            insert(&table, region(u64::MAX, 2, 0, true)),
            Err(InsertError::Invalid)
        );
        assert_eq!(
            insert(&table, region(0x5000, 0, 0, true)),
            Err(InsertError::Invalid)
        );
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_list(
            steps in proptest::collection::vec((0u64..64, 1u64..16, any::<bool>()), 1..60),
            asks in proptest::collection::vec((0u64..80, 0u64..20, any::<bool>()), 1..40),
        ) {
            let table = HostTable::new();
            let mut list: Vec<(u64, u64, bool)> = Vec::new();
            for (i, (address, length, flag)) in steps.into_iter().enumerate() {
                if i % 3 == 2 {
                    let before = list.len();
                    list.retain(|(a, l, _)| a + l <= address || *a >= address + length);
                    prop_assert_eq!(table.remove(address, length).len(), before - list.len());
                } else {
                    let free = list.iter().all(|(a, l, _)| a + l <= address || *a >= address + length);
                    let took = insert(&table, region(address, length as usize, i as u8, flag)).is_ok();
                    prop_assert_eq!(took, free);
                    if took {
                        list.push((address, length, flag));
                    }
                }
            }
            for (address, length, write) in asks {
                let want = length > 0 && list.iter().any(|(a, l, w)| {
                    *a <= address && address + length <= a + l && (*w || !write)
                });
                prop_assert_eq!(table.translate(address, length, write).is_some(), want);
            }
            prop_assert_eq!(table.clear().len(), list.len());
            prop_assert!(table.is_empty());
        }
    }
}
