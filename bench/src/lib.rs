//! Measurements, on the card that this process reaches. `cargo xtask bench` runs them on every transport and prints them.

pub mod abi;
pub mod compute;
pub mod floors;
pub mod idle;
pub mod link;
pub mod model;
pub mod monitor;
pub mod queues;
pub mod row;
