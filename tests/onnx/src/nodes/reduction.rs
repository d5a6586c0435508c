//! Reductions, running sums, softmax.

use vmlu::operators::{
    ArgFunction, ReduceFunction as R, ScanFunction, SoftmaxFunction, UnaryFunction as U,
};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::axis;
use crate::Result;

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    let function = match &node.proto.op_type[..] {
        "ReduceSum" | "ReduceLogSum" => R::Sum,
        "ReduceMean" => R::Mean,
        "ReduceMax" => R::Max,
        "ReduceMin" => R::Min,
        "ReduceProd" => R::Prod,
        "ReduceL1" => R::Norm1,
        "ReduceL2" => R::Norm2,
        "ReduceSumSquare" => R::SumSquares,
        "ReduceLogSumExp" => R::LogSumExp,
        "ArgMax" => return one(extreme(node, ArgFunction::Max)?),
        "ArgMin" => return one(extreme(node, ArgFunction::Min)?),
        "CumSum" => return one(running(node, ScanFunction::Sum)?),
        "CumProd" => return one(running(node, ScanFunction::Prod)?),
        "Softmax" | "LogSoftmax" | "Hardmax" => return one(softmax(node)?),
        _ => return Ok(None),
    };
    let x = node.input(0)?;
    let rank = x.dims().len();
    let mut axes = Vec::new();
    for a in node.ints_or("axes", 1)?.unwrap_or_default() {
        axes.push(axis(a, rank)?);
    }
    if axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0 {
        axes = (0..rank).collect();
    }
    let keep = node.int("keepdims", 1) != 0;
    // Truths are ordered as bytes.
    let truths = x.dtype() == DataType::Bool;
    let wide = if truths {
        card.cast(x, DataType::U8)?
    } else {
        x.clone()
    };
    let empty = x.elements() == 0 && matches!(function, R::Max | R::Min);
    let mut out = if empty {
        least(node, function, &wide, &axes, keep)?
    } else {
        card.reduce(function, &wide, &axes, keep)?
    };
    if node.proto.op_type == "ReduceLogSum" {
        out = card.unary(U::Log, &out)?;
    }
    one(if truths {
        card.cast(&out, DataType::Bool)?
    } else {
        out
    })
}

/// The extreme of nothing, which ONNX has and the card refuses: that of one element that loses against all.
fn least(node: &Node<'_>, function: R, x: &Tensor, axes: &[usize], keep: bool) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    for a in axes {
        dims[*a] = 1;
    }
    let sign = if function == R::Max { -1.0 } else { 1.0 };
    let value = if x.dtype() == DataType::U8 {
        f64::from(u8::from(function == R::Min))
    } else {
        sign * f64::INFINITY
    };
    let lost = node.card.full(x.dtype(), &dims, value)?;
    node.card.reduce(function, &lost, axes, keep)
}

fn extreme(node: &Node<'_>, function: ArgFunction) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let axis = node.axis(0, x.dims().len())?;
    let length = x.dims()[axis];
    let last = node.int("select_last_index", 0) != 0 && length > 0;
    let walked = if last {
        card.slice(x, axis, length - 1, -1, length)?
    } else {
        x.clone()
    };
    let mut out = card.arg(function, &walked, axis)?;
    if last {
        out = card.affine(&out, -1.0, length as f64 - 1.0)?;
    }
    if node.int("keepdims", 1) != 0 {
        return Ok(out);
    }
    let mut dims = out.dims().to_vec();
    dims.remove(axis);
    card.reshape(&out, &dims)
}

fn running(node: &Node<'_>, function: ScanFunction) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let along = card.whole(node.input(1)?)?.first().copied().unwrap_or(0);
    let axis = axis(along, x.dims().len())?;
    let out = card.empty(x.dtype(), x.dims())?;
    let length = x.dims()[axis];
    let (mut from, mut to) = (x.clone(), out.clone());
    if node.int("reverse", 0) != 0 && length > 0 {
        from = card.slice(x, axis, length - 1, -1, length)?;
        to = card.slice(&out, axis, length - 1, -1, length)?;
    }
    card.scan(function, &from, axis, node.int("exclusive", 0) != 0, &to)?;
    Ok(out)
}

/// Since version 13 along one axis; before, along all from one on.
fn softmax(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let old = card.opset < 13;
    let along = node.axis(if old { 1 } else { -1 }, rank)?;
    let (flat, axis) = if old {
        let split = |d: &[u64]| d.iter().product();
        let (a, b) = x.dims().split_at(along);
        (card.reshape(x, &[split(a), split(b)])?, 1)
    } else {
        (x.clone(), along)
    };
    let out = match &node.proto.op_type[..] {
        "Softmax" => card.softmax(SoftmaxFunction::Softmax, &flat, axis)?,
        "LogSoftmax" => card.softmax(SoftmaxFunction::LogSoftmax, &flat, axis)?,
        _ => {
            let best = card.arg(ArgFunction::Max, &flat, axis)?;
            let positions = card.positions(flat.dims(), axis)?;
            let hit = card.binary(vmlu::operators::BinaryFunction::Equal, &positions, &best)?;
            card.cast(&hit, x.dtype())?
        }
    };
    card.reshape(&out, x.dims())
}
