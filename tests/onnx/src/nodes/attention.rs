//! Attention by its parts, with all that ONNX shows of them, and rotary embeddings.

use vmlu::operators::{BinaryFunction as B, SoftmaxFunction, UnaryFunction as U};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::Card;
use crate::Result;

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "Attention" => attention(node),
        "RotaryEmbedding" => one(rotary(node)?),
        _ => Ok(None),
    }
}

/// `[batch, length, heads · width]` as `[batch, heads, length, width]`.
pub(super) fn heads(node: &Node<'_>, x: &Tensor, count: &str) -> Result<Tensor> {
    if x.dims().len() == 4 {
        return Ok(x.clone());
    }
    let (b, l, heads) = (x.dims()[0], x.dims()[1], node.int(count, 1) as u64);
    let split = node.card.reshape(x, &[b, l, heads, x.dims()[2] / heads])?;
    Ok(split.transpose(1, 2)?)
}

/// Each head of `[batch, heads, length, width]` so many times.
pub(super) fn repeated(card: &Card<'_>, x: &Tensor, repeat: u64) -> Result<Tensor> {
    if repeat == 1 {
        return Ok(x.clone());
    }
    let [b, h, l, w] = [0, 1, 2, 3].map(|i| x.dims()[i]);
    let wide = card.expand(&card.unsqueeze(x, 2), &[b, h, repeat, l, w])?;
    card.reshape(&card.copy(&wide)?, &[b, h * repeat, l, w])
}

fn attention(node: &Node<'_>) -> Found {
    let card = node.card;
    let flat = node.input(0)?.dims().len() == 3;
    let q = heads(node, node.input(0)?, "q_num_heads")?;
    let mut k = heads(node, node.input(1)?, "kv_num_heads")?;
    let mut v = heads(node, node.input(2)?, "kv_num_heads")?;
    let mut past = 0;
    if let (Some(keys), Some(values)) = (node.given(4), node.given(5)) {
        past = keys.dims()[2];
        k = card.concat(&[keys.clone(), k], 2)?;
        v = card.concat(&[values.clone(), v], 2)?;
    }
    let (present_k, present_v) = (card.copy(&k)?, card.copy(&v)?);
    let dtype = q.dtype();
    let (queries, keys) = (q.dims()[2], k.dims()[2]);
    let repeat = q.dims()[1] / k.dims()[1];
    let (k, v) = (repeated(card, &k, repeat)?, repeated(card, &v, repeat)?);
    let scale = match node.attribute("scale") {
        Some(a) => f64::from(a.f),
        None => 1.0 / (q.dims()[3] as f64).sqrt(),
    };
    let root = scale.sqrt();
    let product = card.matmul(
        &card.affine(&q, root, 0.0)?,
        &card.affine(&k, root, 0.0)?.transpose(2, 3)?,
    )?;
    let mut shown = product.clone();
    let mode = node.int("qk_matmul_output_mode", 0);
    let softcap = node.float("softcap", 0.0);
    let cap = |x: &Tensor| -> Result<Tensor> {
        if softcap == 0.0 {
            return Ok(x.clone());
        }
        card.affine(
            &card.unary(U::Tanh, &card.affine(x, 1.0 / softcap, 0.0)?)?,
            softcap,
            0.0,
        )
    };
    let least = f64::NEG_INFINITY;
    let mut scores = product;
    let masked = |scores: &Tensor| -> Result<Tensor> {
        let mut scores = scores.clone();
        if let Some(mask) = node.given(3) {
            let mut bias = if mask.dtype() == DataType::Bool {
                card.choose(mask, &card.scalar(dtype, 0.0)?, &card.scalar(dtype, least)?)?
            } else {
                card.cast(mask, dtype)?
            };
            let last = bias.dims().len() - 1;
            let have = bias.dims()[last];
            if have < keys && have > 1 {
                // What the mask does not reach is not seen.
                let mut rest = bias.dims().to_vec();
                rest[last] = keys - have;
                bias = card.concat(&[bias, card.full(dtype, &rest, least)?], last)?;
            }
            scores = card.binary(B::Add, &scores, &bias)?;
        }
        let positions = |count: u64, at: usize| {
            let dims = if at == 0 { [count, 1] } else { [1, count] };
            card.reshape(&card.range(DataType::I64, 0.0, 1.0, count)?, &dims)
        };
        let column = positions(keys, 1)?;
        if node.int("is_causal", 0) != 0 {
            let row = card.affine(&positions(queries, 0)?, 1.0, past as f64)?;
            let row = match node.given(6) {
                Some(lengths) if past == 0 => {
                    // With keys of several lengths the queries are the last of them.
                    let lengths = card.reshape(
                        &card.cast(lengths, DataType::I64)?,
                        &[lengths.dims()[0], 1, 1, 1],
                    )?;
                    let shift = card.affine(&lengths, 1.0, -(queries as f64))?;
                    card.binary(B::Add, &row, &shift)?
                }
                _ => row,
            };
            let seen = card.binary(B::LessEqual, &column, &row)?;
            scores = card.choose(&seen, &scores, &card.scalar(dtype, least)?)?;
        }
        if let Some(lengths) = node.given(6) {
            let lengths = card.reshape(
                &card.cast(lengths, DataType::I64)?,
                &[lengths.dims()[0], 1, 1, 1],
            )?;
            let seen = card.binary(B::Less, &column, &lengths)?;
            scores = card.choose(&seen, &scores, &card.scalar(dtype, least)?)?;
        }
        Ok(scores)
    };
    // Capped first, so that what is masked stays so.
    scores = cap(&scores)?;
    if mode == 1 {
        shown = scores.clone();
    }
    scores = masked(&scores)?;
    if mode == 2 {
        shown = scores.clone();
    }
    let precision = match node.int("softmax_precision", 0) {
        0 => dtype,
        other => crate::card::data_type(other as i32)?,
    };
    let mut weights = card.softmax(SoftmaxFunction::Softmax, &card.cast(&scores, precision)?, 3)?;
    // A query that sees nothing gets nothing.
    let nothing = card.unary(U::IsNan, &weights)?;
    weights = card.choose(&nothing, &card.scalar(precision, 0.0)?, &weights)?;
    let weights = card.cast(&weights, dtype)?;
    if mode == 3 {
        shown = weights.clone();
    }
    let mut out = card.matmul(&weights, &card.cast(&v, dtype)?)?;
    if flat {
        let moved = card.copy(&out.transpose(1, 2)?)?;
        let [b, l, h, w] = [0, 1, 2, 3].map(|i| moved.dims()[i]);
        out = card.reshape(&moved, &[b, l, h * w])?;
    }
    Ok(Some(vec![out, present_k, present_v, shown]))
}

/// The first numbers of each head turned by angles, two and two.
fn rotary(node: &Node<'_>) -> Result<Tensor> {
    let (card, given) = (node.card, node.input(0)?);
    let flat = given.dims().len() == 3;
    // [batch, length, heads, width]
    let x = if flat {
        let (b, l, h) = (
            given.dims()[0],
            given.dims()[1],
            node.int("num_heads", 1) as u64,
        );
        card.reshape(given, &[b, l, h, given.dims()[2] / h])?
    } else {
        given.transpose(1, 2)?
    };
    let [b, l, h, w] = [0, 1, 2, 3].map(|i| x.dims()[i]);
    let turned = match node.int("rotary_embedding_dim", 0) as u64 {
        0 => w,
        n => n,
    };
    let half = turned / 2;
    let angles = |i: usize| -> Result<Tensor> {
        let table = node.input(i)?;
        let picked = match node.given(3) {
            Some(index) => card.take(
                table,
                &[(0, &card.unsqueeze(index, 2))],
                &[(1, 2)],
                &[b, l, table.dims()[1]],
            )?,
            None => table.clone(),
        };
        Ok(card.unsqueeze(&picked.narrow(2, 0, half)?, 2))
    };
    let (cos, sin) = (angles(1)?, angles(2)?);
    let out = card.copy(&x)?;
    let interleaved = node.int("interleaved", 0) != 0;
    let part = |t: &Tensor, second: bool| -> Result<Tensor> {
        if interleaved {
            card.slice(t, 3, u64::from(second), 2, half)
        } else {
            Ok(t.narrow(3, if second { half } else { 0 }, half)?)
        }
    };
    let (a, c) = (part(&x, false)?, part(&x, true)?);
    let real = card.binary(
        B::Sub,
        &card.binary(B::Mul, &cos, &a)?,
        &card.binary(B::Mul, &sin, &c)?,
    )?;
    let imaginary = card.binary(
        B::Add,
        &card.binary(B::Mul, &sin, &a)?,
        &card.binary(B::Mul, &cos, &c)?,
    )?;
    card.queue.unary(U::Copy, &real, &part(&out, false)?)?;
    card.queue.unary(U::Copy, &imaginary, &part(&out, true)?)?;
    if flat {
        return card.reshape(&out, &[b, l, h * w]);
    }
    card.copy(&out.transpose(1, 2)?)
}
