//! The producer's path: a packet is written into the ring and the doorbell is rung.

use vmlu_abi::packet::{self, op};
use vmlu_abi::Status;
use vmlu_ops::Descriptor;
use vmlu_protocol::room::Room;

use super::ring::header;
use super::{Queue, QueueInner, SPINS};
use crate::error::{Error, Result};

/// What the one thread that submits knows.
pub(super) struct Producer {
    room: Room,
    /// Units that the card was shown.
    published: u64,
    /// Packets written: the timeline value of the last one.
    packets: u64,
    /// Mark for the next packet's error records and traces.
    pub(super) correlation: u64,
}

impl Producer {
    pub(super) fn new(ring_units: u32) -> Self {
        Self {
            room: Room::new(ring_units),
            published: 0,
            packets: 0,
            correlation: 0,
        }
    }

    /// Packets written.
    pub(super) fn packets(&self) -> u64 {
        self.packets
    }
}

/// Several commands for one doorbell; see [`Queue::batch`].
pub struct Batch<'a> {
    queue: &'a Queue,
}

impl Queue {
    /// Submits a command with its body as it stands in the packet; its timeline value. Blocks while the ring is full. The card checks the
    /// body: this is the way to reach what has no wrapper.
    /// On a queue that is being captured the command becomes part of the graph; see [`Queue::begin_capture`].
    pub fn submit_raw(&self, opcode: u16, body: &[u8]) -> Result<u64> {
        self.submit_pieces(opcode, &[body])
    }

    /// As [`Queue::submit_raw`], with a body that stands in pieces.
    pub(crate) fn submit_pieces(&self, opcode: u16, body: &[&[u8]]) -> Result<u64> {
        self.enqueue(opcode, body, Doorbell::Now)
    }

    fn enqueue(&self, opcode: u16, body: &[&[u8]], doorbell: Doorbell) -> Result<u64> {
        if self.is_capturing()
            && let Some(captured) = self.capture(opcode, body)
        {
            return captured;
        }
        self.inner.enqueue(opcode, body, doorbell)
    }

    fn try_enqueue(&self, opcode: u16, body: &[&[u8]], doorbell: Doorbell) -> Result<u64> {
        if self.is_capturing()
            && let Some(captured) = self.capture(opcode, body)
        {
            return captured;
        }
        match self.inner.try_enqueue(opcode, body, doorbell)? {
            Enqueued::As(value) => Ok(value),
            Enqueued::Full { .. } => Err(would_block()),
        }
    }

    /// As [`Queue::submit_raw`], but never blocks.
    ///
    /// # Errors
    ///
    /// `Status::NotReady` if the ring is full; nothing was submitted then.
    pub fn try_submit_raw(&self, opcode: u16, body: &[u8]) -> Result<u64> {
        self.try_enqueue(opcode, &[body], Doorbell::Now)
    }

    /// Submits an operator; its timeline value. Its rules are checked here first.
    pub fn submit<D: Descriptor>(&self, descriptor: &D) -> Result<u64> {
        check(descriptor)?;
        self.submit_raw(D::OPCODE, descriptor.as_bytes())
    }

    /// As [`Queue::submit`], but never blocks: `Status::NotReady` if the ring is full.
    pub fn try_submit<D: Descriptor>(&self, descriptor: &D) -> Result<u64> {
        check(descriptor)?;
        self.try_submit_raw(D::OPCODE, descriptor.as_bytes())
    }

    /// Submits several commands and rings the doorbell once, when `fill` returns, whether well or not. The card may begin earlier: when the
    /// ring becomes full, when another thread submits to the queue, and when anybody waits for it. Commands that other threads submit
    /// meanwhile stand between those of the batch.
    ///
    /// ```
    /// # fn main() -> vmlu::Result<()> {
    /// # let queue = vmlu::Context::open(0)?.queue()?;
    /// let last = queue.batch(|batch| {
    ///     for _ in 0..99 {
    ///         batch.nop()?;
    ///     }
    ///     batch.nop()
    /// })?;
    /// queue.wait(last)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch<T>(&self, fill: impl FnOnce(&Batch<'_>) -> Result<T>) -> Result<T> {
        // Dropped, it rings the doorbell, also if `fill` panics.
        let batch = Batch { queue: self };
        fill(&batch)
    }
}

impl Batch<'_> {
    /// As [`Queue::submit_raw`], without the doorbell.
    pub fn submit_raw(&self, opcode: u16, body: &[u8]) -> Result<u64> {
        self.queue.enqueue(opcode, &[body], Doorbell::Later)
    }

    /// As [`Queue::try_submit_raw`], without the doorbell unless the ring is full.
    pub fn try_submit_raw(&self, opcode: u16, body: &[u8]) -> Result<u64> {
        self.queue.try_enqueue(opcode, &[body], Doorbell::Later)
    }

    /// As [`Queue::submit`], without the doorbell.
    pub fn submit<D: Descriptor>(&self, descriptor: &D) -> Result<u64> {
        check(descriptor)?;
        self.submit_raw(D::OPCODE, descriptor.as_bytes())
    }

    /// As [`Queue::nop`], without the doorbell.
    pub fn nop(&self) -> Result<u64> {
        self.submit_raw(op::NOP, &[])
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.queue.inner.flush();
    }
}

/// When the card is shown a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doorbell {
    Now,
    Later,
}

/// What became of a packet.
enum Enqueued {
    /// It was written, and has this timeline value.
    As(u64),
    /// It would have ended at this position, for which the ring has no room.
    Full { end: u64 },
}

fn check<D: Descriptor>(descriptor: &D) -> Result<()> {
    match descriptor.check() {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Operator {
            call: D::INFO.name,
            operand: error.operand,
            rule: error.rule,
        }),
    }
}

#[cold]
fn too_long(length: usize) -> Error {
    let text = format!(
        "a body of {length} bytes, at most {} fit a packet",
        packet::MAX_BODY
    );
    Error::new("submit a command", Status::BadLength, text)
}

#[cold]
fn would_block() -> Error {
    let text = "the ring is full; try again when commands have completed";
    Error::new("submit a command", Status::NotReady, text)
}

impl QueueInner {
    pub(crate) fn submitted(&self) -> u64 {
        self.producer.lock().packets
    }

    pub(super) fn submit(&self, opcode: u16, body: &[u8]) -> Result<u64> {
        self.enqueue(opcode, &[body], Doorbell::Now)
    }

    #[inline]
    fn enqueue(&self, opcode: u16, body: &[&[u8]], doorbell: Doorbell) -> Result<u64> {
        loop {
            match self.try_enqueue(opcode, body, doorbell)? {
                Enqueued::As(value) => return Ok(value),
                // Without the lock: others may look at the queue meanwhile.
                Enqueued::Full { end } => self.wait_for_room(end)?,
            }
        }
    }

    /// If the ring has no room for the packet, the card was shown all that is in it.
    #[inline]
    fn try_enqueue(&self, opcode: u16, body: &[&[u8]], doorbell: Doorbell) -> Result<Enqueued> {
        let length = body.iter().map(|b| b.len()).sum();
        let Some(units) = packet::units_for(length) else {
            return Err(too_long(length));
        };
        let mut producer = self.producer.lock();
        let position = producer
            .room
            .take(u64::from(units), || self.ring.consumed());
        let Some(position) = position else {
            let end = producer.room.written() + u64::from(units);
            drop(producer);
            self.flush();
            return Ok(Enqueued::Full { end });
        };
        let header = header(opcode, units, producer.correlation);
        self.ring.write(position, header, body);
        producer.packets += 1;
        let value = producer.packets;
        if doorbell == Doorbell::Now {
            self.publish(&mut producer);
        }
        Ok(Enqueued::As(value))
    }

    /// Shows the card all that was written.
    #[inline]
    fn publish(&self, producer: &mut Producer) {
        producer.published = producer.room.written();
        if self.ring.publish(producer.published) {
            self.context.channel.kick();
        }
    }

    /// Shows the card what a batch has kept back.
    pub(super) fn flush(&self) {
        self.publish_kept(&mut self.producer.lock());
    }

    /// As [`QueueInner::flush`], for who has the lock.
    pub(super) fn publish_kept(&self, producer: &mut Producer) {
        if producer.published != producer.room.written() {
            self.publish(producer);
        }
    }

    /// Waits until the ring has room for the units up to `end`. All that is in it was published.
    #[cold]
    fn wait_for_room(&self, end: u64) -> Result<()> {
        // Others may have filled the ring since, and the card have taken more than `end` from it.
        let has_room = || end.saturating_sub(self.ring.consumed()) <= u64::from(self.ring.units());
        let mut spins = 0;
        while !has_room() {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            self.host.check_thread("submit a command")?;
            // The oldest packet that is not done frees at least one unit. In this order: what the timeline says is consumed.
            let next = self.ring.timeline() + 1;
            if has_room() {
                break;
            }
            let channel = &self.context.channel;
            let progress = channel.queue_wait(self.handle, next, u64::MAX)?;
            if !has_room() {
                self.check_stopped(progress.error)?;
            }
        }
        Ok(())
    }
}
