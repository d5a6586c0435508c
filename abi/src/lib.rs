//! The one definition of what the sides of the virtual MLU share.
//!
//! The card (`firmware-sim`, `qemu-device`), the kernel module (`driver`) and the user-space runtime compile these same files, so a
//! register, a packet, a message or an ioctl is written down once. Sections of `docs/hardware.md` and `docs/uapi.md` are cited where a
//! definition is explained at length.
//!
//! Everything here is little-endian, has a fixed size, and carries explicit padding that must be zero.
#![cfg_attr(not(test), no_std)]

#[macro_use]
mod wire;

pub mod boot;
pub mod event;
pub mod graph;
pub mod ioctl;
pub mod link;
pub mod local;
pub mod model;
pub mod notifier;
pub mod packet;
pub mod pci;
pub mod queue;
pub mod regs;
pub mod rpc;
pub mod setting;
pub mod status;
pub mod telemetry;
pub mod tensor;

pub use self::status::Status;
pub use self::wire::Wire;
