//! The system calls of the transports behind a safe interface: ioctls of `abi::ioctl`, mappings and reserved addresses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::OnceLock;

use vmlu_abi::ioctl::{
    DmabufExport, FirmwareQuery, ProcessesRead, DMABUF_EXPORT, FIRMWARE, PROCESSES, TYPE,
};
use vmlu_abi::rpc::{feature, Function, Process, MAX_MESSAGE};
use vmlu_abi::Wire;
use vmlu_protocol::submit::Barrier;

/// The barrier of a producer whose card runs on this process's own kernel, by the card's features. The first time it is asked for, it
/// registers the process.
pub(super) fn producer_barrier(features: u64) -> Barrier {
    use rustix::thread::{membarrier, MembarrierCommand};
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let register = || membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    if features & feature::BARRIER != 0 && *REGISTERED.get_or_init(register) {
        Barrier::Remote
    } else {
        Barrier::Full
    }
}

/// Whether [`barrier`] works. The first time it is asked for, it registers the process.
pub(crate) fn has_barrier() -> bool {
    use rustix::thread::{membarrier, MembarrierCommand};
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
            && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    })
}

/// Has all threads of this process pass a full barrier. Called only where [`has_barrier`].
pub(crate) fn barrier() {
    use rustix::thread::{membarrier, MembarrierCommand};
    // It worked before. What can fail it now is a lack of memory, which passes, or a new filter of system calls; after this time
    // no processor has a store left that others do not see.
    for _ in 0..50 {
        if membarrier(MembarrierCommand::PrivateExpedited).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Read only.
    Read,
    /// Write only, as far as the processor can tell the two apart.
    Write,
    /// Read and write.
    ReadWrite,
}

impl Access {
    fn protection(self) -> libc::c_int {
        match self {
            Self::Read => libc::PROT_READ,
            Self::Write => libc::PROT_WRITE,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Calls one of our ioctls whose argument holds no pointer, again if a signal interrupts it. On failure `argument` is as it was.
pub(super) fn ioctl<T: Wire>(fd: BorrowedFd<'_>, number: u32, argument: &mut T) -> io::Result<()> {
    assert_ne!(number, PROCESSES, "holds a pointer: see `processes`");
    assert_ne!(number, FIRMWARE, "holds a pointer: see `firmware`");
    assert_ne!(
        number, DMABUF_EXPORT,
        "makes a descriptor: see `dmabuf_export`"
    );
    raw_ioctl(fd, number, argument)
}

/// Calls [`DMABUF_EXPORT`]; the descriptor that it makes.
pub(super) fn dmabuf_export(fd: BorrowedFd<'_>, export: &mut DmabufExport) -> io::Result<OwnedFd> {
    raw_ioctl(fd, DMABUF_EXPORT, export)?;
    // SAFETY: the call has succeeded, so that it made the descriptor, for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(export.fd) })
}

/// Calls [`PROCESSES`] for a chip and fills `entries`. Returns how many were written and how many contexts exist.
pub(super) fn processes(
    fd: BorrowedFd<'_>,
    device: u32,
    entries: &mut [Process],
) -> io::Result<(usize, usize)> {
    let mut argument = ProcessesRead {
        device,
        count: entries.len() as u32,
        ..ProcessesRead::zeroed()
    };
    argument.address = entries.as_mut_ptr() as u64;
    raw_ioctl(fd, PROCESSES, &mut argument)?;
    Ok((
        (argument.count as usize).min(entries.len()),
        argument.total as usize,
    ))
}

/// Calls [`FIRMWARE`] for a chip; the body of the response.
pub(super) fn firmware(
    fd: BorrowedFd<'_>,
    device: u32,
    function: Function,
    request: [u64; 2],
) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; MAX_MESSAGE];
    let mut argument = FirmwareQuery {
        device,
        function: function as u32,
        request,
        room: MAX_MESSAGE as u32,
        ..FirmwareQuery::zeroed()
    };
    argument.address = answer.as_mut_ptr() as u64;
    raw_ioctl(fd, FIRMWARE, &mut argument)?;
    answer.truncate(argument.length as usize);
    Ok(answer)
}

fn raw_ioctl<T: Wire>(fd: BorrowedFd<'_>, number: u32, argument: &mut T) -> io::Result<()> {
    assert!(
        (number >> 8) as u8 == TYPE && (number >> 16 & 0x3fff) as usize == size_of::<T>(),
        "{number:#x} takes another type"
    );
    loop {
        // SAFETY: the number carries the size of what the driver reads and writes, and it is that of `T`, which `argument` borrows
        // exclusively. Any bytes that come back are a valid `T`. Two arguments have pointers: `processes` and `firmware` fill them with the
        // address and the length of what they borrow exclusively, and `Process` and bytes take any bytes.
        let result = unsafe {
            libc::ioctl(
                fd.as_raw_fd(),
                number as _,
                (argument as *mut T).cast::<libc::c_void>(),
            )
        };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A mapping of a file at an address of the kernel's choice, undone when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; it hands out raw pointers and volatile accesses only.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of the file from `offset` on, shared.
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        offset: u64,
        length: usize,
        access: Access,
    ) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                access.protection(),
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(Self { start, length })
    }

    /// Maps `length` bytes of zeroed memory of this process.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(Self { start, length })
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The 64-bit word at a byte offset, which must be aligned and inside.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset.checked_add(8).is_some_and(|end| end <= self.length)
        );
        // SAFETY: aligned, inside the mapping, which lives as long as `self`; shared words are only accessed atomically.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast::<u64>()) }
    }

    /// Where it starts.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Writes a word, volatile. The mapping is writable.
    pub(super) fn write_u32(&self, offset: usize, value: u32) {
        assert!(
            offset.is_multiple_of(4) && offset.checked_add(4).is_some_and(|end| end <= self.length)
        );
        // SAFETY: the word is aligned and inside the mapping, which lives as long as `self`; nobody holds a reference to it.
        unsafe {
            self.start
                .as_ptr()
                .add(offset)
                .cast::<u32>()
                .write_volatile(value)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `new` mapped, and the pointers that were handed out are not used after the drop, as
        // `QueueMemory` demands.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// Maps `length` bytes of the file from `offset` on over `va`, a range that the caller has reserved with `PROT_NONE` and that nobody
/// uses otherwise, as `Channel::host_alloc` demands.
pub(super) fn map_over_reserved(
    fd: BorrowedFd<'_>,
    offset: u64,
    va: u64,
    length: usize,
) -> io::Result<()> {
    let offset =
        libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the range replaced is reserved address space of the caller's without contents, see above.
    let start = unsafe {
        libc::mmap(
            va as *mut libc::c_void,
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED,
            fd.as_raw_fd(),
            offset,
        )
    };
    if start == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Bytes of a file.
pub(super) fn file_length(fd: BorrowedFd<'_>) -> Option<u64> {
    u64::try_from(rustix::fs::fstat(fd).ok()?.st_size).ok()
}

/// Turns a range that [`map_over_reserved`] filled back into reserved address space.
pub(super) fn reserve_again(va: u64, length: usize) -> io::Result<()> {
    // SAFETY: the range is one that `map_over_reserved` mapped; its owner has given it up, so that no access to it is left.
    let start = unsafe {
        libc::mmap(
            va as *mut libc::c_void,
            length,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Maps zeroed memory of this process over `va`, a range that the caller has reserved and that nobody uses otherwise.
pub(super) fn map_anonymous_over_reserved(va: u64, length: usize) -> io::Result<()> {
    // SAFETY: the range replaced is reserved address space of the caller's without contents.
    let start = unsafe {
        libc::mmap(
            va as *mut libc::c_void,
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Address space that nothing else of this process uses, without memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    start: u64,
    length: usize,
}

impl Reservation {
    /// Reserves `length` bytes at an address of the kernel's choice.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED the kernel chooses a range that nothing uses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start as u64,
            length,
        })
    }

    /// Where it starts.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is the one that `new` reserved; what was mapped over it is given up with it.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.length) };
    }
}

/// CLOCK_MONOTONIC, ns.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
