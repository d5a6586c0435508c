// SPDX-License-Identifier: GPL-2.0

//! Device memory and pinned host memory of a context.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::RBTreeNodeReservation,
    sync::{Arc, UniqueArc},
};

use crate::{
    abi::{
        ioctl,
        rpc::{self, Function, HostPiece, ACCESS_READ, ACCESS_WRITE, MAX_PIECES},
        status::Status,
        Wire,
    },
    aperture::DeviceMemory,
    card::Card,
    context::{new_offset, Area, Context},
    ext::{dmabuf::ImportedBuffer, pages::PageSet, pinned::PinnedPages, vma::Access},
    lent::LentMemory,
    quota::{Charge, Kind},
    rpc::RpcError,
};

/// Memory that a card uses. The card's mapping ends when this is dropped, which is after the
/// firmware has given it up; the memory itself lives on while user space has it mapped.
///
/// It is made, and dropped or detached, under its context's lock: memory that is in no table then
/// can be in nobody's hands when the driver is unbound, which ends the mappings of all that is in
/// the tables.
pub(crate) struct CardMemory {
    card: Arc<Card>,
    pages: Arc<PageSet>,
}

impl CardMemory {
    /// Memory in pieces of up to 2 MiB.
    pub(crate) fn scattered(card: &Arc<Card>, length: usize) -> Result<Self> {
        Self::new(card, PageSet::new(length)?)
    }

    /// Memory in one piece.
    pub(crate) fn contiguous(card: &Arc<Card>, length: usize) -> Result<Self> {
        Self::new(card, PageSet::contiguous(length)?)
    }

    fn new(card: &Arc<Card>, mut pages: PageSet) -> Result<Self> {
        // Once the pages are mapped nothing may fail.
        let place = UniqueArc::new_uninit(GFP_KERNEL)?;
        card.with_bound(|dev| pages.map(dev)).ok_or(ENODEV)??;
        Ok(Self {
            card: card.clone(),
            pages: place.write(pages).into(),
        })
    }

    /// The memory.
    pub(crate) fn pages(&self) -> &Arc<PageSet> {
        &self.pages
    }

    /// Ends the card's mapping now, when the card is known to leave the memory alone.
    pub(crate) fn detach(&self) {
        self.card.unmap(&self.pages);
    }
}

impl Drop for CardMemory {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Pinned memory that a context has on its card.
pub(crate) enum HostMemory {
    /// The driver's.
    Allocated {
        /// Offset for mmap.
        offset: u64,
        /// The memory.
        memory: CardMemory,
        /// Counts it for its user.
        _charge: Charge,
    },
    /// The process's.
    Registered {
        /// The memory.
        memory: LentMemory<PinnedPages>,
        /// Counts it for its user.
        _charge: Charge,
    },
    /// Another driver's.
    Imported {
        /// The memory.
        memory: LentMemory<ImportedBuffer>,
        /// Counts it for its user.
        _charge: Charge,
    },
}

impl HostMemory {
    /// Ends the card's mapping, when the card is known to leave the memory alone.
    pub(crate) fn detach(&self) {
        match self {
            Self::Allocated { memory, .. } => memory.detach(),
            Self::Registered { memory, .. } => memory.detach(),
            Self::Imported { memory, .. } => memory.detach(),
        }
    }

    /// Offset for mmap, if it has one.
    pub(crate) fn offset(&self) -> Option<u64> {
        match self {
            Self::Allocated { offset, .. } => Some(*offset),
            Self::Registered { .. } | Self::Imported { .. } => None,
        }
    }
}

/// Whether the card may be told to use host memory so.
pub(crate) fn may_map(va: u64, length: u64, access: u32) -> bool {
    let page = PAGE_SIZE as u64;
    length != 0
        && length % page == 0
        && va % page == 0
        && va.checked_add(length).is_some()
        && access != 0
        && access & !(ACCESS_READ | ACCESS_WRITE) == 0
}

impl Context {
    /// `MEM_ALLOC`.
    pub(crate) fn mem_alloc(&self, arg: &mut ioctl::MemAlloc) -> Result {
        if arg.flags != 0 || arg.length == 0 || arg.va.checked_add(arg.length).is_none() {
            return Err(EINVAL);
        }
        let command = rpc::MemoryAlloc {
            va: arg.va,
            length: arg.length,
            flags: 0,
        };
        // Before the card gives the memory: then nothing may fail.
        let place = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let charge = self.charge(Kind::Memory, arg.length)?;
        let mut device = self.device.lock();
        let done: rpc::MemoryAllocated = self.call(Function::MemoryAlloc, &command)?;
        let memory = DeviceMemory::new(done.offset, arg.length, charge);
        device.insert(place.into_node(arg.va, memory));
        arg.allocation = done.allocation;
        arg.reserved = 0;
        Ok(())
    }

    /// `MEM_FREE`.
    pub(crate) fn mem_free(&self, arg: &ioctl::MemFree) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        if self.host_free_if(arg.va, |host| matches!(host, HostMemory::Imported { .. }))? {
            return Ok(());
        }
        let mut device = self.device.lock();
        // Before the card gives the memory to others. (Mappings of others' memory are not in the
        // table.)
        if let Some(memory) = device.remove(&arg.va) {
            self.hide(&memory);
        }
        Ok(self.call::<_, ()>(Function::MemoryFree, &rpc::MemoryFree { va: arg.va })?)
    }

    /// `HOST_ALLOC`.
    pub(crate) fn host_alloc(&self, arg: &mut ioctl::HostAlloc) -> Result {
        if arg.flags != 0 || arg.reserved != 0 || !may_map(arg.va, arg.length, arg.access) {
            return Err(EINVAL);
        }
        let length = usize::try_from(arg.length)?;
        let charge = self.charge(Kind::Pinned, arg.length)?;
        // Before the card gets the memory: then nothing may fail.
        let host_place = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let area_place = RBTreeNodeReservation::new(GFP_KERNEL)?;

        let mut inner = self.lock()?;
        if inner.host.get(&arg.va).is_some() {
            return Err(EEXIST);
        }
        let memory = CardMemory::scattered(self.card(), length)?;
        let offset = new_offset(arg.length)?;
        let pieces = memory.pages().dma_pieces();
        self.host_map(arg.va, arg.length, arg.access, pieces)?;
        let area = Area::Pages(memory.pages().clone(), Access::ReadWrite);
        inner.areas.insert(area_place.into_node(offset, area));
        let host = HostMemory::Allocated {
            offset,
            memory,
            _charge: charge,
        };
        inner.host.insert(host_place.into_node(arg.va, host));
        arg.mmap_offset = offset;
        Ok(())
    }

    /// `HOST_REGISTER`.
    pub(crate) fn host_register(&self, arg: &ioctl::HostRegister) -> Result {
        if arg.flags != 0
            || arg.reserved != 0
            || arg.address % PAGE_SIZE as u64 != 0
            || arg.address.checked_add(arg.length).is_none()
            || !may_map(arg.va, arg.length, arg.access)
        {
            return Err(EINVAL);
        }
        let pin = || {
            let (address, length) = (usize::try_from(arg.address)?, usize::try_from(arg.length)?);
            PinnedPages::new(address, length, arg.access & ACCESS_WRITE != 0)
        };
        let host = |memory, charge| HostMemory::Registered {
            memory,
            _charge: charge,
        };
        self.map_lent((arg.va, arg.length, arg.access), pin, host)
    }

    /// Undoes a mapping of which the card has nothing or some pieces.
    fn take_back(&self, va: u64) {
        match self.host_unmap(va) {
            Ok(()) | Err(RpcError::Lost | RpcError::Refused(Status::BadHandle)) => {}
            // The memory is about to be freed, so the card may not go on with it.
            Err(e) => self
                .card()
                .fail(fmt!("HostUnmap of a half-made mapping failed: {e:?}")),
        }
    }

    /// Maps pieces of host memory for commands of the context. If that fails the card has nothing
    /// of them.
    pub(crate) fn host_map(
        &self,
        va: u64,
        length: u64,
        access: u32,
        pieces: impl Iterator<Item = (u64, u64)>,
    ) -> Result<(), RpcError> {
        let mapped = self.host_map_pieces(va, length, access, pieces);
        if mapped.is_err() {
            self.take_back(va);
        }
        mapped
    }

    /// Tells the firmware the pieces of a mapping, in as many messages as it takes.
    fn host_map_pieces(
        &self,
        va: u64,
        length: u64,
        access: u32,
        pieces: impl Iterator<Item = (u64, u64)>,
    ) -> Result<(), RpcError> {
        let mut batch =
            KVec::<u8>::with_capacity(MAX_PIECES * core::mem::size_of::<HostPiece>(), GFP_KERNEL)
                .map_err(Error::from)?;
        let mut head = rpc::HostMap {
            va,
            length,
            offset: 0,
            count: 0,
            access,
            flags: 0,
        };
        let mut end = 0;
        for (address, length) in pieces {
            if head.count as usize == MAX_PIECES {
                self.host_map_batch(&head, &batch)?;
                batch.clear();
                head.offset = end;
                head.count = 0;
            }
            let piece = HostPiece { address, length };
            batch
                .extend_from_slice(piece.as_bytes(), GFP_KERNEL)
                .map_err(Error::from)?;
            head.count += 1;
            end += length;
        }
        self.host_map_batch(&head, &batch)
    }

    fn host_map_batch(&self, head: &rpc::HostMap, pieces: &[u8]) -> Result<(), RpcError> {
        let body = [head.as_bytes(), pieces];
        self.card()
            .call_with(Function::HostMap, self.scope(), &body, |body| {
                body.is_empty().then_some(())
            })
    }

    fn host_unmap(&self, va: u64) -> Result<(), RpcError> {
        self.call::<_, ()>(Function::HostUnmap, &rpc::MemoryFree { va })
    }

    /// `HOST_FREE`.
    pub(crate) fn host_free(&self, arg: &ioctl::MemFree) -> Result {
        if arg.flags != 0 {
            return Err(EINVAL);
        }
        match self.host_free_if(arg.va, |host| !matches!(host, HostMemory::Imported { .. }))? {
            true => Ok(()),
            false => Err(ENOENT),
        }
    }

    /// Takes host memory away from the card that begins at `va`, if it is as `wanted`. Returns
    /// whether it was.
    fn host_free_if(&self, va: u64, wanted: impl FnOnce(&HostMemory) -> bool) -> Result<bool> {
        let mut inner = self.lock()?;
        if !inner.host.get(&va).is_some_and(wanted) {
            return Ok(false);
        }
        match self.host_unmap(va) {
            Ok(()) | Err(RpcError::Lost) => {
                let host = inner.remove_host(va);
                if let Some(host) = &host {
                    host.detach();
                }
                // What is pinned is given up under no lock.
                drop(inner);
                drop(host);
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// `NOTIFIER_POOL`.
    pub(crate) fn notifier_pool(&self, arg: &ioctl::NotifierPool) -> Result {
        if arg.flags != 0 || arg.reserved != 0 {
            return Err(EINVAL);
        }
        let command = rpc::NotifierPool {
            va: arg.va,
            count: arg.count,
            reserved: 0,
        };
        Ok(self.call::<_, ()>(Function::NotifierPool, &command)?)
    }
}
