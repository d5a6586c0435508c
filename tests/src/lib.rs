//! Tests that are written once and run on every transport: the cases of [`suite`] run on the embedded card and
//! over a local server (`cargo test --test suite`) and, one by one, as `mlu-suite NAME` in a virtual machine (`tests/vm/main.rs`). [`processes`] are the cases of
//! several processes, [`stress`] is the test of many queues, owners and ends.

pub mod cliques;
pub mod fuzz;
pub mod load;
pub mod processes;
pub mod stress;
pub mod suite;
