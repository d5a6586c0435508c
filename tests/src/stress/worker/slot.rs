//! A queue and what its owner knows of its packets.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vmlu::abi::packet::{PacketHeader, VERSION};
use vmlu::abi::Status;
use vmlu::Context;

use super::super::producer::Producer;
use super::super::record::Life;
use super::{commands::Command, Error};

/// How long a queue that nothing holds up may stand still.
pub const STUCK: Duration = Duration::from_secs(40);

/// A queue.
pub struct Slot {
    /// The queue itself.
    pub producer: Producer,
    /// Greatest value that others wait for.
    pub wanted: u64,
    /// The ring was damaged: the queue will stop.
    pub damaged: bool,
    /// Packets known to have failed.
    failed: u64,
    /// Up to this value, the rest is known to have completed.
    settled: u64,
}

impl Slot {
    /// A queue with an empty ring.
    pub fn new(context: &Context, ring_units: u32, priority: u32) -> vmlu::Result<Self> {
        Ok(Self {
            producer: Producer::new(context, ring_units, priority)?,
            wanted: 0,
            damaged: false,
            failed: 0,
            settled: 0,
        })
    }

    /// Submits commands at once, as many of them as have room; how many that were. `each` rings the bell behind each.
    pub fn submit(&mut self, life: &Life, commands: &[Command], each: bool) -> usize {
        if self.damaged {
            return 0;
        }
        let mut units = 0;
        let fits = commands.iter().take_while(|(_, body)| {
            units += Producer::units_of(body.len());
            self.producer.has_room(units)
        });
        let count = fits.count();
        if count == 0 {
            return 0;
        }
        for burst in commands[..count].chunks(if each { 1 } else { count }) {
            let packets = burst.len() as u64;
            life.intended.fetch_add(packets, Ordering::SeqCst);
            for (opcode, body) in burst {
                self.producer.write(*opcode, body);
            }
            self.producer.publish();
            life.submitted.fetch_add(packets, Ordering::SeqCst);
        }
        count
    }

    /// Writes a packet of no units, behind which the card cannot read the ring.
    pub fn damage(&mut self) {
        if !self.damaged && self.producer.has_room(1) {
            let header = PacketHeader {
                opcode: 1,
                version: VERSION,
                units: 0,
                flags: 0,
                correlation: 0,
            };
            self.producer.write_as(&header, &[], 1);
            self.producer.publish();
            self.damaged = true;
        }
    }

    /// Sees that the record of an error makes sense; the packets that it took, if no more are submitted before it is cleared.
    fn taken_by_error(&self, context: &Context, clear: bool) -> Result<u64, Error> {
        let handle = self.producer.handle();
        let record = context.channel().queue_error(handle, clear)?;
        match Status::from_raw(record.status) {
            Some(Status::Ok | Status::FramingError) => Ok(0),
            Some(Status::Internal | Status::KernelPanic) | None => {
                Err(format!("an error that cannot be: {record:?}").into())
            }
            _ => {
                let packets = self.producer.packets();
                if record.value <= self.settled || record.value > packets {
                    let known = self.settled;
                    let text = format!("an error at {}, {packets} submitted, an error before ended at {known}: {record:?}", record.value);
                    return Err(text.into());
                }
                Ok(packets - record.value + 1)
            }
        }
    }

    /// Clears an error, if there is one: what was submitted by now fails, what comes later runs.
    pub fn clear(&mut self, context: &Context, life: &Life) -> Result<(), Error> {
        let failed = self.taken_by_error(context, true)?;
        if failed > 0 {
            self.failed += failed;
            self.settled = self.producer.packets();
            life.errors.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits until the queue is empty.
    pub fn drain(&self, context: &Context) -> Result<(), Error> {
        let (handle, value) = (self.producer.handle(), self.producer.packets());
        let start = Instant::now();
        while self.producer.timeline() < value && !self.damaged {
            let limit = super::deadline(Duration::from_secs(2));
            match context.channel().queue_wait(handle, value, limit) {
                // In error: it goes over the rest.
                Ok(_) => std::thread::sleep(Duration::from_micros(20)),
                Err(error) if error.status() == Status::Timeout => {}
                Err(error) => return Err(error.into()),
            }
            if start.elapsed() > STUCK {
                let text = format!(
                    "queue {handle:#x} stands at {} of {value} with the error {}",
                    self.producer.timeline(),
                    self.producer.error()
                );
                return Err(text.into());
            }
        }
        Ok(())
    }

    /// Destroys the queue, whatever it has to do, and writes down what is known of its packets.
    pub fn destroy(mut self, context: &Context, life: &Life) -> Result<(), Error> {
        // In this order: an error shows before the timeline passes its packet.
        let timeline = self.producer.timeline();
        if self.producer.error() != 0 && !self.damaged {
            self.failed += self.taken_by_error(context, false)?;
            self.settled = self.producer.packets();
        }
        // The record of damage takes the place of that of an error before it: then nothing is known since the last one was cleared.
        let known = match self.damaged {
            true => self.settled,
            false => self.settled.max(timeline),
        };
        if timeline < self.producer.packets() {
            life.destroyed.fetch_add(1, Ordering::SeqCst);
        }
        self.producer.destroy()?;
        life.completed
            .fetch_add(known - self.failed, Ordering::SeqCst);
        life.failed.fetch_add(self.failed, Ordering::SeqCst);
        Ok(())
    }
}
