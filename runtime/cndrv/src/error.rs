//! How calls end, and the names and texts of codes.

use std::ffi::{c_char, CStr};

use vmlu_c_abi::{call, device, exports, host, Failure, Out, Result};

/// Runs a function's body, once the interface was initialised: by `cnInit`, or by a call of libcnrt.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<()>) -> i32 {
    start(|| match device::is_initialised() {
        true => body(),
        false => Err(Failure::NOT_INITIALIZED),
    })
}

/// Runs a function's body: its number.
pub(crate) fn start(body: impl FnOnce() -> Result<()>) -> i32 {
    let result = match host::is_inside() {
        false => call::enter(body),
        true => Err(Failure::NOT_PERMITTED),
    };
    result.map_or_else(|failure| failure.cn, |()| 0)
}

macro_rules! errors {
    ($( $name:ident = $value:literal, $text:literal; )*) => {
        fn find(error: i32) -> Option<(&'static CStr, &'static CStr)> {
            const fn c(text: &'static str) -> &'static CStr {
                match CStr::from_bytes_with_nul(text.as_bytes()) {
                    Ok(text) => text,
                    Err(_) => c"",
                }
            }
            match error {
                $( $value => Some((
                    const { c(concat!(stringify!($name), "\0")) },
                    const { c(concat!($text, "\0")) },
                )), )*
                _ => None,
            }
        }

        #[cfg(test)]
        const ALL: &[i32] = &[ $( $value ),* ];
    };
}

errors! {
    CN_SUCCESS = 0, "no error";
    CN_ERROR_NOT_READY = 1, "the work is not finished yet";
    CN_ERROR_NOT_INITIALIZED = 100002, "cnInit was not called, or the process was forked from one that used a device";
    CN_ERROR_DEINITIALIZED = 100003, "the device is lost or was reset";
    CN_ERROR_NO_DEVICE = 100004, "there is no device";
    CN_ERROR_INVALID_DEVICE = 100005, "there is no such device";
    CN_ERROR_INVALID_VALUE = 100006, "an argument is invalid or out of its range";
    CN_ERROR_OPERATING_SYSTEM = 100007, "the operating system refused a request";
    CN_ERROR_SYSTEM_NOT_READY = 100008, "the system is not ready";
    CN_ERROR_SYSTEM_DRIVER_MISMATCH = 100009, "the versions of library, driver and firmware do not fit";
    CN_ERROR_SYSTEM_OUT_OF_MEMORY = 100010, "the host memory is used up";
    CN_ERROR_INVALID_ADDRESS = 100011, "the host address is invalid";
    CN_ERROR_FILE_NOT_FOUND = 100012, "the file is not there";
    CN_ERROR_COMPAT_NOT_SUPPORT_ON_SYSTEM = 100013, "the devices of the system do not fit each other";
    CN_ERROR_INVALID_HANDLE = 100014, "the handle names nothing";
    CN_ERROR_ILLEGAL_STATE = 100015, "the object is not in the state that the call needs";
    CN_ERROR_ECC_UNCORRECTABLE = 100016, "an uncorrectable memory error hit a command";
    CN_OPS_ERROR_NOT_SUPPORTED = 100050, "the device does not support this";
    CN_OPS_ERROR_NOT_PERMITTED = 100051, "the call is not permitted here";
    CN_OPS_ERROR_TIMEOUT = 100052, "the time limit passed";
    CN_OPS_ERROR_OUT_OF_RESOURCES = 100053, "a table of the device is full";
    CN_QUEUE_ERROR_INVALID = 100060, "the handle names no queue, or the queue has failed";
    CN_QUEUE_ERROR_OUT_OF_RESOURCES = 100061, "there is no room for another queue";
    CN_NOTIFIER_ERROR_INVALID = 100080, "the handle names no notifier, or one without what is asked of it";
    CN_NOTIFIER_ERROR_OUT_OF_RESOURCES = 100081, "there is no room for another notifier";
    CN_MEMORY_ERROR_OUT_OF_MEMORY = 100100, "the device memory is used up";
    CN_MEMORY_ERROR_OUT_OF_PROCESS_MAX_MEMORY = 100101, "the process may not have more device memory";
    CN_MEMORY_ERROR_INVALID_ADDRESS = 100102, "the device address is in no allocation, or the range leaves it";
    CN_INVOKE_ERROR_OUT_OF_RESOURCES = 100120, "there is no room for another command";
    CN_INVOKE_ERROR_EXECUTED_TIMEOUT = 100121, "the watchdog stopped a command";
    CN_INVOKE_ERROR_TIMEOUT = 100122, "a command was not taken in time";
    CN_INVOKE_ERROR_ILLEGAL_INSTRUCTION = 100123, "an illegal instruction";
    CN_INVOKE_ERROR_ADDRESS_SPACE = 100124, "an address outside of the allowed space";
    CN_INVOKE_NO_TINYCORE = 100125, "the device has no tiny core";
    CN_INVOKE_ERROR_INVALID_PC = 100126, "an invalid program counter";
    CN_INVOKE_ERROR_ILLEGAL_OPERAND = 100127, "an operand breaks a rule of its operator";
    CN_INVOKE_ERROR_ASSERT = 100128, "an assertion failed on the device";
    CN_INVOKE_ERROR_MEMORY_MISALIGNED_ADDRESS = 100130, "a misaligned address";
    CN_INVOKE_ERROR_MEMORY_ILLEGAL_ADDRESS = 100131, "a command used an address in no allocation";
    CN_INVOKE_ERROR_KERNEL_TRAP = 100132, "a command failed inside the device";
    CN_INVOKE_ERROR_KERNEL_USER_TRAP = 100133, "a kernel trapped on its own account";
    CN_INVOKE_ERROR_STACK_OVERFLOW = 100134, "a kernel's stack is too small";
    CN_INVOKE_ERROR_OUT_OF_RANGE_ADDRESS = 100135, "an index or address is out of its range";
    CN_INVOKE_ERROR_NAN = 100136, "not a number";
    CN_INVOKE_ERROR_POSITIVE_INF = 100137, "positive infinity";
    CN_INVOKE_ERROR_NEGATIVE_INF = 100138, "negative infinity";
    CN_INVOKE_ERROR = 100200, "a command failed, or one that it depends on";
    CN_CONTEXT_ERROR_INVALID = 100201, "the thread has no context, or the handle names none";
    CN_CONTEXT_ERROR_OUT_OF_RESOURCES = 100202, "there is no room for another context";
    CN_ERROR_INVALID_FATBIN = 100300, "invalid fat binary";
    CN_ERROR_NOT_FOUND = 100301, "nothing has this name";
    CN_ERROR_INVALID_KERNEL = 100302, "the handle names no kernel";
    CN_FATBIN_ERROR_UNSUPPORTED_VERSION = 100303, "the fat binary has an unsupported version";
    CN_ERROR_QUEUE_CAPTURE_UNSUPPORTED = 100360, "the call cannot be captured, or not be made while a queue is captured";
    CN_ERROR_QUEUE_CAPTURE_INVALIDATED = 100361, "an earlier error spoiled the capture";
    CN_ERROR_QUEUE_CAPTURE_WRONG_THREAD = 100362, "the capture has to be ended by the thread that began it";
    CN_ERROR_QUEUE_CAPTURE_MERGED = 100363, "the wait would join two captures";
    CN_ERROR_QUEUE_CAPTURE_UNJOINED = 100364, "a queue of the capture was not joined back to the first one";
    CN_ERROR_QUEUE_CAPTURE_ISOLATION = 100365, "captured work and other work cannot wait for each other";
    CN_ERROR_QUEUE_CAPTURE_UNMATCHED = 100366, "the capture was begun on another queue";
    CN_ERROR_TASK_TOPO_ENTITY_UPDATE_FAILURE = 100400, "the entity cannot be updated to this task topology";
    CN_FATBIN_ERROR_NO_KERNEL = 101312, "the fat binary has no kernel";
    CN_FATBIN_INVALID_IMAGE = 101313, "the bytes are no module that the virtual card runs: it runs no device code";
    CN_FATBIN_LIBCNBIN_NOT_FOUND = 101314, "the library for fat binaries is not there";
    CN_FATBIN_INVALID_ARCH = 101315, "the fat binary is for another architecture";
    CN_ERROR_UNKNOWN = 200000, "unknown error";
}

const UNKNOWN_CODE: &CStr = c"this code is none of CNresult";

exports! { start;
    /// See the header.
    fn cnInit(flags: u32) {
        if flags != 0 {
            return Err(Failure::INVALID_VALUE);
        }
        match device::all()?.is_empty() {
            true => Err(Failure::NO_DEVICE),
            false => Ok(()),
        }
    }

    /// See the header.
    fn cnGetErrorString(error: i32, text: Out<*const c_char>) {
        text.set(find(error).map_or(UNKNOWN_CODE, |e| e.1).as_ptr())
    }

    /// See the header.
    fn cnGetErrorName(error: i32, name: Out<*const c_char>) {
        name.set(find(error).map_or(UNKNOWN_CODE, |e| e.0).as_ptr())
    }

    /// See the header.
    fn cnGetLibVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        crate::device::set_version([2, 15, 5], [major, minor, patch])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_a_status_becomes_has_a_name() {
        assert!(ALL.is_sorted_by(|a, b| a < b));
        for status in vmlu::Status::ALL {
            assert!(find(Failure::of(*status).cn).is_some(), "{status:?}");
        }
    }
}
