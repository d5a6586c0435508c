//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// Root of the project.
pub fn project() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("xtask lies in the project")
        .to_owned()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => project().join(folder),
        None => project().join("target"),
    }
}

/// The writable folder of the guest (`/mlu/out` there).
pub fn out() -> PathBuf {
    target().join("guest-out")
}

/// Logs of steps and guests.
pub fn logs() -> PathBuf {
    target().join("xtask-logs")
}
