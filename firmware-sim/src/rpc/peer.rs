//! Other chips: their memory, the ways to them, and the links between.

use std::sync::atomic::Ordering;

use vmlu_abi::link::{PeerPath, PortState};
use vmlu_abi::rpc::{self, LinkAction, PortList};
use vmlu_abi::{Status, Wire};

use super::{refuse, Answer};
use crate::context::Context;
use crate::core::Core;
use crate::fabric::ErrorKind;
use crate::memory::heap::GRANULE;
use crate::memory::peer::Peer;
use crate::memory::segment::Segment;

/// [`rpc::Function::MemoryExport`].
pub(super) fn export(core: &Core, context: &Context, wanted: &rpc::MemoryFree) -> Answer {
    let Some(segment) = context.space().at(wanted.va, true) else {
        let text = format!("no device memory begins at {:#x}", wanted.va);
        return refuse(Status::BadHandle, text);
    };
    Ok(segment.export(&core.hardware)?.as_bytes().to_vec())
}

/// [`rpc::Function::MemoryImport`].
pub(super) fn import(core: &Core, context: &Context, wanted: &rpc::MemoryImport) -> Answer {
    let known = rpc::ACCESS_READ | rpc::ACCESS_WRITE;
    if wanted.flags != 0 || wanted.token.reserved != 0 || wanted.access & !known != 0 {
        let text = format!("access {:#x}, flags {:#x}", wanted.access, wanted.flags);
        return refuse(Status::ReservedNotZero, text);
    }
    if wanted.access & rpc::ACCESS_READ == 0 || !wanted.va.is_multiple_of(GRANULE) {
        let text = format!(
            "a mapping that can be read at a multiple of {GRANULE:#x} is wanted, not access {:#x} at {:#x}",
            wanted.access, wanted.va
        );
        return refuse(Status::InvalidArgument, text);
    }
    let writable = wanted.access & rpc::ACCESS_WRITE != 0;
    let peer = Peer::import(&wanted.token, writable, &core.hardware.place)?;
    let allocation = core.allocations.fetch_add(1, Ordering::Relaxed) + 1;
    let segment = Segment::peer(wanted.va, allocation, peer);
    let mut space = context.space_mut();
    space.check_free(segment.va, segment.length)?;
    space.insert(segment);
    Ok(Vec::new())
}

/// [`rpc::Function::PeerPath`].
pub(super) fn path(core: &Core, wanted: &rpc::Peer) -> Answer {
    if wanted.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let place = &core.hardware.place;
    let Some(number) = place.fabric.find(wanted.serial, wanted.chip) else {
        let text = format!(
            "this server has no chip {} of board {:#x}",
            wanted.chip, wanted.serial
        );
        return refuse(Status::BadHandle, text);
    };
    let way = match place.fabric.route(place.number, number) {
        Ok(route) => rpc::PeerWay {
            path: route.path() as u32,
            reserved: 0,
            rate: match route.path() {
                PeerPath::Same => core.hardware.model.memory_bandwidth,
                _ => route.rate(),
            },
        },
        Err(_) => rpc::PeerWay::zeroed(),
    };
    Ok(way.as_bytes().to_vec())
}

/// [`rpc::Function::LinkPorts`].
pub(super) fn ports(core: &Core) -> Vec<u8> {
    let place = &core.hardware.place;
    let ports = place.fabric.ports(place.number);
    let head = PortList {
        count: ports.len() as u32,
        reserved: 0,
    };
    let mut body = head.as_bytes().to_vec();
    ports
        .iter()
        .for_each(|p| body.extend_from_slice(p.as_bytes()));
    body
}

/// [`rpc::Function::LinkControl`].
pub(super) fn control(core: &Core, wanted: &rpc::LinkControl) -> Answer {
    if !core.hardware.inject {
        return refuse(
            Status::NotPermitted,
            "fault injection is off: start the server with it",
        );
    }
    if wanted.reserved != [0; 2] {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let Some(action) = LinkAction::from_raw(wanted.action) else {
        return refuse(Status::InvalidArgument, format!("action {}", wanted.action));
    };
    let place = &core.hardware.place;
    let (fabric, number, port) = (&place.fabric, place.number, wanted.port);
    let count = |kind| fabric.count_errors(number, port, kind, wanted.value);
    let lanes = u32::try_from(wanted.value).unwrap_or(u32::MAX);
    let done = match action {
        LinkAction::Down => fabric.set_state(number, port, PortState::Down, 0),
        LinkAction::Up => fabric.set_state(number, port, PortState::Up, 0),
        LinkAction::Degrade => fabric.set_state(number, port, PortState::Degraded, lanes),
        LinkAction::Replay => count(ErrorKind::Replay),
        LinkAction::Crc24 => count(ErrorKind::Crc24),
        LinkAction::Crc32 => count(ErrorKind::Crc32),
        LinkAction::EccDouble => count(ErrorKind::EccDouble),
        LinkAction::Corrected => count(ErrorKind::Corrected),
        LinkAction::Uncorrected => count(ErrorKind::Uncorrected),
        LinkAction::Illegal => count(ErrorKind::Illegal),
    };
    if !done {
        let text = format!("port {port} has no link");
        return refuse(Status::InvalidArgument, text);
    }
    Ok(Vec::new())
}
