// SPDX-License-Identifier: GPL-2.0

//! Mappings of page frames into user space: memory that stays while it is mapped, and device pages that can be taken away.

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

use super::pages::PageSet;

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

/// Checks and sets what all mappings have in common: shared, of one process, of a fixed size, not executable.
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

/// Maps all of `pages`; they stay allocated until the mapping is gone.
pub(crate) fn map_pages(vma: &VmaNew, pages: Arc<PageSet>, access: Access) -> Result {
    if vma.end() - vma.start() != pages.len() {
        return Err(EINVAL);
    }
    prepare(vma, access)?;
    let raw = vma.as_ptr();
    let mut at = vma.start();
    for (pfn, bytes) in pages.frames() {
        let bytes = bytes.min(vma.end() - at);
        // SAFETY: The VMA is being set up, the range lies within it, and the frames belong to `pages`, of which the VMA holds a reference
        // for as long as it exists.
        to_result(unsafe { bindings::remap_pfn_range(raw, at, pfn, bytes, (*raw).vm_page_prot) })?;
        at += bytes;
    }
    // SAFETY: The VMA is being set up. It takes over the reference; `close_pages` gives it back.
    unsafe {
        (*raw).vm_private_data = Arc::into_raw(pages).cast_mut().cast();
        (*raw).vm_ops = PAGES_OPERATIONS;
    }
    Ok(())
}

const PAGES_OPERATIONS: &bindings::vm_operations_struct = &bindings::vm_operations_struct {
    open: Some(open_arc::<PageSet>),
    close: Some(close_arc::<PageSet>),
    ..pin_init::zeroed()
};

/// Another VMA over the same object: one was split or moved.
unsafe extern "C" fn open_arc<T>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The private data is a reference that the VMA which was copied still owns, so it is valid.
    let object = unsafe { kernel::sync::ArcBorrow::<T>::from_raw((*vma).vm_private_data.cast()) };
    core::mem::forget(Arc::from(object));
}

unsafe extern "C" fn close_arc<T>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The VMA owns the reference and is going away.
    drop(unsafe { Arc::<T>::from_raw((*vma).vm_private_data.cast()) });
}

/// A page of a device that user space may map until it is revoked.
#[pin_data]
pub(crate) struct DevicePage {
    frame: usize,
    /// Whether the page may be mapped. Held while it is.
    #[pin]
    live: Mutex<bool>,
}

impl DevicePage {
    /// The page at `offset` in a base address register.
    pub(crate) fn new(pdev: &pci::Device, bar: u32, offset: u64) -> Result<Arc<Self>> {
        let end = offset.checked_add(PAGE_SIZE as u64).ok_or(EINVAL)?;
        let address = pdev
            .resource_start(bar)?
            .checked_add(offset)
            .ok_or(EINVAL)?;
        if end > pdev.resource_len(bar)? || address % PAGE_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        Arc::pin_init(
            pin_init!(Self {
                frame: address as usize / PAGE_SIZE,
                live <- new_mutex!(true),
            }),
            GFP_KERNEL,
        )
    }

    /// Maps the page, which is entered on the first access: only then does the mapping stand in the tables that [`Self::revoke`] searches.
    pub(crate) fn map(vma: &VmaNew, page: Arc<Self>) -> Result {
        if vma.end() - vma.start() != PAGE_SIZE {
            return Err(EINVAL);
        }
        prepare(vma, Access::ReadWrite)?;
        let raw = vma.as_ptr();
        // SAFETY: The VMA is being set up. It takes over the reference; `close_arc` gives it back.
        unsafe {
            (*raw).vm_private_data = Arc::into_raw(page).cast_mut().cast();
            (*raw).vm_ops = DEVICE_OPERATIONS;
        }
        Ok(())
    }

    /// Takes the page away, for good: accesses then raise SIGBUS. `offset` is the one at which it is mapped, unique in `file`'s inode.
    pub(crate) fn revoke(&self, file: &FileMapping, offset: u64) {
        *self.live.lock() = false;
        file.unmap(offset, PAGE_SIZE);
    }

    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The fault is one of a VMA that `map` has set up, which owns a reference; the VMA stays during the call.
        unsafe {
            let vma = (*vmf).__bindgen_anon_1.vma;
            let page = kernel::sync::ArcBorrow::<Self>::from_raw((*vma).vm_private_data.cast());
            let live = page.live.lock();
            if !*live {
                return bindings::vm_fault_reason_VM_FAULT_SIGBUS as bindings::vm_fault_t;
            }
            // The memory type of the frame, uncached, is looked up by the callee.
            bindings::vmf_insert_pfn(
                vma,
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                page.frame,
            )
        }
    }
}

const DEVICE_OPERATIONS: &bindings::vm_operations_struct = &bindings::vm_operations_struct {
    open: Some(open_arc::<DevicePage>),
    close: Some(close_arc::<DevicePage>),
    fault: Some(DevicePage::fault),
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

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::iput((*self.mapping).host) };
    }
}
