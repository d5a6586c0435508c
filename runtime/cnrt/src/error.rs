//! Errors: the last one of each thread, their names and texts.

use std::cell::Cell;
use std::ffi::{c_char, CStr};

use vmlu_c_abi::{call, host, Failure, Result};

thread_local! {
    static LAST: Cell<i32> = const { Cell::new(0) };
}

/// Runs a function's body: its number, which is the thread's last error if it is one.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<()>) -> i32 {
    let result = match host::is_inside() {
        false => call::enter(body),
        true => Err(Failure::NOT_PERMITTED),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            // A thread that is ending has no last error any more.
            let _ = LAST.try_with(|last| last.set(failure.cnrt));
            failure.cnrt
        }
    }
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
        const ALL: &[(&str, i32)] = &[ $( (stringify!($name), $value) ),* ];
    };
}

errors! {
    cnrtSuccess = 0, "no error";
    cnrtErrorNotReady = 1, "the work is not finished yet";
    cnrtErrorInit = 100002, "the library cannot be used in this process, such as in one forked from a process that used it";
    cnrtErrorNoDevice = 100004, "there is no device";
    cnrtErrorDeviceInvalid = 100005, "there is no device with this number";
    cnrtErrorArgsInvalid = 100006, "an argument is invalid or out of its range";
    cnrtErrorSys = 100007, "the operating system refused a request";
    cnrtErrorSysNoMem = 100010, "the host memory is used up";
    cnrtErrorInvalidResourceHandle = 100014, "the handle names nothing: it was destroyed, or never was one";
    cnrtErrorIllegalState = 100015, "the object is not in the state that the call needs";
    cnrtErrorNotSupport = 100050, "the device does not support this";
    cnrtErrorOpsNotPermitted = 100051, "the call is not permitted here";
    cnrtErrorQueue = 100060, "the queue cannot be used: it was destroyed or has failed";
    cnrtErrorNoMem = 100100, "the device memory is used up";
    cnrtErrorAssert = 100128, "an assertion failed on the device";
    cnrtErrorKernelTrap = 100132, "a kernel trapped on the device";
    cnrtErrorKernelUserTrap = 100133, "a kernel trapped on the device on its own account";
    cnrtErrorNotFound = 100301, "nothing has this name";
    cnrtErrorInvalidKernel = 100302, "the kernel's handle is invalid";
    cnrtErrorUnsupportedKernelVersion = 100303, "the kernel was compiled for another version";
    cnrtErrorQueueCaptureUnsupported = 100360, "the call cannot be captured, or not be made while a queue is captured";
    cnrtErrorQueueCaptureInvalidated = 100361, "an earlier error spoiled the capture";
    cnrtErrorQueueCaptureWrongThread = 100362, "the capture has to be ended by the thread that began it";
    cnrtErrorQueueCaptureMerged = 100363, "the wait would join two captures";
    cnrtErrorQueueCaptureUnjoined = 100364, "a queue of the capture was not joined back to the first one";
    cnrtErrorQueueCaptureIsolation = 100365, "captured work and other work cannot wait for each other";
    cnrtErrorQueueCaptureUnmatched = 100366, "the capture was begun on another queue";
    cnrtErrorTaskTopoEntityUpdateFailure = 100400, "the entity cannot be updated to this task topology";
    cnrtErrorNoKernel = 101312, "the kernel was not registered; the virtual card runs no device code";
    cnrtErrorNoModule = 101315, "the module was not registered, or is none that the device runs";
    cnrtErrorSetOnActiveProcess = 632002, "the flags of a device in use cannot be set";
    cnrtErrorDevice = 632006, "the device failed, or the object is of another device";
    cnrtErrorNoAttribute = 632009, "there is no such attribute";
    cnrtErrorMemcpyDirectionInvalid = 632013, "the copy's direction is none, or does not fit its addresses";
    cnrtErrorBusy = 632014, "the device or object is busy";
    cnrtErrorCndrvFuncCall = 632015, "the driver interface failed";
    cnrtErrorCndevFuncCall = 632017, "the device management interface failed";
    cnrtErrorNoCnrtContext = 632019, "there is no context";
    cnrtErrorCndrvFuncNotFound = 632020, "the driver interface has no such function";
    cnrtErrorInvalidSymbol = 632100, "the address is no device symbol";
    cnrtErrorUnknown = 999991, "unknown error";
}

/// `cnrtGetErrorName`; see the header.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnrtGetErrorName")]
pub extern "C" fn cnrtGetErrorName(error: i32) -> *const c_char {
    find(error)
        .map_or(c"unrecognised error code", |e| e.0)
        .as_ptr()
}

/// `cnrtGetErrorStr`; see the header.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnrtGetErrorStr")]
pub extern "C" fn cnrtGetErrorStr(error: i32) -> *const c_char {
    find(error)
        .map_or(c"unrecognised error code", |e| e.1)
        .as_ptr()
}

/// `cnrtGetLastError`; see the header.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnrtGetLastError")]
pub extern "C" fn cnrtGetLastError() -> i32 {
    LAST.try_with(|last| last.replace(0)).unwrap_or(0)
}

/// `cnrtGetLastErr`, an old name of [`cnrtGetLastError`].
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnrtGetLastErr")]
pub extern "C" fn cnrtGetLastErr() -> i32 {
    cnrtGetLastError()
}

/// `cnrtPeekAtLastError`; see the header.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnrtPeekAtLastError")]
pub extern "C" fn cnrtPeekAtLastError() -> i32 {
    LAST.try_with(Cell::get).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu_c_abi::failure;

    #[test]
    fn every_code_that_a_call_can_give_has_a_name() {
        let known: Vec<i32> = ALL.iter().map(|(_, value)| *value).collect();
        for code in failure::CNRT {
            assert!(known.contains(&code), "{code}");
        }
        assert_eq!(known.len(), failure::CNRT.len() + 2);
        assert!(known.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn the_last_error_is_taken_once() {
        assert_eq!(run(|| Err(Failure::NO_DEVICE)), 100_004);
        assert_eq!(run(|| Ok(())), 0);
        assert_eq!(
            [
                cnrtPeekAtLastError(),
                cnrtGetLastError(),
                cnrtGetLastError()
            ],
            [100_004, 100_004, 0]
        );
        assert_eq!(run(|| panic!("for the test")), 999_991);
        std::thread::spawn(|| assert_eq!(cnrtPeekAtLastError(), 0))
            .join()
            .unwrap();
        assert_eq!(cnrtGetLastErr(), 999_991);
    }
}
