// SPDX-License-Identifier: GPL-2.0

//! Streaming mappings of pages for the device.

use kernel::{
    bindings,
    device::{Bound, Device},
    prelude::*,
};

/// Who writes and who reads.
pub(super) type Direction = bindings::dma_data_direction;

fn raw(dev: &Device<Bound>) -> *mut bindings::device {
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Maps `length` bytes of pages for the device; the address that it uses for them. `ENOMEM`: there
/// is no room for it.
///
/// # Safety
///
/// The pages from `page` on, `length` bytes, lie one behind the other and stay until [`unmap`].
pub(super) unsafe fn map(
    dev: &Device<Bound>,
    page: *mut bindings::page,
    length: usize,
    direction: Direction,
) -> Result<bindings::dma_addr_t> {
    // SAFETY: The device is bound; of the pages the caller has promised it.
    let address = unsafe { bindings::dma_map_page_attrs(raw(dev), page, 0, length, direction, 0) };
    // What `dma_mapping_error` compares with.
    if address == bindings::dma_addr_t::MAX {
        return Err(ENOMEM);
    }
    Ok(address)
}

/// Ends a mapping.
///
/// # Safety
///
/// [`map`] gave `address` for this device, length and direction, and it is mapped still; the device
/// does not use it any more.
pub(super) unsafe fn unmap(
    dev: &Device<Bound>,
    address: bindings::dma_addr_t,
    length: usize,
    direction: Direction,
) {
    // SAFETY: As the caller promises.
    unsafe { bindings::dma_unmap_page_attrs(raw(dev), address, length, direction, 0) };
}
