//! Kernel of `vmlu_ops::cast`.

use half::{bf16, f16};
use vmlu_ops::cast::{Cast, Checked};
use vmlu_ops::tensor::is_float;

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Storage, Truth, TILE};
use super::view::View;
use super::walk::Walk;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Cast>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::open(env, 1, &op.out, Access::Write)?;
    if is_float(op.x.dtype) {
        let read = with_storage!(op.x.dtype, S => read_real::<S> as Read<f64>);
        let write = with_storage!(op.out.dtype, S => write_real::<S> as Write<f64>);
        convert(&op, env, &x, &out, read, write)?;
    } else {
        let read = with_storage!(op.x.dtype, S => read_whole::<S> as Read<i128>);
        let write = with_storage!(op.out.dtype, S => write_whole::<S> as Write<i128>);
        convert(&op, env, &x, &out, read, write)?;
    }
    Ok(op.cost().into())
}

type Read<W> = fn(&View<'_>, isize, isize, &mut [W]);
type Write<W> = fn(&View<'_>, isize, isize, &[W]);

/// Through a type that holds every value of the source.
fn convert<W: Copy + Default>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    read: Read<W>,
    write: Write<W>,
) -> Result<(), Fault> {
    let strides = [&op.strides[..], op.out.strides()];
    Walk::new(op.out.dims(), strides, 1).each(env, |at, step, count| {
        let mut wide = [W::default(); TILE];
        let wide = &mut wide[..count];
        read(x, at[0], step[0], wide);
        write(out, at[1], step[1], wide);
    })
}

fn read_real<S: Convert>(view: &View<'_>, offset: isize, stride: isize, to: &mut [f64]) {
    let mut v = [S::Compute::default(); TILE];
    let v = &mut v[..to.len()];
    S::load(view, offset, stride, v);
    for (t, v) in to.iter_mut().zip(v) {
        *t = S::real(*v);
    }
}

fn read_whole<S: Convert>(view: &View<'_>, offset: isize, stride: isize, to: &mut [i128]) {
    let mut v = [S::Compute::default(); TILE];
    let v = &mut v[..to.len()];
    S::load(view, offset, stride, v);
    for (t, v) in to.iter_mut().zip(v) {
        *t = S::whole(*v);
    }
}

fn write_real<S: Convert>(view: &View<'_>, offset: isize, stride: isize, from: &[f64]) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    for (r, f) in raw.iter_mut().zip(from) {
        *r = S::from_real(*f);
    }
    view.store(offset, stride, raw);
}

fn write_whole<S: Convert>(view: &View<'_>, offset: isize, stride: isize, from: &[i128]) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    for (r, f) in raw.iter_mut().zip(from) {
        *r = S::from_whole(*f);
    }
    view.store(offset, stride, raw);
}

/// Conversions by way of f64 and i128, each rounding at most once.
trait Convert: Storage {
    fn real(value: Self::Compute) -> f64;
    fn whole(value: Self::Compute) -> i128;
    fn from_real(value: f64) -> Self::Raw;
    fn from_whole(value: i128) -> Self::Raw;
}

macro_rules! plain {
    ($($t:ty),*) => { $(
        impl Convert for $t {
            fn real(value: $t) -> f64 { value as f64 }
            fn whole(value: $t) -> i128 { value as i128 }
            fn from_real(value: f64) -> $t { value as $t }
            fn from_whole(value: i128) -> $t { value as $t }
        }
    )* };
}
plain!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! narrow {
    ($($t:ty),*) => { $(
        impl Convert for $t {
            fn real(value: f32) -> f64 { f64::from(value) }
            fn whole(value: f32) -> i128 { value as i128 }
            fn from_real(value: f64) -> u16 { <$t>::from_f32(narrow_to_odd(value)).to_bits() }
            fn from_whole(value: i128) -> u16 { Self::from_real(whole_to_odd(value)) }
        }
    )* };
}
narrow!(f16, bf16);

impl Convert for Truth {
    fn real(value: u8) -> f64 {
        f64::from(value)
    }
    fn whole(value: u8) -> i128 {
        i128::from(value)
    }
    fn from_real(value: f64) -> u8 {
        u8::from(value != 0.0)
    }
    fn from_whole(value: i128) -> u8 {
        u8::from(value != 0)
    }
}

/// A 65-bit integer as f64, lost bits kept as an odd last bit, so that rounding the result further equals rounding once.
fn whole_to_odd(value: i128) -> f64 {
    if value.unsigned_abs() < 1 << 53 {
        return value as f64;
    }
    ((value >> 12) | i128::from(value & 0xfff != 0)) as f64 * 4096.0
}

/// An f64 as f32, lost bits kept in the same way.
fn narrow_to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || value.is_nan() {
        return near;
    }
    let away = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(away)) | 1)
}
