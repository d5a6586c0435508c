// SPDX-License-Identifier: GPL-2.0

//! Memory that is not the driver's, which a card uses: pages of a process, and buffers of other
//! drivers.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    rbtree::RBTreeNodeReservation,
    sync::Arc,
};

use crate::{
    card::Card,
    context::Context,
    ext::{dmabuf::ImportedBuffer, pinned::PinnedPages},
    memory::HostMemory,
    quota::{Charge, Kind},
};

/// What is lent, held where it is.
pub(crate) trait Lent {
    /// Maps it for the device.
    fn map(&mut self, dev: &Device<Bound>) -> Result;

    /// Ends that. Doing it again does nothing.
    fn unmap(&self, dev: &Device<Bound>);

    /// Device address and bytes of each piece, in order.
    fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_;
}

impl Lent for PinnedPages {
    fn map(&mut self, dev: &Device<Bound>) -> Result {
        PinnedPages::map(self, dev)
    }

    fn unmap(&self, dev: &Device<Bound>) {
        PinnedPages::unmap(self, dev);
    }

    fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        PinnedPages::dma_pieces(self)
    }
}

impl Lent for ImportedBuffer {
    fn map(&mut self, dev: &Device<Bound>) -> Result {
        ImportedBuffer::map(self, dev)
    }

    fn unmap(&self, dev: &Device<Bound>) {
        ImportedBuffer::unmap(self, dev);
    }

    fn dma_pieces(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        ImportedBuffer::dma_pieces(self)
    }
}

/// Lent memory and the card that uses it. Made and dropped under no lock, since both take that of
/// the process's memory map, or of another driver; but mapped, and dropped or detached first, under
/// its context's lock, as [`CardMemory`](crate::memory::CardMemory).
pub(crate) struct LentMemory<T: Lent> {
    card: Arc<Card>,
    lent: KBox<T>,
}

impl<T: Lent> LentMemory<T> {
    fn map(&mut self) -> Result {
        let lent = &mut self.lent;
        self.card.with_bound(|dev| lent.map(dev)).ok_or(ENODEV)?
    }

    /// Ends the card's mapping, when the card is known to leave the memory alone.
    pub(crate) fn detach(&self) {
        self.card.with_bound(|dev| self.lent.unmap(dev));
    }
}

impl<T: Lent> Drop for LentMemory<T> {
    fn drop(&mut self) {
        self.detach();
    }
}

impl Context {
    /// Maps lent memory of `length` bytes at `va`, which may be mapped so. `lend` holds it where it
    /// is, and `host` says what it is. `EEXIST`: the context has something there.
    pub(crate) fn map_lent<T: Lent>(
        &self,
        (va, length, access): (u64, u64, u32),
        lend: impl FnOnce() -> Result<T>,
        host: impl FnOnce(LentMemory<T>, Charge) -> HostMemory,
    ) -> Result {
        let place = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let charge = self.charge(Kind::Pinned, length)?;
        let mut memory = LentMemory {
            card: self.card().clone(),
            lent: KBox::new(lend()?, GFP_KERNEL)?,
        };
        let mut inner = self.lock()?;
        if inner.host.get(&va).is_some() {
            return Err(EEXIST);
        }
        let mapped = memory
            .map()
            .and_then(|()| Ok(self.host_map(va, length, access, memory.lent.dma_pieces())?));
        if mapped.is_err() {
            memory.detach();
            drop(inner);
            return mapped;
        }
        inner.host.insert(place.into_node(va, host(memory, charge)));
        Ok(())
    }
}
