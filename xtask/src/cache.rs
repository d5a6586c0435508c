//! The user's cache folder, where the expensive things live: `$XDG_CACHE_HOME/vmlu` or `~/.cache/vmlu`.
//!
//! Each entry is a folder that appears whole or not at all: it is made under a temporary name and renamed.
//! Everything in it may be deleted at any time.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

use crate::problem::problem;
use crate::progress::say;

/// The cache folder; made if it is missing.
pub fn folder() -> Result<PathBuf> {
    let folder = location()?;
    fs::create_dir_all(&folder).map_err(|error| {
        let next = "make the folder writable, or set XDG_CACHE_HOME to one that is";
        problem(
            "use the cache folder",
            format!("{}: {error}", folder.display()),
            next,
        )
    })?;
    Ok(folder)
}

/// Where the cache folder is or would be.
pub fn location() -> Result<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(home);
    let base = base.ok_or_else(|| {
        problem(
            "find the cache folder",
            "neither XDG_CACHE_HOME nor HOME is set",
            "set HOME to your home folder",
        )
    })?;
    Ok(base.join("vmlu"))
}

/// First twelve hexadecimal digits of the SHA-256 of `parts`.
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Held while the cache is changed; others wait.
pub struct Lock(#[allow(dead_code)] File);

/// Takes the lock of the cache, waiting for others.
pub fn lock() -> Result<Lock> {
    let path = folder()?.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        say("waiting for another xtask that is setting up …");
        rustix::fs::flock(&file, FlockOperation::LockExclusive).context("cannot lock the cache")?;
    }
    Ok(Lock(file))
}

/// Makes the entry `name` with `make`, which gets a temporary folder, unless it is there.
/// Call with the [`lock`] held.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let done = folder()?.join(name);
    if done.is_dir() {
        return Ok(done);
    }
    let temporary = folder()?.join(format!("{name}.tmp"));
    remove(&temporary)?;
    fs::create_dir_all(&temporary)?;
    if let Err(error) = make(&temporary) {
        // Leftovers would only eat the disk; the error matters more than a failure to remove them.
        let _ = remove(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, &done)
        .with_context(|| format!("cannot rename to {}", done.display()))?;
    Ok(done)
}

/// Removes a folder of the cache, also one that is half gone.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let next = format!("remove it by hand: rm -rf {}", folder.display());
            Err(problem(
                "remove a folder of the cache",
                format!("{}: {error}", folder.display()),
                next,
            ))
        }
        _ => Ok(()),
    }
}

/// Bytes that a plain user can still write where `path` is.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .with_context(|| format!("cannot ask for free space of {}", path.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// An error if less than `bytes` are free in the cache.
pub fn need_space(asked: &str, bytes: u64) -> Result<()> {
    let folder = folder()?;
    let free = free_bytes(&folder)?;
    if free >= bytes {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    Err(problem(
        asked,
        format!(
            "{:.1} GB needed, {:.1} GB free in {}",
            gigabytes(bytes),
            gigabytes(free),
            folder.display()
        ),
        "free some space, or set XDG_CACHE_HOME to a folder on a larger disk",
    ))
}
