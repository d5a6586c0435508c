//! Event rings in host memory and the interrupts that announce them. See `docs/hardware.md`, section 9.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmlu_abi::event::{Event, EventKind, MAX_ENTRIES, MIN_ENTRIES, RING_ENTRIES};
use vmlu_abi::pci::MAX_VECTORS;
use vmlu_abi::rpc::BadEvent;
use vmlu_abi::{Status, Wire};
use vmlu_protocol::event::announce;

use crate::hardware::{HostPort, HostRange};
use crate::inject::Injector;
use crate::memory::words::HostWords;

const PRODUCED: usize = 0;
const LOST: usize = 8;
const CONSUMED: usize = 64;
const EVENT_INDEX: usize = 72;

struct Ring {
    words: HostWords,
    entries: u64,
    produced: u64,
    lost: u64,
    address: u64,
    length: u64,
}

/// The event rings of a chip, one a vector.
pub struct Events {
    host: Arc<dyn HostPort>,
    injector: Arc<Injector>,
    rings: [Mutex<Option<Ring>>; MAX_VECTORS as usize],
    interrupts: AtomicU64,
    /// Interrupts that are being raised; counted up with the ring locked.
    raising: AtomicUsize,
}

impl Events {
    /// No ring is set.
    pub fn new(host: Arc<dyn HostPort>, injector: Arc<Injector>) -> Self {
        Self {
            host,
            injector,
            rings: std::array::from_fn(|_| Mutex::new(None)),
            interrupts: AtomicU64::new(0),
            raising: AtomicUsize::new(0),
        }
    }

    /// Bytes of a ring with this many entries; `None` if the number is not allowed.
    pub fn ring_length(entries: u32) -> Option<u64> {
        (entries.is_power_of_two() && (MIN_ENTRIES..=MAX_ENTRIES).contains(&entries))
            .then(|| RING_ENTRIES as u64 + u64::from(entries) * size_of::<Event>() as u64)
    }

    /// Sets, or with `None` takes away, a vector's ring.
    pub fn set(
        &self,
        vector: u32,
        address: u64,
        ring: Option<(HostRange, u32)>,
    ) -> Result<(), Status> {
        let slot = self
            .rings
            .get(vector as usize)
            .ok_or(Status::InvalidArgument)?;
        let new = match ring {
            None => None,
            Some((range, entries)) => {
                let length = Self::ring_length(entries).ok_or(Status::InvalidArgument)?;
                let words = HostWords::new(range, length as usize).ok_or(Status::AddressFault)?;
                Some(Ring {
                    words,
                    entries: u64::from(entries),
                    produced: 0,
                    lost: 0,
                    address,
                    length,
                })
            }
        };
        *slot.lock().unwrap_or_else(|e| e.into_inner()) = new;
        Ok(())
    }

    /// Takes away the rings that a DMA range touches.
    pub fn revoke(&self, address: u64, length: u64) {
        for slot in &self.rings {
            let mut ring = slot.lock().unwrap_or_else(|e| e.into_inner());
            if ring.as_ref().is_some_and(|r| {
                r.address < address.saturating_add(length)
                    && address < r.address.saturating_add(r.length)
            }) {
                *ring = None;
            }
        }
    }

    /// Takes all rings away, and waits until the last interrupt is raised, or `deadline`.
    pub fn clear(&self, deadline: Instant) {
        self.rings
            .iter()
            .for_each(|slot| *slot.lock().unwrap_or_else(|e| e.into_inner()) = None);
        while self.raising.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Interrupts raised so far.
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Ordering::Relaxed)
    }

    /// Posts an event; dropped if the vector has no ring.
    pub fn post(&self, vector: u32, kind: EventKind, object: u32, value: u64) {
        self.post_raw(vector, kind as u32, object, value, 0);
    }

    /// Breaks the protocol on vector 0, for tests of who takes events.
    pub fn post_bad(&self, bad: BadEvent, count: u32) {
        for number in 0..count {
            // Each of the kinds.
            let kind = 1 + number % 8;
            match bad {
                BadEvent::Kind => self.post_raw(0, u32::MAX - number, number, u64::MAX, 0),
                BadEvent::Object => self.post_raw(0, kind, u32::MAX - number / 8, u64::MAX, 0),
                BadEvent::Sequence => self.post_raw(0, kind, 0, 0, 1),
                BadEvent::Ahead => {
                    let slot = self.rings[0].lock().unwrap_or_else(|e| e.into_inner());
                    let Some(ring) = slot.as_ref() else { return };
                    let ahead = ring.produced.wrapping_add(1 << 40);
                    ring.words.u64(PRODUCED).store(ahead, Ordering::Release);
                    self.raising.fetch_add(1, Ordering::SeqCst);
                    drop(slot);
                    self.raise(0);
                }
                BadEvent::Interrupt => {
                    self.raising.fetch_add(1, Ordering::SeqCst);
                    self.raise(0);
                }
            }
        }
    }

    /// [`Self::post`] with any kind; `off` is added to the position.
    fn post_raw(&self, vector: u32, kind: u32, object: u32, value: u64, off: u64) {
        let vector = vector % MAX_VECTORS;
        let mut slot = self.rings[vector as usize]
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        let Some(ring) = slot.as_mut() else { return };
        let old = ring.produced;
        let consumed = ring.words.u64(CONSUMED).load(Ordering::Acquire);
        if old.wrapping_sub(consumed) >= ring.entries {
            ring.lost += 1;
            ring.words.u64(LOST).store(ring.lost, Ordering::Release);
            self.raising.fetch_add(1, Ordering::SeqCst);
            drop(slot);
            return self.raise(vector);
        }
        let event = Event {
            kind,
            object,
            value,
            sequence: old + 1 + off,
            reserved: 0,
        };
        let at = RING_ENTRIES + (old % ring.entries) as usize * size_of::<Event>();
        if let Some(entry) = ring.words.bytes().slice(at, size_of::<Event>()) {
            entry.copy_from(event.as_bytes());
        }
        ring.produced = old + 1;
        let words = &ring.words;
        if announce(words.u64(PRODUCED), words.u64(EVENT_INDEX), old) {
            self.raising.fetch_add(1, Ordering::SeqCst);
            drop(slot);
            self.raise(vector);
        }
    }

    /// Raises an interrupt that `raising` counts. No lock is held: the host may take its own.
    fn raise(&self, vector: u32) {
        if !self.injector.drops_interrupt() {
            self.interrupts.fetch_add(1, Ordering::Relaxed);
            self.host.interrupt(vector);
        }
        self.raising.fetch_sub(1, Ordering::SeqCst);
    }
}
