//! Tests of the kernels against plain loops in f64, over random shapes and layouts.

mod attention;
mod bodies;
mod casting;
mod combine;
mod convolution;
mod ctc;
mod deform;
mod determinism;
mod edges;
mod elementwise;
mod environment;
mod gamma;
mod grouped;
mod hostile;
mod int4;
mod loss;
mod moving;
mod norms;
mod optimisers;
mod ordering;
mod pairs;
mod pooling;
mod product;
mod quantised;
mod random;
mod reduction;
mod regions;
mod resizing;
mod sampling;
mod scans;
mod searching;
mod single;
mod soft;
mod tensors;
mod thin;
mod windows;

/// Settings of a property test: a failure is reported by its seed, not in a file.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        failure_persistence: None,
        ..Default::default()
    }
}
