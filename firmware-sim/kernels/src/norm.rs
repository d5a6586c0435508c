//! Kernel of `vmlu_ops::norm`.

use vmlu_abi::tensor::DataType;
use vmlu_ops::norm::{Checked, Factor, Function, Norm, Statistic};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::folding::Space;
use super::math::Real;
use super::number::{with_float, Number, Storage, TILE};
use super::reduce::{groups, index_strides, moments, room, NONE};
use super::reducers::{Moments, Sum, Term};
use super::simd::multiversion;
use super::view::View;
use super::walk::{aligned, line_of, split, Pace, Walk, PART};

/// Longest group that is held in private memory, so that the input is read once.
const HELD: usize = 16 * TILE;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Norm>(body)?;
    with_float!(op.x.dtype, S => Job::<S>::open(&op, env)?.run()?);
    Ok(op.cost().into())
}

/// Mean and rstd of all groups.
type Statistics<T> = (Vec<T>, Vec<T>);

/// Floats that small operands of type F32 are read as.
pub(super) trait Mixed: Real {
    /// Loads F32.
    fn load_f32(view: &View<'_>, offset: isize, stride: isize, to: &mut [Self]);
    /// Stores F32.
    fn store_f32(view: &View<'_>, offset: isize, stride: isize, from: &[Self]);
}

impl Mixed for f32 {
    fn load_f32(view: &View<'_>, offset: isize, stride: isize, to: &mut [f32]) {
        view.load(offset, stride, to);
    }
    fn store_f32(view: &View<'_>, offset: isize, stride: isize, from: &[f32]) {
        view.store(offset, stride, from);
    }
}

impl Mixed for f64 {
    fn load_f32(view: &View<'_>, offset: isize, stride: isize, to: &mut [f64]) {
        for (i, t) in to.iter_mut().enumerate() {
            let mut v = [0.0f32];
            view.load(offset + i as isize * stride, 1, &mut v);
            *t = f64::from(v[0]);
        }
    }
    fn store_f32(view: &View<'_>, offset: isize, stride: isize, from: &[f64]) {
        for (i, f) in from.iter().enumerate() {
            view.store(offset + i as isize * stride, 1, &[*f as f32]);
        }
    }
}

/// An operand of the type of `x` or of F32.
pub(super) struct Small<'a, T> {
    view: View<'a>,
    /// Strides over the axes of `x`.
    pub(super) strides: [i64; vmlu_abi::tensor::MAX_DIMS],
    load: fn(&View<'_>, isize, isize, &mut [T]),
    store: fn(&View<'_>, isize, isize, &[T]),
}

impl<'a, T: Mixed> Small<'a, T> {
    /// Opens it; `S` is the type of `x`.
    pub(super) fn open<S: Storage<Compute = T>>(
        env: &'a dyn Env,
        index: u16,
        tensor: &Tensor,
        strides: &[i64; vmlu_abi::tensor::MAX_DIMS],
        x: DataType,
        access: Access,
    ) -> Result<Self, Fault> {
        let same = tensor.dtype == x;
        Ok(Self {
            view: View::open(env, index, tensor, access)?,
            strides: *strides,
            load: if same { S::load } else { T::load_f32 },
            store: if same { S::store } else { T::store_f32 },
        })
    }

    pub(super) fn load(&self, offset: isize, stride: isize, to: &mut [T]) {
        // At most a tile at a time.
        for (i, to) in to.chunks_mut(TILE).enumerate() {
            (self.load)(
                &self.view,
                offset + (i * TILE) as isize * stride,
                stride,
                to,
            );
        }
    }

    pub(super) fn store(&self, offset: isize, stride: isize, from: &[T]) {
        (self.store)(&self.view, offset, stride, from);
    }

    /// All elements, in row-major order of the axes of `x` that are not in a set.
    pub(super) fn gather(&self, env: &dyn Env, dims: &[u64], axes: u32) -> Result<Vec<T>, Fault> {
        let mut all = room(groups(dims, axes), T::default())?;
        each_group(env, dims, axes, &self.strides, |index, offset| {
            self.load(offset, 1, &mut all[index..=index]);
        })?;
        Ok(all)
    }

    /// Stores all elements.
    pub(super) fn scatter(
        &self,
        env: &dyn Env,
        dims: &[u64],
        axes: u32,
        value: impl Fn(usize) -> T,
    ) -> Result<(), Fault> {
        each_group(env, dims, axes, &self.strides, |index, offset| {
            self.store(offset, 1, &[value(index)]);
        })
    }
}

/// Calls `f(index, offset)` for all positions of the axes that are not in a set.
pub(super) fn each_group(
    env: &dyn Env,
    dims: &[u64],
    axes: u32,
    strides: &[i64],
    mut f: impl FnMut(usize, isize),
) -> Result<(), Fault> {
    let own = index_strides(dims, axes);
    let mut kept = dims.to_vec();
    for (i, d) in kept.iter_mut().enumerate() {
        if axes >> i & 1 != 0 {
            *d = 1;
        }
    }
    let walk = Walk::new(&kept, [&own[..], strides], 0);
    let mut pace = Pace::new(env);
    walk.rows(0..walk.total(), TILE, [0; 2], |at, step, count| {
        for i in 0..count as isize {
            f((at[0] + i * step[0]) as usize, at[1] + i * step[1]);
        }
        pace.did(count)
    })
}

struct Job<'j, S: Storage> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: View<'j>,
    out: View<'j>,
    weight: Option<Small<'j, S::Compute>>,
    bias: Option<Small<'j, S::Compute>>,
    mean: Option<Small<'j, S::Compute>>,
    rstd: Option<Small<'j, S::Compute>>,
    running: Option<[Small<'j, S::Compute>; 2]>,
}

impl<'j, S: Storage<Compute: Mixed>> Job<'j, S> {
    fn open(op: &'j Checked, env: &'j dyn Env) -> Result<Self, Fault> {
        let dtype = op.x.dtype;
        let factor = |index, f: &Option<Factor>| match f {
            Some(f) => {
                Small::open::<S>(env, index, &f.tensor, &f.strides, dtype, Access::Read).map(Some)
            }
            None => Ok(None),
        };
        let given = op.function == Function::Inference;
        let access = if given { Access::Read } else { Access::Write };
        let statistic = |index, s: &Statistic, access| {
            Small::open::<S>(env, index, &s.tensor, &s.strides, dtype, access)
        };
        let x = View::open(env, 0, &op.x, Access::Read)?;
        let (weight, bias) = (factor(1, &op.weight)?, factor(2, &op.bias)?);
        let out = View::output(env, 3, &op.out)?;
        let mean = op.mean.map(|s| statistic(4, &s, access)).transpose()?;
        let rstd = op.rstd.map(|s| statistic(5, &s, access)).transpose()?;
        let running = match &op.running {
            Some([m, v]) => Some([
                statistic(6, m, Access::Write)?,
                statistic(7, v, Access::Write)?,
            ]),
            None => None,
        };
        Ok(Self {
            op,
            env,
            x,
            out,
            weight,
            bias,
            mean,
            rstd,
            running,
        })
    }

    fn run(&self) -> Result<(), Fault> {
        let (dims, axes) = (self.op.x.dims(), self.op.axes);
        if self.op.x.elements == 0 {
            return Ok(());
        }
        let strides = [
            self.op.x.strides(),
            NONE,
            NONE,
            NONE,
            NONE,
            self.op.out.strides(),
        ];
        let space = Space::new(dims, axes, strides);
        let held = !space.is_columns() && space.each() <= HELD && self.running.is_none();
        if held && self.op.function != Function::Inference {
            return self.rows(space.each());
        }
        let (mean, rstd) = self.statistics(space.each())?;
        self.apply(&mean, &rstd)
    }

    /// Mean and rstd of all groups, also written where that is asked for.
    fn statistics(&self, count: usize) -> Result<Statistics<S::Compute>, Fault> {
        let (dims, axes) = (self.op.x.dims(), self.op.axes);
        let of = S::Compute::of;
        let inverse = |v: f64| of(1.0 / (v + self.op.eps).sqrt());
        if let (Function::Inference, Some(mean), Some(var)) =
            (self.op.function, &self.mean, &self.rstd)
        {
            let var = var.gather(self.env, dims, axes)?;
            let rstd = var.into_iter().map(|v| inverse(v.real())).collect();
            return Ok((mean.gather(self.env, dims, axes)?, rstd));
        }
        let n = count as f64;
        let (mean, var): (Vec<f64>, Vec<f64>) = if self.op.function == Function::Rms {
            let load = |at: super::folding::At, step: super::folding::At, to: &mut [S::Compute]| {
                S::load(&self.x, at[0], step[0], to);
            };
            let one = [self.op.x.strides(), NONE, NONE, NONE, NONE];
            let sums = super::reduce::collect(
                self.env,
                dims,
                axes,
                one,
                &Sum::<S::Compute>::new(Term::Square),
                &load,
            )?;
            sums.into_iter().map(|s| (0.0, s.to_f64() / n)).unzip()
        } else {
            let all = moments::<S>(self.env, &self.x, dims, self.op.x.strides(), axes)?;
            all.into_iter().map(|[m, s]| (m, s / n)).unzip()
        };
        if let Some([running_mean, running_var]) = &self.running {
            let step =
                |old: S::Compute, new: f64| of(old.real() + self.op.momentum * (new - old.real()));
            let old = running_mean.gather(self.env, dims, axes)?;
            running_mean.scatter(self.env, dims, axes, |i| step(old[i], mean[i]))?;
            let old = running_var.gather(self.env, dims, axes)?;
            let unbiased = n / (n - 1.0);
            running_var.scatter(self.env, dims, axes, |i| step(old[i], var[i] * unbiased))?;
        }
        let rstd: Vec<S::Compute> = var.iter().map(|v| inverse(*v)).collect();
        let mean: Vec<S::Compute> = mean.into_iter().map(of).collect();
        if let Some(m) = &self.mean {
            m.scatter(self.env, dims, axes, |i| mean[i])?;
        }
        if let Some(r) = &self.rstd {
            r.scatter(self.env, dims, axes, |i| rstd[i])?;
        }
        Ok((mean, rstd))
    }

    /// The result, from mean and rstd of all groups.
    fn apply(&self, mean: &[S::Compute], rstd: &[S::Compute]) -> Result<(), Fault> {
        type Buffers<T> = [[T; TILE]; 5];
        let own = index_strides(self.op.x.dims(), self.op.axes);
        let (w, b) = (
            self.weight.as_ref().map_or(NONE, |s| &s.strides[..]),
            self.bias.as_ref().map_or(NONE, |s| &s.strides[..]),
        );
        let strides = [self.op.x.strides(), w, b, &own[..], self.op.out.strides()];
        let walk = Walk::new(self.op.x.dims(), strides, 4);
        let buffers = || -> Buffers<S::Compute> { [[S::Compute::default(); TILE]; 5] };
        walk.tiles(self.env, buffers, |[x, w, b, m, r], tile| {
            let n = tile.count;
            tile.load::<S>(0, &self.x, &mut x[..n]);
            let mut at = 0;
            for (offsets, n) in tile.pieces {
                let part = at..at + n;
                fill_factor(
                    &self.weight,
                    offsets[1],
                    tile.strides[1],
                    &mut w[part.clone()],
                    S::Compute::ONE,
                );
                fill_factor(
                    &self.bias,
                    offsets[2],
                    tile.strides[2],
                    &mut b[part.clone()],
                    S::Compute::default(),
                );
                pick(mean, offsets[3], tile.strides[3], &mut m[part.clone()]);
                pick(rstd, offsets[3], tile.strides[3], &mut r[part]);
                at += n;
            }
            normalise(&mut x[..n], &m[..n], &r[..n], &w[..n], &b[..n]);
            tile.store::<S>(4, &self.out, &x[..n]);
        })
    }

    /// Short groups: each is read once, held, and written.
    fn rows(&self, count: usize) -> Result<(), Fault> {
        let (dims, axes) = (self.op.x.dims(), self.op.axes);
        let (mut kept, mut inner) = (dims.to_vec(), dims.to_vec());
        for (i, (k, f)) in kept.iter_mut().zip(&mut inner).enumerate() {
            *(if axes >> i & 1 != 0 { k } else { f }) = 1;
        }
        let small = |s: &Option<Small<'j, S::Compute>>| s.as_ref().map_or([0; 8], |s| s.strides);
        let (w, b, m, r) = (
            small(&self.weight),
            small(&self.bias),
            small(&self.mean),
            small(&self.rstd),
        );
        let x = self.op.x.strides();
        let out = self.op.out.strides();
        let kept = Walk::new(&kept, [x, out, &w, &b, &m, &r], 1);
        let inner = Walk::new(&inner, [x, out, &w, &b], 0);
        // Factors that are the same for all groups are loaded once.
        let same =
            |s: &[i64; 8]| (0..dims.len()).all(|i| axes >> i & 1 != 0 || dims[i] <= 1 || s[i] == 0);
        let shared = same(&w) && same(&b);
        let grain = (32 * TILE / count.max(1)).max(1);
        let zero = S::Compute::default();
        let from = self.x.fetched_by_hand();
        let fetches = inner.inner_strides()[0] == 1 && from.is_large();
        let part = if fetches { PART } else { count };
        split(self.env, kept.total(), grain, |range| {
            let room = count + line_of::<S::Compute>();
            let (mut held, mut weight, mut bias) = (
                vec![zero; room],
                vec![S::Compute::ONE; room],
                vec![zero; room],
            );
            let held = aligned(&mut held);
            let (weight, bias) = (aligned(&mut weight), aligned(&mut bias));
            let mut loaded = false;
            let mut pace = Pace::new(self.env);
            kept.rows(range, 1, [0; 6], |at, _, _| {
                let mut done = 0;
                let base = [at[0], at[1], at[2], at[3]];
                let load = !loaded || !shared;
                inner.rows(0..count, TILE, base, |at, step, n| {
                    let part = done..done + n;
                    S::load(&from, at[0], step[0], &mut held[part.clone()]);
                    if load {
                        fill_factor(
                            &self.weight,
                            at[2],
                            step[2],
                            &mut weight[part.clone()],
                            S::Compute::ONE,
                        );
                        fill_factor(&self.bias, at[3], step[3], &mut bias[part], zero);
                    }
                    done += n;
                    pace.did(n)
                })?;
                loaded = true;
                let (mean, var) = self.row_statistics(held);
                let rstd = S::Compute::of(1.0 / (var + self.op.eps).sqrt());
                let mean = S::Compute::of(mean);
                if let Some(m) = &self.mean {
                    m.store(at[4], 1, &[mean]);
                }
                if let Some(r) = &self.rstd {
                    r.store(at[5], 1, &[rstd]);
                }
                let factors = weight.chunks(part).zip(bias.chunks(part));
                for (i, (held, (weight, bias))) in held.chunks_mut(part).zip(factors).enumerate() {
                    // Of the next group, if it follows.
                    if fetches {
                        let start = count + i * part;
                        from.fetch::<S::Raw>(base[0] + start as isize, held.len());
                    }
                    normalise_row(held, mean, rstd, weight, bias);
                }
                let mut done = 0;
                inner.rows(0..count, TILE, base, |at, step, n| {
                    S::store(&self.out, at[1], step[1], &held[done..done + n]);
                    done += n;
                    pace.did(n)
                })
            })
        })
    }

    /// Mean and variance of one group.
    fn row_statistics(&self, held: &[S::Compute]) -> (f64, f64) {
        use super::folding::Reducer;
        let count = held.len() as f64;
        if self.op.function == Function::Rms {
            let mut sum = <S::Compute as Number>::Sum::default();
            Sum::<S::Compute>::new(Term::Square).tile(&mut sum, held);
            return (0.0, sum.to_f64() / count);
        }
        let mut moments = [0.0; 3];
        Moments::<S::Compute>(std::marker::PhantomData).tile(&mut moments, held);
        (moments[1], moments[2] / count)
    }
}

/// Loads a weight or bias, or fills in what stands for its absence.
pub(super) fn fill_factor<T: Mixed>(
    small: &Option<Small<'_, T>>,
    offset: isize,
    stride: isize,
    to: &mut [T],
    absent: T,
) {
    match small {
        Some(s) => s.load(offset, stride, to),
        None => to.fill(absent),
    }
}

/// Elements `offset`, `offset + stride`, … of private memory.
pub(super) fn pick<T: Copy>(from: &[T], offset: isize, stride: isize, to: &mut [T]) {
    match stride {
        0 => to.fill(from[offset as usize]),
        1 => to.copy_from_slice(&from[offset as usize..][..to.len()]),
        _ => {
            for (i, t) in to.iter_mut().enumerate() {
                *t = from[(offset + i as isize * stride) as usize];
            }
        }
    }
}

multiversion! {
    fn normalise<T: Real>(x: &mut [T], mean: &[T], rstd: &[T], weight: &[T], bias: &[T]) {
        for ((((x, m), r), w), b) in x.iter_mut().zip(mean).zip(rstd).zip(weight).zip(bias) {
            *x = x.sub(*m).mul_add(r.mul(*w), *b);
        }
    }

    fn normalise_row<T: Real>(x: &mut [T], mean: T, rstd: T, weight: &[T], bias: &[T]) {
        for ((x, w), b) in x.iter_mut().zip(weight).zip(bias) {
            *x = x.sub(mean).mul_add(rstd.mul(*w), *b);
        }
    }
}
