//! What runs on the virtual MLU: memory and address spaces, contexts, queues, operators, clock, power and faults.
//!
//! It knows nothing of PCIe, sockets or hypervisors: a [`hardware::Hardware`] gives it memory and a way to the host, and
//! [`firmware::Firmware`] is all that a device sees of it.

pub mod barrier;
pub mod clock;
pub mod context;
pub mod core;
pub mod events;
pub mod fabric;
pub mod firmware;
pub mod graph;
pub mod hardware;
pub mod image;
pub mod inject;
pub mod log;
pub mod memory;
pub mod queue;
pub mod record;
mod rpc;
pub mod scheduler;
pub mod table;
pub mod telemetry;
mod token;

pub use firmware::Firmware;
pub use vmlu_kernels as kernels;
