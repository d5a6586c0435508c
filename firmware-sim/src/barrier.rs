//! The barrier that the card passes for its producers: see `docs/hardware.md`, section 6.

use std::sync::OnceLock;

use rustix::thread::{membarrier, membarrier_query, MembarrierCommand};

const COMMAND: MembarrierCommand = MembarrierCommand::GlobalExpedited;

/// Whether the kernel has the barrier and lets this process use it. The answer stays the same.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    // A seccomp filter may forbid the command, or the query: so it is tried too.
    *AVAILABLE
        .get_or_init(|| membarrier_query().contains_command(COMMAND) && membarrier(COMMAND).is_ok())
}

/// Has all threads of the machine that are registered for it pass a full barrier, if it was promised (`rpc::feature::BARRIER`); `false` if
/// that was not possible now: nothing that relies on it may be done.
pub fn pass() -> bool {
    !is_available() || membarrier(COMMAND).is_ok()
}
