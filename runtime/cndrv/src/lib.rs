//! The functions of `libcndrv.so`, as `include/cn_api.h` declares them: thin over what the C libraries share, in [`vmlu_c_abi`], so that its
//! handles are those of libcnrt. The header says what each does. Enumerations come as integers, since C may hand in any.

mod context;
mod device;
mod error;
mod memory;
mod module;
mod queue;
mod virtual_memory;

pub use context::*;
pub use device::*;
pub use error::*;
pub use memory::*;
pub use module::*;
pub use queue::*;
pub use virtual_memory::*;
