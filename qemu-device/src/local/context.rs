//! A process's context on a chip: what it has, and the requests about it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use vmlu_abi::local::{HostAlloc, Opened, QueueCreate, QueueCreated};
use vmlu_abi::pci::{MAX_VECTORS, PAGE_SIZE};
use vmlu_abi::queue::{
    ARM_NONE, FLAG_HOST_TIMELINE, MAX_RING_UNITS, MIN_RING_UNITS, STATUS_SIZE, UNIT,
};
use vmlu_abi::rpc::{self, Function, HostPiece};
use vmlu_abi::{Status, Wire};

use super::bells::Bell;
use super::kicks::{Kick, Kicks};
use super::lent::Lent;
use super::quota::{Charge, Kind};
use super::socket::Peer;
use super::Shared;
use crate::embedded::EmbeddedChip;

/// Most pieces of memory of a context, queues included.
const MAX_PIECES: usize = 8192;
/// Bytes of a line of the processor's caches.
const LINE: u64 = 64;

/// A refusal: the code, and a sentence that may be empty.
pub type Refusal = (Status, String);

/// A context. It ends, with all that it has, when it is dropped.
pub struct Context {
    shared: Arc<Shared>,
    device: u32,
    /// The user.
    uid: u32,
    handle: u64,
    bell: Arc<Bell>,
    // Taken before the context ends, so that no kick of this one reaches the next with its index.
    kick: Option<Kick>,
    /// The process's end of the bell, until it is sent.
    ear: OwnedFd,
    /// By handle.
    queues: HashMap<u64, OwnedQueue>,
    /// Pinned host memory, by device address.
    host: HashMap<u64, Pinned>,
    /// Device memory, by address.
    memory: HashMap<u64, Charge>,
    next_vector: u32,
}

struct OwnedQueue {
    index: u32,
    _memory: Lent,
    _charge: Charge,
}

struct Pinned {
    memory: Lent,
    _charge: Charge,
}

fn refused(status: Status) -> Refusal {
    (status, String::new())
}

impl Context {
    /// Opens a context on a chip for a process.
    pub fn open(shared: &Arc<Shared>, peer: &Peer, device: u32) -> Result<(Self, Opened), Refusal> {
        let chip = shared
            .card
            .chip(device)
            .ok_or_else(|| no_chip(shared, device))?;
        let info = shared.card.device_info(device).map_err(refused)?;
        let out = |e: std::io::Error| (Status::OutOfResources, e.to_string());
        let (bell, ear) = Bell::new().map_err(out)?;
        let create = rpc::ContextCreate {
            pid: peer.pid,
            uid: peer.uid,
            flags: 0,
            comm: peer.comm,
        };
        let created: rpc::ContextCreated = chip
            .ask(Function::ContextCreate, 0, create.as_bytes())
            .map_err(refused)?;
        let mut context = Self {
            shared: shared.clone(),
            device,
            uid: peer.uid,
            handle: created.context,
            bell,
            kick: None,
            ear,
            queues: HashMap::new(),
            host: HashMap::new(),
            memory: HashMap::new(),
            next_vector: created.index,
        };
        context.kick = Some(Kicks::add(shared, device, created.index).map_err(out)?);
        let opened = Opened {
            context: created.context,
            info,
        };
        Ok((context, opened))
    }

    /// The descriptors for the process: for kicks, and for the bell.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let kick = self.kick.iter().map(|kick| kick.fd.as_fd());
        kick.chain([self.ear.as_fd()]).collect()
    }

    fn chip(&self) -> Result<&EmbeddedChip, Refusal> {
        let chip = self.shared.card.chip(self.device);
        chip.ok_or_else(|| no_chip(&self.shared, self.device))
    }

    /// Passes a request to the firmware as it is: its functions check their bodies.
    pub fn pass(&self, function: Function, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.chip()?
            .call(function, self.handle, body)
            .map_err(refused)
    }

    fn charge(&self, kind: Kind, amount: u64) -> Result<Charge, Refusal> {
        self.shared.quotas[self.device as usize].charge(self.uid, kind, amount)
    }

    /// Allocates device memory.
    pub fn memory_alloc(&mut self, alloc: &rpc::MemoryAlloc) -> Result<(), Refusal> {
        let charge = self.charge(Kind::Memory, alloc.length)?;
        self.pass(Function::MemoryAlloc, alloc.as_bytes())?;
        self.memory.insert(alloc.va, charge);
        Ok(())
    }

    /// Frees device memory, or takes a mapping of another's away.
    pub fn memory_free(&mut self, free: &rpc::MemoryFree) -> Result<(), Refusal> {
        self.pass(Function::MemoryFree, free.as_bytes())?;
        self.memory.remove(&free.va);
        Ok(())
    }

    fn check_room(&self) -> Result<(), Refusal> {
        if self.host.len() + self.queues.len() >= MAX_PIECES {
            let text = format!("a context has {MAX_PIECES} pinned allocations and queues at most");
            return Err((Status::OutOfResources, text));
        }
        Ok(())
    }

    /// Allocates pinned host memory; the descriptor of its file is the answer.
    pub fn host_alloc(&mut self, alloc: &HostAlloc) -> Result<BorrowedFd<'_>, Refusal> {
        if alloc.flags != 0 {
            return Err((Status::ReservedNotZero, "unknown flags".into()));
        }
        if alloc.length == 0 || (alloc.length | alloc.va) & (PAGE_SIZE - 1) != 0 {
            let text = format!(
                "{:#x} + {:#x} is not made of whole pages",
                alloc.va, alloc.length
            );
            return Err((Status::InvalidArgument, text));
        }
        self.check_room()?;
        if self.host.contains_key(&alloc.va) {
            return Err(refused(Status::AddressInUse));
        }
        let charge = self.charge(Kind::Pinned, alloc.length)?;
        let write = alloc.access & rpc::ACCESS_WRITE != 0;
        let lent = Lent::new(
            &self.shared.card,
            &self.shared.ledger,
            self.device,
            alloc.length,
            write,
        )?;
        let map = rpc::HostMap {
            va: alloc.va,
            length: alloc.length,
            offset: 0,
            count: 1,
            access: alloc.access,
            flags: 0,
        };
        let piece = HostPiece {
            address: lent.address,
            length: alloc.length,
        };
        self.pass(
            Function::HostMap,
            &[map.as_bytes(), piece.as_bytes()].concat(),
        )?;
        let pinned = Pinned {
            memory: lent,
            _charge: charge,
        };
        Ok(self.host.entry(alloc.va).or_insert(pinned).memory.fd())
    }

    /// Frees pinned host memory.
    pub fn host_free(&mut self, free: &rpc::MemoryFree) -> Result<(), Refusal> {
        if !self.host.contains_key(&free.va) {
            let text = format!("no pinned memory begins at {:#x}", free.va);
            return Err((Status::BadHandle, text));
        }
        self.pass(Function::HostUnmap, free.as_bytes())?;
        self.host.remove(&free.va);
        Ok(())
    }

    /// Makes a queue; the descriptor is that of its memory.
    pub fn queue_create(
        &mut self,
        create: &QueueCreate,
    ) -> Result<(QueueCreated, BorrowedFd<'_>), Refusal> {
        let units = create.ring_units;
        let flags = u64::from(create.flags);
        if flags & !FLAG_HOST_TIMELINE != 0 {
            return Err((Status::ReservedNotZero, "unknown flags".into()));
        }
        let has_ring = flags & FLAG_HOST_TIMELINE == 0;
        if !has_ring && units != 0 {
            let text = format!("a host timeline has no ring; {units} units were asked for");
            return Err((Status::InvalidArgument, text));
        }
        if has_ring && !(MIN_RING_UNITS..=MAX_RING_UNITS).contains(&units) {
            let text = format!("a ring of {units} units: a power of two from {MIN_RING_UNITS} to {MAX_RING_UNITS} is wanted");
            return Err((Status::InvalidArgument, text));
        }
        self.check_room()?;
        let charge = self.charge(Kind::Queues, 1)?;
        // No doorbell of the chip's: a page of those has other queues'. What the process writes has a page of its own, at another place in
        // that of each queue: words that are looked at together do not push each other out of the processor's caches.
        let status = (u64::from(units) * UNIT as u64).next_multiple_of(PAGE_SIZE);
        let place = u64::from(self.next_vector) * 2 * LINE % PAGE_SIZE;
        let arm = status + STATUS_SIZE as u64 + place;
        let doorbell = arm + LINE;
        let length = status + STATUS_SIZE as u64 + PAGE_SIZE;
        let lent = Lent::new(
            &self.shared.card,
            &self.shared.ledger,
            self.device,
            length,
            true,
        )?;
        if let Some(word) = lent.memory().word(arm) {
            word.store(ARM_NONE, std::sync::atomic::Ordering::SeqCst);
        }
        let request = rpc::QueueCreate {
            ring: if has_ring { lent.address } else { 0 },
            status: lent.address + status,
            arm: lent.address + arm,
            ring_units: units,
            priority: create.priority,
            weight: create.weight,
            vector: self.next_vector % MAX_VECTORS,
            flags,
            doorbell: lent.address + doorbell,
        };
        self.next_vector = self.next_vector.wrapping_add(1);
        let created: rpc::QueueCreated = self
            .chip()?
            .ask(Function::QueueCreate, self.handle, request.as_bytes())
            .map_err(refused)?;
        self.shared.bells[self.device as usize].add(created.index, &self.bell);
        let answer = QueueCreated {
            queue: created.queue,
            length,
            status,
            arm,
            doorbell,
            ring: 0,
        };
        let queue = OwnedQueue {
            index: created.index,
            _memory: lent,
            _charge: charge,
        };
        let queue = self.queues.entry(created.queue).or_insert(queue);
        Ok((answer, queue._memory.fd()))
    }

    /// Destroys a queue.
    pub fn queue_destroy(&mut self, destroy: &rpc::QueueDestroy) -> Result<(), Refusal> {
        let Some(queue) = self.queues.remove(&destroy.queue) else {
            let text = format!("there is no queue {:#x} in this context", destroy.queue);
            return Err((Status::BadHandle, text));
        };
        // First: once it is destroyed another queue may have its index.
        self.shared.bells[self.device as usize].remove(queue.index);
        self.pass(Function::QueueDestroy, destroy.as_bytes())
            .map(drop)
    }
}

/// The refusal of a request about a chip that is not there.
pub fn no_chip(shared: &Shared, device: u32) -> Refusal {
    let count = shared.card.chips().len();
    (
        Status::BadHandle,
        format!("there is no chip {device}; the server has {count}"),
    )
}

impl Drop for Context {
    fn drop(&mut self) {
        self.kick = None;
        for queue in self.queues.values() {
            self.shared.bells[self.device as usize].remove(queue.index);
        }
        self.bell.hang_up();
        match self.pass(Function::ContextDestroy, &[]) {
            Ok(_) | Err((Status::DeviceLost, _)) => {}
            Err((status, _)) => tracing::error!(
                "chip {}: a context did not end: {}",
                self.device,
                status.text()
            ),
        }
        // Queues and pinned memory go with the maps, and with them the chip's way to the memory.
    }
}
