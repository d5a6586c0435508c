//! The functions of `libcnrt.so`, as `include/cnrt.h` declares them: thin over what the C libraries share, in [`vmlu_c_abi`]. The header says what
//! each does. Enumerations come as integers, since C may hand in any.
//!
//! Every function returns a `cnrtRet_t`, and leaves it for `cnrtGetLastError` if it is none of success.

mod device;
mod error;
mod launch;
mod memory;
mod notifier;
mod queue;

pub use device::*;
pub use error::*;
pub use launch::*;
pub use memory::*;
pub use notifier::*;
pub use queue::*;
