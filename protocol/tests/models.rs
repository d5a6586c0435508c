//! Models of the protocol: loom tries every interleaving of the threads, up to a number of preemptions, and every value that the memory model
//! lets a load return. Each model also runs without one of its steps, and must then fail: so it is known to see what the step is for.
//!
//! `cargo xtask test` runs them with `RUSTFLAGS=--cfg loom`.

#![cfg(loom)]

mod models {
    mod interrupts;
    mod ownership;
    mod ring;
    mod sleeping;
    mod waiting;
}

/// Runs a model with every interleaving that has at most so many preemptions.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}
