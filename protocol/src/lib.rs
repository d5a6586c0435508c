//! The protocol of a queue's shared words: who stores what, fences, and looks where, so that no doorbell and no wake-up is lost, nothing is
//! overwritten, and nobody is told twice. `docs/hardware.md`, section 6, states it; this is the one implementation of it.
//!
//! There are three meetings of two sides, and all three work the same way: each side stores its own word, passes a full fence, and looks at
//! the other's word. Full fences have one order, so the side that fences last sees what the other stored.
//!
//! | meeting | one side | the other |
//! | --- | --- | --- |
//! | falling asleep | producer: doorbell, then `asleep` ([`submit::publish`]) | card: `asleep`, then doorbell ([`sleep::Life::begin_rest`]) |
//! | waiting | waiter: arm word, then timeline ([`wait::arm`]) | card: timeline, then arm word ([`wait::complete`]) |
//! | interrupts | host: event index, then `produced` ([`event::rearm`]) | card: `produced`, then event index ([`event::announce`]) |
//!
//! Beside them, [`owner`] is how threads of one process share a queue's producer.
//!
//! The functions take the words themselves. The card and the runtime pass words of shared memory; the models in `tests/` pass loom's, which
//! try every interleaving and every value that the memory model allows. The kernel driver mirrors [`wait::arm`] and [`event::rearm`] with
//! the kernel's own atomics and barriers (`driver/queue.rs`, `driver/event.rs`), because the kernel has a memory model of its own.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(loom)]
extern crate std;

pub mod event;
pub mod owner;
pub mod room;
pub mod sleep;
pub mod submit;
pub mod sync;
pub mod wait;
