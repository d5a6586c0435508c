// SPDX-License-Identifier: GPL-2.0

//! A chip: what is shared by its files, its interrupts and the driver core. It outlives the binding
//! as long as files are open.

mod residents;

use kernel::{
    device::{Bound, Device},
    new_mutex, new_spinlock, pci,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, AtomicFlag, Full, Relaxed, Release},
        Arc, Mutex, SetOnce, SpinLock,
    },
};

use crate::{
    abi::{
        ioctl::{DeviceInfo, UAPI_VERSION},
        pci::{MAX_QUEUES, VENDOR_ID},
        regs::CardState,
        rpc::Info,
        status::Status,
        Wire,
    },
    aperture::Apertures,
    context::Context,
    counters::Counters,
    event::SharedRing,
    ext::{
        bound::BoundGate,
        pages::PageSet,
        pci::{location, Location},
        periodic::Periodic,
        wait::{new_wait_queue, WaitQueue},
    },
    queue::Queue,
    quota::Quotas,
    recovery::{History, Recovery},
    regs::Registers,
    rpc::RpcChannel,
    rpc_trace::RpcTrace,
    stream::Subscribers,
    telemetry::TelemetryPage,
    watch::Watch,
};

/// The card works.
pub(crate) const RUNNING: u32 = 0;
/// The card does not work any more; its waiters and callers get errors.
pub(crate) const LOST: u32 = 1;
/// The driver is unbound.
const GONE: u32 = 2;
/// The card is being started: the driver itself may call the firmware, others may not.
pub(crate) const STARTING: u32 = 3;

/// A chip.
///
/// Lock order: `life`, a context's `device`, its `inner`, then `rpc`, then the others; none of the
/// others is held while another is taken, but for a file's stream, which is the last, and a range's
/// `live`, which is taken under `apertures`. The lock of another driver's dma-buf is taken under
/// `inner`, and none of these under it. User memory is touched under none of them.
#[pin_data]
pub(crate) struct Card {
    pdev: ARef<pci::Device>,
    location: Location,
    regs: Registers,
    bound: Arc<BoundGate>,
    pub(crate) state: Atomic<u32>,
    /// Counts restarts: what was made in an earlier epoch is over.
    epoch: Atomic<u32>,
    /// Held while the card is restarted.
    #[pin]
    pub(crate) life: Mutex<()>,
    #[pin]
    pub(crate) history: SpinLock<History>,
    /// Process and command whose context had the last fault.
    #[pin]
    suspect: SpinLock<Option<(u32, [u8; 32])>>,
    number: Atomic<u32>,
    vectors: Atomic<u32>,
    has_events: AtomicFlag,
    has_msix: AtomicFlag,
    vendor_number: SetOnce<(u32, u32)>,
    next_vector: Atomic<u32>,
    info: SetOnce<Info>,
    #[pin]
    pub(crate) rpc: Mutex<Option<RpcChannel>>,
    #[pin]
    pub(crate) rpc_event: WaitQueue,
    /// The last calls of the firmware.
    #[pin]
    pub(crate) rpc_trace: SpinLock<RpcTrace>,
    /// `None` before the card is booted, and once it is gone.
    #[pin]
    pub(crate) telemetry_page: Mutex<Option<TelemetryPage>>,
    /// Event rings by their vector.
    #[pin]
    pub(crate) rings: Mutex<KVec<Arc<SharedRing>>>,
    /// Queues by their index on the card.
    #[pin]
    queues: SpinLock<KVVec<Option<Arc<Queue>>>>,
    /// Files of the chip that hear of its events.
    #[pin]
    subscribers: Mutex<Subscribers>,
    /// What is counted.
    pub(crate) counters: Arc<Counters>,
    /// What each user may have.
    pub(crate) quotas: Arc<Quotas>,
    #[pin]
    contexts: Mutex<KVec<Arc<Context>>>,
    /// Device memory that user space can map.
    #[pin]
    pub(crate) apertures: Mutex<Apertures>,
    /// Holds a reference to this card; `shutdown` breaks the circle.
    #[pin]
    watch: Mutex<Option<Pin<KBox<Periodic<Watch>>>>>,
    /// As `watch`.
    #[pin]
    pub(crate) recovery: Mutex<Option<Pin<KBox<Periodic<Recovery>>>>>,
}

impl Card {
    /// Makes a card of a function whose registers were found good.
    pub(crate) fn new(pdev: &pci::Device<Bound>, regs: Registers) -> Result<Arc<Self>> {
        let mut queues = KVVec::with_capacity(MAX_QUEUES as usize, GFP_KERNEL)?;
        for _ in 0..MAX_QUEUES {
            queues.push(None, GFP_KERNEL)?;
        }
        let bound = BoundGate::new(pdev.as_ref())?;
        let pdev: ARef<pci::Device> = pdev.into();
        Arc::pin_init(
            try_pin_init!(Self {
                location: location(&pdev),
                pdev,
                regs,
                bound,
                state: Atomic::new(STARTING),
                epoch: Atomic::new(0),
                life <- new_mutex!(()),
                history <- new_spinlock!(History::default()),
                suspect <- new_spinlock!(None),
                number: Atomic::new(u32::MAX),
                vectors: Atomic::new(1),
                has_events: AtomicFlag::new(false),
                has_msix: AtomicFlag::new(false),
                vendor_number: SetOnce::new(),
                next_vector: Atomic::new(0),
                info: SetOnce::new(),
                rpc <- new_mutex!(None),
                rpc_event <- new_wait_queue!("mlu_rpc"),
                rpc_trace <- new_spinlock!(RpcTrace::new()),
                telemetry_page <- new_mutex!(None),
                rings <- new_mutex!(KVec::new()),
                queues <- new_spinlock!(queues),
                subscribers <- new_mutex!(Subscribers::new()),
                counters: Counters::new()?,
                quotas: Quotas::new()?,
                contexts <- new_mutex!(KVec::new()),
                apertures <- new_mutex!(Apertures::new()),
                watch <- new_mutex!(None),
                recovery <- new_mutex!(None),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The function, bound or not.
    pub(crate) fn device(&self) -> &Device {
        (*self.pdev).as_ref()
    }

    /// The PCI function, bound or not.
    pub(crate) fn pdev(&self) -> &pci::Device {
        &self.pdev
    }

    /// The registers.
    pub(crate) fn regs(&self) -> &Registers {
        &self.regs
    }

    /// What the firmware says about the chip; zeroes before it was asked.
    pub(crate) fn info(&self) -> Info {
        self.info.copy().unwrap_or_else(Info::zeroed)
    }

    /// Sets what [`Self::info`] returns, once.
    pub(crate) fn set_info(&self, info: Info) {
        self.info.populate(info);
    }

    /// Sets the chip's number.
    pub(crate) fn set_number(&self, number: u32) {
        self.number.store(number, Relaxed);
    }

    /// The chip's number.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Relaxed)
    }

    /// Where the chip sits.
    pub(crate) fn location(&self) -> Location {
        self.location
    }

    /// Sets how many vectors raise events, and whether they are MSI-X.
    pub(crate) fn set_vectors(&self, vectors: u32, has_msix: bool) {
        self.vectors.store(vectors, Relaxed);
        self.has_msix.store(has_msix, Relaxed);
    }

    /// Whether interrupts are MSI-X, otherwise MSI.
    pub(crate) fn has_msix(&self) -> bool {
        self.has_msix.load(Relaxed)
    }

    /// Sets major and minor of the node with the vendor's name.
    pub(crate) fn set_vendor_number(&self, number: (u32, u32)) {
        self.vendor_number.populate(number);
    }

    /// Major and minor of the node with the vendor's name.
    pub(crate) fn vendor_number(&self) -> (u32, u32) {
        self.vendor_number.copy().unwrap_or_default()
    }

    /// What the card is doing, in a word.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.state.load(Acquire) {
            RUNNING => "running",
            LOST => "lost",
            STARTING => "starting",
            _ => "gone",
        }
    }

    /// Says whether vector 0 has an event ring that the card knows.
    pub(crate) fn set_has_events(&self, has: bool) {
        self.has_events.store(has, Release);
    }

    /// Whether RPC responses raise interrupts.
    pub(crate) fn has_events(&self) -> bool {
        self.has_events.load(Acquire)
    }

    /// The vector for the next queue: they take turns.
    pub(crate) fn pick_vector(&self) -> u32 {
        self.next_vector.fetch_add(1, Relaxed) % self.vectors.load(Relaxed).max(1)
    }

    /// Runs `f` with the bound device.
    pub(crate) fn with_bound<R>(&self, f: impl FnOnce(&Device<Bound>) -> R) -> Option<R> {
        self.bound.with(f)
    }

    /// Runs `f` with the bound function. As [`Self::with_bound`], not to be nested: `f` must not
    /// make calls of the firmware, which may fail.
    pub(crate) fn with_bound_function<R>(
        &self,
        f: impl FnOnce(&pci::Device<Bound>) -> R,
    ) -> Option<R> {
        self.bound.with_function(&self.pdev, f)
    }

    /// Ends the card's mapping of memory that it does not use any more.
    pub(crate) fn unmap(&self, pages: &PageSet) {
        // When the gate is closed, `shutdown` has done it.
        self.bound.with(|dev| pages.unmap(dev));
    }

    /// Whether the card works, as far as it is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.state.load(Acquire) == RUNNING
    }

    /// Whether the firmware can be called.
    pub(crate) fn is_callable(&self) -> bool {
        matches!(self.state.load(Acquire), RUNNING | STARTING)
    }

    /// Whether it has failed, and the driver is still bound.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.load(Acquire) == LOST
    }

    /// The card is ready for everybody; `ENODEV` if it has failed meanwhile.
    pub(crate) fn set_running(&self) -> Result {
        let running = self.state.cmpxchg(STARTING, RUNNING, Full);
        running.map(|_| ()).map_err(|_| ENODEV)
    }

    /// How often the card was restarted.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// What was made up to now is over.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Full);
        self.set_has_events(false);
    }

    /// Remembers whose context, by its index, had a fault.
    pub(crate) fn set_suspect(&self, context: u32) {
        let contexts = self.contexts.lock();
        let found = contexts.iter().find(|c| c.index() == context);
        let suspect = found.map(|c| (c.caller().pid, c.caller().comm));
        drop(contexts);
        if suspect.is_some() {
            *self.suspect.lock() = suspect;
        }
    }

    /// Process and command whose context had the last fault.
    pub(crate) fn suspect(&self) -> Option<(u32, [u8; 32])> {
        *self.suspect.lock()
    }

    /// Looks whether the card works.
    pub(crate) fn check_alive(&self) -> bool {
        if !self.is_callable() {
            return false;
        }
        if !self.regs.present() {
            self.fail(fmt!("its registers read all ones"));
        } else {
            match self.regs.state() {
                Some(CardState::Running) => {}
                Some(CardState::Halted) => {
                    self.fail(fmt!("its firmware stopped after an internal error"))
                }
                state => self.fail(fmt!(
                    "it was reset behind the driver's back (state {state:?})"
                )),
            }
        }
        self.is_callable()
    }

    /// Sets who looks after the card, and who brings it back when it fails.
    pub(crate) fn set_watch(
        &self,
        watch: Pin<KBox<Periodic<Watch>>>,
        recovery: Pin<KBox<Periodic<Recovery>>>,
    ) {
        *self.watch.lock() = Some(watch);
        *self.recovery.lock() = Some(recovery);
    }

    /// What a program is told about the chip.
    pub(crate) fn device_info(&self) -> DeviceInfo {
        let mut info = DeviceInfo::zeroed();
        let at = self.location;
        info.device = self.number();
        info.uapi_version = UAPI_VERSION;
        info.pci_domain = at.domain;
        info.pci_bus = at.bus;
        info.pci_device = at.device;
        info.pci_function = at.function;
        info.pci_vendor_id = VENDOR_ID;
        info.pci_device_id = self.pdev.device_id();
        info.numa_node = at.node;
        info.vectors = self.vectors.load(Relaxed);
        info.alive = u32::from(self.check_alive() && self.is_alive());
        info.driver[..crate::VERSION.len()].copy_from_slice(crate::VERSION.as_bytes());
        info.info = self.info();
        info
    }

    /// Ends everything that needs the bound device. Files stay open; what they ask for is answered
    /// with `ENODEV`.
    pub(crate) fn shutdown(&self) {
        self.state.xchg(GONE, Full);
        self.wake_everybody();
        // Both end here, and neither starts anything any more.
        let (watch, recovery) = (self.watch.lock().take(), self.recovery.lock().take());
        drop((watch, recovery));
        // A call in progress has ended when the lock is free.
        let channel = self.rpc.lock().take();
        self.close_apertures();
        // The card uses no host memory from here on.
        self.silence();
        let page = self.telemetry_page.lock().take();
        drop(page);
        self.end_contexts(Status::DeviceLost);
        let rings = core::mem::take(&mut *self.rings.lock());
        drop((channel, rings));
        self.bound.close();
    }
}
