//! The commands, one file each.

pub mod module;
pub mod vm;
