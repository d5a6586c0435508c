//! Device memory and pinned host memory.

use std::sync::Arc;

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
}

impl Buffer {
    pub(crate) fn new(context: &Arc<ContextInner>, length: u64) -> Result<Self> {
        let address = context.addresses.take(length.max(1))?;
        if let Err(error) = context.channel.memory_alloc(address, length.max(1)) {
            context.addresses.give_back(address);
            return Err(error);
        }
        Ok(Self {
            inner: Arc::new(BufferInner {
                context: context.clone(),
                address,
                length,
            }),
        })
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
}

impl Drop for BufferInner {
    fn drop(&mut self) {
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

/// Pinned host memory: the card reaches it directly, at an address that is the same for the card and for this process.
pub struct PinnedBuffer {
    context: Arc<ContextInner>,
    address: u64,
    length: u64,
}

impl PinnedBuffer {
    pub(crate) fn new(context: &Arc<ContextInner>, length: u64) -> Result<Self> {
        let pages = length.max(1).next_multiple_of(4096);
        let address = context.addresses.take(pages)?;
        if let Err(error) = context
            .channel
            .host_alloc(address, pages, ACCESS_READ | ACCESS_WRITE)
        {
            context.addresses.give_back(address);
            return Err(error);
        }
        Ok(Self {
            context: context.clone(),
            address,
            length,
        })
    }

    /// Address, for the card and for this process.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// First byte. The card may write the memory at any time while commands that name it are queued, so no reference is given out.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address as *mut u8
    }

    /// Copies into the memory, from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(
            offset
                .checked_add(from.len())
                .is_some_and(|end| end <= self.len()),
            "write outside of pinned memory"
        );
        // SAFETY: the range lies within memory that is mapped until `self` is dropped; `from` is a reference, which pinned memory never
        // has, so they do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.as_ptr().add(offset), from.len())
        };
    }

    /// Copies out of the memory, from byte `offset` on.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the memory.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        assert!(
            offset
                .checked_add(to.len())
                .is_some_and(|end| end <= self.len()),
            "read outside of pinned memory"
        );
        // SAFETY: as for `write`.
        unsafe {
            std::ptr::copy_nonoverlapping(self.as_ptr().add(offset), to.as_mut_ptr(), to.len())
        };
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        self.context.drain();
        match self.context.channel.host_free(self.address) {
            Ok(()) => self.context.addresses.give_back(self.address),
            Err(error) => tracing::debug!(
                "pinned memory at {:#x} was not freed: {error}",
                self.address
            ),
        }
    }
}
