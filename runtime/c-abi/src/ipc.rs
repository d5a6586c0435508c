//! What processes hand to each other: memory and notifiers.
//!
//! A handle is short, and C passes it on as it likes, so it only tells where to look: a file in memory that the owner keeps open, with what the
//! card knows the thing by. It is read through `/proc`, so it goes with its process, and only who may look into that process can open it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mm::{MapFlags, ProtFlags};
use vmlu::peer::MemoryHandle;
use vmlu::TimelineToken;

use crate::failure::{Failure, Result};
use crate::memory::Block;

/// Begins every file.
const MAGIC: u64 = 0x6d6c_7520_6970_6331;
/// Bytes of a file.
const LENGTH: usize = 4096;
/// Bits of a handle's parts: the process, the file's number in it, and a check that the file has too.
const PROCESS_BITS: u32 = 22;
const FILE_BITS: u32 = 20;
const CHECK_BITS: u32 = 22;

/// A file that others can open.
pub struct Shared {
    words: Words,
    handle: u64,
    _file: OwnedFd,
}

/// The words of a file, in memory of this process.
struct Words(*mut AtomicU64);

// SAFETY: the words are atomics in a mapping that lives as long as this.
unsafe impl Send for Words {}
// SAFETY: as for `Send`.
unsafe impl Sync for Words {}

impl Words {
    fn map(file: impl AsFd) -> Result<Self> {
        let flags = MapFlags::SHARED;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the system chooses.
        let mapped =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), LENGTH, rights, flags, file, 0) };
        let mapped = mapped.map_err(|_| Failure::OPERATING_SYSTEM)?;
        Ok(Self(mapped.cast()))
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < LENGTH / 8);
        // SAFETY: within the mapping, which is aligned, as long as `self`; others change it by atomic stores alone.
        unsafe { &*self.0.add(index) }
    }

    fn get(&self, index: usize) -> u64 {
        self.at(index).load(Ordering::SeqCst)
    }

    fn set(&self, index: usize, value: u64) {
        self.at(index).store(value, Ordering::SeqCst);
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping is of this alone, and of this length.
        let _ = unsafe { rustix::mm::munmap(self.0.cast(), LENGTH) };
    }
}

const CHECK: usize = 1;
/// A count that is odd while the rest is written.
const SEQUENCE: usize = 2;
const BODY: usize = 3;

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let file = rustix::fs::open(
        "/dev/urandom",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let file = file.map_err(|_| Failure::OPERATING_SYSTEM)?;
    match rustix::io::read(file, &mut bytes) {
        Ok(8) => Ok(u64::from_le_bytes(bytes)),
        _ => Err(Failure::OPERATING_SYSTEM),
    }
}

impl Shared {
    fn new() -> Result<Self> {
        let file = rustix::fs::memfd_create("mlu-ipc", MemfdFlags::CLOEXEC)
            .map_err(|_| Failure::OPERATING_SYSTEM)?;
        rustix::fs::ftruncate(&file, LENGTH as u64).map_err(|_| Failure::OPERATING_SYSTEM)?;
        let words = Words::map(&file)?;
        let check = random()? & ((1 << CHECK_BITS) - 1);
        words.set(CHECK, check);
        words.set(0, MAGIC);
        let (process, number) = (u64::from(std::process::id()), file.as_raw_fd() as u64);
        if process >> PROCESS_BITS != 0 || number >> FILE_BITS != 0 {
            return Err(Failure::NOT_SUPPORTED);
        }
        Ok(Self {
            words,
            handle: (process << FILE_BITS | number) << CHECK_BITS | check,
            _file: file,
        })
    }

    /// The file of a handle.
    fn open(handle: u64) -> Result<Self> {
        let check = handle & ((1 << CHECK_BITS) - 1);
        let number = (handle >> CHECK_BITS) & ((1 << FILE_BITS) - 1);
        let process = handle >> (CHECK_BITS + FILE_BITS);
        let path = format!("/proc/{process}/fd/{number}");
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let is_ours = rustix::fs::readlink(&path, Vec::new())
            .is_ok_and(|target| target.as_bytes().starts_with(b"/memfd:mlu-ipc"));
        if process == 0 || !is_ours {
            return Err(Failure::INVALID_HANDLE);
        }
        let file =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|_| Failure::INVALID_HANDLE)?;
        let length = rustix::fs::fstat(&file).map_or(0, |stat| stat.st_size);
        if length != LENGTH as i64 {
            return Err(Failure::INVALID_HANDLE);
        }
        let words = Words::map(&file)?;
        if words.get(0) != MAGIC || words.get(CHECK) != check {
            return Err(Failure::INVALID_HANDLE);
        }
        Ok(Self {
            words,
            handle,
            _file: file,
        })
    }

    /// Writes what stands behind the head, for readers all at once.
    fn write(&self, values: &[u64]) {
        // Two processes may write: whoever makes the count odd goes first. One that died there is passed by after a while.
        let mut sequence = self.words.get(SEQUENCE);
        for _ in 0..1_000_000 {
            let odd = sequence | 1;
            if sequence & 1 == 0 {
                let order = Ordering::SeqCst;
                let word = self.words.at(SEQUENCE);
                if word.compare_exchange(sequence, odd, order, order).is_ok() {
                    break;
                }
            }
            std::hint::spin_loop();
            sequence = self.words.get(SEQUENCE);
        }
        for (i, value) in values.iter().enumerate() {
            self.words.set(BODY + i, *value);
        }
        self.words.set(SEQUENCE, (sequence | 1).wrapping_add(1));
    }

    /// Reads what stands behind the head.
    fn read<const N: usize>(&self) -> Result<[u64; N]> {
        for _ in 0..1_000_000 {
            let before = self.words.get(SEQUENCE);
            let values = std::array::from_fn(|i| self.words.get(BODY + i));
            if before & 1 == 0 && self.words.get(SEQUENCE) == before {
                return Ok(values);
            }
            std::hint::spin_loop();
        }
        Err(Failure::INVALID_HANDLE)
    }
}

/// Words of a memory handle.
const MEMORY_WORDS: usize = MemoryHandle::SIZE / 8;

/// The handle with which other processes map an allocation: of device memory, by its first address.
///
/// # Errors
///
/// [`Failure::NOT_SUPPORTED`] for pinned memory, which is this process's own, and for memory of others.
pub fn export_memory(block: &Block) -> Result<u64> {
    if let Some(shared) = block.shared.get() {
        return Ok(shared.handle);
    }
    let buffer = block.buffer().map_err(|_| Failure::NOT_SUPPORTED)?;
    let bytes = buffer
        .export()
        .map_err(|_| Failure::NOT_SUPPORTED)?
        .to_bytes();
    let shared = Shared::new()?;
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()))
        .collect();
    shared.write(&words);
    Ok(block.shared.get_or_init(|| shared).handle)
}

/// What a handle of memory leads to.
pub fn open_memory(handle: u64) -> Result<MemoryHandle> {
    let words: [u64; MEMORY_WORDS] = Shared::open(handle)?.read()?;
    let mut bytes = [0; MemoryHandle::SIZE];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Ok(MemoryHandle::from_bytes(bytes))
}

/// Where a notifier was placed last, for several processes.
pub struct Place(Shared);

impl Place {
    /// A place that is nowhere yet.
    pub(crate) fn new() -> Result<Self> {
        Shared::new().map(Self)
    }

    /// The place that another process has.
    pub(crate) fn open(handle: u64) -> Result<Self> {
        Shared::open(handle).map(Self)
    }

    /// How other processes call it.
    pub(crate) fn handle(&self) -> u64 {
        self.0.handle
    }

    /// Tells where it is from here on.
    pub(crate) fn set(&self, token: &TimelineToken, value: u64) {
        let bytes = token.to_bytes();
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[i * 8..][..8]);
            u64::from_le_bytes(word)
        };
        self.0.write(&[value, word(0), word(1), word(2), word(3)]);
    }

    /// Where it is; `None` if it never was placed.
    pub(crate) fn get(&self) -> Result<Option<(TimelineToken, u64)>> {
        let [value, words @ ..]: [u64; 5] = self.0.read()?;
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        Ok((value != 0).then(|| (TimelineToken::from_bytes(&bytes), value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_shared_is_opened() {
        let shared = Shared::new().unwrap();
        shared.write(&[7, 8]);
        assert_eq!(
            Shared::open(shared.handle).unwrap().read::<2>().unwrap(),
            [7, 8]
        );
        for wrong in [
            0,
            1,
            2,
            u64::MAX,
            shared.handle ^ 1,
            shared.handle + (1 << CHECK_BITS),
        ] {
            assert!(Shared::open(wrong).is_err(), "{wrong:#x}");
        }
        let handle = shared.handle;
        drop(shared);
        assert!(Shared::open(handle).is_err());
    }
}
