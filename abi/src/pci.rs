//! PCI identity and the map of the base address registers. See `docs/hardware.md`, section 2.

/// PCI vendor ID of the vendor's cards.
pub const VENDOR_ID: u16 = 0xcabc;
/// Base class 0x12, subclass 0, interface 0: processing accelerator (PCI Code and ID Assignment, base class 12h).
pub const CLASS_CODE: u32 = 0x12_0000;
/// Revision that the card reports in configuration space.
pub const REVISION: u8 = 1;

/// BAR of the registers: trapped, control only.
pub const BAR_REGS: usize = 0;
/// BAR of the doorbell pages: shared memory.
pub const BAR_DOORBELL: usize = 2;
/// BAR of the aperture on device memory: 64-bit, prefetchable.
pub const BAR_MEMORY: usize = 4;

/// Bytes of BAR0: registers in the first 4 MiB, kick pages from [`KICK_BASE`] on.
pub const BAR_REGS_SIZE: u64 = 8 << 20;
/// Bytes of BAR2: one page for each of [`MAX_QUEUES`] queues.
pub const BAR_DOORBELL_SIZE: u64 = MAX_QUEUES as u64 * PAGE_SIZE;

/// The card's page: the unit of doorbells, kicks and mappings.
pub const PAGE_SIZE: u64 = 4096;
/// Queues of a chip.
pub const MAX_QUEUES: u32 = 4096;
/// Contexts of a chip.
pub const MAX_CONTEXTS: u32 = 1024;
/// Interrupt vectors of a chip, MSI-X or MSI. A driver may enable fewer: vector `v` of the card is then raised as `v` modulo their number.
pub const MAX_VECTORS: u32 = 16;

/// Offset in BAR0 of the kick page of context 0; each context has one page.
pub const KICK_BASE: u64 = 4 << 20;
/// Offset in BAR0 of the MSI-X table.
pub const MSIX_TABLE: u64 = 0x8000;
/// Offset in BAR0 of the MSI-X pending bit array.
pub const MSIX_PBA: u64 = 0x9000;

/// Offset in BAR0 of a context's kick page.
pub const fn kick_offset(context_index: u32) -> u64 {
    KICK_BASE + context_index as u64 * PAGE_SIZE
}

/// Offset in BAR2 of the page with a queue's doorbell.
pub const fn doorbell_page(queue_index: u32) -> u64 {
    queue_index as u64 * PAGE_SIZE
}

/// Offset within its page of a queue's doorbell word: spread over cache sets, since the card polls many of them.
pub const fn doorbell_slot(queue_index: u32) -> u64 {
    (queue_index % 64) as u64 * 64
}

const _: () = assert!(kick_offset(MAX_CONTEXTS) == BAR_REGS_SIZE);
const _: () = assert!(BAR_DOORBELL_SIZE == 16 << 20);
