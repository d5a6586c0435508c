//! The library while it is in use: the cards, and what is known of them.

use std::cell::RefCell;
use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use vmlu::abi::ioctl::DeviceInfo;
use vmlu::abi::link::Port;
use vmlu::abi::model::{self, CardModel};
use vmlu::abi::telemetry::Telemetry;
use vmlu::telemetry::{DeviceSnapshot, Monitor, ProcessUsage, Shares};
use vmlu::transport::{self, Transport};
use vmlu::Status;

use crate::call::Text;
use crate::codes::{Code, Outcome};
use crate::topology::Tree;

/// How long ports and processes that were read are right: exporters ask for a number at a time.
const KEEP: Duration = Duration::from_millis(1);

/// A device.
pub(crate) struct Card {
    /// Its number for the transport.
    pub(crate) number: u32,
    /// Its place in the list.
    pub(crate) handle: i32,
    /// What it is.
    pub(crate) info: DeviceInfo,
    /// Its product.
    pub(crate) model: &'static CardModel,
    /// What it was when the library started: names, versions, addresses.
    pub(crate) first: DeviceSnapshot,
    /// Name of the product, for C. It is never freed.
    pub(crate) name: &'static std::ffi::CStr,
    /// The chips of its board, itself among them.
    pub(crate) board: Vec<u32>,
    ports: Mutex<Option<(Instant, Arc<Vec<Port>>)>>,
    processes: Mutex<Option<(Instant, Arc<Vec<ProcessUsage>>)>>,
    /// What its processes had of it when that was last asked for.
    pub(crate) shares: Mutex<Shares>,
}

/// What there is while the library is in use.
pub(crate) struct Library {
    pub(crate) monitor: Monitor,
    pub(crate) cards: Vec<Card>,
    /// The PCI functions that were asked for.
    pub(crate) tree: Mutex<Tree>,
}

/// The library; `None` before it starts and after it ends.
static CURRENT: RwLock<Option<Arc<Library>>> = RwLock::new(None);
/// `cndevInit`s that were not undone.
static USES: AtomicU32 = AtomicU32::new(0);
/// Number of the process that started it.
static OWNER: AtomicU32 = AtomicU32::new(0);
/// Held while the library starts or ends.
static CHANGING: Mutex<()> = Mutex::new(());
/// Whether the process is in the middle of a fork.
static FORKS: Once = Once::new();

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The locks of this file.
type Locks = (
    MutexGuard<'static, ()>,
    RwLockWriteGuard<'static, Option<Arc<Library>>>,
);

thread_local! {
    /// The locks that the forking thread holds over a fork, so that no other thread of the parent holds them in the child.
    static HELD: RefCell<Option<Locks>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    let changing = lock(&CHANGING);
    let current = CURRENT.write().unwrap_or_else(PoisonError::into_inner);
    let _ = HELD.try_with(|held| held.replace(Some((changing, current))));
}

extern "C" fn after_fork() {
    let _ = HELD.try_with(|held| held.take());
}

/// From here on a fork happens while nobody changes the library.
fn watch_forks() {
    FORKS.call_once(|| {
        // SAFETY: the handlers take and release locks of this process's own.
        let failed =
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        debug_assert_eq!(failed, 0, "there is no memory for a handler");
    });
}

/// The library.
///
/// # Errors
///
/// [`Code::Uninitialized`] if it was not started, or in a child of the process in which the cards are.
pub(crate) fn library() -> Outcome<Arc<Library>> {
    let current = CURRENT
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
        .ok_or(Code::Uninitialized)?;
    if OWNER.load(Ordering::Relaxed) == std::process::id() {
        return Ok(current);
    }
    inherit(current)
}

/// The library in a forked child: connections are the parent's, so the child makes its own.
#[cold]
fn inherit(parents: Arc<Library>) -> Outcome<Arc<Library>> {
    let _changing = lock(&CHANGING);
    if OWNER.load(Ordering::Relaxed) != std::process::id() {
        if parents.monitor.transport() == "embedded" {
            return Err(Code::Uninitialized);
        }
        let own = Arc::new(Library::open()?);
        *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(own);
        OWNER.store(std::process::id(), Ordering::Relaxed);
        // Its locks may be held by threads that are not here.
        std::mem::forget(parents);
    }
    let current = CURRENT.read().unwrap_or_else(PoisonError::into_inner);
    current.clone().ok_or(Code::Uninitialized)
}

impl Library {
    fn open() -> Outcome<Self> {
        let transport = transport::choose().map_err(|error| match error.status() {
            Status::VersionMismatch => Code::LowDriverVersion,
            Status::NotPermitted => Code::NoPermission,
            _ => Code::NoDriver,
        })?;
        Self::over(transport)
    }

    /// The library over a transport.
    pub(crate) fn over(transport: Arc<dyn Transport>) -> Outcome<Self> {
        let monitor = Monitor::new(transport.clone());
        let mut cards = Vec::new();
        for first in monitor.devices()? {
            let info = transport.info(first.index)?;
            let model = model::by_id(info.info.model).ok_or(Code::LowDriverVersion)?;
            let name = CString::new(first.name.as_str()).map_err(|_| Code::Unknown)?;
            cards.push(Card {
                number: first.index,
                handle: cards.len() as i32,
                info,
                model,
                first,
                // A program may keep the pointer for ever; there are at most sixteen for each start.
                name: Box::leak(name.into_boxed_c_str()),
                board: Vec::new(),
                ports: Mutex::default(),
                processes: Mutex::default(),
                shares: Mutex::default(),
            });
        }
        let boards: Vec<Vec<u32>> = cards
            .iter()
            .map(|card| {
                let same = cards
                    .iter()
                    .filter(|c| c.info.info.serial == card.info.info.serial);
                same.map(|c| c.number).collect()
            })
            .collect();
        for (card, board) in cards.iter_mut().zip(boards) {
            card.board = board;
        }
        Ok(Self {
            monitor,
            cards,
            tree: Mutex::default(),
        })
    }

    /// The device of a handle.
    pub(crate) fn card(&self, handle: i32) -> Outcome<&Card> {
        let index = usize::try_from(handle).map_err(|_| Code::InvalidDeviceId)?;
        self.cards.get(index).ok_or(Code::InvalidDeviceId)
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        self.monitor.transport_handle()
    }

    /// Whether the cards are behind a bus.
    pub(crate) fn has_bus(&self) -> bool {
        self.monitor.transport() == "kernel"
    }

    /// Telemetry of a card, which must answer.
    pub(crate) fn telemetry(&self, card: &Card) -> Outcome<Telemetry> {
        self.monitor.telemetry(card.number)?.ok_or(Code::InProblem)
    }

    /// The ports of a card.
    pub(crate) fn ports(&self, card: &Card) -> Outcome<Arc<Vec<Port>>> {
        let mut kept = lock(&card.ports);
        match &*kept {
            Some((at, ports)) if at.elapsed() < KEEP => Ok(ports.clone()),
            _ => {
                let ports = Arc::new(self.transport().link_ports(card.number)?);
                *kept = Some((Instant::now(), ports.clone()));
                Ok(ports)
            }
        }
    }

    /// The processes that use a card.
    pub(crate) fn processes(&self, card: &Card) -> Outcome<Arc<Vec<ProcessUsage>>> {
        let mut kept = lock(&card.processes);
        match &*kept {
            Some((at, processes)) if at.elapsed() < KEEP => Ok(processes.clone()),
            _ => {
                let processes = Arc::new(self.monitor.processes(card.number)?);
                *kept = Some((Instant::now(), processes.clone()));
                Ok(processes)
            }
        }
    }

    /// Forgets the ports of all cards: a link has two ends.
    pub(crate) fn forget_ports(&self) {
        self.cards.iter().for_each(|card| *lock(&card.ports) = None);
    }
}

exports! {
    fn cndevInit(reserved: i32) {
        if reserved != 0 {
            return Err(Code::InvalidArgument);
        }
        watch_forks();
        let _changing = lock(&CHANGING);
        let own = OWNER.load(Ordering::Relaxed) == std::process::id();
        if USES.load(Ordering::Relaxed) == 0 || !own {
            let parents = CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let (Some(parents), false) = (parents, own) {
                if parents.monitor.transport() == "embedded" {
                    return Err(Code::NoDriver);
                }
                std::mem::forget(parents);
            }
            let library = Arc::new(Library::open()?);
            *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = Some(library);
            OWNER.store(std::process::id(), Ordering::Relaxed);
            USES.store(0, Ordering::Relaxed);
        }
        USES.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn cndevRelease() {
        let _changing = lock(&CHANGING);
        match USES.load(Ordering::Relaxed) {
            0 => return Err(Code::Uninitialized),
            1 => {
                crate::events::end_all();
                *CURRENT.write().unwrap_or_else(PoisonError::into_inner) = None;
                USES.store(0, Ordering::Relaxed);
            }
            uses => USES.store(uses - 1, Ordering::Relaxed),
        }
        Ok(())
    }
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetCardNameStringByDevId")]
pub extern "C" fn card_name_of_device(device: i32) -> Text {
    let name = library().and_then(|library| library.card(device).map(|card| card.name));
    match name {
        Ok(name) => Text::of(name),
        Err(code) => {
            crate::codes::finish(Err(code));
            Text::of(c"")
        }
    }
}

/// See the header.
#[unsafe(export_name = "vmlu_cndevGetCardNameByDevId")]
pub extern "C" fn card_name_by_device(device: i32) -> Text {
    card_name_of_device(device)
}
