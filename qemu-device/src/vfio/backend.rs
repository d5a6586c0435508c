//! What the protocol asks of a chip.

use std::fs::File;
use std::io::Error;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, ServerBackend};

use super::door::Seat;
use crate::card::interrupts::Kind;
use crate::card::{Card, ResetCause};

/// A chip behind the protocol. No method ever returns an error: the crate would lose the stream, and with it the guest's card.
pub struct Backend {
    card: Arc<Card>,
    seat: Arc<Seat>,
}

impl Backend {
    /// A backend for one client.
    pub fn new(card: Arc<Card>, seat: Arc<Seat>) -> Self {
        Self { card, seat }
    }

    /// Runs a handler. A panic is a bug: it is logged, and the card goes on.
    fn guard(&self, what: &str, handler: impl FnOnce(&Card)) -> bool {
        self.seat.talks();
        let done = catch_unwind(AssertUnwindSafe(|| handler(&self.card))).is_ok();
        if !done {
            tracing::error!(
                "chip {}: internal error in {what}; the access was dropped",
                self.card.identity().number
            );
        }
        done
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        let done = self.guard("a read", |card| match region {
            VFIO_PCI_CONFIG_REGION_INDEX => card.config_read(offset, data),
            _ => card.bar_read(region as usize, offset, data),
        });
        if !done {
            data.fill(0xff);
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.guard("a write", |card| match region {
            VFIO_PCI_CONFIG_REGION_INDEX => card.config_write(offset, data),
            _ => card.bar_write(region as usize, offset, data),
        });
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> Result<(), Error> {
        self.guard("a memory map", |card| {
            let (readable, writable) = (
                flags.contains(DmaMapFlags::READ),
                flags.contains(DmaMapFlags::WRITE),
            );
            card.dma_map(
                address,
                size,
                fd.map(|file| (file, offset)),
                readable,
                writable,
            );
        });
        Ok(())
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> Result<(), Error> {
        self.guard("a memory unmap", |card| {
            card.dma_unmap(address, size, flags.contains(DmaUnmapFlags::UNMAP_ALL));
        });
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Error> {
        self.guard("a reset", |card| card.reset(ResetCause::Bus));
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> Result<(), Error> {
        self.guard("an interrupt set-up", |card| {
            tracing::trace!("interrupts: index {index} flags {flags:#x} vectors {start}+{count}, {} descriptors", fds.len());
            let kind = match index {
                VFIO_PCI_MSI_IRQ_INDEX => Kind::Msi,
                VFIO_PCI_MSIX_IRQ_INDEX => Kind::MsiX,
                _ => return,
            };
            // Masking is the interrupt controller's affair with both kinds.
            if flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 {
                return;
            }
            if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
                card.interrupts().set(kind, start, count, fds);
            } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 && count == 0 {
                card.interrupts().disable(kind);
            } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 {
                card.interrupts().trigger(kind, start, count);
            }
        });
        Ok(())
    }
}
