//! The server's socket: who owns it, who connects, and the messages on it.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{flock, FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_timeout, socket_peercred, Timeout};
use rustix::net::{
    bind, connect, listen as listen_on, recvmsg, sendmsg, socket_with, AddressFamily,
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{pidfd_open, PidfdFlags};
use vmlu_abi::local::{MAX_FDS, MAX_MESSAGE};

/// For how long a reply waits for a client that does not read, before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who connected.
pub struct Peer {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Command name, zero-padded.
    pub comm: [u8; 32],
    /// Readable when the process has ended; `None` where the process cannot be seen from here.
    process: Option<OwnedFd>,
}

/// Takes the right to serve at a path, which lasts until the file is closed.
pub fn claim(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let say = |error: Error| Error::new(error.kind(), format!("open {}: {error}", name.display()));
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&name)
        .map_err(say)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| taken(path))?;
    Ok(lock)
}

fn taken(path: &Path) -> Error {
    let text = format!(
        "another server listens at {}; stop it or choose another path",
        path.display()
    );
    Error::new(ErrorKind::AddrInUse, text)
}

/// Listens at a path that was claimed; a socket that nobody serves any more is replaced.
pub fn listen(path: &Path, mode: u32) -> Result<OwnedFd> {
    let address = SocketAddrUnix::new(path).map_err(|e| {
        let text = format!("{} is no name for a socket: {e}", path.display());
        Error::new(ErrorKind::InvalidInput, text)
    })?;
    let new = || {
        socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let text = format!(
                "{} is a file that is not a socket; remove it or choose another path",
                path.display()
            );
            return Err(Error::new(ErrorKind::AlreadyExists, text));
        }
        Ok(_) => match connect(new()?, &address) {
            Err(Errno::CONNREFUSED) => std::fs::remove_file(path)?,
            // Another type of socket, or one with a full backlog, has a server as well.
            _ => return Err(taken(path)),
        },
    }
    let socket = new()?;
    bind(&socket, &address)?;
    // Before it listens nobody can connect, so the mode holds from the first moment on.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen_on(&socket, 128)?;
    Ok(socket)
}

/// Who is at the other end; `None` if that process is gone already.
pub fn peer(socket: &OwnedFd) -> Option<Peer> {
    set_socket_timeout(socket, Timeout::Send, Some(PATIENCE)).ok()?;
    let credentials = socket_peercred(socket).ok()?;
    let process = match pidfd_open(credentials.pid, PidfdFlags::empty()) {
        Ok(fd) => Some(fd),
        Err(Errno::SRCH) => return None,
        // A process of another PID namespace, or a kernel without this call: the connection's end must do.
        Err(_) => None,
    };
    let pid = credentials.pid.as_raw_pid();
    let mut comm = [0; 32];
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    let length = name.len().min(31);
    comm[..length].copy_from_slice(&name[..length]);
    Some(Peer {
        pid: pid.unsigned_abs(),
        uid: credentials.uid.as_raw(),
        comm,
        process,
    })
}

/// Waits until there is something to receive; `false` once the process has ended.
fn wait(socket: &OwnedFd, peer: &Peer) -> bool {
    loop {
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(peer.process.iter().map(|p| PollFd::new(p, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => return fds.get(1).is_none_or(|p| p.revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// The next message of a client: its bytes, as far as they fit, and how many it had. `None` once the connection or the process has ended.
pub fn receive<'a>(
    socket: &OwnedFd,
    peer: &Peer,
    buffer: &'a mut [u8; MAX_MESSAGE],
) -> Option<(&'a [u8], usize)> {
    // Without room for control messages the kernel drops descriptors that a client sends.
    let mut none = RecvAncillaryBuffer::default();
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let length = loop {
        if !wait(socket, peer) {
            return None;
        }
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut none, flags) {
            Ok(message) if message.flags.contains(ReturnFlags::TRUNC) => {
                break message.bytes.max(MAX_MESSAGE + 1)
            }
            Ok(message) => break message.bytes,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return None,
        }
    };
    // No message of ours is empty; the end of a connection is.
    (length > 0).then(|| (&buffer[..length.min(MAX_MESSAGE)], length))
}

/// Sends a reply; `false` if the client is gone or does not read.
pub fn send(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return false;
    }
    loop {
        match sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
