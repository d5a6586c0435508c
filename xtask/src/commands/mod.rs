//! The commands, one file each.

pub mod bench;
pub mod clean;
pub mod demo;
pub mod doctor;
pub mod install;
pub mod module;
pub mod test;
pub mod update;
pub mod vm;
