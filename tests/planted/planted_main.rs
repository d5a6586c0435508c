// SPDX-License-Identifier: GPL-2.0

//! Bugs on purpose: the debug kernel must report each, or its silence about the driver says nothing.
//!
//! `insmod planted.ko bug=N` makes the bug N (see its description) and loads. For nothing but that.

use kernel::prelude::*;

mod ffi {
    unsafe extern "C" {
        pub(super) fn planted_leak();
        pub(super) fn planted_lock_order();
        pub(super) fn planted_sleep();
        pub(super) fn planted_dma();
        pub(super) fn planted_c_read(length: usize);
    }
}

/// Length of the object that is read behind.
const LENGTH: usize = 40;

struct Planted;

/// Reads the byte behind an object, in Rust.
fn read_behind() -> Result {
    let object = KVec::from_elem(1_u8, LENGTH, GFP_KERNEL)?;
    // SAFETY: There is none. This is the bug: the byte is not the object's.
    let byte = unsafe { core::ptr::read_volatile(object.as_ptr().add(LENGTH)) };
    pr_info!("behind the object stands {byte}\n");
    Ok(())
}

impl kernel::Module for Planted {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // They are bugs, but of kinds that leave the kernel running.
        match module_parameters::bug.value() {
            1 => read_behind()?,
            // SAFETY: Called in process context, without locks.
            2 => unsafe { ffi::planted_c_read(LENGTH) },
            // SAFETY: Called in process context, without locks.
            3 => unsafe { ffi::planted_leak() },
            // SAFETY: Called in process context, without locks.
            4 => unsafe { ffi::planted_dma() },
            // SAFETY: Called in process context, without locks.
            5 => unsafe { ffi::planted_lock_order() },
            // SAFETY: Called in process context, without locks.
            6 => unsafe { ffi::planted_sleep() },
            _ => return Err(EINVAL),
        }
        Ok(Self)
    }
}

module! {
    type: Planted,
    name: "planted",
    authors: ["The virtual MLU authors"],
    description: "Bugs on purpose",
    license: "GPL v2",
    params: {
        bug: u32 {
            default: 0,
            description: "1: reads behind an object; 2: the same in C; 3: loses memory; 4: unmaps what was not mapped; \
                5: takes two locks in both orders; 6: sleeps under a spin lock",
        },
    },
}
