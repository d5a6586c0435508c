//! Kernel of `vmlu_ops::histogram`: pieces of `x` have sums of their own, which are added in order.

use std::sync::Mutex;

use vmlu_abi::Status;
use vmlu_ops::histogram::{Checked, Function, Histogram, PIECES};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::{with_storage, Number, Storage, TILE};
use super::search_sorted::place;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Most bins of which each piece has sums of its own.
const FEW: usize = 1 << 16;
/// Least elements of a piece.
const PIECE: usize = 64 * TILE;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Histogram>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let edges = match &op.edges {
        Some(t) => Some(View::open(env, 1, t, Access::Read)?),
        None => None,
    };
    let weights = match &op.weights {
        Some(t) => Some(View::open(env, 2, t, Access::Read)?),
        None => None,
    };
    let out = View::open(env, 3, &op.out, Access::Write)?;
    let job = Job {
        op: &op,
        env,
        x: &x,
        edges: edges.as_ref(),
        weights: weights.as_ref(),
    };
    let sums = with_storage!(op.x.dtype, S => job.sums::<S>()?);
    let step = op.out.strides()[0] as isize;
    let mut pace = Pace::new(env);
    for (i, part) in sums.chunks(TILE).enumerate() {
        let to = (i * TILE) as isize * step;
        if op.weights.is_none() {
            let whole: Vec<i64> = part.iter().map(|v| *v as i64).collect();
            out.store(to, step, &whole);
        } else {
            with_compute!(op.out.dtype, T => store::<T>(&op, &out, to, part));
        }
        pace.did(part.len())?;
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'a>,
    edges: Option<&'j View<'a>>,
    weights: Option<&'j View<'a>>,
}

impl Job<'_, '_> {
    /// The sums of all bins. Counts are exact in f64: a tensor has fewer than 2⁵³ elements that can be visited.
    fn sums<S: Storage>(&self) -> Result<Vec<f64>, Fault> {
        let op = self.op;
        let bins = op.out.dims()[0] as usize;
        let edges = self.edges::<S>(bins)?;
        let strides = [op.x.strides(), &op.weight_strides[..]];
        let walk = Walk::new(op.x.dims(), strides, 0);
        let total = walk.total();
        let pieces = if bins <= FEW { PIECES } else { 1 };
        let length = total.div_ceil(pieces).max(PIECE);
        let pieces = total.div_ceil(length);
        let all: Mutex<Vec<(usize, Vec<f64>)>> = Mutex::new(Vec::new());
        split(self.env, pieces, 1, |range| {
            for piece in range {
                let mut sums = vec![0.0; bins];
                let mut pace = Pace::new(self.env);
                let (mut row, mut some) = ([S::Compute::default(); TILE], [1.0; TILE]);
                let part = piece * length..total.min((piece + 1) * length);
                walk.rows(part, TILE, [0; 2], |at, step, count| {
                    let (row, some) = (&mut row[..count], &mut some[..count]);
                    S::load(self.x, at[0], step[0], row);
                    self.weights(at[1], step[1], some);
                    for (i, (v, weight)) in row.iter().zip(some.iter()).enumerate() {
                        let bin = match op.function {
                            Function::Uniform => self.uniform(bins, v.to_f64()),
                            Function::Edges => between(&edges, *v),
                            Function::Count => {
                                let offset = at[0] + i as isize * step[0];
                                Some(self.counted(
                                    bins,
                                    v.to_i64(),
                                    *v < S::Compute::default(),
                                    offset,
                                )?)
                            }
                        };
                        if let Some(sum) = bin.and_then(|b| sums.get_mut(b)) {
                            *sum += weight;
                        }
                    }
                    pace.did(4 * count)
                })?;
                all.lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .push((piece, sums));
            }
            Ok(())
        })?;
        let mut all = all.into_inner().unwrap_or_else(|e| e.into_inner());
        all.sort_unstable_by_key(|(piece, _)| *piece);
        let mut total = vec![0.0; bins];
        for (_, sums) in &all {
            for (t, s) in total.iter_mut().zip(sums) {
                *t += s;
            }
            self.env.check()?;
        }
        Ok(total)
    }

    /// A copy of the edges.
    fn edges<S: Storage>(&self, bins: usize) -> Result<Vec<S::Compute>, Fault> {
        let (Some(tensor), Some(view)) = (&self.op.edges, self.edges) else {
            return Ok(Vec::new());
        };
        let mut edges = vec![S::Compute::default(); bins + 1];
        let step = tensor.strides()[0] as isize;
        let mut pace = Pace::new(self.env);
        for (i, part) in edges.chunks_mut(TILE).enumerate() {
            S::load(view, (i * TILE) as isize * step, step, part);
            pace.did(part.len())?;
        }
        Ok(edges)
    }

    fn weights(&self, from: isize, step: isize, to: &mut [f64]) {
        let (Some(tensor), Some(view)) = (&self.op.weights, self.weights) else {
            return;
        };
        with_compute!(tensor.dtype, T => load::<T>(tensor, view, from, step, to));
    }

    fn uniform(&self, bins: usize, v: f64) -> Option<usize> {
        let [low, high] = self.op.range;
        // Written so that NaN is in none.
        if !(v >= low && v <= high) || bins == 0 {
            return None;
        }
        let bin = (v - low) / (high - low) * bins as f64;
        Some((bin as usize).min(bins - 1))
    }

    /// The bin of a whole number.
    fn counted(&self, bins: usize, v: i64, negative: bool, offset: isize) -> Result<usize, Fault> {
        if !negative && (v as u64) < bins as u64 {
            return Ok(v as usize);
        }
        let tensor = &self.op.x;
        let bytes = (offset as i64).wrapping_mul(tensor.dtype.size() as i64);
        // Of u64, what i64 does not have is as far out of range.
        let shown = if negative || v >= 0 {
            v.to_string()
        } else {
            (v as u64).to_string()
        };
        Err(Fault::operand(
            Status::IndexOutOfRange,
            0,
            tensor.address.wrapping_add_signed(bytes),
            format!("histogram: an element of x is {shown}, but there are {bins} bins"),
        ))
    }
}

/// The bin between two edges.
fn between<T: Number>(edges: &[T], v: T) -> Option<usize> {
    let (last, first) = (edges.last()?, edges.first()?);
    // Written so that NaN is in none.
    if !(v >= *first && v <= *last) || edges.len() < 2 {
        return None;
    }
    let bin = place(edges.len(), true, v, |i| edges[i]);
    Some(bin.saturating_sub(1).min(edges.len() - 2))
}

/// Stores sums in the weights' type.
fn store<T: Float>(op: &Checked, out: &View<'_>, to: isize, sums: &[f64]) {
    let mut row = [T::default(); TILE];
    let row = &mut row[..sums.len()];
    for (r, v) in row.iter_mut().zip(sums) {
        *r = T::of(*v);
    }
    T::store(op.out.dtype, out, to, op.out.strides()[0] as isize, row);
}

/// Loads weights.
fn load<T: Float>(tensor: &Tensor, view: &View<'_>, from: isize, step: isize, to: &mut [f64]) {
    let mut row = [T::default(); TILE];
    let row = &mut row[..to.len()];
    T::load(tensor.dtype, view, from, step, row);
    for (t, v) in to.iter_mut().zip(row) {
        *t = v.real();
    }
}
