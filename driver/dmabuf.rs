// SPDX-License-Identifier: GPL-2.0

//! Memory that is shared by file descriptors: device memory as a dma-buf, and dma-bufs of other
//! drivers for the card. See `docs/uapi.md`, section 12.

use kernel::{
    mm::virt::VmaNew,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, ArcBorrow},
};

use crate::{
    abi::{
        ioctl,
        rpc::{Function, MemoryFree, MemoryImport, MemoryToken, ACCESS_READ, ACCESS_WRITE},
    },
    aperture::Place,
    card::Card,
    context::{new_offset, Context},
    ext::{
        dmabuf::{DmaBuf, Exporter, ImportedBuffer},
        vma::DeviceRange,
    },
    memory::{may_map, HostMemory},
};

/// Device memory that is shared.
pub(crate) struct SharedMemory {
    card: Arc<Card>,
    /// Names the allocation, for this chip and others.
    token: MemoryToken,
    /// Whether it is the whole allocation.
    is_whole: bool,
    range: Arc<DeviceRange>,
    place: Place,
}

impl Exporter for SharedMemory {
    const NAME: &'static CStr = c"mlu";

    fn mmap(this: ArcBorrow<'_, Self>, vma: &VmaNew) -> Result {
        DeviceRange::map_part(vma, this.range.clone())
    }

    fn release(this: Arc<Self>) {
        this.card.forget_aperture(this.place);
    }
}

impl Context {
    /// `DMABUF_EXPORT`; the descriptor is still to be made.
    pub(crate) fn dmabuf_export(&self, arg: &ioctl::DmabufExport) -> Result<DmaBuf> {
        let page = PAGE_SIZE as u64;
        let end = arg.offset.checked_add(arg.length).ok_or(EINVAL)?;
        if arg.flags != 0 || arg.length == 0 || (arg.offset | arg.length) % page != 0 {
            return Err(EINVAL);
        }
        let mut device = self.device.lock();
        let memory = device.get_mut(&arg.va).ok_or(ENOENT)?;
        let (whole, start) = memory.pages();
        if end > whole {
            return Err(EINVAL);
        }
        let token = self.call(Function::MemoryExport, &MemoryFree { va: arg.va })?;
        let range = memory.range(self.card(), arg.offset, arg.length)?;
        let place = Place::new(start, new_offset(page)?);
        let shared = SharedMemory {
            card: self.card().clone(),
            token,
            is_whole: arg.length == whole,
            range: range.clone(),
            place,
        };
        let buffer = DmaBuf::export(Arc::new(shared, GFP_KERNEL)?, usize::try_from(arg.length)?)?;
        // Under the lock: the memory is not freed meanwhile. If this fails, the buffer goes, which
        // nobody has seen.
        let inner = self.lock()?;
        self.card().show(place, range, buffer.mappings(), 0)?;
        drop(inner);
        memory.set_shared();
        Ok(buffer)
    }

    /// `DMABUF_IMPORT`.
    pub(crate) fn dmabuf_import(&self, arg: &mut ioctl::DmabufImport) -> Result {
        let known = ACCESS_READ | ACCESS_WRITE;
        if arg.flags != 0 || arg.access & ACCESS_READ == 0 || arg.access & !known != 0 {
            return Err(EINVAL);
        }
        let buffer = DmaBuf::from_fd(arg.fd)?;
        let written = arg.access & ACCESS_WRITE != 0;
        if written && !buffer.is_writable() {
            return Err(EACCES);
        }
        let length = buffer.len() as u64;
        if arg.va.checked_add(length).is_none() {
            return Err(EINVAL);
        }
        match buffer.exported::<SharedMemory>() {
            Some(shared) if shared.is_whole => {
                let import = MemoryImport {
                    va: arg.va,
                    access: arg.access,
                    flags: 0,
                    token: shared.token,
                };
                self.call::<_, ()>(Function::MemoryImport, &import)?;
            }
            Some(_) => return Err(EOPNOTSUPP),
            None => self.import_foreign(arg, buffer, written)?,
        }
        arg.length = length;
        Ok(())
    }

    fn import_foreign(&self, arg: &ioctl::DmabufImport, buffer: DmaBuf, written: bool) -> Result {
        let length = buffer.len() as u64;
        if arg.va == 0 || !may_map(arg.va, length, arg.access) {
            return Err(EINVAL);
        }
        let hold = || ImportedBuffer::new(buffer, written);
        let host = |memory, charge| HostMemory::Imported {
            memory,
            _charge: charge,
        };
        self.map_lent((arg.va, length, arg.access), hold, host)
    }
}
