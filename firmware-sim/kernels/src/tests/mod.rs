//! Tests of the kernels against plain loops in f64, over random shapes and layouts.

mod attention;
mod casting;
mod combine;
mod convolution;
mod ctc;
mod edges;
mod elementwise;
mod environment;
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
mod scans;
mod single;
mod tensors;
mod thin;

/// Settings of a property test: a failure is reported by its seed, not in a file.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases,
        failure_persistence: None,
        ..Default::default()
    }
}
