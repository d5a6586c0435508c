//! Evaluation of a graph, a node after the other.

use std::collections::HashMap;

use vmlu::Tensor;

use crate::card::Card;
use crate::nodes::{self, Node};
use crate::proto::GraphProto;
use crate::{wrong, Result};

/// Evaluates a graph and returns its outputs.
pub fn run(
    card: &Card<'_>,
    graph: &GraphProto,
    inputs: Vec<(String, Tensor)>,
) -> Result<Vec<Tensor>> {
    run_within(card, graph, inputs, &HashMap::new())
}

/// Evaluates a graph that may name values of the one that it stands in.
pub fn run_within(
    card: &Card<'_>,
    graph: &GraphProto,
    inputs: Vec<(String, Tensor)>,
    outer: &HashMap<String, Tensor>,
) -> Result<Vec<Tensor>> {
    let mut values = outer.clone();
    for constant in &graph.initializer {
        values.insert(constant.name.clone(), card.constant(constant)?);
    }
    values.extend(inputs);
    for node in &graph.node {
        let mut operands = Vec::with_capacity(node.input.len());
        for name in &node.input {
            operands.push(match (name.is_empty(), values.get(name)) {
                (true, _) => None,
                (false, Some(value)) => Some(value.clone()),
                (false, None) => return wrong(format!("there is no value {name}")),
            });
        }
        let results = nodes::run(&Node {
            card,
            graph,
            proto: node,
            inputs: operands,
            values: &values,
        })?;
        if results.len()
            < node
                .output
                .iter()
                .rposition(|o| !o.is_empty())
                .map_or(0, |i| i + 1)
        {
            return crate::unsupported(format!("all outputs of {}", node.op_type));
        }
        for (name, value) in node.output.iter().zip(results) {
            values.insert(name.clone(), value);
        }
    }
    let output = |o: &crate::proto::ValueInfoProto| match values.get(&o.name) {
        Some(value) => Ok(value.clone()),
        None => wrong(format!("there is no output {}", o.name)),
    };
    graph.output.iter().map(output).collect()
}
