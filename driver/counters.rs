// SPDX-License-Identifier: GPL-2.0

//! What a chip's driver counts, shown in debugfs: `mlu/ADDRESS/counters`.

use kernel::{
    debugfs::{Dir, File, Writer},
    fmt,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

use crate::ext::pages::pinned_memory;

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

    /// Shows them in a folder of debugfs until the result is dropped. A kernel without debugfs does without.
    pub(crate) fn show(this: &Arc<Self>, root: &Dir, address: fmt::Arguments<'_>) -> Result<Shown> {
        let name = CString::try_from_fmt(address)?;
        let folder = root.subdir(&name);
        let text = Text(this.clone());
        Ok(Shown(KBox::pin_init(
            folder.read_only_file(c"counters", text),
            GFP_KERNEL,
        )?))
    }
}

/// Counters that are shown.
pub(crate) struct Shown(#[expect(dead_code)] Pin<KBox<File<Text>>>);

/// Counters as text: a name and a number a line.
pub(crate) struct Text(Arc<Counters>);

impl Writer for Text {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.0;
        for (name, counter) in [
            ("interrupts", &counters.interrupts),
            ("events", &counters.events),
            ("rescued_waits", &counters.rescued_waits),
            ("rescued_calls", &counters.rescued_calls),
        ] {
            writeln!(f, "{name} {}", counter.load(Relaxed))?;
        }
        writeln!(f, "pinned_bytes {}", pinned_memory())
    }
}
