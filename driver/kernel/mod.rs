// SPDX-License-Identifier: GPL-2.0

//! What the kernel crate lacks: one file a facility, each shaped as the upstream abstraction would
//! be.
//!
//! All `unsafe` code of the driver is in this folder.

pub(crate) mod attributes;
pub(crate) mod bound;
pub(crate) mod chardev;
pub(crate) mod coredump;
mod dma;
pub(crate) mod dmabuf;
pub(crate) mod eventfd;
pub(crate) mod hwmon;
pub(crate) mod pages;
pub(crate) mod pci;
pub(crate) mod pci_driver;
pub(crate) mod periodic;
pub(crate) mod pinned;
pub(crate) mod procfs;
pub(crate) mod registry;
pub(crate) mod shared;
pub(crate) mod task;
pub(crate) mod trace;
pub(crate) mod uevent;
pub(crate) mod vectors;
pub(crate) mod vma;
pub(crate) mod wait;
