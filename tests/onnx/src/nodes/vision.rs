//! Operators of images.

use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction as B, PutFunction, UnaryFunction as U};
use vmlu::ops::col2im::Col2im;
use vmlu::ops::pool::{Function as PoolFunction, Pool, FLAG_ADAPTIVE};
use vmlu::{DataType, Tensor};

use super::linear::Slide;
use super::{one, Found, Node};
use crate::Result;

pub(super) fn run(node: &Node<'_>) -> Found {
    one(match &node.proto.op_type[..] {
        "MaxPool" => return max_pool(node),
        "AveragePool" => {
            let count_all = node.int("count_include_pad", 0) != 0;
            let function = if count_all {
                PoolFunction::Average
            } else {
                PoolFunction::AverageValid
            };
            windows(node, node.input(0)?, function, 0, None)?.0
        }
        "LpPool" => powers(node)?,
        "GlobalAveragePool" => global(node, PoolFunction::Average)?,
        "GlobalMaxPool" => global(node, PoolFunction::Max)?,
        "MaxUnpool" => unpool(node)?,
        "Col2Im" => columns(node)?,
        _ => return Ok(None),
    })
}

/// Pools with the attributes of a node; indices on demand.
fn windows(
    node: &Node<'_>,
    x: &Tensor,
    function: PoolFunction,
    divisor: u32,
    indices: Option<DataType>,
) -> Result<(Tensor, Option<Tensor>)> {
    let card = node.card;
    let taps: Vec<u64> = node
        .ints("kernel_shape")
        .unwrap_or_default()
        .iter()
        .map(|t| *t as u64)
        .collect();
    let slide = Slide::of(node, &x.dims()[2..], &taps)?;
    let up = node.int("ceil_mode", 0) != 0;
    let mut dims = x.dims()[..2].to_vec();
    dims.extend((0..taps.len()).map(|i| slide.windows(i, x.dims()[2 + i], up)));
    let out = card.empty(x.dtype(), &dims)?;
    let numbers = indices.map(|dtype| card.empty(dtype, &dims)).transpose()?;
    card.queue.pool(&Pool {
        x: *x.desc(),
        out: *out.desc(),
        indices: numbers.as_ref().map_or(Wire::zeroed(), |t| *t.desc()),
        taps: slide.taps(),
        stride: slide.stride(),
        dilation: slide.dilation(),
        padding: slide.padding(),
        divisor,
        function: function.raw(),
        flags: 0,
    })?;
    Ok((out, numbers))
}

/// ONNX numbers elements over the whole tensor, the card within image and channel.
fn max_pool(node: &Node<'_>) -> Found {
    let (card, x) = (node.card, node.input(0)?);
    let wanted = node.wants(1).then_some(DataType::I64);
    let (out, numbers) = windows(node, x, PoolFunction::Max, 0, wanted)?;
    let Some(mut numbers) = numbers else {
        return one(out);
    };
    let plane: u64 = x.dims()[2..].iter().product();
    if node.int("storage_order", 0) != 0 && x.dims().len() == 4 {
        // Columns first.
        let (h, w) = (
            x.dims()[2] as f64,
            card.scalar(DataType::I64, x.dims()[3] as f64)?,
        );
        let row = card.binary(B::FloorDiv, &numbers, &w)?;
        let column = card.affine(&card.binary(B::Remainder, &numbers, &w)?, h, 0.0)?;
        numbers = card.binary(B::Add, &row, &column)?;
    }
    let planes = card.range(DataType::I64, 0.0, plane as f64, x.dims()[0] * x.dims()[1])?;
    let mut dims = vec![x.dims()[0], x.dims()[1]];
    dims.extend(vec![1; x.dims().len() - 2]);
    let numbers = card.binary(B::Add, &numbers, &card.reshape(&planes, &dims)?)?;
    Ok(Some(vec![out, numbers]))
}

/// The root of the sum of powers.
fn powers(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let p = node.int("p", 2) as f64;
    let size = card.unary(U::Abs, node.input(0)?)?;
    let power = card.unary_with(U::Power, [p, 0.0, 0.0], &size)?;
    let (sums, _) = windows(node, &power, PoolFunction::Average, 1, None)?;
    card.unary_with(U::Power, [1.0 / p, 0.0, 0.0], &sums)
}

fn global(node: &Node<'_>, function: PoolFunction) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let mut dims = x.dims()[..2].to_vec();
    dims.extend(vec![1; x.dims().len() - 2]);
    let out = card.empty(x.dtype(), &dims)?;
    card.queue.pool(&Pool {
        x: *x.desc(),
        out: *out.desc(),
        function: function.raw(),
        flags: FLAG_ADAPTIVE,
        ..Wire::zeroed()
    })?;
    Ok(out)
}

/// Elements to where pooling found them. Their numbers are those of the tensor that was pooled, which may be smaller than the result.
fn unpool(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let taps: Vec<u64> = node
        .ints("kernel_shape")
        .unwrap_or_default()
        .iter()
        .map(|t| *t as u64)
        .collect();
    let slide = Slide::of(node, &x.dims()[2..], &taps)?;
    let mut pooled = x.dims()[..2].to_vec();
    for (i, taps) in taps.iter().enumerate() {
        let full = (x.dims()[2 + i] - 1) * slide.stride[i] + taps;
        pooled.push(full - slide.before[i] - slide.after[i]);
    }
    let flat = card.full(x.dtype(), &[pooled.iter().product()], 0.0)?;
    let values = card.reshape(x, &[x.elements()])?;
    let index = card.reshape(node.input(1)?, &[x.elements()])?;
    card.put(PutFunction::Set, &flat, &values, &[(0, &index)], &[])?;
    let out = card.reshape(&flat, &pooled)?;
    let Some(shape) = node.given(2) else {
        return Ok(out);
    };
    let dims: Vec<u64> = card.whole(shape)?.iter().map(|d| *d as u64).collect();
    let larger = card.empty(x.dtype(), &dims)?;
    card.queue.pad(
        vmlu::operators::PadFunction::Constant,
        &out,
        &[],
        0,
        &larger,
    )?;
    Ok(larger)
}

/// Sums of windows that overlap.
fn columns(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let whole = |i: usize| -> Result<Vec<u64>> {
        Ok(card
            .whole(node.input(i)?)?
            .iter()
            .map(|v| *v as u64)
            .collect())
    };
    let (image, taps) = (whole(1)?, whole(2)?);
    let slide = Slide::of(node, &image, &taps)?;
    let channels = x.dims()[1] / taps.iter().product::<u64>();
    let mut dims = vec![x.dims()[0], channels];
    dims.extend(&taps);
    dims.extend((0..taps.len()).map(|i| slide.windows(i, image[i], false)));
    let mut all = vec![x.dims()[0], channels];
    all.extend(&image);
    let out = card.empty(x.dtype(), &all)?;
    card.queue.col2im(&Col2im {
        x: *card.reshape(x, &dims)?.desc(),
        out: *out.desc(),
        taps: slide.taps(),
        stride: slide.stride(),
        dilation: slide.dilation(),
        padding: slide.padding(),
        reserved: 0,
    })?;
    Ok(out)
}
