//! RPC: each function checked, done, answered. See `docs/hardware.md`, section 5.

mod chip;
mod context;
mod graph;
mod memory;
mod peer;
mod queue;
mod settings;
mod timeline;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use vmlu_abi::boot::ImageHeader;
use vmlu_abi::rpc::{BadAnswer, Function, RpcHeader, MAX_MESSAGE, VERSION};
use vmlu_abi::{Status, Wire};

use crate::context::Context;
use crate::core::{Core, HostAccess};
use crate::hardware::HostRange;
use crate::memory::space::SpaceError;
use crate::queue::Queue;

/// Why a request was refused: the code for the caller, the sentence for the log.
struct Refusal(Status, String);

type Answer = Result<Vec<u8>, Refusal>;

impl From<(Status, String)> for Refusal {
    fn from((status, text): (Status, String)) -> Self {
        Self(status, text)
    }
}

impl From<SpaceError> for Refusal {
    fn from(error: SpaceError) -> Self {
        Self(error.status, error.text)
    }
}

fn refuse<T>(status: Status, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, text.into()))
}

/// Serves one message, as firmware of the image would.
pub fn serve(core: &Arc<Core>, image: &ImageHeader, request: &[u8]) -> Vec<u8> {
    let header = RpcHeader::read_from(request).unwrap_or_else(RpcHeader::zeroed);
    let answer = catch_unwind(AssertUnwindSafe(|| dispatch(core, image, &header, request)));
    core.publish();
    let (status, body) = match answer {
        Ok(Ok(body)) => (Status::Ok, body),
        Ok(Err(Refusal(status, text))) => {
            if let Some(suppressed) = core.log.allow() {
                tracing::info!(
                    chip = core.hardware.chip,
                    function = header.function,
                    suppressed,
                    "refused: {}: {text}",
                    status.name()
                );
            }
            (status, Vec::new())
        }
        Err(_) => {
            tracing::error!(
                chip = core.hardware.chip,
                function = header.function,
                "bug: the firmware panicked while it served a message"
            );
            (Status::Internal, Vec::new())
        }
    };
    let mut answer = RpcHeader {
        version: VERSION,
        function: header.function,
        length: (size_of::<RpcHeader>() + body.len()) as u32,
        sequence: header.sequence,
        context: header.context,
        status: status.raw(),
        reserved: 0,
    };
    let mut body = body;
    if header.function != Function::Inject as u16
        && let Some(bad) = core.injector.bad_answer(header.function)
    {
        spoil(bad, &mut answer, &mut body);
    }
    [answer.as_bytes(), &body].concat()
}

/// Makes an answer wrong, for tests of who takes it.
fn spoil(bad: BadAnswer, answer: &mut RpcHeader, body: &mut Vec<u8>) {
    match bad {
        BadAnswer::Short => answer.length = size_of::<RpcHeader>() as u32 - 1,
        BadAnswer::Long => answer.length = MAX_MESSAGE as u32 + 1,
        BadAnswer::Version => answer.version = !answer.version,
        BadAnswer::Function => answer.function = answer.function.wrapping_add(1),
        BadAnswer::Sequence => answer.sequence = answer.sequence.wrapping_add(1),
        BadAnswer::Context => answer.context = !answer.context,
        BadAnswer::Status => answer.status = u32::MAX,
        BadAnswer::Truncated => body.truncate(body.len() / 2),
        BadAnswer::Trailing => body.resize((body.len() + 8).min(MAX_MESSAGE / 2), 0xff),
        BadAnswer::Body => body.fill(0xff),
    }
    if matches!(bad, BadAnswer::Truncated | BadAnswer::Trailing) {
        answer.length = (size_of::<RpcHeader>() + body.len()) as u32;
    }
}

fn dispatch(core: &Arc<Core>, image: &ImageHeader, header: &RpcHeader, request: &[u8]) -> Answer {
    if request.len() < size_of::<RpcHeader>()
        || request.len() > MAX_MESSAGE
        || header.length as usize != request.len()
    {
        return refuse(
            Status::BadLength,
            format!(
                "{} bytes came, the header says {}",
                request.len(),
                header.length
            ),
        );
    }
    if header.version != VERSION {
        return refuse(
            Status::VersionMismatch,
            format!("version {}, {VERSION} is served", header.version),
        );
    }
    if header.status != 0 || header.reserved != 0 {
        return refuse(
            Status::ReservedNotZero,
            "the header's status or padding is not zero",
        );
    }
    let Some(function) = Function::from_raw(header.function) else {
        return refuse(
            Status::UnknownFunction,
            format!("function {}", header.function),
        );
    };
    if function.since() > image.api_version {
        let (since, api) = (function.since(), image.api_version);
        return refuse(
            Status::UnknownFunction,
            format!("{function:?} came with interface {since}, the firmware offers {api}"),
        );
    }
    if core.is_gone() {
        return refuse(Status::DeviceLost, "the chip is as good as pulled out");
    }
    let body = &request[size_of::<RpcHeader>()..];
    if function != Function::Inject
        && let Some(status) = core.injector.refusal(header.function)
    {
        return refuse(status, "an injected fault");
    }
    let context = || match core.find_context(header.context) {
        Some(context) => Ok(context),
        None => refuse(
            Status::BadHandle,
            format!("there is no context {:#x}", header.context),
        ),
    };
    match function {
        Function::Info => exact::<()>(body).map(|()| chip::info(core, image)),
        Function::Ping => exact::<()>(body).map(|()| Vec::new()),
        Function::ContextCreate => context::create(core, &exact(body)?),
        Function::ContextDestroy => {
            exact::<()>(body)?;
            context::destroy(core, &*context()?)
        }
        Function::MemoryAlloc => memory::alloc(core, &*context()?, &exact(body)?),
        Function::MemoryFree => memory::free(core, &*context()?, &exact(body)?, true),
        Function::HostUnmap => memory::free(core, &*context()?, &exact(body)?, false),
        Function::HostMap => memory::host_map(core, &*context()?, body),
        Function::QueueCreate => queue::create(core, context()?, &exact(body)?),
        Function::QueueDestroy => queue::destroy(core, &*context()?, &exact(body)?),
        Function::QueueError => queue::error(core, &*context()?, &exact(body)?),
        Function::NotifierPool => context::notifier_pool(&*context()?, &exact(body)?),
        Function::EventRing => chip::event_ring(core, &exact(body)?),
        Function::TelemetryPage => chip::telemetry_page(core, &exact(body)?),
        Function::Telemetry => exact::<()>(body).map(|()| core.update().as_bytes().to_vec()),
        Function::Processes => chip::processes(core, &exact(body)?),
        Function::Inject => chip::inject(core, &exact(body)?),
        Function::GraphCreate => graph::create(core, &*context()?, &exact(body)?),
        Function::GraphDestroy => graph::destroy(&*context()?, &exact(body)?),
        Function::GraphUpdate => graph::update(core, &*context()?, &exact(body)?),
        Function::TimelineExport => timeline::export(core, &*context()?, &exact(body)?),
        Function::TimelineImport => timeline::import(&*context()?, &exact(body)?),
        Function::TimelineRelease => timeline::release(core, &*context()?, &exact(body)?),
        Function::TimelineRead => timeline::read(core, &*context()?, &exact(body)?),
        Function::MemoryExport => peer::export(core, &*context()?, &exact(body)?),
        Function::MemoryImport => peer::import(core, &*context()?, &exact(body)?),
        Function::PeerPath => peer::path(core, &exact(body)?),
        Function::LinkPorts => exact::<()>(body).map(|()| peer::ports(core)),
        Function::LinkControl => peer::control(core, &exact(body)?),
        Function::Segments => context::segments(&*context()?, &exact(body)?),
        Function::Configure => settings::configure(core, &exact(body)?),
        Function::RetiredPages => settings::retired_pages(core, &exact(body)?),
        Function::EventLog => settings::event_log(core, &exact(body)?),
    }
}

fn exact<T: Wire>(body: &[u8]) -> Result<T, Refusal> {
    match T::read_from(body) {
        Some(value) if body.len() == size_of::<T>() => Ok(value),
        _ => refuse(
            Status::BadLength,
            format!(
                "a body of {} bytes, the function defines {}",
                body.len(),
                size_of::<T>()
            ),
        ),
    }
}

/// Begins to use DMA addresses; what they lead to is published before this is dropped.
fn open_host(core: &Core) -> Result<HostAccess<'_>, Refusal> {
    core.open_host()
        .ok_or_else(|| Refusal(Status::DeviceReset, "the firmware is shut down".into()))
}

fn host(
    core: &Core,
    _open: &HostAccess<'_>,
    address: u64,
    length: u64,
    write: bool,
) -> Result<HostRange, Refusal> {
    let range = core.hardware.host.translate(address, length, write);
    range.ok_or_else(|| {
        Refusal(
            Status::AddressFault,
            format!("the host has no memory at {address:#x} + {length:#x}"),
        )
    })
}

fn own_queue(core: &Core, context: &Context, handle: u64) -> Result<Arc<Queue>, Refusal> {
    match core
        .find_queue(handle)
        .filter(|q| q.context.handle == context.handle)
    {
        Some(queue) => Ok(queue),
        None => refuse(
            Status::BadHandle,
            format!("there is no queue {handle:#x} in this context"),
        ),
    }
}
