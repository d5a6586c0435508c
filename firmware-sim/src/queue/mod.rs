//! A queue on the card's side: its ring, doorbell, status page, timeline and error.
//!
//! The protocol with the producer stands in `docs/hardware.md`, section 6. A queue is in one [`State`] at a time; whoever moves it to
//! `Running` owns its cursor until it moves it on.
//!
//! Ring, status page and arm word are the host's. Every access goes through [`Queue::memory`], whose lock is held for the access alone, never
//! while a command runs; a queue that ends takes the memory out, so that nothing touches it from then on, whatever a worker is doing. Only
//! the doorbell is read without that lock, since pollers look at those of many queues: its mapping lives as long as the queue, and what is
//! read of a queue that ends counts for nothing.
//!
//! Lock order: cursor, errors, then any one of memory, dependents, the tables of the core, an event ring, the scheduler's list.

mod blocked;
mod burst;
pub mod command;
pub mod copy;
mod copy_strided;
mod errors;
mod left;
mod replay;
mod serve;
mod step;
mod timeline;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vmlu_abi::event::EventKind;
use vmlu_abi::pci::{doorbell_page, doorbell_slot};
use vmlu_abi::queue::{STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE, UNIT};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::{Status, Wire};

pub use vmlu_protocol::sleep::State;
use vmlu_protocol::sleep::{Life, Producer, Rest};
use vmlu_protocol::wait::Signalled;

use crate::barrier;
use crate::context::Context;
use crate::core::Core;
use crate::memory::shared::SharedWord;
use crate::memory::words::HostWords;
use crate::scheduler::share::Share;
use crate::scheduler::{Gaps, Scheduler};

use blocked::Blocked;
use left::Left;
use replay::Replay;
pub use timeline::Timeline;

/// Host memory of a queue, with the DMA ranges it came from.
pub struct QueueMemory {
    /// The ring; a host timeline has none.
    pub ring: Option<HostWords>,
    /// The status page.
    pub status: HostWords,
    /// The arm word.
    pub arm: HostWords,
    /// The doorbell, if the host keeps it; else it is a word of BAR2.
    pub doorbell: Option<HostWords>,
    /// DMA address and bytes of each of the four; no bytes where there is none.
    pub ranges: [(u64, u64); 4],
}

/// The word in which the producer says how far it is.
enum Doorbell {
    /// Of BAR2.
    Card(SharedWord),
    /// Of the host's memory, which may be taken away while the queue exists.
    Host(HostWords),
}

/// What whoever looks for work reads of a queue, in one line of the processor's caches: a poller looks at all that are hot.
#[repr(align(64))]
struct Front {
    doorbell: Option<Doorbell>,
    /// Units consumed, as the cursor has it.
    consumed: AtomicU64,
    /// Wall time since which it has been empty, ns; 0 if it was left with work.
    last_work: AtomicU64,
    life: Life,
    /// Commands are to stop.
    cancel: AtomicBool,
}

const _: () = assert!(size_of::<Front>() == 64);

/// What the worker that serves a queue knows of it.
struct Cursor {
    /// Units consumed.
    consumed: u64,
    /// Units that the producer said it had written, when the doorbell was read last. Each read of it takes its line away from the producer,
    /// so that it is read again only when these are used up.
    written: u64,
    /// For which arm value an event was posted.
    signalled: Signalled,
    /// Device time for which the queue's commands ran, ns.
    busy_ns: u64,
    /// Whether the packet at the cursor was found waiting before.
    waited: bool,
    /// Whether the last packet was an empty command, so that the next may be one too.
    empty: bool,
    /// Private copy of a packet.
    packet: Box<[u8; 4096]>,
    /// The graph that the packet at the cursor runs.
    replay: Replay,
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
    /// `None` once the queue has ended.
    memory: Mutex<Option<QueueMemory>>,
    front: Front,
    /// 0: a host timeline, whose doorbell is its timeline.
    ring_units: u64,
    /// Where the ring begins, for hints to the processor alone; 0 if there is none.
    ring_hint: usize,
    vector: u32,
    cursor: Mutex<Cursor>,
    timeline: Arc<Timeline>,
    /// What it waits for while it is `Blocked`.
    blocked: Blocked,
    /// Up to this position packets are cancelled.
    cancel_until: AtomicU64,
    /// What it has of the workers' time.
    pub share: Share,
    /// Gaps between its commands.
    pub gaps: Gaps,
    /// Whether it is in the scheduler's list of hot queues; changes with that locked.
    pub listed: AtomicBool,
    /// What was in the ring when the memory was taken out.
    left: Mutex<Option<Left>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Queue {
    /// A queue that sleeps, with a cleared status page and doorbell.
    pub fn new(
        handle: u64,
        core: Arc<Core>,
        context: Arc<Context>,
        memory: QueueMemory,
        ring_units: u32,
        vector: u32,
        share: Share,
    ) -> Self {
        let index = handle as u32;
        for offset in [STATUS_CONSUMED, STATUS_TIMELINE] {
            memory.status.u64(offset).store(0, Ordering::Relaxed);
        }
        memory.status.u32(STATUS_ERROR).store(0, Ordering::Relaxed);
        memory.status.u32(STATUS_ASLEEP).store(1, Ordering::SeqCst);
        if let Some(doorbell) = &memory.doorbell {
            doorbell.u64(0).store(0, Ordering::SeqCst);
        }
        let timeline = Arc::new(Timeline::new(core.hardware.serial, core.hardware.chip));
        let slot = doorbell_page(index) + doorbell_slot(index);
        let word = SharedWord::new(core.hardware.doorbells.clone(), slot);
        if let Some(word) = &word {
            word.get().store(0, Ordering::SeqCst);
        }
        let own = memory.doorbell.clone().map(Doorbell::Host);
        let ring = memory.ring.as_ref();
        let ring_hint = ring.map_or(0, |ring| ring.first() as usize);
        Self {
            handle,
            index,
            core,
            context,
            front: Front {
                doorbell: own.or(word.map(Doorbell::Card)),
                consumed: AtomicU64::new(0),
                last_work: AtomicU64::new(0),
                life: Life::new(),
                cancel: AtomicBool::new(false),
            },
            memory: Mutex::new(Some(memory)),
            ring_units: u64::from(ring_units),
            ring_hint,
            vector,
            cursor: Mutex::new(Cursor {
                consumed: 0,
                written: 0,
                signalled: Signalled::new(),
                busy_ns: 0,
                waited: false,
                empty: false,
                packet: Box::new([0; 4096]),
                replay: Replay::default(),
            }),
            timeline,
            blocked: Blocked::default(),
            cancel_until: AtomicU64::new(0),
            share,
            gaps: Gaps::default(),
            listed: AtomicBool::new(false),
            left: Mutex::new(None),
        }
    }

    /// Units that the producer says it has written. A doorbell that went with the queue's memory says that there is nothing to do.
    pub fn doorbell(&self) -> u64 {
        match &self.front.doorbell {
            Some(Doorbell::Card(word)) => return word.get().load(Ordering::Acquire),
            Some(Doorbell::Host(words)) => {
                let value = words.u64(0).load(Ordering::Acquire);
                // In this order: the flag is set before the memory is taken away.
                if !self.is_cancelled() {
                    return value;
                }
            }
            None => {}
        }
        self.front.consumed.load(Ordering::Relaxed)
    }

    /// Accesses the queue's host memory; `None` if the queue has ended.
    fn memory<T>(&self, access: impl FnOnce(&QueueMemory) -> T) -> Option<T> {
        lock(&self.memory).as_ref().map(access)
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.front.life.state()
    }

    /// Moves it from one state to another; `false` if it was not in the first.
    pub fn change(&self, from: State, to: State) -> bool {
        self.front.life.change(from, to)
    }

    /// Packets completed.
    pub fn timeline(&self) -> u64 {
        self.timeline.value()
    }

    /// Its timeline, for those who wait for it.
    pub fn shared_timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// Vector of its events.
    pub fn vector(&self) -> u32 {
        self.vector
    }

    /// Whether commands of this queue are to stop.
    pub fn is_cancelled(&self) -> bool {
        self.front.cancel.load(Ordering::Relaxed)
    }

    /// Wall time since which it has been empty, ns.
    pub fn last_work(&self) -> u64 {
        self.front.last_work.load(Ordering::Relaxed)
    }

    /// Whether the producer has written more than was consumed. Only a hint unless the queue is claimed.
    pub fn has_work(&self) -> bool {
        self.doorbell() != self.front.consumed.load(Ordering::Relaxed)
    }

    /// Has the processor fetch the unit behind those that were consumed.
    #[inline]
    pub fn prefetch(&self) {
        let units = self.front.consumed.load(Ordering::Relaxed);
        if self.ring_hint != 0 {
            let unit = (units & (self.ring_units - 1)) as usize;
            crate::memory::words::prefetch(self.ring_hint.wrapping_add(unit * UNIT));
        }
    }

    /// A kick: makes a sleeping queue ready.
    pub fn kick(self: &Arc<Self>) {
        if self.front.life.kick() {
            self.set_asleep(false);
            Scheduler::get().ready(self.clone());
        }
    }

    /// Puts those of some queues to sleep that are hot and have no work, with one barrier for all.
    pub fn rest<'a>(queues: impl Iterator<Item = &'a Arc<Self>>) {
        let begun: Vec<_> = queues.filter(|q| q.front.life.begin_rest(&***q)).collect();
        if begun.is_empty() {
            return;
        }
        let passed = barrier::pass();
        for queue in begun {
            if queue.front.life.finish_rest(&**queue, passed) == Rest::Kicked {
                Scheduler::get().ready(queue.clone());
            }
        }
    }

    /// The error, and the record that explains it. With `clear`, packets written until now are still cancelled, later ones run.
    pub fn take_error(&self, clear: bool) -> ErrorRecord {
        let mut errors = lock(&self.timeline.errors);
        let Some(record) = errors.record() else {
            return ErrorRecord::zeroed();
        };
        if clear && errors.clear(self.timeline()) {
            // Before the error is taken away: who finds none finds this.
            let end = self
                .front
                .consumed
                .load(Ordering::Relaxed)
                .saturating_add(self.ring_units);
            self.cancel_until
                .store(self.doorbell().min(end), Ordering::SeqCst);
            self.timeline.error.store(0, Ordering::SeqCst);
            self.memory(|m| m.status.u32(STATUS_ERROR).store(0, Ordering::SeqCst));
        }
        record
    }

    /// Puts the queue into error, for good if `stopped`. Visible before the timeline advances over the packet.
    fn fail(&self, record: ErrorRecord, stopped: bool) {
        {
            let mut errors = lock(&self.timeline.errors);
            errors.begin(self.timeline().saturating_add(1), record, stopped);
            self.timeline.error.store(record.status, Ordering::SeqCst);
            self.memory(|m| {
                m.status
                    .u32(STATUS_ERROR)
                    .store(record.status, Ordering::SeqCst)
            });
        }
        if let Some(status) = Status::from_raw(record.status) {
            let (context, pid) = (self.context.index(), self.context.owner.pid);
            self.core.report(status.xid(), context, pid, status);
        }
        if let Some(suppressed) = self.core.log.allow() {
            let end = record
                .rule
                .iter()
                .position(|b| *b == 0)
                .unwrap_or(record.rule.len());
            tracing::warn!(
                chip = self.core.hardware.chip,
                pid = self.context.owner.pid,
                queue = self.index,
                packet = record.value,
                suppressed,
                "xid {}: {}: {}",
                record.xid,
                Status::from_raw(record.status).map_or("", Status::name),
                String::from_utf8_lossy(&record.rule[..end]),
            );
        }
        self.core.events.post(
            self.vector,
            EventKind::QueueError,
            self.index,
            u64::from(record.status),
        );
    }

    /// Whether a DMA range touches the queue's memory.
    pub fn touches(&self, address: u64, length: u64) -> bool {
        let end = address.saturating_add(length);
        self.memory(|m| {
            m.ranges
                .iter()
                .any(|(a, l)| *a < end && address < a.saturating_add(*l))
        })
        .unwrap_or(false)
    }

    /// Tells its commands to stop, and lets go of its host memory; `destroy` follows. Waits for nothing.
    pub fn cancel(&self) {
        self.front.cancel.store(true, Ordering::SeqCst);
        self.timeline.destroy();
        let memory = lock(&self.memory).take();
        if let Some(memory) = &memory {
            *lock(&self.left) = Some(self.left_in(memory));
        }
        drop(memory);
    }

    /// Ends the queue: cancels what runs, and waits until it has stopped; `false` if it did not until `deadline`. Ring, status page and arm
    /// word are not touched any more in either case.
    pub fn destroy(self: &Arc<Self>, deadline: Instant) -> bool {
        self.cancel();
        let stopped = loop {
            let free = [State::Asleep, State::Ready, State::Hot, State::Blocked];
            if free.into_iter().any(|s| self.change(s, State::Dead)) || self.state() == State::Dead
            {
                break true;
            }
            if Instant::now() > deadline {
                break false;
            }
            std::thread::sleep(Duration::from_micros(20));
        };
        self.count_left();
        self.timeline.wake_dependents(true);
        Scheduler::get().forget(self);
        stopped
    }
}

impl Producer for Queue {
    fn set_asleep(&self, asleep: bool) {
        self.memory(|m| {
            m.status
                .u32(STATUS_ASLEEP)
                .store(u32::from(asleep), Ordering::SeqCst)
        });
    }

    fn has_work(&self) -> bool {
        Queue::has_work(self)
    }
}
