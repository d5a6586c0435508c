// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors with threaded handlers, as many as the device has.
//!
//! `kernel::irq::ThreadedRegistration` borrows from `pci::IrqVectorRegistration`, so a driver
//! cannot keep both in one structure; this owns them together.

use kernel::{bindings, device::Bound, error::to_result, pci, prelude::*};

mod ffi {
    unsafe extern "C" {
        pub(super) fn mlu_online_cpus() -> kernel::ffi::c_uint;
    }
}

/// Processors that are in use.
pub(crate) fn processors() -> u32 {
    // SAFETY: Reads a counter.
    unsafe { ffi::mlu_online_cpus() }
}

/// What is done on an interrupt, in a thread of its own.
pub(crate) trait Handler: Send + Sync {
    /// Handles an interrupt.
    fn handle(&self);
}

/// The vectors of a function and their handlers. Dropping it frees them; no handler runs
/// afterwards.
///
/// # Invariants
///
/// `pdev` has `count` vectors allocated; `handlers[i]` is registered on vector `i` with its address
/// as cookie.
pub(crate) struct Vectors<'bound, H: Handler> {
    pdev: &'bound pci::Device<Bound>,
    count: usize,
    handlers: KVec<KBox<H>>,
}

impl<'bound, H: Handler> Vectors<'bound, H> {
    /// Allocates 1 to `most` vectors, MSI-X if the function has it, otherwise MSI.
    pub(crate) fn new(pdev: &'bound pci::Device<Bound>, most: u32) -> Result<Self> {
        // SAFETY: `pdev` is bound; the function checks the rest.
        let count = unsafe {
            bindings::pci_alloc_irq_vectors(
                super::pci::raw(pdev),
                1,
                most,
                bindings::PCI_IRQ_MSIX | bindings::PCI_IRQ_MSI,
            )
        };
        to_result(count)?;
        // INVARIANT: `count` vectors were allocated and have no handlers.
        Ok(Self {
            pdev,
            count: count as usize,
            handlers: KVec::new(),
        })
    }

    /// Vectors that were allocated.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether they are MSI-X, otherwise MSI.
    pub(crate) fn is_msix(&self) -> bool {
        // SAFETY: `pdev` is valid.
        let kind = unsafe { bindings::pci_irq_type(super::pci::raw(self.pdev)) };
        kind == bindings::PCI_IRQ_MSIX
    }

    /// Registers the handler of the next vector.
    pub(crate) fn push(&mut self, name: &'static CStr, handler: H) -> Result {
        let index = self.handlers.len();
        if index >= self.count {
            return Err(EINVAL);
        }
        self.handlers.reserve(1, GFP_KERNEL)?;
        let handler = KBox::new(handler, GFP_KERNEL)?;
        // SAFETY: `pdev` has more than `index` vectors.
        to_result(unsafe {
            bindings::request_threaded_irq(
                self.irq(index)?,
                Some(Self::hard),
                Some(Self::threaded),
                0,
                name.as_char_ptr(),
                core::ptr::from_ref::<H>(&handler).cast_mut().cast(),
            )
        })?;
        // INVARIANT: The handler is registered; the address of its box does not change when the box
        // moves.
        if let Err(e) = self.handlers.push_within_capacity(handler) {
            // Cannot be, since room was reserved above. A registered handler must not be dropped.
            core::mem::forget(e);
            return Err(EINVAL);
        }
        Ok(())
    }

    fn irq(&self, index: usize) -> Result<u32> {
        // SAFETY: `pdev` is valid; the function checks the index.
        let irq = unsafe { bindings::pci_irq_vector(super::pci::raw(self.pdev), index as u32) };
        to_result(irq)?;
        Ok(irq as u32)
    }

    /// # Safety
    ///
    /// Called by the interrupt core.
    unsafe extern "C" fn hard(_irq: c_int, _cookie: *mut c_void) -> bindings::irqreturn_t {
        bindings::irqreturn::IRQ_WAKE_THREAD
    }

    /// # Safety
    ///
    /// Called by the interrupt core, with the cookie that the interrupt was requested with.
    unsafe extern "C" fn threaded(_irq: c_int, cookie: *mut c_void) -> bindings::irqreturn_t {
        // SAFETY: The cookie is the address of a handler that lives until `free_irq` has returned.
        unsafe { &*cookie.cast::<H>() }.handle();
        bindings::irqreturn::IRQ_HANDLED
    }
}

impl<H: Handler> Drop for Vectors<'_, H> {
    fn drop(&mut self) {
        for (index, handler) in self.handlers.iter().enumerate() {
            if let Ok(irq) = self.irq(index) {
                // SAFETY: Registered with this cookie by the type invariant. Waits for handlers
                // that run.
                unsafe {
                    bindings::free_irq(irq, core::ptr::from_ref::<H>(handler).cast_mut().cast())
                };
            }
        }
        // SAFETY: The vectors were allocated, and no handler is registered any more.
        unsafe { bindings::pci_free_irq_vectors(super::pci::raw(self.pdev)) };
    }
}
