//! A chip on a vfio-user socket: what the hypervisor sees of it, and the thread that serves it.
//!
//! The protocol is spoken by the `vfio_user` crate. Its limits shape this module: it serves one client at a time and loses the stream when
//! the backend reports an error, so the backend never does; whoever else connects is turned away by the [`door`].

mod backend;
pub mod door;
mod socket;

pub use self::socket::listen;

use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use vfio_bindings::bindings::vfio::{
    vfio_region_info, vfio_region_sparse_mmap_area, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_user::{IrqInfo, Server, ServerRegion, SparseArea};
use vmlu_abi::pci;

use self::backend::Backend;
use self::door::{Door, Seat};
use crate::card::{config, Card};

/// A chip that is being served. Dropping it does not stop it; see [`Served::stop`].
pub struct Served {
    card: Arc<Card>,
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

impl Served {
    /// Listens on a socket, which must not exist, and serves a chip there: one hypervisor after the other.
    pub fn start(card: Arc<Card>, path: &Path, door: &Arc<Door>) -> std::io::Result<Self> {
        let number = card.identity().number;
        let listener = Arc::new(socket::listen(path)?);
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let server = Server::from_owned_fd(
            listener.try_clone()?.into(),
            true,
            interrupts(&card),
            regions(&card),
        );
        let seat = door.seat(number, listener.clone());
        let serving = Serving {
            card: card.clone(),
            server,
            listener: listener.clone(),
            seat,
            stopping: stopping.clone(),
            wake: wake.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("mlu{number}"))
            .spawn(move || {
                vmlu_firmware::scheduler::this_thread_passes_kicks_on();
                serving.run();
            })?;
        Ok(Self {
            card,
            path: path.to_owned(),
            stopping,
            wake,
            thread,
        })
    }

    /// The chip.
    pub fn card(&self) -> &Arc<Card> {
        &self.card
    }

    /// Ends serving: the chip is reset, its socket removed, and no new hypervisor is taken. One that is connected stays so until this
    /// process ends (its thread waits for it), but the chip does nothing any more.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
        self.card.disconnect();
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
    }
}

/// What the thread of a chip works with.
struct Serving {
    card: Arc<Card>,
    server: Server,
    listener: Arc<std::os::unix::net::UnixListener>,
    seat: Arc<Seat>,
    stopping: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Serving {
    fn run(&self) {
        let number = self.card.identity().number;
        while self.wait_for_client() {
            let mut backend = Backend::new(self.card.clone(), self.seat.clone());
            self.seat.taken();
            tracing::info!("chip {number}: hypervisor connected");
            let outcome = catch_unwind(AssertUnwindSafe(|| self.server.run(&mut backend)));
            self.seat.free();
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            match outcome {
                Ok(Ok(())) => tracing::info!("chip {number}: hypervisor disconnected"),
                Ok(Err(error)) => tracing::warn!("chip {number}: connection lost: {error}"),
                Err(_) => {
                    tracing::error!("chip {number}: a malformed message ended the connection")
                }
            }
            self.card.disconnect();
            summary(&self.card);
        }
    }

    /// Sleeps until somebody connects; `false` when serving ends.
    fn wait_for_client(&self) -> bool {
        loop {
            if self.stopping.load(Ordering::Acquire) {
                return false;
            }
            let mut fds = [
                PollFd::new(&*self.listener, PollFlags::IN),
                PollFd::new(&*self.wake, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) if fds[1].revents().contains(PollFlags::IN) => return false,
                Ok(_) if fds[0].revents().contains(PollFlags::IN) => return true,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(
                        "chip {}: cannot wait for connections: {error}",
                        self.card.identity().number
                    );
                    return false;
                }
            }
        }
    }
}

/// Logs a chip's counters.
pub fn summary(card: &Card) {
    let counters: Vec<_> = card
        .counters()
        .values()
        .into_iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let (raised, latched) = card.interrupts().counts();
    tracing::info!(
        "chip {}: counters since the start: {}, rpcs {}, interrupts {raised} ({latched} latched)",
        card.identity().number,
        counters.join(", "),
        card.rpcs(),
    );
}

/// The regions of the function, by vfio index: BARs, ROM, configuration space, VGA.
fn regions(card: &Card) -> Vec<ServerRegion> {
    let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    let model = card.identity().model;
    (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| match index as usize {
            pci::BAR_REGS => region(index, pci::BAR_REGS_SIZE, access),
            pci::BAR_DOORBELL => {
                let size = pci::BAR_DOORBELL_SIZE;
                mapped(region(index, size, access), size, card.doorbells().as_raw())
            }
            // The window is as large as the next power of two; only the memory that exists is mapped.
            pci::BAR_MEMORY => mapped(
                region(index, model.bar_memory_size(), access),
                model.memory_bytes,
                card.memory().as_raw(),
            ),
            _ if index == VFIO_PCI_CONFIG_REGION_INDEX => {
                region(index, config::SIZE as u64, access)
            }
            _ => region(index, 0, 0),
        })
        .collect()
}

fn region(index: u32, size: u64, flags: u32) -> ServerRegion {
    ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            flags,
            index,
            size,
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    }
}

/// A region whose first `length` bytes the hypervisor maps from a file. The file is at least that long, always: a guest's access behind
/// its end would kill the hypervisor.
fn mapped(mut region: ServerRegion, length: u64, fd: i32) -> ServerRegion {
    region.region_info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
    region.sparse_areas.push(SparseArea {
        area: vfio_region_sparse_mmap_area {
            offset: 0,
            size: length,
        },
    });
    region.mmap_fd = Some(fd);
    region
}

/// Interrupts by vfio index. INTx and request have none; that of errors is there because QEMU warns without it, and is never raised, since
/// QEMU stops the machine when it is.
fn interrupts(card: &Card) -> Vec<IrqInfo> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| match index {
            VFIO_PCI_MSI_IRQ_INDEX | VFIO_PCI_MSIX_IRQ_INDEX
                if index == VFIO_PCI_MSI_IRQ_INDEX || card.identity().msix =>
            {
                IrqInfo {
                    index,
                    flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
                    count: pci::MAX_VECTORS,
                }
            }
            VFIO_PCI_ERR_IRQ_INDEX => IrqInfo {
                index,
                flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
                count: 1,
            },
            _ => IrqInfo {
                index,
                flags: 0,
                count: 0,
            },
        })
        .collect()
}

/// The descriptor's number; the card outlives the server that uses it.
trait AsRaw {
    fn as_raw(&self) -> i32;
}

impl<T: std::os::fd::AsFd> AsRaw for T {
    fn as_raw(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}
