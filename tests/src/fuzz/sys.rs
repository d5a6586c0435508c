//! What the fuzzer does behind the type system's back.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{mmap, mmap_anonymous, munmap, MapFlags, ProtFlags};
use vmlu::abi::ioctl::{DmabufExport, DMABUF_EXPORT};
use vmlu::abi::Wire;

/// Opens a node; reading from it does not wait.
pub fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
}

/// What an argument's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// That of the bytes.
    Right,
    /// One of [`NOWHERE`].
    Wrong(u64),
}

/// Addresses at which no process has memory: null, in the first page, between user space and the kernel, the kernel's, at the very end.
pub const NOWHERE: [u64; 5] = [
    0,
    24,
    0x8000_0000_0000_0000,
    0xffff_8880_0000_0000,
    u64::MAX - 7,
];

/// Room for the largest argument whatever its number says: 14 bits of size.
pub const ROOM: usize = 1 << 14;

/// An ioctl with any number; `bytes` are what the kernel may read and write.
pub fn ioctl(
    file: &File,
    number: u32,
    bytes: &mut [u8; ROOM],
    pointer: Pointer,
) -> Result<(), i32> {
    let address = match pointer {
        Pointer::Right => bytes.as_mut_ptr() as u64,
        Pointer::Wrong(nowhere) => nowhere,
    };
    // SAFETY: The kernel reads and writes at most as many bytes as the number can say, which is `ROOM`, or finds no memory.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number.into(), address) };
    match result {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

/// `DMABUF_EXPORT`; the descriptor that it made.
pub fn export_dmabuf(
    file: &File,
    bytes: &mut [u8; ROOM],
    pointer: Pointer,
) -> Result<Option<OwnedFd>, i32> {
    ioctl(file, DMABUF_EXPORT, bytes, pointer)?;
    let made = DmabufExport::read_from(&bytes[..]).filter(|_| pointer == Pointer::Right);
    // SAFETY: The call has succeeded, so that it made the descriptor, for this caller alone.
    Ok(made.map(|made| unsafe { OwnedFd::from_raw_fd(made.fd) }))
}

/// An ioctl with the structure that belongs to its number.
pub fn call<T: Wire>(file: &File, number: u32, argument: &mut T) -> std::io::Result<()> {
    let mut bytes = [0; ROOM];
    argument.write_to(&mut bytes);
    ioctl(file, number, &mut bytes, Pointer::Right).map_err(std::io::Error::from_raw_os_error)?;
    *argument = T::read_from(&bytes).expect("it was there before");
    Ok(())
}

/// Something of a file that is mapped, until it is dropped.
pub struct Mapping {
    address: *mut u8,
    length: usize,
    writable: bool,
}

impl Mapping {
    /// Maps it.
    pub fn new(
        file: &File,
        offset: u64,
        length: usize,
        writable: bool,
        private: bool,
    ) -> rustix::io::Result<Self> {
        let mut access = ProtFlags::READ;
        if writable {
            access |= ProtFlags::WRITE;
        }
        let kind = if private {
            MapFlags::PRIVATE
        } else {
            MapFlags::SHARED
        };
        // SAFETY: A mapping at an address that the kernel chooses changes no other.
        let address = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                access,
                kind,
                file.as_fd(),
                offset,
            )?
        };
        Ok(Self {
            address: address.cast(),
            length,
            writable,
        })
    }

    /// Memory of this process alone.
    pub fn memory(length: usize) -> rustix::io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A mapping at an address that the kernel chooses changes no other.
        let address =
            unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::SHARED)? };
        Ok(Self {
            address: address.cast(),
            length,
            writable: true,
        })
    }

    /// Where it begins.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// Words in it.
    pub fn words(&self) -> usize {
        self.length / 8
    }

    /// Writes a word if it may be written, otherwise reads it.
    pub fn touch(&self, word: usize, value: u64) {
        assert!(word < self.words());
        // SAFETY: The word lies within the mapping, which is aligned; others change it only as an atomic or in the card.
        let word = unsafe { AtomicU64::from_ptr(self.address.cast::<u64>().add(word)) };
        if self.writable {
            word.store(value, Ordering::SeqCst);
        } else {
            std::hint::black_box(word.load(Ordering::SeqCst));
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to the mapping any more.
        let done = unsafe { munmap(self.address.cast(), self.length) };
        done.expect("a whole mapping can be taken away");
    }
}

/// Lets `SIGUSR1` do nothing, in this process and in those that it starts.
pub fn ignore_signals() {
    // SAFETY: Nobody else in this process has a use for the signal.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
}

extern "C" fn nothing(_: libc::c_int) {}

/// Lets `SIGUSR1` interrupt calls, which then go on by themselves, or fail.
pub fn take_signals(restart: bool) -> std::io::Result<()> {
    // SAFETY: The handler does nothing, and the structure is valid when it is zero.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
