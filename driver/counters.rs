// SPDX-License-Identifier: GPL-2.0

//! What a chip's driver counts, shown in debugfs: `mlu/ADDRESS/counters`.

use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// Counters of a chip.
pub(crate) struct Counters {
    interrupts: Atomic<u64>,
    events: Atomic<u64>,
    rescued_waits: Atomic<u64>,
    rescued_calls: Atomic<u64>,
}

impl Counters {
    /// All zero.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let counters = Self {
            interrupts: Atomic::new(0),
            events: Atomic::new(0),
            rescued_waits: Atomic::new(0),
            rescued_calls: Atomic::new(0),
        };
        Ok(Arc::new(counters, GFP_KERNEL)?)
    }

    /// An interrupt was handled.
    pub(crate) fn interrupt(&self) {
        self.interrupts.fetch_add(1, Relaxed);
    }

    /// An event was taken from a ring.
    pub(crate) fn event(&self) {
        self.events.fetch_add(1, Relaxed);
    }

    /// So many waits and arms ended only because somebody looked for lost interrupts.
    pub(crate) fn rescued(&self, count: u64) {
        self.rescued_waits.fetch_add(count, Relaxed);
    }

    /// An answer of the firmware was found although no interrupt had told of it.
    pub(crate) fn rescued_call(&self) {
        self.rescued_calls.fetch_add(1, Relaxed);
    }
}

impl fmt::Display for Counters {
    /// A name and a number a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("interrupts", &self.interrupts),
            ("events", &self.events),
            ("rescued_waits", &self.rescued_waits),
            ("rescued_calls", &self.rescued_calls),
        ] {
            writeln!(f, "{name} {}", counter.load(Relaxed))?;
        }
        Ok(())
    }
}
