//! The producer's side of a queue, from `docs/hardware.md`, section 6. One thread uses it.

use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

use vmlu::abi::packet::{self, PacketHeader};
use vmlu::abi::queue::{STATUS_ASLEEP, STATUS_CONSUMED, STATUS_ERROR, STATUS_TIMELINE, UNIT};
use vmlu::abi::Wire;
use vmlu::transport::QueueMemory;
use vmlu::{Context, Result};

/// A queue, without any care for its user.
pub struct Producer {
    context: Context,
    memory: QueueMemory,
    units: u64,
    packets: u64,
}

impl Producer {
    /// Makes a queue.
    pub fn new(context: &Context, ring_units: u32, priority: u32) -> Result<Self> {
        let memory = context.channel().queue_create(ring_units, priority, 1)?;
        Ok(Self {
            context: context.clone(),
            memory,
            units: 0,
            packets: 0,
        })
    }

    /// Handle.
    pub fn handle(&self) -> u64 {
        self.memory.queue
    }

    /// Packets written: the timeline value of the last.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Whether so many units more fit the ring.
    pub fn has_room(&self, units: u64) -> bool {
        self.units + units - self.word(STATUS_CONSUMED) <= u64::from(self.memory.ring_units)
    }

    fn word(&self, offset: usize) -> u64 {
        // SAFETY: the status page is mapped until `destroy`, which takes `self`, and as long as the context, of which `self` has a handle;
        // the card writes its words atomically.
        unsafe { AtomicU64::from_ptr(self.memory.status.add(offset).cast_mut().cast()) }
            .load(Ordering::Acquire)
    }

    fn half(&self, offset: usize) -> u32 {
        // SAFETY: as for `word`.
        unsafe { AtomicU32::from_ptr(self.memory.status.add(offset).cast_mut().cast()) }
            .load(Ordering::Acquire)
    }

    /// The timeline.
    pub fn timeline(&self) -> u64 {
        self.word(STATUS_TIMELINE)
    }

    /// The error, 0 if there is none.
    pub fn error(&self) -> u32 {
        self.half(STATUS_ERROR)
    }

    /// Units that a packet with so many bytes of body takes.
    pub fn units_of(body: usize) -> u64 {
        ((size_of::<PacketHeader>() + body).div_ceil(UNIT)) as u64
    }

    /// Writes a packet, for which there is room; the card does not know of it yet.
    pub fn write(&mut self, opcode: u16, body: &[u8]) {
        let units = Self::units_of(body.len());
        let header = PacketHeader {
            opcode,
            version: packet::VERSION,
            units: units as u8,
            flags: 0,
            correlation: self.packets,
        };
        self.write_as(&header, body, units);
        self.packets += 1;
    }

    /// Writes a header and a body as they are, over so many units.
    pub fn write_as(&mut self, header: &PacketHeader, body: &[u8], units: u64) {
        assert!(self.has_room(units) && Self::units_of(body.len()) <= units);
        let mut bytes = [header.as_bytes(), body].concat();
        bytes.resize(units as usize * UNIT, 0);
        for (i, unit) in bytes.chunks_exact(UNIT).enumerate() {
            let at = (self.units + i as u64) % u64::from(self.memory.ring_units);
            // SAFETY: the unit lies in the ring, which is mapped as the status page is; the card does not read it before it is published.
            unsafe {
                let to = self.memory.ring.add(at as usize * UNIT);
                std::ptr::copy_nonoverlapping(unit.as_ptr(), to, UNIT);
            }
        }
        self.units += units;
    }

    /// Shows the card what was written.
    pub fn publish(&self) {
        self.ring_bell(self.units);
    }

    /// Writes the doorbell.
    pub fn ring_bell(&self, value: u64) {
        // SAFETY: as for `word`; doorbells are aligned words.
        unsafe { AtomicU64::from_ptr(self.memory.doorbell) }.store(value, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.half(STATUS_ASLEEP) != 0 {
            self.context.channel().kick();
        }
    }

    /// Units written so far.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// Destroys the queue, whatever it has to do.
    pub fn destroy(self) -> Result<()> {
        self.context.channel().queue_destroy(self.memory.queue)
    }
}
