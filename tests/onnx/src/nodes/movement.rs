//! Operators that move elements whose places follow from shapes.

use vmlu::operators::PadFunction;
use vmlu::Tensor;

use super::{one, Found, Node};
use crate::card::{axis, broadcast, Card};
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let card = node.card;
    one(match &node.proto.op_type[..] {
        "Reshape" => reshape(node)?,
        "Flatten" => {
            let x = node.input(0)?;
            let rank = x.dims().len() as i64;
            let at = node.int("axis", 1);
            let at = (if at < 0 { at + rank } else { at }) as usize;
            let (a, b) = x.dims().split_at(at);
            card.reshape(x, &[a.iter().product(), b.iter().product()])?
        }
        "Squeeze" => {
            let x = node.input(0)?;
            let rank = x.dims().len();
            let mut gone: Vec<usize> = Vec::new();
            match node.ints_or("axes", 1)? {
                Some(axes) => {
                    for a in axes {
                        gone.push(axis(a, rank)?);
                    }
                }
                None => gone.extend((0..rank).filter(|i| x.dims()[*i] == 1)),
            }
            let dims: Vec<u64> = (0..rank)
                .filter(|i| !gone.contains(i))
                .map(|i| x.dims()[i])
                .collect();
            card.reshape(x, &dims)?
        }
        "Unsqueeze" => {
            let mut x = node.input(0)?.clone();
            let axes = node.ints_or("axes", 1)?.unwrap_or_default();
            let rank = x.dims().len() + axes.len();
            let mut places = Vec::new();
            for a in axes {
                places.push(axis(a, rank)?);
            }
            places.sort_unstable();
            if rank > vmlu::abi::tensor::MAX_DIMS {
                return unsupported("more than 8 axes");
            }
            for a in places {
                x = card.unsqueeze(&x, a);
            }
            x
        }
        "Transpose" => {
            let x = node.input(0)?;
            let rank = x.dims().len();
            let order = match node.ints("perm") {
                Some(order) => order.iter().map(|a| *a as usize).collect(),
                None => (0..rank).rev().collect::<Vec<_>>(),
            };
            card.copy(&card.permute(x, &order))?
        }
        "Expand" => {
            let x = node.input(0)?;
            let dims: Vec<u64> = card
                .whole(node.input(1)?)?
                .iter()
                .map(|d| *d as u64)
                .collect();
            card.copy(&card.expand(x, &broadcast(&[x.dims(), &dims])?)?)?
        }
        "Tile" => {
            let x = node.input(0)?;
            let repeats = card.whole(node.input(1)?)?;
            let dims: Vec<u64> = x
                .dims()
                .iter()
                .zip(&repeats)
                .map(|(d, r)| d * *r as u64)
                .collect();
            let out = card.empty(x.dtype(), &dims)?;
            card.queue.pad(PadFunction::Wrap, x, &[], 0, &out)?;
            out
        }
        "Concat" => {
            let mut parts = Vec::new();
            for i in 0..node.inputs.len() {
                parts.push(node.input(i)?.clone());
            }
            let at = node.axis(0, parts[0].dims().len())?;
            card.concat(&parts, at)?
        }
        "Split" => return split(node).map(Some),
        "Slice" => slice(node)?,
        "Pad" => pad(node)?,
        "CenterCropPad" => centre(node)?,
        "DepthToSpace" => {
            let x = node.input(0)?;
            let b = node.int("blocksize", 1) as u64;
            let [n, c, h, w] = four(x)?;
            let (dims, order) = if node.text("mode", "DCR") == "CRD" {
                ([n, c / (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3])
            } else {
                ([n, b, b, c / (b * b), h, w], [0, 3, 4, 1, 5, 2])
            };
            let moved = card.permute(&card.reshape(x, &dims)?, &order);
            card.reshape(&card.copy(&moved)?, &[n, c / (b * b), h * b, w * b])?
        }
        "SpaceToDepth" => {
            let x = node.input(0)?;
            let b = node.int("blocksize", 1) as u64;
            let [n, c, h, w] = four(x)?;
            let parts = card.reshape(x, &[n, c, h / b, b, w / b, b])?;
            let moved = card.copy(&card.permute(&parts, &[0, 3, 5, 1, 2, 4]))?;
            card.reshape(&moved, &[n, c * b * b, h / b, w / b])?
        }
        _ => return Ok(None),
    })
}

fn four(x: &Tensor) -> Result<[u64; 4]> {
    match x.dims().try_into() {
        Ok(dims) => Ok(dims),
        Err(_) => unsupported("images that have not four axes"),
    }
}

fn reshape(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let shape = node.ints_or("shape", 1)?.unwrap_or_default();
    let keep_zero = node.int("allowzero", 0) != 0;
    let mut dims = Vec::new();
    for (i, d) in shape.iter().enumerate() {
        dims.push(match *d {
            0 if !keep_zero => x.dims().get(i).copied().unwrap_or(0),
            -1 => 1,
            d => d as u64,
        });
    }
    if let Some(i) = shape.iter().position(|d| *d == -1) {
        let known: u64 = dims.iter().product();
        if known == 0 {
            return wrong("the shape cannot be told");
        }
        dims[i] = x.elements() / known;
    }
    card.copy(&card.reshape(x, &dims)?)
}

fn split(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let (card, x) = (node.card, node.input(0)?);
    let at = node.axis(0, x.dims().len())?;
    let length = x.dims()[at];
    let count = node.proto.output.len() as u64;
    let lengths = match node.ints_or("split", 1)? {
        Some(given) => given.iter().map(|l| *l as u64).collect::<Vec<_>>(),
        None => {
            let each = length.div_ceil(count);
            (0..count)
                .map(|i| each.min(length - (i * each).min(length)))
                .collect()
        }
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for l in lengths {
        let mut dims = x.dims().to_vec();
        dims[at] = l;
        parts.push(card.empty(x.dtype(), &dims)?);
        start += l;
    }
    if start != length {
        return wrong("the parts are not the whole");
    }
    // Parts of nothing are none.
    let some: Vec<&Tensor> = parts.iter().filter(|p| p.elements() > 0).collect();
    if !some.is_empty() && some.len() <= 16 {
        card.queue.split(x, at as u32, &some)?;
    }
    Ok(parts)
}

fn slice(node: &Node<'_>) -> Result<Tensor> {
    let (card, mut x) = (node.card, node.input(0)?.clone());
    let rank = x.dims().len();
    let starts = node.ints_or("starts", 1)?.unwrap_or_default();
    let ends = node.ints_or("ends", 2)?.unwrap_or_default();
    let axes = node
        .ints_or("axes", 3)?
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match node.given(4) {
        Some(t) => card.whole(t)?,
        None => vec![1; starts.len()],
    };
    for (i, a) in axes.iter().enumerate() {
        let at = axis(*a, rank)?;
        let (dim, step) = (x.dims()[at] as i64, steps[i]);
        let place = |v: i64| if v < 0 { v.saturating_add(dim) } else { v };
        let (start, end) = (place(starts[i]), place(ends[i]));
        let (start, length) = if step > 0 {
            let (start, end) = (start.clamp(0, dim), end.clamp(0, dim));
            (start, (end - start + step - 1) / step)
        } else {
            let (start, end) = (start.clamp(-1, dim - 1), end.clamp(-1, dim - 1));
            (start, (start - end - step - 1) / -step)
        };
        x = card.slice(&x, at, start.max(0) as u64, step, length.max(0) as u64)?;
    }
    card.copy(&x)
}

/// The bits of a scalar.
fn bits(card: &Card<'_>, value: Option<&Tensor>) -> Result<u64> {
    let Some(value) = value else {
        return Ok(0);
    };
    let mut bits = [0; 8];
    for (b, v) in bits.iter_mut().zip(card.read(value)?) {
        *b = v;
    }
    Ok(u64::from_le_bytes(bits))
}

fn pad(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let pads = node.ints_or("pads", 1)?.unwrap_or_default();
    let axes = match node.given(3) {
        Some(t) => card.whole(t)?,
        None => (0..rank as i64).collect(),
    };
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, a) in axes.iter().enumerate() {
        let at = axis(*a, rank)?;
        (before[at], after[at]) = (pads[i], pads[axes.len() + i]);
    }
    let function = match &node.text("mode", "constant")[..] {
        "constant" => PadFunction::Constant,
        "reflect" => PadFunction::Reflect,
        "edge" => PadFunction::Edge,
        "wrap" => PadFunction::Wrap,
        other => return unsupported(format!("padding by {other}")),
    };
    let dims: Vec<u64> = (0..rank)
        .map(|i| (x.dims()[i] as i64 + before[i] + after[i]) as u64)
        .collect();
    let out = card.empty(x.dtype(), &dims)?;
    let value = if function == PadFunction::Constant {
        bits(card, node.given(2))?
    } else {
        0
    };
    card.queue.pad(function, x, &before, value, &out)?;
    Ok(out)
}

fn centre(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let rank = x.dims().len();
    let sizes = card.whole(node.input(1)?)?;
    let axes = node
        .ints("axes")
        .unwrap_or_else(|| (0..rank as i64).collect());
    let (mut dims, mut before) = (x.dims().to_vec(), vec![0i64; rank]);
    for (a, size) in axes.iter().zip(sizes) {
        let at = axis(*a, rank)?;
        let have = dims[at] as i64;
        before[at] = if size > have {
            (size - have) / 2
        } else {
            -((have - size) / 2)
        };
        dims[at] = size as u64;
    }
    let out = card.empty(x.dtype(), &dims)?;
    card.queue.pad(PadFunction::Constant, x, &before, 0, &out)?;
    Ok(out)
}
