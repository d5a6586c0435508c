//! How calls end.

use vmlu_c_abi::{call, device, exports, host, Failure, Result};

/// Runs a function's body: its number.
#[inline]
pub(crate) fn run(body: impl FnOnce() -> Result<()>) -> i32 {
    let result = match host::is_inside() {
        false => call::enter(body),
        true => Err(Failure::NOT_PERMITTED),
    };
    result.map_or_else(|failure| failure.cn, |()| 0)
}

exports! { run;
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
}
