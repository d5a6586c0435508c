//! Capture: what is submitted to a queue becomes a graph instead of being run.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use vmlu_abi::Status;

use super::{operands, Graph, HEADER};
use crate::collective::Captured;
use crate::error::{Error, Result};
use crate::queue::{Queue, QueueInner};

/// Set in the values that a capturing queue gives: they name a command of the capture, not a value of the queue's timeline.
pub(crate) const CAPTURED: u64 = 1 << 63;
/// Bits below the number of the capture: the commands that had been captured.
const COMMANDS: u32 = 32;

/// What a queue has of captures.
#[derive(Default)]
pub(crate) struct Slot {
    /// Whether there is one: what each submission looks at.
    active: AtomicBool,
    capture: Mutex<Option<Arc<Capture>>>,
}

/// A capture that is under way.
struct Capture {
    id: u32,
    state: Mutex<Recording>,
}

struct Recording {
    graph: Graph,
    /// The queues, that which began it first.
    members: Vec<Member>,
    /// Why no graph will come of it.
    invalid: Option<String>,
    ended: bool,
}

struct Member {
    queue: Weak<QueueInner>,
    handle: u64,
    /// Commands of the graph up to and with its last one.
    last: u64,
    /// Of each member, in their order, the commands up to which this one has waited.
    waited: Vec<u64>,
}

/// Whether a queue is being captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureStatus {
    /// No.
    None,
    /// Yes.
    Active,
    /// Yes, but no graph will come of it, because of an earlier error.
    Invalidated,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn refuse<T>(call: &'static str, status: Status, text: impl Into<String>) -> Result<T> {
    Err(Error::new(call, status, text))
}

impl Slot {
    fn get(&self) -> Option<Arc<Capture>> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.capture).clone()
    }

    fn set(&self, capture: &Arc<Capture>) {
        *lock(&self.capture) = Some(capture.clone());
        self.active.store(true, Ordering::Relaxed);
    }

    fn clear(&self, capture: &Arc<Capture>) {
        let mut slot = lock(&self.capture);
        if slot.as_ref().is_some_and(|c| Arc::ptr_eq(c, capture)) {
            *slot = None;
            self.active.store(false, Ordering::Relaxed);
        }
    }

    /// The queue is being dropped: a capture that it began is over, another that it joined is spoiled.
    pub(crate) fn queue_ends(&self, handle: u64) {
        let Some(capture) = self.get() else { return };
        let mut state = capture.state();
        match state.members.first() {
            Some(first) if first.handle == handle => {
                state.ended = true;
                drop(state);
                capture.leave();
            }
            _ => state.invalidate(format!("queue {handle:#x}, which had joined, was dropped")),
        }
    }
}

impl Capture {
    fn state(&self) -> MutexGuard<'_, Recording> {
        lock(&self.state)
    }

    fn value(&self, commands: u64) -> u64 {
        CAPTURED | u64::from(self.id) << COMMANDS | commands
    }

    fn named_by(&self, value: u64) -> bool {
        value & CAPTURED != 0 && (value & !CAPTURED) >> COMMANDS == u64::from(self.id)
    }

    /// Has all queues leave it; it has ended.
    fn leave(self: &Arc<Self>) {
        let queues: Vec<_> = {
            let state = self.state();
            state
                .members
                .iter()
                .filter_map(|m| m.queue.upgrade())
                .collect()
        };
        queues.iter().for_each(|queue| queue.capture().clear(self));
    }
}

impl Recording {
    fn invalidate(&mut self, why: impl Into<String>) {
        self.invalid.get_or_insert(why.into());
    }

    fn check_valid(&self, call: &'static str) -> Result<()> {
        match &self.invalid {
            Some(why) => refuse(call, Status::CaptureInvalidated, why.clone()),
            None => Ok(()),
        }
    }

    fn index(&self, handle: u64) -> Option<usize> {
        self.members.iter().position(|m| m.handle == handle)
    }

    fn member(&mut self, queue: &Queue) -> usize {
        if let Some(index) = self.index(queue.handle()) {
            return index;
        }
        self.members.push(Member {
            queue: Arc::downgrade(&queue.inner),
            handle: queue.handle(),
            last: 0,
            waited: Vec::new(),
        });
        self.members.len() - 1
    }

    /// Member `waiter` has waited for what member `other` had captured with `commands`.
    fn wait(&mut self, waiter: usize, other: usize, commands: u64) {
        let seen = self.members[other].waited.clone();
        let members = self.members.len();
        let waited = &mut self.members[waiter].waited;
        waited.resize(members, 0);
        for (have, new) in waited.iter_mut().zip(seen) {
            *have = new.max(*have);
        }
        waited[other] = waited[other].max(commands);
    }

    /// A member that has commands for which the first one has not waited.
    fn unjoined(&self) -> Option<&Member> {
        let (first, others) = self.members.split_first()?;
        let mut others = others.iter().enumerate();
        let waited = |i: usize| first.waited.get(i + 1).copied().unwrap_or(0);
        others.find(|(i, m)| waited(*i) < m.last).map(|(_, m)| m)
    }

    /// Keeps alive what the last command names.
    fn keep(&mut self, queue: &Queue) {
        let Some(start) = self.graph.starts.last().copied() else {
            return;
        };
        let opcode = self.graph.header(start).opcode;
        for field in operands::address_fields(opcode).unwrap_or_default() {
            let address = self.graph.word(start + (HEADER + field) as u32);
            if address != 0
                && let Some(owner) = queue.inner.context().allocations.owner(address)
            {
                self.graph.own(owner);
            }
        }
    }
}

impl Queue {
    /// Begins to capture the queue: what is submitted to it is not run but becomes a graph, until [`Queue::end_capture`].
    ///
    /// The values that a capturing queue returns have their top bit set and name a command of the capture. Another queue of the context
    /// that waits for one ([`Queue::wait_for`]) joins the capture, and has to be joined back: the first queue waits for its last value.
    /// The graph has the commands of all queues in the order in which they were captured, which satisfies every wait between them.
    ///
    /// A capture belongs to its queues, not to a thread: any thread may submit to them and end it, and commands that threads submit at the
    /// same time are captured in either order. Notifiers that are placed while it lasts mark a point for [`Notifier::hold`], and record
    /// nothing.
    ///
    /// Blocking on a capturing queue, copying to pageable host memory, host functions and waits for work outside of the capture are
    /// errors (`Status::CaptureUnsupported`, `Status::CaptureIsolation`, `Status::CaptureMerged`), which spoil it: until it ends, what is
    /// submitted fails with `Status::CaptureInvalidated`.
    ///
    /// # Errors
    ///
    /// `Status::BadState` if the queue is being captured already.
    ///
    /// [`Notifier::hold`]: crate::Notifier::hold
    pub fn begin_capture(&self) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let mut slot = lock(&self.inner.capture().capture);
        if slot.is_some() {
            let text = format!("queue {:#x} is being captured already", self.handle());
            return refuse("begin a capture", Status::BadState, text);
        }
        let mut recording = Recording {
            graph: Graph::default(),
            members: Vec::new(),
            invalid: None,
            ended: false,
        };
        recording.member(self);
        let capture = Capture {
            id: NEXT.fetch_add(1, Ordering::Relaxed) & (u32::MAX >> 1),
            state: Mutex::new(recording),
        };
        *slot = Some(Arc::new(capture));
        self.inner.capture().active.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the capture that was begun on this queue; its graph. All queues that joined are ordinary queues again, whether it went well or
    /// not.
    ///
    /// # Errors
    ///
    /// `Status::BadState` if the queue is not being captured. `Status::CaptureUnmatched` if the capture was begun on another queue; it goes
    /// on. `Status::CaptureInvalidated` after an error in it, with its reason. `Status::CaptureUnjoined` if a queue that joined has commands
    /// for which this one does not wait.
    pub fn end_capture(&self) -> Result<Graph> {
        const CALL: &str = "end a capture";
        let Some(capture) = self.inner.capture().get() else {
            let text = format!("queue {:#x} is not being captured", self.handle());
            return refuse(CALL, Status::BadState, text);
        };
        let mut state = capture.state();
        if let Some(first) = state.members.first()
            && first.handle != self.handle()
        {
            let text = format!("end it on queue {:#x}, on which it was begun", first.handle);
            return refuse(CALL, Status::CaptureUnmatched, text);
        }
        state.ended = true;
        let result = state
            .check_valid(CALL)
            .and_then(|()| match state.unjoined() {
                Some(member) => {
                    let text = format!(
                        "queue {:#x} does not wait for what queue {:#x} has captured",
                        self.handle(),
                        member.handle
                    );
                    refuse(CALL, Status::CaptureUnjoined, text)
                }
                None => Ok(()),
            });
        let graph = std::mem::take(&mut state.graph);
        drop(state);
        capture.leave();
        result.map(|()| graph)
    }

    /// Whether the queue is being captured.
    pub fn capture_status(&self) -> CaptureStatus {
        let Some(capture) = self.inner.capture().get() else {
            return CaptureStatus::None;
        };
        let state = capture.state();
        match (state.ended, &state.invalid) {
            (true, _) => CaptureStatus::None,
            (false, None) => CaptureStatus::Active,
            (false, Some(_)) => CaptureStatus::Invalidated,
        }
    }

    /// A number that tells the capture that the queue is in from others of the process; `None` if it is in none.
    pub fn capture_id(&self) -> Option<u64> {
        let capture = self.inner.capture().get()?;
        let under_way = !capture.state().ended;
        under_way.then_some(u64::from(capture.id))
    }

    pub(crate) fn is_capturing(&self) -> bool {
        self.inner.capture().active.load(Ordering::Relaxed)
    }

    /// Fails, and spoils the capture, if the queue is being captured.
    pub(crate) fn refuse_capture(&self, call: &'static str) -> Result<()> {
        self.refuse_capture_as(call, Status::CaptureUnsupported)
    }

    /// As [`Queue::refuse_capture`], with another status.
    pub(crate) fn refuse_capture_as(&self, call: &'static str, status: Status) -> Result<()> {
        let Some(capture) = self.inner.capture().get() else {
            return Ok(());
        };
        let mut state = capture.state();
        if state.ended {
            return Ok(());
        }
        let text = format!("queue {:#x} is being captured", self.handle());
        state.invalidate(format!("{call}: {text}"));
        refuse(call, status, text)
    }

    /// Captures a command if the queue is being captured; its value.
    pub(crate) fn capture(&self, opcode: u16, body: &[&[u8]]) -> Option<Result<u64>> {
        self.record(|state| {
            if operands::address_fields(opcode).is_none() {
                let text = format!("opcode {opcode:#06x} cannot be part of a graph");
                return refuse("capture a command", Status::CaptureUnsupported, text);
            }
            state.graph.push(opcode, self.correlation(), body)?;
            state.keep(self);
            Ok(())
        })
    }

    /// Captures the commands of a graph.
    pub(super) fn capture_graph(&self, graph: &Graph, parameters: &[u64]) -> Result<u64> {
        let captured = self.record(|state| {
            state.graph.append(graph, parameters)?;
            for (_, address) in graph.addresses_with(parameters) {
                if let Some(owner) = self.inner.context().allocations.owner(address) {
                    state.graph.own(owner);
                }
            }
            Ok(())
        });
        captured.unwrap_or_else(|| {
            let text = "the capture ended meanwhile";
            refuse("launch a graph", Status::BadState, text)
        })
    }

    /// Captures collectives that are called together, on queues of one capture; the value of the last.
    pub(crate) fn capture_collectives(queues: &[Queue], calls: Vec<Captured>) -> Result<u64> {
        let mut calls = Some(calls);
        let mut value = 0;
        // The last commands of the other queues are these too.
        for queue in queues {
            let recorded = queue.record(|state| {
                if let Some(calls) = calls.take() {
                    state.graph.meet(calls);
                }
                Ok(())
            });
            value = recorded.unwrap_or_else(|| {
                let text = "the capture ended meanwhile";
                refuse("capture a collective", Status::BadState, text)
            })?;
        }
        Ok(value)
    }

    fn record(&self, add: impl FnOnce(&mut Recording) -> Result<()>) -> Option<Result<u64>> {
        let capture = self.inner.capture().get()?;
        let mut state = capture.state();
        if state.ended {
            return None;
        }
        let added = state
            .check_valid("capture a command")
            .and_then(|()| add(&mut state));
        if let Err(error) = added {
            state.invalidate(error.to_string());
            return Some(Err(error));
        }
        let commands = state.graph.steps() as u64;
        let member = state.member(self);
        state.members[member].last = commands;
        Some(Ok(capture.value(commands)))
    }

    /// The point up to which the queue has been captured, if it is being captured.
    pub(crate) fn capture_point(&self) -> Option<u64> {
        let capture = self.inner.capture().get()?;
        let mut state = capture.state();
        if state.ended {
            return None;
        }
        let member = state.member(self);
        Some(capture.value(state.members[member].last))
    }

    /// A wait for a value of another queue, if either has to do with a capture; what it returns.
    pub(crate) fn capture_wait(&self, other: &Queue, value: u64) -> Result<Option<u64>> {
        const CALL: &str = "wait for a queue";
        let own = self.inner.capture().get();
        if value & CAPTURED == 0 {
            let Some(own) = own else { return Ok(None) };
            let mut state = own.state();
            if state.ended {
                return Ok(None);
            }
            let text = format!(
                "queue {:#x} is being captured, value {value} of queue {:#x} is not of the capture",
                self.handle(),
                other.handle()
            );
            state.invalidate(format!("{CALL}: {text}"));
            return refuse(CALL, Status::CaptureIsolation, text);
        }
        let theirs = other.inner.capture().get();
        let Some(capture) = theirs.filter(|c| c.named_by(value)) else {
            let text = format!(
                "the value {value:#x} is of no capture of queue {:#x} that is under way",
                other.handle()
            );
            return refuse(CALL, Status::CaptureIsolation, text);
        };
        if let Some(own) = own.filter(|own| !Arc::ptr_eq(own, &capture)) {
            let text = format!(
                "queues {:#x} and {:#x} are in two captures",
                self.handle(),
                other.handle()
            );
            for spoiled in [own, capture] {
                spoiled.state().invalidate(format!("{CALL}: {text}"));
            }
            return refuse(CALL, Status::CaptureMerged, text);
        }
        if !Arc::ptr_eq(self.inner.context(), other.inner.context()) {
            let text = "a queue of another context cannot join the capture";
            capture.state().invalidate(format!("{CALL}: {text}"));
            return refuse(CALL, Status::CaptureIsolation, text);
        }
        let mut state = capture.state();
        if state.ended {
            return refuse(CALL, Status::CaptureIsolation, "the capture has ended");
        }
        state.check_valid(CALL)?;
        let (waiter, awaited) = (state.member(self), state.member(other));
        let commands = (value & ((1 << COMMANDS) - 1)).min(state.members[awaited].last);
        state.wait(waiter, awaited, commands);
        let last = state.members[waiter].last;
        drop(state);
        self.inner.capture().set(&capture);
        Ok(Some(capture.value(last)))
    }
}
