//! What a queue that ends leaves in its ring. The packets are counted as failed, so that of all packets that were ever submitted, none is
//! missing from the chip's counters: submitted = completed + failed.

use std::sync::atomic::Ordering;

use vmlu_abi::packet::PacketHeader;
use vmlu_abi::queue::{MAX_PACKET_UNITS, UNIT};
use vmlu_abi::Wire;

use super::{Queue, QueueMemory};

/// Packets in a ring, from a position in units on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    position: u64,
    packets: u64,
}

impl Left {
    /// How many of them are still there if the queue has come as far as `consumed`: when its memory has been taken out, a worker ends at
    /// most the one packet that it had fetched before.
    fn after(self, consumed: u64) -> u64 {
        self.packets
            .saturating_sub(u64::from(consumed != self.position))
    }
}

impl Queue {
    /// Counts the packets from the one at the cursor to the doorbell. Behind damage there are none.
    pub(super) fn left_in(&self, memory: &QueueMemory) -> Left {
        let position = self.front.consumed.load(Ordering::Relaxed);
        let doorbell = match &memory.doorbell {
            Some(word) => word.u64(0).load(Ordering::Acquire),
            None => self.doorbell(),
        };
        let mut left = Left {
            position,
            packets: 0,
        };
        let available = doorbell.wrapping_sub(position);
        if available > self.ring_units {
            return left;
        }
        let Some(ring) = &memory.ring else {
            return left;
        };
        let mut at = 0;
        let mut head = [0; size_of::<PacketHeader>()];
        while at < available {
            let unit = (position.wrapping_add(at) % self.ring_units) as usize;
            let Some(bytes) = ring.bytes().slice(unit * UNIT, head.len()) else {
                break;
            };
            bytes.copy_to(&mut head);
            let units = PacketHeader::read_from(&head).map_or(0, |h| u64::from(h.units));
            if units == 0 || units > MAX_PACKET_UNITS as u64 || units > available - at {
                break;
            }
            at += units;
            left.packets += 1;
        }
        left
    }

    /// The queue has ended: what it left counts as failed.
    pub(super) fn count_left(&self) {
        if let Some(left) = super::lock(&self.left).take() {
            let packets = left.after(self.front.consumed.load(Ordering::SeqCst));
            let counters = &self.core.live.counters;
            counters
                .packets_failed
                .fetch_add(packets, Ordering::Relaxed);
        }
    }
}
