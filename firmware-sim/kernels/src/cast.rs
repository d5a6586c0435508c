//! Kernel of `vmlu_ops::cast`.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::cast::{Cast, Checked, Rounding};
use vmlu_ops::tensor::is_float;

use super::cast_int4;
use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Storage, Truth, TILE};
use super::simd::multiversion;
use super::view::View;
use super::walk::{Tile, Walk};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Cast>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let out = View::output(env, 1, &op.out)?;
    if op.packed.iter().any(Option::is_some) {
        cast_int4::run(&op, env, &x, &out)?;
        return Ok(op.cost().into());
    }
    let (from, to) = (op.x.dtype, op.out.dtype);
    let short = |t| matches!(t, DataType::F32 | DataType::F16 | DataType::Bf16);
    let nearest = matches!(op.rounding, Rounding::Default | Rounding::NearestEven);
    if short(from) && short(to) && (nearest || to == DataType::F32) {
        through_f32(&op, env, &x, &out)?;
    } else if is_float(from) || (from.size() <= 4 && is_float(to)) {
        let read = with_storage!(from, S => read_real::<S> as Read<f64>);
        let write = with_storage!(to, S => write_real::<S> as Write<f64>);
        convert(&op, env, &x, &out, read, write)?;
    } else if is_float(to) {
        let read = with_storage!(from, S => read_whole::<S> as Read<i128>);
        let write = with_storage!(to, S => write_whole::<S> as Write<i128>);
        convert(&op, env, &x, &out, read, write)?;
    } else {
        // The low bits, which a wrapping i64 keeps.
        let read = with_storage!(from, S => read_bits::<S> as Read<i64>);
        let write = with_storage!(to, S => write_bits::<S> as Write<i64>);
        convert(&op, env, &x, &out, read, write)?;
    }
    Ok(op.cost().into())
}

type Read<W> = fn(&Tile<'_, 2>, &View<'_>, &mut [W]);
type Write<W> = fn(&Tile<'_, 2>, &View<'_>, &[W], Rounding);

fn walk(op: &Checked) -> Walk<2> {
    Walk::new(op.out.dims(), [&op.strides[..], op.out.strides()], 1)
}

/// Between f32 and the 16-bit floats, to nearest.
fn through_f32(op: &Checked, env: &dyn Env, x: &View<'_>, out: &View<'_>) -> Result<(), Fault> {
    walk(op).tiles(
        env,
        || [0.0; TILE],
        |v, tile| {
            let v = &mut v[..tile.count];
            match op.x.dtype {
                DataType::F16 => tile.load::<f16>(0, x, v),
                DataType::Bf16 => tile.load::<bf16>(0, x, v),
                _ => tile.load::<f32>(0, x, v),
            }
            match op.out.dtype {
                DataType::F16 => tile.store::<f16>(1, out, v),
                DataType::Bf16 => tile.store::<bf16>(1, out, v),
                _ => tile.store::<f32>(1, out, v),
            }
        },
    )
}

/// Through a type that holds every value of the source.
fn convert<W: Copy + Default>(
    op: &Checked,
    env: &dyn Env,
    x: &View<'_>,
    out: &View<'_>,
    read: Read<W>,
    write: Write<W>,
) -> Result<(), Fault> {
    walk(op).tiles(
        env,
        || [W::default(); TILE],
        |wide, tile| {
            let wide = &mut wide[..tile.count];
            read(tile, x, wide);
            write(tile, out, wide, op.rounding);
        },
    )
}

fn read_real<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, to: &mut [f64]) {
    let mut v = [S::Compute::default(); TILE];
    let v = &mut v[..to.len()];
    tile.load::<S>(0, view, v);
    map_real::<S>(v, to);
}

fn read_whole<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, to: &mut [i128]) {
    let mut v = [S::Compute::default(); TILE];
    let v = &mut v[..to.len()];
    tile.load::<S>(0, view, v);
    for (t, v) in to.iter_mut().zip(v) {
        *t = S::whole(*v);
    }
}

fn read_bits<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, to: &mut [i64]) {
    let mut v = [S::Compute::default(); TILE];
    let v = &mut v[..to.len()];
    tile.load::<S>(0, view, v);
    map_bits::<S>(v, to);
}

fn write_real<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, from: &[f64], rounding: Rounding) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    if rounding == Rounding::Default {
        map_from_real::<S>(from, raw);
    } else {
        for (r, f) in raw.iter_mut().zip(from) {
            *r = S::from_real_rounded(*f, rounding);
        }
    }
    store_raw(tile, view, raw);
}

fn write_whole<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, from: &[i128], rounding: Rounding) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    for (r, f) in raw.iter_mut().zip(from) {
        *r = S::from_whole(*f, rounding);
    }
    store_raw(tile, view, raw);
}

fn write_bits<S: Convert>(tile: &Tile<'_, 2>, view: &View<'_>, from: &[i64], _: Rounding) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    map_from_bits::<S>(from, raw);
    store_raw(tile, view, raw);
}

fn store_raw<T: vmlu_abi::Wire>(tile: &Tile<'_, 2>, view: &View<'_>, raw: &[T]) {
    let mut at = 0;
    for (offsets, n) in tile.pieces {
        view.store(offsets[1], tile.strides[1], &raw[at..at + n]);
        at += n;
    }
}

multiversion! {
    fn map_real<S: Convert>(from: &[S::Compute], to: &mut [f64]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = S::real(*f);
        }
    }

    fn map_bits<S: Convert>(from: &[S::Compute], to: &mut [i64]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = S::bits(*f);
        }
    }

    fn map_from_real<S: Convert>(from: &[f64], to: &mut [S::Raw]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = S::from_real(*f);
        }
    }

    fn map_from_bits<S: Convert>(from: &[i64], to: &mut [S::Raw]) {
        for (t, f) in to.iter_mut().zip(from) {
            *t = S::from_bits(*f);
        }
    }
}

/// Conversions by way of f64, i128 and i64, each rounding at most once.
pub(super) trait Convert: Storage {
    fn real(value: Self::Compute) -> f64;
    fn whole(value: Self::Compute) -> i128;
    fn bits(value: Self::Compute) -> i64;
    fn from_real(value: f64) -> Self::Raw;
    fn from_real_rounded(value: f64, rounding: Rounding) -> Self::Raw;
    fn from_whole(value: i128, rounding: Rounding) -> Self::Raw;
    fn from_bits(value: i64) -> Self::Raw;
}

macro_rules! integer {
    ($($t:ty),*) => { $(
        impl Convert for $t {
            #[inline(always)]
            fn real(value: $t) -> f64 { value as f64 }
            #[inline(always)]
            fn whole(value: $t) -> i128 { value as i128 }
            #[inline(always)]
            fn bits(value: $t) -> i64 { value as i64 }
            #[inline(always)]
            fn from_real(value: f64) -> $t { value as $t }
            fn from_real_rounded(value: f64, rounding: Rounding) -> $t { whole(value, rounding) as $t }
            fn from_whole(value: i128, _: Rounding) -> $t { value as $t }
            #[inline(always)]
            fn from_bits(value: i64) -> $t { value as $t }
        }
    )* };
}
integer!(i8, i16, i32, i64, u8, u16, u32, u64);

/// Rounds to a whole number.
pub(super) fn whole(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Default | Rounding::TowardsZero => value.trunc(),
        Rounding::NearestEven => value.round_ties_even(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
        Rounding::OffZero if value < 0.0 => value.floor(),
        Rounding::OffZero => value.ceil(),
        Rounding::HalfUp => {
            let down = value.floor();
            down + if value - down >= 0.5 { 1.0 } else { 0.0 }
        }
    }
}

/// Bits of a float type of at most 32 bits, seen as a grid of numbers.
trait Grid: Copy {
    fn nearest(value: f64) -> Self;
    fn real(self) -> f64;
    /// The neighbour that lies further from zero, or nearer to it.
    fn step(self, outward: bool) -> Self;
}

macro_rules! grid {
    ($t:ty, $nearest:expr) => {
        impl Grid for $t {
            #[inline(always)]
            fn nearest(value: f64) -> Self {
                $nearest(value)
            }
            #[inline(always)]
            fn real(self) -> f64 {
                f64::from(self)
            }
            fn step(self, outward: bool) -> Self {
                // Bits count up with the magnitude, the largest number's up to infinity's.
                let bits = self.to_bits();
                Self::from_bits(if outward { bits + 1 } else { bits - 1 })
            }
        }
    };
}
grid!(f32, |v: f64| v as f32);
grid!(f16, |v: f64| f16::from_f32(narrow_to_odd(v)));
grid!(bf16, |v: f64| bf16::from_f32(narrow_to_odd(v)));

/// Rounds to a grid.
fn to_grid<G: Grid>(value: f64, rounding: Rounding) -> G {
    let near = G::nearest(value);
    let nearest = matches!(rounding, Rounding::Default | Rounding::NearestEven);
    if nearest || !value.is_finite() || near.real() == value {
        return near;
    }
    // The grid's numbers around the value: nearer to zero and further from it.
    let beyond = near.real().abs() > value.abs();
    let inner = if beyond { near.step(false) } else { near };
    let outer = inner.step(true);
    let (negative, size) = (value < 0.0, value.abs());
    let outward = match rounding {
        Rounding::TowardsZero => false,
        Rounding::Down => negative,
        Rounding::Up => !negative,
        Rounding::OffZero => true,
        _ => {
            let low = inner.real().abs();
            let gap = match outer.real().abs() {
                high if high.is_infinite() => low - inner.step(false).real().abs(),
                high => high - low,
            };
            let middle = low + gap / 2.0;
            size > middle || (size == middle && !negative)
        }
    };
    if outward {
        outer
    } else {
        inner
    }
}

macro_rules! float {
    ($t:ty, $to_raw:expr) => {
        impl Convert for $t {
            #[inline(always)]
            fn real(value: Self::Compute) -> f64 {
                f64::from(value)
            }
            fn whole(value: Self::Compute) -> i128 {
                value as i128
            }
            fn bits(value: Self::Compute) -> i64 {
                value as i64
            }
            #[inline(always)]
            fn from_real(value: f64) -> Self::Raw {
                $to_raw(Grid::nearest(value))
            }
            fn from_real_rounded(value: f64, rounding: Rounding) -> Self::Raw {
                $to_raw(to_grid(value, rounding))
            }
            fn from_whole(value: i128, rounding: Rounding) -> Self::Raw {
                $to_raw(to_grid(whole_to_odd(value), rounding))
            }
            fn from_bits(value: i64) -> Self::Raw {
                Self::from_whole(value.into(), Rounding::Default)
            }
        }
    };
}
float!(f32, |v: f32| v);
float!(f16, |v: f16| v.to_bits());
float!(bf16, |v: bf16| v.to_bits());

impl Convert for f64 {
    #[inline(always)]
    fn real(value: f64) -> f64 {
        value
    }
    fn whole(value: f64) -> i128 {
        value as i128
    }
    fn bits(value: f64) -> i64 {
        value as i64
    }
    #[inline(always)]
    fn from_real(value: f64) -> f64 {
        value
    }
    fn from_real_rounded(value: f64, _: Rounding) -> f64 {
        value
    }
    fn from_whole(value: i128, rounding: Rounding) -> f64 {
        let near = value as f64;
        let exact = near as i128;
        let (up, down) = (exact < value, exact > value);
        // Half a step of an f64 below 2⁶⁵ is a whole number, so a tie is seen exactly.
        match rounding {
            Rounding::TowardsZero if value >= 0 && down => near.next_down(),
            Rounding::TowardsZero if value < 0 && up => near.next_up(),
            Rounding::Down if down => near.next_down(),
            Rounding::Up if up => near.next_up(),
            Rounding::OffZero if value >= 0 && up => near.next_up(),
            Rounding::OffZero if value < 0 && down => near.next_down(),
            Rounding::HalfUp if up && near.next_up() as i128 - value == value - exact => {
                near.next_up()
            }
            _ => near,
        }
    }
    fn from_bits(value: i64) -> f64 {
        value as f64
    }
}

impl Convert for Truth {
    #[inline(always)]
    fn real(value: u8) -> f64 {
        f64::from(value)
    }
    fn whole(value: u8) -> i128 {
        i128::from(value)
    }
    #[inline(always)]
    fn bits(value: u8) -> i64 {
        i64::from(value)
    }
    #[inline(always)]
    fn from_real(value: f64) -> u8 {
        u8::from(value != 0.0)
    }
    fn from_real_rounded(value: f64, _: Rounding) -> u8 {
        u8::from(value != 0.0)
    }
    fn from_whole(value: i128, _: Rounding) -> u8 {
        u8::from(value != 0)
    }
    #[inline(always)]
    fn from_bits(value: i64) -> u8 {
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
#[inline(always)]
fn narrow_to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || value.is_nan() {
        return near;
    }
    let away = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(away)) | 1)
}
