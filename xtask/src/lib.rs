//! What `cargo xtask` is made of, as a library: the tests use it too.
//!
//! [`setup`] makes what is missing (toolbox, kernel tree, guest, module, programs), [`vm::Vm`] boots a guest and runs
//! commands in it. Everything that takes longer than a second shows its [`progress`].

#![forbid(unsafe_code)]

pub mod cache;
pub mod cargo;
pub mod commands;
pub mod debug;
pub mod driver_lint;
pub mod flavour;
pub mod guest;
pub mod hosts;
pub mod kernel;
pub mod module;
pub mod neuware;
pub mod paths;
pub mod problem;
pub mod progress;
pub mod run;
pub mod setup;
pub mod stage;
pub mod toolbox;
pub mod vectors;
pub mod vm;
