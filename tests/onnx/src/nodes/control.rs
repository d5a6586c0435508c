//! Graphs within graphs.

use super::{Found, Node};
use crate::graph;

pub(super) fn run(node: &Node<'_>) -> Found {
    if node.proto.op_type != "If" {
        return Ok(None);
    }
    let chosen = node.card.whole(node.input(0)?)?[0] != 0;
    let name = if chosen { "then_branch" } else { "else_branch" };
    match node.attribute(name).and_then(|a| a.g.as_ref()) {
        Some(branch) => graph::run_within(node.card, branch, Vec::new(), node.values).map(Some),
        None => crate::wrong(format!("there is no {name}")),
    }
}
