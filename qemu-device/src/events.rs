//! The event rings of an embedded chip: what its interrupts say. See `docs/hardware.md`, section 9.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vmlu_abi::event::{Event, RING_ENTRIES};
use vmlu_abi::pci::{MAX_VECTORS, PAGE_SIZE};
use vmlu_abi::rpc::{EventRing, Function};
use vmlu_abi::Wire;
use vmlu_firmware::memory::shared::SharedMemory;

use vmlu_protocol::event::rearm;

use crate::embedded::EmbeddedChip;
use crate::lock::lock;

/// Entries of a ring.
const ENTRIES: u32 = 64;
/// Bytes that a ring takes.
const RING_BYTES: u64 =
    (RING_ENTRIES as u64 + ENTRIES as u64 * size_of::<Event>() as u64).next_multiple_of(PAGE_SIZE);
/// Offsets in the ring's header.
const PRODUCED: u64 = 0;
const LOST: u64 = 8;
const CONSUMED: u64 = 64;
const EVENT_INDEX: u64 = 72;

/// What is told of each batch of events: the vector, the events, and whether others were lost. It must not block.
pub type Handler = Box<dyn Fn(u32, &[Event], bool) + Send + Sync>;

/// The event rings of a chip, one a vector.
pub struct EventRings {
    memory: Arc<SharedMemory>,
    /// Of each vector the entries taken and the losses seen. Two interrupts of a vector may come at a time.
    taken: Vec<Mutex<(u64, u64)>>,
    handler: Handler,
}

impl EventRings {
    /// Sets the chip's rings, and its interrupt hook, which this is from now on.
    pub fn attach(chip: &EmbeddedChip, handler: Handler) -> io::Result<Arc<Self>> {
        let memory = SharedMemory::new("mlu-events", RING_BYTES * u64::from(MAX_VECTORS))?;
        let rings = Arc::new(Self {
            memory: Arc::new(memory),
            taken: (0..MAX_VECTORS).map(|_| Mutex::default()).collect(),
            handler,
        });
        let address = chip
            .register_shared(&rings.memory)
            .map_err(|e| io::Error::other(format!("register the event rings: {e:?}")))?;
        for vector in 0..MAX_VECTORS {
            let ring = EventRing {
                address: address + u64::from(vector) * RING_BYTES,
                entries: ENTRIES,
                vector,
                flags: 0,
            };
            chip.call(Function::EventRing, 0, ring.as_bytes())
                .map_err(|e| io::Error::other(format!("set an event ring: {}", e.text())))?;
        }
        let hook = rings.clone();
        chip.set_interrupt_hook(Some(Arc::new(move |vector| hook.take(vector))));
        Ok(rings)
    }

    fn word(&self, vector: u32, offset: u64) -> &AtomicU64 {
        self.memory
            .word(u64::from(vector) * RING_BYTES + offset)
            .expect("offsets of the header lie within the memory")
    }

    /// Takes what a vector's ring holds, and hands it to the handler.
    pub fn take(&self, vector: u32) {
        let Some(taken) = self.taken.get(vector as usize) else {
            return;
        };
        let mut taken = lock(taken);
        let mut events = Vec::new();
        let lost = loop {
            let produced = self.word(vector, PRODUCED).load(Ordering::Acquire);
            events.extend((taken.0..produced).filter_map(|n| self.entry(vector, n)));
            taken.0 = produced;
            if rearm(
                self.word(vector, CONSUMED),
                self.word(vector, EVENT_INDEX),
                self.word(vector, PRODUCED),
                produced,
            ) {
                break self.word(vector, LOST).load(Ordering::Acquire);
            }
        };
        let news = lost != taken.1;
        taken.1 = lost;
        drop(taken);
        if news || !events.is_empty() {
            (self.handler)(vector, &events, news);
        }
    }

    /// As if every vector had been raised: finds what a lost interrupt left behind.
    pub fn take_all(&self) {
        (0..MAX_VECTORS).for_each(|vector| self.take(vector));
    }

    fn entry(&self, vector: u32, position: u64) -> Option<Event> {
        let size = size_of::<Event>();
        let offset = u64::from(vector) * RING_BYTES
            + RING_ENTRIES as u64
            + position % u64::from(ENTRIES) * size as u64;
        self.memory.bytes(offset, size as u64)?.read(0)
    }
}
