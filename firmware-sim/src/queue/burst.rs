//! Runs of empty commands, taken through many at a time: what a command costs beyond its work is here.
//!
//! The queue's memory is locked once for a run, the doorbell is read when what it said last is used up, and completions are shown in
//! groups: every store to the status page takes a line away from the core that polls it, and every group needs a full fence.

use std::sync::atomic::Ordering;

use vmlu_abi::packet::{op, VERSION};
use vmlu_abi::queue::{STATUS_CONSUMED, STATUS_TIMELINE, UNIT};

use super::{lock, Cursor, Queue, QueueMemory};
use crate::memory::bytes::Bytes;

/// Most commands whose completions are shown together, when the next packet is already there: well under 0.5 us.
const GROUP: u64 = 8;
/// Most commands of a run, between two looks at whether the queue is to stop.
pub(super) const RUN: u64 = 64;

/// Pauses before the doorbell of a stream is read again when all that it said is done: each read takes the line away from the producer, whose
/// next store then waits for it, and all its stores behind that one. Together about 0.2 us, in which the producer writes a group.
const PAUSES: u32 = 16;

/// The first word of an empty command's packet: opcode, version, one unit, no flags.
const EMPTY: u64 = op::NOP as u64 | (VERSION as u64) << 16 | 1 << 24;

/// How a run ended.
pub(super) enum Burst {
    /// After so many commands, at least one; there may be more.
    Ran(u64),
    /// There is nothing in the ring.
    Empty,
    /// At a packet that is none of its business.
    Other,
}

impl Queue {
    /// Takes a run of empty commands through.
    pub(super) fn burst(&self, cursor: &mut Cursor) -> Burst {
        // Only this worker can put the queue into error, and only an error can be cleared: this holds for the whole run.
        if self.ring_units == 0
            || self.timeline.error.load(Ordering::SeqCst) != 0
            || cursor.consumed < self.cancel_until.load(Ordering::SeqCst)
        {
            return Burst::Other;
        }
        let mut ran = 0;
        let (end, shown) = {
            let memory = lock(&self.memory);
            let Some(memory) = memory.as_ref() else {
                return Burst::Other;
            };
            let Some(ring) = memory.ring.as_ref().map(|r| r.bytes()) else {
                return Burst::Other;
            };
            self.run(cursor, memory, &ring, &mut ran)
        };
        if let Some((timeline, arm)) = shown {
            self.signal(cursor, timeline, arm);
        }
        if ran > 0 {
            Burst::Ran(ran)
        } else {
            end
        }
    }

    /// The run itself, and what was shown last: the timeline, and the arm word read after it. It ends early when somebody is to be told.
    fn run(
        &self,
        cursor: &mut Cursor,
        memory: &QueueMemory,
        ring: &Bytes<'_>,
        ran: &mut u64,
    ) -> (Burst, Option<(u64, u64)>) {
        let mut shown = None;
        loop {
            let available = self.available(cursor);
            if available == 0 {
                return (Burst::Empty, shown);
            }
            if available > self.ring_units || *ran >= RUN {
                return (Burst::Other, shown);
            }
            // A value that somebody waits for ends a group.
            let arm = memory.arm.u64(0).load(Ordering::Relaxed);
            let ahead = arm.saturating_sub(self.timeline());
            let wanted = available
                .min(GROUP)
                .min(if ahead > 0 { ahead } else { GROUP });
            let mut done = 0;
            // The injector is looked at for each packet: who arms it before ringing the doorbell finds it armed.
            while done < wanted
                && !self.core.injector.is_armed()
                && is_empty(ring, cursor.consumed.wrapping_add(done) % self.ring_units)
            {
                done += 1;
            }
            if done > 0 {
                *ran += done;
                let (timeline, arm) = self.complete_empty(cursor, memory, done);
                shown = Some((timeline, arm));
                if self.is_awaited(cursor, timeline, arm) {
                    return (Burst::Other, shown);
                }
            }
            if done < wanted {
                return (Burst::Other, shown);
            }
            if done == available && *ran > GROUP {
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
            }
        }
    }

    /// Advances over empty commands and shows it; the timeline and the arm word.
    fn complete_empty(&self, cursor: &mut Cursor, memory: &QueueMemory, count: u64) -> (u64, u64) {
        let device_ns = self.core.hardware.model.launch_ns * count;
        cursor.busy_ns = cursor.busy_ns.wrapping_add(device_ns);
        self.core.clock.advance(device_ns);
        let counters = &self.core.live.counters;
        counters.packets.fetch_add(count, Ordering::Relaxed);
        self.context.packets.fetch_add(count, Ordering::Relaxed);
        cursor.consumed = cursor.consumed.wrapping_add(count);
        cursor.waited = false;
        self.front
            .consumed
            .store(cursor.consumed, Ordering::Relaxed);
        let timeline = self.timeline.value.load(Ordering::Relaxed) + count;
        self.timeline.value.store(timeline, Ordering::Release);
        (timeline, show(memory, cursor.consumed, timeline))
    }
}

/// Writes the status page and then reads the arm word.
pub(super) fn show(memory: &QueueMemory, consumed: u64, timeline: u64) -> u64 {
    vmlu_protocol::wait::complete(
        memory.status.u64(STATUS_CONSUMED),
        memory.status.u64(STATUS_TIMELINE),
        memory.arm.u64(0),
        consumed,
        timeline,
    )
}

/// Whether an empty command without flags stands at a unit of the ring, by one private copy of it.
fn is_empty(ring: &Bytes<'_>, unit: u64) -> bool {
    let mut copy = [0; UNIT];
    let Some(bytes) = ring.slice(unit as usize * UNIT, UNIT) else {
        return false;
    };
    bytes.copy_to(&mut copy);
    let (words, _) = copy.as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    // Word 1 is the submitter's mark.
    word(0) == EMPTY && (2..UNIT / 8).fold(0, |all, at| all | word(at)) == 0
}
