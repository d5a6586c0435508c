// SPDX-License-Identifier: GPL-2.0

//! Events: a ring a vector, drained in the vector's interrupt thread. See `docs/hardware.md`,
//! section 9.

use kernel::{
    device::{Bound, Device},
    dma::Coherent,
    new_mutex,
    prelude::*,
    sync::{barrier, Arc, Mutex},
};

use crate::{
    abi::{
        event::{Event, EventKind, RingHeader, RING_ENTRIES},
        rpc::{self, Function},
        status::Status,
    },
    card::Card,
    ext::{shared::Shared, trace, vectors::Handler, wait::now},
    rpc::{RpcError, Scope},
};

/// Entries of a ring.
const ENTRIES: u32 = 256;
/// Log lines about events, and in what time, ns.
const LOG_LINES: u32 = 10;
/// Times that an interrupt looks for more events after those that filled the ring.
const MOST_ROUNDS: u32 = 64;
const LOG_WINDOW: i64 = 5_000_000_000;

const ENTRY: usize = core::mem::size_of::<Event>();

const PRODUCED: usize = core::mem::offset_of!(RingHeader, produced);
const LOST: usize = core::mem::offset_of!(RingHeader, lost);
const CONSUMED: usize = core::mem::offset_of!(RingHeader, consumed);
const EVENT_INDEX: usize = core::mem::offset_of!(RingHeader, event_index);

/// A vector's event ring.
pub(crate) struct EventRing {
    memory: Coherent<[u8]>,
    consumed: u64,
    lost: u64,
    /// When the current window of log lines began, and how many it has.
    logged: (i64, u32),
}

impl EventRing {
    /// Allocates an empty ring.
    pub(crate) fn new(dev: &Device<Bound>) -> Result<Self> {
        let size = RING_ENTRIES + ENTRIES as usize * ENTRY;
        Ok(Self {
            memory: Coherent::<u8>::zeroed_slice(dev, size, GFP_KERNEL)?,
            consumed: 0,
            lost: 0,
            logged: (0, 0),
        })
    }

    /// As it was when it was made.
    fn clear(&mut self) -> Result {
        const ZEROES: [u8; ENTRY] = [0; ENTRY];
        for at in (0..self.memory.size()).step_by(ENTRY) {
            self.memory.copy_in(at, &ZEROES)?;
        }
        (self.consumed, self.lost) = (0, 0);
        Ok(())
    }

    /// Its address for the card.
    fn address(&self) -> u64 {
        self.memory.dma_address()
    }

    /// Takes the next event; `Err` when the ring is not to be believed.
    fn next(&mut self) -> Result<Option<Event>> {
        let produced = self.memory.load64(PRODUCED)?;
        let ahead = produced.wrapping_sub(self.consumed);
        if ahead == 0 {
            return Ok(None);
        }
        let at = (self.consumed % u64::from(ENTRIES)) as usize * ENTRY;
        let event: Event = self.memory.read(RING_ENTRIES + at)?;
        let position = self.consumed + 1;
        if ahead > u64::from(ENTRIES) || event.sequence != position {
            self.consumed = produced;
            return Err(EPROTO);
        }
        self.consumed = position;
        Ok(Some(event))
    }

    /// Tells the card what was taken and asks for an interrupt with the next entry. `true` if there
    /// is one already.
    fn rearm(&self) -> Result<bool> {
        self.memory.store64(CONSUMED, self.consumed)?;
        self.memory.store64(EVENT_INDEX, self.consumed)?;
        // The card writes `produced`, then reads the index; here it is the other way round.
        barrier::smp_mb(barrier::Full);
        Ok(self.memory.load64(PRODUCED)? != self.consumed)
    }

    /// Whether another line of the log is due: programs can provoke events.
    fn may_log(&mut self) -> bool {
        let time = now();
        if time - self.logged.0 > LOG_WINDOW {
            self.logged = (time, 0);
        }
        self.logged.1 += 1;
        self.logged.1 <= LOG_LINES
    }

    /// Whether entries were lost since this was asked last.
    fn has_lost(&mut self) -> Result<bool> {
        let lost = self.memory.load64(LOST)?;
        Ok(core::mem::replace(&mut self.lost, lost) != lost)
    }
}

/// A ring that its interrupt thread and whoever restarts the card share.
#[pin_data]
pub(crate) struct SharedRing {
    #[pin]
    ring: Mutex<EventRing>,
}

impl SharedRing {
    /// Shares a ring.
    pub(crate) fn new(ring: EventRing) -> Result<Arc<Self>> {
        Arc::pin_init(pin_init!(Self { ring <- new_mutex!(ring) }), GFP_KERNEL)
    }

    /// Forgets all entries, for a card that was reset; returns the ring's address for the card.
    pub(crate) fn restart(&self) -> Result<u64> {
        let mut ring = self.ring.lock();
        ring.clear()?;
        Ok(ring.address())
    }
}

/// Handles a vector's interrupts.
pub(crate) struct VectorHandler {
    card: Arc<Card>,
    ring: Arc<SharedRing>,
}

impl VectorHandler {
    /// Makes the handler of a vector with this ring.
    pub(crate) fn new(card: Arc<Card>, ring: Arc<SharedRing>) -> Self {
        Self { card, ring }
    }

    fn dispatch(&self, ring: &mut EventRing, event: Event) {
        let card = &self.card;
        card.counters.event();
        match EventKind::from_raw(event.kind) {
            Some(kind @ (EventKind::Timeline | EventKind::QueueError)) => {
                card.signal_queue(event.object, kind, event.value)
            }
            Some(EventKind::ContextStopped) => {
                let status = u32::try_from(event.value).ok().and_then(Status::from_raw);
                card.stop_context(event.object, status.unwrap_or(Status::ContextStopped));
            }
            Some(EventKind::Rpc) => card.rpc_event.wake_all(),
            Some(EventKind::Xid) => {
                let context = card.handle_of(event.object);
                card.set_suspect(event.object);
                trace::fault(card.number(), context, event.value as u32, 0);
                card.tell_of(EventKind::Xid, context, event.value);
                if ring.may_log() {
                    dev_warn!(
                        card.pdev(),
                        "xid {} (context {})\n",
                        event.value,
                        event.object
                    );
                }
            }
            Some(EventKind::Link) => {
                card.tell_of(EventKind::Link, event.object.into(), event.value)
            }
            // The driver's own, and new kinds, which are for newer drivers.
            Some(EventKind::CardLost | EventKind::CardBack) | None => {}
        }
    }

    fn drain(&self) -> Result {
        let mut ring = self.ring.ring.lock();
        for _ in 0..MOST_ROUNDS {
            // A card that goes on and on must not keep the thread.
            for _ in 0..ENTRIES {
                match ring.next() {
                    Ok(Some(event)) => self.dispatch(&mut ring, event),
                    Ok(None) => break,
                    Err(_) => {
                        if ring.may_log() {
                            dev_warn!(
                                self.card.pdev(),
                                "an event ring is damaged; looking at every queue instead\n"
                            );
                        }
                        self.card.signal_all_queues();
                        break;
                    }
                }
            }
            if ring.has_lost()? {
                self.card.signal_all_queues();
            }
            if !ring.rearm()? {
                return Ok(());
            }
        }
        // The ring is armed, so that the next event interrupts; what was missed until then the
        // watch finds.
        if ring.may_log() {
            dev_warn!(
                self.card.pdev(),
                "events come faster than they can be handled\n"
            );
        }
        self.card.signal_all_queues();
        Ok(())
    }
}

impl Handler for VectorHandler {
    fn handle(&self) {
        self.card.counters.interrupt();
        // The ring is as large as its own layout says, so no access fails.
        let _ = self.drain();
    }
}

/// Tells the firmware where a vector's events go.
pub(crate) fn set_ring(card: &Card, vector: u32, address: u64) -> Result<(), RpcError> {
    let command = rpc::EventRing {
        address,
        entries: ENTRIES,
        vector,
        flags: 0,
    };
    card.call::<_, ()>(Function::EventRing, Scope::CHIP, &command)
}
