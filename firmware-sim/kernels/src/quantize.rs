//! Kernel of `vmlu_ops::quantize`, and what all kernels know of quantised tensors.

use half::{bf16, f16};
use vmlu_abi::tensor::{DataType, MAX_DIMS};
use vmlu_ops::quant::{range, Quant};
use vmlu_ops::quantize::{Checked, Quantize};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::number::{Storage, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Quantize>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    let from = Tables::open(env, 0, &op.x, op.from.as_ref())?;
    let to = Tables::open(env, 1, &op.out, op.to.as_ref())?;
    let job = Job {
        op: &op,
        env,
        views: [&x, &out],
        tables: [from.as_ref(), to.as_ref()],
    };
    job.from()?;
    Ok(op.cost().into())
}

/// Scales and offsets of a tensor, spread over its axes.
struct Tables<'a> {
    /// `None` for one of all.
    scales: Option<View<'a>>,
    offsets: Option<View<'a>>,
    /// Those of all.
    whole: (f32, i32),
    /// Strides of the tables.
    strides: [i64; MAX_DIMS],
}

impl<'a> Tables<'a> {
    fn open(
        env: &'a dyn Env,
        index: u16,
        tensor: &Tensor,
        quant: Option<&Quant>,
    ) -> Result<Option<Self>, Fault> {
        let mut tables = Self {
            scales: None,
            offsets: None,
            whole: (1.0, 0),
            strides: [0; MAX_DIMS],
        };
        match quant {
            None => return Ok(None),
            Some(Quant::Tensor { scale, offset }) => tables.whole = (*scale, *offset),
            Some(Quant::Channels {
                axis,
                scales,
                offsets,
            }) => {
                debug_assert!(*axis < tensor.rank());
                tables.strides[*axis] = 1;
                tables.scales = Some(View::open(env, index, scales, Access::Read)?);
                if let Some(offsets) = offsets {
                    tables.offsets = Some(View::open(env, index, offsets, Access::Read)?);
                }
            }
        }
        Ok(Some(tables))
    }

    /// Scales and offsets of a row.
    fn load(&self, at: isize, stride: isize, scales: &mut [f32], offsets: &mut [i32]) {
        match &self.scales {
            Some(view) => view.load(at, stride, scales),
            None => scales.fill(self.whole.0),
        }
        match &self.offsets {
            Some(view) => view.load(at, stride, offsets),
            None => offsets.fill(self.whole.1),
        }
    }
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'a dyn Env,
    views: [&'j View<'a>; 2],
    tables: [Option<&'j Tables<'a>>; 2],
}

impl Job<'_, '_> {
    /// By the type of `x`.
    fn from(&self) -> Result<(), Fault> {
        match self.op.x.dtype {
            DataType::I8 => self.to(&widen::<i8>),
            DataType::U8 => self.to(&widen::<u8>),
            DataType::I16 => self.to(&widen::<i16>),
            DataType::F16 => self.to(&f16::load),
            DataType::Bf16 => self.to(&bf16::load),
            _ => self.to(&f32::load),
        }
    }

    /// By the type of `out`.
    fn to(&self, load: &Load<'_>) -> Result<(), Fault> {
        match self.op.out.dtype {
            DataType::F16 => self.all(load, &f16::store),
            DataType::Bf16 => self.all(load, &bf16::store),
            DataType::F32 => self.all(load, &f32::store),
            dtype => self.all(load, &|view: &View<'_>, at, stride, from: &[f32]| {
                store_whole(dtype, view, at, stride, from)
            }),
        }
    }

    fn all(&self, load: &Load<'_>, store: &Store<'_>) -> Result<(), Fault> {
        let [from, to] = self.tables;
        let none = [0; MAX_DIMS];
        let strides = [
            self.op.x.strides(),
            self.op.out.strides(),
            from.map_or(&none[..], |t| &t.strides),
            to.map_or(&none[..], |t| &t.strides),
        ];
        let walk = Walk::new(self.op.out.dims(), strides, 1);
        let (least, most) = range(self.op.out.dtype);
        walk.each(self.env, |at, stride, count| {
            let mut values = [0f32; TILE];
            let (mut scales, mut offsets) = ([0f32; TILE], [0i32; TILE]);
            let values = &mut values[..count];
            let (scales, offsets) = (&mut scales[..count], &mut offsets[..count]);
            load(self.views[0], at[0], stride[0], values);
            if let Some(tables) = from {
                tables.load(at[2], stride[2], scales, offsets);
                to_numbers(values, scales, offsets);
            }
            if let Some(tables) = to {
                tables.load(at[3], stride[3], scales, offsets);
                to_whole(values, scales, offsets, (least, most));
            }
            store(self.views[1], at[1], stride[1], values);
        })
    }
}

/// Loads a row as f32.
type Load<'l> = dyn Fn(&View<'_>, isize, isize, &mut [f32]) + Sync + 'l;
/// Stores a row of f32.
type Store<'s> = dyn Fn(&View<'_>, isize, isize, &[f32]) + Sync + 's;

/// Loads small integers as f32.
fn widen<T: vmlu_abi::Wire + Default + Into<f32>>(
    view: &View<'_>,
    at: isize,
    stride: isize,
    to: &mut [f32],
) {
    let mut raw = [T::default(); TILE];
    let raw = &mut raw[..to.len()];
    view.load(at, stride, raw);
    for (t, r) in to.iter_mut().zip(raw) {
        *t = (*r).into();
    }
}

/// Stores whole numbers of a quantised type, which they fit.
pub(super) fn store_whole(
    dtype: DataType,
    view: &View<'_>,
    at: isize,
    stride: isize,
    from: &[f32],
) {
    match dtype {
        DataType::I16 => {
            let mut raw = [0i16; TILE];
            let raw = &mut raw[..from.len()];
            raw.iter_mut().zip(from).for_each(|(r, f)| *r = *f as i16);
            view.store(at, stride, raw);
        }
        _ => {
            // The low byte serves both.
            let mut raw = [0u8; TILE];
            let raw = &mut raw[..from.len()];
            narrow_bytes(from, raw);
            view.store(at, stride, raw);
        }
    }
}

multiversion! {
    fn narrow_bytes(from: &[f32], to: &mut [u8]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = (*f as i32) as u8;
        }
    }

    /// Integers to what they stand for.
    fn to_numbers(values: &mut [f32], scales: &[f32], offsets: &[i32]) {
        for ((v, s), o) in values.iter_mut().zip(scales).zip(offsets) {
            *v = s * (*v - *o as f32);
        }
    }

    /// Numbers to the integers that stand for them.
    fn to_whole(values: &mut [f32], scales: &[f32], offsets: &[i32], range: (i32, i32)) {
        for ((v, s), o) in values.iter_mut().zip(scales).zip(offsets) {
            *v = whole(*v, *s, *o as f32, range.0 as f32, range.1 as f32);
        }
    }

    /// The same with one scale and offset.
    pub(super) fn all_to_whole(values: &mut [f32], scale: f32, offset: i32, range: (i32, i32)) {
        for v in values {
            *v = whole(*v, scale, offset as f32, range.0 as f32, range.1 as f32);
        }
    }
}

/// The integer that stands for a number.
#[inline(always)]
fn whole(value: f32, scale: f32, offset: f32, least: f32, most: f32) -> f32 {
    let value = if value.is_nan() { 0.0 } else { value };
    let rounded = (value / scale).round_ties_even() + offset;
    // A scale of a table may be anything.
    if rounded.is_nan() {
        offset.clamp(least, most)
    } else {
        rounded.clamp(least, most)
    }
}
