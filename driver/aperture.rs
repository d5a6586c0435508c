// SPDX-License-Identifier: GPL-2.0

//! Device memory in user space, through its base address register. See `docs/uapi.md`, section 4.
//!
//! A process may map what it has allocated. The mapping is taken away before the memory can become
//! another's: before it is freed, before the card is reset, and when the card is lost or the driver
//! unbound.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{RBTree, RBTreeNodeReservation},
    sync::Arc,
};

use crate::{
    abi::{ioctl, pci::BAR_MEMORY},
    card::Card,
    context::{new_offset, Area, Context},
    ext::{
        pages::BLOCK,
        vma::{DeviceRange, FileMapping},
    },
    quota::Charge,
};

/// An allocation of device memory, as the firmware has told it.
pub(crate) struct DeviceMemory {
    /// In device memory, and so in the base address register.
    offset: u64,
    /// Bytes.
    length: u64,
    /// Offset for mmap, once it was asked for.
    mapped: Option<u64>,
    _charge: Charge,
}

impl DeviceMemory {
    /// Memory that nobody can map yet.
    pub(crate) fn new(offset: u64, length: u64, charge: Charge) -> Self {
        Self {
            offset,
            length,
            mapped: None,
            _charge: charge,
        }
    }
}

/// A range that user space can map.
struct Aperture {
    range: Arc<DeviceRange>,
    file: FileMapping,
}

/// Ranges by their offset for mmap.
pub(crate) struct Apertures(RBTree<u64, Aperture>);

impl Apertures {
    /// None.
    pub(crate) fn new() -> Self {
        Self(RBTree::new())
    }
}

impl Card {
    /// Takes all device memory away from user space.
    pub(crate) fn close_apertures(&self) {
        let mut apertures = self.apertures.lock();
        let open = core::mem::replace(&mut apertures.0, RBTree::new());
        // Under the lock, so that whoever comes second finds it done.
        for (offset, aperture) in &open {
            aperture.range.revoke(&aperture.file, *offset);
        }
        drop(apertures);
        drop(open);
    }
}

impl Context {
    /// `MEM_MAP`.
    pub(crate) fn mem_map(&self, arg: &mut ioctl::MemMap) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let card = self.card();
        let mut device = self.device.lock();
        let memory = device.get_mut(&arg.va).ok_or(ENOENT)?;
        let length = memory.length.next_multiple_of(PAGE_SIZE as u64);
        let offset = match memory.mapped {
            Some(offset) => offset,
            None => {
                // The register may be smaller than the memory.
                let range = DeviceRange::new(
                    card.pdev(),
                    BAR_MEMORY as u32,
                    memory.offset,
                    usize::try_from(length)?,
                )
                .map_err(|e| if e == EINVAL { EOPNOTSUPP } else { e })?;
                // Aligned like the memory itself, so that whole blocks can be entered.
                let within = memory.offset % BLOCK as u64;
                let offset = new_offset(length.checked_add(2 * BLOCK as u64).ok_or(EINVAL)?)?;
                let offset = offset + within;
                self.show(offset, range)?;
                memory.mapped = Some(offset);
                offset
            }
        };
        arg.length = length;
        arg.mmap_offset = offset;
        Ok(())
    }

    /// Enters a range into the tables. On failure nothing of it is left there.
    fn show(&self, offset: u64, range: Arc<DeviceRange>) -> Result {
        let place = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut inner = self.lock()?;
        let file = inner.file().cloned().ok_or(ENODEV)?;
        inner.add_area(offset, Area::Device(range.clone()))?;
        let mut apertures = self.card().apertures.lock();
        // Who declares the card lost first says so, then empties the table.
        if !self.card().is_alive() {
            drop(apertures);
            inner.remove_area(offset);
            return Err(ENODEV);
        }
        let aperture = Aperture { range, file };
        apertures.0.insert(place.into_node(offset, aperture));
        Ok(())
    }

    /// Takes memory away from user space that is about to be freed.
    pub(crate) fn hide(&self, memory: &DeviceMemory) {
        let Some(offset) = memory.mapped else {
            return;
        };
        // The card may be lost, and the context with it.
        if let Ok(mut inner) = self.lock() {
            inner.remove_area(offset);
        }
        let aperture = self.card().apertures.lock().0.remove(&offset);
        if let Some(aperture) = aperture {
            aperture.range.revoke(&aperture.file, offset);
        }
    }
}
