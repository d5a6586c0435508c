// SPDX-License-Identifier: GPL-2.0

//! Arguments of ioctls: copied in once, used, copied out.

use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

use crate::abi::Wire;

/// Largest argument that is copied in, bytes.
const MAX: usize = 512;

/// Copies an argument in.
pub(crate) fn read<T: Wire>(address: usize) -> Result<T> {
    const { assert!(core::mem::size_of::<T>() <= MAX) };
    let mut bytes = [0; MAX];
    let bytes = &mut bytes[..core::mem::size_of::<T>()];
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .reader()
        .read_slice(bytes)?;
    T::read_from(bytes).ok_or(EINVAL)
}

/// Copies an argument out.
pub(crate) fn write<T: Wire>(address: usize, value: &T) -> Result {
    write_bytes(address, value.as_bytes())
}

/// Copies out the bytes of an argument.
pub(crate) fn write_bytes(address: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}

/// Copies an argument in, lets `f` use it, and copies it out if `f` succeeds.
pub(crate) fn update<T: Wire>(address: usize, f: impl FnOnce(&mut T) -> Result) -> Result {
    let mut value = read(address)?;
    f(&mut value)?;
    write(address, &value)
}
