//! The ways to reach cards: embedded in this process, a local server's socket, or the kernel driver. One trait, one hot path: a queue's
//! ring, doorbell and status page are memory on all of them.

mod arm;
mod bell;
pub mod embedded;
pub mod kernel;
pub mod local;
mod page;
mod socket;
pub(crate) mod sys;
mod watcher;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use vmlu_abi::ioctl::DeviceInfo;
use vmlu_abi::link::Port;
use vmlu_abi::rpc::{
    GraphImage, Inject, LinkControl, MemoryImport, MemoryToken, Peer, PeerWay, PortList, Process,
    ProcessList, TimelineState, TimelineToken,
};
use vmlu_abi::setting::{Configure, EventList, LogEntry, RetiredPage, RetiredPageList};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::Wire;

use vmlu_protocol::submit::Barrier;

use crate::error::{Error, Result};

pub use page::TelemetryPage;

/// A way to reach cards.
pub trait Transport: Send + Sync {
    /// Short name: `embedded`, `local` or `kernel`.
    fn name(&self) -> &'static str;

    /// Numbers of the chips that are there.
    fn devices(&self) -> Result<Vec<u32>>;

    /// What a chip is.
    fn info(&self, device: u32) -> Result<DeviceInfo>;

    /// A chip's telemetry, as of now.
    fn telemetry(&self, device: u32) -> Result<Telemetry>;

    /// The contexts of a chip.
    fn processes(&self, device: u32) -> Result<Vec<Process>>;

    /// Injects a fault, where that is allowed.
    fn inject(&self, device: u32, inject: &Inject) -> Result<()>;

    /// The MLU-Link ports of a chip, as of now.
    fn link_ports(&self, device: u32) -> Result<Vec<Port>>;

    /// Takes a link down or up, or counts errors of a port, where faults may be injected.
    fn link_control(&self, device: u32, control: &LinkControl) -> Result<()>;

    /// How a chip reaches another one.
    fn peer_path(&self, device: u32, peer: &Peer) -> Result<PeerWay>;

    /// The page on which a chip keeps its telemetry, if it can be read without asking the chip.
    fn telemetry_page(&self, _device: u32) -> Option<TelemetryPage> {
        None
    }

    /// Changes a setting of a chip. It takes root, or the user who runs the server.
    fn configure(&self, _device: u32, _configure: &Configure) -> Result<()> {
        Err(unsupported("change a setting"))
    }

    /// Pages of a chip's memory that are out of use.
    fn retired_pages(&self, _device: u32) -> Result<Vec<RetiredPage>> {
        Err(unsupported("list the retired pages"))
    }

    /// What happened to a chip behind a number that is known (0: nothing is), the oldest first, and how many entries before them are lost.
    fn event_log(&self, _device: u32, _after: u64) -> Result<(Vec<LogEntry>, u32)> {
        Err(unsupported("read the log"))
    }

    /// A descriptor that becomes readable when a chip reports an xid or a link, is lost or works again; `None` where nobody tells, and telemetry
    /// has to be looked at.
    /// What is read from it are `ioctl::EventRecord`s.
    fn subscribe(&self) -> Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Opens a context on a chip. It ends with all that it has when the channel is dropped.
    fn open(&self, device: u32) -> Result<Arc<dyn Channel>>;
}

fn unsupported(call: &'static str) -> Error {
    let text = "this transport does not offer it";
    Error::new(call, vmlu_abi::Status::NotSupported, text)
}

/// A context on a chip.
pub trait Channel: Send + Sync {
    /// What the chip is.
    fn info(&self) -> &DeviceInfo;

    /// Number of the context, for fault injection; `None` if the transport keeps it to itself.
    fn context(&self) -> Option<u64>;

    /// Allocates device memory at an address that the caller has reserved.
    fn memory_alloc(&self, va: u64, length: u64) -> Result<()>;

    /// Frees device memory.
    fn memory_free(&self, va: u64) -> Result<()>;

    /// Allocates pinned host memory and maps it at `va` for the card and, with `MAP_FIXED`, for this process; `va` and `length` are
    /// multiples of the page, and the caller has reserved the range.
    fn host_alloc(&self, va: u64, length: u64, access: u32) -> Result<()>;

    /// Frees pinned host memory; the range is reserved (`PROT_NONE`) again afterwards.
    fn host_free(&self, va: u64) -> Result<()>;

    /// Makes pinned host memory the context's notifier pool.
    fn notifier_pool(&self, va: u64, count: u32) -> Result<()>;

    /// Makes a queue.
    fn queue_create(&self, ring_units: u32, priority: u32, weight: u32) -> Result<QueueMemory>;

    /// Makes a host timeline (`queue::FLAG_HOST_TIMELINE`): a queue without a ring whose doorbell is its timeline. It is waited for, read
    /// and destroyed like a queue.
    fn timeline_create(&self) -> Result<QueueMemory>;

    /// Destroys a queue or a host timeline. Its memory must not be used afterwards.
    fn queue_destroy(&self, queue: u64) -> Result<()>;

    /// Blocks until the queue's timeline has reached `value`, the queue has an error, or CLOCK_MONOTONIC has reached `deadline_ns`
    /// (`u64::MAX`: no limit). Reaching the deadline is `Status::Timeout`.
    fn queue_wait(&self, queue: u64, value: u64, deadline_ns: u64) -> Result<QueueProgress>;

    /// Reads, and clears if asked, a queue's error.
    fn queue_error(&self, queue: u64, clear: bool) -> Result<ErrorRecord>;

    /// Adds 1 to an eventfd once the queue's timeline has reached `value`, the queue has an error, or it has ended: at once if it is so
    /// already. The descriptor is duplicated.
    fn queue_arm(&self, queue: u64, value: u64, eventfd: BorrowedFd<'_>) -> Result<()>;

    /// Makes a graph of an image (`abi::graph`) that stands in the context's memory; its handle. The image is copied.
    fn graph_create(&self, address: u64, length: u64) -> Result<u64>;

    /// Gives a graph another image, which has as many parameters, for launches that begin from here on.
    fn graph_update(&self, graph: u64, address: u64, length: u64) -> Result<()>;

    /// Destroys a graph. Launches that have begun end; later ones find no graph.
    fn graph_destroy(&self, graph: u64) -> Result<()>;

    /// The token with which other contexts wait for a queue's timeline; the same one each time.
    fn timeline_export(&self, queue: u64) -> Result<TimelineToken>;

    /// Makes a timeline of another context one that packets of this context can wait for; its handle.
    fn timeline_import(&self, token: &TimelineToken) -> Result<u64>;

    /// Gives an imported timeline up.
    fn timeline_release(&self, timeline: u64) -> Result<()>;

    /// Reads a queue's or an imported timeline.
    fn timeline_read(&self, timeline: u64) -> Result<TimelineState>;

    /// The token with which other contexts map an allocation of device memory; the same one each time.
    fn memory_export(&self, va: u64) -> Result<MemoryToken>;

    /// Maps an allocation of another context at an address that the caller has reserved; `memory_free` takes the mapping away.
    fn memory_import(&self, import: &MemoryImport) -> Result<()>;

    /// Makes `length` bytes at `offset` of an allocation of device memory a dma-buf, where there are such.
    fn dmabuf_export(&self, _va: u64, _offset: u64, _length: u64) -> Result<OwnedFd> {
        Err(unsupported("export a dma-buf"))
    }

    /// Maps the memory of a dma-buf at an address that the caller has reserved; `memory_free` takes the mapping away.
    fn dmabuf_import(&self, _va: u64, _fd: BorrowedFd<'_>, _access: u32) -> Result<()> {
        Err(unsupported("import a dma-buf"))
    }

    /// How the context's chip reaches another one.
    fn peer_path(&self, _peer: &Peer) -> Result<PeerWay> {
        let text = "the transport tells it of chips, not of contexts";
        Err(Error::new(
            "find the way to a peer",
            vmlu_abi::Status::NotSupported,
            text,
        ))
    }

    /// Whether the chip is this process's own, so that no other process has anything to do with it.
    fn is_private(&self) -> bool {
        false
    }

    /// Tells the card to look at this context's doorbells.
    fn kick(&self);

    /// What a producer passes between its doorbell and its look at `asleep`.
    fn barrier(&self) -> Barrier {
        Barrier::Full
    }
}

/// Where a queue's shared memory stands in this process. Valid until `queue_destroy`, or until the channel is dropped.
#[derive(Clone, Copy, Debug)]
pub struct QueueMemory {
    /// Handle of the queue.
    pub queue: u64,
    /// The ring, `ring_units * 64` bytes; null for a host timeline.
    pub ring: *mut u8,
    /// Units of the ring; 0 for a host timeline.
    pub ring_units: u32,
    /// The doorbell word, u64: units written since the queue was made; the timeline itself for a host timeline.
    pub doorbell: *mut u64,
    /// The status page, read-only.
    pub status: *const u8,
}

// SAFETY: the pointers name shared memory that is only used through volatile and atomic accesses by the queue that owns them.
unsafe impl Send for QueueMemory {}
// SAFETY: as for `Send`.
unsafe impl Sync for QueueMemory {}

/// How far a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueProgress {
    /// The timeline.
    pub timeline: u64,
    /// A `Status` code; 0 while all is well.
    pub error: u32,
}

/// Chooses a transport: by `MLU_TRANSPORT` (`embedded`, `kernel`, `local:PATH`), otherwise the kernel's if `/dev/mluctl` is there, else
/// embedded.
pub fn choose() -> Result<Arc<dyn Transport>> {
    let wanted = std::env::var("MLU_TRANSPORT").unwrap_or_default();
    match wanted.as_str() {
        "" if kernel::present() => Ok(kernel::Kernel::open()?),
        "" | "embedded" => embedded::shared(),
        "kernel" => Ok(kernel::Kernel::open()?),
        other => match other.strip_prefix("local:") {
            Some(path) if !path.is_empty() => Ok(local::Local::open(path)?),
            _ => Err(Error::new(
                "choose a transport",
                vmlu_abi::Status::NotSupported,
                format!("MLU_TRANSPORT={other} is not one of embedded, kernel, local:PATH; unset it to take what is there"),
            )),
        },
    }
}

/// All retired pages, by answers of `rpc::Function::RetiredPages`, each from an index on.
fn all_pages(mut ask: impl FnMut(u32) -> Result<Vec<u8>>) -> Result<Vec<RetiredPage>> {
    let mut list: Vec<RetiredPage> = Vec::new();
    loop {
        let answer = ask(list.len() as u32)?;
        let head = RetiredPageList::read_from(&answer).unwrap_or_else(RetiredPageList::zeroed);
        list.extend(entries::<RetiredPageList, RetiredPage>(&answer));
        if head.count == 0 || list.len() >= head.total as usize {
            return Ok(list);
        }
    }
}

/// All entries of the log behind one, by answers of `rpc::Function::EventLog`, and how many before them are lost.
fn all_events(
    after: u64,
    mut ask: impl FnMut(u64) -> Result<Vec<u8>>,
) -> Result<(Vec<LogEntry>, u32)> {
    let mut list: Vec<LogEntry> = Vec::new();
    let mut lost = 0u32;
    loop {
        let last = list.last().map_or(after, |entry| entry.number);
        let answer = ask(last)?;
        let head = EventList::read_from(&answer).unwrap_or_else(EventList::zeroed);
        lost = lost.saturating_add(head.lost);
        list.extend(entries::<EventList, LogEntry>(&answer));
        let last = list.last().map_or(after, |entry| entry.number);
        if head.count == 0 || last >= head.newest {
            return Ok((list, lost));
        }
    }
}

/// What follows a head of type `H`.
fn entries<H: Wire, T: Wire>(answer: &[u8]) -> impl Iterator<Item = T> {
    let rest = answer.get(size_of::<H>()..).unwrap_or_default();
    rest.chunks_exact(size_of::<T>()).filter_map(T::read_from)
}

/// The message about a graph's image.
fn graph_image(graph: u64, address: u64, length: u64) -> GraphImage {
    GraphImage {
        graph,
        address,
        length,
    }
}

/// All contexts of a chip, by answers of `rpc::Function::Processes`, each from an index on.
fn all_processes(mut ask: impl FnMut(u32) -> Result<Vec<u8>>) -> Result<Vec<Process>> {
    let mut list = Vec::new();
    loop {
        let answer = ask(list.len() as u32)?;
        let head = ProcessList::read_from(&answer).unwrap_or_else(ProcessList::zeroed);
        let entries = answer.get(size_of::<ProcessList>()..).unwrap_or_default();
        let entries = entries
            .chunks_exact(size_of::<Process>())
            .filter_map(Process::read_from);
        list.extend(entries);
        if head.count == 0 || list.len() >= head.total as usize {
            return Ok(list);
        }
    }
}

/// The ports of an answer of `rpc::Function::LinkPorts`.
fn ports(answer: &[u8]) -> Vec<Port> {
    let entries = answer.get(size_of::<PortList>()..).unwrap_or_default();
    entries
        .chunks_exact(size_of::<Port>())
        .filter_map(Port::read_from)
        .collect()
}
