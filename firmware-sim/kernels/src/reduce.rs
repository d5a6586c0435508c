//! Kernel of `vmlu_ops::reduce`.

use std::marker::PhantomData;
use std::sync::Mutex;

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_ops::reduce::{Checked, Function, Reduce};
use vmlu_ops::tensor::is_float;

use super::env::{Access, Env, Fault, Work};
use super::folding::{fold, At, Load, Reducer, Space};
use super::math::Real;
use super::number::{with_float, with_storage, with_whole, Number, Storage, Truth, TILE};
use super::reducers::{
    log_sum, Count, Exponentials, Extreme, Moments, Product, Sum, Term, Test, Total,
};
use super::view::View;

/// Strides of a tensor that is not there.
pub(super) const NONE: &[i64] = &[0; MAX_DIMS];

type Value<S> = <S as Storage>::Compute;
type Wide<S> = <Value<S> as Number>::Sum;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Reduce>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    if op.out.elements > 0 {
        let job = Job {
            op: &op,
            env,
            x: &x,
            out: &out,
        };
        let dtype = op.x.dtype;
        match op.function {
            Function::Any | Function::All => with_storage!(dtype, S => job.test::<S>()?),
            Function::CountNonzero => with_storage!(dtype, S => job.count::<S>()?),
            _ if is_float(dtype) => with_float!(dtype, S => job.real::<S>()?),
            _ => with_whole!(dtype, S => job.whole::<S>()?),
        }
    }
    Ok(op.cost().into())
}

struct Job<'j> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'j>,
    out: &'j View<'j>,
}

impl Job<'_> {
    fn space(&self) -> Space {
        let strides = [
            self.op.x.strides(),
            NONE,
            NONE,
            NONE,
            NONE,
            &self.op.out_strides,
        ];
        Space::new(self.op.x.dims(), self.op.axes, strides)
    }

    /// Folds and stores what `finish` makes of the results.
    fn fold<S: Storage, R: Reducer<Value = Value<S>>, O: Storage>(
        &self,
        reducer: &R,
        finish: impl Fn(R::Acc) -> O::Compute + Sync,
    ) -> Result<(), Fault> {
        let load = |at: At, step: At, to: &mut [Value<S>]| S::load(self.x, at[0], step[0], to);
        let store = |at: isize, step: isize, acc: &[R::Acc]| {
            let mut done = [O::Compute::default(); TILE];
            let done = &mut done[..acc.len()];
            for (d, a) in done.iter_mut().zip(acc) {
                *d = finish(*a);
            }
            O::store(self.out, at, step, done);
        };
        fold(self.env, self.space(), reducer, &load, &store)
    }

    fn test<S: Storage>(&self) -> Result<(), Fault> {
        let test = Test::<Value<S>> {
            all: self.op.function == Function::All,
            of: PhantomData,
        };
        self.fold::<S, _, Truth>(&test, |t| t)
    }

    fn count<S: Storage>(&self) -> Result<(), Fault> {
        self.fold::<S, _, i64>(&Count::<Value<S>>(PhantomData), |n| n)
    }

    fn whole<S: Storage>(&self) -> Result<(), Fault> {
        let wide = self.op.out.dtype != self.op.x.dtype;
        match self.op.function {
            Function::Sum if wide => {
                self.fold::<S, _, i64>(&Total::<Value<S>>(PhantomData), |s| s.to_i64())
            }
            Function::Prod if wide => {
                self.fold::<S, _, i64>(&Product::<Value<S>>(PhantomData), |s| s.to_i64())
            }
            Function::Sum => {
                self.fold::<S, _, S>(&Total::<Value<S>>(PhantomData), Value::<S>::from_sum)
            }
            Function::Prod => {
                self.fold::<S, _, S>(&Product::<Value<S>>(PhantomData), Value::<S>::from_sum)
            }
            Function::Max | Function::Min => self.extreme::<S>(),
            other => unreachable!("{other:?} is not for integers"),
        }
    }

    fn sum<S: Storage<Compute: Real>>(
        &self,
        term: Term,
        finish: impl Fn(Wide<S>) -> Wide<S> + Sync,
    ) -> Result<(), Fault> {
        let sum = Sum::<Value<S>>::new(term);
        self.fold::<S, _, S>(&sum, |s| Value::<S>::from_sum(finish(s)))
    }

    fn extreme<S: Storage>(&self) -> Result<(), Fault> {
        let f = self.op.function;
        let extreme = Extreme::<Value<S>> {
            largest: matches!(f, Function::Max | Function::NormInf),
            magnitude: matches!(f, Function::NormInf | Function::NormNegInf),
            of: PhantomData,
        };
        self.fold::<S, _, S>(&extreme, |v| v)
    }

    fn real<S: Storage<Compute: Real>>(&self) -> Result<(), Fault> {
        let count = Wide::<S>::from_count(self.space().each());
        let alpha = self.op.alpha;
        let real = |f: fn(f64) -> f64| move |s: Wide<S>| Wide::<S>::from_scalar(f(s.to_f64()));
        match self.op.function {
            Function::Sum => self.sum::<S>(Term::Plain, |s| s),
            Function::Mean => self.sum::<S>(Term::Plain, |s| s.div(count)),
            Function::NanSum => self.sum::<S>(Term::Number, |s| s),
            Function::Norm1 => self.sum::<S>(Term::Magnitude, |s| s),
            Function::Norm2 => self.sum::<S>(Term::Square, real(f64::sqrt)),
            Function::SumSquares => self.sum::<S>(Term::Square, |s| s),
            Function::NormP => self.sum::<S>(Term::Power(alpha), |s| {
                Wide::<S>::from_scalar(libm::pow(s.to_f64(), 1.0 / alpha))
            }),
            Function::Prod => {
                self.fold::<S, _, S>(&Product::<Value<S>>(PhantomData), Value::<S>::from_sum)
            }
            Function::LogSumExp => self
                .fold::<S, _, S>(&Exponentials::<Value<S>>(PhantomData), |a| {
                    Value::<S>::of(log_sum(a))
                }),
            Function::Var | Function::Std => self.variance::<S>(),
            _ => self.extreme::<S>(),
        }
    }

    fn variance<S: Storage<Compute: Real>>(&self) -> Result<(), Fault> {
        let root = self.op.function == Function::Std;
        let count = self.space().each() as f64;
        let finish = |[_, squares]: [f64; 2]| {
            // As PyTorch: a count of no more than alpha divides by 0.
            let v = squares / (count - self.op.alpha).max(0.0);
            let v = if count == 0.0 { f64::NAN } else { v };
            Value::<S>::of(if root { v.sqrt() } else { v })
        };
        let all = moments::<S>(
            self.env,
            self.x,
            self.op.x.dims(),
            self.op.x.strides(),
            self.op.axes,
        )?;
        let strides = index_strides(self.op.x.dims(), self.op.axes);
        // Every output once: a walk over the kept axes.
        let mut dims = self.op.x.dims().to_vec();
        for (i, d) in dims.iter_mut().enumerate() {
            if self.op.axes >> i & 1 != 0 {
                *d = 1;
            }
        }
        let walk = super::walk::Walk::new(&dims, [&strides[..], &self.op.out_strides[..]], 1);
        walk.tiles(
            self.env,
            || [Value::<S>::default(); TILE],
            |v, tile| {
                let mut at = 0;
                for (offsets, n) in tile.pieces {
                    for i in 0..*n {
                        v[at] = finish(all[(offsets[0] + i as isize * tile.strides[0]) as usize]);
                        at += 1;
                    }
                }
                tile.store::<S>(1, self.out, &v[..at]);
            },
        )
    }
}

/// Row-major strides over the axes that are not in a set; 0 for those that are.
pub(super) fn index_strides(dims: &[u64], axes: u32) -> [i64; MAX_DIMS] {
    let mut strides = [0; MAX_DIMS];
    let mut next = 1;
    for i in (0..dims.len()).rev() {
        if axes >> i & 1 == 0 {
            strides[i] = next;
            next *= Ord::max(dims[i], 1) as i64;
        }
    }
    strides
}

/// Outputs of a fold over a set of axes.
pub(super) fn groups(dims: &[u64], axes: u32) -> usize {
    let kept = dims.iter().enumerate().filter(|(i, _)| axes >> i & 1 == 0);
    kept.map(|(_, d)| *d as usize).product()
}

/// Most groups whose results are held in private memory.
const MOST_GROUPS: usize = 1 << 25;

/// Private memory for the results of some groups.
pub(super) fn room<T: Clone>(count: usize, value: T) -> Result<Vec<T>, Fault> {
    let mut all = Vec::new();
    if count > MOST_GROUPS || all.try_reserve_exact(count).is_err() {
        let text = format!("no memory to hold the sums of {count} groups, at most {MOST_GROUPS}");
        return Err(Fault::new(vmlu_abi::Status::OutOfHostMemory, text));
    }
    all.resize(count, value);
    Ok(all)
}

/// Folds into private memory, in row-major order of the axes that are kept. `strides` are those of up to five tensors.
pub(super) fn collect<R: Reducer>(
    env: &dyn Env,
    dims: &[u64],
    axes: u32,
    strides: [&[i64]; 5],
    reducer: &R,
    load: Load<'_, R>,
) -> Result<Vec<R::Acc>, Fault> {
    let own = index_strides(dims, axes);
    let [a, b, c, d, e] = strides;
    let space = Space::new(dims, axes, [a, b, c, d, e, &own]);
    let all = Mutex::new(room(groups(dims, axes), reducer.identity())?);
    let store = |at: isize, step: isize, acc: &[R::Acc]| {
        let mut all = all.lock().unwrap_or_else(|e| e.into_inner());
        for (i, a) in acc.iter().enumerate() {
            all[(at + i as isize * step) as usize] = *a;
        }
    };
    fold(env, space, reducer, load, &store)?;
    Ok(all.into_inner().unwrap_or_else(|e| e.into_inner()))
}

/// Mean and sum of squared distances from it of each group, in row-major order of the axes that are kept.
pub(super) fn moments<S: Storage<Compute: Real>>(
    env: &dyn Env,
    x: &View<'_>,
    dims: &[u64],
    strides: &[i64],
    axes: u32,
) -> Result<Vec<[f64; 2]>, Fault> {
    let own = index_strides(dims, axes);
    let one = [strides, NONE, NONE, NONE, NONE];
    let load = |at: At, step: At, to: &mut [S::Compute]| S::load(x, at[0], step[0], to);
    let space = Space::new(dims, axes, [strides, NONE, NONE, NONE, NONE, &own]);
    if !space.is_columns() {
        let all = collect(
            env,
            dims,
            axes,
            one,
            &Moments::<S::Compute>(PhantomData),
            &load,
        )?;
        return Ok(all
            .into_iter()
            .map(|[_, mean, squares]| [mean, squares])
            .collect());
    }
    // Side by side: first the means, then the distances, which is vector code.
    let count = space.each() as f64;
    let sums = collect(
        env,
        dims,
        axes,
        one,
        &Sum::<S::Compute>::new(Term::Plain),
        &load,
    )?;
    let means: Vec<f64> = sums.into_iter().map(|s| s.to_f64() / count).collect();
    let distance = |at: At, step: At, to: &mut [f64]| {
        let mut v = [S::Compute::default(); TILE];
        let v = &mut v[..to.len()];
        S::load(x, at[0], step[0], v);
        for (i, (t, v)) in to.iter_mut().zip(v).enumerate() {
            *t = v.real() - means[(at[1] + i as isize * step[1]) as usize];
        }
    };
    let two = [strides, &own[..], NONE, NONE, NONE];
    let squares = collect(
        env,
        dims,
        axes,
        two,
        &Sum::<f64>::new(Term::Square),
        &distance,
    )?;
    Ok(means
        .into_iter()
        .zip(squares)
        .map(|(m, s)| [m, s])
        .collect())
}
