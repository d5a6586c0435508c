//! One connection: requests in, replies out. What comes is checked before anything is done; nothing that comes ends the server.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use vmlu_abi::local::{
    ConfigureOf, Device, Devices, EventLogOf, HostAlloc, InjectInto, LinkControlOf, LocalHeader,
    Operation, PagesOf, PeerOf, ProcessesOf, QueueCreate, MAX_MESSAGE, VERSION,
};
use vmlu_abi::rpc::{self, Function};
use vmlu_abi::{setting, Status, Wire};

use super::bells::Bell;
use super::context::{no_chip, Context, Refusal};
use super::socket::{receive, send, Peer};
use super::Shared;
use crate::embedded::EmbeddedChip;

/// Most subscriptions of a connection.
const MAX_WATCHES: usize = 64;
/// Bytes of the head of a message.
const HEAD: usize = size_of::<LocalHeader>();

/// Serves a connection until it, or the process, ends. Everything that it had is back when this returns.
pub fn serve(shared: &Arc<Shared>, socket: &OwnedFd, peer: Peer) {
    let mut guest = Guest {
        shared,
        peer,
        context: None,
        watches: Vec::new(),
        parting: None,
    };
    let mut buffer = [0; MAX_MESSAGE];
    while let Some((bytes, length)) = receive(socket, &guest.peer, &mut buffer) {
        if !guest.answer(socket, bytes, length) {
            break;
        }
    }
    // The socket may be open elsewhere, as in a child of the process that ended.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

struct Guest<'a> {
    shared: &'a Arc<Shared>,
    peer: Peer,
    context: Option<Context>,
    /// What this connection is told of xids and links by.
    watches: Vec<Arc<Bell>>,
    /// What goes out with an answer and is not kept.
    parting: Option<OwnedFd>,
}

/// What a request is answered with.
type Answer<'a> = Result<(Vec<u8>, Vec<BorrowedFd<'a>>), Refusal>;

fn plain<'a>(body: Vec<u8>) -> Answer<'a> {
    Ok((body, Vec::new()))
}

fn refuse<T>(status: Status, text: impl Into<String>) -> Result<T, Refusal> {
    Err((status, text.into()))
}

fn exact<T: Wire>(body: &[u8]) -> Result<T, Refusal> {
    match T::read_from(body) {
        Some(value) if body.len() == size_of::<T>() => Ok(value),
        _ => refuse(
            Status::BadLength,
            format!(
                "a body of {} bytes, the operation defines {}",
                body.len(),
                size_of::<T>()
            ),
        ),
    }
}

fn zero(reserved: u32) -> Result<(), Refusal> {
    match reserved {
        0 => Ok(()),
        _ => refuse(Status::ReservedNotZero, "padding is not zero"),
    }
}

impl Guest<'_> {
    /// Answers a message of `length` bytes, of which `bytes` are here; `false` if the answer cannot be sent.
    fn answer(&mut self, socket: &OwnedFd, bytes: &[u8], length: usize) -> bool {
        let head = LocalHeader::read_from(bytes).unwrap_or_else(LocalHeader::zeroed);
        let answer = check(&head, length).and_then(|operation| {
            let body = bytes.get(HEAD..).unwrap_or_default();
            self.serve(operation, body)
        });
        let (status, body, fds) = match answer {
            Ok((body, fds)) => (Status::Ok, body, fds),
            Err((status, text)) => (status, text.into_bytes(), Vec::new()),
        };
        let reply = LocalHeader {
            version: VERSION,
            operation: head.operation,
            length: (HEAD + body.len()) as u32,
            sequence: head.sequence,
            status: status.raw(),
            reserved: 0,
        };
        let sent = send(socket, &[reply.as_bytes(), &body].concat(), &fds);
        self.parting = None;
        sent
    }

    /// Hands a message to the firmware as it came.
    fn pass(&mut self, function: Function, body: &[u8]) -> Answer<'_> {
        plain(self.context()?.pass(function, body)?)
    }

    fn may_inject(&self) -> Result<(), Refusal> {
        self.may_manage("inject faults")
    }

    fn may_manage(&self, what: &str) -> Result<(), Refusal> {
        let server = rustix::process::geteuid().as_raw();
        if self.peer.uid != 0 && self.peer.uid != server {
            let text = format!("only root and the user who runs the server may {what}");
            return Err((Status::NotPermitted, text));
        }
        Ok(())
    }

    fn serve(&mut self, operation: Operation, body: &[u8]) -> Answer<'_> {
        let shared = self.shared;
        match operation {
            Operation::Devices => {
                exact::<()>(body)?;
                let devices = Devices {
                    count: shared.card.chips().len() as u32,
                    reserved: 0,
                };
                plain(devices.as_bytes().to_vec())
            }
            Operation::Info => {
                let wanted: Device = exact(body)?;
                zero(wanted.reserved)?;
                chip(shared, wanted.device)?;
                let info = shared.card.device_info(wanted.device);
                plain(info.map_err(|s| (s, String::new()))?.as_bytes().to_vec())
            }
            Operation::Telemetry => {
                let wanted: Device = exact(body)?;
                zero(wanted.reserved)?;
                tell(chip(shared, wanted.device)?, Function::Telemetry, &[])
            }
            Operation::Processes => {
                let wanted: ProcessesOf = exact(body)?;
                let processes = rpc::Processes {
                    start: wanted.start,
                    reserved: 0,
                };
                let chip = chip(shared, wanted.device)?;
                tell(chip, Function::Processes, processes.as_bytes())
            }
            Operation::Inject => {
                let wanted: InjectInto = exact(body)?;
                zero(wanted.reserved)?;
                let chip = chip(shared, wanted.device)?;
                self.may_inject()?;
                tell(chip, Function::Inject, wanted.inject.as_bytes())
            }
            Operation::LinkPorts => {
                let wanted: Device = exact(body)?;
                zero(wanted.reserved)?;
                tell(chip(shared, wanted.device)?, Function::LinkPorts, &[])
            }
            Operation::LinkControl => {
                let wanted: LinkControlOf = exact(body)?;
                zero(wanted.reserved)?;
                let chip = chip(shared, wanted.device)?;
                self.may_inject()?;
                tell(chip, Function::LinkControl, wanted.control.as_bytes())
            }
            Operation::PeerPath => {
                let wanted: PeerOf = exact(body)?;
                zero(wanted.reserved)?;
                let chip = chip(shared, wanted.device)?;
                tell(chip, Function::PeerPath, wanted.peer.as_bytes())
            }
            Operation::Configure => {
                let wanted: ConfigureOf = exact(body)?;
                zero(wanted.reserved)?;
                let chip = chip(shared, wanted.device)?;
                self.may_manage("change the settings of a chip")?;
                tell(chip, Function::Configure, wanted.configure.as_bytes())
            }
            Operation::RetiredPages => {
                let wanted: PagesOf = exact(body)?;
                let pages = setting::RetiredPages {
                    start: wanted.start,
                    reserved: 0,
                };
                let chip = chip(shared, wanted.device)?;
                tell(chip, Function::RetiredPages, pages.as_bytes())
            }
            Operation::EventLog => {
                let wanted: EventLogOf = exact(body)?;
                zero(wanted.reserved)?;
                let log = setting::EventLog {
                    after: wanted.after,
                };
                tell(
                    chip(shared, wanted.device)?,
                    Function::EventLog,
                    log.as_bytes(),
                )
            }
            Operation::TelemetryPage => {
                let wanted: Device = exact(body)?;
                zero(wanted.reserved)?;
                chip(shared, wanted.device)?;
                let page = shared.pages[wanted.device as usize].as_fd();
                Ok((Vec::new(), vec![page]))
            }
            Operation::Subscribe => {
                exact::<()>(body)?;
                self.watches.retain(|bell| !bell.is_deserted());
                if self.watches.len() >= MAX_WATCHES {
                    let text =
                        format!("this connection has {MAX_WATCHES} subscriptions; close some");
                    return refuse(Status::OutOfResources, text);
                }
                let (bell, ear) = Bell::new().map_err(|error| {
                    (
                        Status::OutOfResources,
                        format!("there is no socket: {error}"),
                    )
                })?;
                shared.watchers.add(&bell);
                self.watches.push(bell);
                let ear: &OwnedFd = self.parting.insert(ear);
                Ok((Vec::new(), vec![ear.as_fd()]))
            }
            Operation::Open => {
                let wanted: Device = exact(body)?;
                zero(wanted.reserved)?;
                if self.context.is_some() {
                    let text = "this connection has a context; open another connection";
                    return refuse(Status::BadState, text);
                }
                let (context, opened) = Context::open(shared, &self.peer, wanted.device)?;
                let context = self.context.insert(context);
                Ok((opened.as_bytes().to_vec(), context.fds()))
            }
            Operation::Close => {
                exact::<()>(body)?;
                self.context()?;
                self.context = None;
                plain(Vec::new())
            }
            Operation::MemoryAlloc => {
                self.context()?.memory_alloc(&exact(body)?)?;
                plain(Vec::new())
            }
            Operation::MemoryFree => {
                self.context()?.memory_free(&exact(body)?)?;
                plain(Vec::new())
            }
            Operation::HostAlloc => {
                let alloc: HostAlloc = exact(body)?;
                let fd = self.context()?.host_alloc(&alloc)?;
                Ok((Vec::new(), vec![fd]))
            }
            Operation::HostFree => {
                self.context()?.host_free(&exact(body)?)?;
                plain(Vec::new())
            }
            Operation::QueueCreate => {
                let create: QueueCreate = exact(body)?;
                let (created, fd) = self.context()?.queue_create(&create)?;
                Ok((created.as_bytes().to_vec(), vec![fd]))
            }
            Operation::QueueDestroy => {
                self.context()?.queue_destroy(&exact(body)?)?;
                plain(Vec::new())
            }
            // The firmware's own messages.
            Operation::NotifierPool => self.pass(Function::NotifierPool, body),
            Operation::QueueError => self.pass(Function::QueueError, body),
            Operation::GraphCreate => self.pass(Function::GraphCreate, body),
            Operation::GraphDestroy => self.pass(Function::GraphDestroy, body),
            Operation::GraphUpdate => self.pass(Function::GraphUpdate, body),
            Operation::TimelineExport => self.pass(Function::TimelineExport, body),
            Operation::TimelineImport => self.pass(Function::TimelineImport, body),
            Operation::TimelineRelease => self.pass(Function::TimelineRelease, body),
            Operation::TimelineRead => self.pass(Function::TimelineRead, body),
            Operation::MemoryExport => self.pass(Function::MemoryExport, body),
            Operation::MemoryImport => self.pass(Function::MemoryImport, body),
        }
    }

    fn context(&mut self) -> Result<&mut Context, Refusal> {
        match &mut self.context {
            Some(context) => Ok(context),
            None => refuse(Status::BadState, "this connection has no context: open one"),
        }
    }
}

fn chip(shared: &Shared, device: u32) -> Result<&EmbeddedChip, Refusal> {
    shared
        .card
        .chip(device)
        .ok_or_else(|| no_chip(shared, device))
}

fn tell<'a>(chip: &EmbeddedChip, function: Function, body: &[u8]) -> Answer<'a> {
    plain(
        chip.call(function, 0, body)
            .map_err(|status| (status, String::new()))?,
    )
}

/// The operation of a message whose head is right.
fn check(head: &LocalHeader, length: usize) -> Result<Operation, Refusal> {
    if !(HEAD..=MAX_MESSAGE).contains(&length) || head.length as usize != length {
        let text = format!(
            "a message of {length} bytes came, its head says {}; {HEAD} to {MAX_MESSAGE} are allowed",
            head.length
        );
        return refuse(Status::BadLength, text);
    }
    if head.version != VERSION {
        let text = format!(
            "version {} of the local interface; the server speaks {VERSION}: install both from the same release",
            head.version
        );
        return refuse(Status::VersionMismatch, text);
    }
    if head.status != 0 || head.reserved != 0 {
        let text = "the status or padding of a request is not zero";
        return refuse(Status::ReservedNotZero, text);
    }
    match Operation::from_raw(head.operation) {
        Some(operation) => Ok(operation),
        None => refuse(
            Status::UnknownFunction,
            format!("operation {}", head.operation),
        ),
    }
}
