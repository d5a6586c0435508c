// SPDX-License-Identifier: GPL-2.0

//! Events that a device sends to user space (udev), with variables.

use kernel::{bindings, device::Device, prelude::*, str::CString};

/// Variables of an event, at most this many.
const MOST: usize = 4;

/// An event that says that a device has changed.
pub(crate) struct Event {
    variables: KVec<CString>,
}

impl Event {
    /// Makes one with a variable, `NAME=value`.
    pub(crate) fn new(variable: kernel::fmt::Arguments<'_>) -> Result<Self> {
        let mut event = Self {
            variables: KVec::new(),
        };
        event.add(variable)?;
        Ok(event)
    }

    /// Adds a variable.
    pub(crate) fn add(&mut self, variable: kernel::fmt::Arguments<'_>) -> Result {
        if self.variables.len() == MOST {
            return Err(ENOSPC);
        }
        self.variables
            .push(CString::try_from_fmt(variable)?, GFP_KERNEL)?;
        Ok(())
    }

    /// Sends it. Whether anybody listens is not known; an event that cannot be sent is lost.
    pub(crate) fn send(&self, device: &Device) {
        let mut list = [core::ptr::null_mut::<c_char>(); MOST + 1];
        for (place, variable) in list.iter_mut().zip(&self.variables) {
            *place = variable.as_char_ptr().cast_mut();
        }
        let device = core::ptr::from_ref(device)
            .cast_mut()
            .cast::<bindings::device>();
        // SAFETY: The device is valid, and was registered before a driver saw it. The list ends
        // with null; what it names is only read.
        unsafe {
            bindings::kobject_uevent_env(
                &raw mut (*device).kobj,
                bindings::kobject_action_KOBJ_CHANGE,
                list.as_mut_ptr(),
            )
        };
    }
}
