//! The staging pool of a context: pinned chunks through which pageable memory goes to the card and back.
//!
//! A chunk is held by a thread that fills or empties it, or flies: a copy of a queue reads it, and it is free once the queue has passed the
//! copy. So one chunk is filled while the card works on another. The pool is bounded; it is freed with the context.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::context::ContextInner;
use crate::error::{Error, Result};
use crate::memory::HostMemory;
use crate::queue::QueueInner;
use crate::transport::sys::monotonic_ns;

/// Bytes of a chunk. Of 256 KiB, 512 KiB and 1 MiB this was the fastest for 64 MiB to the card on two cores: as fast as `memcpy`.
pub(crate) const CHUNK: usize = 512 << 10;
/// Chunks of a context.
const CHUNKS: usize = 16;
/// Chunks of a queue that fly at a time.
const OF_A_QUEUE: usize = 4;
/// How long a queue waits for a chunk while others have them all, ns. After that it gets one more, which is freed after its use: so queues
/// that stand still with their chunks never hold up others.
const PATIENCE_NS: u64 = 20_000_000;

/// The chunks of a context.
#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    /// A chunk was given back.
    given: Condvar,
}

#[derive(Default)]
struct State {
    free: Vec<HostMemory>,
    flying: VecDeque<Flying>,
    /// Chunks of the pool that exist, those beyond it left out.
    made: usize,
}

struct Flying {
    memory: HostMemory,
    /// Beyond the pool: freed after its use.
    extra: bool,
    queue: Weak<QueueInner>,
    handle: u64,
    value: u64,
}

impl Flying {
    /// Whether its copy has ended. Of a queue that is being dropped [`Pool::queue_ended`] tells.
    fn has_landed(&self) -> bool {
        let queue = self.queue.upgrade();
        queue.is_some_and(|queue| queue.timeline() >= self.value)
    }
}

/// A chunk that a thread has.
pub(crate) struct Chunk<'a> {
    queue: &'a Arc<QueueInner>,
    memory: Option<HostMemory>,
    extra: bool,
    /// The copy that uses it, once it was submitted.
    value: u64,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A chunk for a copy of a queue; blocks while there is none.
    pub(crate) fn take<'a>(&self, queue: &'a Arc<QueueInner>) -> Result<Chunk<'a>> {
        let until = monotonic_ns().saturating_add(PATIENCE_NS);
        loop {
            // The oldest copy of this queue if it has its share, else the oldest of all.
            let (oldest, own) = {
                let mut state = self.reap(queue.context());
                let handle = queue.handle();
                let of_queue = state.flying.iter().filter(|f| f.handle == handle);
                let own = of_queue.count() >= OF_A_QUEUE;
                if !own && let Some(memory) = state.free.pop() {
                    return Ok(Chunk::new(queue, memory, false));
                }
                if !own && state.made < CHUNKS {
                    state.made += 1;
                    drop(state);
                    return self.make(queue);
                }
                let mut flying = state.flying.iter();
                let oldest = flying.find(|f| !own || f.handle == handle);
                (oldest.map(|f| (f.queue.clone(), f.value)), own)
            };
            let now = monotonic_ns();
            if !own && now >= until {
                let memory = HostMemory::new(queue.context(), CHUNK as u64)?;
                return Ok(Chunk::new(queue, memory, true));
            }
            let soon = now + PATIENCE_NS / 8;
            match oldest.and_then(|(queue, value)| Some((queue.upgrade()?, value))) {
                // It ends, well or not, or this queue is beyond help.
                Some((oldest, value)) if own => oldest.pass(value, u64::MAX)?,
                Some((oldest, value)) => drop(oldest.pass(value, soon)),
                None => {
                    let limit = Duration::from_nanos(PATIENCE_NS / 8);
                    drop(self.given.wait_timeout(self.state(), limit));
                }
            }
        }
    }

    /// A chunk for a copy of a queue, if there is one without waiting.
    pub(crate) fn try_take<'a>(&self, queue: &'a Arc<QueueInner>) -> Result<Option<Chunk<'a>>> {
        let mut state = self.reap(queue.context());
        if let Some(memory) = state.free.pop() {
            return Ok(Some(Chunk::new(queue, memory, false)));
        }
        if state.made < CHUNKS {
            state.made += 1;
            drop(state);
            return self.make(queue).map(Some);
        }
        Ok(None)
    }

    /// Makes a chunk that is counted already.
    fn make<'a>(&self, queue: &'a Arc<QueueInner>) -> Result<Chunk<'a>> {
        match HostMemory::new(queue.context(), CHUNK as u64) {
            Ok(memory) => Ok(Chunk::new(queue, memory, false)),
            Err(error) => {
                self.state().made -= 1;
                Err(error)
            }
        }
    }

    /// Takes back the chunks whose copies have ended.
    fn reap(&self, context: &ContextInner) -> MutexGuard<'_, State> {
        let mut state = self.state();
        let mut at = 0;
        while let Some(flying) = state.flying.get(at) {
            if !flying.has_landed() {
                at += 1;
            } else if let Some(flying) = state.flying.remove(at) {
                state.give_back(context, flying.memory, flying.extra);
            }
        }
        state
    }

    /// The card has let go of a queue that was destroyed.
    pub(crate) fn queue_ended(&self, context: &ContextInner, handle: u64) {
        let mut state = self.state();
        while let Some(at) = state.flying.iter().position(|f| f.handle == handle)
            && let Some(flying) = state.flying.remove(at)
        {
            state.give_back(context, flying.memory, flying.extra);
        }
        self.given.notify_all();
    }
}

impl State {
    fn give_back(&mut self, context: &ContextInner, mut memory: HostMemory, extra: bool) {
        match extra {
            true => memory.free(context),
            false => self.free.push(memory),
        }
    }
}

impl<'a> Chunk<'a> {
    fn new(queue: &'a Arc<QueueInner>, memory: HostMemory, extra: bool) -> Self {
        Self {
            queue,
            memory: Some(memory),
            extra,
            value: 0,
        }
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<&HostMemory> {
        self.memory.as_ref().ok_or_else(|| {
            let status = vmlu_abi::Status::Internal;
            Error::new("stage a copy", status, "the chunk is gone")
        })
    }

    /// The copy with this timeline value uses it: it is not free before that one has ended.
    pub(crate) fn used_by(&mut self, value: u64) {
        self.value = value;
    }
}

impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        let context = self.queue.context();
        let mut state = context.staging.state();
        if self.queue.timeline() >= self.value {
            state.give_back(context, memory, self.extra);
        } else {
            state.flying.push_back(Flying {
                memory,
                extra: self.extra,
                queue: Arc::downgrade(self.queue),
                handle: self.queue.handle(),
                value: self.value,
            });
        }
        context.staging.given.notify_all();
    }
}
