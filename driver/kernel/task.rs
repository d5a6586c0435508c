// SPDX-License-Identifier: GPL-2.0

//! Who is calling.

use kernel::{bindings, prelude::*, task::Kuid};

mod ffi {
    use kernel::ffi;

    unsafe extern "C" {
        pub(super) fn mlu_current_comm(to: *mut ffi::c_char, length: usize);
    }
}

/// The calling process.
pub(crate) struct Caller {
    /// Its number in the initial PID name space.
    pub(crate) pid: u32,
    /// Its effective user in the initial user name space.
    pub(crate) uid: u32,
    /// The command name of the calling thread, zero-padded.
    pub(crate) comm: [u8; 32],
}

impl Caller {
    /// The process that runs this code.
    pub(crate) fn current() -> Self {
        let mut comm = [0; 32];
        // SAFETY: The buffer has the length that is told; the function writes within it.
        unsafe { ffi::mlu_current_comm(comm.as_mut_ptr().cast(), comm.len()) };
        Self {
            pid: kernel::current!().tgid() as u32,
            uid: Kuid::current_euid().into_raw().val,
            comm,
        }
    }
}

/// Whether the caller has `CAP_SYS_RESOURCE` in the initial user name space.
pub(crate) fn has_resources() -> bool {
    // SAFETY: May be called from any process context.
    unsafe { bindings::capable(bindings::CAP_SYS_RESOURCE as c_int) }
}

/// Whether the caller has `CAP_SYS_ADMIN` in the initial user name space.
pub(crate) fn is_admin() -> bool {
    // SAFETY: May be called from any process context.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) }
}
