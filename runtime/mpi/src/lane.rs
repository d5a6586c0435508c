//! Pinned memory between a chip and MPI: what goes one way between two hosts takes the slots of a lane in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use vmlu::{Context, PinnedBuffer, Queue, Result};

use crate::carrier::{After, Carrier, Order, Ticket, Way};

/// Bytes of a slot: as much goes over as one message.
pub(crate) const CHUNK: u64 = 1 << 20;
/// Slots of a lane: so many chunks are on their way.
pub(crate) const SLOTS: usize = 4;
/// Bits of a tag below the number of the cluster.
pub(crate) const TAG_BITS: u32 = 15;
/// Transfers of a lane, and of exchanges, are numbered up to here.
const TAGS: u32 = (1 << (TAG_BITS - 1)) - 1;
/// Of the message with the identity by which ranks of a host meet; no other has it.
pub(crate) const MEET: i32 = (1 << TAG_BITS) - 1;

/// Numbers of the messages from one rank to another, as MPI's tags: both sides count them.
pub(crate) struct Tags {
    base: u32,
    count: u32,
}

impl Tags {
    fn of_lanes(cluster: u32) -> Self {
        let base = cluster << TAG_BITS;
        Self { base, count: 0 }
    }

    pub(crate) fn of_exchanges(cluster: u32) -> Self {
        let base = cluster << TAG_BITS | 1 << (TAG_BITS - 1);
        Self { base, count: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> i32 {
        let tag = self.base + self.count;
        self.count = (self.count + 1) % TAGS;
        tag as i32
    }
}

struct Slot {
    memory: PinnedBuffer,
    /// Uses of it that may not be over.
    busy: Vec<After>,
}

/// What goes to a rank, or comes from one.
pub(crate) struct Lane {
    carrier: Arc<Carrier>,
    way: Way,
    patience: Duration,
    slots: Vec<Slot>,
    next: usize,
    tags: Tags,
    /// Of a lane that comes in: bytes that are due, and transfers that are on their way.
    due: VecDeque<u64>,
    coming: VecDeque<(usize, Ticket)>,
}

impl Lane {
    pub(crate) fn new(
        carrier: &Arc<Carrier>,
        context: &Context,
        way: Way,
        cluster: u32,
        patience: Duration,
    ) -> Result<Self> {
        let slot = || {
            Ok(Slot {
                memory: context.alloc_pinned(CHUNK)?,
                busy: Vec::new(),
            })
        };
        Ok(Self {
            carrier: carrier.clone(),
            way,
            patience,
            slots: (0..SLOTS).map(|_| slot()).collect::<Result<_>>()?,
            next: 0,
            tags: Tags::of_lanes(cluster),
            due: VecDeque::new(),
            coming: VecDeque::new(),
        })
    }

    fn order(&mut self, memory: &PinnedBuffer, bytes: u64, after: Vec<After>) -> Ticket {
        let ticket = Ticket::default();
        self.carrier.order(Order {
            way: self.way,
            tag: self.tags.next(),
            memory: memory.clone(),
            bytes: bytes as usize,
            after,
            ticket: ticket.clone(),
            patience: self.patience,
        });
        ticket
    }

    fn turn(&mut self) -> usize {
        let slot = self.next;
        self.next = (slot + 1) % self.slots.len();
        slot
    }

    /// Sends what stands at an address of the chip, once the queue has come here.
    pub(crate) fn send(&mut self, queue: &Queue, address: u64, bytes: u64) -> Result<()> {
        let slot = self.turn();
        for after in std::mem::take(&mut self.slots[slot].busy) {
            after.wait()?;
        }
        let memory = self.slots[slot].memory.clone();
        let copied = queue.copy(memory.address(), address, bytes)?;
        let after = vec![After::Command(queue.clone(), copied)];
        let ticket = self.order(&memory, bytes, after);
        self.slots[slot].busy = vec![After::Transfer(ticket)];
        Ok(())
    }

    /// Sends what another lane has received.
    pub(crate) fn forward(&mut self, arrived: &Arrived, bytes: u64) -> Ticket {
        self.order(&arrived.memory, bytes, Vec::new())
    }

    /// Says what comes in; it is received as there is room for it.
    pub(crate) fn expect(&mut self, bytes: impl IntoIterator<Item = u64>) {
        self.due.extend(bytes);
        self.fill();
    }

    fn fill(&mut self) {
        while self.coming.len() < self.slots.len()
            && let Some(bytes) = self.due.pop_front()
        {
            let slot = self.turn();
            let memory = self.slots[slot].memory.clone();
            let after = std::mem::take(&mut self.slots[slot].busy);
            let ticket = self.order(&memory, bytes, after);
            self.coming.push_back((slot, ticket));
        }
    }

    /// The next that comes in, once it is there. [`Lane::done`] gives the slot back.
    pub(crate) fn take(&mut self) -> Result<Arrived> {
        let Some((slot, ticket)) = self.coming.pop_front() else {
            unreachable!("what is taken was expected");
        };
        ticket.wait()?;
        let memory = self.slots[slot].memory.clone();
        Ok(Arrived { slot, memory })
    }

    /// What was received is not needed any more once these are over.
    pub(crate) fn done(&mut self, arrived: Arrived, after: Vec<After>) {
        self.slots[arrived.slot].busy = after;
        self.fill();
    }

    /// Waits until everything was sent.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut busy = self.slots.iter().flat_map(|slot| &slot.busy);
        busy.try_for_each(After::wait)
    }
}

/// What a lane has received.
pub(crate) struct Arrived {
    slot: usize,
    memory: PinnedBuffer,
}

impl Arrived {
    pub(crate) fn address(&self) -> u64 {
        self.memory.address()
    }
}
