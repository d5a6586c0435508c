// SPDX-License-Identifier: GPL-2.0

//! A context: an open file of a chip. All that it has goes with it.

use kernel::{
    fs::File,
    mm::virt::VmaNew,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTree,
    seq_file::{seq_print, SeqFile},
    sync::{
        atomic::{Atomic, Relaxed},
        lock::{mutex::MutexBackend, Guard},
        Arc, Mutex,
    },
};

use crate::{
    abi::{
        pci::{kick_offset, BAR_REGS, MAX_CONTEXTS},
        rpc::{self, Function, Process},
        status::Status,
        Wire,
    },
    aperture::DeviceMemory,
    attributes::text,
    card::Card,
    control::process_page,
    ext::{
        pages::{PageSet, BLOCK},
        task::Caller,
        vma::{self, Access, DeviceRange, FileMapping},
    },
    memory::HostMemory,
    queue::Queue,
    quota::{Charge, Kind},
    rpc::{RpcError, Scope},
    stream::Stream,
};

/// What can be mapped at an offset of the file.
#[derive(Clone)]
pub(crate) enum Area {
    /// Memory.
    Pages(Arc<PageSet>, Access),
    /// Pages of the card.
    Device(Arc<DeviceRange>),
}

/// Offsets for mmap are unique over all files of the module, since files of one node share the
/// tables in which mappings are found when they are taken away.
static NEXT_OFFSET: Atomic<u64> = Atomic::new(1 << 32);

/// Number of the next file.
static NEXT_CLIENT: Atomic<u64> = Atomic::new(1);

/// A fresh offset for `length` bytes; those of whole blocks are aligned for large pages. Offsets
/// are never used again, so ask for one when there is the memory that it is for.
pub(crate) fn new_offset(length: u64) -> Result<u64> {
    const LIMIT: u64 = i64::MAX as u64;
    let page = PAGE_SIZE as u64;
    let align = if length >= BLOCK as u64 {
        BLOCK as u64
    } else {
        page
    };
    // At least a page is left free behind each.
    let take = length
        .checked_next_multiple_of(page)
        .and_then(|l| l.checked_add(align))
        .filter(|l| *l < LIMIT / 2)
        .ok_or(EINVAL)?;
    let mut offset = NEXT_OFFSET.load(Relaxed);
    loop {
        if offset > LIMIT / 2 {
            return Err(ENOSPC);
        }
        match NEXT_OFFSET.cmpxchg(offset, offset + take, Relaxed) {
            Ok(_) => return Ok(offset.next_multiple_of(align)),
            Err(now) => offset = now,
        }
    }
}

/// What changes in a context.
pub(crate) struct Inner {
    /// For taking mappings away; `None` once the context is closed or its card gone.
    file: Option<FileMapping>,
    /// Pinned memory by device address.
    pub(crate) host: RBTree<u64, HostMemory>,
    /// Queues by handle.
    pub(crate) queues: RBTree<u64, Arc<Queue>>,
    /// By offset.
    pub(crate) areas: RBTree<u64, Area>,
}

impl Inner {
    /// Enters an area.
    pub(crate) fn add_area(&mut self, offset: u64, area: Area) -> Result {
        self.areas.try_create_and_insert(offset, area, GFP_KERNEL)?;
        Ok(())
    }

    /// The mappings of the file, until its card is gone.
    pub(crate) fn file(&self) -> Option<&FileMapping> {
        self.file.as_ref()
    }

    /// Takes an area out; mappings that exist stay.
    pub(crate) fn remove_area(&mut self, offset: u64) {
        self.areas.remove(&offset);
    }

    /// Takes a page of the card away from user space.
    pub(crate) fn revoke(&mut self, offset: u64, page: &DeviceRange) {
        self.areas.remove(&offset);
        if let Some(file) = &self.file {
            page.revoke(file, offset);
        }
    }

    /// Takes pinned memory out.
    pub(crate) fn remove_host(&mut self, va: u64) -> Option<HostMemory> {
        let host = self.host.remove(&va)?;
        if let Some(offset) = host.offset() {
            self.areas.remove(&offset);
        }
        Some(host)
    }
}

/// A context.
#[pin_data]
pub(crate) struct Context {
    card: Arc<Card>,
    scope: Scope,
    index: u32,
    kick: Arc<DeviceRange>,
    kick_offset: u64,
    stream: Arc<Stream>,
    /// Who opened the file.
    caller: Caller,
    /// Number of the file, unique over all chips.
    client: u64,
    /// Device memory by its address. Held over the calls of the firmware that change it, so that
    /// both agree.
    #[pin]
    pub(crate) device: Mutex<RBTree<u64, DeviceMemory>>,
    #[pin]
    inner: Mutex<Inner>,
}

impl Context {
    /// Makes the context of a file that is being opened.
    pub(crate) fn open(card: Arc<Card>, file: &File) -> Result<Arc<Self>> {
        if !card.is_alive() {
            return Err(ENODEV);
        }
        let epoch = card.epoch();
        let caller = Caller::current();
        let command = rpc::ContextCreate {
            pid: caller.pid,
            uid: caller.uid,
            flags: 0,
            comm: caller.comm,
        };
        let made: rpc::ContextCreated =
            card.call(Function::ContextCreate, Scope::context(0, epoch), &command)?;
        let scope = Scope::context(made.context, epoch);
        let result = Self::assemble(&card, file, scope, made.index, caller).and_then(|context| {
            card.add_context(context.clone())?;
            Ok(context)
        });
        if result.is_err() {
            destroy(&card, scope);
        }
        result
    }

    fn assemble(
        card: &Arc<Card>,
        file: &File,
        scope: Scope,
        index: u32,
        caller: Caller,
    ) -> Result<Arc<Self>> {
        if index >= MAX_CONTEXTS || scope.handle() == 0 {
            card.fail(fmt!("ContextCreate gave an impossible context"));
            return Err(ENODEV);
        }
        let kick = DeviceRange::new(card.pdev(), BAR_REGS as u32, kick_offset(index), PAGE_SIZE)?;
        let kick_offset = new_offset(PAGE_SIZE as u64)?;
        let mut inner = Inner {
            file: Some(FileMapping::new(file)),
            host: RBTree::new(),
            queues: RBTree::new(),
            areas: RBTree::new(),
        };
        inner.add_area(kick_offset, Area::Device(kick.clone()))?;
        Arc::pin_init(
            try_pin_init!(Self {
                card: card.clone(),
                scope,
                index,
                kick,
                kick_offset,
                stream: Stream::new()?,
                caller,
                client: NEXT_CLIENT.fetch_add(1, Relaxed),
                device <- new_mutex!(RBTree::new()),
                inner <- new_mutex!(inner),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// The context's card.
    pub(crate) fn card(&self) -> &Arc<Card> {
        &self.card
    }

    /// The firmware's handle.
    pub(crate) fn handle(&self) -> u64 {
        self.scope.handle()
    }

    /// Its name for calls of the firmware.
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether its card works, and has done so ever since the context was made.
    pub(crate) fn is_current(&self) -> bool {
        self.card.is_alive() && self.scope.epoch() == Some(self.card.epoch())
    }

    /// The firmware's index.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Counts something for the user who opened the file.
    pub(crate) fn charge(&self, kind: Kind, amount: u64) -> Result<Charge> {
        Charge::new(&self.card.quotas, self.caller.uid, kind, amount)
    }

    /// Who opened the file.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What its reader is told.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What `/proc/PID/fdinfo` says of the file, by the keys of the kernel's `drm-usage-stats`.
    pub(crate) fn show_fdinfo(&self, to: &SeqFile) {
        const ENTRY: usize = core::mem::size_of::<Process>();
        seq_print!(to, "drm-driver:\tmlu\n");
        seq_print!(to, "drm-client-id:\t{}\n", self.client);
        seq_print!(to, "drm-client-name:\t{}\n", text(&self.caller.comm));
        seq_print!(to, "drm-pdev:\t{}\n", self.card.location());
        let mut start = 0;
        let found = loop {
            // A chip that is lost has nothing more to say.
            let Ok((entries, total)) = process_page(&self.card, start) else {
                return;
            };
            let mut processes = entries.chunks_exact(ENTRY).filter_map(Process::read_from);
            if let Some(found) = processes.find(|process| process.context == self.handle()) {
                break found;
            }
            start += (entries.len() / ENTRY) as u32;
            if entries.is_empty() || start >= total {
                return;
            }
        };
        seq_print!(to, "drm-engine-ipu:\t{} ns\n", found.busy_ns);
        for (region, bytes) in [("vram", found.memory), ("system", found.host_memory)] {
            // All of it is where it is used.
            for kind in ["total", "resident"] {
                seq_print!(to, "drm-{kind}-{region}:\t{} KiB\n", bytes / 1024);
            }
        }
        seq_print!(to, "mlu-queues:\t{}\n", found.queues);
        seq_print!(to, "mlu-packets:\t{}\n", found.packets);
    }

    /// `SUBSCRIBE`.
    pub(crate) fn subscribe(&self, kinds: u64) -> Result {
        self.stream.prepare()?;
        // Under the lock: a card that is gone has no list any more that would be emptied.
        let _inner = self.lock()?;
        self.card.subscribe(&self.stream, kinds)
    }

    /// Offset for mmap of the kick page.
    pub(crate) fn kick_offset(&self) -> u64 {
        self.kick_offset
    }

    /// Locks what changes; `ENODEV` when the card is lost or gone.
    pub(crate) fn lock(&self) -> Result<Guard<'_, Inner, MutexBackend>> {
        let inner = self.inner.lock();
        if !self.is_current() {
            return Err(ENODEV);
        }
        Ok(inner)
    }

    /// Calls the firmware in the name of this context.
    pub(crate) fn call<C: Wire, R: Wire>(
        &self,
        function: Function,
        command: &C,
    ) -> Result<R, RpcError> {
        self.card.call(function, self.scope, command)
    }

    /// The queue with a handle.
    pub(crate) fn queue(&self, handle: u64) -> Result<Arc<Queue>> {
        self.lock()?.queues.get(&handle).cloned().ok_or(ENOENT)
    }

    /// Maps what stands at the offset that `vma` names.
    pub(crate) fn mmap(&self, vma: &VmaNew) -> Result {
        let offset = vma::offset(vma);
        let area = self.lock()?.areas.get(&offset).cloned().ok_or(EINVAL)?;
        match area {
            Area::Pages(pages, access) => vma::map_pages(vma, pages, access),
            Area::Device(page) => DeviceRange::map(vma, page),
        }
    }

    /// Ends all that needs the card, which was reset or is about to go, with `status` for those who
    /// wait. The file stays open.
    pub(crate) fn detach(&self, status: Status) {
        // Nothing of it can be mapped any more.
        let device = core::mem::replace(&mut *self.device.lock(), RBTree::new());
        drop(device);
        let mut inner = self.inner.lock();
        if let Some(file) = inner.file.take() {
            self.kick.revoke(&file, self.kick_offset);
            for queue in inner.queues.values() {
                queue.revoke_doorbell(&file);
            }
        }
        for queue in inner.queues.values() {
            self.card.remove_queue(queue);
            queue.end(&self.card, status);
            queue.detach();
        }
        for host in inner.host.values() {
            host.detach();
        }
        drop(inner);
        self.stream.wake();
    }

    /// The file is released: nobody uses the context, and nothing of it is mapped.
    pub(crate) fn close(this: Arc<Self>) {
        // Taking out does not fail.
        let _ = this.card.subscribe(&this.stream, 0);
        // Nobody has it mapped.
        let device = core::mem::replace(&mut *this.device.lock(), RBTree::new());
        for memory in device.values() {
            this.hide(memory);
        }
        drop(device);
        // Before the card gives the indices to other queues.
        for queue in this.inner.lock().queues.values() {
            this.card.remove_queue(queue);
            queue.end(&this.card, Status::QueueDestroyed);
        }
        // After this the card does not use the context's memory.
        destroy(&this.card, this.scope);
        let mut inner = this.inner.lock();
        inner.file = None;
        // The interrupt thread may hold a queue a little longer; the card does not use it any more.
        for queue in inner.queues.values() {
            queue.detach();
        }
        inner.queues = RBTree::new();
        let host = core::mem::replace(&mut inner.host, RBTree::new());
        host.values().for_each(HostMemory::detach);
        inner.areas = RBTree::new();
        drop(inner);
        // What is pinned is given up under no lock.
        drop(host);
        // Last, so that nobody unbinds the driver in between without looking here.
        this.card.remove_context(&this);
    }
}

/// Ends a context on the card. If the firmware does not do it, the card may not go on: it would
/// write to memory that is about to be freed.
fn destroy(card: &Card, scope: Scope) {
    match card.call::<_, ()>(Function::ContextDestroy, scope, &()) {
        Ok(()) | Err(RpcError::Lost) => {}
        Err(e) => card.fail(fmt!(
            "ContextDestroy of context {:#x} failed: {e:?}",
            scope.handle()
        )),
    }
}
