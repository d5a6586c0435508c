//! The socket of a chip.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;

/// Held while the process has another mask: who takes the mask of another's sockets for its own would bring that back.
static MASK: Mutex<()> = Mutex::new(());

/// Listens on a new socket that only its owner can connect to. A socket that nobody serves any more is replaced.
pub fn listen(path: &Path) -> Result<UnixListener> {
    remove_stale(path)?;
    // The mode must hold from the first moment on, so it comes from the mask. Sockets are made before threads that make files.
    let masked = MASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    drop(masked);
    let listener = listener?;
    // Whoever accepts knows from `poll` that somebody waits; if that somebody was turned away meanwhile, `accept` must not block.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "a file that is not a socket has this name; remove it or choose another --dir",
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::new(
            ErrorKind::AddrInUse,
            "another program listens on it; stop it or choose another --dir",
        )),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn sockets_that_are_made_at_once_are_their_owners() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let folder = folder.path();
                scope.spawn(move || {
                    for n in 0..200 {
                        let path = folder.join(format!("{thread}-{n}"));
                        let _listener = listen(&path).unwrap();
                        let mode = path.metadata().unwrap().permissions().mode();
                        assert_eq!(mode & 0o777, 0o600);
                    }
                });
            }
        });
    }
}
