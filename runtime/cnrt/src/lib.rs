//! The functions of `libcnrt.so`, as `include/cnrt.h` declares them: thin over what the C libraries share, in [`vmlu_c_abi`]. The header says what
//! each does. Enumerations come as integers, since C may hand in any.
//!
//! Every function returns a `cnrtRet_t`, and leaves it for `cnrtGetLastError` if it is none of success.

mod cast;
mod device;
mod error;
mod launch;
mod memory;
mod notifier;
mod pool;
mod queue;
mod symbols;
mod topo;

pub use cast::*;
pub use device::*;
pub use error::*;
pub use launch::*;
pub use memory::*;
pub use notifier::*;
pub use pool::*;
pub use queue::*;
pub use symbols::*;
pub use topo::*;
