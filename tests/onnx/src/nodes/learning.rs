//! Operators of `ai.onnx.ml`, of which the card has what works on numbers.

use vmlu::operators::BinaryFunction as B;
use vmlu::Tensor;

use super::indexing::gather;
use super::Node;
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let (card, x) = (node.card, node.input(0)?);
    Ok(vec![match &node.proto.op_type[..] {
        "ArrayFeatureExtractor" => {
            let index = node.input(1)?;
            let index = card.reshape(index, &[index.elements()])?;
            let picked = gather(node, x, &index, x.dims().len() - 1)?;
            // A vector becomes a matrix of one row.
            match picked.dims() {
                [n] => card.reshape(&picked, &[1, *n])?,
                _ => picked,
            }
        }
        "Binarizer" => {
            let limit = card.scalar(x.dtype(), node.float("threshold", 0.0))?;
            card.cast(&card.binary(B::Greater, x, &limit)?, x.dtype())?
        }
        other => return unsupported(format!("operator {other} of ai.onnx.ml")),
    }])
}
