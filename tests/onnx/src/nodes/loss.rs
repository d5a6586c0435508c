//! Losses of classification.

use vmlu::operators::{
    BinaryFunction as B, ReduceFunction as R, SoftmaxFunction, UnaryFunction as U,
};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::Result;

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    match &node.proto.op_type[..] {
        "NegativeLogLikelihoodLoss" => one(likelihood(node, node.input(0)?)?),
        "SoftmaxCrossEntropyLoss" => {
            let x = node.input(0)?;
            let logs = card.softmax(SoftmaxFunction::LogSoftmax, x, 1)?;
            let loss = likelihood(node, &logs)?;
            Ok(Some(vec![loss, logs]))
        }
        "Dropout" => {
            // Seeds and streams of numbers differ from library to library: only what has none is the same everywhere.
            let training = match node.given(2) {
                Some(t) => card.whole(t)?[0] != 0,
                None => false,
            };
            let ratio = match node.given(1) {
                Some(t) => card.numbers(t)?.first().copied().unwrap_or(0.5),
                None => 0.5,
            };
            if training && ratio != 0.0 {
                return crate::unsupported("random numbers");
            }
            let x = node.input(0)?;
            let mask = card.full(DataType::Bool, x.dims(), 1.0)?;
            Ok(Some(vec![card.copy(x)?, mask]))
        }
        _ => Ok(None),
    }
}

/// What log-probabilities along axis 1 say of labels.
fn likelihood(node: &Node<'_>, logs: &Tensor) -> Result<Tensor> {
    let (card, labels) = (node.card, node.input(1)?);
    let dtype = logs.dtype();
    let mut dims = labels.dims().to_vec();
    dims.insert(1, 1);
    let mut index = card.reshape(labels, &dims)?;
    let mut weights = card.full(dtype, &dims, 1.0)?;
    let ignored = node.attribute("ignore_index").map(|a| a.i);
    let mut skip = None;
    if let Some(ignored) = ignored {
        let hit = card.binary(
            B::Equal,
            &index,
            &card.scalar(index.dtype(), ignored as f64)?,
        )?;
        index = card.choose(&hit, &card.scalar(index.dtype(), 0.0)?, &index)?;
        skip = Some(hit);
    }
    if let Some(given) = node.given(2) {
        weights = card.take(given, &[(0, &index)], &[], &dims)?;
    }
    if let Some(skip) = &skip {
        weights = card.choose(skip, &card.scalar(dtype, 0.0)?, &weights)?;
    }
    let map: Vec<(usize, usize)> = (0..dims.len())
        .filter(|i| *i != 1)
        .map(|i| (i, i))
        .collect();
    let picked = card.take(logs, &[(1, &index)], &map, &dims)?;
    let each = card.unary(U::Neg, &card.binary(B::Mul, &picked, &weights)?)?;
    let axes: Vec<usize> = (0..dims.len()).collect();
    let total = |t: &Tensor| card.reduce(R::Sum, t, &axes, false);
    match &node.text("reduction", "mean")[..] {
        "none" => card.reshape(&each, labels.dims()),
        "sum" => total(&each),
        _ => card.binary(B::Div, &total(&each)?, &total(&weights)?),
    }
}
