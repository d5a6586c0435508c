//! Kernel of `vmlu_ops::combine`.

use vmlu_ops::combine::{Checked, Combine, Function, MAX_PARTS};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::simd::multiversion;
use super::view::View;

/// Elements between two looks at the cancel flag, and of a task of the pool.
const PART: usize = 64 << 10;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Combine>(body)?;
    let open = |tensors: &[vmlu_ops::tensor::Tensor], first: usize, access| {
        let views = tensors.iter().enumerate();
        views
            .map(|(i, t)| View::open(env, (first + i) as u16, t, access))
            .collect::<Result<Vec<_>, _>>()
    };
    let inputs = open(&op.inputs, 0, Access::Read)?;
    let outputs = open(&op.outputs, MAX_PARTS, Access::Write)?;
    with_storage!(op.dtype, S => compute::<S>(&op, env, &inputs, &outputs)?);
    Ok(op.cost().into())
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    inputs: &[View<'_>],
    outputs: &[View<'_>],
) -> Result<(), Fault> {
    let count = op.count as usize;
    let divisor = S::Compute::from_count(inputs.len());
    env.parallel(count.div_ceil(PART), &|part| {
        if env.check().is_err() {
            return;
        }
        let mut sum = [S::Compute::default(); TILE];
        let mut next = [S::Compute::default(); TILE];
        let end = count.min((part + 1) * PART);
        let mut at = part * PART;
        while at < end {
            let length = TILE.min(end - at);
            let (sum, next) = (&mut sum[..length], &mut next[..length]);
            S::load(&inputs[0], at as isize, 1, sum);
            for input in &inputs[1..] {
                S::load(input, at as isize, 1, next);
                match op.function {
                    Function::Sum | Function::Average => add(sum, next),
                    Function::Product => multiply(sum, next),
                    Function::Max => larger(sum, next),
                    Function::Min => smaller(sum, next),
                }
            }
            if op.function == Function::Average {
                sum.iter_mut().for_each(|s| *s = s.div(divisor));
            }
            outputs
                .iter()
                .for_each(|out| S::store(out, at as isize, 1, sum));
            at += length;
        }
    });
    Ok(env.check()?)
}

multiversion! {
    fn add<T: Number>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.add(*y);
        }
    }
}
multiversion! {
    fn multiply<T: Number>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.mul(*y);
        }
    }
}
multiversion! {
    fn larger<T: Number>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.max(*y);
        }
    }
}
multiversion! {
    fn smaller<T: Number>(x: &mut [T], y: &[T]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = x.min(*y);
        }
    }
}
