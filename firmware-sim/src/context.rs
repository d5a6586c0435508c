//! A context: an address space, queues, a notifier pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vmlu_abi::notifier::Notifier;
use vmlu_abi::{Status, Wire};

use crate::core::Core;
use crate::hardware::HostRange;
use crate::kernels::env::Fault;
use crate::memory::space::{Segment, Space};
use crate::queue::Queue;

/// Who opened a context.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Command name, zero-padded.
    pub comm: [u8; 32],
}

/// A mapping of host memory whose pieces have not all come yet.
pub struct PendingMap {
    /// Device virtual address.
    pub va: u64,
    /// Bytes of the whole.
    pub length: u64,
    /// Access bits.
    pub access: u32,
    /// Pieces so far, with their DMA addresses.
    pub ranges: Vec<(u64, HostRange)>,
    /// Bytes so far.
    pub done: u64,
}

struct NotifierPool {
    segment: Arc<Segment>,
    offset: u64,
    count: u32,
}

/// A context.
pub struct Context {
    /// Handle.
    pub handle: u64,
    /// Who opened it.
    pub owner: Owner,
    space: RwLock<Space>,
    /// Its queues.
    pub queues: Mutex<Vec<Arc<Queue>>>,
    notifiers: RwLock<Option<NotifierPool>>,
    /// The mapping that is being put together.
    pub pending: Mutex<Option<PendingMap>>,
    /// Wall time for which its queues were served, ns.
    pub busy_ns: AtomicU64,
    /// Packets completed.
    pub packets: AtomicU64,
}

impl Context {
    /// A context with nothing in it.
    pub fn new(handle: u64, owner: Owner) -> Self {
        Self {
            handle,
            owner,
            space: RwLock::new(Space::default()),
            queues: Mutex::new(Vec::new()),
            notifiers: RwLock::new(None),
            pending: Mutex::new(None),
            busy_ns: AtomicU64::new(0),
            packets: AtomicU64::new(0),
        }
    }

    /// Index: names the kick page.
    pub fn index(&self) -> u32 {
        self.handle as u32
    }

    /// Its address space.
    pub fn space(&self) -> RwLockReadGuard<'_, Space> {
        self.space.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Its address space, to change it.
    pub fn space_mut(&self) -> RwLockWriteGuard<'_, Space> {
        self.space.write().unwrap_or_else(|e| e.into_inner())
    }

    /// Its queues.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Start and length of the allocation nearest to an address; zero for address 0.
    pub fn nearest(&self, address: u64) -> (u64, u64) {
        if address == 0 {
            return (0, 0);
        }
        match self.space().find(address, 1, false) {
            Ok(segment) => (segment.va, segment.length),
            Err(error) => error.nearest,
        }
    }

    /// Sets, or with a count of 0 takes away, the notifier pool.
    pub fn set_notifiers(&self, va: u64, count: u32) -> Result<(), (Status, String)> {
        let pool = if count == 0 {
            None
        } else {
            if va % 32 != 0 {
                return Err((Status::InvalidArgument, format!("the notifier pool at {va:#x} is not aligned to 32 bytes")));
            }
            let length = u64::from(count) * size_of::<Notifier>() as u64;
            let space = self.space();
            let segment = space.find(va, length, true).map_err(|e| (Status::AddressFault, e.text))?;
            Some(NotifierPool { segment: segment.clone(), offset: va - segment.va, count })
        };
        *self.notifiers.write().unwrap_or_else(|e| e.into_inner()) = pool;
        Ok(())
    }

    /// Lets go of the notifier pool if it lies in a segment that is about to be revoked.
    fn drop_notifiers(&self, segment: &Arc<Segment>) {
        let mut pool = self.notifiers.write().unwrap_or_else(|e| e.into_inner());
        if pool.as_ref().is_some_and(|p| Arc::ptr_eq(&p.segment, segment)) {
            *pool = None;
        }
    }

    /// Writes a notifier; its value last.
    pub fn write_notifier(&self, index: u32, notifier: &Notifier) -> Result<(), Fault> {
        let pool = self.notifiers.read().unwrap_or_else(|e| e.into_inner());
        let pool = pool.as_ref().filter(|p| index < p.count);
        let Some(pool) = pool else {
            return Err(Fault::new(Status::BadHandle, format!("notify: there is no notifier {index}")));
        };
        let at = pool.offset + u64::from(index) * size_of::<Notifier>() as u64;
        let entry = pool.segment.run(at, size_of::<Notifier>() as u64).filter(|e| e.len() == size_of::<Notifier>());
        let Some(entry) = entry else {
            return Err(Fault::new(Status::AddressFault, format!("notify: notifier {index} has no memory")));
        };
        if let Some(rest) = entry.slice(4, size_of::<Notifier>() - 4) {
            rest.copy_from(&notifier.as_bytes()[4..]);
        }
        std::sync::atomic::fence(Ordering::Release);
        entry.write(0, notifier.value);
        Ok(())
    }

    /// Takes segments back that were removed from the space: waits for their users, and gives device memory to the heap. A segment whose
    /// users do not stop stays where it is, and the answer is `Busy`.
    pub fn retire(&self, core: &Core, segments: Vec<Arc<Segment>>) -> Result<(), (Status, String)> {
        let mut result = Ok(());
        for segment in segments {
            self.drop_notifiers(&segment);
            if !segment.revoke() {
                tracing::error!(chip = core.hardware.chip, va = segment.va, "bug: a command does not stop using revoked memory");
                result = Err((Status::Busy, format!("a command still uses the memory at {:#x}", segment.va)));
                self.space_mut().restore(segment);
                continue;
            }
            if let Some(range) = segment.device_range() {
                core.heap().release(range);
            }
        }
        result
    }

    /// Ends everything in the context.
    pub fn close(&self, core: &Core) {
        for queue in std::mem::take(&mut *self.queues.lock().unwrap_or_else(|e| e.into_inner())) {
            queue.destroy();
            core.queues.write().unwrap_or_else(|e| e.into_inner()).remove(queue.handle);
        }
        *self.notifiers.write().unwrap_or_else(|e| e.into_inner()) = None;
        *self.pending.lock().unwrap_or_else(|e| e.into_inner()) = None;
        let segments = self.space_mut().clear();
        let _ = self.retire(core, segments);
    }
}
