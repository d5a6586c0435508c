//! Quantised values, and products of them: computed on whole numbers in f64, where they are exact, and rounded once.

use vmlu::operators::{BinaryFunction as B, ReduceFunction as R, UnaryFunction as U};
use vmlu::{DataType, Tensor};

use super::linear::convolution;
use super::{one, Found, Node};
use crate::card::{axis, data_type, packed};
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    let shifted = |x: usize, zero: usize| centred(node, node.input(x)?, node.given(zero), None);
    one(match &node.proto.op_type[..] {
        "QuantizeLinear" => quantise(node)?,
        "DequantizeLinear" => {
            let (x, scale) = (node.input(0)?, node.input(1)?);
            let zero = node.given(2).map(|z| spread(node, z, x)).transpose()?;
            let scale = spread(node, scale, x)?;
            let centred = centred(node, x, zero.as_ref(), None)?;
            let wide = card.cast(&scale, DataType::F64)?;
            let out = match node.int("output_dtype", 0) {
                0 => scale.dtype(),
                other => data_type(other as i32)?,
            };
            card.cast(&card.binary(B::Mul, &centred, &wide)?, out)?
        }
        "DynamicQuantizeLinear" => return dynamic(node),
        "MatMulInteger" => {
            let rows = node.given(2).map(|z| rows(node, z)).transpose()?;
            let a = centred(node, node.input(0)?, rows.as_ref(), None)?;
            card.cast(&card.matmul(&a, &shifted(1, 3)?)?, DataType::I32)?
        }
        "ConvInteger" => {
            let w = node.input(1)?;
            let zero = node.given(3).map(|z| filters(node, z, w, 0)).transpose()?;
            let w = centred(node, w, zero.as_ref(), None)?;
            let out = convolution(node, &shifted(0, 2)?, &w, None)?;
            card.cast(&out, DataType::I32)?
        }
        "QLinearMatMul" => {
            let product = card.matmul(&shifted(0, 2)?, &shifted(3, 5)?)?;
            requantise(
                node,
                &product,
                [node.input(1)?, node.input(4)?, node.input(6)?],
                node.input(7)?,
            )?
        }
        "QLinearConv" => {
            let (x, w) = (node.input(0)?, node.input(3)?);
            let a = centred(node, x, node.given(2), None)?;
            let b = centred(node, w, Some(&filters(node, node.input(5)?, w, 0)?), None)?;
            let bias = node
                .given(8)
                .map(|b| card.cast(b, DataType::F64))
                .transpose()?;
            let sums = convolution(node, &a, &b, bias.as_ref())?;
            let scale = filters(node, node.input(4)?, w, 1)?;
            requantise(
                node,
                &sums,
                [node.input(1)?, &scale, node.input(6)?],
                node.input(7)?,
            )?
        }
        _ => return Ok(None),
    })
}

/// One for each filter, over an axis of as many as the filters `w` have.
fn filters(node: &Node<'_>, t: &Tensor, w: &Tensor, at: usize) -> Result<Tensor> {
    let mut dims = vec![1; w.dims().len()];
    dims[at] = t.elements();
    node.card.reshape(t, &dims)
}

/// A zero point for each row of a matrix.
fn rows(node: &Node<'_>, zero: &Tensor) -> Result<Tensor> {
    if zero.dims().len() == 1 && zero.elements() > 1 {
        return node.card.reshape(zero, &[zero.elements(), 1]);
    }
    Ok(zero.clone())
}

/// `x - zero` in f64.
fn centred(
    node: &Node<'_>,
    x: &Tensor,
    zero: Option<&Tensor>,
    dims: Option<&[u64]>,
) -> Result<Tensor> {
    let card = node.card;
    let mut wide = card.cast(x, DataType::F64)?;
    if let Some(zero) = zero {
        let zero = card.cast(zero, DataType::F64)?;
        let zero = if zero.elements() == 1 {
            card.reshape(&zero, &[])?
        } else {
            zero
        };
        wide = card.binary(B::Sub, &wide, &zero)?;
    }
    match dims {
        Some(dims) => card.reshape(&wide, dims),
        None => Ok(wide),
    }
}

/// Scales or zero points over the elements of `x`: one, one for each position of an axis, or one for each block along it.
fn spread(node: &Node<'_>, t: &Tensor, x: &Tensor) -> Result<Tensor> {
    let card = node.card;
    let rank = x.dims().len();
    if t.elements() == 1 && t.dims().len() <= 1 {
        return card.reshape(t, &[]);
    }
    let at = axis(node.int("axis", 1), rank)?;
    let block = node.int("block_size", 0) as u64;
    if block == 0 {
        let mut dims = vec![1; rank];
        dims[at] = t.elements();
        return card.reshape(t, &dims);
    }
    // Each block's value, repeated.
    let wide = card.unsqueeze(t, at + 1);
    let mut dims = wide.dims().to_vec();
    dims[at + 1] = block;
    let mut joined = t.dims().to_vec();
    joined[at] *= block;
    let all = card.reshape(&card.copy(&card.expand(&wide, &dims)?)?, &joined)?;
    Ok(all.narrow(at, 0, x.dims()[at])?)
}

/// `x / scale` to the nearest, halves to even, moved by the zero point and clamped.
fn quantise(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let scale = spread(node, node.input(1)?, x)?;
    let dtype = match (node.given(2), node.int("output_dtype", 0)) {
        (Some(zero), _) => zero.dtype(),
        (None, 0) => DataType::U8,
        (None, other) => data_type(other as i32)?,
    };
    let precision = match node.int("precision", 0) {
        0 => scale.dtype(),
        other => data_type(other as i32)?,
    };
    if !matches!(precision, DataType::F32 | DataType::F16 | DataType::F64) {
        return unsupported("division in another type");
    }
    let x = card.cast(x, precision)?;
    let quotient = card.binary(B::Div, &x, &card.cast(&scale, precision)?)?;
    let mut whole = card.cast(&card.unary(U::Round, &quotient)?, DataType::F64)?;
    if let Some(zero) = node.given(2) {
        let zero = card.cast(&spread(node, zero, &x)?, DataType::F64)?;
        whole = card.binary(B::Add, &whole, &zero)?;
    }
    let kind = match node.given(2) {
        Some(_) => node.kind(2),
        None => Some(node.int("output_dtype", 0) as i32),
    };
    match kind.filter(|kind| packed(*kind).is_some()) {
        Some(kind) => {
            let (low, high) = match dtype {
                DataType::I8 => (-8.0, 7.0),
                _ => (0.0, 15.0),
            };
            let within = card.unary_with(U::Clamp, [low, high, 0.0], &whole)?;
            card.cast_to(&within, kind)
        }
        None => card.saturate(&whole, dtype),
    }
}

fn requantise(
    node: &Node<'_>,
    sums: &Tensor,
    scales: [&Tensor; 3],
    zero: &Tensor,
) -> Result<Tensor> {
    let card = node.card;
    let wide = |t: &Tensor| -> Result<Tensor> {
        let t = card.cast(t, DataType::F64)?;
        if t.elements() == 1 {
            card.reshape(&t, &[])
        } else {
            Ok(t)
        }
    };
    let [a, b, y] = scales;
    let factor = card.binary(
        B::Div,
        &card.binary(B::Mul, &wide(a)?, &wide(b)?)?,
        &wide(y)?,
    )?;
    let scaled = card.unary(U::Round, &card.binary(B::Mul, sums, &factor)?)?;
    let moved = card.binary(B::Add, &scaled, &wide(zero)?)?;
    card.saturate(&moved, zero.dtype())
}

/// The scale that the values' range (with 0) needs for 8 bits.
fn dynamic(node: &Node<'_>) -> Found {
    let (card, x) = (node.card, node.input(0)?);
    let axes: Vec<usize> = (0..x.dims().len()).collect();
    let zero = card.scalar(DataType::F32, 0.0)?;
    let high = card.binary(B::Max, &card.reduce(R::Max, x, &axes, false)?, &zero)?;
    let low = card.binary(B::Min, &card.reduce(R::Min, x, &axes, false)?, &zero)?;
    let scale = card.affine(&card.binary(B::Sub, &high, &low)?, 1.0 / 255.0, 0.0)?;
    let lowest = card.unary(U::Neg, &card.binary(B::Div, &low, &scale)?)?;
    let point = card.saturate(&card.unary(U::Round, &lowest)?, DataType::U8)?;
    let whole = card.unary(U::Round, &card.binary(B::Div, x, &scale)?)?;
    let moved = card.binary(B::Add, &whole, &card.cast(&point, DataType::F32)?)?;
    let out = card.saturate(&moved, DataType::U8)?;
    Ok(Some(vec![out, scale, point]))
}
