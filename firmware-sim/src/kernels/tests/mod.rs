//! Tests of the kernels against plain loops in f64.

mod smoke;
