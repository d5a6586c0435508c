//! Connections between processes of a clique: frames over Unix sockets on one machine, over TCP between several.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::{recv, send, sockopt, RecvFlags, SendFlags, Shutdown};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::member::lock;

/// Most bytes of a frame.
const MAX_FRAME: usize = 4 << 20;
/// A frame that the other side does not take for so long is given up, and the connection with it.
pub(super) const STUCK: Duration = Duration::from_secs(10);
/// A host that has vanished is noticed after so many seconds.
const SILENCE: u32 = 3;

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Endpoint {
    /// A name in the machine's abstract socket space.
    Machine([u8; 16]),
    /// An address of a network.
    Net(SocketAddr),
}

/// A listening socket.
pub(super) enum Listener {
    Machine(UnixListener, [u8; 16]),
    Net(TcpListener),
}

/// A connection. Frames are sent whole by any thread, and received by one.
pub(super) struct Line {
    fd: OwnedFd,
    outbox: Mutex<Outbox>,
    changed: Condvar,
}

/// What the other side has not taken yet.
#[derive(Default)]
struct Outbox {
    bytes: VecDeque<u8>,
    /// Nothing more comes.
    ended: bool,
}

fn name_of(name: &[u8; 16]) -> io::Result<UnixAddr> {
    let hex: String = name.iter().map(|b| format!("{b:02x}")).collect();
    UnixAddr::from_abstract_name(format!("mlu-clique-{hex}"))
}

impl Listener {
    /// Listens on a name of the machine, or on an address, on any port of it.
    pub(super) fn open(name: [u8; 16], address: Option<IpAddr>) -> io::Result<Self> {
        Ok(match address {
            None => Self::Machine(UnixListener::bind_addr(&name_of(&name)?)?, name),
            Some(address) => Self::Net(TcpListener::bind((address, 0))?),
        })
    }

    /// What others connect to.
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(match self {
            Self::Machine(_, name) => Endpoint::Machine(*name),
            Self::Net(listener) => Endpoint::Net(listener.local_addr()?),
        })
    }

    /// The next connection.
    pub(super) fn accept(&self, deadline: Instant) -> io::Result<Line> {
        ready(self.as_fd(), PollFlags::IN, Some(deadline))?;
        match self {
            Self::Machine(listener, _) => Ok(Line::new(listener.accept()?.0.into())),
            Self::Net(listener) => Line::net(listener.accept()?.0),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Machine(listener, _) => listener.as_fd(),
            Self::Net(listener) => listener.as_fd(),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Line {
    fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            outbox: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn net(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let second = Duration::from_secs(1);
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, second)?;
        sockopt::set_tcp_keepintvl(&stream, second)?;
        sockopt::set_tcp_keepcnt(&stream, SILENCE)?;
        sockopt::set_tcp_user_timeout(&stream, SILENCE * 1000)?;
        Ok(Self::new(stream.into()))
    }

    /// Connects.
    pub(super) fn connect(to: &Endpoint, deadline: Instant) -> io::Result<Self> {
        match to {
            Endpoint::Machine(name) => {
                Ok(Self::new(UnixStream::connect_addr(&name_of(name)?)?.into()))
            }
            Endpoint::Net(address) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let left = left.max(Duration::from_millis(1));
                Self::net(TcpStream::connect_timeout(address, left)?)
            }
        }
    }

    /// The address of this side, if it is of a network.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        let name = rustix::net::getsockname(&self.fd).ok()?;
        let address: SocketAddr = name.try_into().ok()?;
        Some(address.ip())
    }

    /// Sends a frame, and waits until the other side has room for it.
    pub(super) fn send<T: Serialize>(&self, value: &T) -> io::Result<()> {
        self.post(value)?;
        let mut outbox = lock(&self.outbox);
        while !self.push(&mut outbox)? {
            ready(
                self.fd.as_fd(),
                PollFlags::OUT,
                Some(Instant::now() + STUCK),
            )?;
        }
        Ok(())
    }

    /// Sends a frame without waiting: what the other side has no room for is left to [`Line::carry`].
    pub(super) fn post<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let frame = postcard::to_extend(value, vec![0; 4]).map_err(io::Error::other)?;
        let length = frame.len() - 4;
        if length > MAX_FRAME {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut outbox = lock(&self.outbox);
        let first = outbox.bytes.is_empty();
        outbox.bytes.extend((length as u32).to_le_bytes());
        outbox.bytes.extend(&frame[4..]);
        if first && !self.push(&mut outbox)? {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Sends what there is room for; whether that was all. After an error nothing is left: it would not arrive any more.
    fn push(&self, outbox: &mut Outbox) -> io::Result<bool> {
        while !outbox.bytes.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.fd, outbox.bytes.as_slices().0, flags) {
                Ok(sent) => drop(outbox.bytes.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => {
                    outbox.bytes.clear();
                    return Err(error.into());
                }
            }
        }
        Ok(true)
    }

    /// Sends what was left, until the connection ends.
    pub(super) fn carry(&self) {
        let mut outbox = lock(&self.outbox);
        loop {
            if outbox.bytes.is_empty() {
                self.changed.notify_all();
                if outbox.ended {
                    break;
                }
                outbox = self.changed.wait(outbox).unwrap_or_else(|e| e.into_inner());
                continue;
            }
            drop(outbox);
            let deadline = Some(Instant::now() + STUCK);
            let waited = ready(self.fd.as_fd(), PollFlags::OUT, deadline);
            outbox = lock(&self.outbox);
            if waited.and_then(|()| self.push(&mut outbox)).is_err() {
                outbox.bytes.clear();
                break;
            }
        }
        drop(outbox);
        self.shut();
    }

    /// Waits until everything was sent, or cannot be.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut outbox = lock(&self.outbox);
        while !outbox.bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(outbox, left);
            outbox = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Ends the connection when [`Line::carry`] has sent everything.
    pub(super) fn end(&self) {
        lock(&self.outbox).ended = true;
        self.changed.notify_all();
    }

    /// Receives a frame; `UnexpectedEof` if the other side has ended, `TimedOut` after the deadline.
    pub(super) fn receive<T: DeserializeOwned>(&self, deadline: Option<Instant>) -> io::Result<T> {
        let mut length = [0; 4];
        self.fill(&mut length, deadline)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a frame of {length} bytes"),
            ));
        }
        let mut frame = vec![0; length];
        self.fill(&mut frame, deadline)?;
        postcard::from_bytes(&frame).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
    }

    fn fill(&self, into: &mut [u8], deadline: Option<Instant>) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            if deadline.is_some() {
                ready(self.fd.as_fd(), PollFlags::IN, deadline)?;
            }
            match recv(&self.fd, &mut into[done..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok((_, read)) => done += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection, for both sides and whoever receives from it.
    pub(super) fn shut(&self) {
        self.end();
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }
}

/// Waits until something can be done with a socket.
fn ready(fd: BorrowedFd<'_>, events: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
    wait(&mut [PollFd::from_borrowed_fd(fd, events)], deadline)
}

/// Waits until something can be done with one of several.
pub(super) fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(fds, left.as_ref()) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
