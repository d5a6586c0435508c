//! The functions of `libcncl.so`, as `include/cncl.h` declares them: thin over the collectives of [`vmlu::collective`]. The header says what each
//! does. Queues, memory and devices are those of libcnrt. Enumerations come as integers, since C may hand in any.

mod call;
mod communicator;
mod error;
mod memory;
mod types;

pub use call::*;
pub use communicator::*;
pub use error::*;
