//! The local transport: a device server that several processes share, over a Unix socket. See `docs/hardware.md`, section 15.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use vmlu_abi::ioctl::{DeviceInfo, UAPI_VERSION};
use vmlu_abi::link::Port;
use vmlu_abi::local::{
    self, ConfigureOf, Device, Devices, EventLogOf, HostAlloc, InjectInto, LinkControlOf, Opened,
    Operation, PagesOf, PeerOf, ProcessesOf,
};
use vmlu_abi::pci::PAGE_SIZE;
use vmlu_abi::queue::{FLAG_HOST_TIMELINE, PRIORITY_DEFAULT, STATUS_SIZE, UNIT};
use vmlu_abi::rpc::{
    self, Inject, LinkControl, MemoryImport, MemoryToken, Peer, PeerWay, Process, TimelineState,
    TimelineToken,
};
use vmlu_abi::setting::{Configure, LogEntry, RetiredPage};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{Status, Wire};
use vmlu_protocol::submit::Barrier;

use super::arm::{lock, QueueWords};
use super::bell::Bell;
use super::socket::{Connection, Reply};
use super::sys::{self, Access, Mapping};
use super::watcher::Watcher;
use super::{graph_image, Channel, QueueMemory, QueueProgress, TelemetryPage, Transport};
use crate::error::{Error, Result};

/// The chips of a local server.
pub struct Local {
    path: PathBuf,
    /// For what needs no context. Made anew when the server was.
    monitor: Mutex<Option<Connection>>,
}

impl Local {
    /// Connects to the server at a path.
    ///
    /// # Errors
    ///
    /// If no server listens there, if this user may not connect, and if it speaks another version of the interface.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>> {
        let local = Self {
            path: path.as_ref().to_owned(),
            monitor: Mutex::default(),
        };
        local.devices()?;
        Ok(Arc::new(local))
    }

    /// Asks over the monitor connection, a second time if the first was to a server that has ended.
    fn ask(&self, call: &'static str, operation: Operation, body: &[u8]) -> Result<Reply> {
        let mut monitor = lock(&self.monitor);
        if let Some(connection) = &*monitor {
            match connection.ask(call, operation, body) {
                Err(_) if connection.is_broken() => {}
                answer => return answer,
            }
        }
        let connection = monitor.insert(Connection::open(&self.path)?);
        connection.ask(call, operation, body)
    }

    fn ask_for<T: Wire>(&self, call: &'static str, operation: Operation, body: &[u8]) -> Result<T> {
        self.ask(call, operation, body)?.body(call)
    }
}

fn of(device: u32) -> Device {
    Device {
        device,
        reserved: 0,
    }
}

impl Transport for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn devices(&self) -> Result<Vec<u32>> {
        let devices: Devices = self.ask_for("count the devices", Operation::Devices, &[])?;
        Ok((0..devices.count).collect())
    }

    fn info(&self, device: u32) -> Result<DeviceInfo> {
        const CALL: &str = "read device information";
        let info = self.ask_for(CALL, Operation::Info, of(device).as_bytes())?;
        check_version(&info)?;
        Ok(info)
    }

    fn telemetry(&self, device: u32) -> Result<Telemetry> {
        self.ask_for(
            "read telemetry",
            Operation::Telemetry,
            of(device).as_bytes(),
        )
    }

    fn processes(&self, device: u32) -> Result<Vec<Process>> {
        super::all_processes(|start| {
            let wanted = ProcessesOf { device, start };
            let reply = self.ask("list processes", Operation::Processes, wanted.as_bytes())?;
            Ok(reply.bytes)
        })
    }

    fn inject(&self, device: u32, inject: &Inject) -> Result<()> {
        let wanted = InjectInto {
            device,
            reserved: 0,
            inject: *inject,
        };
        self.ask_for("inject a fault", Operation::Inject, wanted.as_bytes())
    }

    fn link_ports(&self, device: u32) -> Result<Vec<Port>> {
        const CALL: &str = "read the ports of a chip";
        let wanted = of(device);
        let reply = self.ask(CALL, Operation::LinkPorts, wanted.as_bytes())?;
        Ok(super::ports(&reply.bytes))
    }

    fn link_control(&self, device: u32, control: &LinkControl) -> Result<()> {
        let wanted = LinkControlOf {
            device,
            reserved: 0,
            control: *control,
        };
        self.ask_for("control a link", Operation::LinkControl, wanted.as_bytes())
    }

    fn peer_path(&self, device: u32, peer: &Peer) -> Result<PeerWay> {
        let wanted = PeerOf {
            device,
            reserved: 0,
            peer: *peer,
        };
        self.ask_for(
            "find the way to a peer",
            Operation::PeerPath,
            wanted.as_bytes(),
        )
    }

    fn telemetry_page(&self, device: u32) -> Option<TelemetryPage> {
        const CALL: &str = "map the telemetry page";
        let operation = Operation::TelemetryPage;
        let mut reply = self.ask(CALL, operation, of(device).as_bytes()).ok()?;
        let fd = reply.fd(CALL).ok()?;
        let length = PAGE_SIZE as usize;
        // A file that is shorter would end this process at the first access.
        if sys::file_length(fd.as_fd())? < PAGE_SIZE {
            return None;
        }
        let mapping = Mapping::new(fd.as_fd(), 0, length, Access::Read).ok()?;
        TelemetryPage::mapped(mapping)
    }

    fn subscribe(&self) -> Result<Option<OwnedFd>> {
        const CALL: &str = "subscribe to events";
        match self.ask(CALL, Operation::Subscribe, &[]) {
            Ok(mut reply) => reply.fd(CALL).map(Some),
            // A server that knows nothing of it, or has told enough listeners: logs are looked at.
            Err(error)
                if matches!(
                    error.status(),
                    Status::UnknownFunction | Status::OutOfResources
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn configure(&self, device: u32, configure: &Configure) -> Result<()> {
        let wanted = ConfigureOf {
            device,
            reserved: 0,
            configure: *configure,
        };
        self.ask_for("change a setting", Operation::Configure, wanted.as_bytes())
    }

    fn retired_pages(&self, device: u32) -> Result<Vec<RetiredPage>> {
        const CALL: &str = "list the retired pages";
        super::all_pages(|start| {
            let wanted = PagesOf { device, start };
            let reply = self.ask(CALL, Operation::RetiredPages, wanted.as_bytes())?;
            Ok(reply.bytes)
        })
    }

    fn event_log(&self, device: u32, after: u64) -> Result<(Vec<LogEntry>, u32)> {
        super::all_events(after, |after| {
            let wanted = EventLogOf {
                device,
                reserved: 0,
                after,
            };
            let reply = self.ask("read the log", Operation::EventLog, wanted.as_bytes())?;
            Ok(reply.bytes)
        })
    }

    fn open(&self, device: u32) -> Result<Arc<dyn Channel>> {
        const CALL: &str = "open a context";
        let connection = Connection::open(&self.path)?;
        let mut reply = connection.ask(CALL, Operation::Open, of(device).as_bytes())?;
        let opened: Opened = reply.body(CALL)?;
        check_version(&opened.info)?;
        let (kick, ear) = (reply.fd(CALL)?, reply.fd(CALL)?);
        let bell = Bell::new(ear)
            .map_err(|e| Error::system(CALL, "no descriptor for the context's waiters", e))?;
        let bell = Arc::new(bell);
        Ok(Arc::new(LocalChannel {
            connection,
            watcher: Watcher::new(bell.clone()),
            info: opened.info,
            context: opened.context,
            kick,
            bell,
            host: Mutex::default(),
            queues: Mutex::default(),
        }))
    }
}

fn check_version(info: &DeviceInfo) -> Result<()> {
    if info.uapi_version == UAPI_VERSION {
        return Ok(());
    }
    Err(Error::new(
        "open a device",
        Status::VersionMismatch,
        format!(
            "the server describes devices in version {}, this runtime reads {UAPI_VERSION}; install both from the same release",
            info.uapi_version
        ),
    ))
}

/// A context on a chip of the server.
struct LocalChannel {
    connection: Connection,
    info: DeviceInfo,
    context: u64,
    kick: std::os::fd::OwnedFd,
    bell: Arc<Bell>,
    watcher: Watcher<Bell>,
    /// Pinned memory: address to length.
    host: Mutex<HashMap<u64, usize>>,
    queues: Mutex<HashMap<u64, Arc<QueueWords>>>,
}

impl LocalChannel {
    fn ask<T: Wire>(
        &self,
        call: &'static str,
        operation: Operation,
        body: &impl Wire,
    ) -> Result<T> {
        self.connection
            .ask(call, operation, body.as_bytes())?
            .body(call)
    }

    fn find(&self, call: &'static str, queue: u64) -> Result<Arc<QueueWords>> {
        lock(&self.queues).get(&queue).cloned().ok_or_else(|| {
            let text = format!("there is no queue {queue:#x} in this context");
            Error::new(call, Status::BadHandle, text)
        })
    }

    /// Maps what the server made for a queue.
    fn map_queue(
        &self,
        made: &local::QueueCreated,
        ring_units: u32,
        reply: &mut Reply,
    ) -> Result<QueueMemory> {
        const CALL: &str = "make a queue";
        let fd = reply.fd(CALL)?;
        let page = PAGE_SIZE;
        let parts = [
            (made.ring, u64::from(ring_units) * UNIT as u64, page),
            (made.status, STATUS_SIZE as u64, page),
            (made.arm, 8, 8),
            (made.doorbell, 8, 8),
        ];
        let fits = |(offset, length, align): (u64, u64, u64)| {
            offset.is_multiple_of(align)
                && offset
                    .checked_add(length)
                    .is_some_and(|end| end <= made.length)
        };
        let length = usize::try_from(made.length).unwrap_or(0);
        if !parts.into_iter().all(fits) || sys::file_length(fd.as_fd()) != Some(made.length) {
            let text = "the server's memory for it is not what it says";
            return Err(Error::new(CALL, Status::Internal, text));
        }
        let memory = Mapping::new(fd.as_fd(), 0, length, Access::ReadWrite)
            .map_err(|e| Error::system(CALL, format!("cannot map {length} bytes"), e))?;
        let memory = Arc::new(memory);
        let at = |offset: u64| memory.start().wrapping_add(offset as usize);
        let shared = QueueMemory {
            queue: made.queue,
            ring: match ring_units {
                0 => std::ptr::null_mut(),
                _ => at(made.ring),
            },
            ring_units,
            doorbell: at(made.doorbell).cast::<u64>(),
            status: at(made.status),
        };
        let words = QueueWords::new(memory.clone(), made.status as usize, made.arm as usize);
        lock(&self.queues).insert(made.queue, Arc::new(words));
        Ok(shared)
    }

    /// Makes a queue, or a host timeline, which has no ring.
    fn make_queue(&self, create: local::QueueCreate) -> Result<QueueMemory> {
        const CALL: &str = "make a queue";
        let mut reply = self
            .connection
            .ask(CALL, Operation::QueueCreate, create.as_bytes())?;
        let made: local::QueueCreated = reply.body(CALL)?;
        self.map_queue(&made, create.ring_units, &mut reply)
            .inspect_err(|_| {
                let destroy = rpc::QueueDestroy { queue: made.queue };
                let _ = self.ask::<()>(CALL, Operation::QueueDestroy, &destroy);
            })
    }
}

impl Channel for LocalChannel {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn context(&self) -> Option<u64> {
        Some(self.context)
    }

    fn memory_alloc(&self, va: u64, length: u64) -> Result<()> {
        let alloc = rpc::MemoryAlloc {
            va,
            length,
            flags: 0,
        };
        self.ask("allocate device memory", Operation::MemoryAlloc, &alloc)
    }

    fn memory_free(&self, va: u64) -> Result<()> {
        let free = rpc::MemoryFree { va };
        self.ask("free device memory", Operation::MemoryFree, &free)
    }

    fn host_alloc(&self, va: u64, length: u64, access: u32) -> Result<()> {
        const CALL: &str = "allocate pinned host memory";
        let bytes = usize::try_from(length)
            .map_err(|_| Error::new(CALL, Status::InvalidArgument, format!("{length} bytes")))?;
        let alloc = HostAlloc {
            va,
            length,
            access,
            flags: 0,
        };
        let mut reply = self
            .connection
            .ask(CALL, Operation::HostAlloc, alloc.as_bytes())?;
        let mapped = reply.fd(CALL).and_then(|fd| {
            if sys::file_length(fd.as_fd()) != Some(length) {
                let text = "the server's memory is not as long as was asked";
                return Err(Error::new(CALL, Status::Internal, text));
            }
            sys::map_over_reserved(fd.as_fd(), 0, va, bytes).map_err(|e| {
                Error::system(CALL, format!("cannot map {length} bytes at {va:#x}"), e)
            })
        });
        if let Err(error) = mapped {
            let _ = self.ask::<()>(CALL, Operation::HostFree, &rpc::MemoryFree { va });
            return Err(error);
        }
        lock(&self.host).insert(va, bytes);
        Ok(())
    }

    fn host_free(&self, va: u64) -> Result<()> {
        const CALL: &str = "free pinned host memory";
        let Some(bytes) = lock(&self.host).get(&va).copied() else {
            let text = format!("no pinned memory begins at {va:#x}");
            return Err(Error::new(CALL, Status::BadHandle, text));
        };
        self.ask::<()>(CALL, Operation::HostFree, &rpc::MemoryFree { va })?;
        lock(&self.host).remove(&va);
        sys::reserve_again(va, bytes)
            .map_err(|e| Error::system(CALL, format!("cannot unmap {va:#x}"), e))
    }

    fn notifier_pool(&self, va: u64, count: u32) -> Result<()> {
        let pool = rpc::NotifierPool {
            va,
            count,
            reserved: 0,
        };
        self.ask("set the notifier pool", Operation::NotifierPool, &pool)
    }

    fn queue_create(&self, ring_units: u32, priority: u32, weight: u32) -> Result<QueueMemory> {
        self.make_queue(local::QueueCreate {
            ring_units,
            priority,
            weight,
            flags: 0,
        })
    }

    fn timeline_create(&self) -> Result<QueueMemory> {
        self.make_queue(local::QueueCreate {
            ring_units: 0,
            priority: PRIORITY_DEFAULT,
            weight: 1,
            flags: FLAG_HOST_TIMELINE as u32,
        })
    }

    fn queue_destroy(&self, queue: u64) -> Result<()> {
        const CALL: &str = "destroy a queue";
        let Some(words) = lock(&self.queues).remove(&queue) else {
            let text = format!("there is no queue {queue:#x} in this context");
            return Err(Error::new(CALL, Status::BadHandle, text));
        };
        let destroy = rpc::QueueDestroy { queue };
        let destroyed = self.ask(CALL, Operation::QueueDestroy, &destroy);
        words.destroy(&*self.bell);
        destroyed
    }

    fn queue_wait(&self, queue: u64, value: u64, deadline_ns: u64) -> Result<QueueProgress> {
        let words = self.find("wait for a queue", queue)?;
        words.wait(&*self.bell, queue, value, deadline_ns)
    }

    fn queue_error(&self, queue: u64, clear: bool) -> Result<ErrorRecord> {
        let error = rpc::QueueError {
            queue,
            clear: u32::from(clear),
            reserved: 0,
        };
        self.ask("read a queue's error", Operation::QueueError, &error)
    }

    fn queue_arm(&self, queue: u64, value: u64, eventfd: BorrowedFd<'_>) -> Result<()> {
        let words = self.find("arm a queue", queue)?;
        self.watcher.arm(words, value, eventfd)
    }

    fn graph_create(&self, address: u64, length: u64) -> Result<u64> {
        let image = graph_image(0, address, length);
        let made: rpc::Graph = self.ask("make a graph", Operation::GraphCreate, &image)?;
        Ok(made.graph)
    }

    fn graph_update(&self, graph: u64, address: u64, length: u64) -> Result<()> {
        let image = graph_image(graph, address, length);
        self.ask("update a graph", Operation::GraphUpdate, &image)
    }

    fn graph_destroy(&self, graph: u64) -> Result<()> {
        let graph = rpc::Graph { graph };
        self.ask("destroy a graph", Operation::GraphDestroy, &graph)
    }

    fn timeline_export(&self, queue: u64) -> Result<TimelineToken> {
        let timeline = rpc::Timeline { timeline: queue };
        self.ask("export a timeline", Operation::TimelineExport, &timeline)
    }

    fn timeline_import(&self, token: &TimelineToken) -> Result<u64> {
        let made: rpc::Timeline =
            self.ask("import a timeline", Operation::TimelineImport, token)?;
        Ok(made.timeline)
    }

    fn timeline_release(&self, timeline: u64) -> Result<()> {
        let timeline = rpc::Timeline { timeline };
        self.ask("release a timeline", Operation::TimelineRelease, &timeline)
    }

    fn timeline_read(&self, timeline: u64) -> Result<TimelineState> {
        let timeline = rpc::Timeline { timeline };
        self.ask("read a timeline", Operation::TimelineRead, &timeline)
    }

    fn memory_export(&self, va: u64) -> Result<MemoryToken> {
        let wanted = rpc::MemoryFree { va };
        self.ask("export memory", Operation::MemoryExport, &wanted)
    }

    fn memory_import(&self, import: &MemoryImport) -> Result<()> {
        self.ask("import memory", Operation::MemoryImport, import)
    }

    fn barrier(&self) -> Barrier {
        sys::producer_barrier(self.info.info.features)
    }

    fn peer_path(&self, peer: &Peer) -> Result<PeerWay> {
        let wanted = PeerOf {
            device: self.info.device,
            reserved: 0,
            peer: *peer,
        };
        self.ask("find the way to a peer", Operation::PeerPath, &wanted)
    }

    fn kick(&self) {
        let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }
}

impl Drop for LocalChannel {
    fn drop(&mut self) {
        // Asked for, so that all is back when this returns; the end of the connection would do the same a little later.
        let _ = self.ask::<()>("close a context", Operation::Close, &());
        for (_, words) in lock(&self.queues).drain() {
            words.destroy(&*self.bell);
        }
        for (va, bytes) in lock(&self.host).drain() {
            let _ = sys::reserve_again(va, bytes);
        }
    }
}
