//! Queues: those that programs make, one a thread, and one that threads share.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;

use vmlu::abi::queue::PRIORITY_HIGH;

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
    /// Hints for the cache, which are kept for who asks: the bytes of the attribute.
    pub attribute: Mutex<[u8; 64]>,
    /// Its priority, as C counts: from [`Queue::LEAST`], to [`Queue::GREATEST`].
    pub priority: i32,
}

/// The queue that a thread found last, so that it finds it again without a lock.
struct Recent {
    handle: usize,
    /// The context that was current, if the handle is that of a default queue.
    context: *const Context,
    removals: u64,
    queue: Weak<Queue>,
}

thread_local! {
    static RECENT: RefCell<Recent> = const { RefCell::new(Recent {
        handle: 0,
        context: std::ptr::null(),
        removals: 0,
        queue: Weak::new(),
    }) };
}

impl Recent {
    /// Whether it is still what a handle names.
    fn names(&self, handle: usize) -> bool {
        self.handle == handle
            && self.removals == QUEUES.removals()
            && (handle > LEGACY || context::is_current(self.context))
    }
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

    /// The queue of a handle. Default queues are those of the calling thread's context.
    #[inline]
    pub fn find(handle: usize) -> Result<Arc<Self>> {
        let recent = RECENT.try_with(|recent| {
            let recent = recent.borrow();
            recent.names(handle).then(|| recent.queue.upgrade())?
        });
        match recent {
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
        let recent = Recent {
            handle,
            context,
            removals,
            queue: Arc::downgrade(&queue),
        };
        let _ = RECENT.try_with(|place| place.replace(recent));
        Ok(queue)
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
    QUEUES.remove_if(|queue| Arc::ptr_eq(&queue.live, live))
}
