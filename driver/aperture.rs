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
    /// Whether it was ever shared.
    shared: bool,
    _charge: Charge,
}

impl DeviceMemory {
    /// Memory that nobody can map yet.
    pub(crate) fn new(offset: u64, length: u64, charge: Charge) -> Self {
        Self {
            offset,
            length,
            mapped: None,
            shared: false,
            _charge: charge,
        }
    }

    /// Bytes of its pages, and where they begin in device memory.
    pub(crate) fn pages(&self) -> (u64, u64) {
        (self.length.next_multiple_of(PAGE_SIZE as u64), self.offset)
    }

    /// A part of it, in whole pages. `EOPNOTSUPP`: the base address register does not reach it.
    pub(crate) fn range(&self, card: &Card, from: u64, length: u64) -> Result<Arc<DeviceRange>> {
        let start = self.offset.checked_add(from).ok_or(EINVAL)?;
        let length = usize::try_from(length)?;
        DeviceRange::new(card.pdev(), BAR_MEMORY as u32, start, length)
            // The register may be smaller than the memory.
            .map_err(|e| if e == EINVAL { EOPNOTSUPP } else { e })
    }

    /// It is shared from now on, as far as [`Context::hide`] is concerned.
    pub(crate) fn set_shared(&mut self) {
        self.shared = true;
    }
}

/// A range that user space can map.
struct Aperture {
    range: Arc<DeviceRange>,
    file: FileMapping,
    /// Offset in the file.
    offset: u64,
}

/// Names a range that user space can map, on its card.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Where its allocation begins in device memory: those of one allocation stand together.
    memory: u64,
    /// Unique.
    number: u64,
}

impl Place {
    /// A place that is named by the beginning of an allocation and a number of [`new_offset`].
    pub(crate) fn new(memory: u64, number: u64) -> Self {
        Self { memory, number }
    }
}

/// Ranges by their places.
pub(crate) struct Apertures(RBTree<Place, Aperture>);

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
        for aperture in open.values() {
            aperture.range.revoke(&aperture.file, aperture.offset);
        }
        drop(apertures);
        drop(open);
    }

    /// Enters a range, which is mapped from `offset` on in `file`, so that it is taken away in
    /// time. The caller holds the lock of a context that is current.
    pub(crate) fn show(
        &self,
        place: Place,
        range: Arc<DeviceRange>,
        file: FileMapping,
        offset: u64,
    ) -> Result {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut apertures = self.apertures.lock();
        // Who declares the card lost first says so, then empties the table.
        if !self.is_alive() {
            return Err(ENODEV);
        }
        let aperture = Aperture {
            range,
            file,
            offset,
        };
        apertures.0.insert(node.into_node(place, aperture));
        Ok(())
    }

    /// Takes a range out that nobody has mapped any more.
    pub(crate) fn forget_aperture(&self, place: Place) {
        let aperture = self.apertures.lock().0.remove(&place);
        drop(aperture);
    }
}

impl Context {
    /// `MEM_MAP`.
    pub(crate) fn mem_map(&self, arg: &mut ioctl::MemMap) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        let mut device = self.device.lock();
        let memory = device.get_mut(&arg.va).ok_or(ENOENT)?;
        let (length, _) = memory.pages();
        let offset = match memory.mapped {
            Some(offset) => offset,
            None => {
                let range = memory.range(self.card(), 0, length)?;
                // Aligned like the memory itself, so that whole blocks can be entered.
                let within = memory.offset % BLOCK as u64;
                let offset = new_offset(length.checked_add(2 * BLOCK as u64).ok_or(EINVAL)?)?;
                let offset = offset + within;
                self.show(Place::new(memory.offset, offset), range)?;
                memory.mapped = Some(offset);
                offset
            }
        };
        arg.length = length;
        arg.mmap_offset = offset;
        Ok(())
    }

    /// Enters a range of the file into the tables. On failure nothing of it is left there.
    fn show(&self, place: Place, range: Arc<DeviceRange>) -> Result {
        let offset = place.number;
        let mut inner = self.lock()?;
        let file = inner.file().cloned().ok_or(ENODEV)?;
        inner.add_area(offset, Area::Device(range.clone()))?;
        let shown = self.card().show(place, range, file, offset);
        if shown.is_err() {
            inner.remove_area(offset);
        }
        shown
    }

    /// Takes memory away from user space that is about to be freed.
    pub(crate) fn hide(&self, memory: &DeviceMemory) {
        if let Some(offset) = memory.mapped {
            // The card may be lost, and the context with it.
            if let Ok(mut inner) = self.lock() {
                inner.remove_area(offset);
            }
        } else if !memory.shared {
            return;
        }
        let first = Place::new(memory.offset, 0);
        loop {
            // One at a time: who revokes holds the lock, as in `close_apertures`.
            let mut apertures = self.card().apertures.lock();
            let found = apertures
                .0
                .cursor_lower_bound(&first)
                .map(|c| *c.current().0);
            let Some(place) = found.filter(|place| place.memory == memory.offset) else {
                return;
            };
            let aperture = apertures.0.remove(&place);
            if let Some(aperture) = &aperture {
                aperture.range.revoke(&aperture.file, aperture.offset);
            }
            drop(apertures);
            drop(aperture);
        }
    }
}
