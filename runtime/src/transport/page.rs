//! The telemetry page of a chip, read without asking the chip. See `docs/hardware.md`, section 10.

use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::Arc;

use vmlu_abi::telemetry::Telemetry;
use vmlu_abi::Wire;
use vmlu_device::embedded::{EmbeddedChip, SharedMemory};

use super::sys::Mapping;

/// Words of the structure.
const WORDS: usize = size_of::<Telemetry>() / 8;
/// Attempts at a copy that nobody writes meanwhile: a card writes for a microsecond each 10 ms.
const ATTEMPTS: usize = 1000;

/// Where a page is.
enum Place {
    /// A chip of this process.
    Own(Arc<SharedMemory>),
    /// A mapping of a file.
    Mapped(Mapping),
}

/// A chip's telemetry page.
pub struct TelemetryPage(Place);

impl TelemetryPage {
    pub(super) fn own(chip: &EmbeddedChip) -> Self {
        Self(Place::Own(chip.telemetry().clone()))
    }

    pub(super) fn mapped(mapping: Mapping) -> Option<Self> {
        (mapping.len() >= size_of::<Telemetry>()).then_some(Self(Place::Mapped(mapping)))
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        match &self.0 {
            Place::Own(memory) => memory.word(index as u64 * 8),
            Place::Mapped(mapping) => Some(mapping.word(index * 8)),
        }
    }

    /// What the card wrote last; `None` if it writes all the time, or has never written.
    pub fn read(&self) -> Option<Telemetry> {
        let sequence = self.word(0)?;
        for _ in 0..ATTEMPTS {
            let before = sequence.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let mut bytes = [0; size_of::<Telemetry>()];
            for (index, to) in bytes.chunks_exact_mut(8).enumerate().take(WORDS) {
                to.copy_from_slice(&self.word(index)?.load(Ordering::Relaxed).to_ne_bytes());
            }
            fence(Ordering::Acquire);
            if sequence.load(Ordering::Relaxed) == before {
                return Telemetry::read_from(&bytes).filter(|t| t.version != 0);
            }
        }
        None
    }
}
