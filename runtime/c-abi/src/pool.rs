//! Pools of device memory that queues allocate and free in their order.
//!
//! An allocation is there at once, and its first use is ordered by the queue. Memory that was freed on a queue goes to the next allocation of its
//! size on that queue, or on another once the queue has passed the place; with a capture nothing is known to have passed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmlu::Buffer;

use crate::context::Live;
use crate::device;
use crate::failure::{Failure, Result};
use crate::memory::{self, Kind};
use crate::queue::Queue;
use crate::table::Table;

/// The pools by their handles.
pub static POOLS: Table<Pool> = Table::new(0x15);

/// Memory that was freed and is kept in all pools, so that who waits for a queue looks at pools only if there is some.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// A pool.
pub struct Pool {
    /// Ordinal of its device.
    pub ordinal: usize,
    /// Most bytes that it has from the device.
    max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: Vec<Free>,
    reserved: u64,
    reserved_high: u64,
    used: u64,
    used_high: u64,
    threshold: u64,
    reuse: [i32; 3],
}

struct Free {
    buffer: Buffer,
    /// The queue on which it was freed, and the timeline value that it has then passed.
    after: Option<(vmlu::Queue, u64)>,
}

impl Free {
    fn is_passed(&self) -> bool {
        let after = self.after.as_ref();
        after.is_none_or(|(queue, value)| queue.timeline() >= *value)
    }
}

/// The pools of a device: the default one and the current one, by their handles.
#[derive(Clone, Copy)]
struct OfDevice {
    default: usize,
    current: usize,
}

static OF_DEVICES: Mutex<Vec<Option<OfDevice>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_device(ordinal: usize) -> Result<OfDevice> {
    let mut all = lock(&OF_DEVICES);
    if all.len() <= ordinal {
        all.resize(ordinal + 1, None);
    }
    if let Some(of) = all[ordinal] {
        return Ok(of);
    }
    let default = Pool::create(ordinal, 0)?;
    let of = OfDevice {
        default,
        current: default,
    };
    all[ordinal] = Some(of);
    Ok(of)
}

/// The handle of a device's default pool.
pub fn default_of(ordinal: usize) -> Result<usize> {
    Ok(of_device(ordinal)?.default)
}

/// The handle of the pool from which a device's queues allocate.
pub fn current_of(ordinal: usize) -> Result<usize> {
    Ok(of_device(ordinal)?.current)
}

/// Makes a pool the one from which a device's queues allocate.
pub fn set_current(ordinal: usize, pool: usize) -> Result<()> {
    of_device(ordinal)?;
    if Pool::find(pool)?.ordinal != ordinal {
        return Err(Failure::INVALID_VALUE);
    }
    if let Some(Some(of)) = lock(&OF_DEVICES).get_mut(ordinal) {
        of.current = pool;
    }
    Ok(())
}

impl Pool {
    /// Makes a pool of at most `max` bytes, 0 for the device's memory; its handle.
    pub fn create(ordinal: usize, max: u64) -> Result<usize> {
        let pool = Self {
            ordinal,
            max: if max == 0 { u64::MAX } else { max },
            state: Mutex::new(State {
                reuse: [1; 3],
                ..State::default()
            }),
        };
        POOLS.insert(Arc::new(pool)).ok_or(Failure::HOST_MEMORY)
    }

    /// The pool of a handle.
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        POOLS.find(handle).ok_or(Failure::INVALID_HANDLE)
    }

    /// Destroys a pool. Its memory that is in use goes when it is freed.
    ///
    /// # Errors
    ///
    /// [`Failure::NOT_PERMITTED`] for the default pool of a device.
    pub fn destroy(handle: usize) -> Result<()> {
        let pool = Self::find(handle)?;
        {
            let mut all = lock(&OF_DEVICES);
            for of in all.iter_mut().flatten() {
                if of.default == handle {
                    return Err(Failure::NOT_PERMITTED);
                }
                if of.current == handle {
                    of.current = of.default;
                }
            }
        }
        POOLS.remove(handle).ok_or(Failure::INVALID_HANDLE)?;
        pool.trim(0);
        Ok(())
    }

    /// Allocates for a queue; the address.
    pub fn alloc(self: &Arc<Self>, bytes: u64, queue: &Queue) -> Result<u64> {
        let live = match queue.live.ordinal == self.ordinal {
            true => queue.live.clone(),
            false => device::all()?[self.ordinal].context().live()?,
        };
        if bytes == 0 {
            return Err(Failure::INVALID_VALUE);
        }
        let granule = live.runtime.info().info.granule.max(4096);
        let length = bytes
            .checked_next_multiple_of(granule)
            .filter(|l| *l <= live.runtime.info().info.memory_bytes)
            .ok_or(Failure::DEVICE_MEMORY)?;
        let buffer = match self.reuse(length, queue, &live) {
            Some(buffer) => buffer,
            None => {
                if lock(&self.state).reserved.saturating_add(length) > self.max {
                    self.trim(0);
                }
                let mut state = lock(&self.state);
                if state.reserved.saturating_add(length) > self.max {
                    return Err(Failure::DEVICE_MEMORY);
                }
                state.reserved += length;
                state.reserved_high = state.reserved_high.max(state.reserved);
                drop(state);
                memory::allocate(&live, length)
                    .inspect_err(|_| lock(&self.state).reserved -= length)?
            }
        };
        let mut state = lock(&self.state);
        state.used += bytes;
        state.used_high = state.used_high.max(state.used);
        drop(state);
        Ok(memory::enter_pooled(&live, buffer, bytes, self))
    }

    /// Memory of this length that may be used behind what a queue has.
    fn reuse(&self, length: u64, queue: &Queue, live: &Arc<Live>) -> Option<Buffer> {
        let mut state = lock(&self.state);
        let [_, opportunistic, _] = state.reuse;
        let fits = |free: &Free| {
            let same = free
                .after
                .as_ref()
                .is_some_and(|(on, _)| on.handle() == queue.runtime.handle());
            let passed = opportunistic != 0 && free.is_passed();
            let ours = live.runtime.reserves(free.buffer.address());
            ours && free.buffer.len() == length && (same || passed)
        };
        let at = state.free.iter().position(fits)?;
        KEPT.fetch_sub(1, Ordering::Relaxed);
        Some(state.free.swap_remove(at).buffer)
    }

    /// Takes memory back.
    pub(crate) fn put(&self, buffer: Buffer, bytes: u64, after: Option<(vmlu::Queue, u64)>) {
        let mut state = lock(&self.state);
        state.used = state.used.saturating_sub(bytes);
        state.free.push(Free { buffer, after });
        KEPT.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives memory to the device that is free, and passed by its queue, until at most `keep` bytes are reserved.
    pub fn trim(&self, keep: u64) {
        let mut gone = Vec::new();
        let mut state = lock(&self.state);
        let mut at = 0;
        while state.reserved > keep && at < state.free.len() {
            if state.free[at].is_passed() {
                let free = state.free.swap_remove(at);
                state.reserved = state.reserved.saturating_sub(free.buffer.len());
                gone.push(free);
            } else {
                at += 1;
            }
        }
        KEPT.fetch_sub(gone.len(), Ordering::Relaxed);
        // Dropped without the lock: it may wait.
        drop(state);
    }

    /// An attribute, by its number; the first three are 32 bits wide.
    pub fn attribute(&self, number: i32) -> Result<u64> {
        let state = lock(&self.state);
        Ok(match number {
            1..=3 => state.reuse[number as usize - 1] as u64,
            4 => state.threshold,
            5 => state.reserved,
            6 => state.reserved_high,
            7 => state.used,
            8 => state.used_high,
            _ => return Err(Failure::INVALID_VALUE),
        })
    }

    /// Sets an attribute; high-water marks can only be set to 0.
    pub fn set_attribute(&self, number: i32, value: u64) -> Result<()> {
        let mut state = lock(&self.state);
        match (number, value) {
            (1..=3, 0 | 1) => state.reuse[number as usize - 1] = value as i32,
            (4, _) => state.threshold = value,
            (6, 0) => state.reserved_high = state.reserved,
            (8, 0) => state.used_high = state.used,
            _ => return Err(Failure::INVALID_VALUE),
        }
        Ok(())
    }
}

/// Frees memory behind what a queue has: of a pool without waiting, other memory once its context has ended what it has.
pub fn free(address: u64, queue: &Queue) -> Result<()> {
    match memory::find(address) {
        Some(block) if block.kind == Kind::Pooled && block.start == address => {
            let block = memory::take(address, &[Kind::Pooled])?;
            memory::unmirror(&block);
            if let Some(pool) = block.pool.get() {
                let runtime = queue.runtime.clone();
                let value = runtime.submitted();
                pool.put(
                    block.buffer()?.clone(),
                    block.length,
                    Some((runtime, value)),
                );
            }
            Ok(())
        }
        _ => memory::free(address, &[Kind::Device, Kind::Constant]),
    }
}

/// A thread has waited for a queue: pools give back what they have above their thresholds.
pub(crate) fn settle() {
    if KEPT.load(Ordering::Relaxed) == 0 {
        return;
    }
    for pool in POOLS.all() {
        let threshold = lock(&pool.state).threshold;
        pool.trim(threshold);
    }
}

/// Gives back all that pools keep of a context.
pub(crate) fn forget(live: &Arc<Live>) {
    for pool in POOLS.all() {
        let mut state = lock(&pool.state);
        let (gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.free)
            .into_iter()
            .partition(|free| live.runtime.reserves(free.buffer.address()));
        state.free = rest;
        let bytes: u64 = gone.iter().map(|free| free.buffer.len()).sum();
        state.reserved = state.reserved.saturating_sub(bytes);
        KEPT.fetch_sub(gone.len(), Ordering::Relaxed);
        drop(state);
        drop(gone);
    }
}
