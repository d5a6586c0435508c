//! Memory: what a process has allocated, by address. One pointer names one allocation, whichever device has it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use vmlu::{Buffer, PinnedBuffer, Status};

use crate::context::Live;
use crate::failure::{Failure, Result};

/// Largest allocation that is kept when it is freed.
const KEPT_ONE: u64 = 16 << 20;
/// Most bytes that a context keeps.
const KEPT_ALL: u64 = 64 << 20;

/// What an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Device memory.
    Device,
    /// Device memory for constants. The card has no memory of its own for them.
    Constant,
    /// Pinned host memory.
    Host,
    /// Device memory of another process.
    Imported,
    /// Device memory mapped at an address that the program has reserved.
    Virtual,
    /// Device memory of a pool.
    Pooled,
}

/// An allocation.
pub struct Block {
    /// First address.
    pub start: u64,
    /// Bytes that were asked for.
    pub length: u64,
    /// What it is.
    pub kind: Kind,
    /// The context that it belongs to.
    pub live: Arc<Live>,
    memory: Memory,
    /// What is mapped here, if this is a mapping of other memory of the process, and the number of the context that has it.
    origin: Option<(Buffer, u64)>,
    /// The pool that it goes back to.
    pub(crate) pool: std::sync::OnceLock<Arc<crate::pool::Pool>>,
    /// How other processes call it, once one was told.
    pub(crate) shared: std::sync::OnceLock<crate::ipc::Shared>,
    /// Mappings in other contexts of this process, by their numbers.
    mirrors: Mutex<HashMap<u64, Buffer>>,
}

enum Memory {
    Device(Buffer),
    Host(PinnedBuffer),
}

/// All allocations of the process.
static BLOCKS: RwLock<BTreeMap<u64, Arc<Block>>> = RwLock::new(BTreeMap::new());

/// Counts when allocations were taken from the table: while it stays, a range that was found once is the same allocation.
static REMOVALS: AtomicU64 = AtomicU64::new(0);

/// What is known of the device memory that a thread found last, so that it finds it again without a lock.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    start: u64,
    length: u64,
    live: u64,
    removals: u64,
}

thread_local! {
    static RECENT: Cell<Span> = const { Cell::new(Span { start: 0, length: 0, live: 0, removals: 0 }) };
}

/// Whether a range is known to lie in one allocation of device memory of a context.
#[inline]
pub(crate) fn is_known(live: &Live, address: u64, length: u64) -> bool {
    RECENT.try_with(Cell::get).is_ok_and(|span| {
        let offset = address.wrapping_sub(span.start);
        span.live == live.id
            && offset <= span.length
            && length <= span.length - offset
            && span.removals == REMOVALS.load(Ordering::Acquire)
    })
}

/// As [`find`], for device memory that [`is_known`] is asked for next.
pub(crate) fn find_device(address: u64) -> Option<Arc<Block>> {
    let removals = REMOVALS.load(Ordering::Acquire);
    let block = find(address).filter(|block| !block.is_host())?;
    let span = Span {
        start: block.start,
        length: block.length,
        live: block.live.id,
        removals,
    };
    let _ = RECENT.try_with(|recent| recent.set(span));
    Some(block)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Device memory of a context that was freed, to be given out again without asking the card, by its length in whole granules.
#[derive(Default)]
pub struct Cache {
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_length: HashMap<u64, Vec<Buffer>>,
    bytes: u64,
}

impl Cache {
    fn take(&self, length: u64) -> Option<Buffer> {
        let mut kept = lock(&self.state);
        let buffer = kept.by_length.get_mut(&length)?.pop()?;
        kept.bytes -= length;
        Some(buffer)
    }

    /// Keeps a buffer; gives it back if it is too much.
    fn put(&self, buffer: Buffer) -> Option<Buffer> {
        let length = buffer.len();
        let mut kept = lock(&self.state);
        if length > KEPT_ONE || kept.bytes + length > KEPT_ALL {
            return Some(buffer);
        }
        kept.bytes += length;
        kept.by_length.entry(length).or_default().push(buffer);
        None
    }

    /// Bytes that it keeps.
    pub fn bytes(&self) -> u64 {
        lock(&self.state).bytes
    }

    /// Gives all to the card.
    pub fn clear(&self) {
        let kept = std::mem::take(&mut *lock(&self.state));
        drop(kept);
    }
}

impl Block {
    /// The device memory.
    ///
    /// # Errors
    ///
    /// [`Failure::DEVICE_ADDRESS`] if it is host memory.
    pub fn buffer(&self) -> Result<&Buffer> {
        match &self.memory {
            Memory::Device(buffer) => Ok(buffer),
            Memory::Host(_) => Err(Failure::DEVICE_ADDRESS),
        }
    }

    /// Whether it is host memory.
    pub fn is_host(&self) -> bool {
        matches!(self.memory, Memory::Host(_))
    }

    /// The pinned memory.
    pub fn pinned(&self) -> Option<&PinnedBuffer> {
        match &self.memory {
            Memory::Host(pinned) => Some(pinned),
            Memory::Device(_) => None,
        }
    }

    /// The device memory as a context has it, at the same address. Mapped there with its first use.
    ///
    /// # Errors
    ///
    /// [`Failure::NOT_SUPPORTED`] if the context's chip has no way to it.
    pub fn in_context(&self, live: &Arc<Live>) -> Result<Buffer> {
        let buffer = self.buffer()?;
        if Arc::ptr_eq(live, &self.live) {
            return Ok(buffer.clone());
        }
        let mut mirrors = lock(&self.mirrors);
        if let Some(mirror) = mirrors.get(&live.id) {
            return Ok(mirror.clone());
        }
        let origin = self.origin.as_ref().map_or(buffer, |(origin, _)| origin);
        let mirror = live.runtime.map_at(origin, self.start, true)?;
        mirrors.insert(live.id, mirror.clone());
        Ok(mirror)
    }

    /// The allocation of a context that has these bytes at the same offset, if they are that context's own and not a mapping of others': what
    /// can be handed on.
    pub fn own(&self, live: &Arc<Live>) -> Option<&Buffer> {
        match (&self.memory, &self.origin) {
            (Memory::Device(_), Some((origin, of))) => (*of == live.id).then_some(origin),
            (Memory::Device(buffer), None) if self.kind != Kind::Imported => {
                Arc::ptr_eq(live, &self.live).then_some(buffer)
            }
            _ => None,
        }
    }

    /// Makes bytes of it a dma-buf: both ends are multiples of the page.
    ///
    /// # Errors
    ///
    /// [`Failure::DEVICE_ADDRESS`] if it is host memory, [`Failure::NOT_SUPPORTED`] where there are no dma-bufs and for memory of other processes.
    pub fn export_dmabuf(&self, bytes: Range<u64>) -> Result<OwnedFd> {
        let buffer = self.buffer()?;
        match (&self.origin, self.kind) {
            (Some((origin, _)), _) => Ok(origin.export_dmabuf(bytes)?),
            (None, Kind::Imported) => Err(Failure::NOT_SUPPORTED),
            (None, _) => Ok(buffer.export_dmabuf(bytes)?),
        }
    }

    /// Takes the mappings in other contexts away.
    fn forget_mirrors(&self) {
        let mirrors = std::mem::take(&mut *lock(&self.mirrors));
        drop(mirrors);
    }
}

fn add(live: &Arc<Live>, kind: Kind, memory: Memory, length: u64) -> u64 {
    add_with(live, kind, memory, length, None)
}

fn add_with(
    live: &Arc<Live>,
    kind: Kind,
    memory: Memory,
    length: u64,
    origin: Option<(Buffer, u64)>,
) -> u64 {
    let start = match &memory {
        Memory::Device(buffer) => buffer.address(),
        Memory::Host(pinned) => pinned.address(),
    };
    let block = Arc::new(Block {
        start,
        length,
        kind,
        live: live.clone(),
        memory,
        origin,
        pool: std::sync::OnceLock::new(),
        shared: std::sync::OnceLock::new(),
        mirrors: Mutex::default(),
    });
    BLOCKS
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(start, block);
    start
}

/// Allocates device memory; its address. It is taken in whole granules of the card.
///
/// # Errors
///
/// [`Failure::INVALID_VALUE`] for 0 bytes, [`Failure::DEVICE_MEMORY`] if there is not enough.
pub fn alloc(live: &Arc<Live>, bytes: u64, kind: Kind) -> Result<u64> {
    let granule = live.runtime.info().info.granule.max(4096);
    let length = bytes
        .checked_next_multiple_of(granule)
        .ok_or(Failure::DEVICE_MEMORY)?;
    if bytes == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    if length > live.runtime.info().info.memory_bytes {
        return Err(Failure::DEVICE_MEMORY);
    }
    let buffer = match live.cache.take(length) {
        Some(buffer) => buffer,
        None => allocate(live, length)?,
    };
    Ok(add(live, kind, Memory::Device(buffer), bytes))
}

/// Allocates from the card; if it has nothing left, once more without what the process keeps.
pub(crate) fn allocate(live: &Arc<Live>, length: u64) -> Result<Buffer> {
    match live.runtime.alloc(length) {
        Err(error) if error.status() == Status::OutOfDeviceMemory => {
            let here = |l: &Arc<Live>| l.ordinal == live.ordinal;
            for other in crate::context::lives().into_iter().filter(here) {
                other.cache.clear();
            }
            Ok(live.runtime.alloc(length)?)
        }
        result => Ok(result?),
    }
}

/// Enters device memory that is there already, such as another process's; its address.
pub fn enter(live: &Arc<Live>, buffer: Buffer, kind: Kind) -> u64 {
    let length = buffer.len();
    add(live, kind, Memory::Device(buffer), length)
}

/// Enters memory of a pool; its address.
pub(crate) fn enter_pooled(
    live: &Arc<Live>,
    buffer: Buffer,
    bytes: u64,
    pool: &Arc<crate::pool::Pool>,
) -> u64 {
    let start = add(live, Kind::Pooled, Memory::Device(buffer), bytes);
    if let Some(block) = find(start) {
        let _ = block.pool.set(pool.clone());
    }
    start
}

/// Takes the mappings in other contexts away, for who takes the block from the table.
pub(crate) fn unmirror(block: &Block) {
    block.forget_mirrors();
}

/// Enters a mapping of other memory of the process at an address of its own.
pub(crate) fn enter_mapping(live: &Arc<Live>, mapping: Buffer, origin: (&Buffer, &Live)) {
    let length = mapping.len();
    let memory = Memory::Device(mapping);
    let origin = (origin.0.clone(), origin.1.id);
    add_with(live, Kind::Virtual, memory, length, Some(origin));
}

/// Allocates pinned host memory; its address.
///
/// # Errors
///
/// [`Failure::INVALID_VALUE`] for 0 bytes, [`Failure::HOST_MEMORY`] if there is not enough.
pub fn alloc_host(live: &Arc<Live>, bytes: u64) -> Result<u64> {
    if bytes == 0 {
        return Err(Failure::INVALID_VALUE);
    }
    if bytes > 1 << 46 {
        return Err(Failure::HOST_MEMORY);
    }
    let pinned = live.runtime.alloc_pinned(bytes).map_err(|error| {
        match Failure::from(error) {
            // No addresses or no pages: either way the host cannot give that much.
            Failure {
                cn: 100_053 | 100_100 | 100_007,
                ..
            } => Failure::HOST_MEMORY,
            failure => failure,
        }
    })?;
    Ok(add(live, Kind::Host, Memory::Host(pinned), bytes))
}

/// The allocation that an address lies in.
pub fn find(address: u64) -> Option<Arc<Block>> {
    let blocks = BLOCKS.read().unwrap_or_else(PoisonError::into_inner);
    let (start, block) = blocks.range(..=address).next_back()?;
    (address - start < block.length).then(|| block.clone())
}

/// Takes an allocation that begins at an address from the table, if it is of a kind that is asked for.
///
/// # Errors
///
/// [`Failure::DEVICE_ADDRESS`] if there is none.
pub fn take(address: u64, kinds: &[Kind]) -> Result<Arc<Block>> {
    let mut blocks = BLOCKS.write().unwrap_or_else(PoisonError::into_inner);
    match blocks.get(&address) {
        Some(block) if kinds.contains(&block.kind) => {
            REMOVALS.fetch_add(1, Ordering::Release);
            blocks.remove(&address).ok_or(Failure::DEVICE_ADDRESS)
        }
        _ => Err(Failure::DEVICE_ADDRESS),
    }
}

/// Frees an allocation by its first address, once the commands of its context that were queued before have ended.
///
/// # Errors
///
/// [`Failure::DEVICE_ADDRESS`] if none of these kinds begins there.
pub fn free(address: u64, kinds: &[Kind]) -> Result<()> {
    let block = take(address, kinds)?;
    block.forget_mirrors();
    if block.live.is_busy() {
        block.live.runtime.drain();
    }
    if let Some(pool) = block.pool.get() {
        if let Ok(buffer) = block.buffer() {
            pool.put(buffer.clone(), block.length, None);
        }
        return Ok(());
    }
    // Nobody else holds it now but calls that are under way: then it goes with them, and is not kept.
    if let Some(Block {
        memory: Memory::Device(buffer),
        live,
        kind,
        ..
    }) = Arc::into_inner(block)
        && matches!(kind, Kind::Device | Kind::Constant)
    {
        drop(live.cache.put(buffer));
    }
    Ok(())
}

/// Takes all of a context from the table, to be dropped without a lock, and the mappings that it has of others' memory.
pub(crate) fn forget(live: &Arc<Live>) -> Vec<Arc<Block>> {
    let mut blocks = BLOCKS.write().unwrap_or_else(PoisonError::into_inner);
    let (gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut *blocks)
        .into_iter()
        .partition(|(_, block)| Arc::ptr_eq(&block.live, live));
    *blocks = rest.into_iter().collect();
    REMOVALS.fetch_add(1, Ordering::Release);
    let others: Vec<_> = blocks.values().cloned().collect();
    drop(blocks);
    for block in others {
        let mirror = lock(&block.mirrors).remove(&live.id);
        drop(mirror);
    }
    gone.into_iter().map(|(_, block)| block).collect()
}

/// Free and total bytes of a context's device. What the process keeps of freed memory counts as free.
pub fn info(live: &Arc<Live>) -> Result<(u64, u64)> {
    let telemetry = crate::device::all()?[live.ordinal].telemetry()?;
    let here = |l: &&Arc<Live>| l.ordinal == live.ordinal;
    let lives = crate::context::lives();
    let kept: u64 = lives.iter().filter(here).map(|l| l.cache.bytes()).sum();
    let total = telemetry.memory_total;
    let used = telemetry.memory_used.saturating_sub(kept);
    Ok((total.saturating_sub(used), total))
}
