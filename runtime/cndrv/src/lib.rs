//! The functions of `libcndrv.so`, as `include/cn_api.h` declares them: thin over what the C libraries share, in [`vmlu_c_abi`], so that its
//! handles are those of libcnrt. The header says what each does. Enumerations come as integers, since C may hand in any.

mod error;

pub use error::*;
