//! Devices and contexts.

use std::sync::{Arc, Mutex, Weak};

use vmlu_abi::ioctl::DeviceInfo;

use crate::address::AddressRange;
use crate::error::Result;
use crate::memory::{Buffer, PinnedBuffer};
use crate::queue::{Queue, QueueInner};
use crate::transport::{self, Channel, Transport};

/// Numbers of the chips that there are, over the transport that `MLU_TRANSPORT` or the machine chooses.
pub fn devices() -> Result<Vec<u32>> {
    transport::choose()?.devices()
}

/// A context on a chip: an address space and queues. Cloning it gives another handle on the same context, which ends with its last
/// handle, buffer and queue.
#[derive(Clone)]
pub struct Context {
    pub(crate) inner: Arc<ContextInner>,
}

pub(crate) struct ContextInner {
    pub(crate) channel: Arc<dyn Channel>,
    pub(crate) addresses: AddressRange,
    queues: Mutex<Vec<Weak<QueueInner>>>,
    pub(crate) notifiers: crate::notifier::Pool,
    pub(crate) staging: crate::staging::Pool,
    pub(crate) allocations: crate::memory::Allocations,
}

impl Context {
    /// Opens a context on a chip, over the transport that `MLU_TRANSPORT` or the machine chooses.
    pub fn open(device: u32) -> Result<Self> {
        Self::open_on(&*transport::choose()?, device)
    }

    /// Opens a context on a chip over a given transport.
    pub fn open_on(transport: &dyn Transport, device: u32) -> Result<Self> {
        let channel = transport.open(device)?;
        let granule = channel.info().info.granule.max(4096).next_power_of_two();
        let addresses = AddressRange::new(granule)?;
        let notifiers = crate::notifier::Pool::default();
        Ok(Self {
            inner: Arc::new(ContextInner {
                channel,
                addresses,
                queues: Mutex::default(),
                notifiers,
                staging: Default::default(),
                allocations: Default::default(),
            }),
        })
    }

    /// What the chip is.
    pub fn info(&self) -> &DeviceInfo {
        self.inner.channel.info()
    }

    /// Whether an address is one of those that the context gives out, allocated or not: nothing else of the process is there.
    pub fn reserves(&self, address: u64) -> bool {
        self.inner.addresses.has(address)
    }

    /// Whether both are handles of the same context.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The transport's side of the context, for what has no safe wrapper.
    pub fn channel(&self) -> &dyn Channel {
        &*self.inner.channel
    }

    /// Allocates device memory. Its contents are not defined, but never another context's.
    pub fn alloc(&self, bytes: u64) -> Result<Buffer> {
        Buffer::new(&self.inner, bytes)
    }

    /// Allocates pinned host memory, which the card copies from and to without staging. It is zero.
    pub fn alloc_pinned(&self, bytes: u64) -> Result<PinnedBuffer> {
        PinnedBuffer::new(&self.inner, bytes)
    }

    /// Sets addresses aside, whole granules from a multiple of `align` on, a power of two; 0 for any.
    ///
    /// # Errors
    ///
    /// `Status::InvalidArgument` for other lengths, `Status::OutOfResources` if the context has not so many addresses left.
    pub fn reserve(&self, length: u64, align: u64) -> Result<crate::memory::Reservation> {
        crate::memory::Reservation::new(&self.inner, length, align)
    }

    /// Makes a queue with a ring of 4096 units and the default priority.
    pub fn queue(&self) -> Result<Queue> {
        self.queue_with(4096, vmlu_abi::queue::PRIORITY_DEFAULT, 1)
    }

    /// Makes a queue: units of 64 bytes of its ring (a power of two from 128 to 65536), priority (0 to 7) and share within the priority.
    pub fn queue_with(&self, ring_units: u32, priority: u32, weight: u32) -> Result<Queue> {
        let queue = Queue::new(self, ring_units, priority, weight)?;
        let mut queues = self.inner.queues();
        queues.retain(|q| q.strong_count() > 0);
        queues.push(Arc::downgrade(&queue.inner));
        Ok(queue)
    }

    /// Waits until all queues of the context are empty, or stand still for longer than any command may run. Errors stay with their queues.
    pub fn drain(&self) {
        self.inner.drain();
    }
}

impl ContextInner {
    fn queues(&self) -> std::sync::MutexGuard<'_, Vec<Weak<QueueInner>>> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn drain(&self) {
        let queues: Vec<_> = self.queues().iter().filter_map(Weak::upgrade).collect();
        for queue in queues {
            queue.settle();
        }
    }
}
