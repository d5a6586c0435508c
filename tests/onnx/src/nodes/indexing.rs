//! Operators that move elements whose places are data.

use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction as B, PutFunction, ReduceFunction};
use vmlu::ops::compact::{Compact, Function as CompactFunction};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::axis;
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    one(match &node.proto.op_type[..] {
        "Gather" => {
            let (x, index) = (node.input(0)?, node.input(1)?);
            gather(node, x, index, node.axis(0, x.dims().len())?)?
        }
        "GatherElements" => {
            let (x, index) = (node.input(0)?, node.input(1)?);
            let at = node.axis(0, x.dims().len())?;
            let map = others(x.dims().len(), at);
            card.take(x, &[(at, index)], &map, index.dims())?
        }
        "GatherND" => gather_nd(node)?,
        "ScatterElements" | "Scatter" => {
            let (index, updates) = (node.input(1)?, node.input(2)?);
            let out = card.copy(node.input(0)?)?;
            let at = node.axis(0, out.dims().len())?;
            let map = others(out.dims().len(), at);
            card.put(reduction(node)?, &out, updates, &[(at, index)], &map)?;
            out
        }
        "ScatterND" => scatter_nd(node)?,
        "TensorScatter" => tensor_scatter(node)?,
        "OneHot" => one_hot(node)?,
        "NonZero" => non_zero(node)?,
        "Compress" => compress(node)?,
        "TopK" => return top_k(node),
        "ReverseSequence" => reverse(node)?,
        _ => return Ok(None),
    })
}

/// Every axis but one, mapped to itself.
fn others(rank: usize, at: usize) -> Vec<(usize, usize)> {
    (0..rank).filter(|i| *i != at).map(|i| (i, i)).collect()
}

fn reduction(node: &Node<'_>) -> Result<PutFunction> {
    Ok(match &node.text("reduction", "none")[..] {
        "none" => PutFunction::Set,
        "add" => PutFunction::Add,
        "mul" => PutFunction::Mul,
        "max" => PutFunction::Max,
        "min" => PutFunction::Min,
        other => return unsupported(format!("scattering by {other}")),
    })
}

/// The axes of the index stand in the place of the axis.
pub(super) fn gather(node: &Node<'_>, x: &Tensor, index: &Tensor, at: usize) -> Result<Tensor> {
    let own = index.dims().len();
    let mut dims = x.dims()[..at].to_vec();
    dims.extend(index.dims());
    dims.extend(&x.dims()[at + 1..]);
    if dims.len() > vmlu::abi::tensor::MAX_DIMS {
        return unsupported("more than 8 axes");
    }
    let after = dims.len() - at - own;
    let mut shape = index.dims().to_vec();
    shape.extend(vec![1; after]);
    let index = node.card.reshape(index, &shape)?;
    let map: Vec<(usize, usize)> = (0..x.dims().len())
        .filter(|i| *i != at)
        .map(|i| (i, if i < at { i } else { i + own - 1 }))
        .map(|(i, to)| (i, if i > at && own == 0 { i - 1 } else { to }))
        .collect();
    node.card.take(x, &[(at, &index)], &map, &dims)
}

/// The last axis of an index tensor, a tensor each, with `after` axes behind.
fn columns(node: &Node<'_>, index: &Tensor, after: usize) -> Result<Vec<Tensor>> {
    let (count, rest) = match index.dims().split_last() {
        Some((last, rest)) => (*last, rest.to_vec()),
        None => return wrong("indices without an axis"),
    };
    let mut all = Vec::new();
    for k in 0..count {
        let column = index.narrow(rest.len(), k, 1)?;
        let mut dims = rest.clone();
        dims.extend(vec![1; after]);
        all.push(node.card.reshape(&column, &dims)?);
    }
    Ok(all)
}

fn gather_nd(node: &Node<'_>) -> Result<Tensor> {
    let (x, index) = (node.input(0)?, node.input(1)?);
    let batch = node.int("batch_dims", 0) as usize;
    let Some((&depth, lead)) = index.dims().split_last() else {
        return wrong("indices without an axis");
    };
    let tail = x.dims()[batch + depth as usize..].to_vec();
    let mut dims = lead.to_vec();
    dims.extend(&tail);
    let columns = columns(node, index, tail.len())?;
    let indices: Vec<(usize, &Tensor)> = columns
        .iter()
        .enumerate()
        .map(|(k, c)| (batch + k, c))
        .collect();
    let mut map: Vec<(usize, usize)> = (0..batch).map(|i| (i, i)).collect();
    map.extend((0..tail.len()).map(|i| (batch + depth as usize + i, lead.len() + i)));
    node.card.take(x, &indices, &map, &dims)
}

fn scatter_nd(node: &Node<'_>) -> Result<Tensor> {
    let (index, updates) = (node.input(1)?, node.input(2)?);
    let out = node.card.copy(node.input(0)?)?;
    let depth = index.dims().last().copied().unwrap_or(0) as usize;
    let lead = index.dims().len() - 1;
    let tail = out.dims().len() - depth;
    let columns = columns(node, index, tail)?;
    let indices: Vec<(usize, &Tensor)> = columns.iter().enumerate().collect();
    let map: Vec<(usize, usize)> = (0..tail).map(|i| (depth + i, lead + i)).collect();
    node.card
        .put(reduction(node)?, &out, updates, &indices, &map)?;
    Ok(out)
}

/// Updates written along an axis, from a position of each element of the batch on.
fn tensor_scatter(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let (past, update) = (node.input(0)?, node.input(1)?);
    let rank = past.dims().len();
    let at = node.axis(-2, rank)?;
    let out = card.copy(past)?;
    let batch = past.dims()[0];
    let mut shape = vec![1; rank];
    shape[0] = batch;
    let start = match node.given(2) {
        Some(t) => card.reshape(&card.cast(t, DataType::I64)?, &shape)?,
        None => card.full(DataType::I64, &shape, 0.0)?,
    };
    let mut index = card.binary(B::Add, &start, &card.positions(update.dims(), at)?)?;
    if node.text("mode", "linear") == "circular" {
        let limit = card.scalar(DataType::I64, past.dims()[at] as f64)?;
        index = card.binary(B::Remainder, &index, &limit)?;
    }
    card.put(
        PutFunction::Set,
        &out,
        update,
        &[(at, &index)],
        &others(rank, at),
    )?;
    Ok(out)
}

fn one_hot(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let (index, values) = (node.input(0)?, node.input(2)?);
    let depth = card.whole(node.input(1)?)?[0];
    let rank = index.dims().len() + 1;
    let at = node.axis(-1, rank)?;
    let index = card.unsqueeze(&card.cast(index, DataType::I64)?, at);
    let limit = card.scalar(DataType::I64, depth as f64)?;
    // Negative ones count from the end; what is out of range is nowhere.
    let below = card.binary(B::Less, &index, &card.scalar(DataType::I64, 0.0)?)?;
    let index = card.choose(&below, &card.binary(B::Add, &index, &limit)?, &index)?;
    let mut dims = index.dims().to_vec();
    dims[at] = depth as u64;
    let hit = card.binary(B::Equal, &index, &card.positions(&dims, at)?)?;
    let value = |i: u64| -> Result<Tensor> { Ok(values.narrow(0, i, 1)?.with_layout(&[], &[])) };
    card.choose(&hit, &value(1)?, &value(0)?)
}

fn count(node: &Node<'_>, x: &Tensor) -> Result<u64> {
    let axes: Vec<usize> = (0..x.dims().len()).collect();
    let found = node
        .card
        .reduce(ReduceFunction::CountNonzero, x, &axes, false)?;
    Ok(node.card.whole(&found)?[0] as u64)
}

fn non_zero(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len().max(1);
    let out = card.empty(DataType::I64, &[count(node, x)?, rank as u64])?;
    card.queue.compact(&Compact {
        x: *x.desc(),
        out: *out.desc(),
        function: CompactFunction::Nonzero.raw(),
        ..Wire::zeroed()
    })?;
    card.copy(&out.transpose(0, 1)?)
}

fn compress(node: &Node<'_>) -> Result<Tensor> {
    let (card, mask) = (node.card, node.input(1)?);
    let mut x = node.input(0)?.clone();
    let at = match node.attribute("axis") {
        Some(a) => axis(a.i, x.dims().len())?,
        None => {
            x = card.reshape(&x, &[x.elements()])?;
            0
        }
    };
    // The places that are chosen, then what lies there.
    let chosen = card.empty(DataType::I64, &[count(node, mask)?])?;
    card.queue.compact(&Compact {
        x: *card.range(DataType::I64, 0.0, 1.0, mask.dims()[0])?.desc(),
        mask: *mask.desc(),
        out: *chosen.desc(),
        function: CompactFunction::Select.raw(),
        ..Wire::zeroed()
    })?;
    gather(node, &x, &chosen, at)
}

fn top_k(node: &Node<'_>) -> Found {
    let (card, x) = (node.card, node.input(0)?);
    let at = node.axis(-1, x.dims().len())?;
    let k = node.ints_or("k", 1)?.unwrap_or_default()[0];
    let mut dims = x.dims().to_vec();
    dims[at] = k as u64;
    let (values, indices) = (
        card.empty(x.dtype(), &dims)?,
        card.empty(DataType::I64, &dims)?,
    );
    let largest = node.int("largest", 1) != 0;
    card.queue
        .sort(x, at as u32, largest, Some(&values), Some(&indices))?;
    Ok(Some(vec![values, indices]))
}

/// The first elements of each row of the batch, as many as its length says, in the other order.
fn reverse(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let (time, batch) = (
        node.int("time_axis", 0) as usize,
        node.int("batch_axis", 1) as usize,
    );
    let mut shape = vec![1; rank];
    shape[batch] = x.dims()[batch];
    let lengths = card.reshape(&card.cast(node.input(1)?, DataType::I64)?, &shape)?;
    let positions = card.positions(x.dims(), time)?;
    let last = card.affine(&lengths, 1.0, -1.0)?;
    let mirrored = card.binary(B::Sub, &last, &positions)?;
    let inside = card.binary(B::Less, &positions, &lengths)?;
    let index = card.choose(&inside, &mirrored, &positions)?;
    card.take(x, &[(time, &index)], &others(rank, time), x.dims())
}
