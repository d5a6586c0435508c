// SPDX-License-Identifier: GPL-2.0

//! What is kept of a device that failed: `/sys/class/devcoredump/devcd*/data`, until somebody reads
//! it and writes to it, or for five minutes.

use kernel::{device::Device, fmt, prelude::*};

mod ffi {
    use kernel::ffi;

    unsafe extern "C" {
        pub(super) fn mlu_coredump(dev: *mut ffi::c_void, data: *const ffi::c_void, length: usize);
    }
}

/// Most bytes of a dump.
const MOST: usize = 1 << 20;

/// Text that grows up to a limit; what is beyond is left out.
pub(crate) struct Text(KVVec<u8>);

impl Text {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(KVVec::new())
    }

    /// Keeps it in the name of `device`. While an earlier dump of the device is there, or without
    /// memory, it is dropped.
    pub(crate) fn keep(self, device: &Device) {
        let raw = core::ptr::from_ref(device).cast_mut().cast();
        // SAFETY: The device is valid; the data is copied.
        unsafe { ffi::mlu_coredump(raw, self.0.as_ptr().cast(), self.0.len()) };
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST {
            return Err(fmt::Error);
        }
        self.0
            .extend_from_slice(text.as_bytes(), GFP_KERNEL)
            .map_err(|_| fmt::Error)
    }
}
