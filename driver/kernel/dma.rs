// SPDX-License-Identifier: GPL-2.0

//! Streaming mappings of pages for the device.

use kernel::{
    bindings,
    device::{Bound, Device},
    error::to_result,
    prelude::*,
};

mod ffi {
    use kernel::{bindings, ffi};

    unsafe extern "C" {
        // A `struct device`, whose binding has fields that are not for FFI.
        pub(super) fn mlu_dma_mapping_error(
            dev: *mut ffi::c_void,
            address: bindings::dma_addr_t,
        ) -> ffi::c_int;
    }
}

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
    // SAFETY: The device is bound, and the address what mapping for it has given.
    to_result(unsafe { ffi::mlu_dma_mapping_error(raw(dev).cast(), address) })?;
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
