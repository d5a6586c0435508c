//! One packet of a queue: fetched, run, its end shown to the host.

use std::sync::atomic::{fence, Ordering};
use std::sync::Arc;

use vmlu_abi::event::EventKind;
use vmlu_abi::packet::{self, PacketHeader};
use vmlu_abi::queue::{ARM_NONE, MAX_PACKET_UNITS, UNIT};
use vmlu_abi::status::{ErrorRecord, RULE_TEXT};
use vmlu_abi::{Status, Wire};

use super::blocked::Blocking;
use super::burst::show;
use super::command::{self, Outcome};
use super::copy::BRIEF;
use super::{lock, Cursor, Queue, QueueMemory};
use crate::kernels::env::Fault;

/// How a packet ended.
pub(super) enum Step {
    /// Nothing more in the ring.
    Empty,
    /// One packet is done, well or not. `long`: it may have taken a while.
    Done { long: bool },
    /// The packet waits for another queue.
    Blocked,
    /// The queue is stopped for good.
    Stopped,
}

/// A packet's head, as found in the ring.
enum Fetched {
    /// The packet stands in the cursor's copy.
    Packet(PacketHeader),
    /// Its head says that it has this many units, which cannot be.
    Damaged(u64),
    /// The queue has ended.
    Gone,
}

impl Queue {
    /// Takes the next packet through.
    pub(super) fn step(self: &Arc<Self>, cursor: &mut Cursor) -> Step {
        if cursor.replay.is_running() {
            return self.replay(cursor);
        }
        let available = self.available(cursor);
        if available == 0 {
            return Step::Empty;
        }
        let consumed = cursor.consumed;
        let framing = |text: String| {
            self.fail(
                self.record(
                    consumed,
                    &PacketHeader::zeroed(),
                    &Fault::new(Status::FramingError, text),
                ),
                true,
            );
            Step::Stopped
        };
        if self.ring_units == 0 {
            return self.follow_host(cursor);
        }
        if available > self.ring_units {
            let ring = self.ring_units;
            let doorbell = cursor.written;
            return framing(format!("the doorbell says {doorbell} units, {consumed} were consumed and the ring has {ring}"));
        }
        let header = match self.fetch(consumed, available, &mut cursor.packet) {
            Fetched::Packet(header) => header,
            Fetched::Damaged(units) => {
                return framing(format!(
                    "a packet of {units} units at {consumed} where {available} were written"
                ))
            }
            Fetched::Gone => return Step::Stopped,
        };
        let units = u64::from(header.units);
        let body = header.units as usize * UNIT;
        cursor.empty = header.opcode == packet::op::NOP;

        let error = self.timeline.error.load(Ordering::SeqCst);
        if error != 0 || consumed < self.cancel_until.load(Ordering::SeqCst) {
            self.core
                .live
                .counters
                .packets_failed
                .fetch_add(1, Ordering::Relaxed);
            if header.opcode == packet::op::NOTIFY {
                let status = Status::from_raw(error)
                    .filter(|s| *s != Status::Ok)
                    .unwrap_or(Status::Cancelled);
                let _ = command::notify_cancelled(
                    self,
                    &header,
                    &cursor.packet[size_of::<PacketHeader>()..body],
                    cursor.busy_ns,
                    status,
                );
            }
            // With the errors locked, so that who clears the error either counts this packet or sees it counted.
            let timeline = {
                let mut errors = lock(&self.timeline.errors);
                errors.cancel(self.timeline() + 1);
                self.advance(cursor, units)
            };
            self.publish(cursor, timeline);
            return Step::Done { long: false };
        }
        let padded = &cursor.packet[size_of::<PacketHeader>()..body];
        // A fault can make anything take long.
        let long = self.core.injector.is_armed()
            || (header.opcode >= packet::range::COPY.0
                && !in_range(header.opcode, packet::range::SYNC)
                && !is_brief_copy(&header, padded));
        let outcome = command::run(
            self,
            &header,
            padded,
            cursor.busy_ns,
            cursor.waited,
            &mut cursor.replay,
        );
        match outcome {
            Ok(Outcome::Done { device_ns }) => {
                cursor.busy_ns = cursor.busy_ns.wrapping_add(device_ns);
                self.core.clock.advance(device_ns);
                self.completed();
            }
            Ok(Outcome::Graph) => return self.replay(cursor),
            Ok(Outcome::Wait(awaited)) => {
                cursor.waited = true;
                match self.block(awaited) {
                    Blocking::Blocked => return Step::Blocked,
                    Blocking::Changed => return Step::Done { long: false },
                    Blocking::Circle(fault) => {
                        if !self.faulted(consumed, &header, &fault) {
                            return Step::Stopped;
                        }
                    }
                }
            }
            Err(fault) => {
                if !self.faulted(consumed, &header, &fault) {
                    return Step::Stopped;
                }
            }
        }
        let timeline = self.advance(cursor, units);
        self.publish(cursor, timeline);
        Step::Done { long }
    }

    /// Units that are to be consumed, as far as the card knows; it looks at the doorbell if it knows of none.
    #[inline]
    pub(super) fn available(&self, cursor: &mut Cursor) -> u64 {
        if cursor.written == cursor.consumed || self.ring_units == 0 {
            cursor.written = self.doorbell();
        }
        cursor.written.wrapping_sub(cursor.consumed)
    }

    /// Counts a packet that ended well.
    pub(super) fn completed(&self) {
        self.core
            .live
            .counters
            .packets
            .fetch_add(1, Ordering::Relaxed);
        self.context.packets.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts the queue into error over the packet at a position; `false` if it ends with it.
    pub(super) fn faulted(&self, consumed: u64, header: &PacketHeader, fault: &Fault) -> bool {
        if self.is_cancelled() || self.core.is_gone() {
            // The timeline stays: who waits for this command sees that the queue has ended before it. It is counted with what is
            // left in the ring.
            return false;
        }
        self.core
            .live
            .counters
            .packets_failed
            .fetch_add(1, Ordering::Relaxed);
        self.fail(self.record(consumed, header, fault), false);
        true
    }

    /// Advances a host timeline to what its producer says.
    fn follow_host(&self, cursor: &mut Cursor) -> Step {
        let doorbell = cursor.written;
        if doorbell < cursor.consumed {
            let text = format!(
                "a host timeline went back from {} to {doorbell}",
                cursor.consumed
            );
            let fault = Fault::new(Status::FramingError, text);
            self.fail(
                self.record(cursor.consumed, &PacketHeader::zeroed(), &fault),
                true,
            );
            return Step::Stopped;
        }
        cursor.consumed = doorbell;
        self.front.consumed.store(doorbell, Ordering::Relaxed);
        self.timeline.value.store(doorbell, Ordering::Release);
        self.publish(cursor, doorbell);
        Step::Done { long: false }
    }

    /// Copies the packet at a position out of the ring, once: its head, then as many units as that says.
    fn fetch(
        &self,
        position: u64,
        available: u64,
        to: &mut [u8; MAX_PACKET_UNITS * UNIT],
    ) -> Fetched {
        let fetched = self.memory(|memory| {
            self.copy_units(memory, position, 1, &mut to[..]);
            let header = PacketHeader::read_from(&to[..])?;
            let units = u64::from(header.units);
            if units == 0 || units > MAX_PACKET_UNITS as u64 || units > available {
                return Some(Fetched::Damaged(units));
            }
            if units > 1 {
                self.copy_units(memory, position.wrapping_add(1), units - 1, &mut to[UNIT..]);
            }
            Some(Fetched::Packet(header))
        });
        fetched.flatten().unwrap_or(Fetched::Gone)
    }

    fn copy_units(&self, memory: &QueueMemory, position: u64, units: u64, to: &mut [u8]) {
        let Some(ring) = memory.ring.as_ref().map(|r| r.bytes()) else {
            return;
        };
        let at = (position % self.ring_units) as usize;
        let first = (units as usize).min(self.ring_units as usize - at);
        let copy = |from: usize, to: &mut [u8]| {
            if let Some(part) = ring.slice(from, to.len()) {
                part.copy_to(to);
            }
        };
        let (head, tail) = to[..units as usize * UNIT].split_at_mut(first * UNIT);
        copy(at * UNIT, head);
        copy(0, tail);
    }

    /// Advances over a packet; the timeline's new value, which [`Queue::publish`] then shows the host.
    pub(super) fn advance(&self, cursor: &mut Cursor, units: u64) -> u64 {
        cursor.consumed = cursor.consumed.wrapping_add(units);
        if std::mem::take(&mut cursor.waited) {
            self.unblocked();
        }
        self.front
            .consumed
            .store(cursor.consumed, Ordering::Relaxed);
        let timeline = self.timeline.value.load(Ordering::Relaxed) + 1;
        self.timeline.value.store(timeline, Ordering::Release);
        timeline
    }

    /// Shows how far the queue has come, and tells who waits for it.
    pub(super) fn publish(&self, cursor: &mut Cursor, timeline: u64) {
        let consumed = cursor.consumed;
        let arm = self.memory(|memory| show(memory, consumed, timeline));
        let arm = arm.unwrap_or_else(|| {
            // Nothing was shown; queues that wait are still told.
            fence(Ordering::SeqCst);
            ARM_NONE
        });
        self.signal(cursor, timeline, arm);
    }

    /// Whether somebody is to be told of a value that was shown, by the arm word that was read after it.
    pub(super) fn is_awaited(&self, cursor: &Cursor, timeline: u64, arm: u64) -> bool {
        cursor.signalled.is_due(arm, timeline)
            || self.timeline.has_dependents.load(Ordering::SeqCst)
    }

    /// Tells who waits for a value that was shown.
    pub(super) fn signal(&self, cursor: &mut Cursor, timeline: u64, arm: u64) {
        if cursor.signalled.take(arm, timeline) {
            self.core
                .events
                .post(self.vector, EventKind::Timeline, self.index, timeline);
        }
        if self.timeline.has_dependents.load(Ordering::SeqCst) {
            self.timeline.wake_dependents(false);
        }
    }

    pub(super) fn record(&self, offset: u64, header: &PacketHeader, fault: &Fault) -> ErrorRecord {
        let mut rule = [0; RULE_TEXT];
        let mut end = fault.rule.len().min(RULE_TEXT - 1);
        while !fault.rule.is_char_boundary(end) {
            end -= 1;
        }
        rule[..end].copy_from_slice(&fault.rule.as_bytes()[..end]);
        let (nearest, nearest_length) = self.context.nearest(fault.address);
        ErrorRecord {
            status: fault.status.raw(),
            xid: fault.status.xid() as u32,
            context: self.context.handle,
            queue: self.handle,
            value: self.timeline().saturating_add(1),
            offset,
            correlation: header.correlation,
            opcode: header.opcode,
            operand: fault.operand,
            address: fault.address,
            nearest,
            nearest_length,
            device_ns: self.core.clock.now(),
            rule,
            ..ErrorRecord::zeroed()
        }
    }
}

/// Whether this is a copy of so few bytes that many of them fit between two looks at the time.
fn is_brief_copy(header: &PacketHeader, padded: &[u8]) -> bool {
    header.opcode == packet::op::COPY
        && header.flags == 0
        && packet::Copy::read_from(padded).is_some_and(|copy| copy.length <= BRIEF)
}

fn in_range(opcode: u16, range: (u16, u16)) -> bool {
    (range.0..=range.1).contains(&opcode)
}
