//! What calls return, and what that means.

use std::cell::Cell;
use std::ffi::{c_char, CStr};

use vmlu::{Error, Status};

use crate::call::Text;

/// What a call does not succeed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    NoDriver = 1,
    LowDriverVersion = 2,
    UnsupportedApiVersion = 3,
    Uninitialized = 4,
    InvalidArgument = 5,
    InvalidDeviceId = 6,
    Unknown = 7,
    Malloc = 8,
    InsufficientSpace = 9,
    NotSupported = 10,
    InvalidLink = 11,
    NoPermission = 13,
    NotFound = 14,
    InUse = 15,
    Timeout = 17,
    InProblem = 18,
}

/// Result of a call.
pub(crate) type Outcome<T = ()> = Result<T, Code>;

/// What the codes mean, by their numbers.
const TEXTS: [&CStr; 19] = [
    c"Success",
    c"No driver: neither a card nor a server of cards can be reached",
    c"The driver is of another release than this library",
    c"Unsupported API version: set version to CNDEV_VERSION_1 to CNDEV_VERSION_6",
    c"Uninitialized: call cndevInit first",
    c"Invalid argument",
    c"Invalid device: there is none with this handle",
    c"Unknown error",
    c"Out of memory",
    c"Insufficient space: there is more than room was given for",
    c"Not supported by this card",
    c"Invalid link: the device has no such port",
    c"No devices",
    c"No permission",
    c"Not found",
    c"In use",
    c"Duplicate",
    c"Timeout",
    c"In problem: the device does not answer",
];

impl From<Error> for Code {
    fn from(error: Error) -> Self {
        match error.status() {
            Status::NotPermitted => Self::NoPermission,
            Status::NotSupported | Status::UnknownFunction => Self::NotSupported,
            Status::DeviceLost | Status::DeviceReset => Self::InProblem,
            Status::BadHandle => Self::InvalidDeviceId,
            Status::InvalidArgument | Status::ReservedNotZero => Self::InvalidArgument,
            Status::OutOfHostMemory | Status::OutOfResources => Self::Malloc,
            Status::Busy => Self::InUse,
            Status::Timeout => Self::Timeout,
            Status::VersionMismatch => Self::LowDriverVersion,
            _ => Self::Unknown,
        }
    }
}

thread_local! {
    /// The code of this thread's last call that failed.
    static LAST: Cell<i32> = const { Cell::new(0) };
}

/// Keeps a call's code if it failed, and returns it.
pub(crate) fn finish(outcome: Outcome) -> i32 {
    let Err(code) = outcome else { return 0 };
    // A thread that is ending may keep nothing any more.
    let _ = LAST.try_with(|last| last.set(code as i32));
    code as i32
}

fn text(code: i32) -> &'static CStr {
    let known = usize::try_from(code).ok().and_then(|code| TEXTS.get(code));
    known.copied().unwrap_or(c"There is no such code")
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetErrorString")]
pub extern "C" fn error_string(code: i32) -> Text {
    Text::of(text(code))
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetLastError")]
pub extern "C" fn last_error() -> i32 {
    LAST.try_with(Cell::get).unwrap_or(0)
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevCheckErrors")]
pub extern "C" fn check_errors(code: i32) {
    if code != 0 {
        eprintln!("cndev: error {code}: {}", text(code).to_string_lossy());
        std::process::exit(1);
    }
}

/// The pointer of a text that lives for ever.
pub(crate) fn forever(text: &'static CStr) -> *const c_char {
    text.as_ptr()
}
