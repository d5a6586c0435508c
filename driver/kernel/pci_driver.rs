// SPDX-License-Identifier: GPL-2.0

//! A PCI driver with handlers for errors, resets, sleep and the end of the machine, which
//! `kernel::pci::Driver` does not have.

use kernel::{bindings, device, driver, error::from_result, pci, prelude::*, types::Opaque};

/// What an error has left of the way to a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// It works.
    Normal,
    /// Nothing gets through until it is reset.
    Frozen,
    /// Nothing will ever get through again.
    Dead,
}

/// What a driver thinks of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The function goes on.
    CanRecover,
    /// It needs a reset of its slot.
    NeedReset,
    /// It is given up.
    Disconnect,
    /// It works again.
    Recovered,
}

impl Verdict {
    fn raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}

/// What the PCI core and the driver core ask of a driver between probe and unbind, with the
/// device's lock held; see `Documentation/PCI/pci-error-recovery.rst` and
/// `Documentation/power/pci.rst`. All of it may sleep.
pub(crate) trait Lifecycle: pci::Driver {
    /// An error was reported.
    fn error_detected(pdev: &pci::Device, channel: Channel) -> Verdict;
    /// The slot was reset, and configuration space is as it was.
    fn slot_reset(pdev: &pci::Device) -> Verdict;
    /// The function may be used again.
    fn error_recovered(pdev: &pci::Device);
    /// Somebody is about to reset the function.
    fn reset_prepare(pdev: &pci::Device);
    /// It was reset, and configuration space is as it was.
    fn reset_done(pdev: &pci::Device);
    /// The machine is about to sleep.
    fn suspend(pdev: &pci::Device) -> Result;
    /// It has woken up.
    fn resume(pdev: &pci::Device) -> Result;
    /// The machine is about to end, or another kernel to begin.
    fn shutdown(pdev: &pci::Device);
}

/// Registers a driver with its [`Lifecycle`].
pub(crate) struct Adapter<T: Lifecycle>(T);

// SAFETY: As of `pci::Adapter`, whose layout and data these are.
unsafe impl<T: Lifecycle> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::pci_driver;
    type DriverData<'bound> = T::Data<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(Self::DriverType, driver);
}

// SAFETY: Registered and unregistered by `pci::Adapter`, which keeps the rules.
unsafe impl<T: Lifecycle + 'static> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The fields may be set before the driver is registered; the tables are static.
        unsafe {
            (*reg.get()).err_handler = Self::ERRORS;
            (*reg.get()).driver.pm = Self::POWER;
            (*reg.get()).shutdown = Some(Self::shutdown);
        }
        // SAFETY: As the caller promises.
        unsafe { <pci::Adapter<T> as driver::RegistrationOps>::register(reg, name, module) }
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        // SAFETY: As the caller promises.
        unsafe { <pci::Adapter<T> as driver::RegistrationOps>::unregister(reg) }
    }
}

/// The function of a callback of the PCI core.
///
/// # Safety
///
/// `raw` is valid for `'a`.
unsafe fn function<'a>(raw: *mut bindings::pci_dev) -> &'a pci::Device {
    // SAFETY: `pci::Device` is a transparent wrapper, and `raw` is valid.
    unsafe { &*raw.cast() }
}

/// The function of a callback of the driver core.
///
/// # Safety
///
/// `raw` is the device in a PCI function that is valid for `'a`.
unsafe fn function_of<'a>(raw: *mut bindings::device) -> &'a pci::Device {
    // SAFETY: As the caller promises.
    unsafe { function(kernel::container_of!(raw, bindings::pci_dev, dev)) }
}

impl<T: Lifecycle> Adapter<T> {
    const ERRORS: &'static bindings::pci_error_handlers = &bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected),
        slot_reset: Some(Self::slot_reset),
        resume: Some(Self::error_recovered),
        reset_prepare: Some(Self::reset_prepare),
        reset_done: Some(Self::reset_done),
        ..pin_init::zeroed()
    };

    const POWER: &'static bindings::dev_pm_ops = &bindings::dev_pm_ops {
        suspend: Some(Self::suspend),
        resume: Some(Self::resume),
        freeze: Some(Self::suspend),
        thaw: Some(Self::resume),
        poweroff: Some(Self::suspend),
        restore: Some(Self::resume),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the AER core, with a function that is bound to this driver.
    unsafe extern "C" fn error_detected(
        pdev: *mut bindings::pci_dev,
        channel: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let channel = match channel {
            bindings::pci_channel_io_normal => Channel::Normal,
            bindings::pci_channel_io_frozen => Channel::Frozen,
            _ => Channel::Dead,
        };
        // SAFETY: The PCI core gives a valid function.
        T::error_detected(unsafe { function(pdev) }, channel).raw()
    }

    /// # Safety
    ///
    /// Called by the AER core, with a function that is bound to this driver and was reset.
    unsafe extern "C" fn slot_reset(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: As above; what was saved when the function was found, or reset last, is restored.
        unsafe {
            bindings::pci_restore_state(pdev);
            T::slot_reset(function(pdev)).raw()
        }
    }

    /// # Safety
    ///
    /// Called by the AER core, with a function that is bound to this driver.
    unsafe extern "C" fn error_recovered(pdev: *mut bindings::pci_dev) {
        // SAFETY: As above.
        T::error_recovered(unsafe { function(pdev) });
    }

    /// # Safety
    ///
    /// Called by the PCI core, with a function that is bound to this driver.
    unsafe extern "C" fn reset_prepare(pdev: *mut bindings::pci_dev) {
        // SAFETY: As above.
        T::reset_prepare(unsafe { function(pdev) });
    }

    /// # Safety
    ///
    /// Called by the PCI core, with a function that is bound to this driver.
    unsafe extern "C" fn reset_done(pdev: *mut bindings::pci_dev) {
        // SAFETY: As above.
        T::reset_done(unsafe { function(pdev) });
    }

    /// # Safety
    ///
    /// Called by the PM core, with the device of a function that is bound to this driver.
    unsafe extern "C" fn suspend(dev: *mut bindings::device) -> c_int {
        // SAFETY: The driver core gives the device of a function that is bound to this driver.
        from_result(|| T::suspend(unsafe { function_of(dev) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the PM core, with the device of a function that is bound to this driver.
    unsafe extern "C" fn resume(dev: *mut bindings::device) -> c_int {
        // SAFETY: As above.
        from_result(|| T::resume(unsafe { function_of(dev) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the PCI core, with a function that is bound to this driver.
    unsafe extern "C" fn shutdown(pdev: *mut bindings::pci_dev) {
        // SAFETY: As above.
        T::shutdown(unsafe { function(pdev) });
    }
}

/// Whether the function answers in configuration space.
pub(crate) fn is_present(pdev: &pci::Device) -> bool {
    // SAFETY: `pdev` is valid.
    unsafe { bindings::pci_device_is_present(super::pci::raw(pdev)) }
}

/// Resets the function, unless somebody has its lock: then `EAGAIN`. Calls the driver's handlers of
/// resets.
pub(crate) fn try_reset_function(pdev: &pci::Device) -> Result {
    // SAFETY: `pdev` is valid.
    kernel::error::to_result(unsafe { bindings::pci_try_reset_function(super::pci::raw(pdev)) })
}

/// Resets the bus of the function with all that is on it, unless somebody has its lock. Calls the
/// handlers of resets.
pub(crate) fn try_reset_bus(pdev: &pci::Device) -> Result {
    // SAFETY: `pdev` is valid.
    kernel::error::to_result(unsafe { bindings::pci_reset_bus(super::pci::raw(pdev)) })
}

/// Lets the function access memory, as after a reset.
pub(crate) fn set_master(pdev: &pci::Device<device::Bound>) {
    // SAFETY: `pdev` is valid, bound and enabled.
    unsafe { bindings::pci_set_master(super::pci::raw(pdev)) };
}
