//! Kernel of `vmlu_ops::norm_backward`.

use vmlu_abi::tensor::{DataType, MAX_DIMS};
use vmlu_ops::norm::{Factor, Function};
use vmlu_ops::norm_backward::{Checked, NormBackward};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::folding::{At, Reducer};
use super::math::Real;
use super::norm::{fill_factor, pick, Mixed, Small};
use super::number::{with_float, Number, Storage, TILE};
use super::reduce::{collect, index_strides, NONE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<NormBackward>(body)?;
    with_float!(op.x.dtype, S => compute::<S>(&op, env)?);
    Ok(op.cost().into())
}

/// Two sums in f64.
struct Pair<T>(std::marker::PhantomData<fn(T)>);

impl<T: Real> Reducer for Pair<T> {
    type Value = [T; 2];
    type Acc = [f64; 2];

    fn identity(&self) -> [f64; 2] {
        [0.0; 2]
    }
    fn tile(&self, acc: &mut [f64; 2], tile: &[[T; 2]]) {
        add_all(acc, tile);
    }
    fn columns(&self, acc: &mut [[f64; 2]], tile: &[[T; 2]]) {
        add_each(acc, tile);
    }
    fn merge(&self, a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
        [a[0] + b[0], a[1] + b[1]]
    }
}

multiversion! {
    /// Sums in eight interleaved chains, which are then joined in order.
    fn add_all<T: Real>(acc: &mut [f64; 2], tile: &[[T; 2]]) {
        let mut lanes = [[0.0f64; 2]; 8];
        let chunks = tile.chunks_exact(8);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (l, v) in lanes.iter_mut().zip(chunk) {
                l[0] += v[0].real();
                l[1] += v[1].real();
            }
        }
        for l in lanes {
            acc[0] += l[0];
            acc[1] += l[1];
        }
        for v in rest {
            acc[0] += v[0].real();
            acc[1] += v[1].real();
        }
    }

    fn add_each<T: Real>(acc: &mut [[f64; 2]], tile: &[[T; 2]]) {
        for (a, v) in acc.iter_mut().zip(tile) {
            a[0] += v[0].real();
            a[1] += v[1].real();
        }
    }

    /// `n = (x - mean) · rstd` in place of x, `g = dy · weight` in place of dy.
    fn prepare<T: Real>(dy: &mut [T], x: &mut [T], w: &[T], mean: &[T], rstd: &[T]) {
        for ((((g, x), w), m), r) in dy.iter_mut().zip(x.iter_mut()).zip(w).zip(mean).zip(rstd) {
            *x = x.sub(*m).mul(*r);
            *g = g.mul(*w);
        }
    }

    /// `rstd · (g - a - n · b)` in place of g.
    fn finish<T: Real>(g: &mut [T], n: &[T], a: &[T], b: &[T], rstd: &[T]) {
        for ((((g, n), a), b), r) in g.iter_mut().zip(n).zip(a).zip(b).zip(rstd) {
            *g = r.mul(n.neg().mul_add(*b, g.sub(*a)));
        }
    }
}

/// What all passes read.
struct Inputs<'j, S: Storage> {
    dy: View<'j>,
    x: View<'j>,
    weight: Option<Small<'j, S::Compute>>,
    mean: Vec<S::Compute>,
    rstd: Vec<S::Compute>,
}

impl<S: Storage<Compute: Mixed>> Inputs<'_, S> {
    /// Loads `[g, n]` of some positions; tensors are dy, x, weight, statistics.
    fn load(&self, weighted: bool, at: At, step: At, g: &mut [S::Compute], n: &mut [S::Compute]) {
        let count = g.len();
        let one = S::Compute::ONE;
        let mut small = [[S::Compute::default(); TILE]; 3];
        let [w, m, r] = &mut small;
        let (w, m, r) = (&mut w[..count], &mut m[..count], &mut r[..count]);
        S::load(&self.dy, at[0], step[0], g);
        S::load(&self.x, at[1], step[1], n);
        if weighted {
            fill_factor(&self.weight, at[2], step[2], w, one);
        } else {
            w.fill(one);
        }
        pick(&self.mean, at[3], step[3], m);
        pick(&self.rstd, at[3], step[3], r);
        prepare(g, n, w, m, r);
    }
}

fn open<'e, S: Storage<Compute: Mixed>>(
    env: &'e dyn Env,
    index: u16,
    tensor: &Tensor,
    strides: &[i64; MAX_DIMS],
    (dtype, access): (DataType, Access),
) -> Result<Small<'e, S::Compute>, Fault> {
    Small::open::<S>(env, index, tensor, strides, dtype, access)
}

fn compute<S: Storage<Compute: Mixed>>(op: &Checked, env: &dyn Env) -> Result<(), Fault> {
    type V<S> = <S as Storage>::Compute;
    let (dims, axes, dtype) = (op.x.dims(), op.axes, op.x.dtype);
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let x = View::open(env, 1, &op.x, Access::Read)?;
    let weight = op
        .weight
        .as_ref()
        .map(|w| open::<S>(env, 2, &w.tensor, &w.strides, (dtype, Access::Read)))
        .transpose()?;
    let mean = op
        .mean
        .as_ref()
        .map(|m| open::<S>(env, 3, &m.tensor, &m.strides, (dtype, Access::Read)))
        .transpose()?;
    let r = &op.rstd;
    let rstd = open::<S>(env, 4, &r.tensor, &r.strides, (dtype, Access::Read))?;
    let dx = op
        .dx
        .as_ref()
        .map(|t| View::output(env, 5, t))
        .transpose()?;
    let mut sums = Vec::new();
    for (i, f) in op.sums.iter().enumerate() {
        let write = (dtype, Access::Write);
        sums.push(match f {
            Some(f) => Some(open::<S>(env, 6 + i as u16, &f.tensor, &f.strides, write)?),
            None => None,
        });
    }
    let mut rstd = rstd.gather(env, dims, axes)?;
    if op.function == Function::Inference {
        for r in &mut rstd {
            *r = V::<S>::of(1.0 / (r.real() + op.eps).sqrt());
        }
    }
    let mean = match &mean {
        Some(m) => m.gather(env, dims, axes)?,
        None => vec![V::<S>::default(); rstd.len()],
    };
    let inputs = Inputs::<S> {
        dy,
        x,
        weight,
        mean,
        rstd,
    };
    let own = index_strides(dims, axes);
    let w = inputs.weight.as_ref().map_or(NONE, |s| &s.strides[..]);
    let strides = [op.dy.strides(), op.x.strides(), w, &own[..], NONE];
    let pair = Pair::<V<S>>(std::marker::PhantomData);
    let pairs = |weighted: bool, swap: bool| {
        let inputs = &inputs;
        move |at: At, step: At, to: &mut [[V<S>; 2]]| {
            let mut g = [V::<S>::default(); TILE];
            let mut n = [V::<S>::default(); TILE];
            let (g, n) = (&mut g[..to.len()], &mut n[..to.len()]);
            inputs.load(weighted, at, step, g, n);
            for ((t, g), n) in to.iter_mut().zip(g.iter()).zip(n.iter()) {
                *t = if swap {
                    [g.mul(*n), *g]
                } else {
                    [*g, g.mul(*n)]
                };
            }
        }
    };
    // The sums first: dx may be written over dy, then there are none.
    let wanted: Vec<(usize, &Factor)> = (op.sums.iter().enumerate())
        .filter_map(|(i, f)| f.as_ref().map(|f| (i, f)))
        .collect();
    if let Some((_, first)) = wanted.first() {
        // Along these the small tensor repeats; both have one shape.
        let folded = (0..dims.len()).filter(|i| first.strides[*i] == 0);
        let folded = folded.fold(0, |s, i| s | 1 << i);
        let all = collect(env, dims, folded, strides, &pair, &pairs(false, true))?;
        for (i, _) in &wanted {
            if let Some(to) = &sums[*i] {
                to.scatter(env, dims, folded, |at| V::<S>::of(all[at][*i]))?;
            }
        }
    }
    let Some(dx) = dx else {
        return Ok(());
    };
    let n = dims.iter().enumerate().filter(|(i, _)| axes >> i & 1 != 0);
    let count = n.map(|(_, d)| *d as f64).product::<f64>();
    let means = match op.function {
        Function::Inference => vec![[0.0; 2]; inputs.rstd.len()],
        _ => collect(env, dims, axes, strides, &pair, &pairs(true, false))?,
    };
    let centred = op.function == Function::Standard;
    let a: Vec<V<S>> = means
        .iter()
        .map(|m| V::<S>::of(if centred { m[0] / count } else { 0.0 }))
        .collect();
    let b: Vec<V<S>> = means.iter().map(|m| V::<S>::of(m[1] / count)).collect();
    let out = op.dx.as_ref().map_or(NONE, |t| t.strides());
    let walk = Walk::new(dims, [op.dy.strides(), op.x.strides(), w, &own[..], out], 4);
    walk.tiles(
        env,
        || [[V::<S>::default(); TILE]; 5],
        |[g, n, ta, tb, r], tile| {
            let mut at = 0;
            for (offsets, count) in tile.pieces {
                let part = at..at + count;
                let s = tile.strides;
                let o = [offsets[0], offsets[1], offsets[2], offsets[3], 0, 0];
                let step = [s[0], s[1], s[2], s[3], 0, 0];
                inputs.load(true, o, step, &mut g[part.clone()], &mut n[part.clone()]);
                pick(&a, o[3], s[3], &mut ta[part.clone()]);
                pick(&b, o[3], s[3], &mut tb[part.clone()]);
                pick(&inputs.rstd, o[3], s[3], &mut r[part]);
                at += count;
            }
            finish(&mut g[..at], &n[..at], &ta[..at], &tb[..at], &r[..at]);
            tile.store::<S>(4, &dx, &g[..at]);
        },
    )
}
