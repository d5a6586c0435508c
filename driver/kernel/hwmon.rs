// SPDX-License-Identifier: GPL-2.0

//! A device of `/sys/class/hwmon`, as `hwmon_device_register_with_info` makes it. The channels
//! stand in `helpers.c`.

use kernel::{device::Device, error::from_err_ptr, prelude::*, sync::Arc};

mod ffi {
    use kernel::ffi;

    pub(super) type Read =
        unsafe extern "C" fn(*const ffi::c_void, u32, *mut ffi::c_long) -> ffi::c_int;

    unsafe extern "C" {
        pub(super) fn mlu_hwmon_register(
            // A `struct device`, whose binding has fields that are not for FFI.
            parent: *mut ffi::c_void,
            read: Read,
            data: *const ffi::c_void,
        ) -> *mut ffi::c_void;
        pub(super) fn mlu_hwmon_unregister(hwmon: *mut ffi::c_void);
    }
}

/// What can be read, in the unit of hwmon.
#[derive(Clone, Copy)]
pub(crate) enum Quantity {
    /// Of the chip, thousandths of a degree.
    TemperatureChip,
    /// Of the board.
    TemperatureBoard,
    /// Of the memory.
    TemperatureMemory,
    /// Microwatts.
    Power,
    /// Microwatts.
    PowerCap,
    /// Microjoules.
    Energy,
    /// 0 to 255.
    Fan,
}

impl Quantity {
    /// The numbers of `helpers.c`.
    fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::TemperatureChip,
            1 => Self::TemperatureBoard,
            2 => Self::TemperatureMemory,
            3 => Self::Power,
            4 => Self::PowerCap,
            5 => Self::Energy,
            6 => Self::Fan,
            _ => return None,
        })
    }
}

/// Who knows them.
pub(crate) trait Sensors: Send + Sync + 'static {
    /// Reads one; may sleep.
    fn read(&self, quantity: Quantity) -> Result<i64>;
}

/// A registered device. Dropping it waits for readers.
///
/// # Invariants
///
/// `raw` was registered with the address of what `sensors` refers to.
pub(crate) struct Monitor<T: Sensors> {
    raw: *mut c_void,
    _sensors: Arc<T>,
}

// SAFETY: The registration belongs to no thread, and `T` is `Send` and `Sync`.
unsafe impl<T: Sensors> Send for Monitor<T> {}
// SAFETY: There are no methods.
unsafe impl<T: Sensors> Sync for Monitor<T> {}

impl<T: Sensors> Monitor<T> {
    /// Registers it below `parent`, which outlives it.
    pub(crate) fn new(parent: &Device, sensors: Arc<T>) -> Result<Self> {
        let parent = core::ptr::from_ref(parent).cast_mut().cast::<c_void>();
        // SAFETY: `parent` is valid; `read` gets the address of `sensors`, which stays until the
        // device is unregistered.
        let raw = from_err_ptr(unsafe {
            ffi::mlu_hwmon_register(parent, Self::read, core::ptr::from_ref(&*sensors).cast())
        })?;
        // INVARIANT: Registered above.
        Ok(Self {
            raw,
            _sensors: sensors,
        })
    }

    /// # Safety
    ///
    /// `data` is the address of what [`Monitor::new`] has registered, and `value` valid for writes.
    unsafe extern "C" fn read(data: *const c_void, quantity: u32, value: *mut c_long) -> c_int {
        // SAFETY: `data` is what was registered, by the type invariant alive while readers are.
        let sensors = unsafe { &*data.cast::<T>() };
        let result = Quantity::from_raw(quantity)
            .ok_or(EOPNOTSUPP)
            .and_then(|quantity| sensors.read(quantity));
        match result {
            Ok(read) => {
                // SAFETY: The caller gives a place to write.
                unsafe { *value = read as c_long };
                0
            }
            Err(e) => e.to_errno(),
        }
    }
}

impl<T: Sensors> Drop for Monitor<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by the type invariant.
        unsafe { ffi::mlu_hwmon_unregister(self.raw) };
    }
}
