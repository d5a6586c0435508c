//! Fourier transforms as products with matrices of sines and cosines.

use vmlu::operators::{BinaryFunction as B, UnaryFunction as U};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::{axis, Card};
use crate::{wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "DFT" => one(transform(node)?),
        "STFT" => one(short(node)?),
        _ => Ok(None),
    }
}

/// A whole number that may be left out.
fn given(node: &Node<'_>, i: usize) -> Result<Option<i64>> {
    let tensor = node.given(i).filter(|t| t.elements() > 0);
    tensor.map(|t| Ok(node.card.whole(t)?[0])).transpose()
}

/// Cosines and sines of `2π · j · k / n`, `rows` by `columns`.
fn waves(card: &Card<'_>, dtype: DataType, n: u64, rows: u64, columns: u64) -> Result<[Tensor; 2]> {
    let down = card.reshape(&card.range(DataType::F64, 0.0, 1.0, rows)?, &[rows, 1])?;
    let across = card.range(DataType::F64, 0.0, 1.0, columns)?;
    let angles = card.binary(B::Mul, &down, &across)?;
    let angles = card.affine(&angles, 2.0 * std::f64::consts::PI / n as f64, 0.0)?;
    let of = |f| -> Result<Tensor> { card.cast(&card.unary(f, &angles)?, dtype) };
    Ok([of(U::Cos)?, of(U::Sin)?])
}

/// Real and imaginary parts of a tensor whose last axis has them; the latter may be missing.
fn parts(card: &Card<'_>, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    let last = x.dims().len() - 1;
    let part = |i: u64| card.reshape(&x.narrow(last, i, 1)?, &x.dims()[..last]);
    let imaginary = if x.dims()[last] == 2 {
        Some(part(1)?)
    } else {
        None
    };
    Ok((part(0)?, imaginary))
}

/// The transform along the last axis of both parts: `(a · C + s · b · S, b · C - s · a · S)`, s being the sign.
fn product(
    card: &Card<'_>,
    (re, im): (&Tensor, Option<&Tensor>),
    [cosines, sines]: &[Tensor; 2],
    sign: f64,
) -> Result<[Tensor; 2]> {
    let mut real = card.matmul(re, cosines)?;
    let mut imaginary = card.affine(&card.matmul(re, sines)?, -sign, 0.0)?;
    if let Some(im) = im {
        let more = card.affine(&card.matmul(im, sines)?, sign, 0.0)?;
        real = card.binary(B::Add, &real, &more)?;
        imaginary = card.binary(B::Add, &imaginary, &card.matmul(im, cosines)?)?;
    }
    Ok([real, imaginary])
}

/// Exactly `length` elements of the last axis: cut off, or zeroes behind them.
fn fitted(card: &Card<'_>, x: &Tensor, length: u64) -> Result<Tensor> {
    let last = x.dims().len() - 1;
    let have = x.dims()[last];
    if have >= length {
        return Ok(x.narrow(last, 0, length)?);
    }
    let mut dims = x.dims().to_vec();
    dims[last] = length - have;
    card.concat(&[x.clone(), card.full(x.dtype(), &dims, 0.0)?], last)
}

fn transform(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let place = match card.opset {
        ..20 => node.int("axis", 1),
        _ => given(node, 2)?.unwrap_or(-2),
    };
    let place = axis(place, rank)?;
    if place + 1 >= rank {
        return wrong("the transform is along the axis of the parts");
    }
    let (inverse, onesided) = (node.int("inverse", 0) != 0, node.int("onesided", 0) != 0);
    // The axis goes last.
    let mut order: Vec<usize> = (0..rank - 1).filter(|i| *i != place).collect();
    order.push(place);
    let (re, im) = parts(card, x)?;
    let turned = |t: &Tensor| card.permute(t, &order);
    let (re, im) = (turned(&re), im.as_ref().map(turned));
    let have = x.dims()[place];
    let back = inverse && onesided;
    let length = match given(node, 1)? {
        Some(n) => n as u64,
        None if back => 2 * (have - 1),
        None => have,
    };
    let half = length / 2 + 1;
    let (rows, columns) = match (back, onesided) {
        (true, _) => (half, length),
        (_, true) => (length, half),
        _ => (length, length),
    };
    let (mut re, im) = (
        fitted(card, &re, rows)?,
        im.map(|t| fitted(card, &t, rows)).transpose()?,
    );
    let mut im = im;
    if back {
        // Each but the first, and the last of an even number, stands for two.
        let twice = |k: u64| if k == 0 || 2 * k == length { 1f32 } else { 2.0 };
        let bytes: Vec<u8> = (0..rows).flat_map(|k| twice(k).to_le_bytes()).collect();
        let counts = card.cast(&card.tensor_of(DataType::F32, &[rows], &bytes)?, x.dtype())?;
        re = card.binary(B::Mul, &re, &counts)?;
        im = im.map(|t| card.binary(B::Mul, &t, &counts)).transpose()?;
    }
    let waves = waves(card, x.dtype(), length, rows, columns)?;
    let sign = if inverse { -1.0 } else { 1.0 };
    let results = product(card, (&re, im.as_ref()), &waves, sign)?;
    let mut undone = vec![0; rank];
    for (to, from) in order.iter().enumerate() {
        undone[*from] = to;
    }
    let kept = if back { &results[..1] } else { &results[..] };
    let mut all = Vec::new();
    for part in kept {
        let factor = if inverse { 1.0 / length as f64 } else { 1.0 };
        let part = card.permute(&card.affine(part, factor, 0.0)?, &undone[..rank - 1]);
        all.push(card.unsqueeze(&part, rank - 1));
    }
    card.concat(&all, rank - 1)
}

/// Of pieces of a signal that overlap.
fn short(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let step = given(node, 1)?.unwrap_or(1) as u64;
    let window = node.given(2);
    let length = match (given(node, 3)?, window) {
        (Some(n), _) => n as u64,
        (None, Some(w)) => w.dims()[0],
        (None, None) => return wrong("STFT has neither a window nor a length"),
    };
    let frames = (x.dims()[1] - length) / step + 1;
    let (re, im) = parts(card, x)?;
    let framed = |t: &Tensor| -> Result<Tensor> {
        let [batch, along] = [t.desc().strides[0], t.desc().strides[1]];
        let strides = [batch, along * step as i64, along];
        let pieces = t.with_layout(&[x.dims()[0], frames, length], &strides);
        match window {
            Some(w) => card.binary(B::Mul, &pieces, w),
            None => card.copy(&pieces),
        }
    };
    let (re, im) = (framed(&re)?, im.as_ref().map(framed).transpose()?);
    let bins = if node.int("onesided", 1) != 0 {
        length / 2 + 1
    } else {
        length
    };
    let waves = waves(card, x.dtype(), length, length, bins)?;
    let parts = product(card, (&re, im.as_ref()), &waves, 1.0)?;
    card.concat(&parts.map(|p| card.unsqueeze(&p, 3)), 3)
}
