//! Normalisations.

use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction as B, NormFunction, ReduceFunction as R, UnaryFunction as U};
use vmlu::ops::norm::Norm;
use vmlu::ops::pool::{Function as PoolFunction, Pool};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::axis;
use crate::Result;

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    one(match &node.proto.op_type[..] {
        "BatchNormalization" => return batch(node),
        "LayerNormalization" | "RMSNormalization" => return layer(node),
        "InstanceNormalization" => {
            let x = node.input(0)?;
            let axes: Vec<usize> = (2..x.dims().len()).collect();
            let [weight, bias] = [1, 2].map(|i| {
                node.input(i)
                    .and_then(|t| per_channel(node, t, x.dims().len()))
            });
            norm(
                node,
                x,
                Some(&weight?),
                Some(&bias?),
                &axes,
                NormFunction::Standard,
            )?
            .0
        }
        "GroupNormalization" => {
            let x = node.input(0)?;
            let (n, c) = (x.dims()[0], x.dims()[1]);
            let groups = node.int("num_groups", 1) as u64;
            let rest = x.elements() / (n * c);
            let split = card.reshape(x, &[n, groups, c / groups, rest])?;
            let [weight, bias] = [1, 2].map(|i| {
                node.input(i)
                    .and_then(|t| card.reshape(t, &[groups, t.elements() / groups, 1]))
            });
            let (out, ..) = norm(
                node,
                &split,
                Some(&weight?),
                Some(&bias?),
                &[2, 3],
                NormFunction::Standard,
            )?;
            card.reshape(&out, x.dims())?
        }
        "MeanVarianceNormalization" => {
            let x = node.input(0)?;
            let mut axes = Vec::new();
            for a in node.ints("axes").unwrap_or_else(|| vec![0, 2, 3]) {
                axes.push(axis(a, x.dims().len())?);
            }
            norm(node, x, None, None, &axes, NormFunction::Standard)?.0
        }
        "LpNormalization" => {
            let x = node.input(0)?;
            let at = node.axis(-1, x.dims().len())?;
            let function = if node.int("p", 2) == 1 {
                R::Norm1
            } else {
                R::Norm2
            };
            let size = card.reduce(function, x, &[at], true)?;
            let quotient = card.binary(B::Div, x, &size)?;
            // Nothing divided by nothing is nothing.
            let nothing = card.unary(U::LogicalNot, &size)?;
            card.choose(&nothing, &card.scalar(x.dtype(), 0.0)?, &quotient)?
        }
        "LRN" => local_response(node)?,
        _ => return Ok(None),
    })
}

/// A vector along the channels, shaped to broadcast.
fn per_channel(node: &Node<'_>, t: &Tensor, rank: usize) -> Result<Tensor> {
    let mut dims = vec![1; rank];
    dims[1] = t.elements();
    node.card.reshape(t, &dims)
}

/// A normalisation: its result, the mean and the inverse deviation.
fn norm(
    node: &Node<'_>,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    axes: &[usize],
    function: NormFunction,
) -> Result<(Tensor, Tensor, Tensor)> {
    let card = node.card;
    let mut dims = x.dims().to_vec();
    for a in axes {
        dims[*a] = 1;
    }
    let out = card.empty(x.dtype(), x.dims())?;
    let (mean, rstd) = (
        card.empty(DataType::F32, &dims)?,
        card.empty(DataType::F32, &dims)?,
    );
    let wide = x.dtype() == DataType::F64;
    let (mean, rstd) = if wide {
        (
            card.empty(DataType::F64, &dims)?,
            card.empty(DataType::F64, &dims)?,
        )
    } else {
        (mean, rstd)
    };
    let optional = |t: Option<&Tensor>| t.map_or(Wire::zeroed(), |t| *t.desc());
    card.queue.norm(&Norm {
        x: *x.desc(),
        weight: optional(weight),
        bias: optional(bias),
        out: *out.desc(),
        mean: optional((function != NormFunction::Rms).then_some(&mean)),
        rstd: *rstd.desc(),
        function: function.raw(),
        axes: axes.iter().fold(0, |m, a| m | 1 << a),
        eps: node.float(
            "epsilon",
            if node.proto.op_type == "MeanVarianceNormalization" {
                1e-9
            } else {
                1e-5
            },
        ),
        ..Wire::zeroed()
    })?;
    Ok((out, mean, rstd))
}

fn batch(node: &Node<'_>) -> Found {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let mut operands = Vec::new();
    for i in 1..5 {
        operands.push(per_channel(node, node.input(i)?, rank)?);
    }
    let out = card.empty(x.dtype(), x.dims())?;
    let axes = (0..rank).filter(|a| *a != 1).fold(0, |m, a| m | 1 << a);
    let training = node.int("training_mode", 0) != 0;
    let mut body = Norm {
        x: *x.desc(),
        weight: *operands[0].desc(),
        bias: *operands[1].desc(),
        out: *out.desc(),
        axes,
        eps: node.float("epsilon", 1e-5),
        ..Wire::zeroed()
    };
    if !training {
        body.mean = *operands[2].desc();
        body.rstd = *operands[3].desc();
        body.function = NormFunction::Inference.raw();
        card.queue.norm(&body)?;
        return one(out);
    }
    card.queue.norm(&body)?;
    // ONNX moves the variance over the whole count, which the card does over one less.
    let over: Vec<usize> = (0..rank).filter(|a| *a != 1).collect();
    let momentum = node.float("momentum", 0.9);
    let moved = |function, old: &Tensor| -> Result<Tensor> {
        let new = card.reduce(function, x, &over, false)?;
        let old = card.reshape(old, new.dims())?;
        card.binary_with(B::Axpby, [momentum, 1.0 - momentum, 0.0], &old, &new)
    };
    Ok(Some(vec![
        out,
        moved(R::Mean, &operands[2])?,
        moved(R::Var, &operands[3])?,
    ]))
}

fn layer(node: &Node<'_>) -> Found {
    let x = node.input(0)?;
    let rank = x.dims().len();
    let first = node.axis(-1, rank)?;
    let axes: Vec<usize> = (first..rank).collect();
    let function = if node.proto.op_type == "RMSNormalization" {
        NormFunction::Rms
    } else {
        NormFunction::Standard
    };
    let (out, mean, rstd) = norm(node, x, node.given(1), node.given(2), &axes, function)?;
    Ok(Some(vec![out, mean, rstd]))
}

/// `x / (bias + alpha / size · Σ x²)^beta` over neighbouring channels.
fn local_response(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let size = node.int("size", 1) as u32;
    let (n, c) = (x.dims()[0], x.dims()[1]);
    let squares = card.unary(U::Square, x)?;
    let planes = card.reshape(&squares, &[n, 1, c, x.elements() / (n * c)])?;
    let sums = card.empty(x.dtype(), planes.dims())?;
    card.queue.pool(&Pool {
        x: *planes.desc(),
        out: *sums.desc(),
        taps: [size, 1, 0],
        stride: [1, 1, 0],
        dilation: [1, 1, 0],
        padding: [(size - 1) / 2, size / 2, 0, 0, 0, 0],
        divisor: 1,
        function: PoolFunction::Average.raw(),
        ..Wire::zeroed()
    })?;
    let sums = card.reshape(&sums, x.dims())?;
    let scale = card.affine(
        &sums,
        node.float("alpha", 1e-4) / f64::from(size),
        node.float("bias", 1.0),
    )?;
    let root = card.unary_with(U::Power, [-node.float("beta", 0.75), 0.0, 0.0], &scale)?;
    card.binary(B::Mul, x, &root)
}
