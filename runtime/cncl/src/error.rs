//! How calls end, in the numbers of `cnclResult_t`.

use std::ffi::{c_char, CStr};

use vmlu_c_abi::{call, host, Failure};

/// Result of a call's body.
pub(crate) type Result<T> = std::result::Result<T, Code>;

/// Why a call failed: a `cnclResult_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

macro_rules! codes {
    ($( $name:ident = $value:literal, $c:literal, $text:literal; )*) => {
        #[allow(missing_docs)]
        impl Code {
            $( pub const $name: Self = Self($value); )*
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$name ),* ];
        }

        fn text(code: i32) -> Option<&'static CStr> {
            const fn c(text: &'static str) -> &'static CStr {
                match CStr::from_bytes_with_nul(text.as_bytes()) {
                    Ok(text) => text,
                    Err(_) => c"",
                }
            }
            match code {
                $( $value => Some(const { c(concat!($c, ": ", $text, "\0")) }), )*
                _ => None,
            }
        }
    };
}

codes! {
    SUCCESS = 0, "CNCL_RET_SUCCESS", "no error";
    INTERNAL = 0x1, "CNCL_RET_ERR_INTERNAL", "an error of the library itself";
    UNSUPPORTED = 0x11, "CNCL_RET_ERR_UNSUPPORTED", "the call, or these devices, are not supported";
    NULL_POINTER = 0x21, "CNCL_RET_ERR_NULL_POINTER", "a pointer is null";
    BUILD_RING = 0x31, "CNCL_RET_ERR_BUILD_RING", "the devices make no ring";
    BUILD_TREE = 0x41, "CNCL_RET_ERR_BUILD_TREE", "the devices make no tree";
    INIT = 0x51, "CNCL_RET_ERR_INIT", "the library cannot be used in this process, such as in one forked from a process that used it";
    NOT_INIT = 0x61, "CNCL_RET_ERR_NOT_INIT", "there is nothing to end: no group was begun";
    REINIT = 0x71, "CNCL_RET_ERR_REINIT", "the clique is complete, or has this rank already";
    NO_ALGO = 0x81, "CNCL_RET_ERR_NO_ALGO", "there is no algorithm for this call";
    INVALID_VERSION = 0x91, "CNCL_RET_ERR_INVALID_VERSION", "the versions of library, driver and card do not fit together";
    SYSTEM = 0x2, "CNCL_RET_ERR_SYSTEM", "the operating system refused something, or other ranks did not come in time";
    SYS_MALLOC = 0x12, "CNCL_RET_ERR_SYS_MALLOC", "the host memory is used up";
    SYS_SOCKET = 0x22, "CNCL_RET_ERR_SYS_SOCKET", "a connection between ranks failed";
    SYS_IBV = 0x32, "CNCL_RET_ERR_SYS_IBV", "an InfiniBand device failed";
    MLU_RUNTIME = 0x3, "CNCL_RET_ERR_MLU_RUNTIME", "the runtime refused something";
    CNRT_DEVICE = 0x13, "CNCL_RET_ERR_CNRT_DEVICE", "there is no device with this number";
    CNRT_MEMCOPY = 0x23, "CNCL_RET_ERR_CNRT_MEMCOPY", "a copy failed";
    CNRT_MALLOC = 0x33, "CNCL_RET_ERR_CNRT_MALLOC", "the device memory is used up";
    MLU_DEVICE = 0x4, "CNCL_RET_ERR_MLU_DEVICE", "there is no device, or it failed or was reset";
    CNDEV_NODE = 0x14, "CNCL_RET_ERR_CNDEV_NODE", "the device's place in the machine is unknown";
    CNDEV_RELATIONSHIP = 0x24, "CNCL_RET_ERR_CNDEV_RELATIONSHIP", "how two devices are joined is unknown";
    INNETWORK = 0x5, "CNCL_RET_ERR_INNETWORK", "computing in the network failed";
    INNETWORK_1 = 0x15, "CNCL_RET_ERR_INNETWORK (0x15)", "computing in the network failed";
    INNETWORK_2 = 0x25, "CNCL_RET_ERR_INNETWORK (0x25)", "computing in the network failed";
    INNETWORK_3 = 0x35, "CNCL_RET_ERR_INNETWORK (0x35)", "computing in the network failed";
    ASYNC_IN_PROGRESS = 0x6, "CNCL_RET_ASYNC_IN_PROGRESS", "the communicator's collectives have not ended yet";
    ASYNC_ERROR = 0x16, "CNCL_RET_ASYNC_ERROR", "a collective failed at this rank or another, or the communicator was aborted";
    ASYNC_UNKNOWN = 0x26, "CNCL_RET_ASYNC_UNKNOWN", "the state of the communicator is unknown";
    ARGUMENTS = 0x7, "CNCL_RET_ERR_ARGUMENTS", "an argument is invalid, or does not fit those of other ranks";
    MLU_ALLOCATE = 0x8, "CNCL_RET_ERR_MLU_ALLOCATE", "memory could not be allocated";
    DEALLOCATE = 0x18, "CNCL_RET_ERR_DEALLOCATE", "memory could not be freed";
    IB_RECV_NOTREADY = 0x9, "CNCL_RET_ERR_IB_RECV_NOTREADY", "the receiver is not ready";
}

impl From<Failure> for Code {
    fn from(failure: Failure) -> Self {
        match failure.cn {
            100_002 => Self::INIT,
            100_003 | 100_004 | 100_016 => Self::MLU_DEVICE,
            100_005 => Self::CNRT_DEVICE,
            100_006 | 100_011 | 100_014 | 100_015 | 100_060 | 100_102 | 100_127 | 100_201 => {
                Self::ARGUMENTS
            }
            100_007 | 100_052 => Self::SYSTEM,
            100_009 => Self::INVALID_VERSION,
            100_010 => Self::SYS_MALLOC,
            100_050 | 100_051 | 100_360..=100_366 => Self::UNSUPPORTED,
            100_100 => Self::CNRT_MALLOC,
            100_120..=100_200 => Self::ASYNC_ERROR,
            200_000 => Self::INTERNAL,
            _ => Self::MLU_RUNTIME,
        }
    }
}

impl From<vmlu::Error> for Code {
    fn from(error: vmlu::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Runs a function's body: its number.
pub(crate) fn run(body: impl FnOnce() -> Result<()>) -> i32 {
    if host::is_inside() {
        return Code::UNSUPPORTED.0;
    }
    match call::enter(|| Ok(body())) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(failure) => Code::from(failure).0,
    }
}

/// `cnclGetErrorStr`; see the header.
#[allow(non_snake_case)]
#[unsafe(export_name = "vmlu_cnclGetErrorStr")]
pub extern "C" fn cnclGetErrorStr(result: i32) -> *const c_char {
    text(result).unwrap_or(c"unrecognised error code").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlu::Status;

    #[test]
    fn every_status_has_a_code_and_every_code_a_text() {
        for status in Status::ALL.iter().filter(|s| **s != Status::Ok) {
            let code = Code::from(Failure::of(*status));
            assert!(
                Code::ALL.contains(&code) && code != Code::SUCCESS,
                "{status:?}"
            );
        }
        for code in Code::ALL {
            assert!(text(code.0).is_some_and(|t| !t.is_empty()));
        }
        assert_eq!(text(0x10), None);
        assert_eq!(run(|| panic!("for the test")), Code::INTERNAL.0);
    }
}
