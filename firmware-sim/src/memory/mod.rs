//! Memory: what the chip has, what the host lends, and how commands reach either.

pub mod heap;
pub mod peer;
pub mod segment;
pub mod shared;
pub mod space;
pub mod words;

pub use vmlu_kernels::bytes;
