//! Graphs: made of images in the context's memory, which are copied once.

use vmlu_abi::graph::{GraphHead, MAX_GRAPHS, MAX_IMAGE};
use vmlu_abi::rpc::{self, GraphImage};
use vmlu_abi::{Status, Wire};

use super::{refuse, Answer, Refusal};
use crate::context::Context;
use crate::core::Core;
use crate::graph::{Image, ImageCharge};

/// Bytes that are copied between two looks at whether the memory is being taken back.
const CHUNK: u64 = 1 << 20;

/// [`vmlu_abi::rpc::Function::GraphCreate`].
pub(super) fn create(core: &Core, context: &Context, wanted: &GraphImage) -> Answer {
    if wanted.graph != 0 {
        return refuse(
            Status::InvalidArgument,
            format!("a new graph with the handle {:#x}", wanted.graph),
        );
    }
    match context.add_graph(load(core, context, wanted)?) {
        Some(graph) => Ok(rpc::Graph { graph }.as_bytes().to_vec()),
        None => refuse(
            Status::OutOfResources,
            format!("the context has {MAX_GRAPHS} graphs"),
        ),
    }
}

/// [`vmlu_abi::rpc::Function::GraphUpdate`].
pub(super) fn update(core: &Core, context: &Context, wanted: &GraphImage) -> Answer {
    let Some(graph) = context.graph(wanted.graph) else {
        return unknown(wanted.graph);
    };
    let image = load(core, context, wanted)?;
    let parameters = image.parameters();
    match graph.update(image) {
        Ok(()) => Ok(Vec::new()),
        Err(old) => refuse(
            Status::InvalidArgument,
            format!("an image with {parameters} parameters for a graph that has {old}"),
        ),
    }
}

/// [`vmlu_abi::rpc::Function::GraphDestroy`].
pub(super) fn destroy(context: &Context, wanted: &rpc::Graph) -> Answer {
    if !context.remove_graph(wanted.graph) {
        return unknown(wanted.graph);
    }
    Ok(Vec::new())
}

fn unknown(graph: u64) -> Answer {
    refuse(
        Status::BadHandle,
        format!("there is no graph {graph:#x} in this context"),
    )
}

/// A private copy of an image, decoded.
fn load(core: &Core, context: &Context, wanted: &GraphImage) -> Result<Image, Refusal> {
    let GraphImage {
        address, length, ..
    } = *wanted;
    if length > MAX_IMAGE || length < size_of::<GraphHead>() as u64 {
        return refuse(
            Status::BadLength,
            format!("an image of {length} bytes, at most {MAX_IMAGE} are allowed"),
        );
    }
    let Some(charge) = ImageCharge::new(&core.images, length) else {
        return refuse(
            Status::OutOfResources,
            "the images of the chip's graphs are too large: destroy some",
        );
    };
    let held = context
        .space()
        .find(address, length, false)
        .and_then(|s| s.hold(address))
        .map_err(|e| Refusal(Status::AddressFault, e.text))?;
    let mut bytes = vec![0; length as usize];
    let mut done = 0;
    while done < length {
        let run = held
            .run(address - held.va + done, (length - done).min(CHUNK))
            .filter(|r| !r.is_empty() && !held.is_revoked());
        let Some(run) = run else {
            return refuse(
                Status::AddressFault,
                format!("the memory of the image at {:#x}", address + done),
            );
        };
        run.copy_to(&mut bytes[done as usize..done as usize + run.len()]);
        done += run.len() as u64;
    }
    drop(held);
    Image::decode(bytes, charge).map_err(|f| Refusal(f.status, f.rule))
}
