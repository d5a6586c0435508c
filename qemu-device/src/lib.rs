//! The virtual MLU as a device.
//!
//! Three ways to have cards, with the same firmware on all: [`embedded`] puts chips into this process; [`local`] shares them with other
//! processes over a Unix socket; the vfio-user server (feature `vfio-user`) offers each chip as a PCI function to a hypervisor. The binary
//! `mlu-server` is both servers.

pub mod card;
pub mod embedded;
pub mod events;
pub mod host;
pub mod local;
mod lock;
#[cfg(feature = "vfio-user")]
pub mod server;
pub mod topology;
#[cfg(feature = "vfio-user")]
pub mod vfio;
