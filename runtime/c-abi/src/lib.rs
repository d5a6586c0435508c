//! What the C libraries of the virtual MLU share, so that they share it within a process: how a call begins and ends ([`call`]), error codes
//! ([`failure`]), what C hands in ([`ffi`]), handles ([`table`]), and what the handles name: devices, contexts, memory, queues, notifiers.
//!
//! A handle is a number in the shape of a pointer. It is looked up, never followed, and it carries the generation of its slot, so that one that
//! was destroyed is told apart from the one that has its place.
//!
//! The libraries over this, a crate each, have their functions defined by [`exports!`]; `runtime/neuware` puts all of them into one shared
//! library.

pub mod call;
pub mod context;
pub mod copy;
pub mod device;
pub mod failure;
pub mod ffi;
pub mod host;
pub mod info;
pub mod ipc;
pub mod memory;
pub mod notifier;
pub mod pool;
pub mod queue;
pub mod table;
pub mod topo;
pub mod virtual_memory;

pub use context::Context;
pub use failure::{Failure, Result};
pub use ffi::{In, Out, Ptr, Text};
