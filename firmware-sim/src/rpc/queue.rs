//! Queues and their errors.

use std::sync::Arc;

use vmlu_abi::pci::{MAX_QUEUES, MAX_VECTORS};
use vmlu_abi::queue::{
    FLAG_HOST_TIMELINE, MAX_RING_UNITS, MIN_RING_UNITS, PRIORITY_HIGH, STATUS_SIZE, UNIT,
};
use vmlu_abi::rpc;
use vmlu_abi::{Status, Wire};

use super::{host, open_host, own_queue, refuse, Answer, Refusal};
use crate::context::Context;
use crate::core::Core;
use crate::memory::words::HostWords;
use crate::queue::{Queue, QueueMemory};
use crate::scheduler::share::Share;

pub(super) fn create(core: &Arc<Core>, context: Arc<Context>, create: &rpc::QueueCreate) -> Answer {
    if create.flags & !FLAG_HOST_TIMELINE != 0 {
        return refuse(Status::ReservedNotZero, "unknown queue flags");
    }
    let units = create.ring_units;
    let ring = create.flags & FLAG_HOST_TIMELINE == 0;
    if !ring && (units != 0 || create.ring != 0) {
        let text = format!(
            "a host timeline with a ring of {units} units at {:#x}: it has none",
            create.ring
        );
        return refuse(Status::InvalidArgument, text);
    }
    if ring && (!units.is_power_of_two() || !(MIN_RING_UNITS..=MAX_RING_UNITS).contains(&units)) {
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
        ring: if ring { Some(words(0, false)?) } else { None },
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
                Share::new(create.priority, create.weight),
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

pub(super) fn destroy(core: &Core, context: &Context, destroy: &rpc::QueueDestroy) -> Answer {
    let queue = own_queue(core, context, destroy.queue)?;
    // Ring, status page and arm word are not touched any more, even if a command does not stop.
    context.end_queue(core, &queue, Context::deadline());
    Ok(Vec::new())
}

pub(super) fn error(core: &Core, context: &Context, error: &rpc::QueueError) -> Answer {
    if error.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    if error.clear > 1 {
        return refuse(
            Status::InvalidArgument,
            format!("clear is {}, neither 0 nor 1", error.clear),
        );
    }
    let queue = own_queue(core, context, error.queue)?;
    Ok(queue.take_error(error.clear == 1).as_bytes().to_vec())
}
