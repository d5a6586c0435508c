//! The virtual MLU as a device.
//!
//! Two ways to have cards, with the same firmware on both: [`embedded`] puts chips into this process; the server (feature `vfio-user`,
//! binary `mlu-server`) offers each chip as a PCI function to a hypervisor over a vfio-user socket.

pub mod card;
pub mod embedded;
pub mod host;
mod lock;
#[cfg(feature = "vfio-user")]
pub mod server;
#[cfg(feature = "vfio-user")]
pub mod vfio;
