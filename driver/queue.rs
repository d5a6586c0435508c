// SPDX-License-Identifier: GPL-2.0

//! Queues: their memory, their waiters. See `docs/hardware.md`, section 6.

mod calls;

use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        barrier, Arc, SpinLock,
    },
};

use crate::{
    abi::{
        event::EventKind,
        queue::{ARM_NONE, STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE, UNIT},
        status::Status,
    },
    arm::{Armed, Outcome},
    card::Card,
    context::{Area, Inner},
    ext::{
        shared::Shared,
        trace::{self, QueueTrace},
        vma::{Access, DeviceRange, FileMapping},
        wait::WaitQueue,
    },
    memory::CardMemory,
    quota::Charge,
    rpc::status_error,
    stream::{record, Stream},
};

/// A user-mode queue.
#[pin_data]
pub(crate) struct Queue {
    handle: u64,
    index: u32,
    context_index: u32,
    /// Process that opened the file.
    pid: u32,
    /// Of the file that made it.
    stream: Arc<Stream>,
    /// `None`: a host timeline.
    ring: Option<CardMemory>,
    status: CardMemory,
    /// The driver's alone: the value of which the card is to tell.
    arm: CardMemory,
    doorbell: Arc<DeviceRange>,
    _charge: Charge,
    ring_offset: u64,
    status_offset: u64,
    doorbell_offset: u64,
    /// Why the queue works no more; 0 while it does.
    ended: Atomic<u32>,
    /// Whom to tell of what.
    #[pin]
    armed: SpinLock<Armed>,
    #[pin]
    waiters: WaitQueue,
    /// Events of the card that were handled.
    signals: Atomic<u64>,
    /// Times that [`Self::rescue`] woke the waiters.
    rescues: Atomic<u64>,
    /// The error that stood in the status page with the last event.
    seen_error: Atomic<u32>,
    /// `signals` plus one when a reached value was found for which no event had come yet; see
    /// [`Self::rescue`].
    suspected: Atomic<u64>,
}

/// How a wait ended.
pub(crate) struct Waited {
    /// Whether the value was reached, or why it will not be.
    pub(crate) result: Result,
    /// The timeline.
    pub(crate) timeline: u64,
    /// The queue's error.
    pub(crate) error: u32,
}

impl Queue {
    /// Handle of the firmware.
    pub(crate) fn handle(&self) -> u64 {
        self.handle
    }

    /// Index on the card.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Index of its context on the card.
    pub(crate) fn context_index(&self) -> u32 {
        self.context_index
    }

    /// Packets completed.
    fn timeline(&self) -> u64 {
        self.status
            .pages()
            .load64(STATUS_TIMELINE)
            .unwrap_or_default()
    }

    /// The error that the card reports, or the reason why the driver ended the queue.
    fn error(&self) -> u32 {
        match self.ended.load(Acquire) {
            0 => self.status.pages().load32(STATUS_ERROR).unwrap_or_default(),
            ended => ended,
        }
    }

    /// A line about it.
    pub(crate) fn describe(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        let consumed = self.status.pages().load64(STATUS_CONSUMED);
        let asleep = self.status.pages().load32(STATUS_ASLEEP);
        let kind = if self.ring.is_some() { "card" } else { "host" };
        write!(
            f,
            "{:#x} index={} context_index={} pid={} {kind} consumed={} timeline={} error={} asleep={} signals={}",
            self.handle,
            self.index,
            self.context_index,
            self.pid,
            consumed.unwrap_or_default(),
            self.timeline(),
            self.error(),
            asleep.unwrap_or_default(),
            self.signals.load(Relaxed)
        )?;
        match self.armed.lock().word {
            ARM_NONE => writeln!(f, " armed=none"),
            word => writeln!(f, " armed={word}"),
        }
    }

    /// The packet that the card is at, or was at when it stopped: as many of its bytes as stand in
    /// one piece in the ring, at most a few.
    pub(crate) fn write_packet(&self, to: &mut dyn fmt::Write) -> fmt::Result {
        const MOST: usize = 4 * UNIT;
        let Some(ring) = &self.ring else {
            return Ok(());
        };
        let consumed = self.status.pages().load64(STATUS_CONSUMED);
        let at = consumed.unwrap_or_default() as usize % (ring.pages().len() / UNIT) * UNIT;
        let mut bytes = [0; MOST];
        let bytes = &mut bytes[..MOST.min(ring.pages().len() - at)];
        if ring.pages().copy_out(at, bytes).is_err() {
            return Ok(());
        }
        writeln!(to, "{:#x}", self.handle)?;
        for (line, bytes) in bytes.chunks(32).enumerate() {
            write!(to, "  {:04x}:", line * 32)?;
            for byte in bytes {
                write!(to, " {byte:02x}")?;
            }
            writeln!(to)?;
        }
        Ok(())
    }

    /// Whether a wait for `value` is over, and how. Does not sleep.
    fn look(&self, card: &Card, value: u64) -> Option<Result> {
        // In this order: the timeline may have moved on before the queue ended.
        let error = self.error();
        let alive = card.is_alive();
        if self.timeline() >= value {
            return Some(Ok(()));
        }
        if !alive {
            return Some(Err(ENODEV));
        }
        // Behind an ordinary error the timeline goes on, so that the wait ends by itself. A queue
        // that was stopped stands still.
        match Status::from_raw(error) {
            Some(status) if stops(status) => Some(Err(status_error(status))),
            _ => None,
        }
    }

    /// What has become of an armed value, if anything. Does not sleep.
    fn outcome(&self, card: &Card, value: u64) -> Option<Outcome> {
        // In this order, as in `look`.
        let error = self.error();
        let alive = card.is_alive();
        let timeline = self.timeline();
        if timeline >= value {
            Some(Outcome::Reached(timeline))
        } else if !alive {
            Some(Outcome::Failed(Status::DeviceLost.raw()))
        } else {
            (error != 0).then_some(Outcome::Failed(error))
        }
    }

    /// Asks the card for an event once the timeline has reached `value`.
    fn arm(&self, value: u64) {
        let mut armed = self.armed.lock();
        self.set_word(&mut armed, value, false);
        drop(armed);
        // The card writes the timeline, then reads the arm word; the caller reads the timeline
        // after this.
        barrier::smp_mb(barrier::Full);
    }

    /// Sets the arm word to `value`; unless `raise`, only if that makes it smaller.
    fn set_word(&self, armed: &mut Armed, value: u64, raise: bool) {
        if value < armed.word || raise && value != armed.word {
            armed.word = value;
            // The page is as large as a word.
            let _ = self.arm.pages().store64(0, value);
        }
    }

    /// Fires what is due, then asks the card for an event about the first of the rest; returns how
    /// many were fired.
    ///
    /// With `raise` the word forgets what sleeping threads wait for, so that they must be woken
    /// afterwards.
    fn settle(&self, card: &Card, raise: bool) -> u64 {
        let mut fired = 0;
        loop {
            let mut armed = self.armed.lock();
            let due = armed.take_due(|value| self.outcome(card, value));
            if let Some((due, outcome)) = due {
                drop(armed);
                due.fire(card.number(), self.handle, outcome);
                fired += 1;
                continue;
            }
            let first = armed.first();
            self.set_word(&mut armed, first, raise);
            drop(armed);
            // As in `arm`.
            barrier::smp_mb(barrier::Full);
            if first == ARM_NONE || self.outcome(card, first).is_none() {
                return fired;
            }
        }
    }

    /// An event came: what is due is fired, and all waiters look, and arm again if they must.
    pub(crate) fn signal(&self, card: &Card) {
        self.seen_error.store(self.error(), Relaxed);
        self.signals.fetch_add(1, Full);
        self.settle(card, true);
        self.waiters.wake_all();
    }

    /// The chip's state changed: everybody looks.
    pub(crate) fn wake_all(&self, card: &Card) {
        self.settle(card, true);
        self.waiters.wake_all();
    }

    /// Tells the file that has the queue of an event, if it wants to know.
    pub(crate) fn tell(&self, card: &Card, kind: EventKind, value: u64) {
        if self.stream.wants(kind) {
            self.stream
                .push(record(kind, card.number(), self.handle, value));
        }
    }

    /// Looks for an event that did not come: a value that somebody waits for was reached, and at
    /// the look before it was so already, with no event in between. Makes up for it, and counts
    /// whom that helped. Returns whether to look again soon.
    pub(crate) fn rescue(&self, card: &Card) -> bool {
        let word = self.armed.lock().word;
        let signals = self.signals.load(Acquire);
        let reached = self.timeline() >= word || self.error() != self.seen_error.load(Relaxed);
        if word == ARM_NONE || !reached {
            return false;
        }
        if self.suspected.xchg(signals + 1, Relaxed) != signals + 1 {
            return true;
        }
        self.rescues.fetch_add(1, Full);
        self.seen_error.store(self.error(), Relaxed);
        card.counters.rescued(self.settle(card, true));
        self.waiters.wake_all();
        false
    }

    /// Ends the queue: waiters get `status`.
    pub(crate) fn end(&self, card: &Card, status: Status) {
        let _ = self.ended.cmpxchg(0, status.raw(), Release);
        trace::queue(
            QueueTrace::Error,
            card.number(),
            self.handle,
            self.timeline(),
            status.raw(),
        );
        self.wake_all(card);
    }

    /// Waits until the timeline has reached `value`, at most until `deadline` (CLOCK_MONOTONIC, ns;
    /// `None` for ever).
    ///
    /// Fails only with `ERESTARTSYS`, after which the call can simply be made again.
    pub(crate) fn wait(&self, card: &Card, value: u64, deadline: Option<i64>) -> Result<Waited> {
        let result = match self.look(card, value) {
            Some(result) => result,
            None if deadline == Some(0) => Err(ETIME),
            None => {
                trace::queue(QueueTrace::Submission, card.number(), self.handle, value, 0);
                let mut before = (0, 0);
                let ended = self.waiters.wait_interruptible(deadline, || {
                    self.look(card, value).or_else(|| {
                        before = (self.signals.load(Acquire), self.rescues.load(Acquire));
                        self.arm(value);
                        self.look(card, value)
                    })
                });
                match ended {
                    Ok(result) => {
                        // No event since it slept, but somebody who looked for one that was lost.
                        let now = (self.signals.load(Acquire), self.rescues.load(Acquire));
                        if now.0 == before.0 && now.1 != before.1 {
                            card.counters.rescued(1);
                        }
                        result
                    }
                    Err(e) if e == ETIME => Err(ETIME),
                    Err(e) => return Err(e),
                }
            }
        };
        Ok(Waited {
            result,
            error: self.error(),
            timeline: self.timeline(),
        })
    }

    /// Takes the doorbell away from user space.
    pub(crate) fn revoke_doorbell(&self, file: &FileMapping) {
        self.doorbell.revoke(file, self.doorbell_offset);
    }

    /// Ends the card's mappings, when the card is known to leave them alone.
    pub(crate) fn detach(&self) {
        if let Some(ring) = &self.ring {
            ring.detach();
        }
        self.status.detach();
        self.arm.detach();
    }

    fn add_areas(&self, inner: &mut Inner) -> Result {
        if let Some(ring) = &self.ring {
            let ring = Area::Pages(ring.pages().clone(), Access::ReadWrite);
            inner.add_area(self.ring_offset, ring)?;
        }
        let status = Area::Pages(self.status.pages().clone(), Access::Read);
        inner.add_area(self.status_offset, status)?;
        inner.add_area(self.doorbell_offset, Area::Device(self.doorbell.clone()))
    }

    fn remove_areas(&self, inner: &mut Inner) {
        inner.remove_area(self.ring_offset);
        inner.remove_area(self.status_offset);
        inner.revoke(self.doorbell_offset, &self.doorbell);
    }
}

/// Whether a queue with this error stands still.
fn stops(status: Status) -> bool {
    matches!(
        status,
        Status::FramingError
            | Status::QueueDestroyed
            | Status::ContextStopped
            | Status::DeviceReset
            | Status::DeviceLost
    )
}
