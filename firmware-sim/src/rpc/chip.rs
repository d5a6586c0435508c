//! The chip itself: what it is, who uses it, its event rings, telemetry and faults.

use std::sync::atomic::Ordering;

use vmlu_abi::boot::ImageHeader;
use vmlu_abi::pci::{MAX_CONTEXTS, MAX_QUEUES, PAGE_SIZE};
use vmlu_abi::rpc::{self, feature, BadAnswer, BadEvent, Fault, MAX_PROCESSES};
use vmlu_abi::status::Xid;
use vmlu_abi::{Status, Wire};

use super::{host, open_host, refuse, Answer, Refusal};
use crate::core::Core;
use crate::inject::refusal;
use crate::memory::heap::GRANULE;

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let length = text.len().min(N);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

pub(super) fn info(core: &Core, image: &ImageHeader) -> Vec<u8> {
    let hardware = &core.hardware;
    let model = hardware.model;
    // The vendor's layout: the board's serial number first, the chip's number last.
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&hardware.serial.to_be_bytes());
    uuid[15] = hardware.chip as u8;
    rpc::Info {
        api_version: image.api_version,
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
        firmware: image.version,
        uuid,
        features: features(hardware.inject),
        granule: GRANULE,
        reserved: [0; 13],
    }
    .as_bytes()
    .to_vec()
}

fn features(inject: bool) -> u64 {
    let bit = |has: bool, bit: u64| if has { bit } else { 0 };
    bit(inject, feature::INJECT) | bit(crate::barrier::is_available(), feature::BARRIER)
}

pub(super) fn event_ring(core: &Core, ring: &rpc::EventRing) -> Answer {
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

pub(super) fn telemetry_page(core: &Core, page: &rpc::TelemetryPage) -> Answer {
    {
        let open = open_host(core)?;
        let range = match page.address {
            0 => None,
            address => Some(host(core, &open, address, PAGE_SIZE, true)?),
        };
        core.live
            .set_page(page.address, range)
            .map_err(|s| Refusal(s, "the telemetry page".into()))?;
    }
    core.update();
    Ok(Vec::new())
}

pub(super) fn processes(core: &Core, wanted: &rpc::Processes) -> Answer {
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

/// Most events that are injected at once.
const MAX_BAD_EVENTS: u32 = 100_000;

pub(super) fn inject(core: &Core, inject: &rpc::Inject) -> Answer {
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
            let offset = (inject.opcode == 1).then_some(inject.skip);
            core.hardware.record.corrected(inject.value, offset);
        }
        Fault::EccUncorrected => {
            if inject.value >= core.hardware.memory.len() as u64 {
                return refuse(
                    Status::InvalidArgument,
                    format!("there is no device memory at {:#x}", inject.value),
                );
            }
            core.memory_error(Some(inject.value));
            core.report(Xid::Ecc, 0, 0, Status::Ok);
        }
        Fault::Xid => {
            let xid = u32::try_from(inject.value).ok().and_then(Xid::from_raw);
            let Some(xid) = xid else {
                return refuse(Status::InvalidArgument, format!("xid {}", inject.value));
            };
            core.report(xid, 0, 0, Status::Injected);
        }
        Fault::BadAnswer if BadAnswer::from_raw(inject.value).is_none() => {
            let text = format!("there is no bad answer {}", inject.value);
            return refuse(Status::InvalidArgument, text);
        }
        Fault::Refuse if refusal(inject).is_none() => {
            let text = format!("{} is no status of a refusal", inject.value);
            return refuse(Status::InvalidArgument, text);
        }
        Fault::BadEvent => {
            let Some(bad) = BadEvent::from_raw(inject.value) else {
                let text = format!("there is no bad event {}", inject.value);
                return refuse(Status::InvalidArgument, text);
            };
            core.events.post_bad(bad, inject.count.min(MAX_BAD_EVENTS));
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
