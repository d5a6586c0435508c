//! Graphs.

pub mod builder;
mod hostile;
mod replay;
