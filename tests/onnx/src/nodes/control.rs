//! Graphs within graphs.

use vmlu::{DataType, Tensor};

use super::{Found, Node};
use crate::card::axis;
use crate::graph;
use crate::proto::GraphProto;
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "If" => {
            let chosen = node.card.whole(node.input(0)?)?[0] != 0;
            let name = if chosen { "then_branch" } else { "else_branch" };
            evaluate(node, within(node, name)?, Vec::new()).map(Some)
        }
        // Values that are no tensors are refused before.
        "OptionalGetElement" => Ok(Some(vec![node.input(0)?.clone()])),
        "OptionalHasElement" => {
            let there = u8::from(node.given(0).is_some());
            Ok(Some(vec![node.card.tensor_of(
                DataType::Bool,
                &[],
                &[there],
            )?]))
        }
        "Loop" => repeat(node).map(Some),
        "Scan" if node.card.opset >= 9 => scan(node).map(Some),
        _ => Ok(None),
    }
}

pub(super) fn within<'n>(node: &Node<'n>, name: &str) -> Result<&'n GraphProto> {
    let proto: &'n crate::proto::NodeProto = node.proto;
    let attribute = proto.attribute.iter().find(|a| a.name == name);
    match attribute.and_then(|a| a.g.as_ref()) {
        Some(graph) => Ok(graph),
        None => wrong(format!("there is no {name}")),
    }
}

/// Evaluates a graph on values for its inputs.
pub(super) fn evaluate(
    node: &Node<'_>,
    graph: &GraphProto,
    values: Vec<Tensor>,
) -> Result<Vec<Tensor>> {
    let names = graph.input.iter().map(|i| i.name.clone());
    graph::run_within(node.card, graph, names.zip(values).collect(), node.values)
}

/// The values that each round gave, one behind the other along a new axis.
fn joined(node: &Node<'_>, rounds: &[Tensor], place: usize) -> Result<Tensor> {
    if rounds.is_empty() {
        return unsupported("a loop of no rounds");
    }
    let rounds: Vec<Tensor> = rounds
        .iter()
        .map(|t| node.card.unsqueeze(t, place))
        .collect();
    node.card.concat(&rounds, place)
}

/// As often as is said, and as long as the condition holds.
fn repeat(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let (card, body) = (node.card, within(node, "body")?);
    let most = match node.given(0) {
        Some(t) => card.whole(t)?[0],
        None => i64::MAX,
    };
    let mut goes_on = match node.given(1) {
        Some(t) => card.whole(t)?[0] != 0,
        None => true,
    };
    let mut carried = Vec::new();
    for i in 2..node.inputs.len() {
        carried.push(node.input(i)?.clone());
    }
    let mut rounds: Vec<Vec<Tensor>> = vec![Vec::new(); body.output.len() - 1 - carried.len()];
    for i in 0..most {
        if !goes_on {
            break;
        }
        let number = card.reshape(&card.integers(&[i])?, &[])?;
        let condition = card.tensor_of(DataType::Bool, &[], &[1])?;
        let mut values = vec![number, condition];
        values.append(&mut carried);
        let mut results = evaluate(node, body, values)?.into_iter();
        let next = results.next();
        goes_on = next.map_or(Ok(vec![0]), |t| card.whole(&t))?[0] != 0;
        carried = results.by_ref().take(node.inputs.len() - 2).collect();
        for (round, value) in rounds.iter_mut().zip(results) {
            round.push(card.copy(&value)?);
        }
    }
    for round in &rounds {
        carried.push(joined(node, round, 0)?);
    }
    Ok(carried)
}

/// Once for each element along an axis of the inputs.
fn scan(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let (card, body) = (node.card, within(node, "body")?);
    let scanned = node.int("num_scan_inputs", 0) as usize;
    let mut inputs = Vec::new();
    for i in 0..node.inputs.len() {
        inputs.push(node.input(i)?.clone());
    }
    let elements = inputs.split_off(inputs.len() - scanned);
    let mut carried = inputs;
    let states = carried.len();
    let numbers = |name: &str, count: usize| node.ints(name).unwrap_or(vec![0; count]);
    let (axes, backwards) = (
        numbers("scan_input_axes", scanned),
        numbers("scan_input_directions", scanned),
    );
    let mut places = Vec::new();
    for (t, a) in elements.iter().zip(&axes) {
        places.push(axis(*a, t.dims().len())?);
    }
    let length = elements.first().map_or(0, |t| t.dims()[places[0]]);
    let outputs = body.output.len() - states;
    let mut rounds: Vec<Vec<Tensor>> = vec![Vec::new(); outputs];
    for i in 0..length {
        let mut values = std::mem::take(&mut carried);
        for ((t, place), backward) in elements.iter().zip(&places).zip(&backwards) {
            let at = if *backward != 0 { length - 1 - i } else { i };
            let mut dims = t.dims().to_vec();
            dims.remove(*place);
            values.push(card.reshape(&t.narrow(*place, at, 1)?, &dims)?);
        }
        let mut results = evaluate(node, body, values)?.into_iter();
        carried = results.by_ref().take(states).collect();
        for (round, value) in rounds.iter_mut().zip(results) {
            round.push(card.copy(&value)?);
        }
    }
    let (axes, backwards) = (
        numbers("scan_output_axes", outputs),
        numbers("scan_output_directions", outputs),
    );
    for ((round, a), backward) in rounds.iter_mut().zip(axes).zip(backwards) {
        if backward != 0 {
            round.reverse();
        }
        let rank = round.first().map_or(0, |t| t.dims().len()) + 1;
        carried.push(joined(node, round, axis(a, rank)?)?);
    }
    Ok(carried)
}
