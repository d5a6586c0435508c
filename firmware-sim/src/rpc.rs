//! RPC: each function checked, done, answered. See `docs/hardware.md`, section 5.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use vmlu_abi::notifier::MAX_NOTIFIERS;
use vmlu_abi::pci::{MAX_CONTEXTS, MAX_QUEUES, MAX_VECTORS, PAGE_SIZE};
use vmlu_abi::queue::{MAX_RING_UNITS, MIN_RING_UNITS, PRIORITY_HIGH, STATUS_SIZE, UNIT};
use vmlu_abi::rpc::{
    self, feature, Fault, Function, HostPiece, RpcHeader, MAX_MESSAGE, MAX_PROCESSES, VERSION,
};
use vmlu_abi::{Status, Wire};

use crate::context::{Context, Owner, PendingMap, MAX_PENDING};
use crate::core::{Core, HostAccess};
use crate::hardware::HostRange;
use crate::memory::heap::GRANULE;
use crate::memory::space::{PieceCharge, Segment, SpaceError};
use crate::memory::words::HostWords;
use crate::queue::{Queue, QueueMemory};

/// Why a request was refused: the code for the caller, the sentence for the log.
struct Refusal(Status, String);

type Answer = Result<Vec<u8>, Refusal>;

impl From<(Status, String)> for Refusal {
    fn from((status, text): (Status, String)) -> Self {
        Self(status, text)
    }
}

impl From<SpaceError> for Refusal {
    fn from(error: SpaceError) -> Self {
        Self(error.status, error.text)
    }
}

fn refuse<T>(status: Status, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, text.into()))
}

/// Serves one message.
pub fn serve(core: &Arc<Core>, version: &[u8; 32], request: &[u8]) -> Vec<u8> {
    let header = RpcHeader::read_from(request).unwrap_or_else(RpcHeader::zeroed);
    let answer = catch_unwind(AssertUnwindSafe(|| {
        dispatch(core, version, &header, request)
    }));
    let (status, body) = match answer {
        Ok(Ok(body)) => (Status::Ok, body),
        Ok(Err(Refusal(status, text))) => {
            if let Some(suppressed) = core.log.allow() {
                tracing::info!(
                    chip = core.hardware.chip,
                    function = header.function,
                    suppressed,
                    "refused: {}: {text}",
                    status.name()
                );
            }
            (status, Vec::new())
        }
        Err(_) => {
            tracing::error!(
                chip = core.hardware.chip,
                function = header.function,
                "bug: the firmware panicked while it served a message"
            );
            (Status::Internal, Vec::new())
        }
    };
    let answer = RpcHeader {
        version: VERSION,
        function: header.function,
        length: (size_of::<RpcHeader>() + body.len()) as u32,
        sequence: header.sequence,
        context: header.context,
        status: status.raw(),
        reserved: 0,
    };
    [answer.as_bytes(), &body].concat()
}

fn dispatch(core: &Arc<Core>, version: &[u8; 32], header: &RpcHeader, request: &[u8]) -> Answer {
    if request.len() < size_of::<RpcHeader>()
        || request.len() > MAX_MESSAGE
        || header.length as usize != request.len()
    {
        return refuse(
            Status::BadLength,
            format!(
                "{} bytes came, the header says {}",
                request.len(),
                header.length
            ),
        );
    }
    if header.version != VERSION {
        return refuse(
            Status::VersionMismatch,
            format!("version {}, {VERSION} is served", header.version),
        );
    }
    if header.status != 0 || header.reserved != 0 {
        return refuse(
            Status::ReservedNotZero,
            "the header's status or padding is not zero",
        );
    }
    let Some(function) = Function::from_raw(header.function) else {
        return refuse(
            Status::UnknownFunction,
            format!("function {}", header.function),
        );
    };
    if core.is_gone() {
        return refuse(Status::DeviceLost, "the chip is as good as pulled out");
    }
    let body = &request[size_of::<RpcHeader>()..];
    let context = || match core.find_context(header.context) {
        Some(context) => Ok(context),
        None => refuse(
            Status::BadHandle,
            format!("there is no context {:#x}", header.context),
        ),
    };
    match function {
        Function::Info => exact::<()>(body).map(|()| info(core, version)),
        Function::Ping => exact::<()>(body).map(|()| Vec::new()),
        Function::ContextCreate => context_create(core, &exact(body)?),
        Function::ContextDestroy => {
            exact::<()>(body)?;
            let context = context()?;
            let closed = context.close(core, Context::deadline());
            core.contexts
                .write()
                .unwrap_or_else(|e| e.into_inner())
                .remove(context.handle);
            closed.map(|()| Vec::new()).map_err(Refusal::from)
        }
        Function::MemoryAlloc => memory_alloc(core, &*context()?, &exact(body)?),
        Function::MemoryFree => memory_free(core, &*context()?, &exact(body)?, true),
        Function::HostUnmap => memory_free(core, &*context()?, &exact(body)?, false),
        Function::HostMap => host_map(core, &*context()?, body),
        Function::QueueCreate => queue_create(core, context()?, &exact(body)?),
        Function::QueueDestroy => {
            let destroy: rpc::QueueDestroy = exact(body)?;
            let context = context()?;
            let queue = own_queue(core, &context, destroy.queue)?;
            // Ring, status page and arm word are not touched any more, even if a command does not stop.
            context.end_queue(core, &queue, Context::deadline());
            Ok(Vec::new())
        }
        Function::QueueError => {
            let error: rpc::QueueError = exact(body)?;
            if error.reserved != 0 {
                return refuse(Status::ReservedNotZero, "padding is not zero");
            }
            if error.clear > 1 {
                return refuse(
                    Status::InvalidArgument,
                    format!("clear is {}, neither 0 nor 1", error.clear),
                );
            }
            let queue = own_queue(core, &*context()?, error.queue)?;
            Ok(queue.take_error(error.clear == 1).as_bytes().to_vec())
        }
        Function::NotifierPool => {
            let pool: rpc::NotifierPool = exact(body)?;
            if pool.reserved != 0 {
                return refuse(Status::ReservedNotZero, "padding is not zero");
            }
            if pool.count > MAX_NOTIFIERS {
                return refuse(
                    Status::InvalidArgument,
                    format!("{} notifiers, at most {MAX_NOTIFIERS}", pool.count),
                );
            }
            context()?.set_notifiers(pool.va, pool.count)?;
            Ok(Vec::new())
        }
        Function::EventRing => event_ring(core, &exact(body)?),
        Function::TelemetryPage => {
            let page: rpc::TelemetryPage = exact(body)?;
            telemetry_page(core, page.address)?;
            core.update();
            Ok(Vec::new())
        }
        Function::Telemetry => exact::<()>(body).map(|()| core.update().as_bytes().to_vec()),
        Function::Processes => processes(core, &exact(body)?),
        Function::Inject => inject(core, &exact(body)?),
        Function::GraphCreate
        | Function::GraphDestroy
        | Function::GraphUpdate
        | Function::TimelineExport
        | Function::TimelineImport
        | Function::TimelineRelease
        | Function::TimelineRead => refuse(Status::NotSupported, "not served yet"),
    }
}

fn exact<T: Wire>(body: &[u8]) -> Result<T, Refusal> {
    match T::read_from(body) {
        Some(value) if body.len() == size_of::<T>() => Ok(value),
        _ => refuse(
            Status::BadLength,
            format!(
                "a body of {} bytes, the function defines {}",
                body.len(),
                size_of::<T>()
            ),
        ),
    }
}

/// Begins to use DMA addresses; what they lead to is published before this is dropped.
fn open_host(core: &Core) -> Result<HostAccess<'_>, Refusal> {
    core.open_host()
        .ok_or_else(|| Refusal(Status::DeviceReset, "the firmware is shut down".into()))
}

fn telemetry_page(core: &Core, address: u64) -> Result<(), Refusal> {
    let open = open_host(core)?;
    let range = match address {
        0 => None,
        address => Some(host(core, &open, address, PAGE_SIZE, true)?),
    };
    core.live
        .set_page(address, range)
        .map_err(|s| Refusal(s, "the telemetry page".into()))
}

fn host(
    core: &Core,
    _open: &HostAccess<'_>,
    address: u64,
    length: u64,
    write: bool,
) -> Result<HostRange, Refusal> {
    let range = core.hardware.host.translate(address, length, write);
    range.ok_or_else(|| {
        Refusal(
            Status::AddressFault,
            format!("the host has no memory at {address:#x} + {length:#x}"),
        )
    })
}

fn own_queue(core: &Core, context: &Context, handle: u64) -> Result<Arc<Queue>, Refusal> {
    match core
        .find_queue(handle)
        .filter(|q| q.context.handle == context.handle)
    {
        Some(queue) => Ok(queue),
        None => refuse(
            Status::BadHandle,
            format!("there is no queue {handle:#x} in this context"),
        ),
    }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let length = text.len().min(N);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

fn info(core: &Core, version: &[u8; 32]) -> Vec<u8> {
    let hardware = &core.hardware;
    let model = hardware.model;
    // The vendor's layout: the board's serial number first, the chip's number last.
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&hardware.serial.to_be_bytes());
    uuid[15] = hardware.chip as u8;
    rpc::Info {
        api_version: u32::from(VERSION),
        model: model.id,
        chip: hardware.chip,
        chips_per_board: model.chips_per_board,
        serial: hardware.serial,
        memory_bytes: model.memory_bytes,
        memory_available: core.heap().total(),
        clusters: model.clusters,
        cores_per_cluster: model.cores_per_cluster,
        max_queues: MAX_QUEUES,
        max_contexts: MAX_CONTEXTS,
        name: padded(model.name),
        firmware: *version,
        uuid,
        features: if hardware.inject { feature::INJECT } else { 0 },
        granule: GRANULE,
        reserved: [0; 13],
    }
    .as_bytes()
    .to_vec()
}

fn context_create(core: &Arc<Core>, create: &rpc::ContextCreate) -> Answer {
    if create.flags != 0 {
        return refuse(Status::ReservedNotZero, "unknown context flags");
    }
    let owner = Owner {
        pid: create.pid,
        uid: create.uid,
        comm: create.comm,
    };
    let _open = open_host(core)?;
    let context = core
        .contexts
        .write()
        .unwrap_or_else(|e| e.into_inner())
        .insert(|handle| Context::new(handle, owner));
    match context {
        Some(c) => Ok(rpc::ContextCreated {
            context: c.handle,
            index: c.index(),
            reserved: 0,
        }
        .as_bytes()
        .to_vec()),
        None => refuse(
            Status::OutOfResources,
            format!("all {MAX_CONTEXTS} contexts are in use"),
        ),
    }
}

fn memory_alloc(core: &Core, context: &Context, alloc: &rpc::MemoryAlloc) -> Answer {
    if alloc.flags != 0 {
        return refuse(Status::ReservedNotZero, "unknown allocation flags");
    }
    if !alloc.va.is_multiple_of(GRANULE) {
        return refuse(
            Status::InvalidArgument,
            format!(
                "the address {:#x} is not a multiple of {GRANULE:#x}",
                alloc.va
            ),
        );
    }
    context.space().check_free(alloc.va, alloc.length)?;
    let range = core.allocate(alloc.length, context.handle)?;
    let allocation = core.allocations.fetch_add(1, Ordering::Relaxed) + 1;
    let mut space = context.space_mut();
    // Another message may have taken the range meanwhile.
    if let Err(error) = space.check_free(alloc.va, alloc.length) {
        core.heap().release(range);
        return Err(error.into());
    }
    space.insert(Segment::device(
        alloc.va,
        alloc.length,
        allocation,
        core.hardware.memory.clone(),
        range,
    ));
    Ok(rpc::MemoryAllocated {
        allocation,
        offset: range.offset,
    }
    .as_bytes()
    .to_vec())
}

fn memory_free(core: &Core, context: &Context, free: &rpc::MemoryFree, device: bool) -> Answer {
    let segment = context.space().at(free.va, device);
    let Some(segment) = segment else {
        let kind = if device { "device" } else { "host" };
        return refuse(
            Status::BadHandle,
            format!("no {kind} memory begins at {:#x}", free.va),
        );
    };
    context.retire(core, &[segment], Context::deadline())?;
    Ok(Vec::new())
}

fn host_map(core: &Core, context: &Context, body: &[u8]) -> Answer {
    let Some(map) = rpc::HostMap::read_from(body) else {
        return refuse(Status::BadLength, "truncated mapping");
    };
    let bytes = &body[size_of::<rpc::HostMap>()..];
    if bytes.len() != (map.count as usize).saturating_mul(size_of::<HostPiece>()) || map.count == 0
    {
        return refuse(
            Status::BadLength,
            format!("{} pieces in {} bytes", map.count, bytes.len()),
        );
    }
    let known = rpc::ACCESS_READ | rpc::ACCESS_WRITE;
    if map.flags != 0 || map.access & !known != 0 {
        return refuse(
            Status::ReservedNotZero,
            format!("access {:#x}, flags {:#x}", map.access, map.flags),
        );
    }
    if map.access == 0 {
        return refuse(
            Status::InvalidArgument,
            "the card may neither read nor write the memory",
        );
    }
    if map.va % PAGE_SIZE != 0 || map.length % PAGE_SIZE != 0 {
        return refuse(
            Status::InvalidArgument,
            format!(
                "{:#x} + {:#x} is not made of whole pages",
                map.va, map.length
            ),
        );
    }
    let write = map.access & rpc::ACCESS_WRITE != 0;
    let open = open_host(core)?;
    let mut list = context.pending();
    if map.offset == 0 {
        context.space().check_free(map.va, map.length)?;
        list.retain(|p| p.va != map.va);
        if list.len() == MAX_PENDING {
            return refuse(
                Status::OutOfResources,
                format!("{MAX_PENDING} mappings wait for their pieces: finish one first"),
            );
        }
        let charge = PieceCharge::new(core.pieces.clone());
        list.push(PendingMap {
            va: map.va,
            length: map.length,
            access: map.access,
            ranges: Vec::new(),
            done: 0,
            charge,
        });
    }
    let Some(at) = list.iter().position(|p| p.va == map.va) else {
        return refuse(
            Status::BadState,
            format!(
                "pieces at {:#x} of a mapping that was not begun",
                map.offset
            ),
        );
    };
    // Whatever is wrong below ends the mapping.
    let mut pending = list.swap_remove(at);
    if (pending.length, pending.access, pending.done) != (map.length, map.access, map.offset) {
        return refuse(
            Status::BadState,
            format!(
                "pieces at {:#x} of a mapping that is at {:#x}",
                map.offset, pending.done
            ),
        );
    }
    for piece in bytes
        .chunks_exact(size_of::<HostPiece>())
        .filter_map(HostPiece::read_from)
    {
        let fits = piece.length > 0
            && piece.length % PAGE_SIZE == 0
            && piece.length <= pending.length - pending.done;
        if !fits || piece.address % PAGE_SIZE != 0 {
            return refuse(
                Status::InvalidArgument,
                format!("a piece {:#x} + {:#x}", piece.address, piece.length),
            );
        }
        let range = host(core, &open, piece.address, piece.length, write)?;
        if !pending.push(piece.address, range) {
            return refuse(
                Status::OutOfResources,
                "the chip has no room for more pieces of host memory: map larger ones",
            );
        }
    }
    if pending.done < pending.length {
        list.push(pending);
        return Ok(Vec::new());
    }
    let allocation = core.allocations.fetch_add(1, Ordering::Relaxed) + 1;
    let mut space = context.space_mut();
    space.check_free(map.va, map.length)?;
    space.insert(Segment::host(
        map.va,
        map.length,
        allocation,
        pending.ranges,
        write,
        pending.charge,
    ));
    Ok(Vec::new())
}

fn queue_create(core: &Arc<Core>, context: Arc<Context>, create: &rpc::QueueCreate) -> Answer {
    if create.flags != 0 {
        return refuse(Status::ReservedNotZero, "unknown queue flags");
    }
    let units = create.ring_units;
    if !units.is_power_of_two() || !(MIN_RING_UNITS..=MAX_RING_UNITS).contains(&units) {
        let text = format!("a ring of {units} units: a power of two from {MIN_RING_UNITS} to {MAX_RING_UNITS} is wanted");
        return refuse(Status::InvalidArgument, text);
    }
    if create.priority > PRIORITY_HIGH
        || !(1..=1024).contains(&create.weight)
        || create.vector >= MAX_VECTORS
    {
        let text = format!(
            "priority {}, weight {}, vector {}",
            create.priority, create.weight, create.vector
        );
        return refuse(Status::InvalidArgument, text);
    }
    let open = open_host(core)?;
    let ring_bytes = u64::from(units) * UNIT as u64;
    let own_doorbell = create.doorbell != 0;
    let ranges = [
        (create.ring, ring_bytes),
        (create.status, STATUS_SIZE as u64),
        (create.arm, 8),
        (create.doorbell, u64::from(own_doorbell) * 8),
    ];
    let words = |at: usize, write: bool| {
        let (address, length) = ranges[at];
        let words = HostWords::new(host(core, &open, address, length, write)?, length as usize);
        words.ok_or_else(|| {
            Refusal(
                Status::AddressFault,
                format!("{address:#x} is not aligned to 8 bytes"),
            )
        })
    };
    let doorbell = if own_doorbell {
        Some(words(3, true)?)
    } else {
        None
    };
    let memory = QueueMemory {
        ring: words(0, false)?,
        status: words(1, true)?,
        arm: words(2, false)?,
        doorbell,
        ranges,
    };
    let queue = core
        .queues
        .write()
        .unwrap_or_else(|e| e.into_inner())
        .insert(|handle| {
            Queue::new(
                handle,
                core.clone(),
                context.clone(),
                memory,
                units,
                create.vector,
            )
        });
    let Some(queue) = queue else {
        return refuse(
            Status::OutOfResources,
            format!("all {MAX_QUEUES} queues are in use"),
        );
    };
    if !context.add_queue(&queue) {
        context.end_queue(core, &queue, Context::deadline());
        return refuse(Status::ContextStopped, "the context has ended");
    }
    Ok(rpc::QueueCreated {
        queue: queue.handle,
        index: queue.index,
        reserved: 0,
    }
    .as_bytes()
    .to_vec())
}

fn event_ring(core: &Core, ring: &rpc::EventRing) -> Answer {
    if ring.flags != 0 {
        return refuse(Status::ReservedNotZero, "unknown event ring flags");
    }
    let open = open_host(core)?;
    let place = if ring.address == 0 {
        None
    } else {
        let Some(length) = crate::events::Events::ring_length(ring.entries) else {
            return refuse(
                Status::InvalidArgument,
                format!("an event ring of {} entries", ring.entries),
            );
        };
        Some((host(core, &open, ring.address, length, true)?, ring.entries))
    };
    let set = core.events.set(ring.vector, ring.address, place);
    set.map_err(|s| Refusal(s, format!("the event ring of vector {}", ring.vector)))?;
    Ok(Vec::new())
}

fn processes(core: &Core, wanted: &rpc::Processes) -> Answer {
    if wanted.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let contexts = core
        .contexts
        .read()
        .unwrap_or_else(|e| e.into_inner())
        .all();
    let list: Vec<rpc::Process> = contexts
        .iter()
        .skip(wanted.start as usize)
        .take(MAX_PROCESSES)
        .map(|context| {
            let (memory, host_memory) = context.space().totals();
            rpc::Process {
                context: context.handle,
                pid: context.owner.pid,
                uid: context.owner.uid,
                memory,
                host_memory,
                busy_ns: context.busy_ns.load(Ordering::Relaxed),
                packets: context.packets.load(Ordering::Relaxed),
                queues: context.queue_count(),
                reserved: 0,
                comm: context.owner.comm,
                reserved1: 0,
            }
        })
        .collect();
    let mut body = rpc::ProcessList {
        count: list.len() as u32,
        total: contexts.len() as u32,
    }
    .as_bytes()
    .to_vec();
    list.iter()
        .for_each(|p| body.extend_from_slice(p.as_bytes()));
    Ok(body)
}

fn inject(core: &Core, inject: &rpc::Inject) -> Answer {
    if !core.hardware.inject {
        return refuse(
            Status::NotPermitted,
            "fault injection is off: start the server with it",
        );
    }
    if inject.reserved != 0 || inject.reserved1 != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let Some(fault) = Fault::from_raw(inject.fault) else {
        return refuse(Status::InvalidArgument, format!("fault {}", inject.fault));
    };
    match fault {
        Fault::AllOnes if inject.count > 0 => core.vanish(),
        Fault::EccCorrected => {
            core.live
                .counters
                .ecc_corrected
                .fetch_add(inject.value, Ordering::Relaxed);
        }
        _ if !core.injector.set(fault, *inject) => {
            return refuse(
                Status::OutOfResources,
                "too many faults wait for their victims",
            )
        }
        _ => {}
    }
    Ok(Vec::new())
}
