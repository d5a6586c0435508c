// SPDX-License-Identifier: GPL-2.0

//! What `kernel::pci` lacks: vendors without a name of their own, where a function sits, and an
//! enabled function that is disabled again.

use kernel::{
    bindings, device,
    dma::{Device as _, DmaMask},
    error::to_result,
    pci,
    pci::Vendor,
    prelude::*,
};

/// A vendor by its number; the kernel crate has only those that `pci_ids.h` names.
pub(crate) const fn vendor(id: u16) -> Vendor {
    // SAFETY: `Vendor` is a transparent wrapper of the number and takes every number
    // (`Vendor::from_raw`).
    unsafe { core::mem::transmute::<u16, Vendor>(id) }
}

/// Where a function sits.
#[derive(Clone, Copy)]
pub(crate) struct Location {
    /// Domain.
    pub(crate) domain: u32,
    /// Bus.
    pub(crate) bus: u8,
    /// Device.
    pub(crate) device: u8,
    /// Function.
    pub(crate) function: u8,
    /// NUMA node, -1 if none.
    pub(crate) node: i32,
}

pub(super) fn raw<C: device::DeviceContext>(pdev: &pci::Device<C>) -> *mut bindings::pci_dev {
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// Where `pdev` sits.
pub(crate) fn location(pdev: &pci::Device) -> Location {
    let raw = raw(pdev);
    // SAFETY: `pdev` is valid, and so are its bus and the bus's private data, which do not change
    // while the device is there.
    let (domain, bus, devfn, node) = unsafe {
        let bus = (*raw).bus;
        let sysdata = (*bus).sysdata.cast::<bindings::pci_sysdata>();
        (
            (*sysdata).domain as u32,
            (*bus).number,
            (*raw).devfn,
            (*raw).dev.numa_node,
        )
    };
    Location {
        domain,
        bus,
        device: (devfn >> 3) as u8,
        function: (devfn & 7) as u8,
        node,
    }
}

impl kernel::fmt::Display for Location {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
            ..
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

/// Speed (a code of PCI Express: 1 for 2.5 GT/s, 4 for 16 GT/s) and width of the link as it runs;
/// zeroes if that cannot be read.
pub(crate) fn link(pdev: &pci::Device) -> (u16, u16) {
    let mut status = 0;
    // SAFETY: `pdev` is valid; `status` can be written, and is zero if the function has no such
    // capability.
    unsafe {
        bindings::pcie_capability_read_word(
            raw(pdev),
            bindings::PCI_EXP_LNKSTA as c_int,
            &mut status,
        )
    };
    let speed = status & bindings::PCI_EXP_LNKSTA_CLS as u16;
    let width =
        (status & bindings::PCI_EXP_LNKSTA_NLW as u16) >> bindings::PCI_EXP_LNKSTA_NLW_SHIFT;
    (speed, width)
}

/// Forbids the function to access memory.
///
/// Only while the driver is bound, or the setting is that of the next driver.
pub(crate) fn clear_master(pdev: &pci::Device) {
    // SAFETY: `pdev` is valid.
    unsafe { bindings::pci_clear_master(raw(pdev)) };
}

/// Resets the function by the means of PCI Express. Its state in configuration space is kept.
///
/// Only in probe: the driver has nothing under way.
pub(crate) fn reset_function(pdev: &pci::Device<device::Core<'_>>) -> Result {
    // SAFETY: `pdev` is valid. For a function that is not there at all the reset would wait a
    // minute.
    if !unsafe { bindings::pci_device_is_present(raw(pdev)) } {
        return Err(ENODEV);
    }
    // SAFETY: `pdev` is valid, and its lock is held in callbacks of the driver core.
    to_result(unsafe { bindings::pci_reset_function_locked(raw(pdev)) })
}

/// An enabled function. Dropping it ends bus mastering and disables the function.
pub(crate) struct Enabled<'bound>(&'bound pci::Device<device::Bound>);

impl<'bound> Enabled<'bound> {
    /// Enables the function's memory and bus mastering, with 64-bit addresses. Called first in
    /// probe.
    pub(crate) fn new(pdev: &'bound pci::Device<device::Core<'_>>) -> Result<Self> {
        pdev.enable_device_mem()?;
        let enabled = Self(pdev);
        // SAFETY: Probe has not allocated or mapped anything for DMA yet.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())? };
        pdev.set_master();
        Ok(enabled)
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        // SAFETY: The function is bound and was enabled by `new`.
        unsafe {
            bindings::pci_clear_master(raw(self.0));
            bindings::pci_disable_device(raw(self.0));
        }
    }
}
