//! Device memory and pinned host memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use vmlu_abi::rpc::{ACCESS_READ, ACCESS_WRITE};

use crate::context::ContextInner;
use crate::error::Result;

/// Device memory. Freed with its last handle, once the commands that were queued before have ended.
#[derive(Clone)]
pub struct Buffer {
    inner: Arc<BufferInner>,
}

struct BufferInner {
    context: Arc<ContextInner>,
    address: u64,
    length: u64,
    /// What [`Buffer::export`] gave.
    exported: OnceLock<crate::peer::MemoryHandle>,
}

impl Buffer {
    /// Whether both are handles of the same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Where what the buffer was exported as is kept.
    pub(crate) fn exported(&self) -> &OnceLock<crate::peer::MemoryHandle> {
        &self.inner.exported
    }

    pub(crate) fn new(context: &Arc<ContextInner>, length: u64) -> Result<Self> {
        Self::map(context, length, |address| {
            context.channel.memory_alloc(address, length.max(1))
        })
    }

    /// A buffer that `make` puts at an address.
    pub(crate) fn map(
        context: &Arc<ContextInner>,
        length: u64,
        make: impl FnOnce(u64) -> Result<()>,
    ) -> Result<Self> {
        let address = context.addresses.take(length.max(1))?;
        Self::map_at(context, address, length, make)
            .inspect_err(|_| context.addresses.give_back(address))
    }

    /// A buffer that `make` puts at an address that the caller has chosen. When it goes, the address goes back to the context if it is the
    /// context's.
    pub(crate) fn map_at(
        context: &Arc<ContextInner>,
        address: u64,
        length: u64,
        make: impl FnOnce(u64) -> Result<()>,
    ) -> Result<Self> {
        make(address)?;
        let inner = Arc::new(BufferInner {
            context: context.clone(),
            address,
            length,
            exported: OnceLock::new(),
        });
        let entry = Allocation::Device(Arc::downgrade(&inner));
        context.allocations.add(address, length, entry);
        Ok(Self { inner })
    }

    /// Device address.
    pub fn address(&self) -> u64 {
        self.inner.address
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.inner.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.inner.length == 0
    }

    pub(crate) fn context(&self) -> &Arc<ContextInner> {
        &self.inner.context
    }
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        self.context.allocations.remove(self.address);
        self.context.drain();
        match self.context.channel.memory_free(self.address) {
            Ok(()) => self.context.addresses.give_back(self.address),
            // The address stays taken: the card may still know it.
            Err(error) => tracing::debug!(
                "device memory at {:#x} was not freed: {error}",
                self.address
            ),
        }
    }
}

/// Addresses of a context that are set aside: nothing is there until something is mapped by [`Context::map_at`]. They go back to the context
/// with this.
///
/// [`Context::map_at`]: crate::Context::map_at
pub struct Reservation {
    context: Arc<ContextInner>,
    taken: u64,
    address: u64,
    length: u64,
}

impl Reservation {
    pub(crate) fn new(context: &Arc<ContextInner>, length: u64, align: u64) -> Result<Self> {
        let granule = context.channel.info().info.granule.max(4096);
        let align = align.max(granule);
        let refuse = |text: String| {
            let status = vmlu_abi::Status::InvalidArgument;
            Err(crate::error::Error::new("reserve addresses", status, text))
        };
        if !align.is_power_of_two() || length == 0 || !length.is_multiple_of(granule) {
            return refuse(format!(
                "{length} bytes at a multiple of {align}: whole granules of {granule} and a power of two are wanted"
            ));
        }
        let Some(with_slack) = length.checked_add(align - granule) else {
            return refuse(format!(
                "{length} bytes are more than any address space has"
            ));
        };
        let taken = context.addresses.take(with_slack)?;
        Ok(Self {
            context: context.clone(),
            taken,
            address: taken.next_multiple_of(align),
            length,
        })
    }

    /// First address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.context.addresses.give_back(self.taken);
    }
}

/// Pinned host memory: the card reaches it directly, at an address that is the same for the card and for this process. Cloning it gives
/// another handle; it is freed like a [`Buffer`].
#[derive(Clone)]
pub struct PinnedBuffer {
    inner: Arc<PinnedInner>,
}

struct PinnedInner {
    context: Arc<ContextInner>,
    memory: HostMemory,
}

impl PinnedBuffer {
    pub(crate) fn new(context: &Arc<ContextInner>, length: u64) -> Result<Self> {
        let memory = HostMemory::new(context, length)?;
        let address = memory.address;
        let context = context.clone();
        let inner = Arc::new(PinnedInner { context, memory });
        let entry = Allocation::Pinned(Arc::downgrade(&inner));
        inner.context.allocations.add(address, length, entry);
        Ok(Self { inner })
    }

    /// Address, for the card and for this process.
    pub fn address(&self) -> u64 {
        self.inner.memory.address
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.inner.memory.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First byte. The card may write the memory at any time while commands that name it are queued, so no reference is given out.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address() as *mut u8
    }

    /// Copies into the memory, from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.inner.memory.write(offset, from);
    }

    /// Copies out of the memory, from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the memory.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.inner.memory.read(offset, to);
    }
}

impl Drop for PinnedInner {
    fn drop(&mut self) {
        self.context.allocations.remove(self.memory.address);
        self.context.drain();
        self.memory.free(&self.context);
    }
}

/// Pinned memory of a context. It is mapped until it is freed, or until the context's channel goes: whoever has it holds the context.
pub(crate) struct HostMemory {
    address: u64,
    length: usize,
}

impl HostMemory {
    /// Allocates whole pages.
    pub(crate) fn new(context: &ContextInner, length: u64) -> Result<Self> {
        let pages = length.max(1).next_multiple_of(4096);
        let address = context.addresses.take(pages)?;
        let access = ACCESS_READ | ACCESS_WRITE;
        if let Err(error) = context.channel.host_alloc(address, pages, access) {
            context.addresses.give_back(address);
            return Err(error);
        }
        Ok(Self {
            address,
            length: length as usize,
        })
    }

    /// Address, for the card and for this process.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Frees it. Nothing names it any more; the range panics from here on.
    pub(crate) fn free(&mut self, context: &ContextInner) {
        self.length = 0;
        match context.channel.host_free(self.address) {
            Ok(()) => context.addresses.give_back(self.address),
            Err(error) => tracing::debug!(
                "pinned memory at {:#x} was not freed: {error}",
                self.address
            ),
        }
    }

    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(
            offset
                .checked_add(length)
                .is_some_and(|end| end <= self.length),
            "{length} bytes at {offset} of {} bytes of pinned memory",
            self.length
        );
        (self.address as *mut u8).wrapping_add(offset)
    }

    /// Copies into the memory. Panics if the range does not lie within it.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: the range lies within memory that is mapped until `free`, which sets the length to 0, and whose owner holds the context;
        // `from` is a reference, which pinned memory never has, so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Copies out of the memory. Panics if the range does not lie within it.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: as for `write`.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }
}

/// The allocations of a context, to find which one an address names.
#[derive(Default)]
pub(crate) struct Allocations {
    /// By address: bytes, and the allocation.
    by_address: Mutex<BTreeMap<u64, (u64, Allocation)>>,
}

enum Allocation {
    Device(Weak<BufferInner>),
    Pinned(Weak<PinnedInner>),
}

/// A handle that keeps an allocation.
#[derive(Clone)]
pub(crate) enum Owner {
    Device(Buffer),
    Pinned(PinnedBuffer),
}

impl Owner {
    /// First address.
    pub(crate) fn address(&self) -> u64 {
        match self {
            Self::Device(buffer) => buffer.address(),
            Self::Pinned(buffer) => buffer.address(),
        }
    }
}

impl Allocations {
    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (u64, Allocation)>> {
        self.by_address.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn add(&self, address: u64, length: u64, allocation: Allocation) {
        self.map().insert(address, (length.max(1), allocation));
    }

    fn remove(&self, address: u64) {
        self.map().remove(&address);
    }

    /// The allocation that an address lies in.
    pub(crate) fn owner(&self, address: u64) -> Option<Owner> {
        let map = self.map();
        let (start, (length, allocation)) = map.range(..=address).next_back()?;
        if address - start >= *length {
            return None;
        }
        match allocation {
            Allocation::Device(inner) => {
                let inner = inner.upgrade()?;
                Some(Owner::Device(Buffer { inner }))
            }
            Allocation::Pinned(inner) => {
                let inner = inner.upgrade()?;
                Some(Owner::Pinned(PinnedBuffer { inner }))
            }
        }
    }
}
