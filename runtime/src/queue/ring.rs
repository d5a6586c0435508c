//! The producer's side of a queue's shared memory. See `docs/hardware.md`, section 6.

use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

use vmlu_abi::packet::PacketHeader;
use vmlu_abi::queue::{STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE, UNIT};
use vmlu_abi::Wire;

use crate::transport::QueueMemory;

/// Ring, doorbell and status page of one queue. One thread at a time writes.
pub(crate) struct Ring {
    memory: QueueMemory,
}

impl Ring {
    pub(crate) fn new(memory: QueueMemory) -> Self {
        Self { memory }
    }

    pub(crate) fn units(&self) -> u32 {
        self.memory.ring_units
    }

    fn status_u64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the status page is mapped as long as the queue exists, which owns `self`; the card writes its words atomically.
        unsafe { AtomicU64::from_ptr(self.memory.status.add(offset).cast_mut().cast::<u64>()) }
    }

    fn status_u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as for `status_u64`.
        unsafe { AtomicU32::from_ptr(self.memory.status.add(offset).cast_mut().cast::<u32>()) }
    }

    /// Units that the card has taken.
    pub(crate) fn consumed(&self) -> u64 {
        self.status_u64(STATUS_CONSUMED).load(Ordering::Acquire)
    }

    /// Packets that the card has completed.
    pub(crate) fn timeline(&self) -> u64 {
        self.status_u64(STATUS_TIMELINE).load(Ordering::Acquire)
    }

    /// The queue's error; 0 if there is none.
    pub(crate) fn error(&self) -> u32 {
        self.status_u32(STATUS_ERROR).load(Ordering::Acquire)
    }

    /// Writes a packet at a position in units; the ring has room for it.
    pub(crate) fn write(&self, position: u64, header: &PacketHeader, body: &[&[u8]]) {
        let ring_bytes = self.memory.ring_units as usize * UNIT;
        let mut at = (position % u64::from(self.memory.ring_units)) as usize * UNIT;
        let mut left = usize::from(header.units) * UNIT;
        let mut put = |bytes: &[u8]| {
            let mut bytes = bytes;
            while !bytes.is_empty() {
                let part = bytes.len().min(ring_bytes - at);
                // SAFETY: `at + part` lies within the ring, which is mapped as long as the queue exists; nobody makes references to it,
                // and the card does not read these units before they are published.
                unsafe {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.ring.add(at), part)
                };
                at = (at + part) % ring_bytes;
                left -= part;
                bytes = &bytes[part..];
            }
            left
        };
        let mut rest = put(header.as_bytes());
        for part in body {
            rest = put(part);
        }
        while rest > 0 {
            rest = put(&[0; UNIT][..rest.min(UNIT)]);
        }
    }

    /// Shows the card the units up to `end`; `true` if it sleeps and wants a kick.
    pub(crate) fn publish(&self, end: u64) -> bool {
        // SAFETY: the doorbell page is mapped as long as the queue exists; the word is aligned and only accessed atomically.
        let doorbell = unsafe { AtomicU64::from_ptr(self.memory.doorbell) };
        doorbell.store(end, Ordering::Release);
        fence(Ordering::SeqCst);
        self.status_u32(STATUS_ASLEEP).load(Ordering::Relaxed) != 0
    }
}
