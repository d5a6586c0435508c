// SPDX-License-Identifier: GPL-2.0

//! Pages that a device and user space share: allocated in pieces that are as large as the page
//! allocator gives, mapped for the device.
//!
//! The kernel crate's `dma::Coherent` ties the memory to the mapping: here the device's mapping
//! ends (at the latest when the driver is unbound) before the memory does (when the last user
//! mapping is gone).

use kernel::{
    bindings,
    device::{Bound, Device},
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, AtomicFlag, Relaxed},
};

use super::{dma, shared::Shared};

/// Both the device and user space read and write.
const BOTH_WAYS: dma::Direction = bindings::dma_data_direction::DMA_BIDIRECTIONAL;

mod ffi {
    use kernel::ffi;

    // `struct page` is opaque here: the binding's type has fields that are not for FFI.
    unsafe extern "C" {
        pub(super) fn mlu_alloc_pages(order: ffi::c_uint, insist: bool) -> *mut ffi::c_void;
        pub(super) fn mlu_page_to_pfn(page: *const ffi::c_void) -> ffi::c_ulong;
        pub(super) fn mlu_page_address(page: *const ffi::c_void) -> *mut ffi::c_void;
        pub(super) fn mlu_total_pages() -> ffi::c_ulong;
    }
}

/// Largest piece that is tried where pieces need not be contiguous with each other: 2 MiB.
const PIECE_ORDER: u32 = 9;

/// Bytes of such a piece, which one entry of the page tables can map.
pub(crate) const BLOCK: usize = PAGE_SIZE << PIECE_ORDER;

/// Bytes of the machine's memory.
pub(crate) fn total_memory() -> u64 {
    // SAFETY: Reads a counter.
    (unsafe { ffi::mlu_total_pages() }) as u64 * PAGE_SIZE as u64
}

/// A piece of contiguous memory.
///
/// # Invariants
///
/// `page` is the first of `1 << order` pages that this value owns.
struct Piece {
    page: *mut bindings::page,
    order: u32,
    dma: bindings::dma_addr_t,
}

impl Piece {
    fn alloc(order: u32, insist: bool) -> Option<Self> {
        // SAFETY: Any order may be asked for.
        let page = unsafe { ffi::mlu_alloc_pages(order, insist) }.cast::<bindings::page>();
        if page.is_null() {
            return None;
        }
        // INVARIANT: The allocation succeeded.
        Some(Self {
            page,
            order,
            dma: 0,
        })
    }

    fn size(&self) -> usize {
        PAGE_SIZE << self.order
    }

    fn pfn(&self) -> usize {
        // SAFETY: `page` is valid by the type invariant.
        unsafe { page_frame(self.page) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pages are owned, and they were allocated with this
        // order.
        unsafe { bindings::__free_pages(self.page, self.order) };
    }
}

/// Bytes that all sets of the module have.
static PINNED: Atomic<u64> = Atomic::new(0);

/// Bytes of memory that the module has for devices and user space, on all chips.
pub(crate) fn pinned_memory() -> u64 {
    PINNED.load(Relaxed)
}

/// Page frame number of a page.
///
/// # Safety
///
/// The page is valid.
pub(super) unsafe fn page_frame(page: *const bindings::page) -> usize {
    // SAFETY: As the caller promises.
    unsafe { ffi::mlu_page_to_pfn(page.cast()) }
}

/// A share of the memory that the module may pin: half of the machine's. (What a process takes is
/// charged to its memory cgroup besides.)
pub(super) struct Charge(u64);

impl Charge {
    /// Takes so many bytes; `ENOMEM` if there are not as many left.
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let bytes = bytes as u64;
        let limit = total_memory() / 2;
        if bytes > limit {
            return Err(ENOMEM);
        }
        // Taken before it is judged, so that it is given back if it is too much.
        let charge = Self(bytes);
        if PINNED.fetch_add(bytes, Relaxed).saturating_add(bytes) > limit {
            return Err(ENOMEM);
        }
        Ok(charge)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        PINNED.fetch_sub(self.0, Relaxed);
    }
}

/// Zeroed memory, shared with a device and possibly with user space.
///
/// # Invariants
///
/// While `mapped` is set, each piece is mapped for the device that was given to [`Self::map`], at
/// its `dma` address.
pub(crate) struct PageSet {
    pieces: KVVec<Piece>,
    /// Pieces of [`BLOCK`] bytes with which it begins.
    whole: usize,
    length: usize,
    mapped: AtomicFlag,
    _charge: Charge,
}

// SAFETY: The pages belong to no thread.
unsafe impl Send for PageSet {}
// SAFETY: The fields do not change but for `mapped`, which is atomic; the memory itself is accessed
// as shared memory only.
unsafe impl Sync for PageSet {}

impl PageSet {
    /// Allocates `length` bytes, a multiple of the page, in pieces of up to 2 MiB.
    pub(crate) fn new(length: usize) -> Result<Self> {
        Self::build(length, |left| {
            let most = usize::ilog2(left / PAGE_SIZE).min(PIECE_ORDER);
            // Only the smallest is worth any effort.
            (0..=most)
                .rev()
                .find_map(|order| Piece::alloc(order, order == 0))
        })
    }

    /// Like [`Self::new`], but all of it contiguous; `length` is a power of two of pages.
    pub(crate) fn contiguous(length: usize) -> Result<Self> {
        if !(length / PAGE_SIZE).is_power_of_two() {
            return Err(EINVAL);
        }
        Self::build(length, |left| {
            Piece::alloc(usize::ilog2(left / PAGE_SIZE), true)
        })
    }

    fn build(length: usize, mut piece: impl FnMut(usize) -> Option<Piece>) -> Result<Self> {
        if length == 0 || length % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        let charge = Charge::new(length)?;
        let mut pieces = KVVec::new();
        let mut left = length;
        while left > 0 {
            let piece = piece(left).ok_or(ENOMEM)?;
            left = left.checked_sub(piece.size()).ok_or(EINVAL)?;
            pieces.push(piece, GFP_KERNEL)?;
        }
        let is_whole = |p: &&Piece| p.order == PIECE_ORDER;
        let whole = pieces.iter().take_while(is_whole).count();
        Ok(Self {
            pieces,
            whole,
            length,
            mapped: AtomicFlag::new(false),
            _charge: charge,
        })
    }

    /// Maps the memory for the device, in both directions.
    pub(crate) fn map(&mut self, dev: &Device<Bound>) -> Result {
        for at in 0..self.pieces.len() {
            let piece = &mut self.pieces[at];
            // SAFETY: The piece owns its pages, which lie one behind the other.
            match unsafe { dma::map(dev, piece.page, piece.size(), BOTH_WAYS) } {
                Ok(address) => piece.dma = address,
                Err(e) => {
                    self.unmap_first(dev, at);
                    return Err(e);
                }
            }
        }
        // INVARIANT: All pieces were mapped above.
        self.mapped.store(true, Relaxed);
        Ok(())
    }

    fn unmap_first(&self, dev: &Device<Bound>, count: usize) {
        for piece in &self.pieces[..count] {
            // SAFETY: The callers say that these pieces are mapped.
            unsafe { dma::unmap(dev, piece.dma, piece.size(), BOTH_WAYS) };
        }
    }

    /// Ends the device's mapping. The device must not use the memory any more. Doing it again does
    /// nothing.
    pub(crate) fn unmap(&self, dev: &Device<Bound>) {
        if self.mapped.xchg(false, Relaxed) {
            self.unmap_first(dev, self.pieces.len());
        }
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The device's address of the start; the whole set only if it is contiguous.
    pub(crate) fn dma_address(&self) -> u64 {
        self.pieces[0].dma
    }

    /// Device address and bytes of each piece, in order.
    pub(crate) fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pieces.iter().map(|p| (p.dma, p.size() as u64))
    }

    /// Pieces of [`BLOCK`] bytes with which it begins.
    pub(super) fn blocks(&self) -> usize {
        self.whole
    }

    /// Page frame number of the block with this number, if all pieces up to it are [`BLOCK`] bytes
    /// long.
    pub(super) fn block(&self, number: usize) -> Option<usize> {
        (number < self.whole).then(|| self.pieces[number].pfn())
    }

    /// Page frame number and bytes of each piece, in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.pieces.iter().map(|p| (p.pfn(), p.size()))
    }
}

impl Drop for PageSet {
    fn drop(&mut self) {
        if self.mapped.load(Relaxed) {
            pr_err!(
                "BUG: {} bytes of device memory were dropped while mapped; they are leaked\n",
                self.length
            );
            core::mem::forget(core::mem::take(&mut self.pieces));
        }
    }
}

// SAFETY: The first piece is at least one page long and stays allocated as long as `self`.
unsafe impl Shared for PageSet {
    fn base(&self) -> *mut u8 {
        // SAFETY: The page is valid by the invariant of `Piece`.
        unsafe { ffi::mlu_page_address(self.pieces[0].page.cast()) }.cast()
    }

    fn size(&self) -> usize {
        self.pieces[0].size()
    }
}
