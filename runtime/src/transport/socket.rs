//! A connection to a local server: one request and its reply at a time. See `abi::local`.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_timeout, Timeout};
use rustix::net::{
    connect, recvmsg, send, socket_with, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage,
    RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use vmlu_abi::local::{LocalHeader, Operation, MAX_FDS, MAX_MESSAGE, VERSION};
use vmlu_abi::{Status, Wire};

use super::arm::lock;
use crate::error::{Error, Result};

/// For how long a reply is waited for. Large allocations take the server seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the head of a message.
const HEAD: usize = size_of::<LocalHeader>();

/// A connection.
pub(super) struct Connection {
    socket: OwnedFd,
    /// Number of the last request. Held from a request to its reply.
    sequence: Mutex<u64>,
    broken: AtomicBool,
}

/// A reply that is not a refusal.
pub(super) struct Reply {
    /// Its body.
    pub(super) bytes: Vec<u8>,
    fds: std::vec::IntoIter<OwnedFd>,
}

impl Reply {
    /// The body as a value.
    pub(super) fn body<T: Wire>(&self, call: &'static str) -> Result<T> {
        match T::read_from(&self.bytes) {
            Some(value) if self.bytes.len() == size_of::<T>() => Ok(value),
            _ => {
                let text = format!("the server's reply has {} bytes", self.bytes.len());
                Err(Error::new(call, Status::Internal, text))
            }
        }
    }

    /// The next descriptor.
    pub(super) fn fd(&mut self, call: &'static str) -> Result<OwnedFd> {
        self.fds.next().ok_or_else(|| {
            let text =
                "the server's reply lacks a descriptor; check the limit on open files (ulimit -n)";
            Error::new(call, Status::Internal, text)
        })
    }
}

impl Connection {
    /// Connects to the server at a path.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let new = || -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            for side in [Timeout::Recv, Timeout::Send] {
                set_socket_timeout(&socket, side, Some(PATIENCE))?;
            }
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket)
        };
        let socket = new().map_err(|e| {
            let hint = match e {
                Errno::NOENT | Errno::CONNREFUSED => {
                    "; is the server running (`mlu-server --local PATH`)?"
                }
                Errno::ACCESS => "; its owner can share it (`mlu-server --local PATH --mode 0666`)",
                _ => "",
            };
            let what = format!("no connection to {}{hint}", path.display());
            Error::system("connect to the local server", what, e.into())
        })?;
        Ok(Self {
            socket,
            sequence: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    /// Whether nothing will come over it any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Sends a request and waits for its reply.
    pub(super) fn ask(
        &self,
        call: &'static str,
        operation: Operation,
        body: &[u8],
    ) -> Result<Reply> {
        let mut sequence = lock(&self.sequence);
        *sequence += 1;
        let head = LocalHeader {
            version: VERSION,
            operation: operation as u16,
            length: (HEAD + body.len()) as u32,
            sequence: *sequence,
            status: 0,
            reserved: 0,
        };
        if self.is_broken() {
            return Err(lost(call, io::ErrorKind::NotConnected.into()));
        }
        let exchanged = self.exchange(&[head.as_bytes(), body].concat());
        let (bytes, fds) = exchanged.map_err(|e| self.end(call, e))?;
        let reply = LocalHeader::read_from(&bytes).unwrap_or_else(LocalHeader::zeroed);
        let expected = LocalHeader {
            length: bytes.len() as u32,
            status: reply.status,
            ..head
        };
        if reply != expected {
            return Err(self.end(call, io::ErrorKind::InvalidData.into()));
        }
        let body = bytes[HEAD..].to_vec();
        match Status::from_raw(reply.status) {
            Some(Status::Ok) => Ok(Reply {
                bytes: body,
                fds: fds.into_iter(),
            }),
            status => {
                let mut text = String::from_utf8_lossy(&body).into_owned();
                if text.is_empty() {
                    text = format!("the server refused {operation:?}");
                }
                Err(Error::new(call, status.unwrap_or(Status::Internal), text))
            }
        }
    }

    /// The connection is of no use any more: a late reply would be taken for another's.
    fn end(&self, call: &'static str, error: io::Error) -> Error {
        self.broken.store(true, Ordering::SeqCst);
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        lost(call, error)
    }

    fn exchange(&self, request: &[u8]) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        retry(|| send(&self.socket, request, SendFlags::NOSIGNAL))?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = retry(|| {
            recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let fds = fds.collect();
        if message.bytes == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        buffer.truncate(message.bytes);
        Ok((buffer, fds))
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn lost(call: &'static str, error: io::Error) -> Error {
    let text = format!("the local server is gone or does not answer ({error}); start it again");
    Error::new(call, Status::DeviceLost, text)
}
