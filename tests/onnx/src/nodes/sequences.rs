//! What newer models have in the place of attention, or around it: linear attention, convolutions with a state, and attention with graphs of its own.

use vmlu::abi::Wire;
use vmlu::operators::{Activation, BinaryFunction as B, SoftmaxFunction, UnaryFunction as U};
use vmlu::ops::conv::Conv;
use vmlu::{DataType, Tensor};

use super::attention::{heads, repeated};
use super::control::{evaluate, within};
use super::{Found, Node};
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "LinearAttention" => linear(node),
        "CausalConvWithState" => convolution(node),
        _ => Ok(None),
    }
}

/// Operators of `ai.onnx.preview`.
pub(super) fn preview(node: &Node<'_>) -> Result<Vec<Tensor>> {
    match &node.proto.op_type[..] {
        "FlexAttention" => flexible(node),
        other => unsupported(format!("operator {other} of ai.onnx.preview")),
    }
}

/// Attention without softmax: a state of `[batch, heads, width of k, width of v]` that each step decays, corrects, grows and reads. All in f32.
fn linear(node: &Node<'_>) -> Found {
    let card = node.card;
    let wide = |x: Tensor| card.cast(&x, DataType::F32);
    let dtype = node.input(0)?.dtype();
    let q = wide(heads(node, node.input(0)?, "q_num_heads")?)?;
    let k = wide(heads(node, node.input(1)?, "kv_num_heads")?)?;
    let v = wide(heads(node, node.input(2)?, "kv_num_heads")?)?;
    let [b, groups, steps, width] = [0, 1, 2, 3].map(|i| k.dims()[i]);
    let (count, columns) = (q.dims()[1], v.dims()[3]);
    let state_type = node.given(3).map_or(dtype, Tensor::dtype);
    let mut state = match node.given(3) {
        Some(past) => wide(past.clone())?,
        None => card.full(DataType::F32, &[b, groups, width, columns], 0.0)?,
    };
    let rule = node.text("update_rule", "gated_delta");
    if !matches!(&rule[..], "linear" | "gated" | "delta" | "gated_delta") {
        return wrong(format!("update_rule {rule}"));
    }
    // Of a head, or of each element of its keys: [batch, groups, steps, 1 or width].
    let decay = match node.given(4).filter(|_| rule.starts_with("gated")) {
        Some(t) => {
            let each = t.dims()[2] / groups;
            let split = card.reshape(t, &[b, steps, groups, each])?;
            Some(card.unary(U::Exp, &wide(split.transpose(1, 2)?)?)?)
        }
        None => None,
    };
    let beta = match node.given(5).filter(|_| rule.ends_with("delta")) {
        Some(t) => Some(card.unsqueeze(&wide(t.transpose(1, 2)?)?, 3)),
        None => None,
    };
    let given = node.float("scale", 0.0);
    let scale = if given == 0.0 {
        1.0 / (width as f64).sqrt()
    } else {
        given
    };
    let out = card.empty(DataType::F32, &[b, steps, count, columns])?;
    for i in 0..steps {
        let at = |x: &Tensor| x.narrow(2, i, 1);
        let (key, mut value) = (at(&k)?, at(&v)?);
        if let Some(decay) = &decay {
            state = card.binary(B::Mul, &state, &at(decay)?.transpose(2, 3)?)?;
        }
        if let Some(beta) = &beta {
            let known = card.matmul(&key, &state)?;
            value = card.binary(B::Sub, &value, &known)?;
            value = card.binary(B::Mul, &at(beta)?, &value)?;
        }
        let change = card.binary(B::Mul, &key.transpose(2, 3)?, &value)?;
        state = card.binary(B::Add, &state, &change)?;
        // Neighbouring heads read one state.
        let query = card.reshape(&at(&q)?, &[b, groups, count / groups, width])?;
        let read = card.affine(&card.matmul(&query, &state)?, scale, 0.0)?;
        let read = card.reshape(&read, &[b, 1, count, columns])?;
        card.queue.unary(U::Copy, &read, &out.narrow(1, i, 1)?)?;
    }
    let out = card.reshape(&card.cast(&out, dtype)?, &[b, steps, count * columns])?;
    Ok(Some(vec![out, card.cast(&state, state_type)?]))
}

/// A convolution of each channel that sees what came before, and what is to be kept for what comes next.
fn convolution(node: &Node<'_>) -> Found {
    let (card, x, w) = (node.card, node.input(0)?, node.input(1)?);
    let [b, channels, length] = [0, 1, 2].map(|i| x.dims()[i]);
    let before = w.dims()[2] - 1;
    let padded = match (before, node.given(3)) {
        (0, _) => x.clone(),
        (_, Some(past)) => card.concat(&[past.clone(), x.clone()], 2)?,
        _ => card.concat(
            &[
                card.full(x.dtype(), &[b, channels, before], 0.0)?,
                x.clone(),
            ],
            2,
        )?,
    };
    let activation = match &node.text("activation", "none")[..] {
        "none" => Activation::None,
        "silu" | "swish" => Activation::Silu,
        other => return wrong(format!("activation {other}")),
    };
    let out = card.empty(x.dtype(), x.dims())?;
    card.queue.submit(&Conv {
        x: *padded.desc(),
        w: *w.desc(),
        out: *out.desc(),
        bias: node.given(2).map_or(Wire::zeroed(), |t| *t.desc()),
        alpha: 1.0,
        beta: 0.0,
        stride: [1, 0, 0],
        dilation: [1, 0, 0],
        padding: [0; 6],
        groups: channels as u32,
        activation: activation.raw(),
    })?;
    let kept = card.slice(&padded, 2, length, 1, before)?;
    Ok(Some(vec![out, card.copy(&kept)?]))
}

/// Attention of which graphs change the scores and the weights.
fn flexible(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let (card, q) = (node.card, node.input(0)?);
    let repeat = q.dims()[1] / node.input(1)?.dims()[1];
    let k = repeated(card, node.input(1)?, repeat)?;
    let v = repeated(card, node.input(2)?, repeat)?;
    let scale = match node.attribute("scale") {
        Some(a) => f64::from(a.f),
        None => 1.0 / (q.dims()[3] as f64).sqrt(),
    };
    let root = scale.sqrt();
    let scores = card.matmul(
        &card.affine(q, root, 0.0)?,
        &card.affine(&k, root, 0.0)?.transpose(2, 3)?,
    )?;
    let precision = match (node.int("softmax_precision", 0), q.dtype()) {
        (0, DataType::F64) => DataType::F64,
        (0, _) => DataType::F32,
        (other, _) => crate::card::data_type(other as i32)?,
    };
    let changed = |name: &str, x: Tensor| -> Result<Tensor> {
        if node.attribute(name).is_none() {
            return Ok(x);
        }
        match evaluate(node, within(node, name)?, vec![x])?.pop() {
            Some(x) => card.cast(&x, precision),
            None => wrong(format!("{name} has no result")),
        }
    };
    let scores = changed("score_mod", card.cast(&scores, precision)?)?;
    let weights = card.softmax(SoftmaxFunction::Softmax, &scores, 3)?;
    let weights = changed("prob_mod", weights)?;
    let out = card.matmul(&weights, &card.cast(&v, precision)?)?;
    Ok(vec![card.cast(&out, node.input(2)?.dtype())?])
}
