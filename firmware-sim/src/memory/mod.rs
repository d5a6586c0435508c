//! Memory: what the chip has, what the host lends, and how commands reach either.

pub mod bytes;
pub mod shared;
