//! What each operator of ONNX becomes. A family a file; each has a function that returns `None` for an operator that it does not know.

mod attention;
mod constants;
mod control;
mod elementwise;
mod fourier;
mod indexing;
mod learning;
mod linear;
mod loss;
mod movement;
mod normalisation;
mod quantised;
mod recurrent;
mod reduction;
mod resize;
mod sampling;
mod sequences;
mod text;
mod training;
mod unique;
mod vision;

use std::collections::HashMap;

use vmlu::{DataType, Tensor};

use crate::card::Card;
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use crate::{unsupported, wrong, Result};

/// A node with its operands.
pub struct Node<'n> {
    /// The card.
    pub card: &'n Card<'n>,
    /// The graph that it stands in.
    pub graph: &'n GraphProto,
    /// The node.
    pub proto: &'n NodeProto,
    /// Operands; `None` for one that is left out.
    pub inputs: Vec<Option<Tensor>>,
    /// All values so far, for graphs within graphs.
    pub values: &'n HashMap<String, Tensor>,
}

/// What an operator returns: its outputs, or `None` if the family does not have it.
type Found = Result<Option<Vec<Tensor>>>;

/// Evaluates a node.
pub fn run(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let name = &node.proto.op_type;
    if node.proto.domain == "ai.onnx.preview.training" {
        return training::run(node);
    }
    if node.proto.domain == "ai.onnx.preview" {
        return sequences::preview(node);
    }
    if node.proto.domain == "ai.onnx.ml" {
        return learning::run(node);
    }
    if !matches!(&node.proto.domain[..], "" | "ai.onnx") {
        return unsupported(format!("operators of {}", node.proto.domain));
    }
    let families: &[fn(&Node<'_>) -> Found] = &[
        elementwise::run,
        reduction::run,
        movement::run,
        indexing::run,
        constants::run,
        linear::run,
        normalisation::run,
        vision::run,
        resize::run,
        sampling::run,
        recurrent::run,
        fourier::run,
        quantised::run,
        loss::run,
        attention::run,
        sequences::run,
        unique::run,
        text::run,
        control::run,
    ];
    for family in families {
        if let Some(found) = family(node)? {
            return Ok(found);
        }
    }
    unsupported(format!("operator {name}"))
}

impl Node<'_> {
    /// An operand that must be there.
    fn input(&self, i: usize) -> Result<&Tensor> {
        match self.given(i) {
            Some(t) => Ok(t),
            None => wrong(format!("{} lacks input {i}", self.proto.op_type)),
        }
    }

    /// An operand that may be left out.
    fn given(&self, i: usize) -> Option<&Tensor> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Number of an operand's type in `TensorProto.DataType`, if it is an input of the graph.
    fn kind(&self, i: usize) -> Option<i32> {
        let name = self.proto.input.get(i)?;
        let value = self.graph.input.iter().find(|v| v.name == *name)?;
        let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
        Some(tensor.elem_type)
    }

    /// Whether a result is asked for.
    fn wants(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|o| !o.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// A whole number.
    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    /// A number.
    fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).map_or(default, |a| a.f.into())
    }

    /// A text.
    fn text(&self, name: &str, default: &str) -> String {
        let given = self
            .attribute(name)
            .map(|a| String::from_utf8_lossy(&a.s).into_owned());
        given.unwrap_or_else(|| default.into())
    }

    /// Whole numbers.
    fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    /// A tensor.
    fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    /// Whole numbers of an attribute, or of an operand where newer versions have them.
    fn ints_or(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>> {
        if let Some(given) = self.ints(name) {
            return Ok(Some(given));
        }
        self.given(input).map(|t| self.card.whole(t)).transpose()
    }

    /// An axis that is an attribute.
    fn axis(&self, default: i64, rank: usize) -> Result<usize> {
        crate::card::axis(self.int("axis", default), rank)
    }
}

/// Whether a type has a fraction.
fn is_float(dtype: DataType) -> bool {
    vmlu::ops::tensor::is_float(dtype)
}

/// One result.
fn one(result: Tensor) -> Found {
    Ok(Some(vec![result]))
}
