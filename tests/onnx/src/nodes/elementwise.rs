//! Operators that work element by element.

use vmlu::operators::BinaryFunction as B;
use vmlu::operators::UnaryFunction as U;
use vmlu::{DataType, Tensor};

use super::{is_float, one, Found, Node};
use crate::card::{data_type, Card};
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    let name = &node.proto.op_type[..];
    if let Some(function) = unary(name) {
        return one(node.card.unary(function, node.input(0)?)?);
    }
    if let Some(function) = binary(name) {
        return one(node.card.binary(function, node.input(0)?, node.input(1)?)?);
    }
    if let Some((function, parameters)) = with_parameters(node, name) {
        return one(node.card.unary_with(function, parameters, node.input(0)?)?);
    }
    let card = node.card;
    one(match name {
        "Max" | "Min" | "Sum" | "Mean" => variadic(node, name)?,
        "HardSigmoid" => {
            let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
            let x = card.affine(node.input(0)?, alpha, beta)?;
            card.unary_with(U::Clamp, [0.0, 1.0, 0.0], &x)?
        }
        "Shrink" => {
            let (x, bias) = (node.input(0)?, node.float("bias", 0.0));
            let limit = card.scalar(x.dtype(), node.float("lambd", 0.5))?;
            let low = card.unary(U::Neg, &limit)?;
            let zero = card.scalar(x.dtype(), 0.0)?;
            let shifted = |by: f64| card.binary(B::Add, x, &card.scalar(x.dtype(), by)?);
            let (above, below) = (
                card.binary(B::Greater, x, &limit)?,
                card.binary(B::Less, x, &low)?,
            );
            let rest = card.choose(&below, &shifted(bias)?, &zero)?;
            card.choose(&above, &shifted(-bias)?, &rest)?
        }
        "Swish" => {
            let x = node.input(0)?;
            let scaled = card.affine(x, node.float("alpha", 1.0), 0.0)?;
            card.binary(B::Mul, x, &card.unary(U::Sigmoid, &scaled)?)?
        }
        "Gelu" => {
            let tanh = node.text("approximate", "none") == "tanh";
            card.unary(if tanh { U::GeluTanh } else { U::Gelu }, node.input(0)?)?
        }
        "Clip" => clip(node)?,
        "Pow" => power(card, node.input(0)?, node.input(1)?)?,
        "Mod" => {
            let function = if node.int("fmod", 0) != 0 {
                B::Fmod
            } else {
                B::Remainder
            };
            card.binary(function, node.input(0)?, node.input(1)?)?
        }
        "BitShift" => {
            let left = node.text("direction", "") == "LEFT";
            let function = if left { B::ShiftLeft } else { B::ShiftRight };
            card.binary(function, node.input(0)?, node.input(1)?)?
        }
        "IsInf" => {
            let function = match (
                node.int("detect_negative", 1),
                node.int("detect_positive", 1),
            ) {
                (0, 0) => return one(card.full(DataType::Bool, node.input(0)?.dims(), 0.0)?),
                (0, _) => U::IsPosInf,
                (_, 0) => U::IsNegInf,
                _ => U::IsInf,
            };
            card.unary(function, node.input(0)?)?
        }
        "Where" => card.choose(node.input(0)?, node.input(1)?, node.input(2)?)?,
        "Cast" => card.copy(&card.cast_to(node.input(0)?, node.int("to", 0) as i32)?)?,
        "CastLike" => card.copy(&match node.kind(1) {
            Some(kind) => card.cast_to(node.input(0)?, kind)?,
            None => card.cast(node.input(0)?, node.input(1)?.dtype())?,
        })?,
        "BitCast" => {
            let x = card.contiguous(node.input(0)?)?;
            let to = data_type(node.int("to", 0) as i32)?;
            if to.size() != x.dtype().size() {
                return unsupported("bits of another width");
            }
            let out = card.empty(to, x.dims())?;
            let length = x.elements() * to.size() as u64;
            if length > 0 {
                card.queue
                    .copy(out.desc().address, x.desc().address, length)?;
            }
            out
        }
        _ => return Ok(None),
    })
}

fn unary(name: &str) -> Option<U> {
    Some(match name {
        "Identity" => U::Copy,
        "Abs" => U::Abs,
        "Neg" => U::Neg,
        "Sign" => U::Sign,
        "Floor" => U::Floor,
        "Ceil" => U::Ceil,
        "Round" => U::Round,
        "Sqrt" => U::Sqrt,
        "Exp" => U::Exp,
        "Log" => U::Log,
        "Reciprocal" => U::Reciprocal,
        "Sin" => U::Sin,
        "Cos" => U::Cos,
        "Tan" => U::Tan,
        "Asin" => U::Asin,
        "Acos" => U::Acos,
        "Atan" => U::Atan,
        "Sinh" => U::Sinh,
        "Cosh" => U::Cosh,
        "Asinh" => U::Asinh,
        "Acosh" => U::Acosh,
        "Atanh" => U::Atanh,
        "Erf" => U::Erf,
        "Sigmoid" => U::Sigmoid,
        "Tanh" => U::Tanh,
        "Relu" => U::Relu,
        "Softsign" => U::Softsign,
        "HardSwish" => U::HardSwish,
        "Mish" => U::Mish,
        "Not" => U::LogicalNot,
        "BitwiseNot" => U::BitNot,
        "IsNaN" => U::IsNan,
        _ => return None,
    })
}

fn binary(name: &str) -> Option<B> {
    Some(match name {
        "Add" => B::Add,
        "Sub" => B::Sub,
        "Mul" => B::Mul,
        "Div" => B::Div,
        "PRelu" => B::Prelu,
        "And" => B::LogicalAnd,
        "Or" => B::LogicalOr,
        "Xor" => B::LogicalXor,
        "Equal" => B::Equal,
        "Less" => B::Less,
        "LessOrEqual" => B::LessEqual,
        "Greater" => B::Greater,
        "GreaterOrEqual" => B::GreaterEqual,
        "BitwiseAnd" => B::BitAnd,
        "BitwiseOr" => B::BitOr,
        "BitwiseXor" => B::BitXor,
        _ => return None,
    })
}

fn with_parameters(node: &Node<'_>, name: &str) -> Option<(U, [f64; 3])> {
    Some(match name {
        "Elu" => (U::Elu, [node.float("alpha", 1.0), 1.0, 1.0]),
        "Celu" => {
            let alpha = node.float("alpha", 1.0);
            (U::Elu, [alpha, 1.0, 1.0 / alpha])
        }
        "Selu" => {
            let (alpha, gamma) = (1.673_263_192_176_818_8, 1.050_701_022_148_132_3);
            (
                U::Elu,
                [node.float("alpha", alpha), node.float("gamma", gamma), 1.0],
            )
        }
        "LeakyRelu" => (U::LeakyRelu, [node.float("alpha", 0.01), 0.0, 0.0]),
        "ThresholdedRelu" => (U::Threshold, [node.float("alpha", 1.0), 0.0, 0.0]),
        "Softplus" => (U::Softplus, [1.0, 20.0, 0.0]),
        _ => return None,
    })
}

fn variadic(node: &Node<'_>, name: &str) -> Result<Tensor> {
    let function = match name {
        "Max" => B::Max,
        "Min" => B::Min,
        _ => B::Add,
    };
    let mut all = node.card.copy(node.input(0)?)?;
    for i in 1..node.inputs.len() {
        all = node.card.binary(function, &all, node.input(i)?)?;
    }
    if name == "Mean" {
        return node.card.affine(&all, 1.0 / node.inputs.len() as f64, 0.0);
    }
    Ok(all)
}

fn clip(node: &Node<'_>) -> Result<Tensor> {
    let (card, mut x) = (node.card, node.input(0)?.clone());
    let bound = |name: &str, i: usize| -> Result<Option<Tensor>> {
        match (node.given(i), node.attribute(name)) {
            (Some(t), _) => Ok(Some(t.clone())),
            (None, Some(a)) => card.scalar(x.dtype(), a.f.into()).map(Some),
            (None, None) => Ok(None),
        }
    };
    let (low, high) = (bound("min", 1)?, bound("max", 2)?);
    if let Some(low) = low {
        x = card.binary(B::Max, &x, &low)?;
    }
    if let Some(high) = high {
        x = card.binary(B::Min, &x, &high)?;
    }
    card.copy(&x)
}

/// The result has the type of the base.
fn power(card: &Card<'_>, base: &Tensor, exponent: &Tensor) -> Result<Tensor> {
    let dtype = base.dtype();
    if is_float(dtype) || !is_float(exponent.dtype()) {
        return card.binary(B::Pow, base, &card.cast(exponent, dtype)?);
    }
    let wide = card.cast(base, DataType::F64)?;
    let result = card.binary(B::Pow, &wide, &card.cast(exponent, DataType::F64)?)?;
    card.cast(&result, dtype)
}
