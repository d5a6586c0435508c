//! Modules and kernels, as far as they go without device code: bytes and files are looked for, and then refused.

use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::{exports, Failure, In, Out, Ptr, Text};

use crate::context::current;
use crate::error::run;

exports! { run;
    /// See the header.
    fn cnModuleLoadFatBinary(binary: Ptr, place: Out<Ptr>) {
        place.check()?;
        current()?;
        match binary.is_null() {
            true => Err(Failure::INVALID_VALUE),
            false => Err(Failure::INVALID_IMAGE),
        }
    }

    /// See the header.
    fn cnModuleLoad(file: Text, place: Out<Ptr>) {
        place.check()?;
        current()?;
        match std::path::Path::new(&file.get()?).is_file() {
            true => Err(Failure::INVALID_IMAGE),
            false => Err(Failure::FILE_NOT_FOUND),
        }
    }

    /// See the header.
    fn cnModuleUnload(_module: Ptr) { Err(Failure::INVALID_HANDLE) }

    /// See the header.
    fn cnModuleQueryMemoryUsage(file: Text, bytes: Out<usize>) {
        bytes.check()?;
        match std::path::Path::new(&file.get()?).is_file() {
            true => Err(Failure::INVALID_IMAGE),
            false => Err(Failure::FILE_NOT_FOUND),
        }
    }

    /// See the header.
    fn cnModuleQueryFatBinaryMemoryUsage(binary: Ptr, bytes: Out<usize>) {
        bytes.check()?;
        match binary.is_null() {
            true => Err(Failure::INVALID_VALUE),
            false => Err(Failure::INVALID_IMAGE),
        }
    }

    /// See the header.
    fn cnModuleGetKernel(_module: Ptr, name: Text, place: Out<Ptr>) {
        place.check()?;
        name.get()?;
        Err(Failure::INVALID_HANDLE)
    }

    /// See the header.
    fn cnModuleGetSymbol(_module: Ptr, name: Text, _address: Out<u64>, _bytes: Out<u64>) {
        name.get()?;
        Err(Failure::INVALID_HANDLE)
    }

    /// See the header.
    fn cnKernelGetAttribute(place: Out<i64>, _attribute: i32, _kernel: Ptr) {
        place.check()?;
        Err(Failure::INVALID_KERNEL)
    }

    /// See the header.
    fn cnModuleGetLoadingMode(mode: Out<i32>) { mode.set(1) }

    /// See the header.
    fn cnInvokeKernel(_kernel: Ptr, x: u32, y: u32, z: u32, class: i32, _reserved: u32, queue: Ptr, _params: In<Ptr>, _extra: In<Ptr>) {
        let known = [1, 4, 8, 16, 32, 64].contains(&class);
        if !known || [x, y, z].iter().any(|n| !(1..=65_535).contains(n)) {
            return Err(Failure::INVALID_VALUE);
        }
        Queue::find(queue.addr())?;
        Err(Failure::INVALID_KERNEL)
    }
}
