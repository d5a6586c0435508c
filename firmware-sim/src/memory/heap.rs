//! The allocator of device memory: contiguous ranges, best fit, cleared when they move from one context to another.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::memory::shared::SharedMemory;
use vmlu_abi::Status;

/// Unit of device memory, bytes: what an allocation is rounded up to.
pub const GRANULE: u64 = 64 << 10;
/// Ranges of this length and more begin at a multiple of it, so that hosts can map them with huge pages.
const HUGE: u64 = 2 << 20;

/// The owner of what was there before this firmware booted; no context has this handle.
const UNKNOWN: u64 = u64::MAX;

/// Host memory that the chips of this process may still take.
static BUDGET: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets how much host memory all chips of this process together may take for device memory, bytes. Call before the first allocation.
pub fn set_host_budget(bytes: u64) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// Seven eighths of the host's available memory: the budget when none is set.
pub fn default_host_budget() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"))
        .and_then(|v| v.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    available.map_or(u64::MAX, |kib| kib * 1024 / 8 * 7)
}

fn charge(bytes: u64) -> bool {
    if BUDGET.load(Ordering::Relaxed) == u64::MAX {
        let _ = BUDGET.compare_exchange(
            u64::MAX,
            default_host_budget(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
    BUDGET
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(bytes)
        })
        .is_ok()
}

fn refund(bytes: u64) {
    BUDGET.fetch_add(bytes, Ordering::Relaxed);
}

/// A range of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Offset in device memory.
    pub offset: u64,
    /// Bytes, a multiple of [`GRANULE`].
    pub length: u64,
}

/// What a piece of a range needs before a context gets it.
enum Need {
    /// It never held data: the host is to give its pages, which are zero.
    Pages,
    /// Another context had it.
    Zeroes,
}

/// What is to be done to a range before a context gets it; may take long.
pub struct Preparation {
    memory: Arc<SharedMemory>,
    work: Vec<(Range, Need)>,
}

impl Preparation {
    /// Does it.
    pub fn run(&self) -> io::Result<()> {
        for (range, need) in &self.work {
            match need {
                Need::Pages => self.memory.populate(range.offset, range.length)?,
                Need::Zeroes => self.memory.clear(range.offset, range.length),
            }
        }
        Ok(())
    }
}

/// The allocator of one chip. Not thread-safe: the firmware locks it.
pub struct Heap {
    memory: Arc<SharedMemory>,
    /// Free ranges: offset to length; neighbours are merged.
    free: BTreeMap<u64, u64>,
    total: u64,
    used: u64,
    /// For each granule: 0 if it never held data, else the context that last had it.
    last_owner: Vec<u64>,
}

impl Heap {
    /// A heap over the first `available` bytes of the memory. What an earlier boot, or the host through its window, left there is cleared
    /// before anybody gets it.
    ///
    /// `retired` are offsets of pages (`setting::RETIRED_PAGE`) that nobody gets.
    pub fn new(memory: Arc<SharedMemory>, available: u64, retired: &[u64]) -> Self {
        let total = available.min(memory.len() as u64) / GRANULE * GRANULE;
        let mut last_owner = vec![0; (total / GRANULE) as usize];
        for (offset, length) in memory.populated() {
            let first = ((offset / GRANULE) as usize).min(last_owner.len());
            let last =
                (offset.saturating_add(length).div_ceil(GRANULE) as usize).min(last_owner.len());
            last_owner[first..last].fill(UNKNOWN);
        }
        let mut pages: Vec<u64> = retired.iter().copied().filter(|at| *at < total).collect();
        pages.sort_unstable();
        pages.dedup();
        let mut free = BTreeMap::new();
        let mut from = 0;
        for page in &pages {
            if *page > from {
                free.insert(from, page - from);
            }
            from = page + GRANULE;
        }
        if total > from {
            free.insert(from, total - from);
        }
        let total = total - pages.len() as u64 * GRANULE;
        Self {
            memory,
            free,
            total,
            used: 0,
            last_owner,
        }
    }

    /// Bytes that can be allocated in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes allocated.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Allocates at least `length` bytes for a context. The memory is there on the host, and zero if another context had it or nobody. In one
    /// go, as tests want it: [`Heap::reserve`], [`Preparation::run`], [`Heap::commit`].
    #[cfg(test)]
    fn allocate(&mut self, length: u64, owner: u64) -> Result<Range, (Status, String)> {
        let (range, preparation) = self.reserve(length, owner)?;
        preparation.run().unwrap();
        self.commit(range, owner);
        Ok(range)
    }

    /// Takes a range of at least `length` bytes, and tells what is to be done before a context gets it. [`Heap::commit`] or
    /// [`Heap::release`] follows.
    pub fn reserve(
        &mut self,
        length: u64,
        owner: u64,
    ) -> Result<(Range, Preparation), (Status, String)> {
        let length = length
            .checked_next_multiple_of(GRANULE)
            .filter(|l| *l > 0)
            .ok_or_else(|| {
                (
                    Status::InvalidArgument,
                    format!("{length} bytes cannot be allocated"),
                )
            })?;
        let align = if length >= HUGE { HUGE } else { GRANULE };
        let fits = |offset: u64, size: u64| {
            let start = offset.next_multiple_of(align);
            (start - offset <= size && size - (start - offset) >= length).then_some(start)
        };
        let best = self
            .free
            .iter()
            .filter_map(|(o, s)| fits(*o, *s).map(|start| (*s, *o, start)))
            .min_by_key(|(size, offset, _)| (*size, *offset));
        let Some((size, offset, start)) = best else {
            let largest = self.free.values().max().copied().unwrap_or(0);
            let text = format!(
                "{length} bytes do not fit: {} are free, {largest} of them in one piece",
                self.total - self.used
            );
            return Err((Status::OutOfDeviceMemory, text));
        };
        if !charge(length) {
            let text = format!("the host has no {length} bytes left for device memory");
            return Err((Status::OutOfHostMemory, text));
        }
        let range = Range {
            offset: start,
            length,
        };
        self.free.remove(&offset);
        if start > offset {
            self.free.insert(offset, start - offset);
        }
        if offset + size > start + length {
            self.free
                .insert(start + length, offset + size - start - length);
        }
        self.used += length;
        Ok((range, self.preparation(range, owner)))
    }

    fn granules(range: Range) -> std::ops::Range<usize> {
        (range.offset / GRANULE) as usize..((range.offset + range.length) / GRANULE) as usize
    }

    fn preparation(&self, range: Range, owner: u64) -> Preparation {
        let Range { offset: mut at, .. } = range;
        let runs = self.last_owner[Self::granules(range)].chunk_by(|a, b| a == b);
        let work = runs.filter_map(|run| {
            let piece = Range {
                offset: at,
                length: run.len() as u64 * GRANULE,
            };
            at += piece.length;
            match run[0] {
                0 => Some((piece, Need::Pages)),
                old if old != owner => Some((piece, Need::Zeroes)),
                _ => None,
            }
        });
        Preparation {
            work: work.collect(),
            memory: self.memory.clone(),
        }
    }

    /// The range that was reserved is prepared: it is the owner's now.
    pub fn commit(&mut self, range: Range, owner: u64) {
        self.last_owner[Self::granules(range)].fill(owner);
    }

    /// Takes a range back. Its pages stay with the chip for the next allocation.
    pub fn release(&mut self, range: Range) {
        self.used -= range.length;
        refund(range.length);
        let (mut offset, mut length) = (range.offset, range.length);
        if let Some((before, size)) = self.free.range(..offset).next_back().map(|(o, s)| (*o, *s))
            && before + size == offset
        {
            self.free.remove(&before);
            offset = before;
            length += size;
        }
        if let Some(size) = self.free.remove(&(range.offset + range.length)) {
            length += size;
        }
        self.free.insert(offset, length);
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        refund(self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap(megabytes: u64) -> Heap {
        Heap::new(
            Arc::new(SharedMemory::new("test", megabytes << 20).unwrap()),
            megabytes << 20,
            &[],
        )
    }

    #[test]
    fn what_an_earlier_boot_left_is_cleared() {
        let memory = Arc::new(SharedMemory::new("test", 8 << 20).unwrap());
        memory
            .bytes(0, 8 << 20)
            .unwrap()
            .slice((3 << 20) + 5, 3)
            .unwrap()
            .copy_from(b"old");
        let mut heap = Heap::new(memory.clone(), 8 << 20, &[]);
        let range = heap.allocate(8 << 20, 1).unwrap();
        let mut data = vec![1; 8 << 20];
        memory
            .bytes(range.offset, range.length)
            .unwrap()
            .copy_to(&mut data);
        assert!(data.iter().all(|b| *b == 0));
    }

    #[test]
    fn ranges_do_not_overlap_and_merge_again() {
        let mut heap = heap(16);
        let ranges: Vec<Range> = (1..20)
            .map(|i| heap.allocate(i * 10_000, 1).unwrap())
            .collect();
        for (i, a) in ranges.iter().enumerate() {
            for b in &ranges[..i] {
                assert!(a.offset + a.length <= b.offset || b.offset + b.length <= a.offset);
            }
        }
        for r in ranges
            .iter()
            .step_by(2)
            .chain(ranges.iter().skip(1).step_by(2))
        {
            heap.release(*r);
        }
        assert_eq!((heap.used(), heap.free.len()), (0, 1));
    }

    #[test]
    fn memory_is_zero_when_it_changes_hands() {
        let mut heap = heap(4);
        let mine = heap.allocate(1 << 20, 1).unwrap();
        assert!(heap
            .memory
            .bytes(mine.offset, 4)
            .unwrap()
            .write(0, 0x1234_5678_u32));
        heap.release(mine);
        let again = heap.allocate(1 << 20, 1).unwrap();
        assert_eq!(
            heap.memory.bytes(again.offset, 4).unwrap().read::<u32>(0),
            Some(0x1234_5678)
        );
        heap.release(again);
        let other = heap.allocate(1 << 20, 2).unwrap();
        assert_eq!(
            heap.memory.bytes(other.offset, 4).unwrap().read::<u32>(0),
            Some(0)
        );
    }

    #[test]
    fn refusals_say_what_is_left() {
        let mut heap = heap(4);
        let (status, text) = heap.allocate(5 << 20, 1).unwrap_err();
        assert_eq!(status, Status::OutOfDeviceMemory);
        assert!(text.contains("4194304 are free"), "{text}");
        assert_eq!(heap.allocate(0, 1).unwrap_err().0, Status::InvalidArgument);
        assert_eq!(
            heap.allocate(u64::MAX, 1).unwrap_err().0,
            Status::InvalidArgument
        );
    }

    #[test]
    fn nobody_gets_a_retired_page() {
        let memory = Arc::new(SharedMemory::new("test", 1 << 20).unwrap());
        let retired = [3 * GRANULE, 0, 3 * GRANULE, 1 << 30];
        let mut heap = Heap::new(memory, 8 * GRANULE, &retired);
        assert_eq!(heap.total(), 6 * GRANULE);
        let mut offsets = Vec::new();
        while let Ok(range) = heap.allocate(GRANULE, 1) {
            offsets.push(range.offset / GRANULE);
        }
        offsets.sort_unstable();
        assert_eq!(offsets, [1, 2, 4, 5, 6, 7]);
    }
}
