//! Contexts: the one of a device that all of a process share, and others that a program makes. A thread has a current one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::thread::ThreadId;

use crate::device;
use crate::failure::{Failure, Result};
use crate::memory::Cache;
use crate::queue::Queue;
use crate::table::Table;

/// The contexts by their handles.
pub static CONTEXTS: Table<Context> = Table::new(0x11);

/// What a shared context does when a thread waits, if nobody says: `CN_CTX_SCHED_SYNC_SPIN`.
const SCHEDULE_DEFAULT: u32 = 0;
/// The highest of those numbers, `CN_CTX_SCHED_SYNC_AUTO`.
pub const SCHEDULE_LAST: u32 = 3;

/// A context, in use or not.
pub struct Context {
    /// Ordinal of its device.
    pub ordinal: usize,
    /// Whether it is the one that the process shares.
    pub shared: bool,
    handle: OnceLock<usize>,
    flags: AtomicU32,
    holds: AtomicUsize,
    live: RwLock<Option<Arc<Live>>>,
    defaults: Mutex<Defaults>,
    /// Settings that are kept and read back: the lines and bytes of the kernels' output, persisting L2 cache.
    pub settings: Mutex<HashMap<i32, i64>>,
}

/// The queues of a context that programs have without making them.
#[derive(Default)]
struct Defaults {
    threads: HashMap<ThreadId, Arc<Queue>>,
    legacy: Option<Arc<Queue>>,
}

/// What a context has while it is in use.
pub struct Live {
    /// Tells one from another.
    pub id: u64,
    /// Ordinal of its device.
    pub ordinal: usize,
    /// The context on the card.
    pub runtime: vmlu::Context,
    /// The context that it belongs to.
    pub context: Weak<Context>,
    /// Memory that was freed and is kept.
    pub cache: Cache,
    queues: Mutex<Vec<Weak<Queue>>>,
}

/// Everything that is in use.
static LIVES: RwLock<Vec<Weak<Live>>> = RwLock::new(Vec::new());

thread_local! {
    static CURRENT: RefCell<Option<Arc<Context>>> = const { RefCell::new(None) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    fn make(ordinal: usize, shared: bool, flags: u32) -> Result<Arc<Self>> {
        let context = Arc::new(Self {
            ordinal,
            shared,
            handle: OnceLock::new(),
            flags: AtomicU32::new(flags),
            holds: AtomicUsize::new(0),
            live: RwLock::new(None),
            defaults: Mutex::default(),
            settings: Mutex::default(),
        });
        let handle = CONTEXTS
            .insert(context.clone())
            .ok_or(Failure::NO_CONTEXT)?;
        let _ = context.handle.set(handle);
        Ok(context)
    }

    /// The shared context of a device, not in use yet. It is never destroyed.
    pub(crate) fn shared(ordinal: usize) -> Result<Arc<Self>> {
        Self::make(ordinal, true, SCHEDULE_DEFAULT)
    }

    /// A context of its own on a device, in use.
    pub fn own(ordinal: usize, flags: u32) -> Result<Arc<Self>> {
        if flags > SCHEDULE_LAST {
            return Err(Failure::INVALID_VALUE);
        }
        let context = Self::make(ordinal, false, flags)?;
        if let Err(failure) = context.live() {
            CONTEXTS.remove(context.handle());
            return Err(failure);
        }
        Ok(context)
    }

    /// The context of a handle.
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        CONTEXTS.find(handle).ok_or(Failure::INVALID_CONTEXT)
    }

    /// Its handle.
    pub fn handle(&self) -> usize {
        self.handle.get().copied().unwrap_or(0)
    }

    /// How its threads wait. It is kept and read back; they spin for some microseconds and then sleep, whatever it is.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Sets how its threads wait.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_VALUE`] for a number that there is not; [`Failure::ACTIVE`] while it is in use.
    pub fn set_flags(&self, flags: u32) -> Result<()> {
        if flags > SCHEDULE_LAST {
            return Err(Failure::INVALID_VALUE);
        }
        if self.is_active() {
            return Err(Failure::ACTIVE);
        }
        self.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it is in use.
    pub fn is_active(&self) -> bool {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// What it has on the card. Begins to use it if nothing did yet.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_CONTEXT`] once a context of its own was destroyed; what the card says if it cannot be opened.
    pub fn live(self: &Arc<Self>) -> Result<Arc<Live>> {
        if let Some(live) = &*self.live.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(live.clone());
        }
        let mut slot = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = &*slot {
            return Ok(live.clone());
        }
        if CONTEXTS.find(self.handle()).is_none() {
            return Err(Failure::INVALID_CONTEXT);
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let device = &device::all()?[self.ordinal];
        let live = Arc::new(Live {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            ordinal: self.ordinal,
            runtime: vmlu::Context::open_on(&*device.transport, device.number)?,
            context: Arc::downgrade(self),
            cache: Cache::default(),
            queues: Mutex::default(),
        });
        let mut lives = LIVES.write().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|l| l.strong_count() > 0);
        lives.push(Arc::downgrade(&live));
        *slot = Some(live.clone());
        Ok(live)
    }

    /// Counts a holder of the shared context, which is in use from here on.
    pub fn acquire(self: &Arc<Self>) -> Result<()> {
        self.live()?;
        self.holds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a holder less; the last one ends its use.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_CONTEXT`] if nobody holds it.
    pub fn release(self: &Arc<Self>) -> Result<()> {
        let less = |n: usize| n.checked_sub(1);
        match self
            .holds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        {
            Ok(1) => self.end(),
            Ok(_) => {}
            Err(_) => return Err(Failure::INVALID_CONTEXT),
        }
        Ok(())
    }

    /// Ends its use, whoever holds it: all that belongs to it goes, and its handles name nothing any more.
    pub fn end(self: &Arc<Self>) {
        self.holds.store(0, Ordering::Relaxed);
        let defaults = std::mem::take(&mut *lock(&self.defaults));
        crate::queue::QUEUES.count_removal();
        let default_queues = defaults.threads.values().chain(&defaults.legacy);
        default_queues.for_each(|queue| queue.let_go());
        let live = self
            .live
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(live) = live else { return };
        // What is dropped here may wait for the card: without a lock.
        drop(crate::notifier::forget(&live));
        drop(crate::queue::forget(&live));
        drop(defaults);
        drop(crate::topo::forget(&live));
        drop(crate::memory::forget(&live));
        crate::pool::forget(&live);
        drop(crate::virtual_memory::forget(&live));
        live.cache.clear();
    }

    /// Destroys a context of its own.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_CONTEXT`] for a shared one, and for one that was destroyed.
    pub fn destroy(self: &Arc<Self>) -> Result<()> {
        if self.shared || CONTEXTS.remove(self.handle()).is_none() {
            return Err(Failure::INVALID_CONTEXT);
        }
        self.end();
        CURRENT.with_borrow_mut(|current| {
            if current.as_ref().is_some_and(|c| Arc::ptr_eq(c, self)) {
                *current = None;
            }
        });
        Ok(())
    }

    /// The calling thread's queue.
    pub(crate) fn thread_queue(self: &Arc<Self>) -> Result<Arc<Queue>> {
        let id = std::thread::current().id();
        if let Some(queue) = lock(&self.defaults).threads.get(&id) {
            return Ok(queue.clone());
        }
        let queue = Queue::make(&self.live()?, Queue::DEFAULT_PRIORITY)?;
        crate::queue::remember(self);
        lock(&self.defaults).threads.insert(id, queue.clone());
        Ok(queue)
    }

    /// The queue that all threads share.
    pub(crate) fn legacy_queue(self: &Arc<Self>) -> Result<Arc<Queue>> {
        if let Some(queue) = &lock(&self.defaults).legacy {
            return Ok(queue.clone());
        }
        let queue = Queue::make(&self.live()?, Queue::DEFAULT_PRIORITY)?;
        Ok(lock(&self.defaults).legacy.get_or_insert(queue).clone())
    }

    /// A thread ends: so does its queue.
    pub(crate) fn thread_ends(&self, thread: ThreadId) {
        drop(lock(&self.defaults).threads.remove(&thread));
    }

    /// Waits for all of its queues; the first error.
    pub fn sync(&self) -> Result<()> {
        let live = self
            .live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        live.map_or(Ok(()), |live| live.sync())
    }
}

impl Live {
    /// Counts a queue in.
    pub(crate) fn add(&self, queue: &Arc<Queue>) {
        let mut queues = lock(&self.queues);
        queues.retain(|q| q.strong_count() > 0);
        queues.push(Arc::downgrade(queue));
    }

    /// The queues that it has.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        lock(&self.queues)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Waits for all queues; the first error.
    pub fn sync(&self) -> Result<()> {
        let mut result = Ok(());
        for queue in self.queues() {
            result = result.and(queue.sync());
        }
        result
    }

    /// Whether some queue has work.
    pub fn is_busy(&self) -> bool {
        lock(&self.queues)
            .iter()
            .filter_map(Weak::upgrade)
            .any(|queue| !queue.runtime.is_idle())
    }
}

/// All contexts that are in use.
pub fn lives() -> Vec<Arc<Live>> {
    let lives = LIVES.read().unwrap_or_else(PoisonError::into_inner);
    lives.iter().filter_map(Weak::upgrade).collect()
}

/// Whether an address is one that contexts give out: if no memory is there, it was freed, or never was any.
pub fn is_reserved(address: u64) -> bool {
    let lives = LIVES.read().unwrap_or_else(PoisonError::into_inner);
    lives
        .iter()
        .filter_map(Weak::upgrade)
        .any(|live| live.runtime.reserves(address))
}

/// The calling thread's context, if it has one.
pub fn current() -> Option<Arc<Context>> {
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// The device of the calling thread's context, if it has one.
pub fn current_ordinal() -> Option<usize> {
    let ordinal =
        |current: &RefCell<Option<Arc<Context>>>| current.borrow().as_ref().map(|c| c.ordinal);
    CURRENT.try_with(ordinal).ok().flatten()
}

/// Whether a context is the calling thread's, by its place in memory; null is none.
pub(crate) fn is_current(context: *const Context) -> bool {
    let same = |current: &RefCell<Option<Arc<Context>>>| {
        let current = current.borrow();
        current.as_ref().map_or(std::ptr::null(), Arc::as_ptr) == context
    };
    CURRENT.try_with(same).unwrap_or(false)
}

/// The calling thread's context; the shared one of the first device if it has none, and from here on that one.
pub fn current_or_first() -> Result<Arc<Context>> {
    if let Some(context) = current() {
        return Ok(context);
    }
    let context = device::get(0)?.context().clone();
    set_current(Some(context.clone()));
    Ok(context)
}

/// Makes a context the calling thread's.
pub fn set_current(context: Option<Arc<Context>>) {
    // A thread that is ending has none any more.
    let _ = CURRENT.try_with(|current| current.replace(context));
}
