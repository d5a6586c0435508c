//! What the firmware runs on: the chip's memories and its way to the host.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;

use vmlu_abi::model::CardModel;

use crate::fabric::Place;
use crate::memory::shared::SharedMemory;
use crate::record::Record;

/// Contiguous host memory behind a DMA address.
#[derive(Clone)]
pub struct HostRange {
    /// First byte, in this process.
    pub pointer: *mut u8,
    /// Bytes.
    pub length: usize,
    /// Whether the card may write it.
    pub writable: bool,
    /// Keeps the mapping alive.
    pub keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the pointer names plain memory that `keep` holds mapped; any thread may use it through `Bytes` and atomics.
unsafe impl Send for HostRange {}
// SAFETY: as for `Send`.
unsafe impl Sync for HostRange {}

/// The chip's way to the host.
pub trait HostPort: Send + Sync + 'static {
    /// The memory at a DMA address; `None` unless all of it is mapped, contiguous here, and writable if that is asked.
    fn translate(&self, address: u64, length: u64, write: bool) -> Option<HostRange>;

    /// Raises an interrupt vector. Must not block.
    fn interrupt(&self, vector: u32);
}

/// One chip's hardware, as the firmware sees it.
pub struct Hardware {
    /// Card model.
    pub model: &'static CardModel,
    /// Index of the chip on its board.
    pub chip: u32,
    /// Serial number of the board.
    pub serial: u64,
    /// Device memory, `model.memory_bytes` long.
    pub memory: Arc<SharedMemory>,
    /// Doorbell pages, `pci::BAR_DOORBELL_SIZE` long.
    pub doorbells: Arc<SharedMemory>,
    /// The way to the host.
    pub host: Arc<dyn HostPort>,
    /// Whether faults may be injected.
    pub inject: bool,
    /// Interfaces of the images that it takes: [`SERVED`](crate::image::SERVED), or what cards of another release take.
    pub served: RangeInclusive<u32>,
    /// What it remembers over resets.
    pub record: Arc<Record>,
    /// Its place among the chips of its server.
    pub place: Place,
}
