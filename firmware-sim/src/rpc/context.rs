//! Contexts.

use std::sync::Arc;

use vmlu_abi::notifier::MAX_NOTIFIERS;
use vmlu_abi::pci::MAX_CONTEXTS;
use vmlu_abi::rpc::{self, SegmentKind, ACCESS_READ, ACCESS_WRITE, MAX_SEGMENTS};
use vmlu_abi::setting::ComputeMode;
use vmlu_abi::{Status, Wire};

use super::{open_host, refuse, Answer, Refusal};
use crate::context::{Context, Owner};
use crate::core::Core;

pub(super) fn create(core: &Arc<Core>, create: &rpc::ContextCreate) -> Answer {
    if create.flags != 0 {
        return refuse(Status::ReservedNotZero, "unknown context flags");
    }
    let owner = Owner {
        pid: create.pid,
        uid: create.uid,
        comm: create.comm,
    };
    let _open = open_host(core)?;
    let context = {
        let mut contexts = core.contexts.write().unwrap_or_else(|e| e.into_inner());
        match core.hardware.record.settings().compute_mode {
            ComputeMode::Default => {}
            ComputeMode::Exclusive => {
                let mut pids = contexts.all().into_iter().map(|c| c.owner.pid);
                if let Some(other) = pids.find(|pid| *pid != owner.pid) {
                    let text = format!("the chip is in exclusive mode, and process {other} has it");
                    return refuse(Status::Busy, text);
                }
            }
            ComputeMode::Prohibited => {
                return refuse(Status::NotPermitted, "the chip is in prohibited mode")
            }
        }
        contexts.insert(|handle| Context::new(handle, owner))
    };
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

pub(super) fn destroy(core: &Core, context: &Context) -> Answer {
    let closed = context.close(core, Context::deadline());
    core.contexts
        .write()
        .unwrap_or_else(|e| e.into_inner())
        .remove(context.handle);
    closed.map(|()| Vec::new()).map_err(Refusal::from)
}

pub(super) fn notifier_pool(context: &Context, pool: &rpc::NotifierPool) -> Answer {
    if pool.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    if pool.count > MAX_NOTIFIERS {
        return refuse(
            Status::InvalidArgument,
            format!("{} notifiers, at most {MAX_NOTIFIERS}", pool.count),
        );
    }
    context.set_notifiers(pool.va, pool.count)?;
    Ok(Vec::new())
}

pub(super) fn segments(context: &Context, wanted: &rpc::Segments) -> Answer {
    let space = context.space();
    let mut from = space
        .segments()
        .filter(|segment| segment.va >= wanted.from)
        .peekable();
    let entries: Vec<rpc::Segment> = from
        .by_ref()
        .take(MAX_SEGMENTS)
        .map(|segment| {
            let kind = match (segment.owner(), segment.is_host()) {
                (Some(_), _) => SegmentKind::Peer,
                (None, true) => SegmentKind::Host,
                (None, false) => SegmentKind::Device,
            };
            let write = if segment.writable() { ACCESS_WRITE } else { 0 };
            rpc::Segment {
                va: segment.va,
                length: segment.length,
                allocation: segment.allocation,
                kind: kind as u32,
                access: ACCESS_READ | write,
            }
        })
        .collect();
    let head = rpc::SegmentList {
        count: entries.len() as u32,
        more: u32::from(from.peek().is_some()),
    };
    let mut body = head.as_bytes().to_vec();
    entries
        .iter()
        .for_each(|entry| body.extend_from_slice(entry.as_bytes()));
    Ok(body)
}
