//! What runs on the virtual MLU: memory and address spaces, contexts, queues, operators, clock, power and faults.
//!
//! It knows nothing of PCIe, sockets or hypervisors: a [`hardware::Hardware`] gives it memory and a way to the host.

pub mod hardware;
pub mod kernels;
pub mod memory;
