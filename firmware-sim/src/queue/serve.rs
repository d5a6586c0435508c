//! Serving a queue: packets in order, one after the other.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vmlu_abi::event::EventKind;
use vmlu_abi::packet::{self, PacketHeader};
use vmlu_abi::queue::{ARM_NONE, MAX_PACKET_UNITS, STATUS_CONSUMED, STATUS_TIMELINE, UNIT};
use vmlu_abi::status::{ErrorRecord, RULE_TEXT};
use vmlu_abi::{Status, Wire};

use super::command::{self, Outcome};
use super::{Cursor, Queue, State, lock};
use crate::clock::wall_ns;
use crate::kernels::env::Fault;
use crate::scheduler::Scheduler;

/// For how long a worker stays with one queue while others have work, ns.
const QUANTUM_NS: u64 = 1_000_000;

/// How a packet ended.
enum Step {
    /// Nothing more in the ring.
    Empty,
    /// One packet is done, well or not.
    Done,
    /// The packet waits for another queue.
    Blocked,
    /// The queue is stopped for good.
    Stopped,
}

impl Queue {
    /// Serves the queue, which the caller has moved to `Running`, and moves it on.
    pub fn serve(self: &Arc<Self>) {
        let scheduler = Scheduler::get();
        self.core.clock.begin();
        self.core.live.begin();
        let start = wall_ns();
        let mut packets = 0_u32;
        let next = loop {
            if self.is_cancelled() || self.core.is_gone() {
                break State::Dead;
            }
            match self.step() {
                Step::Empty => break State::Hot,
                Step::Blocked => break State::Blocked,
                Step::Stopped => break State::Dead,
                Step::Done => packets += 1,
            }
            if (packets.is_multiple_of(16) || wall_ns() - start > QUANTUM_NS) && scheduler.has_ready() && wall_ns() - start > QUANTUM_NS {
                break State::Ready;
            }
        };
        let now = wall_ns();
        self.last_work.store(now, Ordering::Relaxed);
        self.context.busy_ns.fetch_add(now - start, Ordering::Relaxed);
        self.core.live.end();
        self.core.clock.end();
        match next {
            // `step` has left `Running` already, before the queue could be woken.
            State::Blocked => {}
            State::Ready => {
                self.leave(State::Ready);
                scheduler.ready(self.clone());
            }
            State::Hot => {
                self.leave(State::Hot);
                scheduler.hot(self);
            }
            _ => {
                self.leave(State::Dead);
                self.wake_dependents(true);
            }
        }
    }

    fn step(self: &Arc<Self>) -> Step {
        let mut cursor = lock(&self.cursor);
        let cursor = &mut *cursor;
        let doorbell = self.doorbell();
        let available = doorbell.wrapping_sub(cursor.consumed);
        if available == 0 {
            return Step::Empty;
        }
        let consumed = cursor.consumed;
        let framing = |text: String| {
            self.fail(self.record(consumed, &PacketHeader::zeroed(), &Fault::new(Status::FramingError, text)));
            Step::Stopped
        };
        if available > self.ring_units {
            let ring = self.ring_units;
            return framing(format!("the doorbell says {doorbell} units, {consumed} were consumed and the ring has {ring}"));
        }
        self.copy_units(cursor.consumed, 1, &mut cursor.packet[..]);
        let Some(header) = PacketHeader::read_from(&cursor.packet[..]) else { return Step::Stopped };
        let units = u64::from(header.units);
        if units == 0 || units > MAX_PACKET_UNITS as u64 || units > available {
            return framing(format!("a packet of {units} units at {consumed} where {available} were written"));
        }
        if units > 1 {
            self.copy_units(cursor.consumed + 1, units - 1, &mut cursor.packet[UNIT..]);
        }

        let body = units as usize * UNIT;
        if self.error.load(Ordering::Relaxed) != 0 || cursor.consumed < cursor.cancel_until {
            self.core.live.counters.packets_failed.fetch_add(1, Ordering::Relaxed);
            if header.opcode == packet::op::NOTIFY {
                let _ = command::notify(self, &cursor.packet[16..body], cursor.busy_ns, Status::Cancelled);
            }
            self.complete(cursor, units);
            return Step::Done;
        }
        let outcome = command::run(self, &header, &cursor.packet[16..body], cursor.busy_ns, cursor.waited);
        match outcome {
            Ok(Outcome::Done { device_ns }) => {
                cursor.busy_ns += device_ns;
                self.core.clock.advance(device_ns);
                self.core.live.counters.packets.fetch_add(1, Ordering::Relaxed);
                self.context.packets.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Outcome::Wait { queue, value }) => {
                cursor.waited = true;
                self.leave(State::Blocked);
                lock(&queue.dependents).push((value, Arc::downgrade(self)));
                queue.has_dependents.store(true, Ordering::SeqCst);
                fence(Ordering::SeqCst);
                let ready = queue.timeline() >= value || queue.is_dead() || self.is_cancelled();
                // Ready after all: go on with it, unless a waker has taken the queue already.
                return if ready && self.change(State::Blocked, State::Running) { Step::Done } else { Step::Blocked };
            }
            Err(fault) => {
                self.core.live.counters.packets_failed.fetch_add(1, Ordering::Relaxed);
                if !self.is_cancelled() {
                    let record = self.record(cursor.consumed, &header, &fault);
                    self.fail(record);
                }
            }
        }
        self.complete(cursor, units);
        Step::Done
    }

    fn copy_units(&self, position: u64, units: u64, to: &mut [u8]) {
        let ring = self.memory.ring.bytes();
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

    /// Advances ring and timeline over a packet, and tells who waits for it.
    fn complete(&self, cursor: &mut Cursor, units: u64) {
        cursor.consumed += units;
        cursor.waited = false;
        self.consumed.store(cursor.consumed, Ordering::Relaxed);
        let timeline = self.timeline.load(Ordering::Relaxed) + 1;
        self.timeline.store(timeline, Ordering::Release);
        if self.is_cancelled() {
            return;
        }
        self.memory.status.u64(STATUS_CONSUMED).store(cursor.consumed, Ordering::Release);
        self.memory.status.u64(STATUS_TIMELINE).store(timeline, Ordering::Release);
        fence(Ordering::SeqCst);
        let arm = self.memory.arm.u64(0).load(Ordering::Acquire);
        if arm != ARM_NONE && timeline >= arm && cursor.signalled != arm {
            cursor.signalled = arm;
            self.core.events.post(self.vector, EventKind::Timeline, self.index, timeline);
        }
        if self.has_dependents.load(Ordering::SeqCst) {
            self.wake_dependents(false);
        }
    }

    fn record(&self, offset: u64, header: &PacketHeader, fault: &Fault) -> ErrorRecord {
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
            value: self.timeline() + 1,
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
