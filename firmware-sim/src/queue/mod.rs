//! A queue on the card's side: its ring, doorbell, status page, timeline and error.
//!
//! The protocol with the producer stands in `docs/hardware.md`, section 6. A queue is in one [`State`] at a time; whoever moves it to
//! `Running` owns its cursor until it moves it on.

pub mod command;
pub mod copy;
mod serve;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use vmlu_abi::event::EventKind;
use vmlu_abi::pci::{doorbell_page, doorbell_slot};
use vmlu_abi::queue::{STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::{Status, Wire};

use crate::context::Context;
use crate::core::Core;
use crate::memory::words::HostWords;
use crate::scheduler::Scheduler;

/// What a queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The card does not look at the doorbell; a kick makes it ready.
    Asleep = 0,
    /// In the scheduler's list of queues with work.
    Ready = 1,
    /// A worker serves it.
    Running = 2,
    /// Empty, but its doorbell is polled.
    Hot = 3,
    /// Waits for another queue's timeline.
    Blocked = 4,
    /// Destroyed, or stopped for good.
    Dead = 5,
}

/// Host memory of a queue, with the DMA ranges it came from.
pub struct QueueMemory {
    /// The ring.
    pub ring: HostWords,
    /// The status page.
    pub status: HostWords,
    /// The arm word.
    pub arm: HostWords,
    /// DMA address and bytes of each of the three.
    pub ranges: [(u64, u64); 3],
}

/// What the worker that serves a queue knows of it.
struct Cursor {
    /// Units consumed.
    consumed: u64,
    /// Arm value for which an event was posted.
    signalled: u64,
    /// Device time for which the queue's commands ran, ns.
    busy_ns: u64,
    /// Up to this position packets are cancelled.
    cancel_until: u64,
    /// Whether the packet at the cursor was found waiting before.
    waited: bool,
    /// Private copy of a packet.
    packet: Box<[u8; 4096]>,
}

/// Packets that an error took: timeline values from the first to the last, `u64::MAX` while the error stands.
#[derive(Clone, Copy)]
struct Failed {
    first: u64,
    last: u64,
}

/// A queue.
pub struct Queue {
    /// Handle: generation in the upper half, index in the lower.
    pub handle: u64,
    /// Index: names the doorbell.
    pub index: u32,
    /// The chip.
    pub core: Arc<Core>,
    /// The context that owns it.
    pub context: Arc<Context>,
    memory: QueueMemory,
    ring_units: u64,
    vector: u32,
    state: AtomicU8,
    kicked: AtomicBool,
    cursor: Mutex<Cursor>,
    /// Units consumed, as the cursor has it.
    consumed: AtomicU64,
    timeline: AtomicU64,
    /// Commands are to stop.
    cancel: AtomicBool,
    error: AtomicU32,
    record: Mutex<Option<ErrorRecord>>,
    failed: Mutex<Option<Failed>>,
    has_dependents: AtomicBool,
    dependents: Mutex<Vec<(u64, Weak<Queue>)>>,
    /// Wall time at which it last had work, ns.
    last_work: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Queue {
    /// A queue that sleeps, with a cleared status page and doorbell.
    pub fn new(handle: u64, core: Arc<Core>, context: Arc<Context>, memory: QueueMemory, ring_units: u32, vector: u32) -> Self {
        let index = handle as u32;
        let queue = Self {
            handle,
            index,
            core,
            context,
            memory,
            ring_units: u64::from(ring_units),
            vector,
            state: AtomicU8::new(State::Asleep as u8),
            kicked: AtomicBool::new(false),
            cursor: Mutex::new(Cursor {
                consumed: 0,
                signalled: u64::MAX,
                busy_ns: 0,
                cancel_until: 0,
                waited: false,
                packet: Box::new([0; 4096]),
            }),
            consumed: AtomicU64::new(0),
            timeline: AtomicU64::new(0),
            cancel: AtomicBool::new(false),
            error: AtomicU32::new(0),
            record: Mutex::new(None),
            failed: Mutex::new(None),
            has_dependents: AtomicBool::new(false),
            dependents: Mutex::new(Vec::new()),
            last_work: AtomicU64::new(0),
        };
        queue.set_doorbell(0);
        for offset in [STATUS_CONSUMED, STATUS_TIMELINE] {
            queue.memory.status.u64(offset).store(0, Ordering::Relaxed);
        }
        queue.memory.status.u32(STATUS_ERROR).store(0, Ordering::Relaxed);
        queue.memory.status.u32(STATUS_ASLEEP).store(1, Ordering::SeqCst);
        queue
    }

    fn doorbell_offset(&self) -> u64 {
        doorbell_page(self.index) + doorbell_slot(self.index)
    }

    /// Units that the producer says it has written.
    pub fn doorbell(&self) -> u64 {
        self.core.hardware.doorbells.word(self.doorbell_offset()).map_or(0, |w| w.load(Ordering::Acquire))
    }

    fn set_doorbell(&self, value: u64) {
        if let Some(word) = self.core.hardware.doorbells.word(self.doorbell_offset()) {
            word.store(value, Ordering::SeqCst);
        }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::SeqCst) {
            0 => State::Asleep,
            1 => State::Ready,
            2 => State::Running,
            3 => State::Hot,
            4 => State::Blocked,
            _ => State::Dead,
        }
    }

    /// Moves it from one state to another; `false` if it was not in the first.
    pub fn change(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn leave(&self, to: State) {
        self.state.store(to as u8, Ordering::SeqCst);
    }

    /// Packets completed.
    pub fn timeline(&self) -> u64 {
        self.timeline.load(Ordering::Acquire)
    }

    /// Whether commands of this queue are to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Wall time at which it last had work, ns.
    pub fn last_work(&self) -> u64 {
        self.last_work.load(Ordering::Relaxed)
    }

    /// Whether the producer has written more than was consumed. Only a hint unless the queue is claimed.
    pub fn has_work(&self) -> bool {
        self.doorbell() != self.consumed.load(Ordering::Relaxed)
    }

    /// A kick: makes a sleeping queue ready.
    pub fn kick(self: &Arc<Self>) {
        self.kicked.store(true, Ordering::SeqCst);
        if self.change(State::Asleep, State::Ready) {
            self.memory.status.u32(STATUS_ASLEEP).store(0, Ordering::SeqCst);
            Scheduler::get().ready(self.clone());
        }
    }

    /// Puts a hot queue to sleep, unless work came; `true` if it sleeps now. Only the poller calls it.
    pub fn try_sleep(self: &Arc<Self>) -> bool {
        if !self.change(State::Hot, State::Running) {
            return false;
        }
        self.kicked.store(false, Ordering::SeqCst);
        self.memory.status.u32(STATUS_ASLEEP).store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.has_work() {
            self.memory.status.u32(STATUS_ASLEEP).store(0, Ordering::SeqCst);
            self.leave(State::Hot);
            return false;
        }
        self.leave(State::Asleep);
        // A kick that came before the state changed found nobody to wake: wake it now.
        if self.kicked.load(Ordering::SeqCst) {
            self.kick();
        }
        true
    }

    /// The error, and the record that explains it. With `clear`, packets written until now are still cancelled, later ones run.
    pub fn take_error(self: &Arc<Self>, clear: bool) -> ErrorRecord {
        let record = *lock(&self.record);
        let Some(record) = record else { return ErrorRecord::zeroed() };
        if clear && self.state() != State::Dead {
            let mut cursor = lock(&self.cursor);
            cursor.cancel_until = self.doorbell();
            *lock(&self.record) = None;
            if let Some(failed) = lock(&self.failed).as_mut() {
                failed.last = self.timeline();
            }
            self.error.store(0, Ordering::SeqCst);
            self.memory.status.u32(STATUS_ERROR).store(0, Ordering::SeqCst);
        }
        record
    }

    /// Whether a wait for `value` ends with an error, because the packet it waits for was taken by one.
    fn failed_at(&self, value: u64) -> bool {
        lock(&self.failed).is_some_and(|f| value >= f.first && value <= f.last)
    }

    /// Puts the queue into error. Visible before the timeline advances over the packet.
    fn fail(&self, record: ErrorRecord) {
        let first = self.timeline() + 1;
        *lock(&self.failed) = Some(Failed { first, last: u64::MAX });
        *lock(&self.record) = Some(record);
        self.error.store(record.status, Ordering::SeqCst);
        if !self.is_dead() {
            self.memory.status.u32(STATUS_ERROR).store(record.status, Ordering::SeqCst);
        }
        if let Some(status) = Status::from_raw(record.status) {
            self.core.live.counters.xid(status.xid());
        }
        let end = record.rule.iter().position(|b| *b == 0).unwrap_or(record.rule.len());
        tracing::warn!(
            chip = self.core.hardware.chip,
            pid = self.context.owner.pid,
            queue = self.index,
            packet = record.value,
            "xid {}: {}: {}",
            record.xid,
            Status::from_raw(record.status).map_or("", Status::name),
            String::from_utf8_lossy(&record.rule[..end]),
        );
        self.core.events.post(self.vector, EventKind::QueueError, self.index, u64::from(record.status));
    }

    fn is_dead(&self) -> bool {
        self.state.load(Ordering::SeqCst) == State::Dead as u8 || self.cancel.load(Ordering::SeqCst)
    }

    /// Whether a DMA range touches the queue's memory.
    pub fn touches(&self, address: u64, length: u64) -> bool {
        self.memory.ranges.iter().any(|(a, l)| *a < address.saturating_add(length) && address < a + l)
    }

    /// Queues that waited for this one look again.
    fn wake_dependents(&self, all: bool) {
        let timeline = self.timeline();
        let mut woken = Vec::new();
        {
            let mut dependents = lock(&self.dependents);
            dependents.retain(|(value, queue)| {
                let due = all || *value <= timeline;
                if due {
                    woken.extend(queue.upgrade());
                }
                !due
            });
            self.has_dependents.store(!dependents.is_empty(), Ordering::SeqCst);
        }
        for queue in woken {
            if queue.change(State::Blocked, State::Ready) {
                Scheduler::get().ready(queue);
            }
        }
    }

    /// Tells its commands to stop; `destroy` follows.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
    }

    /// Ends the queue: cancels what runs, and returns once nothing touches its memory any more. `false` if a command did not stop in time.
    pub fn destroy(self: &Arc<Self>) -> bool {
        self.cancel();
        let start = Instant::now();
        let stopped = loop {
            let free = [State::Asleep, State::Ready, State::Hot, State::Blocked];
            if free.into_iter().any(|s| self.change(s, State::Dead)) || self.state() == State::Dead {
                break true;
            }
            if start.elapsed() > Duration::from_millis(50) {
                break false;
            }
            std::thread::sleep(Duration::from_micros(20));
        };
        self.wake_dependents(true);
        Scheduler::get().forget(self);
        self.set_doorbell(0);
        stopped
    }
}
