//! Operators whose results follow from shapes and attributes.

use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction as B, UnaryFunction as U};
use vmlu::ops::range::{Function as RangeFunction, Range};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::data_type;
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    one(match &node.proto.op_type[..] {
        "Constant" => constant(node)?,
        "ConstantOfShape" => {
            let dims = card.whole(node.input(0)?)?;
            let dims: Vec<u64> = dims.iter().map(|d| *d as u64).collect();
            let value = match node.tensor("value") {
                Some(t) => card.constant(t)?,
                None => card.scalar(DataType::F32, 0.0)?,
            };
            let value = card.reshape(&value, &[])?;
            card.copy(&card.expand(&value, &dims)?)?
        }
        "Shape" => {
            let dims: Vec<i64> = node.input(0)?.dims().iter().map(|d| *d as i64).collect();
            let rank = dims.len() as i64;
            let at = |name: &str, default: i64| {
                let v = node.int(name, default);
                (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize
            };
            let (start, end) = (at("start", 0), at("end", rank));
            card.integers(&dims[start..end.max(start)])?
        }
        "MelWeightMatrix" => mel_weights(node)?,
        "HannWindow" => window(node, &[0.5, -0.5])?,
        "HammingWindow" => window(node, &[25.0 / 46.0, -21.0 / 46.0])?,
        "BlackmanWindow" => window(node, &[0.42, -0.5, 0.08])?,
        "Size" => {
            let elements = node.input(0)?.elements() as i64;
            card.reshape(&card.integers(&[elements])?, &[])?
        }
        "Range" => {
            let start = node.input(0)?;
            let at = |i: usize| -> Result<f64> { Ok(card.numbers(node.input(i)?)?[0]) };
            let (first, limit, step) = (at(0)?, at(1)?, at(2)?);
            let count = ((limit - first) / step).ceil().max(0.0) as u64;
            card.range(start.dtype(), first, step, count)?
        }
        "EyeLike" => {
            let x = node.input(0)?;
            let dtype = match node.attribute("dtype") {
                Some(a) => data_type(a.i as i32)?,
                None => x.dtype(),
            };
            let out = card.empty(dtype, x.dims())?;
            card.queue.range(&Range {
                out: *out.desc(),
                alpha: node.int("k", 0) as f64,
                function: RangeFunction::Eye.raw(),
                ..Wire::zeroed()
            })?;
            out
        }
        "Trilu" => {
            let x = node.input(0)?;
            let k = match node.given(1) {
                Some(t) => card.whole(t)?.first().copied().unwrap_or(0),
                None => 0,
            };
            let upper = node.int("upper", 1) != 0;
            let function = if upper {
                RangeFunction::Triu
            } else {
                RangeFunction::Tril
            };
            let out = card.empty(x.dtype(), x.dims())?;
            card.queue.range(&Range {
                out: *out.desc(),
                x: *x.desc(),
                alpha: k as f64,
                function: function.raw(),
                ..Wire::zeroed()
            })?;
            out
        }
        _ => return Ok(None),
    })
}

fn constant(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let Some(attribute) = node.proto.attribute.first() else {
        return unsupported("a constant of nothing");
    };
    match &attribute.name[..] {
        "value" => match &attribute.t {
            Some(t) => card.constant(t),
            None => unsupported("a constant without a tensor"),
        },
        "value_int" => card.reshape(&card.integers(&[attribute.i])?, &[]),
        "value_ints" => card.integers(&attribute.ints),
        "value_float" => card.tensor_of(DataType::F32, &[], &attribute.f.to_le_bytes()),
        "value_floats" => {
            let bytes: Vec<u8> = attribute
                .floats
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect();
            card.tensor_of(DataType::F32, &[attribute.floats.len() as u64], &bytes)
        }
        other => unsupported(format!("constants by {other}")),
    }
}

/// A sum of cosines over a window, with these factors.
fn window(node: &Node<'_>, factors: &[f64]) -> Result<Tensor> {
    let card = node.card;
    let size = card.whole(node.input(0)?)?[0] as u64;
    let periodic = node.int("periodic", 1) != 0;
    let length = if periodic { size } else { size - 1 } as f64;
    let mut sum = card.full(DataType::F64, &[size], factors[0])?;
    for (k, factor) in factors.iter().enumerate().skip(1) {
        let step = 2.0 * std::f64::consts::PI * k as f64 / length;
        let angles = card.range(DataType::F64, 0.0, step, size)?;
        let cosines = card.affine(&card.unary(U::Cos, &angles)?, *factor, 0.0)?;
        sum = card.binary(B::Add, &sum, &cosines)?;
    }
    card.cast(&sum, data_type(node.int("output_datatype", 1) as i32)?)
}

/// Triangles over the bins of a spectrum, evenly spaced as one hears.
fn mel_weights(node: &Node<'_>) -> Result<Tensor> {
    let card = node.card;
    let at = |i: usize| -> Result<f64> { Ok(card.numbers(node.input(i)?)?[0]) };
    let (count, length, rate) = (at(0)?, at(1)?, at(2)?);
    let heard = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let (low, high) = (heard(at(3)?), heard(at(4)?));
    let step = (high - low) / (count + 2.0);
    let whole = DataType::F64;
    // Where triangles begin, have their tips, and end, as numbers of bins.
    let marks = card.range(whole, low, step, count as u64 + 2)?;
    let marks = card.unary(U::Expm1, &card.affine(&marks, 10f64.ln() / 2595.0, 0.0)?)?;
    let scale = 700.0 * ((length + 1.0) / rate);
    let marks = card.unary(U::Floor, &card.affine(&marks, scale, 0.0)?)?;
    let part = |from: u64| marks.narrow(0, from, count as u64);
    let (left, tip, right) = (part(0)?, part(1)?, part(2)?);
    let bins = card.range(whole, 0.0, 1.0, (length / 2.0).floor() as u64 + 1)?;
    let bins = card.unsqueeze(&bins, 1);
    let distance = |a: &Tensor, b: &Tensor| card.binary(B::Sub, a, b);
    let zero = card.scalar(whole, 0.0)?;
    let both = |a: Tensor, b: Tensor| card.binary(B::LogicalAnd, &a, &b);
    let rise = card.binary(B::Div, &distance(&bins, &left)?, &distance(&tip, &left)?)?;
    let fall = card.binary(B::Div, &distance(&right, &bins)?, &distance(&right, &tip)?)?;
    let rises = both(
        card.binary(B::GreaterEqual, &bins, &left)?,
        card.binary(B::LessEqual, &bins, &tip)?,
    )?;
    let falls = both(
        card.binary(B::GreaterEqual, &bins, &tip)?,
        card.binary(B::Less, &bins, &right)?,
    )?;
    // One that begins at its tip is 1 there.
    let steep = card.binary(B::Equal, &left, &tip)?;
    let rise = card.choose(&steep, &card.scalar(whole, 1.0)?, &rise)?;
    let out = card.choose(&falls, &fall, &card.choose(&rises, &rise, &zero)?)?;
    card.cast(&out, data_type(node.int("output_datatype", 1) as i32)?)
}
