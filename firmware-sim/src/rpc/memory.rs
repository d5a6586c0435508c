//! Device memory and mappings of host memory.

use std::sync::atomic::Ordering;

use vmlu_abi::pci::PAGE_SIZE;
use vmlu_abi::rpc::{self, HostPiece};
use vmlu_abi::{Status, Wire};

use super::{host, open_host, refuse, Answer};
use crate::context::{Context, PendingMap, MAX_PENDING};
use crate::core::Core;
use crate::memory::heap::GRANULE;
use crate::memory::space::{PieceCharge, Segment};

pub(super) fn alloc(core: &Core, context: &Context, alloc: &rpc::MemoryAlloc) -> Answer {
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

pub(super) fn free(core: &Core, context: &Context, free: &rpc::MemoryFree, device: bool) -> Answer {
    let half = !device && context.drop_pending(free.va);
    let segment = context.space().at(free.va, device);
    let Some(segment) = segment else {
        if half {
            return Ok(Vec::new());
        }
        let kind = if device { "device" } else { "host" };
        return refuse(
            Status::BadHandle,
            format!("no {kind} memory begins at {:#x}", free.va),
        );
    };
    context.retire(core, &[segment], Context::deadline())?;
    Ok(Vec::new())
}

pub(super) fn host_map(core: &Core, context: &Context, body: &[u8]) -> Answer {
    let Some(map) = rpc::HostMap::read_from(body) else {
        return refuse(Status::BadLength, "truncated mapping");
    };
    let mapped = host_pieces(core, context, &map, &body[size_of::<rpc::HostMap>()..]);
    if mapped.is_err() {
        context.drop_pending(map.va);
    }
    mapped
}

/// Takes the pieces of a message.
fn host_pieces(core: &Core, context: &Context, map: &rpc::HostMap, bytes: &[u8]) -> Answer {
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
    if !map.va.is_multiple_of(PAGE_SIZE) || !map.length.is_multiple_of(PAGE_SIZE) {
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
