//! The kernel driver's transport: `/dev/mluctl` and `/dev/mlu0`, `/dev/mlu1` … with the ioctls of `abi::ioctl`. See `docs/uapi.md`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::OFlags;
use vmlu_abi::event::EventKind;
use vmlu_abi::ioctl::{self, DeviceCount, DeviceInfo, InjectFault, TelemetryRead};
use vmlu_abi::link::Port;
use vmlu_abi::queue::{FLAG_HOST_TIMELINE, PRIORITY_DEFAULT, STATUS_SIZE, UNIT};
use vmlu_abi::rpc::{
    Function, Inject, LinkControl, MemoryImport, MemoryToken, Peer, PeerWay, Process,
    TimelineState, TimelineToken,
};
use vmlu_abi::setting::{Configure, LogEntry, RetiredPage};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::{Status, Wire};

use super::sys::{self, Access, Mapping};
use super::{Channel, QueueMemory, QueueProgress, Transport};
use crate::error::{from_errno, Error, Result};

/// Bytes of a doorbell page and of a kick page.
const PAGE: usize = 4096;
/// Contexts that the first attempt to list them has room for.
const FIRST_PROCESSES: usize = 64;

/// True if the driver's control node is there.
pub fn present() -> bool {
    control_path(Path::new("/dev")).exists()
}

fn control_path(folder: &Path) -> PathBuf {
    folder.join(ioctl::CONTROL_NODE)
}

fn node_path(folder: &Path, device: u32) -> PathBuf {
    folder.join(format!("{}{device}", ioctl::NODE))
}

/// The cards that the kernel driver serves.
#[derive(Debug)]
pub struct Kernel {
    folder: PathBuf,
    control: Node,
}

impl Kernel {
    /// Sends the firmware of a chip a message that the driver lets monitors send; the body of the response.
    fn firmware(
        &self,
        call: &'static str,
        device: u32,
        function: Function,
        request: [u64; 2],
    ) -> Result<Vec<u8>> {
        let answer = sys::firmware(self.control.fd(), device, function, request);
        answer.map_err(|error| self.control.refused(call, &of_device(device), error))
    }

    /// Opens `/dev/mluctl`.
    ///
    /// # Errors
    ///
    /// If the node is not there or may not be opened, and if the driver speaks another version of the interface.
    pub fn open() -> Result<Arc<Self>> {
        Self::open_in(Path::new("/dev"))
    }

    /// As [`Kernel::open`], with the nodes in another folder than `/dev`, as in some containers.
    pub fn open_in(folder: &Path) -> Result<Arc<Self>> {
        let control = Node::open(control_path(folder), "open the control node")?;
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            control,
        }))
    }
}

impl Transport for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn devices(&self) -> Result<Vec<u32>> {
        let mut count = DeviceCount::zeroed();
        self.control
            .call("count the devices", ioctl::COUNT, &mut count, || {
                "the control node did not answer".into()
            })?;
        Ok((0..u32::BITS)
            .filter(|n| count.mask >> n & 1 == 1)
            .collect())
    }

    fn info(&self, device: u32) -> Result<DeviceInfo> {
        let mut info = DeviceInfo {
            device,
            ..DeviceInfo::zeroed()
        };
        self.control
            .call("read device information", ioctl::INFO, &mut info, || {
                of_device(device)
            })?;
        check_version(&self.control, &info)?;
        Ok(info)
    }

    fn telemetry(&self, device: u32) -> Result<Telemetry> {
        let mut read = TelemetryRead {
            device,
            ..TelemetryRead::zeroed()
        };
        self.control
            .call("read telemetry", ioctl::TELEMETRY, &mut read, || {
                of_device(device)
            })?;
        Ok(read.telemetry)
    }

    fn processes(&self, device: u32) -> Result<Vec<Process>> {
        let mut room = FIRST_PROCESSES;
        loop {
            let mut entries = vec![Process::zeroed(); room];
            let (count, total) =
                sys::processes(self.control.fd(), device, &mut entries).map_err(|e| {
                    self.control
                        .refused("list processes", &of_device(device), e)
                })?;
            entries.truncate(count);
            // Contexts may come between two attempts; a list that was cut once is asked for again with room for what there was.
            if total <= room || count < room {
                return Ok(entries);
            }
            room = total.checked_next_power_of_two().unwrap_or(total);
        }
    }

    fn inject(&self, device: u32, inject: &Inject) -> Result<()> {
        let mut fault = InjectFault {
            device,
            reserved: 0,
            inject: *inject,
        };
        self.control.call("inject a fault", ioctl::INJECT, &mut fault, || {
            format!("fault {} on chip {device}; it takes CAP_SYS_ADMIN and a card server that was started with fault injection", inject.fault)
        })
    }

    fn link_ports(&self, device: u32) -> Result<Vec<Port>> {
        let mut read = ioctl::LinkPorts {
            device,
            ..Wire::zeroed()
        };
        self.control.call(
            "read the ports of a chip",
            ioctl::LINK_PORTS,
            &mut read,
            || format!("chip {device}"),
        )?;
        let count = read.ports.len().min(read.count as usize);
        Ok(read.ports[..count].to_vec())
    }

    fn link_control(&self, device: u32, control: &LinkControl) -> Result<()> {
        let mut wanted = ioctl::LinkControl {
            device,
            reserved: 0,
            control: *control,
        };
        self.control.call("control a link", ioctl::LINK_CONTROL, &mut wanted, || {
            format!("port {} of chip {device}; it takes CAP_SYS_ADMIN and a card server that was started with fault injection", control.port)
        })
    }

    fn configure(&self, device: u32, configure: &Configure) -> Result<()> {
        let head = u64::from(configure.reserved) << 32 | u64::from(configure.setting);
        let request = [head, configure.value];
        self.firmware("change a setting", device, Function::Configure, request)?;
        Ok(())
    }

    fn retired_pages(&self, device: u32) -> Result<Vec<RetiredPage>> {
        super::all_pages(|start| {
            let request = [u64::from(start), 0];
            self.firmware(
                "list the retired pages",
                device,
                Function::RetiredPages,
                request,
            )
        })
    }

    fn event_log(&self, device: u32, after: u64) -> Result<(Vec<LogEntry>, u32)> {
        super::all_events(after, |after| {
            self.firmware("read the log", device, Function::EventLog, [after, 0])
        })
    }

    fn peer_path(&self, device: u32, peer: &Peer) -> Result<PeerWay> {
        let mut wanted = ioctl::PeerPath {
            device,
            peer: *peer,
            ..Wire::zeroed()
        };
        self.control.call(
            "find the way to a peer",
            ioctl::PEER_PATH,
            &mut wanted,
            || {
                format!(
                    "from chip {device} to chip {} of board {:#x}",
                    peer.chip, peer.serial
                )
            },
        )?;
        Ok(wanted.way)
    }

    fn subscribe(&self) -> Result<Option<OwnedFd>> {
        const CALL: &str = "subscribe to events";
        // A file of its own: what one file reads is missing from no other.
        let node = Node::open(control_path(&self.folder), CALL)?;
        let kinds = [
            EventKind::Xid,
            EventKind::Link,
            EventKind::CardLost,
            EventKind::CardBack,
        ];
        let mut wanted = ioctl::Subscribe {
            kinds: kinds.iter().fold(0, |all, kind| all | 1 << *kind as u32),
            ..Wire::zeroed()
        };
        node.call(CALL, ioctl::SUBSCRIBE, &mut wanted, || {
            "xids, links and chips".into()
        })?;
        let fd = OwnedFd::from(node.file);
        let nonblocking = rustix::fs::fcntl_setfl(&fd, OFlags::NONBLOCK);
        nonblocking.map_err(|e| Error::system(CALL, "the file waits", e.into()))?;
        Ok(Some(fd))
    }

    fn open(&self, device: u32) -> Result<Arc<dyn Channel>> {
        let node = Node::open(node_path(&self.folder, device), "open a device")?;
        let mut info = DeviceInfo::zeroed();
        node.call("open a device", ioctl::INFO, &mut info, || {
            "the chip did not tell what it is".into()
        })?;
        check_version(&node, &info)?;
        Ok(Arc::new(KernelChannel {
            node,
            info,
            kick: OnceLock::new(),
            tables: Mutex::default(),
        }))
    }
}

fn of_device(device: u32) -> String {
    format!("chip {device} (see `cnmon -l` for what is there)")
}

fn check_version(node: &Node, info: &DeviceInfo) -> Result<()> {
    if info.uapi_version == ioctl::UAPI_VERSION {
        return Ok(());
    }
    Err(Error::new(
        "open a device",
        Status::VersionMismatch,
        format!(
            "{}: mlu.ko speaks version {} of the interface, this runtime version {}; install both from the same release",
            node.path.display(),
            info.uapi_version,
            ioctl::UAPI_VERSION
        ),
    ))
}

/// An open device node.
#[derive(Debug)]
struct Node {
    path: PathBuf,
    file: File,
}

impl Node {
    fn open(path: PathBuf, call: &'static str) -> Result<Self> {
        match OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)
        {
            Ok(file) => Ok(Self { path, file }),
            Err(e) => Err(Error::system(
                call,
                format!("{}{}", path.display(), open_hint(&e)),
                e,
            )),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn call<T: Wire>(
        &self,
        call: &'static str,
        number: u32,
        argument: &mut T,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        sys::ioctl(self.fd(), number, argument).map_err(|e| self.refused(call, &what(), e))
    }

    fn refused(&self, call: &'static str, what: &str, error: io::Error) -> Error {
        let errno = error.raw_os_error().unwrap_or(0);
        let hint = match errno {
            libc::ENOTTY => "; is this a node of mlu.ko, of the same release as this runtime?",
            libc::ENODEV => {
                "; the chip is gone or was reset: close it, and see `dmesg` and `cnmon`"
            }
            libc::ENOMEM => "; free memory, or see `cnmon` for who holds it",
            libc::EDQUOT => {
                "; this user has as much of the chip as he may, see `/sys/class/mlu/mlu*/quota_*`"
            }
            _ => "",
        };
        Error::new(
            call,
            from_errno(errno),
            format!("{}: {what}: {error}{hint}", self.path.display()),
        )
    }
}

fn open_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            " does not exist; is mlu.ko loaded, and is a card there (`lspci -d cabc:`)?"
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            " has no chip behind it; see `dmesg` for why the driver let it go"
        }
        Some(libc::EACCES | libc::EPERM) => {
            " may not be opened by this user; it should have mode 0666"
        }
        Some(libc::ENOSPC) => {
            ": the chip has no room for another context; end a process that `cnmon` lists"
        }
        _ => "",
    }
}

/// An open file of a chip: a context.
#[derive(Debug)]
struct KernelChannel {
    node: Node,
    info: DeviceInfo,
    /// The context's kick page, once a queue exists.
    kick: OnceLock<Mapping>,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// Pinned host memory: address to length.
    host: HashMap<u64, usize>,
    queues: HashMap<u64, QueueMappings>,
}

/// What a queue has mapped, for as long as it lives.
#[derive(Debug)]
struct QueueMappings {
    _ring: Option<Mapping>,
    _doorbell: Mapping,
    _status: Mapping,
}

impl KernelChannel {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(
        &self,
        what: &'static str,
        offset: u64,
        length: usize,
        access: Access,
    ) -> Result<Mapping> {
        Mapping::new(self.node.fd(), offset, length, access).map_err(|e| {
            Error::system(
                "create a queue",
                format!(
                    "{}: cannot map the queue's {what} ({length} bytes)",
                    self.node.path.display()
                ),
                e,
            )
        })
    }

    fn map_queue(&self, made: &ioctl::QueueCreate) -> Result<QueueMemory> {
        let slot = made.doorbell_slot as usize;
        if !slot.is_multiple_of(8) || slot > PAGE - 8 {
            return Err(Error::new(
                "create a queue",
                Status::Internal,
                format!(
                    "{}: the driver gave doorbell slot {slot}, which is not in the page",
                    self.node.path.display()
                ),
            ));
        }
        let ring = match made.ring_units as usize * UNIT {
            0 => None,
            bytes => Some(self.map("ring", made.ring_offset, bytes, Access::ReadWrite)?),
        };
        let doorbell = self.map(
            "doorbell page",
            made.doorbell_offset,
            PAGE,
            Access::ReadWrite,
        )?;
        let status = self.map("status page", made.status_offset, STATUS_SIZE, Access::Read)?;
        if self.kick.get().is_none() {
            // Of two threads that come here at once the loser's mapping goes again.
            let _ = self
                .kick
                .set(self.map("kick page", made.kick_offset, PAGE, Access::Write)?);
        }
        let memory = QueueMemory {
            queue: made.queue,
            ring: ring.as_ref().map_or(std::ptr::null_mut(), Mapping::start),
            ring_units: made.ring_units,
            doorbell: doorbell.start().wrapping_add(slot).cast::<u64>(),
            status: status.start(),
        };
        self.tables().queues.insert(
            made.queue,
            QueueMappings {
                _ring: ring,
                _doorbell: doorbell,
                _status: status,
            },
        );
        Ok(memory)
    }

    /// Makes a queue, or a host timeline, which has no ring.
    fn make_queue(&self, asked: ioctl::QueueCreate) -> Result<QueueMemory> {
        let mut made = asked;
        self.node
            .call("create a queue", ioctl::QUEUE_CREATE, &mut made, || {
                let (units, priority, weight) = (asked.ring_units, asked.priority, asked.weight);
                format!("ring of {units} units, priority {priority}, weight {weight}")
            })?;
        self.map_queue(&made).inspect_err(|_| {
            let _ = sys::ioctl(
                self.node.fd(),
                ioctl::QUEUE_DESTROY,
                &mut ioctl::QueueDestroy {
                    queue: made.queue,
                    flags: 0,
                },
            );
        })
    }
}

impl Channel for KernelChannel {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn context(&self) -> Option<u64> {
        None
    }

    fn memory_alloc(&self, va: u64, length: u64) -> Result<()> {
        let mut alloc = ioctl::MemAlloc {
            va,
            length,
            ..Wire::zeroed()
        };
        self.node.call(
            "allocate device memory",
            ioctl::MEM_ALLOC,
            &mut alloc,
            || format!("{length} bytes at {va:#x}"),
        )
    }

    fn memory_free(&self, va: u64) -> Result<()> {
        let mut free = ioctl::MemFree { va, flags: 0 };
        self.node
            .call("free device memory", ioctl::MEM_FREE, &mut free, || {
                format!("at {va:#x}")
            })
    }

    fn host_alloc(&self, va: u64, length: u64, access: u32) -> Result<()> {
        const CALL: &str = "allocate pinned host memory";
        let what = || format!("{length} bytes at {va:#x}");
        let bytes = usize::try_from(length)
            .map_err(|_| Error::new(CALL, Status::InvalidArgument, what()))?;
        let mut alloc = ioctl::HostAlloc {
            va,
            length,
            access,
            ..Wire::zeroed()
        };
        self.node.call(CALL, ioctl::HOST_ALLOC, &mut alloc, what)?;
        if let Err(e) = sys::map_over_reserved(self.node.fd(), alloc.mmap_offset, va, bytes) {
            let _ = sys::ioctl(
                self.node.fd(),
                ioctl::HOST_FREE,
                &mut ioctl::MemFree { va, flags: 0 },
            );
            return Err(Error::system(
                CALL,
                format!("{}: cannot map {}", self.node.path.display(), what()),
                e,
            ));
        }
        self.tables().host.insert(va, bytes);
        Ok(())
    }

    fn host_free(&self, va: u64) -> Result<()> {
        const CALL: &str = "free pinned host memory";
        let mut tables = self.tables();
        let Some(bytes) = tables.host.get(&va).copied() else {
            return Err(Error::new(
                CALL,
                Status::BadHandle,
                format!(
                    "{}: no pinned memory starts at {va:#x}",
                    self.node.path.display()
                ),
            ));
        };
        sys::reserve_again(va, bytes).map_err(|e| {
            Error::system(
                CALL,
                format!(
                    "{}: cannot unmap {bytes} bytes at {va:#x}",
                    self.node.path.display()
                ),
                e,
            )
        })?;
        self.node.call(
            CALL,
            ioctl::HOST_FREE,
            &mut ioctl::MemFree { va, flags: 0 },
            || format!("at {va:#x}"),
        )?;
        tables.host.remove(&va);
        Ok(())
    }

    fn notifier_pool(&self, va: u64, count: u32) -> Result<()> {
        let mut pool = ioctl::NotifierPool {
            va,
            count,
            ..Wire::zeroed()
        };
        self.node.call(
            "set the notifier pool",
            ioctl::NOTIFIER_POOL,
            &mut pool,
            || format!("{count} notifiers at {va:#x}"),
        )
    }

    fn queue_create(&self, ring_units: u32, priority: u32, weight: u32) -> Result<QueueMemory> {
        self.make_queue(ioctl::QueueCreate {
            ring_units,
            priority,
            weight,
            ..Wire::zeroed()
        })
    }

    fn timeline_create(&self) -> Result<QueueMemory> {
        self.make_queue(ioctl::QueueCreate {
            priority: PRIORITY_DEFAULT,
            weight: 1,
            flags: FLAG_HOST_TIMELINE as u32,
            ..Wire::zeroed()
        })
    }

    fn queue_destroy(&self, queue: u64) -> Result<()> {
        // Unmapped whatever the driver says: the caller is done with the memory.
        let mappings = self.tables().queues.remove(&queue);
        drop(mappings);
        let mut destroy = ioctl::QueueDestroy { queue, flags: 0 };
        self.node.call(
            "destroy a queue",
            ioctl::QUEUE_DESTROY,
            &mut destroy,
            || format!("queue {queue:#x}"),
        )
    }

    fn queue_wait(&self, queue: u64, value: u64, deadline_ns: u64) -> Result<QueueProgress> {
        let mut wait = ioctl::QueueWait {
            queue,
            value,
            deadline_ns,
            ..Wire::zeroed()
        };
        match sys::ioctl(self.node.fd(), ioctl::QUEUE_WAIT, &mut wait) {
            Ok(()) => {}
            // A damaged ring: the queue stands still, and the driver says how far it came.
            Err(e) if e.raw_os_error() == Some(libc::EILSEQ) => {}
            Err(e) => {
                let what = format!("queue {queue:#x} for timeline value {value}");
                return Err(self.node.refused("wait for a queue", &what, e));
            }
        }
        Ok(QueueProgress {
            timeline: wait.timeline,
            error: wait.error,
        })
    }

    fn queue_error(&self, queue: u64, clear: bool) -> Result<ErrorRecord> {
        let mut read = ioctl::QueueErrorRead {
            queue,
            clear: clear.into(),
            ..Wire::zeroed()
        };
        self.node.call(
            "read a queue's error",
            ioctl::QUEUE_ERROR,
            &mut read,
            || format!("queue {queue:#x}"),
        )?;
        Ok(read.record)
    }

    fn queue_arm(&self, queue: u64, value: u64, eventfd: BorrowedFd<'_>) -> Result<()> {
        let mut arm = ioctl::QueueArm {
            queue,
            value,
            fd: eventfd.as_raw_fd(),
            ..Wire::zeroed()
        };
        self.node
            .call("arm a queue", ioctl::QUEUE_ARM, &mut arm, || {
                format!("queue {queue:#x} for timeline value {value}")
            })
    }

    fn graph_create(&self, address: u64, length: u64) -> Result<u64> {
        let mut image = ioctl::GraphImage {
            address,
            length,
            ..Wire::zeroed()
        };
        self.node
            .call("make a graph", ioctl::GRAPH_CREATE, &mut image, || {
                format!("of an image of {length} bytes")
            })?;
        Ok(image.graph)
    }

    fn graph_update(&self, graph: u64, address: u64, length: u64) -> Result<()> {
        let mut image = ioctl::GraphImage {
            graph,
            address,
            length,
            flags: 0,
        };
        self.node
            .call("update a graph", ioctl::GRAPH_UPDATE, &mut image, || {
                format!("graph {graph:#x} with an image of {length} bytes")
            })
    }

    fn graph_destroy(&self, graph: u64) -> Result<()> {
        let mut destroy = ioctl::GraphDestroy { graph, flags: 0 };
        self.node.call(
            "destroy a graph",
            ioctl::GRAPH_DESTROY,
            &mut destroy,
            || format!("graph {graph:#x}"),
        )
    }

    fn timeline_export(&self, queue: u64) -> Result<TimelineToken> {
        let mut export = ioctl::TimelineExport {
            queue,
            ..Wire::zeroed()
        };
        self.node.call(
            "export a timeline",
            ioctl::TIMELINE_EXPORT,
            &mut export,
            || format!("of queue {queue:#x}"),
        )?;
        Ok(export.token)
    }

    fn timeline_import(&self, token: &TimelineToken) -> Result<u64> {
        let mut import = ioctl::TimelineImport {
            token: *token,
            ..Wire::zeroed()
        };
        self.node.call(
            "import a timeline",
            ioctl::TIMELINE_IMPORT,
            &mut import,
            || format!("of board {:#x}, chip {}", token.serial, token.chip),
        )?;
        Ok(import.timeline)
    }

    fn memory_export(&self, va: u64) -> Result<MemoryToken> {
        let mut export = ioctl::MemExport {
            va,
            ..Wire::zeroed()
        };
        self.node
            .call("export memory", ioctl::MEM_EXPORT, &mut export, || {
                format!("the memory at {va:#x}")
            })?;
        Ok(export.token)
    }

    fn memory_import(&self, import: &MemoryImport) -> Result<()> {
        let token = import.token;
        let mut import = ioctl::MemImport { import: *import };
        let call = "import memory";
        self.node.call(call, ioctl::MEM_IMPORT, &mut import, || {
            format!(
                "{:#x} bytes of board {:#x}, chip {}",
                token.length, token.serial, token.chip
            )
        })
    }

    fn dmabuf_export(&self, va: u64, offset: u64, length: u64) -> Result<OwnedFd> {
        let mut export = ioctl::DmabufExport {
            va,
            offset,
            length,
            fd: -1,
            ..Wire::zeroed()
        };
        sys::dmabuf_export(self.node.fd(), &mut export).map_err(|e| {
            let what = format!("{length:#x} bytes at {offset:#x} of the memory at {va:#x}");
            self.node.refused("export a dma-buf", &what, e)
        })
    }

    fn dmabuf_import(&self, va: u64, fd: BorrowedFd<'_>, access: u32) -> Result<()> {
        let mut import = ioctl::DmabufImport {
            va,
            fd: fd.as_raw_fd(),
            access,
            ..Wire::zeroed()
        };
        let call = "import a dma-buf";
        self.node.call(call, ioctl::DMABUF_IMPORT, &mut import, || {
            format!("descriptor {} at {va:#x}", fd.as_raw_fd())
        })
    }

    fn timeline_release(&self, timeline: u64) -> Result<()> {
        let mut release = ioctl::TimelineRelease { timeline, flags: 0 };
        self.node.call(
            "release a timeline",
            ioctl::TIMELINE_RELEASE,
            &mut release,
            || format!("timeline {timeline:#x}"),
        )
    }

    fn timeline_read(&self, timeline: u64) -> Result<TimelineState> {
        let mut read = ioctl::TimelineRead {
            timeline,
            ..Wire::zeroed()
        };
        self.node
            .call("read a timeline", ioctl::TIMELINE_READ, &mut read, || {
                format!("timeline {timeline:#x}")
            })?;
        Ok(read.state)
    }

    fn kick(&self) {
        if let Some(page) = self.kick.get() {
            page.write_u32(0, 0);
        }
    }
}

impl Drop for KernelChannel {
    fn drop(&mut self) {
        // The reservation's owner unmaps the range later; until then it must not become free for others.
        for (va, bytes) in self.tables().host.drain() {
            let _ = sys::reserve_again(va, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with `mluctl` and `mlu0` that are not nodes of the driver.
    fn foreign_nodes() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        symlink("/dev/null", folder.path().join("mluctl")).unwrap();
        symlink("/dev/null", folder.path().join("mlu0")).unwrap();
        folder
    }

    #[test]
    fn a_missing_node_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Kernel::open_in(folder.path()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/mluctl does not exist; is mlu.ko loaded"),
            "{text}"
        );
        assert!(text.starts_with("open the control node: "), "{text}");
    }

    #[test]
    fn a_node_of_another_driver_is_refused() {
        let folder = foreign_nodes();
        let kernel = Kernel::open_in(folder.path()).unwrap();
        for error in [
            kernel.devices().unwrap_err(),
            kernel.info(0).unwrap_err(),
            kernel.telemetry(0).unwrap_err(),
            kernel.processes(0).unwrap_err(),
            kernel.open(0).err().unwrap(),
        ] {
            assert_eq!(error.status(), Status::NotSupported);
            assert!(
                error.to_string().contains("is this a node of mlu.ko"),
                "{error}"
            );
        }
        let missing = kernel.open(7).err().unwrap().to_string();
        assert!(missing.contains("/mlu7 does not exist"), "{missing}");
    }

    /// A channel over a plain file: mappings work on it, ioctls do not.
    fn channel_over(file: File) -> KernelChannel {
        KernelChannel {
            node: Node {
                path: "test".into(),
                file,
            },
            info: DeviceInfo::zeroed(),
            kick: OnceLock::new(),
            tables: Mutex::default(),
        }
    }

    #[test]
    fn queue_memory_is_mapped_where_the_driver_says() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &vec![7u8; 5 * PAGE]).unwrap();
        let reader = file.try_clone().unwrap();
        let channel = channel_over(file);
        channel.kick(); // without a queue there is nothing to kick
        let made = ioctl::QueueCreate {
            queue: 5,
            ring_units: 128,
            ring_offset: 0,
            doorbell_offset: 2 * PAGE as u64,
            status_offset: 3 * PAGE as u64,
            kick_offset: 4 * PAGE as u64,
            doorbell_slot: 128,
            ..Wire::zeroed()
        };
        let memory = channel.map_queue(&made).unwrap();
        assert_eq!((memory.queue, memory.ring_units), (5, 128));
        assert_eq!(memory.doorbell as usize % PAGE, 128);
        channel.kick();
        let mut word = [1u8; 4];
        std::os::unix::fs::FileExt::read_exact_at(&reader, &mut word, 4 * PAGE as u64).unwrap();
        assert_eq!(word, [0; 4], "the kick page was written");

        let outside = ioctl::QueueCreate {
            doorbell_slot: PAGE as u32 - 4,
            ..made
        };
        assert_eq!(
            channel.map_queue(&outside).unwrap_err().status(),
            Status::Internal
        );
        assert_eq!(
            channel.queue_destroy(5).unwrap_err().status(),
            Status::NotSupported
        );
        assert!(channel.tables().queues.is_empty());
    }

    #[test]
    fn refusals_name_call_argument_and_cause() {
        let channel = channel_over(File::open("/dev/null").unwrap());
        let text = channel.memory_alloc(0x1000, 4096).unwrap_err().to_string();
        assert!(
            text.starts_with("allocate device memory: test: 4096 bytes at 0x1000: "),
            "{text}"
        );
        assert_eq!(
            channel.host_free(0x1000).unwrap_err().status(),
            Status::BadHandle
        );
        assert_eq!(
            channel.queue_wait(1, 2, 3).unwrap_err().status(),
            Status::NotSupported
        );
        assert!(channel.context().is_none());
    }
}
