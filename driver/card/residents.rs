// SPDX-License-Identifier: GPL-2.0

//! What a card has, by the numbers under which the card names it: queues and contexts; and the
//! files that hear of its events.

use kernel::{fmt, prelude::*, sync::Arc};

use super::Card;
use crate::{
    abi::{event::EventKind, status::Status},
    attributes::text,
    context::Context,
    ext::trace::{self, QueueTrace},
    nodes,
    queue::Queue,
    rpc::Scope,
    stream::{record, Stream},
};

impl Card {
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

    /// Looks for values that were reached although no event came. Returns whether to look again
    /// soon: an event may still be on its way.
    pub(crate) fn rescue_waiters(&self) -> bool {
        let mut again = false;
        self.for_queues(|queue| again |= queue.rescue(self));
        again
    }

    /// Chooses the events of this chip that a file hears of.
    pub(crate) fn subscribe(&self, stream: &Arc<Stream>, kinds: u64) -> Result {
        self.subscribers.lock().set(stream, kinds)
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
        let handle = self.handle_of(index);
        if handle == 0 {
            // It has ended, or the card makes it up.
            return;
        }
        self.tell_of(EventKind::ContextStopped, handle, status.raw().into());
        self.set_suspect(index);
        self.name_guilty(c"none");
        trace::fault(self.number(), handle, 0, status.raw());
        self.for_queues(|queue| {
            if queue.context_index() == index {
                queue.end(self, status);
            }
        });
    }

    /// Enters a context. From now on the card is watched.
    pub(crate) fn add_context(&self, context: Arc<Context>) -> Result {
        let mut contexts = self.contexts.lock();
        // `shutdown` first declares the card gone, then empties the list, and so does a restart
        // with an epoch.
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
