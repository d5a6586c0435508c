//! What owners write down: a file of atomic words that processes share, so that it is there when its writer is not.

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};

/// Lives that a record has room for.
pub const LIVES: usize = 8192;

/// What an owner did in its life, from the opening of its context to the end of it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Life {
    /// Packets that it was about to submit, or submitted. What it was about to submit is one burst: the card sees all of it or nothing.
    pub intended: AtomicU64,
    /// Packets that it submitted.
    pub submitted: AtomicU64,
    /// Packets of which it knows that they completed.
    pub completed: AtomicU64,
    /// Packets of which it knows that they failed or were cancelled.
    pub failed: AtomicU64,
    /// Queues that it destroyed with work in flight.
    pub destroyed: AtomicU64,
    /// Errors that it cleared.
    pub errors: AtomicU64,
    /// 1 once it ended well, with all of its queues empty.
    pub ended: AtomicU64,
    /// 1 if it began.
    pub began: AtomicU64,
}

/// Lives, in a file.
pub struct Record {
    start: NonNull<Life>,
}

// SAFETY: it is only accessed through atomics.
unsafe impl Send for Record {}
// SAFETY: as for `Send`.
unsafe impl Sync for Record {}

const BYTES: usize = LIVES * size_of::<Life>();

impl Record {
    /// Makes a file of its own and maps it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        file.set_len(BYTES as u64)?;
        Self::map(&file)
    }

    /// Maps the file that [`Record::create`] made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        if file.metadata()?.len() != BYTES as u64 {
            return Err(io::Error::other("the record has another length"));
        }
        Self::map(&file)
    }

    fn map(file: &File) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                BYTES,
                access,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start })
    }

    /// All lives.
    pub fn lives(&self) -> &[Life] {
        // SAFETY: the mapping has this length, begins at a page, lives as long as `self`, and any bytes are a valid `Life`, whose words are
        // atomic: the file is never cut.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), LIVES) }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), BYTES) };
    }
}

/// Sums over lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Lives that began.
    pub lives: u64,
    /// Lives that did not end well.
    pub killed: u64,
    /// [`Life::intended`].
    pub intended: u64,
    /// [`Life::submitted`].
    pub submitted: u64,
    /// [`Life::completed`].
    pub completed: u64,
    /// [`Life::failed`].
    pub failed: u64,
    /// [`Life::destroyed`].
    pub destroyed: u64,
    /// [`Life::errors`].
    pub errors: u64,
}

impl Record {
    /// Bursts that their owners may have shown to the card or not when they were killed: how many packets each has.
    pub fn open_bursts(&self) -> Vec<u64> {
        let open = self.lives().iter().map(|life| {
            life.intended.load(Ordering::SeqCst) - life.submitted.load(Ordering::SeqCst)
        });
        open.filter(|packets| *packets > 0).collect()
    }

    /// Adds all lives up.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        let read = |word: &AtomicU64| word.load(Ordering::SeqCst);
        for life in self.lives() {
            sums.lives += read(&life.began);
            sums.killed += read(&life.began) - read(&life.ended).min(read(&life.began));
            sums.intended += read(&life.intended);
            sums.submitted += read(&life.submitted);
            sums.completed += read(&life.completed);
            sums.failed += read(&life.failed);
            sums.destroyed += read(&life.destroyed);
            sums.errors += read(&life.errors);
        }
        sums
    }
}
