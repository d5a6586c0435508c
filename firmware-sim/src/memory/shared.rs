//! Memory that can be handed to others as a file descriptor: device memory and doorbell pages.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use rustix::fs::{fcntl_add_seals, ftruncate, memfd_create, MemfdFlags, SealFlags};
use rustix::mm::{madvise, mmap, munmap, Advice, MapFlags, ProtFlags};

use super::bytes::Bytes;

/// A sealed-size memory file, mapped once, flat, in this process. Pages take host memory when they are first touched.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain shared memory, owned by this object; access goes through `Bytes` and atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes memory of `length` bytes, all zero, none of it taken from the host yet.
    pub fn new(name: &str, length: u64) -> io::Result<Self> {
        let length_usize =
            usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, length)?;
        // Whoever gets the file cannot make it shorter: an access to what is not there any more would kill this process.
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: a new mapping at an address that the kernel chooses aliases nothing.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                length_usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &fd,
                0,
            )?
        };
        // SAFETY: the range was just mapped; a hint about page size changes no contents.
        let _ = unsafe { madvise(base, length_usize, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self {
            fd,
            base,
            length: length_usize,
        })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// First byte of the mapping.
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A range of it; `None` if it does not lie within.
    pub fn bytes(&self, offset: u64, length: u64) -> Option<Bytes<'_>> {
        let end = offset.checked_add(length)?;
        if end > self.length as u64 {
            return None;
        }
        // SAFETY: the range lies within the mapping, which lives as long as `self`; nobody makes references to it.
        Some(unsafe {
            Bytes::new(
                self.base.as_ptr().add(offset as usize),
                length as usize,
                true,
            )
        })
    }

    /// The 64-bit word at a byte offset, a multiple of 8; `None` outside.
    pub fn word(&self, offset: u64) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.length as u64 {
            return None;
        }
        // SAFETY: aligned, within the mapping, alive as long as `self`; shared words are only accessed atomically.
        Some(unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset as usize).cast::<u64>()) })
    }

    /// Ranges of bytes that take host memory, as offset and length: all others read zero. As a whole if the host cannot tell.
    pub fn populated(&self) -> Vec<(u64, u64)> {
        use rustix::fs::{seek, SeekFrom};
        let mut ranges = Vec::new();
        let mut at = 0;
        loop {
            let data = match seek(&self.fd, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => return ranges,
                Err(_) => return vec![(0, self.length as u64)],
            };
            at = match seek(&self.fd, SeekFrom::Hole(data)) {
                Ok(hole) if hole > data => hole,
                _ => return vec![(0, self.length as u64)],
            };
            ranges.push((data, at - data));
        }
    }

    /// Gives the pages of a range back to the host; the range reads zero afterwards.
    pub fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        rustix::fs::fallocate(
            &self.fd,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            offset,
            length,
        )?;
        Ok(())
    }

    /// Writes zeroes over a range; what lies outside of the memory is left out.
    pub fn clear(&self, offset: u64, length: u64) {
        if let Some(bytes) = self.bytes(offset, length) {
            bytes.zero();
        }
    }

    /// Takes the pages of a range from the host now. Fails when the host has none left.
    pub fn populate(&self, offset: u64, length: u64) -> io::Result<()> {
        // In pieces: one call cannot be interrupted, and gives everything back if it fails at the end.
        const PIECE: u64 = 256 << 20;
        let mut done = 0;
        while done < length {
            let piece = PIECE.min(length - done);
            rustix::fs::fallocate(
                &self.fd,
                rustix::fs::FallocateFlags::KEEP_SIZE,
                offset + done,
                piece,
            )?;
            done += piece;
        }
        Ok(())
    }
}

/// A 64-bit word of shared memory, found once.
pub struct SharedWord {
    word: NonNull<AtomicU64>,
    /// Keeps the word mapped.
    _memory: Arc<SharedMemory>,
}

// SAFETY: the word is only accessed atomically, and lives as long as the memory that is held beside it.
unsafe impl Send for SharedWord {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedWord {}

impl SharedWord {
    /// The word at a byte offset, a multiple of 8; `None` outside.
    pub fn new(memory: Arc<SharedMemory>, offset: u64) -> Option<Self> {
        let word = NonNull::from(memory.word(offset)?);
        Some(Self {
            word,
            _memory: memory,
        })
    }

    /// The word.
    pub fn get(&self) -> &AtomicU64 {
        // SAFETY: `new` found it in the memory, which is mapped as long as `self`.
        unsafe { self.word.as_ref() }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.length) };
    }
}
