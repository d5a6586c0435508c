//! Interrupts: from the card's vectors to the event descriptors that the hypervisor hands over.
//!
//! A hypervisor enables a vector first without a descriptor and takes descriptors away around resets, so an interrupt that has nowhere to
//! go is latched and delivered as soon as it has.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use vmlu_abi::pci::MAX_VECTORS;

use crate::lock::lock;

const VECTORS: usize = MAX_VECTORS as usize;

/// How a vector reaches the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Message signalled interrupts.
    Msi,
    /// MSI-X.
    MsiX,
}

/// Vectors of one kind.
#[derive(Default)]
struct Table {
    descriptors: [Option<File>; VECTORS],
    /// Vectors that had a descriptor since the kind was enabled, as the highest number plus one.
    enabled: usize,
}

impl Table {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Default)]
struct Inner {
    msi: Table,
    msix: Table,
    /// Latched vectors, one bit each, by the card's number.
    pending: u32,
}

impl Inner {
    /// The table in use: a driver enables one kind.
    fn active(&self) -> &Table {
        if self.msix.enabled > 0 {
            &self.msix
        } else {
            &self.msi
        }
    }

    /// Signals a vector of the card; `false` if nobody takes it now.
    fn deliver(&self, vector: u32) -> bool {
        let table = self.active();
        if table.enabled == 0 {
            return false;
        }
        match &table.descriptors[vector as usize % table.enabled] {
            Some(file) => signal(file),
            None => false,
        }
    }

    fn flush(&mut self) -> u32 {
        let mut delivered = 0;
        for vector in 0..MAX_VECTORS {
            if self.pending & (1 << vector) != 0 && self.deliver(vector) {
                self.pending &= !(1 << vector);
                delivered += 1;
            }
        }
        delivered
    }
}

/// Adds one to an event descriptor. A full counter means that the host has an event to take anyway.
fn signal(file: &File) -> bool {
    // A write to an event descriptor is whole or fails.
    match rustix::io::write(file, &1u64.to_ne_bytes()) {
        Ok(_) => true,
        Err(error) => error == rustix::io::Errno::AGAIN,
    }
}

/// The interrupts of a chip.
#[derive(Default)]
pub struct Interrupts {
    inner: Mutex<Inner>,
    raised: AtomicU64,
    latched: AtomicU64,
}

impl Interrupts {
    /// No vector enabled, nothing latched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises a vector of the card: as that number modulo the vectors that the host has enabled. Never blocks.
    pub fn raise(&self, vector: u32) {
        let vector = vector % MAX_VECTORS;
        self.raised.fetch_add(1, Ordering::Relaxed);
        let mut inner = lock(&self.inner);
        if !inner.deliver(vector) {
            inner.pending |= 1 << vector;
            self.latched.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets the descriptors of `count` vectors from `start` on: vector `start + i` gets descriptor `i`, or loses its own if there is none.
    /// Vectors that do not exist are ignored.
    pub fn set(&self, kind: Kind, start: u32, count: u32, descriptors: Vec<File>) {
        let mut inner = lock(&self.inner);
        let table = match kind {
            Kind::Msi => &mut inner.msi,
            Kind::MsiX => &mut inner.msix,
        };
        let mut descriptors = descriptors.into_iter();
        for i in 0..count.min(MAX_VECTORS) {
            let descriptor = descriptors.next();
            let Some(vector) = start.checked_add(i).filter(|v| *v < MAX_VECTORS) else {
                break;
            };
            if descriptor.is_some() {
                table.enabled = table.enabled.max(vector as usize + 1);
            }
            table.descriptors[vector as usize] = descriptor;
        }
        inner.flush();
    }

    /// Disables a kind.
    pub fn disable(&self, kind: Kind) {
        let mut inner = lock(&self.inner);
        match kind {
            Kind::Msi => inner.msi.clear(),
            Kind::MsiX => inner.msix.clear(),
        }
        inner.flush();
    }

    /// Signals vectors as if the card had raised them: what a host asks for to test its handlers.
    pub fn trigger(&self, kind: Kind, start: u32, count: u32) {
        let inner = lock(&self.inner);
        let table = match kind {
            Kind::Msi => &inner.msi,
            Kind::MsiX => &inner.msix,
        };
        let first = start as usize;
        let last = first.saturating_add(count as usize).min(VECTORS);
        for file in table.descriptors.iter().take(last).skip(first).flatten() {
            signal(file);
        }
    }

    /// Latched vectors, one bit each: the pending bit array.
    pub fn pending(&self) -> u32 {
        lock(&self.inner).pending
    }

    /// Vectors that the host has enabled, and of which kind.
    pub fn enabled(&self) -> (Option<Kind>, u32) {
        let inner = lock(&self.inner);
        if inner.msix.enabled > 0 {
            (Some(Kind::MsiX), inner.msix.enabled as u32)
        } else if inner.msi.enabled > 0 {
            (Some(Kind::Msi), inner.msi.enabled as u32)
        } else {
            (None, 0)
        }
    }

    /// Interrupts raised, and how many of them were latched at first, since the chip was made.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.raised.load(Ordering::Relaxed),
            self.latched.load(Ordering::Relaxed),
        )
    }

    /// Forgets what is latched. The host keeps its vectors: it takes descriptors away itself where its reset does so, and a function level
    /// reset does not.
    pub fn reset(&self) {
        lock(&self.inner).pending = 0;
    }

    /// Forgets everything: the host is gone.
    pub fn disconnect(&self) {
        *lock(&self.inner) = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::event::{eventfd, EventfdFlags};
    use std::io::Write;

    /// An event descriptor and what was signalled on it since the last look.
    fn event() -> (File, File) {
        let ours = File::from(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap());
        (ours.try_clone().unwrap(), ours)
    }

    fn taken(file: &File) -> u64 {
        let mut bytes = [0; 8];
        match rustix::io::read(file, &mut bytes) {
            Ok(_) => u64::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    }

    #[test]
    fn an_early_interrupt_is_latched_and_comes_with_the_descriptor() {
        let interrupts = Interrupts::new();
        interrupts.raise(0);
        interrupts.set(Kind::MsiX, 0, 1, vec![]);
        assert_eq!(interrupts.pending(), 1);
        let (theirs, ours) = event();
        interrupts.set(Kind::MsiX, 0, 1, vec![theirs]);
        assert_eq!(taken(&ours), 1);
        assert_eq!(interrupts.pending(), 0);
        interrupts.set(Kind::MsiX, 0, 1, vec![]);
        interrupts.raise(0);
        interrupts.raise(0);
        assert_eq!(taken(&ours), 0);
        let (theirs, ours) = event();
        interrupts.set(Kind::MsiX, 0, 1, vec![theirs]);
        assert_eq!(taken(&ours), 1);
    }

    #[test]
    fn fewer_vectors_share_the_interrupts() {
        let interrupts = Interrupts::new();
        let events: Vec<_> = (0..4).map(|_| event()).collect();
        let theirs = events.iter().map(|e| e.0.try_clone().unwrap()).collect();
        interrupts.set(Kind::Msi, 0, 4, theirs);
        for vector in [0, 1, 5, 7, 15] {
            interrupts.raise(vector);
        }
        let counts: Vec<_> = events.iter().map(|e| taken(&e.1)).collect();
        assert_eq!(counts, [1, 2, 0, 2]);
        assert_eq!(interrupts.enabled(), (Some(Kind::Msi), 4));
    }

    #[test]
    fn reset_forgets_the_latch_and_disconnect_the_descriptors() {
        let interrupts = Interrupts::new();
        let (theirs, ours) = event();
        interrupts.raise(3);
        interrupts.reset();
        interrupts.set(Kind::MsiX, 0, 1, vec![theirs]);
        assert_eq!(taken(&ours), 0);
        interrupts.raise(0);
        assert_eq!(taken(&ours), 1);
        interrupts.disconnect();
        interrupts.raise(0);
        assert_eq!(taken(&ours), 0);
        assert_eq!(interrupts.enabled(), (None, 0));
    }

    #[test]
    fn a_full_counter_does_not_block() {
        let interrupts = Interrupts::new();
        let (theirs, ours) = event();
        (&ours).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        interrupts.set(Kind::MsiX, 0, 1, vec![theirs]);
        interrupts.raise(0);
        assert_eq!(interrupts.pending(), 0);
    }

    proptest! {
        #[test]
        fn odd_requests_do_no_harm(
            steps in proptest::collection::vec((0u8..5, any::<u32>(), any::<u32>(), 0usize..20), 0..40),
        ) {
            let interrupts = Interrupts::new();
            let (theirs, _ours) = event();
            for (what, start, count, fds) in steps {
                let start = if what % 2 == 0 { start % 20 } else { start };
                match what {
                    0 | 1 => {
                        let fds = (0..fds).map(|_| theirs.try_clone().unwrap()).collect();
                        interrupts.set(Kind::MsiX, start, count, fds);
                    }
                    2 => interrupts.trigger(Kind::MsiX, start, count),
                    3 => interrupts.disable(Kind::MsiX),
                    _ => interrupts.raise(start),
                }
            }
        }
    }
}
