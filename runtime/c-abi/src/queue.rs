//! Queues: those that programs make, one a thread, and one that threads share.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use vmlu::abi::queue::PRIORITY_HIGH;
use vmlu::hold::Hold;

use crate::context::{self, Context, Live};
use crate::failure::{Failure, Result};
use crate::table::Table;

/// The queues by their handles.
pub static QUEUES: Table<Queue> = Table::new(0x12);

/// The handle of the calling thread's queue; 0 is that one too.
pub const PER_THREAD: usize = 1;
/// The handle of the queue that threads share.
pub const LEGACY: usize = 2;

/// Units of a queue's ring.
const RING: u32 = 4096;

/// A queue.
pub struct Queue {
    /// The context that it belongs to.
    pub live: Arc<Live>,
    pub(crate) runtime: vmlu::Queue,
    /// The thread that began the capture that it is in, if another thread may not end it.
    pub capturer: Mutex<Option<ThreadId>>,
    /// What threads hold of it.
    holds: Mutex<Holds>,
    /// Hints for the cache, which are kept for who asks: the bytes of the attribute.
    pub attribute: Mutex<[u8; 64]>,
    /// Its priority, as C counts: from [`Queue::LEAST`], to [`Queue::GREATEST`].
    pub priority: i32,
}

/// Queues that a thread keeps to find them again without a lock.
const KEPT: usize = 16;

/// A queue that a thread has found, to find it again.
struct Recent {
    handle: usize,
    /// The context that was current, if the handle is that of a default queue.
    context: *const Context,
    removals: u64,
    hold: Option<Arc<Hold<Queue>>>,
}

thread_local! {
    static RECENT: [RefCell<Recent>; KEPT] = const { [const { RefCell::new(Recent {
        handle: 0,
        context: std::ptr::null(),
        removals: 0,
        hold: None,
    }) }; KEPT] };
}

/// Where a thread keeps the queue of a handle: handles are given out one after another.
#[inline]
fn place_of(handle: usize) -> usize {
    match handle {
        0..=LEGACY => handle,
        _ => (handle >> 4) % KEPT,
    }
}

impl Recent {
    /// Whether it is still what a handle names.
    #[inline]
    fn names(&self, handle: usize) -> bool {
        self.handle == handle
            && self.removals == QUEUES.removals()
            && (handle > LEGACY || context::is_current(self.context))
    }

    /// Keeps a queue, as it was found; what was kept before, to be dropped without a lock.
    fn keep(
        &mut self,
        handle: usize,
        context: *const Context,
        removals: u64,
        queue: &Arc<Queue>,
    ) -> Option<Arc<Hold<Queue>>> {
        (self.handle, self.context, self.removals) = (handle, context, removals);
        let is_it = |hold: &Arc<Hold<Queue>>| hold.enter().is_some_and(|q| Arc::ptr_eq(&q, queue));
        if self.hold.as_ref().is_some_and(is_it) {
            return None;
        }
        let new = lock(&queue.holds).add(queue);
        std::mem::replace(&mut self.hold, new)
    }
}

/// What threads hold of a queue.
#[derive(Default)]
struct Holds {
    /// It was destroyed, or its context ended: nobody gets hold of it any more.
    gone: bool,
    list: Vec<Weak<Hold<Queue>>>,
}

impl Holds {
    /// A hold of the calling thread.
    fn add(&mut self, queue: &Arc<Queue>) -> Option<Arc<Hold<Queue>>> {
        if self.gone {
            return None;
        }
        let hold = Arc::new(Hold::new(queue.clone())?);
        self.list.retain(|hold| hold.strong_count() > 0);
        self.list.push(Arc::downgrade(&hold));
        Some(hold)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the calling thread's queues end with it.
struct Ending {
    thread: ThreadId,
    contexts: RefCell<Vec<Weak<Context>>>,
}

thread_local! {
    static ENDING: Ending = Ending { thread: std::thread::current().id(), contexts: RefCell::default() };
}

impl Drop for Ending {
    fn drop(&mut self) {
        // The card does not know the queues of a forked child.
        if !crate::call::is_forked() {
            for context in self.contexts.take().iter().filter_map(Weak::upgrade) {
                context.thread_ends(self.thread);
            }
        }
    }
}

/// The calling thread has a queue of a context.
pub(crate) fn remember(context: &Arc<Context>) {
    let _ = ENDING.try_with(|ending| {
        let mut contexts = ending.contexts.borrow_mut();
        contexts.retain(|c| c.strong_count() > 0);
        contexts.push(Arc::downgrade(context));
    });
}

impl Queue {
    /// The least priority.
    pub const LEAST: i32 = PRIORITY_HIGH as i32;
    /// The greatest priority: less is more.
    pub const GREATEST: i32 = 0;
    /// The priority of a queue for which none was asked.
    pub const DEFAULT_PRIORITY: i32 = 4;

    /// Makes a queue without a handle. A priority outside of the range becomes the nearest in it.
    pub(crate) fn make(live: &Arc<Live>, priority: i32) -> Result<Arc<Self>> {
        let priority = priority.clamp(Self::GREATEST, Self::LEAST);
        let runtime = live
            .runtime
            .queue_with(RING, (Self::LEAST - priority) as u32, 1)
            .map_err(|error| match Failure::from(error) {
                Failure { cn: 100_053, .. } => Failure::NO_QUEUE,
                failure => failure,
            })?;
        let queue = Arc::new(Self {
            live: live.clone(),
            runtime,
            holds: Mutex::default(),
            capturer: Mutex::default(),
            attribute: Mutex::new([0; 64]),
            priority,
        });
        live.add(&queue);
        Ok(queue)
    }

    /// Makes a queue of a context; its handle.
    pub fn create(live: &Arc<Live>, priority: i32) -> Result<usize> {
        let queue = Self::make(live, priority)?;
        QUEUES.insert(queue).ok_or(Failure::NO_QUEUE)
    }

    /// Calls `body` with the queue of a handle. Default queues are those of the calling thread's context.
    ///
    /// This is the short way for calls that submit: nothing is counted.
    #[inline]
    pub fn with<T>(handle: usize, body: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let mut body = Some(body);
        let quick = RECENT.try_with(|recent| {
            // The place is in use if a call is made inside another one.
            let recent = recent[place_of(handle)].try_borrow().ok()?;
            if !recent.names(handle) {
                return None;
            }
            let queue = recent.hold.as_ref()?.enter()?;
            body.take().map(|body| body(&queue))
        });
        match (quick, body) {
            (Ok(Some(result)), _) => result,
            (_, Some(body)) => {
                let queue = Self::look_up(handle)?;
                body(&queue)
            }
            // A body that was called gave a result.
            (_, None) => Err(Failure::UNKNOWN),
        }
    }

    /// The queue of a handle, for longer.
    #[inline]
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        let kept = RECENT.try_with(|recent| {
            let recent = recent[place_of(handle)].try_borrow().ok()?;
            let hold = recent.hold.as_ref().filter(|_| recent.names(handle))?;
            Some(Arc::clone(&*hold.enter()?))
        });
        match kept {
            Ok(Some(queue)) => Ok(queue),
            _ => Self::look_up(handle),
        }
    }

    #[inline(never)]
    fn look_up(handle: usize) -> Result<Arc<Self>> {
        let removals = QUEUES.removals();
        let default = |context: &Arc<Context>| match handle {
            LEGACY => context.legacy_queue(),
            _ => context.thread_queue(),
        };
        let (queue, context) = match handle {
            0..=LEGACY => {
                let context = context::current_or_first()?;
                (default(&context)?, Arc::as_ptr(&context))
            }
            handle => {
                let queue = QUEUES.find(handle).ok_or(Failure::INVALID_QUEUE)?;
                (queue, std::ptr::null())
            }
        };
        let before = RECENT.try_with(|recent| {
            let mut recent = recent[place_of(handle)].try_borrow_mut().ok()?;
            recent.keep(handle, context, removals, &queue)
        });
        drop(before);
        Ok(queue)
    }

    /// Takes away what threads hold of it, as it was destroyed: they do not find it any more.
    pub(crate) fn let_go(&self) {
        let holds = {
            let mut holds = lock(&self.holds);
            holds.gone = true;
            std::mem::take(&mut holds.list)
        };
        for hold in holds.iter().filter_map(Weak::upgrade) {
            crate::host::take(hold);
        }
    }

    /// The queue of a handle. Default queues are those of a context that is told, whichever is current.
    pub fn find_of(handle: usize, live: &Arc<Live>) -> Result<Arc<Self>> {
        let context = || live.context.upgrade().ok_or(Failure::INVALID_CONTEXT);
        match handle {
            0 | PER_THREAD => context()?.thread_queue(),
            LEGACY => context()?.legacy_queue(),
            handle => QUEUES.find(handle).ok_or(Failure::INVALID_QUEUE),
        }
    }

    /// The calling thread's queue of a context.
    pub fn of_thread(live: &Arc<Live>) -> Result<Arc<Self>> {
        live.context
            .upgrade()
            .ok_or(Failure::INVALID_CONTEXT)?
            .thread_queue()
    }

    /// Destroys a queue. Its commands are allowed to end; that is not waited for.
    ///
    /// # Errors
    ///
    /// [`Failure::INVALID_QUEUE`] if there is none, and for default queues.
    pub fn destroy(handle: usize) -> Result<()> {
        let queue = QUEUES.remove(handle).ok_or(Failure::INVALID_QUEUE)?;
        queue.let_go();
        if !queue.runtime.is_idle() {
            crate::host::later(queue);
        }
        Ok(())
    }

    /// The queue on the card.
    pub fn runtime(&self) -> &vmlu::Queue {
        &self.runtime
    }

    /// Waits for its commands. The error stays with it.
    pub fn sync(&self) -> Result<()> {
        self.runtime.sync()?;
        crate::pool::settle();
        Ok(())
    }

    /// Whether its commands have ended, without waiting.
    ///
    /// # Errors
    ///
    /// [`Failure::NOT_READY`] if they have not; the error of one that failed.
    pub fn query(&self) -> Result<()> {
        if self.runtime.is_idle() {
            self.sync()
        } else {
            Err(Failure::NOT_READY)
        }
    }
}

/// Takes all of a context from the table, to be dropped without a lock.
pub(crate) fn forget(live: &Arc<Live>) -> Vec<Arc<Queue>> {
    let gone = QUEUES.remove_if(|queue| Arc::ptr_eq(&queue.live, live));
    gone.iter().for_each(|queue| queue.let_go());
    gone
}
