//! A context: an address space, queues, a notifier pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use vmlu_abi::event::EventKind;
use vmlu_abi::graph::MAX_GRAPHS;
use vmlu_abi::notifier::Notifier;
use vmlu_abi::queue::{IMPORTED, MAX_IMPORTS};
use vmlu_abi::{Status, Wire};

use crate::core::Core;
use crate::graph::{Graph, Image};
use crate::hardware::HostRange;
use crate::kernels::env::Fault;
use crate::memory::space::{PieceCharge, Segment, Space, REVOKE_LIMIT};
use crate::queue::{Queue, Timeline};
use crate::table::Table;

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
    /// Counts the pieces.
    pub charge: PieceCharge,
}

impl PendingMap {
    /// Adds a piece, in one with the one before it if both are contiguous; `false` if the chip has too many.
    pub fn push(&mut self, address: u64, range: HostRange) -> bool {
        self.done += range.length as u64;
        if let Some((start, last)) = self.ranges.last_mut()
            && start.checked_add(last.length as u64) == Some(address)
            && last.pointer.wrapping_add(last.length) == range.pointer
            && Arc::ptr_eq(&last.keep, &range.keep)
        {
            last.length += range.length;
            last.writable &= range.writable;
            return true;
        }
        self.ranges.push((address, range));
        self.charge.add(MAX_PIECES)
    }

    /// Whether a DMA range touches the pieces so far.
    fn touches(&self, address: u64, length: u64) -> bool {
        let end = address.saturating_add(length);
        self.ranges
            .iter()
            .any(|(a, r)| *a < end && address < a.saturating_add(r.length as u64))
    }
}

/// Most pieces of host memory of all mappings of a chip: what they take of the server's memory is about 100 MB.
const MAX_PIECES: u64 = 2 << 20;
/// Most mappings of a context that are being put together at a time.
pub const MAX_PENDING: usize = 16;

struct NotifierPool {
    segment: Arc<Segment>,
    offset: u64,
    count: u32,
}

#[derive(Default)]
struct Queues {
    list: Vec<Arc<Queue>>,
    /// The context has ended: no queue is added any more.
    closed: bool,
}

/// A context.
pub struct Context {
    /// Handle.
    pub handle: u64,
    /// Who opened it.
    pub owner: Owner,
    space: RwLock<Space>,
    queues: Mutex<Queues>,
    notifiers: RwLock<Option<NotifierPool>>,
    pending: Mutex<Vec<PendingMap>>,
    /// Timelines of others that its queues may wait for.
    imports: Mutex<Table<Arc<Timeline>>>,
    graphs: Mutex<Table<Graph>>,
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
            queues: Mutex::default(),
            notifiers: RwLock::new(None),
            pending: Mutex::default(),
            imports: Mutex::new(Table::new(MAX_IMPORTS as u32)),
            graphs: Mutex::new(Table::new(MAX_GRAPHS as u32)),
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

    fn queue_list(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Its queues.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queue_list().list.clone()
    }

    /// How many queues it has.
    pub fn queue_count(&self) -> u32 {
        self.queue_list().list.len() as u32
    }

    /// Adds a queue; `false` if the context has ended.
    pub fn add_queue(&self, queue: &Arc<Queue>) -> bool {
        let mut queues = self.queue_list();
        if !queues.closed {
            queues.list.push(queue.clone());
        }
        !queues.closed
    }

    /// Kicks the queues that have work.
    pub fn kick(&self) {
        self.queue_list()
            .list
            .iter()
            .filter(|q| q.has_work())
            .for_each(|q| q.kick());
    }

    /// Ends a queue, which is then nobody's any more; `false` if its command did not stop in time.
    pub fn end_queue(&self, core: &Core, queue: &Arc<Queue>, deadline: Instant) -> bool {
        self.queue_list().list.retain(|q| !Arc::ptr_eq(q, queue));
        let stopped = queue.destroy(deadline);
        if !stopped {
            tracing::error!(
                chip = core.hardware.chip,
                queue = queue.index,
                "bug: a command does not stop"
            );
        }
        core.queues
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .remove(queue.handle);
        stopped
    }

    fn imports(&self) -> MutexGuard<'_, Table<Arc<Timeline>>> {
        self.imports.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lets its queues wait for a timeline; the handle for it, `None` if there are [`MAX_IMPORTS`] of them.
    pub fn import(&self, timeline: Arc<Timeline>) -> Option<u64> {
        let mut handle = 0;
        self.imports().insert(|h| {
            handle = h | IMPORTED;
            timeline
        })?;
        Some(handle)
    }

    /// Gives an imported timeline up; waits for it end with an error. `false` if the handle names none.
    pub fn release_import(&self, core: &Core, handle: u64) -> bool {
        if handle & IMPORTED == 0 {
            return false;
        }
        let Some(timeline) = self.imports().remove(handle & !IMPORTED) else {
            return false;
        };
        timeline.release(self.handle, core);
        true
    }

    /// The timeline of one of its queues, or one that it has imported.
    pub fn find_timeline(&self, core: &Core, handle: u64) -> Option<Arc<Timeline>> {
        if handle & IMPORTED != 0 {
            let timeline = self.imports().get(handle & !IMPORTED)?;
            return Some(Arc::clone(&timeline));
        }
        core.find_queue(handle)
            .filter(|q| q.context.handle == self.handle)
            .map(|q| q.shared_timeline().clone())
    }

    fn graphs(&self) -> MutexGuard<'_, Table<Graph>> {
        self.graphs.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a graph; its handle, `None` if there are [`MAX_GRAPHS`] of them.
    pub fn add_graph(&self, image: Image) -> Option<u64> {
        let mut handle = 0;
        self.graphs().insert(|h| {
            handle = h;
            Graph::new(image)
        })?;
        Some(handle)
    }

    /// A graph.
    pub fn graph(&self, handle: u64) -> Option<Arc<Graph>> {
        self.graphs().get(handle)
    }

    /// What a graph runs now.
    pub fn graph_image(&self, handle: u64) -> Option<Arc<Image>> {
        self.graph(handle).map(|g| g.image())
    }

    /// Takes a graph away; `false` if the handle names none.
    pub fn remove_graph(&self, handle: u64) -> bool {
        let graph = self.graphs().remove(handle);
        graph.is_some()
    }

    /// The mappings that are being put together.
    pub fn pending(&self) -> MutexGuard<'_, Vec<PendingMap>> {
        self.pending.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets the mapping at an address that is being put together; `false` if there is none.
    pub fn drop_pending(&self, va: u64) -> bool {
        let mut list = self.pending();
        let before = list.len();
        list.retain(|p| p.va != va);
        list.len() < before
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
            if !va.is_multiple_of(32) {
                return Err((
                    Status::InvalidArgument,
                    format!("the notifier pool at {va:#x} is not aligned to 32 bytes"),
                ));
            }
            let length = u64::from(count) * size_of::<Notifier>() as u64;
            let space = self.space();
            let segment = space
                .find(va, length, true)
                .map_err(|e| (Status::AddressFault, e.text))?;
            Some(NotifierPool {
                segment: segment.clone(),
                offset: va - segment.va,
                count,
            })
        };
        let mut slot = self.notifiers.write().unwrap_or_else(|e| e.into_inner());
        // Looked at with the lock held: who revokes the segment now finds the pool and takes it away.
        if pool.as_ref().is_some_and(|p| p.segment.is_revoked()) {
            return Err((
                Status::AddressFault,
                format!("the memory at {va:#x} is being freed"),
            ));
        }
        *slot = pool;
        Ok(())
    }

    /// Lets go of the notifier pool if it lies in a segment that is about to be revoked.
    fn drop_notifiers(&self, segment: &Arc<Segment>) {
        let mut pool = self.notifiers.write().unwrap_or_else(|e| e.into_inner());
        if pool
            .as_ref()
            .is_some_and(|p| Arc::ptr_eq(&p.segment, segment))
        {
            *pool = None;
        }
    }

    /// Writes a notifier; its value last.
    pub fn write_notifier(&self, index: u32, notifier: &Notifier) -> Result<(), Fault> {
        let pool = self.notifiers.read().unwrap_or_else(|e| e.into_inner());
        let pool = pool.as_ref().filter(|p| index < p.count);
        let Some(pool) = pool else {
            return Err(Fault::new(
                Status::BadHandle,
                format!("notify: there is no notifier {index}"),
            ));
        };
        let at = pool.offset + u64::from(index) * size_of::<Notifier>() as u64;
        let entry = pool
            .segment
            .run(at, size_of::<Notifier>() as u64)
            .filter(|e| e.len() == size_of::<Notifier>());
        let Some(entry) = entry else {
            return Err(Fault::new(
                Status::AddressFault,
                format!("notify: notifier {index} has no memory"),
            ));
        };
        if let Some(rest) = entry.slice(4, size_of::<Notifier>() - 4) {
            rest.copy_from(&notifier.as_bytes()[4..]);
        }
        std::sync::atomic::fence(Ordering::Release);
        entry.write(0, notifier.value);
        Ok(())
    }

    /// Takes segments back: revokes them, waits for their users, takes them out of the address space, and gives device memory to the heap. A
    /// segment whose users do not stop keeps its place, where nobody can use it any more, and the answer is `Busy`.
    pub fn retire(
        &self,
        core: &Core,
        segments: &[Arc<Segment>],
        deadline: Instant,
    ) -> Result<(), (Status, String)> {
        segments.iter().for_each(|s| s.revoke());
        let mut result = Ok(());
        for segment in segments {
            self.drop_notifiers(segment);
            if !segment.wait_unused(deadline) {
                tracing::error!(
                    chip = core.hardware.chip,
                    va = segment.va,
                    "bug: a command does not stop using revoked memory"
                );
                result = Err((
                    Status::Busy,
                    format!("a command still uses the memory at {:#x}", segment.va),
                ));
                continue;
            }
            if self.space_mut().remove(segment)
                && let Some(range) = segment.device_range()
            {
                core.heap().release(range);
            }
        }
        result
    }

    /// Tells everything in the context to stop. Waits for nothing; `close` follows.
    pub fn cancel(&self) {
        self.queues().iter().for_each(|q| q.cancel());
        self.space().segments().for_each(|s| s.revoke());
    }

    /// Ends everything in the context; `Busy` if a command still uses memory of the host at `deadline`.
    pub fn close(&self, core: &Core, deadline: Instant) -> Result<(), (Status, String)> {
        let queues = {
            let mut queues = self.queue_list();
            queues.closed = true;
            queues.list.clone()
        };
        let segments = self.space_mut().close();
        self.cancel();
        for queue in queues {
            self.end_queue(core, &queue, deadline);
        }
        *self.notifiers.write().unwrap_or_else(|e| e.into_inner()) = None;
        self.pending().clear();
        *self.imports() = Table::new(0);
        let graphs = std::mem::replace(&mut *self.graphs(), Table::new(0));
        drop(graphs);
        let retired = self.retire(core, &segments, deadline);
        if retired.is_err() {
            // Nobody gets what is still in use; device memory goes back to the heap once it is not.
            let mut space = self.space_mut();
            let left: Vec<Arc<Segment>> =
                segments.into_iter().filter(|s| space.remove(s)).collect();
            let device = left.iter().all(|s| !s.is_host());
            core.quarantine(left);
            return if device { Ok(()) } else { retired };
        }
        Ok(())
    }

    /// The host takes a DMA range back; see `Firmware::revoke_host`.
    pub fn revoke_host(&self, core: &Core, address: u64, length: u64, deadline: Instant) {
        self.pending().retain(|p| !p.touches(address, length));
        for queue in self
            .queues()
            .into_iter()
            .filter(|q| q.touches(address, length))
        {
            tracing::warn!(
                chip = core.hardware.chip,
                queue = queue.index,
                "the host took the queue's memory away"
            );
            // Nothing may hold on to its memory, so its handle names nothing from here on.
            self.end_queue(core, &queue, deadline);
            core.events.post(
                queue.vector(),
                EventKind::QueueError,
                queue.index,
                u64::from(Status::QueueDestroyed.raw()),
            );
        }
        let segments = self.space().host_at(address, length);
        let _ = self.retire(core, &segments, deadline);
    }

    /// When what is revoked now must be unused.
    pub fn deadline() -> Instant {
        Instant::now() + REVOKE_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{Hardware, HostPort};
    use crate::memory::shared::SharedMemory;
    use std::time::Duration;
    use vmlu_abi::model::MLU370_X8;
    use vmlu_abi::pci::BAR_DOORBELL_SIZE;

    struct NoHost;

    impl HostPort for NoHost {
        fn translate(&self, _address: u64, _length: u64, _write: bool) -> Option<HostRange> {
            None
        }
        fn interrupt(&self, _vector: u32) {}
    }

    fn core(bytes: u64) -> Core {
        Core::new(Hardware {
            served: crate::image::SERVED,
            model: &MLU370_X8,
            chip: 0,
            serial: 1,
            memory: Arc::new(SharedMemory::new("device", bytes).unwrap()),
            doorbells: Arc::new(SharedMemory::new("doorbells", BAR_DOORBELL_SIZE).unwrap()),
            host: Arc::new(NoHost),
            inject: false,
            record: Arc::default(),
            place: crate::fabric::Fabric::alone(&MLU370_X8, 1, 0),
        })
    }

    fn context(core: &Core, va: u64, bytes: u64) -> Context {
        let context = Context::new(
            1,
            Owner {
                pid: 1,
                uid: 1,
                comm: [0; 32],
            },
        );
        let range = core.allocate(bytes, context.handle).unwrap();
        context.space_mut().insert(Segment::device(
            va,
            bytes,
            1,
            core.hardware.memory.clone(),
            range,
        ));
        context
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(5)
    }

    /// A command that does not stop keeps its memory, whoever frees it, until it ends.
    #[test]
    fn memory_in_use_goes_to_nobody() {
        let bytes = 1 << 20;
        let core = core(bytes);
        let context = context(&core, 0x10_0000, bytes);
        let segment = context.space().at(0x10_0000, true).unwrap();
        let user = segment.hold(0x10_0000).unwrap();

        let freed = context.retire(&core, std::slice::from_ref(&segment), soon());
        assert_eq!(freed.map_err(|e| e.0), Err(Status::Busy));
        assert!(
            context.space().check_free(0x10_0000, bytes).is_err(),
            "its place is taken"
        );
        assert!(core.allocate(bytes, 2).is_err());

        assert!(context.close(&core, soon()).is_ok());
        assert_eq!(
            core.allocate(bytes, 2).map_err(|e| e.0),
            Err(Status::OutOfDeviceMemory)
        );
        drop(user);
        assert_eq!(core.allocate(bytes, 2).map(|r| r.length), Ok(bytes));
    }

    /// Freed twice at the same time: one does it, and the heap gets it once.
    #[test]
    fn memory_is_given_back_once() {
        let bytes = 1 << 20;
        let core = core(2 * bytes);
        let context = context(&core, 0x10_0000, bytes);
        let segment = context.space().at(0x10_0000, true).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    context
                        .retire(&core, std::slice::from_ref(&segment), soon())
                        .unwrap()
                });
            }
        });
        assert_eq!(core.heap().used(), 0);
        context.close(&core, soon()).unwrap();
        assert_eq!(core.heap().used(), 0);
    }
}
