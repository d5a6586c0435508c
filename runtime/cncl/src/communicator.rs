//! Communicators: ranks of this process, by their handles.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use vmlu::collective::{default_timeout, CliqueId, Communicator, Memory, MAX_RANKS};
use vmlu::{Buffer, Status};
use vmlu_c_abi::context::Live;
use vmlu_c_abi::queue::Queue;
use vmlu_c_abi::table::Table;
use vmlu_c_abi::{device, exports, In, Out, Ptr};

use crate::error::{run, Code, Result};

/// Version of the interface.
const VERSION: [i32; 3] = [1, 25, 0];
/// How long ranks wait for each other if `MLU_COLLECTIVE_TIMEOUT` says nothing. A rank that has died is noticed at once; this is for those that
/// are busy with other things.
const PATIENCE: Duration = Duration::from_secs(600);

/// `cnclCliqueId`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Id {
    pub data: [u8; 128],
    pub hash: u64,
}

/// `cnclCommConfig`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Config {
    pub priority: i32,
}

/// A rank.
pub(crate) struct Comm {
    /// Its context: the shared one of its device.
    pub(crate) live: Arc<Live>,
    rank: u32,
    size: u32,
    /// Nothing once it was aborted.
    joined: RwLock<Option<Communicator>>,
    /// Up to where its collectives stand in the queue that had the last one.
    last: Mutex<Option<(Weak<Queue>, u64)>>,
    /// Where nothing is sent from, and nothing received.
    nowhere: OnceLock<Buffer>,
}

static COMMS: Table<Comm> = Table::new(0x21);

impl Comm {
    fn new(live: Arc<Live>, joined: Communicator) -> Arc<Self> {
        Arc::new(Self {
            live,
            rank: joined.rank(),
            size: joined.size(),
            joined: RwLock::new(Some(joined)),
            last: Mutex::default(),
            nowhere: OnceLock::new(),
        })
    }

    /// The rank of a handle.
    pub(crate) fn find(handle: Ptr) -> Result<Arc<Self>> {
        if handle.is_null() {
            return Err(Code::NULL_POINTER);
        }
        COMMS.find(handle.addr()).ok_or(Code::ARGUMENTS)
    }

    /// The rank in its clique.
    pub(crate) fn joined(&self) -> Result<Communicator> {
        let joined = self.joined.read().unwrap_or_else(PoisonError::into_inner);
        joined.clone().ok_or(Code::ASYNC_ERROR)
    }

    /// The queue of a handle. Default queues are those of the communicator's device.
    pub(crate) fn queue(&self, handle: Ptr) -> Result<Arc<Queue>> {
        Ok(Queue::find_of(handle.addr(), &self.live)?)
    }

    /// Memory for nothing.
    pub(crate) fn nowhere(&self) -> Result<Memory> {
        if let Some(buffer) = self.nowhere.get() {
            return Ok(buffer.into());
        }
        let made = self.live.runtime.alloc(1)?;
        Ok(self.nowhere.get_or_init(|| made).into())
    }

    /// Collectives were submitted to a queue.
    pub(crate) fn used(&self, queue: &Arc<Queue>) {
        let value = queue.runtime().submitted();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Arc::downgrade(queue), value));
    }

    /// How its collectives have fared so far.
    fn state(&self) -> Result<()> {
        let joined = self.joined()?;
        if joined.async_error().is_some() {
            return Err(Code::ASYNC_ERROR);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((queue, value)) = last.as_ref() else {
            return Ok(());
        };
        let Some(queue) = queue.upgrade() else {
            return Ok(());
        };
        let queue = queue.runtime();
        if queue.timeline() >= *value {
            return queue.wait(*value).map_err(|_| Code::ASYNC_ERROR);
        }
        match queue.error() {
            Ok(None) => Err(Code::ASYNC_IN_PROGRESS),
            Ok(Some(_)) | Err(_) => Err(Code::ASYNC_ERROR),
        }
    }

    fn abort(&self) -> Result<()> {
        let mut joined = self.joined.write().unwrap_or_else(PoisonError::into_inner);
        let communicator = joined.take().ok_or(Code::ARGUMENTS)?;
        drop(joined);
        communicator.abort();
        Ok(())
    }
}

/// How long ranks wait for each other.
fn timeout() -> Duration {
    match std::env::var_os("MLU_COLLECTIVE_TIMEOUT") {
        Some(_) => default_timeout(),
        None => PATIENCE,
    }
}

/// The ranks of this process: their number, and their contexts.
fn locals(
    devices: In<i32>,
    ranks: In<i32>,
    count: usize,
    size: u32,
) -> Result<Vec<(u32, Arc<Live>)>> {
    let mut locals: Vec<(u32, Arc<Live>)> = Vec::with_capacity(count);
    for i in 0..count {
        let rank = u32::try_from(ranks.get_at(i)?).map_err(|_| Code::ARGUMENTS)?;
        if rank >= size || locals.iter().any(|(other, _)| *other == rank) {
            return Err(Code::ARGUMENTS);
        }
        let device = device::get(devices.get_at(i)?)?;
        locals.push((rank, device.context().live()?));
    }
    Ok(locals)
}

/// Has ranks of this process meet those of others, which may be here too.
fn meet(locals: &[(u32, Arc<Live>)], id: &CliqueId, size: u32) -> Result<Vec<Communicator>> {
    let limit = timeout();
    let join = |(rank, live): &(u32, Arc<Live>)| {
        let joined = Communicator::new(&live.runtime, id, *rank, size, limit);
        joined.map_err(|error| match error.status() {
            Status::BadState => Code::REINIT,
            _ => error.into(),
        })
    };
    if let [one] = locals {
        return Ok(vec![join(one)?]);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = locals
            .iter()
            .map(|local| {
                let builder = std::thread::Builder::new().name("mlu-join".into());
                builder.spawn_scoped(scope, move || join(local))
            })
            .collect();
        // All are waited for, also after one has failed.
        let joined: Vec<Result<Communicator>> = threads
            .into_iter()
            .map(
                |thread| match thread.map(std::thread::ScopedJoinHandle::join) {
                    Ok(Ok(joined)) => joined,
                    Ok(Err(_)) => Err(Code::INTERNAL),
                    Err(_) => Err(Code::SYSTEM),
                },
            )
            .collect();
        joined.into_iter().collect()
    })
}

/// A clique whose ranks are all here, in the order of `locals`.
fn alone(locals: &[(u32, Arc<Live>)], size: u32) -> Result<Vec<Communicator>> {
    if locals.len() != size as usize {
        return Err(Code::ARGUMENTS);
    }
    let mut contexts: Vec<Option<vmlu::Context>> = vec![None; locals.len()];
    for (rank, live) in locals {
        contexts[*rank as usize] = Some(live.runtime.clone());
    }
    let contexts: Option<Vec<vmlu::Context>> = contexts.into_iter().collect();
    let all = Communicator::all(&contexts.ok_or(Code::ARGUMENTS)?, timeout())?;
    Ok(locals
        .iter()
        .map(|(rank, _)| all[*rank as usize].clone())
        .collect())
}

fn init(
    comms: Out<Ptr>,
    count: i32,
    devices: In<i32>,
    ranks: In<i32>,
    size: i32,
    id: In<Id>,
) -> Result<()> {
    if comms.is_null() || devices.is_null() || ranks.is_null() {
        return Err(Code::NULL_POINTER);
    }
    let (Ok(count), Ok(size)) = (usize::try_from(count), u32::try_from(size)) else {
        return Err(Code::ARGUMENTS);
    };
    if count == 0 || count > size as usize {
        return Err(Code::ARGUMENTS);
    }
    if size > MAX_RANKS {
        return Err(Code::UNSUPPORTED);
    }
    let locals = locals(devices, ranks, count, size)?;
    let joined = match id.is_null() {
        true => alone(&locals, size)?,
        // Programs pass the bytes on, not always the hash.
        false => meet(&locals, &CliqueId::from_bytes(&id.get()?.data)?, size)?,
    };
    let mut handles = Vec::with_capacity(count);
    for ((_, live), joined) in locals.into_iter().zip(joined) {
        match COMMS.insert(Comm::new(live, joined)) {
            Some(handle) => handles.push(handle),
            None => {
                handles
                    .into_iter()
                    .for_each(|handle| drop(COMMS.remove(handle)));
                return Err(Code::SYS_MALLOC);
            }
        }
    }
    for (i, handle) in handles.into_iter().enumerate() {
        comms.set_at(i, Ptr::at(handle));
    }
    Ok(())
}

fn free(comm: Ptr) -> Result<()> {
    if comm.is_null() {
        return Err(Code::NULL_POINTER);
    }
    COMMS.remove(comm.addr()).map(drop).ok_or(Code::ARGUMENTS)
}

fn set<T: Copy>(place: Out<T>, value: impl FnOnce() -> Result<T>) -> Result<()> {
    if place.is_null() {
        return Err(Code::NULL_POINTER);
    }
    Ok(place.set(value()?)?)
}

exports! { run;
    /// See the header.
    fn cnclGetCliqueId(id: Out<Id>) {
        set(id, || {
            let made = CliqueId::new()?;
            Ok(Id { data: made.to_bytes(), hash: made.hash() })
        })
    }

    /// See the header.
    fn cnclInitComms(comms: Out<Ptr>, count: i32, devices: In<i32>, ranks: In<i32>, size: i32, id: In<Id>) {
        init(comms, count, devices, ranks, size, id)
    }

    /// See the header.
    fn cnclDestroyComms(comms: In<Ptr>, count: i32) {
        if comms.is_null() {
            return Err(Code::NULL_POINTER);
        }
        let count = usize::try_from(count).map_err(|_| Code::ARGUMENTS)?;
        let mut result = Ok(());
        for i in 0..count {
            // All of them, also after one that is none.
            result = result.and(free(comms.get_at(i)?));
        }
        result
    }

    /// See the header.
    fn cnclFreeComm(comm: Ptr) { free(comm) }

    /// See the header.
    fn cnclAbortComm(comm: Ptr) { Comm::find(comm)?.abort() }

    /// See the header.
    fn cnclGetCommCount(count: Out<i32>, comm: Ptr) { set(count, || Ok(Comm::find(comm)?.size as i32)) }

    /// See the header.
    fn cnclGetCommRank(rank: Out<i32>, comm: Ptr) { set(rank, || Ok(Comm::find(comm)?.rank as i32)) }

    /// See the header.
    fn cnclGetCommDevice(device: Out<i32>, comm: Ptr) {
        set(device, || Ok(Comm::find(comm)?.live.ordinal as i32))
    }

    /// See the header.
    fn cnclGetCommAsyncError(comm: Ptr) { Comm::find(comm)?.state() }

    /// See the header.
    fn cnclSetCommConfig(comm: Ptr, config: In<Config>) {
        let comm = Comm::find(comm)?;
        if config.is_null() {
            return Err(Code::NULL_POINTER);
        }
        comm.joined()?;
        match config.get()?.priority {
            // What a collective submits has the priority of its queue.
            0 | 0x10 | 0x11 => Ok(()),
            _ => Err(Code::ARGUMENTS),
        }
    }

    /// See the header.
    fn cnclGetLibVersion(major: Out<i32>, minor: Out<i32>, patch: Out<i32>) {
        let places = [major, minor, patch];
        if places.iter().any(|place| place.is_null()) {
            return Err(Code::NULL_POINTER);
        }
        for (place, number) in places.into_iter().zip(VERSION) {
            place.set(number)?;
        }
        Ok(())
    }
}
