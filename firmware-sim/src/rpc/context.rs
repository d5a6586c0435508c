//! Contexts.

use std::sync::Arc;

use vmlu_abi::notifier::MAX_NOTIFIERS;
use vmlu_abi::pci::MAX_CONTEXTS;
use vmlu_abi::rpc;
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
