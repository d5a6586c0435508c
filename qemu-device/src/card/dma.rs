//! Guest memory: what the hypervisor maps for the card.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::mm::{mmap, mmap_anonymous, munmap, MapFlags, ProtFlags};
use vmlu_firmware::hardware::HostRange;

use crate::host::{HostRegion, HostTable, InsertError};
use crate::lock::lock;

/// Most regions of a chip. A guest has some ten; the kernel allows 65,530 mappings in all of the process.
pub const MAX_REGIONS: usize = 1024;
/// How long taking a region back waits for those who use it.
const REVOKE_WAIT: Duration = Duration::from_millis(50);

/// A piece of guest memory, mapped into this process.
struct Mapping {
    base: *mut u8,
    length: usize,
    count: Arc<AtomicU64>,
}

// SAFETY: the mapping is plain shared memory that this object owns; nothing forms references to it.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        file: &File,
        offset: u64,
        length: usize,
        writable: bool,
        count: &Arc<AtomicU64>,
    ) -> rustix::io::Result<Self> {
        let access = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: a new mapping at an address that the kernel chooses aliases nothing in this process.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )?
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            base: base.cast(),
            length,
            count: count.clone(),
        })
    }

    /// Puts private zero pages in the place of the guest's, so that whoever still holds the range does no harm.
    fn scrap(&self) -> rustix::io::Result<()> {
        // SAFETY: replaces exactly the range that this object owns; users hold raw pointers that stay valid, with other contents.
        unsafe {
            mmap_anonymous(
                self.base.cast(),
                self.length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
            )?;
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and the last user is gone.
        let _ = unsafe { munmap(self.base.cast(), self.length) };
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What became of a request to map memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// The card reaches the memory.
    Yes,
    /// It came without a descriptor: the window of another device, which the card does not reach. Normal.
    NotMemory,
    /// The request makes no sense, or the limit is reached; the card does not reach the memory.
    Refused(String),
}

/// Guest memory as one chip reaches it.
#[derive(Default)]
pub struct DmaMap {
    table: HostTable,
    mappings: Arc<AtomicU64>,
    ignored: AtomicU64,
    scrapped: AtomicU64,
    // Maps and unmaps one at a time. Taken before the table's lock.
    changes: Mutex<()>,
}

impl DmaMap {
    /// Nothing mapped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Maps `size` bytes of a file from `offset` on at a DMA address.
    pub fn map(
        &self,
        address: u64,
        size: u64,
        file: Option<(File, u64)>,
        readable: bool,
        writable: bool,
    ) -> Mapped {
        let Some((file, offset)) = file else {
            self.ignored.fetch_add(1, Ordering::Relaxed);
            return Mapped::NotMemory;
        };
        let _one = lock(&self.changes);
        match self.try_map(address, size, &file, offset, readable, writable) {
            Ok(()) => Mapped::Yes,
            Err(reason) => Mapped::Refused(reason),
        }
    }

    fn try_map(
        &self,
        address: u64,
        size: u64,
        file: &File,
        offset: u64,
        readable: bool,
        writable: bool,
    ) -> Result<(), String> {
        if !readable {
            return Err("memory that cannot be read is not supported".into());
        }
        let length = usize::try_from(size).ok().filter(|n| *n > 0);
        let (Some(length), Some(end), Some(_)) =
            (length, offset.checked_add(size), address.checked_add(size))
        else {
            return Err(format!("{size} bytes at file offset {offset:#x} overflow"));
        };
        // A mapping beyond the end of its file would kill this process at the first access.
        let bytes = file
            .metadata()
            .map_err(|e| format!("cannot read the size of its file: {e}"))?
            .len();
        if end > bytes {
            return Err(format!("it ends at {end:#x} of a file of {bytes:#x} bytes"));
        }
        if self.table.len() >= MAX_REGIONS {
            return Err(format!("there are {MAX_REGIONS} regions already"));
        }
        let mapping = Mapping::new(file, offset, length, writable, &self.mappings)
            .map_err(|e| format!("mmap of {length:#x} bytes at offset {offset:#x} failed: {e}"))?;
        let region = HostRegion {
            address,
            length: size,
            pointer: mapping.base,
            writable,
            keep: Arc::new(mapping),
        };
        // SAFETY: the mapping is valid as long as `keep` lives, and the guest's memory is never referenced.
        unsafe { self.table.insert(region) }.map_err(|error| match error {
            InsertError::Invalid => "its range is invalid".into(),
            InsertError::Overlap(at) => format!("it overlaps the region at {at:#x}"),
        })
    }

    /// Takes back all regions that touch a range. `revoke` tells the firmware to let go of each. Afterwards nothing touches the memory:
    /// where somebody still holds it after [`REVOKE_WAIT`], scratch pages take its place. Returns the regions taken and scrapped.
    pub fn unmap(&self, address: u64, size: u64, revoke: impl FnMut(u64, u64)) -> (usize, usize) {
        let _one = lock(&self.changes);
        self.take_back(self.table.remove(address, size), revoke)
    }

    /// Takes everything back; see [`Self::unmap`].
    pub fn clear(&self, revoke: impl FnMut(u64, u64)) -> (usize, usize) {
        let _one = lock(&self.changes);
        self.take_back(self.table.clear(), revoke)
    }

    fn take_back(
        &self,
        regions: Vec<HostRegion>,
        mut revoke: impl FnMut(u64, u64),
    ) -> (usize, usize) {
        let taken = regions.len();
        for region in &regions {
            revoke(region.address, region.length);
        }
        let deadline = Instant::now() + REVOKE_WAIT;
        let mut scrapped = 0;
        for region in regions {
            while Arc::strong_count(&region.keep) > 1 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(100));
            }
            if Arc::strong_count(&region.keep) > 1 {
                scrapped += 1;
                if let Ok(mapping) = region.keep.downcast::<Mapping>()
                    && let Err(error) = mapping.scrap()
                {
                    tracing::error!(
                        "cannot put scratch pages over memory that the host takes back: {error}"
                    );
                }
            }
        }
        self.scrapped.fetch_add(scrapped as u64, Ordering::Relaxed);
        (taken, scrapped)
    }

    /// The memory behind a range; see [`HostTable::translate`].
    pub fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange> {
        self.table.translate(address, length, write)
    }

    /// Copies guest memory into private memory; `false` if a part is not mapped.
    pub fn read(&self, address: u64, to: &mut [u8]) -> bool {
        self.table.read(address, to)
    }

    /// Regions and bytes that the card reaches.
    pub fn size(&self) -> (usize, u64) {
        (self.table.len(), self.table.bytes())
    }

    /// Mappings in this process, those included that were taken back and are still held.
    pub fn mappings(&self) -> u64 {
        self.mappings.load(Ordering::Relaxed)
    }

    /// Requests without a descriptor so far, and regions scrapped.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.ignored.load(Ordering::Relaxed),
            self.scrapped.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{memfd_create, MemfdFlags};
    use std::os::unix::fs::FileExt;

    fn file(length: u64) -> File {
        let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(length).unwrap();
        file
    }

    #[test]
    fn memory_is_the_files_and_goes_when_it_is_taken_back() {
        let map = DmaMap::new();
        let memory = file(0x4000);
        memory.write_all_at(&[7; 16], 0x1000).unwrap();
        let given = (memory.try_clone().unwrap(), 0x1000);
        assert_eq!(
            map.map(0x10_0000, 0x2000, Some(given), true, true),
            Mapped::Yes
        );
        let mut back = [0; 16];
        assert!(map.read(0x10_0000, &mut back));
        assert_eq!(back, [7; 16]);
        assert_eq!(map.mappings(), 1);
        let mut revoked = Vec::new();
        assert_eq!(
            map.unmap(0x10_0000, 0x2000, |a, l| revoked.push((a, l))),
            (1, 0)
        );
        assert_eq!(revoked, [(0x10_0000, 0x2000)]);
        assert_eq!(map.mappings(), 0);
        assert!(!map.read(0x10_0000, &mut back));
        assert_eq!(
            map.unmap(0, u64::MAX, |_, _| ()),
            (0, 0),
            "never mapped: normal"
        );
    }

    #[test]
    fn who_holds_on_gets_scratch_pages() {
        let map = DmaMap::new();
        let memory = file(0x1000);
        map.map(
            0,
            0x1000,
            Some((memory.try_clone().unwrap(), 0)),
            true,
            true,
        );
        let held = map.translate(0, 8, true).unwrap();
        assert_eq!(map.unmap(0, 0x1000, |_, _| ()), (1, 1));
        // SAFETY: the range is valid as long as it is held.
        unsafe { held.pointer.write_bytes(0xaa, 8) };
        let mut back = [0; 8];
        memory.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(back, [0; 8], "the write did not reach the guest");
        assert_eq!(map.mappings(), 1);
        drop(held);
        assert_eq!(map.mappings(), 0);
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let map = DmaMap::new();
        let memory = file(0x2000);
        let give = |offset| Some((memory.try_clone().unwrap(), offset));
        assert_eq!(map.map(0, 0x1000, None, true, true), Mapped::NotMemory);
        for (address, size, offset) in [
            (0, 0x3000, 0),
            (0, 0x1000, 0x2000),
            (0, 0, 0),
            (u64::MAX, 0x1000, 0),
            (0, u64::MAX, 0x1000),
            (0, 0x1000, 0x10),
        ] {
            let got = map.map(address, size, give(offset), true, true);
            assert!(
                matches!(got, Mapped::Refused(_)),
                "{address:#x} {size:#x} {offset:#x}: {got:?}"
            );
        }
        assert!(matches!(
            map.map(0, 0x1000, give(0), false, true),
            Mapped::Refused(_)
        ));
        assert_eq!(map.map(0, 0x1000, give(0), true, false), Mapped::Yes);
        assert!(matches!(
            map.map(0, 0x1000, give(0), true, true),
            Mapped::Refused(_)
        ));
        assert!(map.translate(0, 1, true).is_none(), "read-only");
        assert_eq!(map.mappings(), 1);
    }
}
