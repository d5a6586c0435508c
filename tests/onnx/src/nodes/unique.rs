//! Different elements, or different slices along an axis.

use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction as B, PutFunction};
use vmlu::ops::compact::{Compact, Function};
use vmlu::{DataType, Tensor};

use super::indexing::gather;
use super::{Found, Node};
use crate::card::{axis, Card};
use crate::Result;

/// What is different, in ascending order.
struct Different {
    /// Where each first occurs.
    first: Tensor,
    /// The number of each element's value.
    inverse: Tensor,
    /// How often each occurs.
    counts: Tensor,
}

pub(super) fn run(node: &Node<'_>) -> Found {
    if node.proto.op_type != "Unique" {
        return Ok(None);
    }
    let (card, x) = (node.card, node.input(0)?);
    let (x, at) = match node.attribute("axis") {
        Some(a) => (x.clone(), axis(a.i, x.dims().len())?),
        None => (card.reshape(x, &[x.elements()])?, 0),
    };
    let mut found = if x.dims().len() == 1 {
        different(card, &x)?
    } else {
        different(card, &ranks(card, &x, at)?)?
    };
    if node.int("sorted", 1) == 0 {
        found = in_order_of_occurrence(card, &found)?;
    }
    let values = gather(node, &x, &found.first, at)?;
    Ok(Some(vec![values, found.first, found.inverse, found.counts]))
}

/// The different elements of a vector.
fn different(card: &Card<'_>, x: &Tensor) -> Result<Different> {
    let values = card.empty(x.dtype(), x.dims())?;
    let counts = card.empty(DataType::I64, x.dims())?;
    let inverse = card.empty(DataType::I64, x.dims())?;
    let found = card.empty(DataType::I64, &[])?;
    card.queue.compact(&Compact {
        x: *x.desc(),
        out: *values.desc(),
        count: *found.desc(),
        inverse: *inverse.desc(),
        counts: *counts.desc(),
        function: Function::Unique.raw(),
        ..Wire::zeroed()
    })?;
    let n = card.whole(&found)?[0] as u64;
    // The first occurrence: of all positions, the least that has the value.
    let first = card.full(DataType::I64, &[n], i64::MAX as f64)?;
    let positions = card.range(DataType::I64, 0.0, 1.0, x.elements())?;
    card.put(PutFunction::Min, &first, &positions, &[(0, &inverse)], &[])?;
    Ok(Different {
        first,
        inverse,
        counts: counts.narrow(0, 0, n)?,
    })
}

/// A number for each slice along an axis, by which slices order as their elements do, the first one first.
fn ranks(card: &Card<'_>, x: &Tensor, at: usize) -> Result<Tensor> {
    let slices = x.dims()[at];
    let mut order = vec![at];
    order.extend((0..x.dims().len()).filter(|i| *i != at));
    let length = x.elements() / slices.max(1);
    let rows = card.reshape(&card.permute(x, &order), &[slices, length])?;
    let mut ranks = card.full(DataType::I64, &[slices], 0.0)?;
    for i in 0..length {
        let column = card.reshape(&rows.narrow(1, i, 1)?, &[slices])?;
        let next = different(card, &column)?.inverse;
        let before = card.affine(&ranks, slices as f64, 0.0)?;
        ranks = different(card, &card.binary(B::Add, &before, &next)?)?.inverse;
    }
    Ok(ranks)
}

/// The same, in the order in which they first occur.
fn in_order_of_occurrence(card: &Card<'_>, found: &Different) -> Result<Different> {
    let dims = found.first.dims();
    let (first, order) = (
        card.empty(DataType::I64, dims)?,
        card.empty(DataType::I64, dims)?,
    );
    card.queue
        .sort(&found.first, 0, false, Some(&first), Some(&order))?;
    let picked = |x: &Tensor, index: &Tensor| card.take(x, &[(0, index)], &[], index.dims());
    let places = card.empty(DataType::I64, dims)?;
    let numbers = card.range(DataType::I64, 0.0, 1.0, dims[0])?;
    card.put(PutFunction::Set, &places, &numbers, &[(0, &order)], &[])?;
    Ok(Different {
        first,
        inverse: picked(&places, &found.inverse)?,
        counts: picked(&found.counts, &order)?,
    })
}
