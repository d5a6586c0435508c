// SPDX-License-Identifier: GPL-2.0

//! A chip: what is shared by its files, its interrupts and the driver core. It outlives the binding as long as files are open.

use kernel::{
    device::{Bound, Device},
    fmt, new_mutex, new_spinlock, pci,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, AtomicFlag, Full, Relaxed, Release},
        Arc, Mutex, SetOnce, SpinLock,
    },
};

use crate::{
    abi::{
        event::EventKind,
        ioctl::{DeviceInfo, UAPI_VERSION},
        pci::{MAX_QUEUES, VENDOR_ID},
        regs::CardState,
        rpc::Info,
        status::Status,
        Wire,
    },
    context::Context,
    counters::Counters,
    ext::{
        bound::BoundGate,
        pages::PageSet,
        pci::{location, Location},
        periodic::Periodic,
        trace::{self, QueueTrace},
        wait::{new_wait_queue, WaitQueue},
    },
    attributes::text,
    event::SharedRing,
    nodes,
    queue::Queue,
    recovery::{History, Recovery},
    regs::Registers,
    rpc::{RpcChannel, Scope},
    rpc_trace::RpcTrace,
    stream::{record, Stream, Subscribers},
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
/// Lock order: `life`, a context's lock, then `rpc`, then the others; none of the others is held while another is taken, but for a file's stream,
/// which is the last. User memory is touched under none of them.
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
    #[pin]
    contexts: Mutex<KVec<Arc<Context>>>,
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
                contexts <- new_mutex!(KVec::new()),
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

    /// Runs `f` with the bound function. As [`Self::with_bound`], not to be nested: `f` must not make calls of the firmware, which may fail.
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

    /// Wakes all who wait for the card, and those who wait for events.
    pub(crate) fn wake_everybody(&self) {
        self.rpc_event.wake_all();
        self.for_queues(|queue| queue.wake_all(self));
        for context in self.contexts.lock().iter() {
            context.stream().wake();
        }
    }

    /// Calls `f` with each queue, under no lock.
    fn for_queues(&self, mut f: impl FnMut(&Queue)) {
        let mut from = 0;
        loop {
            let queues = self.queues.lock();
            let next = (from..queues.len()).find_map(|at| Some((at, queues[at].clone()?)));
            drop(queues);
            let Some((at, queue)) = next else {
                return;
            };
            f(&queue);
            from = at + 1;
        }
    }

    /// Looks for values that were reached although no event came. Returns whether to look again soon: an event may still be on its way.
    pub(crate) fn rescue_waiters(&self) -> bool {
        let mut again = false;
        self.for_queues(|queue| again |= queue.rescue(self));
        again
    }

    /// Chooses the events of this chip that a file hears of.
    pub(crate) fn subscribe(&self, stream: &Arc<Stream>, kinds: u64) -> Result {
        self.subscribers.lock().set(stream, kinds)
    }

    /// Tells those who want to know of an event about the context with an index that the card named.
    pub(crate) fn tell(&self, kind: EventKind, context: u32, value: u64) {
        self.tell_of(kind, self.handle_of(context), value);
    }

    /// The handle of the context with an index; 0 if it has ended.
    pub(crate) fn handle_of(&self, context: u32) -> u64 {
        let contexts = self.contexts.lock();
        let found = contexts.iter().find(|c| c.index() == context);
        found.map_or(0, |c| c.handle())
    }

    /// Tells those who want to know of an event about `object`.
    pub(crate) fn tell_of(&self, kind: EventKind, object: u64, value: u64) {
        let record = record(kind, self.number(), object, value);
        self.subscribers.lock().tell(kind, &record);
        nodes::tell(kind, &record);
    }

    /// A line a queue that the driver knows.
    pub(crate) fn write_queues(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let mut result = Ok(());
        self.for_queues(|queue| {
            if result.is_ok() {
                result = queue.describe(f);
            }
        });
        result
    }

    /// The last calls of the firmware.
    pub(crate) fn write_calls(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        // Copied, so that nobody spins while this writes.
        let trace = self.rpc_trace.lock().copy().map_err(|_| fmt::Error)?;
        trace.write(f)
    }

    /// Enters a queue at its index.
    pub(crate) fn add_queue(&self, queue: Arc<Queue>) -> Result {
        let mut queues = self.queues.lock();
        let place = queues.get_mut(queue.index() as usize).ok_or(EPROTO)?;
        if place.is_some() {
            return Err(EPROTO);
        }
        *place = Some(queue);
        Ok(())
    }

    /// Takes a queue out.
    pub(crate) fn remove_queue(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.lock();
        // After a restart the place may be another's.
        let place = queues.get_mut(queue.index() as usize);
        let place = place.filter(|place| place.as_ref().is_some_and(|q| Arc::ptr_eq(q, queue)));
        // The caller has the queue, so nothing is freed here.
        drop(place.and_then(Option::take));
    }

    /// Something happened to the queue with an index that the card named.
    pub(crate) fn signal_queue(&self, index: u32, kind: EventKind, value: u64) {
        let queue = self.queues.lock().get(index as usize).cloned().flatten();
        if let Some(queue) = queue {
            match kind {
                EventKind::QueueError => trace::queue(
                    QueueTrace::Error,
                    self.number(),
                    queue.handle(),
                    0,
                    value as u32,
                ),
                _ => trace::queue(
                    QueueTrace::Completion,
                    self.number(),
                    queue.handle(),
                    value,
                    0,
                ),
            }
            queue.tell(self, kind, value);
            queue.signal(self);
        }
    }

    /// Something may have happened to any queue.
    pub(crate) fn signal_all_queues(&self) {
        self.for_queues(|queue| queue.signal(self));
        self.rpc_event.wake_all();
    }

    /// The context with an index that the card named was stopped.
    pub(crate) fn stop_context(&self, index: u32, status: Status) {
        self.tell(EventKind::ContextStopped, index, status.raw().into());
        self.set_suspect(index);
        self.name_guilty(c"none");
        trace::fault(self.number(), self.handle_of(index), 0, status.raw());
        self.for_queues(|queue| {
            if queue.context_index() == index {
                queue.end(self, status);
            }
        });
    }

    /// Enters a context. From now on the card is watched.
    pub(crate) fn add_context(&self, context: Arc<Context>) -> Result {
        let mut contexts = self.contexts.lock();
        // `shutdown` first declares the card gone, then empties the list, and so does a restart with an epoch.
        if !context.is_current() {
            return Err(ENODEV);
        }
        contexts.push(context, GFP_KERNEL)?;
        drop(contexts);
        if let Some(watch) = self.watch.lock().as_ref() {
            watch.start();
        }
        Ok(())
    }

    /// Takes a context out.
    pub(crate) fn remove_context(&self, context: &Arc<Context>) {
        let mut contexts = self.contexts.lock();
        let at = contexts.iter().position(|c| Arc::ptr_eq(c, context));
        let found = at.and_then(|at| contexts.remove(at).ok());
        drop(contexts);
        drop(found);
    }

    /// Appends the scopes of all contexts.
    pub(crate) fn context_scopes(&self, to: &mut KVec<Scope>) -> Result {
        for context in self.contexts.lock().iter() {
            to.push(context.scope(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// A line a context.
    pub(crate) fn write_contexts(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        for context in self.contexts.lock().iter() {
            let caller = context.caller();
            writeln!(
                f,
                "{:#x} index={} pid={} uid={} comm={}",
                context.handle(),
                context.index(),
                caller.pid,
                caller.uid,
                text(&caller.comm)
            )?;
        }
        Ok(())
    }

    /// The packet that each queue is at.
    pub(crate) fn write_packets(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let mut result = Ok(());
        self.for_queues(|queue| {
            if result.is_ok() {
                result = queue.write_packet(f);
            }
        });
        result
    }

    /// Whether there are contexts.
    pub(crate) fn is_used(&self) -> bool {
        !self.contexts.lock().is_empty()
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

    /// Ends everything that needs the bound device. Files stay open; what they ask for is answered with `ENODEV`.
    pub(crate) fn shutdown(&self) {
        self.state.xchg(GONE, Full);
        self.wake_everybody();
        // Both end here, and neither starts anything any more.
        let (watch, recovery) = (self.watch.lock().take(), self.recovery.lock().take());
        drop((watch, recovery));
        // A call in progress has ended when the lock is free.
        let channel = self.rpc.lock().take();
        // The card uses no host memory from here on.
        self.silence();
        let page = self.telemetry_page.lock().take();
        drop(page);
        self.end_contexts(Status::DeviceLost);
        let rings = core::mem::take(&mut *self.rings.lock());
        drop((channel, rings));
        self.bound.close();
    }

    /// Ends all contexts, whose waiters get `status`; the card uses no host memory any more.
    pub(crate) fn end_contexts(&self, status: Status) {
        loop {
            let context = self.contexts.lock().pop();
            match context {
                Some(context) => context.detach(status),
                None => return,
            }
        }
    }
}
