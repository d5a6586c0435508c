// SPDX-License-Identifier: GPL-2.0

//! Proof that a device is bound, for code that outlives the binding.

use kernel::{
    device::{Bound, Device},
    devres, new_mutex, pci,
    prelude::*,
    sync::{aref::ARef, Arc, Mutex},
};

/// Holds back the end of a device's binding while somebody uses the device.
///
/// DMA mappings may be made and undone only while the driver is bound, but files stay open beyond
/// that. Such code goes through [`Self::with`], which either proves that the device is bound for as
/// long as it runs, or does not run.
///
/// # Invariants
///
/// `device` is `None` once the device is not bound any more.
#[pin_data]
pub(crate) struct BoundGate {
    #[pin]
    device: Mutex<Option<ARef<Device>>>,
}

impl BoundGate {
    /// Makes a gate that is open until [`Self::close`], at the latest until the driver is unbound.
    pub(crate) fn new(device: &Device<Bound>) -> Result<Arc<Self>> {
        let reference: ARef<Device> = device.into();
        let gate = Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(Some(reference)),
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: The closer is dropped, and closes the gate, before the device's resources are
        // released.
        let closer: Result<Closer> = Ok(Closer(gate.clone()));
        devres::register::<Closer, Error>(device, closer, GFP_KERNEL)?;
        Ok(gate)
    }

    /// Runs `f` with the bound device, or returns `None` when the gate is closed.
    ///
    /// Sleeps; not to be nested.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> R) -> Option<R> {
        let guard = self.device.lock();
        let device = guard.as_ref()?;
        // SAFETY: The device is bound by the type invariant, and stays so while `f` runs, since
        // unbinding it takes the lock.
        Some(f(unsafe { device.as_bound() }))
    }

    /// [`Self::with`], with the PCI function whose device this is.
    pub(crate) fn with_function<R>(
        &self,
        pdev: &pci::Device,
        f: impl FnOnce(&pci::Device<Bound>) -> R,
    ) -> Option<R> {
        self.with(|device| {
            let own: &Device = pdev.as_ref();
            if !core::ptr::eq(core::ptr::from_ref(own).cast(), core::ptr::from_ref(device)) {
                return None;
            }
            // SAFETY: The function's device is bound, as `with` proves, and the context is no more
            // than a mark of the type.
            Some(f(unsafe { &*core::ptr::from_ref(pdev).cast() }))
        })?
    }

    /// Waits for users and lets no more in.
    pub(crate) fn close(&self) {
        self.device.lock().take();
    }
}

/// Closes the gate when the device is unbound.
struct Closer(Arc<BoundGate>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.close();
    }
}
