//! What `libcndev.so` does: `include/cndev.h` describes it. A thin layer over the runtime's telemetry.
//!
//! Each function is exported as `vmlu_` and its name; the library of that name, which `cargo xtask install` makes, leads here.

#[macro_use]
mod call;
mod codes;
mod events;
mod fields;
mod health;
mod identity;
mod inject;
mod instances;
mod library;
mod links;
mod memory;
mod metrics;
mod power;
mod topology;
mod types;
mod usage;
mod versions;

#[cfg(test)]
mod tests;
