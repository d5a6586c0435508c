//! What products do with their sums before they store them: `activation(alpha · sum + beta · old + bias)`.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::matmul::{Activation, Quantised};
use vmlu_ops::quant::range;

use super::env::{Access, Env, Fault};
use super::gemm::Sink;
use super::math::Real;
use super::number::{Number, Storage, TILE};
use super::quantize::{all_to_whole, store_whole};
use super::simd::multiversion;
use super::view::View;

/// Elements of a result that lie in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Elements.
    pub count: usize,
    /// Offset and stride in the result.
    pub out: (isize, isize),
    /// Offset and stride in the bias.
    pub bias: (isize, isize),
}

/// Where the elements of a result lie.
pub(super) trait Place: Sync {
    /// Calls `run` for `count` elements of a row from a column on.
    fn runs(&self, row: usize, column: usize, count: usize, run: &mut dyn FnMut(Run));
}

/// A result with one stride a side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    /// Offset and strides of rows and columns in the result.
    pub out: (isize, isize, isize),
    /// The same of the bias.
    pub bias: (isize, isize, isize),
}

impl Place for Plane {
    fn runs(&self, row: usize, column: usize, count: usize, run: &mut dyn FnMut(Run)) {
        let at = |(offset, rows, columns): (isize, isize, isize)| {
            (
                offset + row as isize * rows + column as isize * columns,
                columns,
            )
        };
        run(Run {
            count,
            out: at(self.out),
            bias: at(self.bias),
        });
    }
}

/// A type in which sums are finished.
pub(super) trait Finished: Number {
    /// Applies an activation.
    fn activate(activation: Activation, values: &mut [Self]);
}

macro_rules! float_finished {
    ($($t:ty),*) => { $(
        impl Finished for $t {
            fn activate(activation: Activation, values: &mut [Self]) {
                let each = |values: &mut [$t], f: fn($t) -> $t| values.iter_mut().for_each(|v| *v = f(*v));
                match activation {
                    Activation::None => {}
                    Activation::Relu => each(values, |v| if v < 0.0 { 0.0 } else { v }),
                    Activation::Relu6 => each(values, |v| if v < 0.0 { 0.0 } else if v > 6.0 { 6.0 } else { v }),
                    Activation::Tanh => each(values, Real::tanh),
                    Activation::Sigmoid => logistic(values, |_, s| s),
                    Activation::Silu => logistic(values, |x, s| x * s),
                    Activation::Gelu => each(values, |v| {
                        0.5 * v * (1.0 + Real::erf(v * std::f64::consts::FRAC_1_SQRT_2 as $t))
                    }),
                    Activation::GeluTanh => each(values, |v| {
                        let inner = (std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2) as $t * (v + 0.044715 as $t * v * v * v);
                        0.5 * v * (1.0 + Real::tanh(inner))
                    }),
                }
            }
        }
    )* };
}
float_finished!(f32, f64);

/// `f(x, 1 / (1 + e⁻ˣ))` of each element.
fn logistic<T: Real>(values: &mut [T], f: impl Fn(T, T) -> T) {
    let mut powers = [T::default(); TILE];
    for values in values.chunks_mut(TILE) {
        let powers = &mut powers[..values.len()];
        for (p, v) in powers.iter_mut().zip(values.iter()) {
            *p = v.neg();
        }
        T::exp_all(powers);
        for (p, v) in powers.iter().zip(values) {
            *v = f(*v, T::ONE.div(T::ONE.add(*p)));
        }
    }
}

macro_rules! whole_finished {
    ($($t:ty),*) => { $(
        impl Finished for $t {
            fn activate(activation: Activation, values: &mut [Self]) {
                // The rules allow no others.
                if activation == Activation::Relu {
                    values.iter_mut().for_each(|v| *v = Ord::max(*v, 0));
                }
            }
        }
    )* };
}
whole_finished!(i32, i64);

/// A type of results, narrowed a row at a time.
pub(super) trait Narrow: Storage<Compute: Finished> {
    /// Narrows a row.
    fn narrow_all(from: &[Self::Compute], to: &mut [Self::Raw]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = Self::narrow(*f);
        }
    }
}

impl Narrow for f32 {}
impl Narrow for f64 {}
impl Narrow for i32 {}
impl Narrow for i64 {}

impl Narrow for f16 {
    fn narrow_all(from: &[f32], to: &mut [u16]) {
        use half::slice::HalfBitsSliceExt;
        to.reinterpret_cast_mut::<f16>()
            .convert_from_f32_slice(from);
    }
}

impl Narrow for bf16 {
    fn narrow_all(from: &[f32], to: &mut [u16]) {
        to_bf16(from, to);
    }
}

multiversion! {
    /// Rounds to bf16, halves to even; unlike the processor's instruction, with denormal numbers.
    pub(super) fn to_bf16(from: &[f32], to: &mut [u16]) {
        for (t, f) in to.iter_mut().zip(from) {
            let bits = f.to_bits();
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            let nan = (bits >> 16) | 0x40;
            *t = if bits & 0x7fff_ffff > 0x7f80_0000 { nan as u16 } else { rounded as u16 };
        }
    }

    fn scaled(sums: &[i32], by: f32, to: &mut [f32]) {
        for (t, s) in to.iter_mut().zip(sums) {
            *t = *s as f32 * by;
        }
    }

    fn scaled_each(sums: &[i32], by: &[f32], to: &mut [f32]) {
        for ((t, s), b) in to.iter_mut().zip(sums).zip(by) {
            *t = *s as f32 * b;
        }
    }

    fn scale<T: Number>(values: &mut [T], by: T) {
        values.iter_mut().for_each(|v| *v = v.mul(by));
    }

    fn add_scaled<T: Number>(values: &mut [T], other: &[T], by: T) {
        for (v, o) in values.iter_mut().zip(other) {
            *v = v.add(o.mul(by));
        }
    }

    fn add<T: Number>(values: &mut [T], other: &[T]) {
        for (v, o) in values.iter_mut().zip(other) {
            *v = v.add(*o);
        }
    }
}

/// Finishes sums of `O`'s type of computation and stores them.
pub(super) struct Finish<'f, 'a, P> {
    /// Factor of the sums.
    pub alpha: f64,
    /// Factor of the old result, which is not read if it is 0.
    pub beta: f64,
    /// Applied last.
    pub activation: Activation,
    /// The result's memory.
    pub out: &'f View<'a>,
    /// The bias's memory.
    pub bias: Option<&'f View<'a>>,
    /// Where what lies.
    pub place: P,
}

impl<P: Place> Finish<'_, '_, P> {
    /// Finishes some columns of a row.
    pub fn finish<O: Narrow>(&self, row: usize, column: usize, sums: &mut [O::Compute]) {
        let mut done = 0;
        self.place.runs(row, column, sums.len(), &mut |run| {
            for (t, tile) in sums[done..done + run.count].chunks_mut(TILE).enumerate() {
                let from = (t * TILE) as isize;
                let at = |(offset, stride): (isize, isize)| (offset + from * stride, stride);
                // Short runs with short buffers.
                match tile.len() {
                    0..=32 => self.tile::<O, 32>(tile, at(run.out), at(run.bias)),
                    _ => self.tile::<O, TILE>(tile, at(run.out), at(run.bias)),
                }
            }
            done += run.count;
        });
    }

    /// Finishes some columns of a row and gives them to `store`, with offset and stride in the result. The old result is not read.
    pub fn finish_with(
        &self,
        row: usize,
        column: usize,
        sums: &mut [f32],
        store: impl Fn(&View<'_>, isize, isize, &mut [f32]),
    ) {
        let mut done = 0;
        self.place.runs(row, column, sums.len(), &mut |run| {
            for (t, tile) in sums[done..done + run.count].chunks_mut(TILE).enumerate() {
                let from = (t * TILE) as isize;
                if self.alpha != 1.0 {
                    scale(tile, self.alpha as f32);
                }
                if let Some(view) = self.bias {
                    let mut other = [0f32; TILE];
                    let other = &mut other[..tile.len()];
                    view.load(run.bias.0 + from * run.bias.1, run.bias.1, other);
                    add(tile, other);
                }
                f32::activate(self.activation, tile);
                store(self.out, run.out.0 + from * run.out.1, run.out.1, tile);
            }
            done += run.count;
        });
    }

    fn tile<O: Narrow, const MOST: usize>(
        &self,
        sums: &mut [O::Compute],
        out: (isize, isize),
        bias: (isize, isize),
    ) {
        let mut other = [O::Compute::default(); MOST];
        let other = &mut other[..sums.len()];
        if self.alpha != 1.0 {
            scale(sums, O::Compute::from_scalar(self.alpha));
        }
        if self.beta != 0.0 {
            O::load(self.out, out.0, out.1, other);
            add_scaled(sums, other, O::Compute::from_scalar(self.beta));
        }
        if let Some(view) = self.bias {
            O::load(view, bias.0, bias.1, other);
            add(sums, other);
        }
        O::Compute::activate(self.activation, sums);
        let mut raw = [O::Raw::default(); MOST];
        let raw = &mut raw[..sums.len()];
        O::narrow_all(sums, raw);
        self.out.store(out.0, out.1, raw);
    }
}

/// A [`Finish`] as the sink of sums of `O`'s type of computation.
pub(super) struct Store<'f, 'a, P, O>(
    pub Finish<'f, 'a, P>,
    pub std::marker::PhantomData<fn() -> O>,
);

impl<P: Place, O: Narrow> Sink<O::Compute> for Store<'_, '_, P, O> {
    fn store(
        &self,
        row: usize,
        column: usize,
        sums: &mut [O::Compute],
        _: &[O::Compute],
        _: O::Compute,
    ) {
        self.0.finish::<O>(row, column, sums);
    }
}

/// Sums of shifted bytes, put right: `Σ (x - a)(y - b) = Σ x y - a Σ y - b Σ x + depth · a · b`, wrapping.
pub(super) struct Shifted<'f, 'a, P> {
    /// Where they go.
    pub finish: Finish<'f, 'a, P>,
    /// What is to be subtracted from each element of `a`.
    pub zero_a: i32,
    /// What is to be subtracted from each element of `b`.
    pub zero_b: i32,
    /// Elements of depth.
    pub depth: usize,
}

impl<P> Shifted<'_, '_, P> {
    /// Puts sums of a row right.
    fn correct(&self, sums: &mut [i32], columns: &[i32], of_row: i32) {
        let (a, b) = (self.zero_a, self.zero_b);
        if a != 0 {
            for (s, c) in sums.iter_mut().zip(columns) {
                *s = s.wrapping_sub(c.wrapping_mul(a));
            }
        }
        if b != 0 {
            let both = (self.depth as i32).wrapping_mul(a).wrapping_mul(b);
            let less = of_row.wrapping_mul(b).wrapping_sub(both);
            sums.iter_mut().for_each(|s| *s = s.wrapping_sub(less));
        }
    }
}

impl<P: Place> Sink<i32> for Shifted<'_, '_, P> {
    fn store(&self, row: usize, column: usize, sums: &mut [i32], columns: &[i32], of_row: i32) {
        self.correct(sums, columns, of_row);
        self.finish.finish::<i32>(row, column, sums);
    }
}

/// What the sums of a quantised product stand for.
pub(super) struct Factors {
    /// Product of the operands' scales: of each channel of the result, or of all.
    scales: Vec<f32>,
    /// Scale and offset of the result, and its type.
    out: Option<(f32, i32)>,
    dtype: DataType,
}

impl Factors {
    /// Reads the scales of a checked product, `channels` of them at most; `index` is the operand that they belong to.
    pub fn read(
        env: &dyn Env,
        index: u16,
        quantised: &Quantised,
        dtype: DataType,
    ) -> Result<Self, Fault> {
        let mut scales = vec![quantised.b.0];
        if let Some(table) = &quantised.channels {
            scales.resize(table.elements as usize, 0.0);
            View::open(env, index, table, Access::Read)?.load(0, 1, &mut scales);
        }
        scales.iter_mut().for_each(|s| *s *= quantised.a.0);
        Ok(Self {
            scales,
            out: quantised.out,
            dtype,
        })
    }
}

/// The sink of a quantised product.
pub(super) struct Quantising<'f, 'a, P> {
    /// The sums put right, and what follows.
    pub shifted: Shifted<'f, 'a, P>,
    /// What they stand for.
    pub factors: &'f Factors,
    /// Whether columns are the channels of the result, not rows.
    pub columns: bool,
    /// The first channel.
    pub first: usize,
}

impl<P: Place> Sink<i32> for Quantising<'_, '_, P> {
    fn store(&self, row: usize, column: usize, sums: &mut [i32], columns: &[i32], of_row: i32) {
        self.shifted.correct(sums, columns, of_row);
        let (factors, finish) = (self.factors, &self.shifted.finish);
        let scales = &factors.scales;
        let mut values = [0f32; TILE];
        for (t, sums) in sums.chunks(TILE).enumerate() {
            let column = column + t * TILE;
            let values = &mut values[..sums.len()];
            match (scales.len(), self.columns) {
                (1, _) => scaled(sums, scales[0], values),
                (_, false) => scaled(sums, scales[self.first + row], values),
                _ => scaled_each(sums, &scales[self.first + column..], values),
            }
            match (factors.out, factors.dtype) {
                (Some((scale, offset)), dtype) => {
                    finish.finish_with(row, column, values, |view, at, stride, values| {
                        all_to_whole(values, scale, offset, range(dtype));
                        store_whole(dtype, view, at, stride, values);
                    })
                }
                (None, DataType::F16) => finish.finish::<f16>(row, column, values),
                (None, DataType::Bf16) => finish.finish::<bf16>(row, column, values),
                (None, _) => finish.finish::<f32>(row, column, values),
            }
        }
    }
}

/// Whole sums in f64, exact, to i64.
pub(super) struct Whole<'f, 'a, P>(pub Finish<'f, 'a, P>);

impl<P: Place> Sink<f64> for Whole<'_, '_, P> {
    fn store(&self, row: usize, column: usize, sums: &mut [f64], _: &[f64], _: f64) {
        let mut whole = [0i64; TILE];
        for (t, sums) in sums.chunks(TILE).enumerate() {
            let whole = &mut whole[..sums.len()];
            for (w, s) in whole.iter_mut().zip(sums) {
                *w = *s as i64;
            }
            self.0.finish::<i64>(row, column + t * TILE, whole);
        }
    }
}
