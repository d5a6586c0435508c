//! What goes straight from rank to rank of different hosts: streams, all of an exchange at the same time.
//!
//! A stream is a message with its length, then chunks. Those from one rank to another go one after the other; others have pinned memory of their own
//! meanwhile, so that none waits for another, whatever ranks send to each other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use vmlu::collective::Memory;
use vmlu::{Context, Error, PinnedBuffer, Queue, Result, Status};

use crate::carrier::{After, Carrier, Order, Ticket, Way, LOOKS, PAUSE};
use crate::lane::{Tags, CHUNK, SLOTS};

/// Bytes of the message that says how long a stream is.
const HEADER: u64 = 8;
/// Chunks of all streams of an exchange that are on their way in one direction; more if there are more streams.
const UNDER_WAY: usize = 16;

/// What goes to a rank, or comes from it.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) peer: u32,
    pub(crate) memory: Memory,
    pub(crate) bytes: u64,
}

impl Stream {
    /// Whether they share bytes.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.memory.address(), other.memory.address());
        self.bytes > 0
            && other.bytes > 0
            && a < b.saturating_add(other.bytes)
            && b < a.saturating_add(self.bytes)
    }
}

/// A rank's streams, one exchange after another.
pub(crate) struct Exchange {
    context: Context,
    carrier: Arc<Carrier>,
    cluster: u32,
    patience: Duration,
    /// Messages so far, to each rank and from each: both sides count them, as tags.
    counts: HashMap<Way, Tags>,
    free: Vec<PinnedBuffer>,
}

/// Pinned memory, and the uses of it that may not be over.
struct Slot {
    memory: PinnedBuffer,
    busy: Vec<After>,
}

/// Streams of one way, the first of which goes on.
struct Going<'a> {
    way: Way,
    streams: VecDeque<&'a Stream>,
    /// The length that is received.
    header: Option<(Slot, Ticket)>,
    /// Whether the length of the first stream was seen to.
    begun: bool,
    /// Bytes of the first stream that are ordered, and that have arrived.
    ordered: u64,
    arrived: u64,
    idle: Vec<Slot>,
    /// Messages on their way, in their order, with the bytes of those that come in.
    coming: VecDeque<(Slot, Ticket, u64)>,
}

impl Exchange {
    pub(crate) fn new(
        carrier: &Arc<Carrier>,
        context: &Context,
        cluster: u32,
        patience: Duration,
    ) -> Self {
        Self {
            context: context.clone(),
            carrier: carrier.clone(),
            cluster,
            patience,
            counts: HashMap::new(),
            free: Vec::new(),
        }
    }

    /// Sends and receives, in the order of a queue, until it has come to the end of it. Peers are named by their numbers for MPI.
    pub(crate) fn run(
        &mut self,
        queue: &Queue,
        sends: &[Stream],
        receives: &[Stream],
    ) -> Result<()> {
        let mut going = by_way(sends, Way::To);
        let outgoing = going.len();
        going.extend(by_way(receives, Way::From));
        let share = |ways: usize| (UNDER_WAY / ways.max(1)).clamp(1, SLOTS);
        let shares = [share(outgoing), share(going.len() - outgoing)];
        let ended = self.go(&mut going, queue, shares);
        // Also after an error: memory that is freed here would wait for queues that wait for this thread.
        for way in going {
            let coming = way.coming.into_iter().map(|(slot, ..)| slot);
            let header = way.header.map(|(slot, _)| slot);
            let slots = way.idle.into_iter().chain(coming).chain(header);
            self.free.extend(slots.map(|slot| slot.memory));
        }
        ended
    }

    fn go(&mut self, going: &mut [Going<'_>], queue: &Queue, shares: [usize; 2]) -> Result<()> {
        let mut looks = 0;
        while going.iter().any(|way| !way.is_done()) {
            let mut moved = false;
            for way in going.iter_mut() {
                moved |= match way.way {
                    Way::To(_) => self.send(way, queue, shares[0])?,
                    Way::From(_) => self.receive(way, queue, shares[1])?,
                };
            }
            looks = if moved { 0 } else { looks + 1 };
            if looks > LOOKS {
                std::thread::sleep(PAUSE);
            }
        }
        queue.sync()
    }

    fn order(&mut self, way: Way, slot: &mut Slot, bytes: u64, after: Vec<After>) -> Ticket {
        let ticket = Ticket::default();
        let cluster = self.cluster;
        let tags = self.counts.entry(way);
        let tags = tags.or_insert_with(|| Tags::of_exchanges(cluster));
        self.carrier.order(Order {
            way,
            tag: tags.next(),
            memory: slot.memory.clone(),
            bytes: bytes as usize,
            after,
            ticket: ticket.clone(),
            patience: self.patience,
        });
        ticket
    }

    /// Memory that nobody uses; none if the way has its share.
    fn slot(&mut self, way: &mut Going<'_>, share: usize) -> Result<Option<Slot>> {
        if let Some(slot) = way.idle.pop() {
            return Ok(Some(slot));
        }
        if way.coming.len() + usize::from(way.header.is_some()) >= share {
            return Ok(None);
        }
        let memory = match self.free.pop() {
            Some(memory) => memory,
            None => self.context.alloc_pinned(CHUNK)?,
        };
        let busy = Vec::new();
        Ok(Some(Slot { memory, busy }))
    }

    /// Sends what there is room for; whether something happened.
    fn send(&mut self, way: &mut Going<'_>, queue: &Queue, share: usize) -> Result<bool> {
        let mut moved = way.settle()?;
        while let Some(stream) = way.streams.front().copied() {
            let at = way.ordered;
            if way.begun && at == stream.bytes {
                way.next();
                moved = true;
                continue;
            }
            let Some(mut slot) = self.slot(way, share)? else {
                break;
            };
            moved = true;
            let ticket = if way.begun {
                let bytes = CHUNK.min(stream.bytes - at);
                let from = stream.memory.address() + at;
                let copied = queue.copy(slot.memory.address(), from, bytes)?;
                way.ordered += bytes;
                let after = vec![After::Command(queue.clone(), copied)];
                self.order(way.way, &mut slot, bytes, after)
            } else {
                slot.memory.write(0, &stream.bytes.to_le_bytes());
                way.begun = true;
                self.order(way.way, &mut slot, HEADER, Vec::new())
            };
            way.coming.push_back((slot, ticket, 0));
        }
        Ok(moved)
    }

    /// Receives what there is room for, and gives the chip what has arrived; whether something happened.
    fn receive(&mut self, way: &mut Going<'_>, queue: &Queue, share: usize) -> Result<bool> {
        let mut moved = false;
        let Some(stream) = way.streams.front().copied() else {
            return Ok(false);
        };
        if !way.begun {
            if way.header.is_none() {
                let Some(mut slot) = self.slot(way, share)? else {
                    return Ok(false);
                };
                let after = std::mem::take(&mut slot.busy);
                let ticket = self.order(way.way, &mut slot, HEADER, after);
                way.header = Some((slot, ticket));
            }
            let Some((slot, ticket)) = way.header.take_if(|(_, ticket)| ticket.is_settled()) else {
                return Ok(false);
            };
            let mut length = [0; HEADER as usize];
            slot.memory.read(0, &mut length);
            way.idle.push(slot);
            ticket.wait()?;
            let length = u64::from_le_bytes(length);
            if length != stream.bytes {
                let text = format!(
                    "{} sends {length} bytes where {} are received",
                    self.carrier.name(way.way),
                    stream.bytes
                );
                return Err(Error::new("exchange", Status::InvalidArgument, text));
            }
            way.begun = true;
            moved = true;
        }
        while let Some((mut slot, _, bytes)) = way.arrived()? {
            let to = stream.memory.address() + way.arrived;
            let copied = queue.copy(to, slot.memory.address(), bytes)?;
            slot.busy = vec![After::Command(queue.clone(), copied)];
            way.arrived += bytes;
            way.idle.push(slot);
            moved = true;
        }
        while way.ordered < stream.bytes {
            let Some(mut slot) = self.slot(way, share)? else {
                break;
            };
            let bytes = CHUNK.min(stream.bytes - way.ordered);
            let after = std::mem::take(&mut slot.busy);
            let ticket = self.order(way.way, &mut slot, bytes, after);
            way.coming.push_back((slot, ticket, bytes));
            way.ordered += bytes;
            moved = true;
        }
        if way.arrived == stream.bytes {
            way.next();
            moved = true;
        }
        Ok(moved)
    }
}

/// Streams, those of one rank together in their order.
fn by_way(streams: &[Stream], way: impl Fn(u32) -> Way) -> Vec<Going<'_>> {
    let mut all: Vec<Going<'_>> = Vec::new();
    for stream in streams {
        let way = way(stream.peer);
        match all.iter_mut().find(|going| going.way == way) {
            Some(going) => going.streams.push_back(stream),
            None => all.push(Going {
                way,
                streams: VecDeque::from([stream]),
                header: None,
                begun: false,
                ordered: 0,
                arrived: 0,
                idle: Vec::new(),
                coming: VecDeque::new(),
            }),
        }
    }
    all
}

impl Going<'_> {
    fn is_done(&self) -> bool {
        self.streams.is_empty() && self.coming.is_empty()
    }

    /// On to the next stream.
    fn next(&mut self) {
        self.streams.pop_front();
        (self.begun, self.ordered, self.arrived) = (false, 0, 0);
    }

    /// The first chunk on its way, if it is there.
    fn arrived(&mut self) -> Result<Option<(Slot, Ticket, u64)>> {
        let first = self.coming.front();
        if first.is_none_or(|(_, ticket, _)| !ticket.is_settled()) {
            return Ok(None);
        }
        if let Some((_, ticket, _)) = first {
            ticket.wait()?;
        }
        Ok(self.coming.pop_front())
    }

    /// Takes back the memory of what was sent; whether there was some.
    fn settle(&mut self) -> Result<bool> {
        let mut moved = false;
        while let Some((slot, ..)) = self.arrived()? {
            self.idle.push(slot);
            moved = true;
        }
        Ok(moved)
    }
}
