//! The firmware against its interface: messages, packets, doorbells, faults, revocation, events, telemetry, and whatever a hostile guest
//! may send.

mod errors;
mod events;
mod faults;
mod graphs;
mod harness;
mod host_timelines;
mod isolation;
mod messages;
mod packets;
mod peers;
mod random;
mod revocation;
mod scheduling;
mod sharing;
mod speed;
mod stress;
mod strided;
mod telemetry;
mod timelines;
mod tokens;
