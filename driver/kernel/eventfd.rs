// SPDX-License-Identifier: GPL-2.0

//! Eventfds, which the kernel crate does not know: `include/linux/eventfd.h`.

use core::ptr::NonNull;

use kernel::{bindings, error::from_err_ptr, prelude::*};

/// An eventfd that somebody opened. Dropping it, in any context, gives the reference back.
///
/// # Invariants
///
/// The pointer is valid, and this value owns a reference to it.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: An eventfd belongs to no thread.
unsafe impl Send for EventFd {}
// SAFETY: An eventfd has its own lock.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// The eventfd behind a descriptor of the calling process: `EBADF` if it names nothing,
    /// `EINVAL` if it is something else.
    pub(crate) fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        let context = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The call succeeded, so that it gave a reference.
        NonNull::new(context).map(Self).ok_or(EBADF)
    }

    /// Adds one to the count. May be called in any context.
    pub(crate) fn signal(&self) {
        // SAFETY: Valid by the type invariant.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}
