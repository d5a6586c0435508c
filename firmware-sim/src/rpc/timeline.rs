//! Timelines that leave their context: tokens and imports.

use std::sync::Arc;

use vmlu_abi::queue::MAX_IMPORTS;
use vmlu_abi::rpc::{Timeline, TimelineToken};
use vmlu_abi::{Status, Wire};

use super::{own_queue, refuse, Answer, Refusal};
use crate::context::Context;
use crate::core::Core;
use crate::queue;

/// [`vmlu_abi::rpc::Function::TimelineExport`].
pub(super) fn export(core: &Core, context: &Context, wanted: &Timeline) -> Answer {
    let queue = own_queue(core, context, wanted.timeline)?;
    let token = queue
        .shared_timeline()
        .export()
        .map_err(|s| Refusal(s, format!("the token of queue {:#x}", wanted.timeline)))?;
    Ok(token.as_bytes().to_vec())
}

/// [`vmlu_abi::rpc::Function::TimelineImport`].
pub(super) fn import(context: &Context, token: &TimelineToken) -> Answer {
    if token.reserved != 0 {
        return refuse(Status::ReservedNotZero, "padding is not zero");
    }
    let Some(timeline) = queue::Timeline::import(token) else {
        return refuse(
            Status::BadHandle,
            "the token leads to no timeline of this server",
        );
    };
    match context.import(timeline) {
        Some(timeline) => Ok(Timeline { timeline }.as_bytes().to_vec()),
        None => refuse(
            Status::OutOfResources,
            format!("the context has imported {MAX_IMPORTS} timelines: release some"),
        ),
    }
}

/// [`vmlu_abi::rpc::Function::TimelineRelease`].
pub(super) fn release(core: &Core, context: &Context, wanted: &Timeline) -> Answer {
    if !context.release_import(core, wanted.timeline) {
        return unknown(wanted);
    }
    Ok(Vec::new())
}

/// [`vmlu_abi::rpc::Function::TimelineRead`].
pub(super) fn read(core: &Arc<Core>, context: &Context, wanted: &Timeline) -> Answer {
    match context.find_timeline(core, wanted.timeline) {
        Some(timeline) => Ok(timeline.state().as_bytes().to_vec()),
        None => unknown(wanted),
    }
}

fn unknown(wanted: &Timeline) -> Answer {
    refuse(
        Status::BadHandle,
        format!(
            "there is no timeline {:#x} in this context",
            wanted.timeline
        ),
    )
}
