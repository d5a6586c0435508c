//! The producer's side of a queue's shared memory. See `docs/hardware.md`, section 6.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vmlu_abi::packet::{PacketHeader, VERSION};
use vmlu_abi::queue::{STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE, UNIT};
use vmlu_protocol::submit::{publish, Barrier};

use crate::transport::QueueMemory;

/// Ring, doorbell and status page of one queue. One thread at a time writes.
pub(crate) struct Ring {
    memory: QueueMemory,
    barrier: Barrier,
}

impl Ring {
    /// The memory of a queue, whose ring has a power of two of units, or of a host timeline, which has none.
    pub(crate) fn new(memory: QueueMemory, barrier: Barrier) -> Self {
        assert!(memory.ring_units == 0 || memory.ring_units.is_power_of_two());
        Self { memory, barrier }
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

    /// Writes a packet at a position in units; the ring has room for it. Whole units are written, what the body leaves of the last is zero.
    #[inline]
    pub(crate) fn write(&self, position: u64, header: [u64; HEADER], body: &[&[u8]]) {
        match body {
            [] => self.write_words(position, header, &[]),
            [body] if body.len() <= UNIT - size_of::<PacketHeader>() => {
                match body.as_chunks::<8>() {
                    (words, []) => self.write_words(position, header, words),
                    _ => self.write_pieces(position, header, &[body]),
                }
            }
            pieces => self.write_pieces(position, header, pieces),
        }
    }

    /// Writes a packet of one unit, word by word: put together on the stack first and copied from there, it would wait for what was stored
    /// before it to be out of the processor's way, the last doorbell included.
    #[inline]
    fn write_words(&self, position: u64, header: [u64; HEADER], body: &[[u8; 8]]) {
        const WORDS: usize = UNIT / 8;
        let place = self.place(position).cast::<u64>();
        let [first, second] = header;
        // SAFETY: the place is a unit of the ring, of 8 aligned words, and the body has at most as many as the header leaves; it is mapped as
        // long as the queue exists, nobody makes references to it, and the card does not read it before it is published.
        unsafe {
            place.write(first);
            place.add(1).write(second);
            if body.is_empty() {
                place.add(HEADER).write_bytes(0, WORDS - HEADER);
            } else {
                for at in HEADER..WORDS {
                    let word = body.get(at - HEADER).map_or(0, |b| u64::from_le_bytes(*b));
                    place.add(at).write_volatile(word);
                }
            }
        }
        prefetch(self.place(position.wrapping_add(AHEAD)));
    }

    fn write_pieces(&self, position: u64, header: [u64; HEADER], body: &[&[u8]]) {
        let mut writer = Writer {
            ring: self,
            at: position,
            unit: [0; UNIT],
            filled: size_of::<PacketHeader>(),
        };
        let (words, _) = writer.unit.as_chunks_mut::<8>();
        for (place, word) in words.iter_mut().zip(header) {
            *place = word.to_le_bytes();
        }
        for part in body {
            writer.put(part);
        }
        // The header fills a part of the first unit, so that one is always begun.
        if writer.filled > 0 {
            self.store(writer.at, &writer.unit);
        }
    }

    /// The first byte of the unit at a position.
    #[inline]
    fn place(&self, position: u64) -> *mut u8 {
        let mask = u64::from(self.memory.ring_units).checked_sub(1);
        let at = (position & mask.expect("a host timeline has no ring")) as usize * UNIT;
        // SAFETY: the ring has a power of two of units, and `at` is the start of one of them.
        unsafe { self.memory.ring.add(at) }
    }

    /// Writes one unit.
    #[inline]
    fn store(&self, position: u64, unit: &[u8; UNIT]) {
        // SAFETY: the place is a unit of the ring, which is mapped as long as the queue exists; nobody makes references to it, and the card
        // does not read the unit before it is published.
        unsafe { std::ptr::copy_nonoverlapping(unit.as_ptr(), self.place(position), UNIT) };
    }

    /// Shows the card the units up to `end`; `true` if it sleeps and wants a kick.
    #[inline]
    pub(crate) fn publish(&self, end: u64) -> bool {
        // SAFETY: the doorbell page is mapped as long as the queue exists; the word is aligned and only accessed atomically.
        let doorbell = unsafe { AtomicU64::from_ptr(self.memory.doorbell) };
        publish(doorbell, self.status_u32(STATUS_ASLEEP), end, self.barrier)
    }
}

/// How many units ahead of a packet the ring is fetched for writing: the card has the line of the last round, and giving it up takes longer
/// than writing a packet.
const AHEAD: u64 = 8;

/// Fetches a line of memory that is about to be written.
#[inline]
fn prefetch(place: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_ET0};
        // SAFETY: a hint, which accesses nothing and is allowed at any address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(place.cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Words of a packet's header.
const HEADER: usize = size_of::<PacketHeader>() / 8;

/// A packet's header by words, without flags.
#[inline]
pub(crate) fn header(opcode: u16, units: u8, correlation: u64) -> [u64; HEADER] {
    let head = u64::from(opcode) | u64::from(VERSION) << 16 | u64::from(units) << 24;
    [head, correlation]
}

/// Fills units and writes them.
struct Writer<'a> {
    ring: &'a Ring,
    at: u64,
    /// Zero behind what is filled.
    unit: [u8; UNIT],
    filled: usize,
}

impl Writer<'_> {
    #[inline]
    fn put(&mut self, mut bytes: &[u8]) {
        if self.filled > 0 && bytes.len() >= UNIT - self.filled {
            let (head, rest) = bytes.split_at(UNIT - self.filled);
            self.unit[self.filled..].copy_from_slice(head);
            self.ring.store(self.at, &self.unit);
            (self.at, self.filled, self.unit) = (self.at + 1, 0, [0; UNIT]);
            bytes = rest;
        }
        if self.filled == 0 {
            let (units, rest) = bytes.as_chunks::<UNIT>();
            for unit in units {
                self.ring.store(self.at, unit);
                self.at += 1;
            }
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.unit[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
            self.filled += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmlu_abi::Wire;

    use super::*;

    proptest! {
        /// Whatever the pieces, the packet is header and body with zeros behind, wherever it wraps, and nothing else is touched.
        #[test]
        fn packets_stand_in_the_ring_as_they_are(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..5),
            position in 0..300_u64,
        ) {
            const UNITS: usize = 128;
            let mut memory = vec![0xa5_u8; UNITS * UNIT];
            let ring = Ring::new(
                QueueMemory {
                    queue: 0,
                    ring: memory.as_mut_ptr(),
                    ring_units: UNITS as u32,
                    doorbell: std::ptr::null_mut(),
                    status: std::ptr::null(),
                },
                Barrier::Full,
            );
            let body = parts.concat();
            let units = vmlu_abi::packet::units_for(body.len()).unwrap();
            let head = PacketHeader { opcode: 7, version: 1, units, flags: 0, correlation: 99 };
            let pieces: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            ring.write(position, header(7, units, 99), &pieces);
            let mut expected = vec![0xa5_u8; UNITS * UNIT];
            let mut packet = [head.as_bytes(), &body].concat();
            packet.resize(usize::from(units) * UNIT, 0);
            for (i, unit) in packet.chunks(UNIT).enumerate() {
                let at = (position as usize + i) % UNITS * UNIT;
                expected[at..at + UNIT].copy_from_slice(unit);
            }
            prop_assert!(memory == expected);
        }
    }
}
