//! The operators of `ops/`, run on memory. One file an operator, named as in `ops/`.

pub mod env;
