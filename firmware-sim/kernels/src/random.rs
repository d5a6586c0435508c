//! Kernel of `vmlu_ops::random`.

use vmlu_abi::tensor::{DataType, MAX_DIMS};
use vmlu_ops::random::{Checked, Function, Random};
use vmlu_ops::tensor::{is_float, Tensor};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_float, with_storage, Number, Storage, TILE};
use super::philox::{Draws, Words};
use super::poly64;
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Random>(body)?;
    let out = View::output(env, 0, &op.out)?;
    let probability = match &op.probability {
        Some((p, _)) => Some(View::open(env, 1, p, Access::Read)?),
        None => None,
    };
    let draws = Draws::open(env, 2, &op.source)?;
    let words = draws.words;
    with_storage!(op.out.dtype, S => {
        match (&op.probability, &probability) {
            (Some((tensor, strides)), Some(view)) => {
                with_float!(tensor.dtype, P => chances::<S, P>(&op, env, &out, view, strides, words)?);
            }
            _ => compute::<S>(&op, env, &out, words)?,
        }
    });
    draws.finish(&op.source, op.blocks());
    Ok(op.cost().into())
}

/// Distances of elements, counted in row-major order.
pub(super) fn numbering(tensor: &Tensor) -> [i64; MAX_DIMS] {
    let mut strides = [0; MAX_DIMS];
    let mut next = 1;
    for (stride, dim) in strides
        .iter_mut()
        .zip(tensor.dims())
        .take(tensor.rank())
        .rev()
    {
        *stride = next;
        // The product fits in 63 bits.
        next *= Ord::max(*dim, 1) as i64;
    }
    strides
}

/// `generate(start, values)` makes the numbers of elements `start`, `start + 1`, … .
fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    out: &View<'_>,
    words: Words,
) -> Result<(), Fault> {
    let numbers = numbering(&op.out);
    let generate = |start: usize, values: &mut [S::Compute]| match op.function {
        Function::Uniform => uniform::<S>(op, words, start, values),
        Function::Bernoulli => bernoulli(op.alpha, words, start, values),
        Function::Integers | Function::Bits => whole::<S>(op, words, start, values),
        _ => real(op, words, start, values),
    };
    Walk::new(op.out.dims(), [op.out.strides(), &numbers[..]], 0).each(env, |at, step, count| {
        let mut values = [S::Compute::default(); TILE];
        let values = &mut values[..count];
        each_run(at[1], step[1], values, generate);
        S::store(out, at[0], step[0], values);
    })
}

/// Runs of neighbouring elements: the whole row, or each by itself.
pub(super) fn each_run<T>(
    start: isize,
    step: isize,
    values: &mut [T],
    generate: impl Fn(usize, &mut [T]),
) {
    if step == 1 {
        return generate(start as usize, values);
    }
    for (i, v) in values.iter_mut().enumerate() {
        generate(
            (start + i as isize * step) as usize,
            std::slice::from_mut(v),
        );
    }
}

/// Two words as one number.
fn joined(w: &[u32]) -> u64 {
    u64::from(w[0]) | u64::from(w[1]) << 32
}

fn uniform<S: Storage>(op: &Checked, words: Words, start: usize, values: &mut [S::Compute]) {
    let digits = match op.out.dtype {
        DataType::F16 => 11,
        DataType::Bf16 => 8,
        DataType::F32 => 24,
        _ => 53,
    };
    let mut units = [0.0; TILE];
    let units = &mut units[..values.len()];
    let mut raw = [0; 2 * TILE];
    if digits == 53 {
        let raw = &mut raw[..2 * values.len()];
        words.fill(2 * start as u64, raw);
        for (u, w) in units.iter_mut().zip(raw.chunks_exact(2)) {
            *u = (joined(w) >> 11) as f64 * 2f64.powi(-53);
        }
    } else {
        let raw = &mut raw[..values.len()];
        words.fill(start as u64, raw);
        upper_bits(raw, 32 - digits, units);
    }
    if (op.alpha, op.beta) == (0.0, 1.0) {
        return narrow(units, values);
    }
    stretch(units, op.alpha, op.beta);
    narrow(units, values);
    for v in values {
        let stored = S::widen(S::narrow(*v));
        if stored.to_f64() >= op.beta {
            *v = S::Compute::from_scalar(op.alpha);
        }
    }
}

fn bernoulli<T: Number>(p: f64, words: Words, start: usize, values: &mut [T]) {
    let mut raw = [0; TILE];
    let raw = &mut raw[..values.len()];
    words.fill(start as u64, raw);
    below(raw, threshold(p), values);
}

/// Least word that is not below a probability: `2³²` if all are.
pub(super) fn threshold(p: f64) -> u64 {
    (p * 2f64.powi(32)).ceil() as u64
}

/// Bernoulli's numbers of a probability each.
fn chances<S: Storage, P: Storage>(
    op: &Checked,
    env: &dyn Env,
    out: &View<'_>,
    probability: &View<'_>,
    strides: &[i64; MAX_DIMS],
    words: Words,
) -> Result<(), Fault> {
    let numbers = numbering(&op.out);
    let all = [op.out.strides(), &numbers[..], &strides[..]];
    Walk::new(op.out.dims(), all, 0).each(env, |at, step, count| {
        let mut values = [S::Compute::default(); TILE];
        let mut chances = [P::Compute::default(); TILE];
        let mut raw = [0u32; TILE];
        let (values, chances) = (&mut values[..count], &mut chances[..count]);
        let raw = &mut raw[..count];
        P::load(probability, at[2], step[2], chances);
        each_run(at[1], step[1], raw, |start, raw| {
            words.fill(start as u64, raw)
        });
        for ((v, p), w) in values.iter_mut().zip(chances).zip(raw) {
            let hit = f64::from(*w) * 2f64.powi(-32) < p.to_f64();
            *v = S::Compute::from_count(usize::from(hit));
        }
        S::store(out, at[0], step[0], values);
    })
}

fn whole<S: Storage>(op: &Checked, words: Words, start: usize, values: &mut [S::Compute]) {
    let mut raw = [0; 2 * TILE];
    let raw = &mut raw[..2 * values.len()];
    words.fill(2 * start as u64, raw);
    let bits = op.function == Function::Bits;
    let span = u128::from(op.high.wrapping_sub(op.low) as u64);
    let float = is_float(op.out.dtype);
    for (v, w) in values.iter_mut().zip(raw.chunks_exact(2)) {
        let drawn = joined(w);
        let number = if bits {
            drawn as i64
        } else {
            op.low
                .wrapping_add(((u128::from(drawn) * span) >> 64) as i64)
        };
        *v = if float {
            S::Compute::from_scalar(number as f64)
        } else {
            // Cut to the type's width.
            S::Compute::from_count(number as usize)
        };
    }
}

/// The functions of real numbers, in f64. Pairs of elements are made together.
fn real<T: Number>(op: &Checked, words: Words, start: usize, values: &mut [T]) {
    let first = start & !1;
    let skip = start - first;
    let mut units = [0.0; TILE + 2];
    let units = &mut units[..(skip + values.len()).next_multiple_of(2)];
    let mut raw = [0; 2 * TILE + 4];
    if op.function.words(op.out.dtype) == 2 {
        let raw = &mut raw[..2 * units.len()];
        words.fill(2 * first as u64, raw);
        for (u, w) in units.iter_mut().zip(raw.chunks_exact(2)) {
            *u = ((joined(w) >> 12) as f64 + 0.5) * 2f64.powi(-52);
        }
    } else {
        let raw = &mut raw[..units.len()];
        words.fill(first as u64, raw);
        between(raw, units);
    }
    distribute(op.function, units, op.alpha, op.beta);
    narrow(&units[skip..][..values.len()], values);
}

multiversion! {
    /// The upper bits of words, as fractions.
    fn upper_bits(raw: &[u32], shift: u32, to: &mut [f64]) {
        let unit = 2f64.powi(shift as i32 - 32);
        for (u, w) in to.iter_mut().zip(raw) {
            *u = f64::from(*w >> shift) * unit;
        }
    }

    /// Words as fractions that are neither 0 nor 1.
    fn between(raw: &[u32], to: &mut [f64]) {
        for (u, w) in to.iter_mut().zip(raw) {
            *u = (f64::from(*w) + 0.5) * 2f64.powi(-32);
        }
    }

    fn stretch(units: &mut [f64], low: f64, high: f64) {
        for u in units {
            *u = u.mul_add(high - low, low);
        }
    }

    fn narrow<T: Number>(from: &[f64], to: &mut [T]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = T::from_scalar(*f);
        }
    }

    fn below<T: Number>(raw: &[u32], limit: u64, to: &mut [T]) {
        for (t, w) in to.iter_mut().zip(raw) {
            *t = if u64::from(*w) < limit { T::ONE } else { T::default() };
        }
    }

    /// From fractions to numbers of a distribution.
    fn distribute(function: Function, v: &mut [f64], alpha: f64, beta: f64) {
        use std::f64::consts::{PI, TAU};
        match function {
            Function::Normal | Function::LogNormal => {
                let (pairs, _) = v.as_chunks_mut::<2>();
                for [a, b] in pairs.iter_mut() {
                    let r = (-2.0 * poly64::log(*a)).sqrt() * beta;
                    let (s, c) = poly64::sin_cos(TAU * *b);
                    *a = r.mul_add(c, alpha);
                    *b = r.mul_add(s, alpha);
                }
                if function == Function::LogNormal {
                    v.iter_mut().for_each(|v| *v = poly64::exp(*v));
                }
            }
            Function::Exponential => v.iter_mut().for_each(|v| *v = -poly64::log(*v) / alpha),
            Function::Cauchy => {
                v.iter_mut().for_each(|v| *v = poly64::tan(PI * (*v - 0.5)).mul_add(beta, alpha));
            }
            Function::Geometric => {
                let scale = poly64::log1p(-alpha);
                for v in v {
                    let trials = (poly64::log(*v) / scale).ceil();
                    *v = if trials > 1.0 { trials } else { 1.0 };
                }
            }
            other => unreachable!("{other:?} is not one of real numbers"),
        }
    }
}
