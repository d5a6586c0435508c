// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that is pinned for a device: it stays where it is, whatever the process
//! does, until it is given up.

use kernel::{
    bindings,
    device::{Bound, Device},
    error::to_result,
    mm::Mm,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{AtomicFlag, Relaxed},
    },
};

use super::{
    dma,
    pages::{page_frame, Charge},
};

/// Pages that are pinned by one call of the kernel.
const AT_ONCE: usize = 4096;

/// A share of the memory that a process may lock (`RLIMIT_MEMLOCK`; `CAP_IPC_LOCK` may more).
struct Locked {
    mm: ARef<Mm>,
    pages: usize,
}

impl Locked {
    /// Takes it from the calling process.
    fn new(pages: usize) -> Result<Self> {
        let mm = kernel::current!().mm().map(|mm| {
            let mm: &Mm = mm;
            ARef::from(mm)
        });
        let mm = mm.ok_or(EINVAL)?;
        // SAFETY: The memory map is valid. Its lock is taken, so the caller must not hold it.
        to_result(unsafe { bindings::account_locked_vm(mm.as_raw(), pages, true) })?;
        Ok(Self { mm, pages })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // SAFETY: As above; what is given back was taken. Giving back does not fail.
        unsafe { bindings::account_locked_vm(self.mm.as_raw(), self.pages, false) };
    }
}

/// Pages that are pinned, until it is dropped.
///
/// # Invariants
///
/// Each page is pinned, once.
struct Pins {
    pages: KVVec<*mut bindings::page>,
    /// Whether a device writes them.
    written: bool,
}

impl Pins {
    fn new(start: usize, count: usize, written: bool) -> Result<Self> {
        let write = if written { bindings::FOLL_WRITE } else { 0 };
        let mut pins = Self {
            pages: KVVec::with_capacity(count, GFP_KERNEL)?,
            written,
        };
        while pins.pages.len() < count {
            let done = pins.pages.len();
            let wanted = (count - done).min(AT_ONCE);
            // SAFETY: There is room for the pages behind those that are there. The addresses are
            // checked by the callee, which takes the lock of the memory map: the callers must not
            // hold it.
            let got = unsafe {
                bindings::pin_user_pages_fast(
                    start + done * PAGE_SIZE,
                    wanted as c_int,
                    write | bindings::FOLL_LONGTERM,
                    pins.pages.as_mut_ptr().add(done),
                )
            };
            to_result(got.min(0))?;
            // INVARIANT: So many more were pinned.
            // SAFETY: They were written, within the capacity.
            unsafe { pins.pages.inc_len(got as usize) };
            if got == 0 {
                return Err(EFAULT);
            }
        }
        Ok(pins)
    }

    fn frame(&self, at: usize) -> usize {
        // SAFETY: The page is pinned, by the type invariant.
        unsafe { page_frame(self.pages[at]) }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pages are pinned, and nobody goes on using them.
        unsafe {
            bindings::unpin_user_pages_dirty_lock(
                self.pages.as_mut_ptr(),
                self.pages.len(),
                self.written,
            )
        };
    }
}

/// Pages that lie one behind the other in memory.
struct Run {
    /// Index of the first.
    first: usize,
    length: usize,
    dma: bindings::dma_addr_t,
}

/// Memory of a process, pinned and shared with a device.
///
/// # Invariants
///
/// While `mapped` is set, each run is mapped for the device that was given to [`Self::map`], at its
/// `dma` address.
pub(crate) struct PinnedPages {
    // In this order: pages are unpinned before their shares are given back.
    pins: Pins,
    runs: KVVec<Run>,
    mapped: AtomicFlag,
    _charge: Charge,
    _locked: Locked,
}

// SAFETY: The pages belong to no thread.
unsafe impl Send for PinnedPages {}
// SAFETY: The fields do not change but for `mapped`, which is atomic; the memory itself is not
// accessed here.
unsafe impl Sync for PinnedPages {}

impl PinnedPages {
    /// Pins `length` bytes of the calling process at `address`, both multiples of the page;
    /// `written` says whether the device is to write them.
    ///
    /// `EFAULT`: the process has no such memory, or may not write it; `ENOMEM`: it may not lock so
    /// much. Takes the lock of the process's memory map, as dropping does: not under a lock that is
    /// taken in `mmap`.
    pub(crate) fn new(address: usize, length: usize, written: bool) -> Result<Self> {
        if length == 0 || length % PAGE_SIZE != 0 || address % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let count = length / PAGE_SIZE;
        let charge = Charge::new(length)?;
        let locked = Locked::new(count)?;
        let pins = Pins::new(address, count, written)?;
        let mut runs = KVVec::new();
        let mut first = 0;
        for at in 1..=count {
            if at == count || pins.frame(at) != pins.frame(at - 1) + 1 {
                let run = Run {
                    first,
                    length: (at - first) * PAGE_SIZE,
                    dma: 0,
                };
                runs.push(run, GFP_KERNEL)?;
                first = at;
            }
        }
        Ok(Self {
            pins,
            runs,
            mapped: AtomicFlag::new(false),
            _charge: charge,
            _locked: locked,
        })
    }

    fn direction(&self) -> dma::Direction {
        if self.pins.written {
            bindings::dma_data_direction::DMA_BIDIRECTIONAL
        } else {
            bindings::dma_data_direction::DMA_TO_DEVICE
        }
    }

    /// Maps the memory for the device.
    pub(crate) fn map(&mut self, dev: &Device<Bound>) -> Result {
        let direction = self.direction();
        for at in 0..self.runs.len() {
            let run = &mut self.runs[at];
            let page = self.pins.pages[run.first];
            // SAFETY: The pages of the run are pinned and lie one behind the other.
            match unsafe { dma::map(dev, page, run.length, direction) } {
                Ok(address) => run.dma = address,
                Err(e) => {
                    self.unmap_first(dev, at);
                    return Err(e);
                }
            }
        }
        // INVARIANT: All runs were mapped above.
        self.mapped.store(true, Relaxed);
        Ok(())
    }

    fn unmap_first(&self, dev: &Device<Bound>, count: usize) {
        let direction = self.direction();
        for run in &self.runs[..count] {
            // SAFETY: The callers say that these runs are mapped.
            unsafe { dma::unmap(dev, run.dma, run.length, direction) };
        }
    }

    /// Ends the device's mapping. The device must not use the memory any more. Doing it again does
    /// nothing.
    pub(crate) fn unmap(&self, dev: &Device<Bound>) {
        if self.mapped.xchg(false, Relaxed) {
            self.unmap_first(dev, self.runs.len());
        }
    }

    /// Device address and bytes of each run, in order.
    pub(crate) fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|run| (run.dma, run.length as u64))
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        if self.mapped.load(Relaxed) {
            pr_err!(
                "BUG: {} pinned pages were given up while mapped; they stay pinned\n",
                self.pins.pages.len()
            );
            core::mem::forget(core::mem::take(&mut self.pins.pages));
        }
    }
}
