// SPDX-License-Identifier: GPL-2.0

//! Mappings of page frames into user space: memory that stays while it is mapped, and device pages
//! that can be taken away.

use kernel::{
    bindings,
    error::to_result,
    fs::File,
    mm::virt::{flags, VmaNew},
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{Arc, Mutex},
};

use super::pages::{PageSet, BLOCK};

/// What user space may do with a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// Offset in the file, bytes, at which a mapping is asked for.
pub(crate) fn offset(vma: &VmaNew) -> u64 {
    // SAFETY: The VMA is valid and being set up.
    let pages = unsafe { (*vma.as_ptr()).vm_pgoff };
    (pages as u64).saturating_mul(PAGE_SIZE as u64)
}

/// Checks and sets what all mappings have in common: shared, of one process, of a fixed size, not
/// executable.
fn prepare(vma: &VmaNew, access: Access) -> Result {
    if vma.flags() & flags::MAYSHARE == 0 || vma.executable() {
        return Err(EINVAL);
    }
    if access == Access::Read {
        if vma.writable() {
            return Err(EACCES);
        }
        vma.try_clear_maywrite()?;
    }
    vma.try_clear_mayexec()?;
    vma.set_io();
    vma.set_dontcopy();
    vma.set_dontexpand();
    vma.set_dontdump();
    // SAFETY: The VMA is being set up, so its flags may be changed.
    unsafe { (*vma.as_ptr()).__bindgen_anon_2.vm_flags |= flags::PFNMAP };
    Ok(())
}

/// A mapping of pages.
struct Mapping {
    pages: Arc<PageSet>,
    /// Offset in the file at which `pages` begin.
    offset: u64,
}

/// Maps all of `pages`; they stay allocated until the mapping is gone.
///
/// Blocks of 2 MiB, where the mapping is aligned for them, are entered whole on the first access: a
/// large mapping then costs little to make, and above all little to take away when its process is
/// killed.
pub(crate) fn map_pages(vma: &VmaNew, pages: Arc<PageSet>, access: Access) -> Result {
    if vma.end() - vma.start() != pages.len() {
        return Err(EINVAL);
    }
    prepare(vma, access)?;
    let offset = offset(vma);
    let aligned = vma.start() % BLOCK == 0 && offset % BLOCK as u64 == 0;
    let mut blocks = if aligned { pages.blocks() } else { 0 };
    let mapping = Arc::new(Mapping { pages, offset }, GFP_KERNEL)?;
    let raw = vma.as_ptr();
    let mut at = vma.start();
    for (pfn, bytes) in mapping.pages.frames() {
        let bytes = bytes.min(vma.end() - at);
        if blocks > 0 {
            blocks -= 1;
        } else {
            // SAFETY: The VMA is being set up, the range lies within it, and the frames belong to
            // the pages, of which the VMA holds a reference for as long as it exists.
            to_result(unsafe {
                bindings::remap_pfn_range(raw, at, pfn, bytes, (*raw).vm_page_prot)
            })?;
        }
        at += bytes;
    }
    // SAFETY: The VMA is being set up. It takes over the reference; `close_arc` gives it back.
    unsafe {
        (*raw).vm_private_data = Arc::into_raw(mapping).cast_mut().cast();
        (*raw).vm_ops = PAGES_OPERATIONS;
    }
    Ok(())
}

const SIGBUS: bindings::vm_fault_t =
    bindings::vm_fault_reason_VM_FAULT_SIGBUS as bindings::vm_fault_t;
const FALLBACK: bindings::vm_fault_t =
    bindings::vm_fault_reason_VM_FAULT_FALLBACK as bindings::vm_fault_t;

/// The VMA of a fault, its start and end, the offset in the file, bytes, of its start, the address,
/// and what the VMA maps.
///
/// # Safety
///
/// `vmf` is a fault that is being handled, for as long as `'a`, of a VMA whose private data is a
/// reference of a `T`.
unsafe fn describe<'a, T>(
    vmf: *mut bindings::vm_fault,
) -> (
    *mut bindings::vm_area_struct,
    usize,
    usize,
    u64,
    usize,
    kernel::sync::ArcBorrow<'a, T>,
) {
    // SAFETY: As the caller promises; the VMA stays during the call, and owns the reference.
    unsafe {
        let vma = (*vmf).__bindgen_anon_1.vma;
        let range = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
        (
            vma,
            range.vm_start,
            range.vm_end,
            (*vma).vm_pgoff as u64 * PAGE_SIZE as u64,
            (*vmf).__bindgen_anon_1.address,
            kernel::sync::ArcBorrow::from_raw((*vma).vm_private_data.cast()),
        )
    }
}

/// A mapping whose pages are entered when they are accessed.
trait OnAccess {
    /// Enters the page in which `vmf` faulted and some around it; with `whole`, the block around it
    /// in one piece, or `FALLBACK`.
    ///
    /// # Safety
    ///
    /// The fault is one of a VMA whose private data is a reference of a `Self`.
    unsafe fn enter(vmf: *mut bindings::vm_fault, whole: bool) -> bindings::vm_fault_t;
}

/// # Safety
///
/// Called by mm, with a fault in a VMA whose private data is a reference of a `T`.
unsafe extern "C" fn fault<T: OnAccess>(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: These operations belong to VMAs whose private data is a reference of a `T`.
    unsafe { T::enter(vmf, false) }
}

/// # Safety
///
/// Called by mm, with a fault in a VMA whose private data is a reference of a `T`.
unsafe extern "C" fn huge_fault<T: OnAccess>(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    if PAGE_SIZE << order != BLOCK {
        return FALLBACK;
    }
    // SAFETY: As in `fault`.
    unsafe { T::enter(vmf, true) }
}

impl OnAccess for Mapping {
    /// Page by page, all of the block is entered: the VMA, having been split, may have only a part
    /// of it.
    unsafe fn enter(vmf: *mut bindings::vm_fault, whole: bool) -> bindings::vm_fault_t {
        // SAFETY: The VMA stays during the call, as the caller promises, and its private data is
        // one of these.
        let (vma, start, end, first, address, this) = unsafe { describe::<Self>(vmf) };
        // Addresses and offsets in the pages are aligned alike, or there would be nothing left to
        // enter.
        let block = address & !(BLOCK - 1);
        let begin = block.max(start);
        let Some(at) = (first + (begin - start) as u64).checked_sub(this.offset) else {
            return SIGBUS;
        };
        let Some(frame) = this.pages.block(at as usize / BLOCK) else {
            return SIGBUS;
        };
        if whole {
            if block < start || end - block < BLOCK {
                return FALLBACK;
            }
            // SAFETY: The block lies within the VMA, and its frames belong to the pages that the
            // VMA holds.
            return unsafe {
                let write = (*vma).__bindgen_anon_2.vm_flags & flags::WRITE != 0;
                bindings::vmf_insert_pfn_pmd(vmf, frame, write)
            };
        }
        let mut result = SIGBUS;
        for page in (begin..end.min(block + BLOCK)).step_by(PAGE_SIZE) {
            let frame = frame + (page - block) / PAGE_SIZE;
            // SAFETY: As above, of one page.
            result = unsafe { bindings::vmf_insert_pfn(vma, page, frame) };
            if result != bindings::vm_fault_reason_VM_FAULT_NOPAGE as bindings::vm_fault_t {
                break;
            }
        }
        result
    }
}

const PAGES_OPERATIONS: &bindings::vm_operations_struct = &bindings::vm_operations_struct {
    open: Some(open_arc::<Mapping>),
    close: Some(close_arc::<Mapping>),
    fault: Some(fault::<Mapping>),
    huge_fault: Some(huge_fault::<Mapping>),
    ..pin_init::zeroed()
};

/// Another VMA over the same object: one was split or moved.
///
/// # Safety
///
/// Called by mm, with a VMA whose private data is a copy of a reference of a `T`.
unsafe extern "C" fn open_arc<T>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The private data is a reference that the VMA which was copied still owns, so it is
    // valid.
    let object = unsafe { kernel::sync::ArcBorrow::<T>::from_raw((*vma).vm_private_data.cast()) };
    core::mem::forget(Arc::from(object));
}

/// # Safety
///
/// Called by mm, once, with a VMA whose private data is its own reference of a `T`.
unsafe extern "C" fn close_arc<T>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The VMA owns the reference and is going away.
    drop(unsafe { Arc::<T>::from_raw((*vma).vm_private_data.cast()) });
}

/// Pages of a device that user space may map until they are revoked.
#[pin_data]
pub(crate) struct DeviceRange {
    frame: usize,
    length: usize,
    /// Whether the pages may be mapped. Held while they are.
    #[pin]
    live: Mutex<bool>,
}

/// A mapping of a [`DeviceRange`].
struct DeviceMapping {
    range: Arc<DeviceRange>,
    /// Offset in the file at which `range` begins.
    offset: u64,
}

impl DeviceRange {
    /// `length` bytes, whole pages, from `offset` on in a base address register.
    pub(crate) fn new(
        pdev: &pci::Device,
        bar: u32,
        offset: u64,
        length: usize,
    ) -> Result<Arc<Self>> {
        let end = offset.checked_add(length as u64).ok_or(EINVAL)?;
        let address = pdev
            .resource_start(bar)?
            .checked_add(offset)
            .ok_or(EINVAL)?;
        let page = PAGE_SIZE as u64;
        if end > pdev.resource_len(bar)?
            || address % page != 0
            || length as u64 % page != 0
            || length == 0
        {
            return Err(EINVAL);
        }
        Arc::pin_init(
            pin_init!(Self {
                frame: address as usize / PAGE_SIZE,
                length,
                live <- new_mutex!(true),
            }),
            GFP_KERNEL,
        )
    }

    /// Maps all of it. Pages are entered on the first access: only then does the mapping stand in
    /// the tables that [`Self::revoke`] searches.
    pub(crate) fn map(vma: &VmaNew, range: Arc<Self>) -> Result {
        if vma.end() - vma.start() != range.length {
            return Err(EINVAL);
        }
        let offset = offset(vma);
        Self::set_up(vma, DeviceMapping { range, offset })
    }

    /// Maps some of it: from the VMA's offset on, which counts from its start.
    pub(crate) fn map_part(vma: &VmaNew, range: Arc<Self>) -> Result {
        let end = offset(vma).checked_add((vma.end() - vma.start()) as u64);
        if end.is_none_or(|end| end > range.length as u64) {
            return Err(EINVAL);
        }
        Self::set_up(vma, DeviceMapping { range, offset: 0 })
    }

    fn set_up(vma: &VmaNew, mapping: DeviceMapping) -> Result {
        prepare(vma, Access::ReadWrite)?;
        let mapping = Arc::new(mapping, GFP_KERNEL)?;
        let raw = vma.as_ptr();
        // SAFETY: The VMA is being set up. It takes over the reference; `close_arc` gives it back.
        unsafe {
            (*raw).vm_private_data = Arc::into_raw(mapping).cast_mut().cast();
            (*raw).vm_ops = DEVICE_OPERATIONS;
        }
        Ok(())
    }

    /// Takes the pages away, for good: accesses then raise SIGBUS. `offset` is the one at which
    /// they are mapped, unique in `file`'s inode.
    pub(crate) fn revoke(&self, file: &FileMapping, offset: u64) {
        *self.live.lock() = false;
        file.unmap(offset, self.length);
    }
}

impl OnAccess for DeviceMapping {
    unsafe fn enter(vmf: *mut bindings::vm_fault, whole: bool) -> bindings::vm_fault_t {
        // SAFETY: The VMA stays during the call, as the caller promises, and its private data is
        // one of these.
        let (vma, start, end, first, address, this) = unsafe { describe::<Self>(vmf) };
        let unit = if whole { BLOCK } else { PAGE_SIZE };
        let begin = address & !(unit - 1);
        if begin < start || end - begin < unit {
            return FALLBACK;
        }
        let at = (first + (begin - start) as u64).checked_sub(this.offset);
        let Some(at) = at.map(|at| at as usize) else {
            return SIGBUS;
        };
        let range = &this.range;
        let frame = range.frame + at / PAGE_SIZE;
        let live = range.live.lock();
        if !*live || at >= range.length {
            return SIGBUS;
        }
        if !whole {
            // SAFETY: The page lies within the VMA. The memory type of the frame is looked up by
            // the callee.
            return unsafe { bindings::vmf_insert_pfn(vma, begin, frame) };
        }
        if range.length - at < BLOCK || frame * PAGE_SIZE % BLOCK != 0 {
            return FALLBACK;
        }
        // SAFETY: As above, of a block, to which the frame is aligned.
        unsafe {
            let write = (*vma).__bindgen_anon_2.vm_flags & flags::WRITE != 0;
            bindings::vmf_insert_pfn_pmd(vmf, frame, write)
        }
    }
}

const DEVICE_OPERATIONS: &bindings::vm_operations_struct = &bindings::vm_operations_struct {
    open: Some(open_arc::<DeviceMapping>),
    close: Some(close_arc::<DeviceMapping>),
    fault: Some(fault::<DeviceMapping>),
    huge_fault: Some(huge_fault::<DeviceMapping>),
    ..pin_init::zeroed()
};

/// The mappings of all files that are open on an inode.
///
/// # Invariants
///
/// `mapping` is that of an inode of which this value holds a reference.
pub(crate) struct FileMapping {
    mapping: *mut bindings::address_space,
}

// SAFETY: The mappings may be searched from any thread.
unsafe impl Send for FileMapping {}
// SAFETY: They have their own locks.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    /// The mappings of the inode of `file`.
    pub(crate) fn new(file: &File) -> Self {
        // SAFETY: An open file has a mapping, whose host is an inode that the file holds.
        // INVARIANT: Takes a reference of the inode.
        unsafe {
            let mapping = (*file.as_ptr()).f_mapping;
            bindings::ihold((*mapping).host);
            Self { mapping }
        }
    }

    /// Removes what is mapped at `length` bytes from `offset` on from all page tables.
    fn unmap(&self, offset: u64, length: usize) {
        // SAFETY: Valid by the type invariant.
        unsafe {
            bindings::unmap_mapping_range(self.mapping, offset as i64, length as i64, 1);
        }
    }
}

impl Clone for FileMapping {
    fn clone(&self) -> Self {
        // SAFETY: The inode is valid by the type invariant.
        // INVARIANT: Takes another reference of it.
        unsafe { bindings::ihold((*self.mapping).host) };
        Self {
            mapping: self.mapping,
        }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::iput((*self.mapping).host) };
    }
}
