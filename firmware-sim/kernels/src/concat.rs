//! Kernel of `vmlu_ops::concat`.

use vmlu_ops::concat::{Concat, Function};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::transpose;
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Concat>(body)?;
    // All operands before anything is written.
    let mut copies: Vec<(Tensor, View<'_>, Tensor, View<'_>)> = Vec::new();
    for (i, (part, place)) in op.parts.iter().flatten().enumerate() {
        let part_index = 1 + i as u16;
        let (from, from_index, to, to_index) = match op.function {
            Function::Concat => (part, part_index, place, 0),
            Function::Split => (place, 0, part, part_index),
        };
        let x = View::open(env, from_index, from, Access::Read)?;
        let out = View::output(env, to_index, to)?;
        copies.push((*from, x, *to, out));
    }
    for (from, x, to, out) in &copies {
        let mut strides = [0; vmlu_abi::tensor::MAX_DIMS];
        strides[..from.rank()].copy_from_slice(from.strides());
        transpose::copy(env, to, &strides, x, out)?;
    }
    Ok(op.cost().into())
}
