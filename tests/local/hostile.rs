//! Clients that do not keep to the rules, and servers that end.

use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::ftruncate;
use rustix::net::{
    connect, recvmsg, send, socket_with, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage,
    RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use vmlu::abi::local::{
    Device, HostAlloc, LocalHeader, Opened, Operation, QueueCreate, QueueCreated, MAX_MESSAGE,
    VERSION,
};
use vmlu::abi::{rpc, Wire};
use vmlu::transport::local::Local;
use vmlu::transport::Transport;
use vmlu::{Context, Status};
use vmlu_device::local::LocalServer;

use crate::{server, Check};

const HEAD: usize = size_of::<LocalHeader>();

/// A connection that sends what it likes.
struct Raw(OwnedFd);

impl Raw {
    fn open(path: &Path) -> std::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    fn send(&self, bytes: &[u8]) -> bool {
        send(&self.0, bytes, SendFlags::NOSIGNAL).is_ok()
    }

    /// The next reply: status, body, descriptors. `None` if the server closed the connection.
    fn receive(&self) -> Option<(Status, Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .ok()?;
        let head = LocalHeader::read_from(&bytes[..got.bytes])?;
        assert_eq!(head.length as usize, got.bytes);
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        let fds = fds.collect();
        let status = Status::from_raw(head.status)?;
        Some((status, bytes[HEAD..got.bytes].to_vec(), fds))
    }

    fn ask(&self, operation: Operation, body: &[u8]) -> (Status, Vec<u8>, Vec<OwnedFd>) {
        let head = head(operation, body.len());
        assert!(self.send(&[head.as_bytes(), body].concat()));
        self.receive().expect("an answer")
    }
}

fn head(operation: Operation, body: usize) -> LocalHeader {
    LocalHeader {
        version: VERSION,
        operation: operation as u16,
        length: (HEAD + body) as u32,
        sequence: 7,
        status: 0,
        reserved: 0,
    }
}

fn start() -> Result<(tempfile::TempDir, LocalServer), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 1))?;
    Ok((folder, server))
}

const CHIP: Device = Device {
    device: 0,
    reserved: 0,
};

/// Somebody who keeps to the rules is served.
fn well(server: &LocalServer) -> Check {
    let context = Context::open_on(&*Local::open(server.path())?, 0)?;
    let queue = context.queue()?;
    queue.nop()?;
    Ok(queue.sync()?)
}

pub fn garbage() -> Check {
    let (_folder, server) = start()?;
    let raw = Raw::open(server.path())?;
    let refused = |bytes: &[u8], status: Status| {
        assert!(raw.send(bytes));
        let (got, _, fds) = raw.receive().expect("a refusal");
        assert!(got == status && fds.is_empty(), "{got:?}, not {status:?}");
    };
    let good = head(Operation::Devices, 0);
    refused(&[0xff], Status::BadLength);
    refused(&[0xff; 23], Status::BadLength);
    refused(&[0xff; 24], Status::BadLength);
    refused(&vec![0xff; MAX_MESSAGE + 1], Status::BadLength);
    refused(&vec![0; 60_000], Status::BadLength);
    let changed = |change: &dyn Fn(&mut LocalHeader)| {
        let mut head = good;
        change(&mut head);
        head.as_bytes().to_vec()
    };
    refused(&changed(&|h| h.version = 2), Status::VersionMismatch);
    refused(&changed(&|h| h.length = 25), Status::BadLength);
    refused(&changed(&|h| h.status = 1), Status::ReservedNotZero);
    refused(&changed(&|h| h.reserved = 1), Status::ReservedNotZero);
    refused(&changed(&|h| h.operation = 999), Status::UnknownFunction);
    // Each operation with bodies of any length, without and with a context.
    for open in [false, true] {
        if open {
            let (status, _, fds) = raw.ask(Operation::Open, CHIP.as_bytes());
            assert_eq!((status, fds.len()), (Status::Ok, 2));
            let again = raw.ask(Operation::Open, CHIP.as_bytes()).0;
            assert_eq!(again, Status::BadState);
        }
        for operation in Operation::ALL {
            for length in [
                0,
                1,
                7,
                8,
                9,
                16,
                17,
                24,
                48,
                56,
                57,
                100,
                MAX_MESSAGE - HEAD,
            ] {
                if matches!(
                    operation,
                    Operation::Close | Operation::Devices | Operation::Subscribe
                ) && length == 0
                {
                    continue;
                }
                let (status, _, fds) = raw.ask(*operation, &vec![0xff; length]);
                assert!(
                    status != Status::Ok && fds.is_empty(),
                    "{operation:?} took {length} bytes of garbage"
                );
            }
        }
    }
    let far = Device {
        device: 1,
        reserved: 0,
    };
    let (status, text, _) = raw.ask(Operation::Info, far.as_bytes());
    assert_eq!(status, Status::BadHandle);
    assert!(String::from_utf8(text)?.contains("there is no chip 1"));
    let padded = Device {
        device: 0,
        reserved: 1,
    };
    assert_eq!(
        raw.ask(Operation::Info, padded.as_bytes()).0,
        Status::ReservedNotZero
    );
    well(&server)
}

pub fn sealed_memory() -> Check {
    let (_folder, server) = start()?;
    let raw = Raw::open(server.path())?;
    let (status, _, fds) = raw.ask(Operation::Open, CHIP.as_bytes());
    assert_eq!((status, fds.len()), (Status::Ok, 2));
    let alloc = HostAlloc {
        va: 1 << 32,
        length: 1 << 20,
        access: rpc::ACCESS_READ | rpc::ACCESS_WRITE,
        flags: 0,
    };
    let (status, _, fds) = raw.ask(Operation::HostAlloc, alloc.as_bytes());
    assert_eq!((status, fds.len()), (Status::Ok, 1));
    assert!(ftruncate(&fds[0], 0).is_err(), "the memory could be cut");
    assert!(ftruncate(&fds[0], 2 << 20).is_err());
    let over = HostAlloc {
        va: (1 << 32) + (1 << 19),
        ..alloc
    };
    let overlap = raw.ask(Operation::HostAlloc, over.as_bytes()).0;
    assert_eq!(overlap, Status::AddressInUse);
    for length in [0, 1, 4095, u64::MAX, u64::MAX - 4095, 1 << 50] {
        let bad = HostAlloc {
            va: 1 << 40,
            length,
            ..alloc
        };
        let status = raw.ask(Operation::HostAlloc, bad.as_bytes()).0;
        assert!(status != Status::Ok, "{length:#x} bytes");
    }
    let create = QueueCreate {
        ring_units: 1024,
        priority: 3,
        weight: 1,
        flags: 0,
    };
    let (status, made, fds) = raw.ask(Operation::QueueCreate, create.as_bytes());
    assert_eq!((status, fds.len()), (Status::Ok, 1));
    let made = QueueCreated::read_from(&made).ok_or("short")?;
    assert!(ftruncate(&fds[0], 0).is_err(), "the ring could be cut");
    // Garbage in ring, status, arm and doorbell: this queue's own harm.
    let file = std::fs::File::from(fds.into_iter().next().ok_or("no file")?);
    let garbage = vec![0xa5; made.length as usize];
    std::os::unix::fs::FileExt::write_all_at(&file, &garbage, 0)?;
    (&file).flush()?;
    well(&server)
}

pub fn silent_connections() -> Check {
    let (_folder, server) = start()?;
    let silent: Vec<_> = (0..300)
        .map(|_| Raw::open(server.path()))
        .collect::<Result<_, _>>()?;
    // One that asks and never reads.
    let deaf = Raw::open(server.path())?;
    let ask = head(Operation::Devices, 0);
    let mut sent = 0;
    while sent < 10_000
        && send(
            &deaf.0,
            ask.as_bytes(),
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
        .is_ok()
    {
        sent += 1;
    }
    let start = Instant::now();
    well(&server)?;
    assert!(start.elapsed() < Duration::from_secs(2));
    drop((silent, deaf));
    let start = Instant::now();
    while server.connections() > 0 {
        assert!(start.elapsed() < Duration::from_secs(2), "they stay");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

pub fn foreign_handles() -> Check {
    let (_folder, server) = start()?;
    let (mine, other) = (Raw::open(server.path())?, Raw::open(server.path())?);
    for raw in [&mine, &other] {
        let (status, opened, _) = raw.ask(Operation::Open, CHIP.as_bytes());
        assert_eq!(status, Status::Ok);
        Opened::read_from(&opened).ok_or("short")?;
    }
    let create = QueueCreate {
        ring_units: 1024,
        priority: 3,
        weight: 1,
        flags: 0,
    };
    let made = other.ask(Operation::QueueCreate, create.as_bytes()).1;
    let queue = QueueCreated::read_from(&made).ok_or("short")?.queue;
    let destroy = rpc::QueueDestroy { queue };
    let mut error = rpc::QueueError::zeroed();
    error.queue = queue;
    let ask = |raw: &Raw, operation, body: &[u8]| raw.ask(operation, body).0;
    let read = Operation::QueueError;
    assert_eq!(
        ask(&mine, Operation::QueueDestroy, destroy.as_bytes()),
        Status::BadHandle
    );
    assert_eq!(ask(&mine, read, error.as_bytes()), Status::BadHandle);
    assert_eq!(ask(&other, read, error.as_bytes()), Status::Ok);
    assert_eq!(
        ask(&other, Operation::QueueDestroy, destroy.as_bytes()),
        Status::Ok
    );
    assert_eq!(
        ask(&other, Operation::QueueDestroy, destroy.as_bytes()),
        Status::BadHandle
    );
    Ok(())
}

pub fn server_ends() -> Check {
    let (folder, server) = start()?;
    let card = Local::open(server.path())?;
    let context = Context::open_on(&*card, 0)?;
    let queue = context.queue()?;
    let ended = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let error = queue.wait(queue.submitted() + 1).unwrap_err();
            (error.status(), Instant::now())
        });
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        drop(server);
        let (status, end) = waiter.join().expect("no panic");
        assert_eq!(status, Status::DeviceLost);
        end.saturating_duration_since(start)
    });
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    let lost = context.alloc(4096).err().ok_or("memory without a server")?;
    assert_eq!(lost.status(), Status::DeviceLost, "{lost}");
    assert!(card.devices().is_err());
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 1))?;
    assert_eq!(card.devices()?, [0], "the new server is found");
    well(&server)
}

pub fn chip_is_lost() -> Check {
    let folder = tempfile::tempdir()?;
    let server = LocalServer::start(&server::options(&folder.path().join("mlu"), 2))?;
    let card = Local::open(server.path())?;
    let (lost, other) = (
        Context::open_on(&*card, 0)?.queue()?,
        Context::open_on(&*card, 1)?.queue()?,
    );
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lost.wait(lost.submitted() + 1).unwrap_err().status());
        std::thread::sleep(Duration::from_millis(50));
        let fault = rpc::Inject {
            fault: rpc::Fault::AllOnes as u32,
            count: 1,
            ..rpc::Inject::zeroed()
        };
        let start = Instant::now();
        card.inject(0, &fault).expect("the fault is taken");
        assert_eq!(waiter.join().expect("no panic"), Status::DeviceLost);
        assert!(start.elapsed() < Duration::from_secs(1));
    });
    let error = card.telemetry(0).unwrap_err();
    assert_eq!(error.status(), Status::DeviceLost);
    other.nop()?;
    Ok(other.sync()?)
}

pub fn path_is_claimed() -> Check {
    let (folder, server) = start()?;
    let options = server::options(server.path(), 1);
    let text = LocalServer::start(&options).err().ok_or("two servers")?;
    assert!(
        text.to_string().contains("another server listens"),
        "{text}"
    );
    well(&server)?;
    drop(server);
    // A socket that a server left behind when it was killed.
    drop(std::os::unix::net::UnixListener::bind(&options.path)?);
    drop(LocalServer::start(&options)?);
    let file = folder.path().join("file");
    std::fs::write(&file, "kept")?;
    let refused = LocalServer::start(&server::options(&file, 1));
    let text = refused.err().ok_or("a file was replaced")?.to_string();
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(std::fs::read_to_string(&file)?, "kept");
    Ok(())
}
