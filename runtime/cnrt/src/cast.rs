//! Casts of host memory between number types, with rounding and quantisation.
//!
//! A quantised number is `round(x · scale / 2^position) + offset`.

use std::ffi::c_void;
use std::sync::Arc;

use half::{bf16, f16};
use vmlu_c_abi::table::Table;
use vmlu_c_abi::{exports, Failure, In, Out, Ptr, Result};

use crate::error::run;

/// Quantised parameters by their handles.
static PARAMS: Table<Quantised> = Table::new(0x19);

/// How numbers are quantised: the same for all, or for each channel.
struct Quantised {
    channels: Vec<Channel>,
    /// Elements between two that follow each other along the axis of channels.
    stride: usize,
}

#[derive(Clone, Copy)]
struct Channel {
    position: i32,
    scale: f64,
    offset: f64,
}

impl Quantised {
    fn channel(&self, index: usize) -> Channel {
        self.channels[index / self.stride % self.channels.len()]
    }
}

/// A number type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    F64,
    F32,
    F16,
    Bf16,
    U64,
    U32,
    U16,
    U8,
    I64,
    I32,
    I16,
    I8,
    Bool,
}

impl Type {
    /// `cnrtDataType_t`.
    fn old(raw: i32) -> Result<Self> {
        Ok(match raw {
            0x12 => Self::F16,
            0x13 => Self::F32,
            0x14 => Self::F64,
            0x21 => Self::I8,
            0x22 => Self::I16,
            0x23 => Self::I32,
            0x24 => Self::I64,
            0x31 => Self::U8,
            0x32 => Self::U16,
            0x33 => Self::U32,
            0x61 => Self::Bool,
            _ => return Err(Failure::INVALID_VALUE),
        })
    }

    /// `cnrtDataType_V2_t`.
    fn new(raw: i32) -> Result<Self> {
        Ok(match raw {
            0x1 => Self::F64,
            0x2 => Self::F32,
            0x3 => Self::F16,
            0x4 => Self::Bf16,
            0x11 => Self::U64,
            0x12 => Self::U32,
            0x13 => Self::U16,
            0x14 => Self::U8,
            0x21 => Self::I64,
            0x22 => Self::I32,
            0x23 => Self::I16,
            0x24 => Self::I8,
            0x31 => Self::Bool,
            _ => return Err(Failure::INVALID_VALUE),
        })
    }
}

/// A number as it was read: floats, and integers that a double may not hold.
#[derive(Clone, Copy)]
enum Number {
    Real(f64),
    Whole(i128),
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Self::Real(value) => value,
            Self::Whole(value) => value as f64,
        }
    }
}

/// To nearest even, to zero, down, up, away from zero, to nearest with ties up.
#[derive(Clone, Copy)]
struct Rounding(i32);

impl Rounding {
    fn from_raw(raw: i32) -> Result<Self> {
        match raw {
            0..=5 => Ok(Self(raw)),
            _ => Err(Failure::INVALID_VALUE),
        }
    }

    fn whole(self, value: f64) -> f64 {
        match self.0 {
            0 => value.round_ties_even(),
            1 => value.trunc(),
            2 => value.floor(),
            3 => value.ceil(),
            4 if value < 0.0 => value.floor(),
            4 => value.ceil(),
            _ if value.fract().abs() == 0.5 => value.ceil(),
            _ => value.round(),
        }
    }

    /// One of two neighbours, below and above, between which a value lies.
    fn choose(self, value: f64, below: f64, above: f64) -> f64 {
        let middle = below + (above - below) / 2.0;
        let up = match self.0 {
            1 => value < 0.0,
            2 => false,
            3 => true,
            4 => value > 0.0,
            _ => value >= middle,
        };
        if up {
            above
        } else {
            below
        }
    }
}

/// Rounds to a float type of which the nearest, and the next up and down, are known.
fn to_float(value: f64, rounding: Rounding, nearest: f64, up: f64, down: f64) -> f64 {
    if nearest == value || value.is_nan() || rounding.0 == 0 {
        return nearest;
    }
    match nearest < value {
        true => rounding.choose(value, nearest, up),
        false => rounding.choose(value, down, nearest),
    }
}

fn to_f16(value: f64, rounding: Rounding) -> f16 {
    let near = f16::from_f64(value);
    let step = |outward: bool| step16(near.to_bits(), outward);
    let (up, down) = (f16::from_bits(step(true)), f16::from_bits(step(false)));
    f16::from_f64(to_float(
        value,
        rounding,
        near.to_f64(),
        up.to_f64(),
        down.to_f64(),
    ))
}

fn to_bf16(value: f64, rounding: Rounding) -> bf16 {
    let near = bf16::from_f64(value);
    let step = |outward: bool| step16(near.to_bits(), outward);
    let (up, down) = (bf16::from_bits(step(true)), bf16::from_bits(step(false)));
    bf16::from_f64(to_float(
        value,
        rounding,
        near.to_f64(),
        up.to_f64(),
        down.to_f64(),
    ))
}

/// The next float of 16 bits above a finite one, or below.
fn step16(bits: u16, up: bool) -> u16 {
    match (bits & 0x8000 != 0, up, bits & 0x7fff) {
        (false, false, 0) => 0x8001,
        (true, true, 0) => 1,
        (negative, _, _) if negative == up => bits - 1,
        _ => bits + 1,
    }
}

fn to_f32(value: f64, rounding: Rounding) -> f32 {
    let near = value as f32;
    let (up, down) = (f64::from(near.next_up()), f64::from(near.next_down()));
    to_float(value, rounding, f64::from(near), up, down) as f32
}

/// Host memory of numbers.
#[derive(Clone, Copy)]
struct Memory {
    at: *mut c_void,
    kind: Type,
}

macro_rules! read {
    ($memory:expr, $index:expr, $type:ty) => {
        // SAFETY: C's array has the element, by the header; it need not be aligned.
        unsafe { $memory.at.cast::<$type>().add($index).read_unaligned() }
    };
}

macro_rules! write {
    ($memory:expr, $index:expr, $type:ty, $value:expr) => {
        // SAFETY: C's array has room for the element, by the header; it need not be aligned.
        unsafe {
            $memory
                .at
                .cast::<$type>()
                .add($index)
                .write_unaligned($value)
        }
    };
}

impl Memory {
    fn new(at: Ptr, kind: Type) -> Result<Self> {
        match at.is_null() {
            true => Err(Failure::INVALID_VALUE),
            false => Ok(Self { at: at.0, kind }),
        }
    }

    fn read(self, i: usize) -> Number {
        match self.kind {
            Type::F64 => Number::Real(read!(self, i, f64)),
            Type::F32 => Number::Real(f64::from(read!(self, i, f32))),
            Type::F16 => Number::Real(f16::from_bits(read!(self, i, u16)).to_f64()),
            Type::Bf16 => Number::Real(bf16::from_bits(read!(self, i, u16)).to_f64()),
            Type::U64 => Number::Whole(read!(self, i, u64).into()),
            Type::U32 => Number::Whole(read!(self, i, u32).into()),
            Type::U16 => Number::Whole(read!(self, i, u16).into()),
            Type::U8 => Number::Whole(read!(self, i, u8).into()),
            Type::I64 => Number::Whole(read!(self, i, i64).into()),
            Type::I32 => Number::Whole(read!(self, i, i32).into()),
            Type::I16 => Number::Whole(read!(self, i, i16).into()),
            Type::I8 => Number::Whole(read!(self, i, i8).into()),
            Type::Bool => Number::Whole(i128::from(read!(self, i, u8) != 0)),
        }
    }

    /// Writes a number; one that the type does not have becomes its nearest end, and no number 0.
    fn write(self, i: usize, number: Number, rounding: Rounding) {
        let real = number.real();
        let whole = match number {
            Number::Whole(value) => value,
            Number::Real(value) => rounding.whole(value) as i128,
        };
        macro_rules! integer {
            ($type:ty) => {
                write!(
                    self,
                    i,
                    $type,
                    whole.clamp(<$type>::MIN.into(), <$type>::MAX.into()) as $type
                )
            };
        }
        match self.kind {
            Type::F64 => write!(self, i, f64, real),
            Type::F32 => write!(self, i, f32, to_f32(real, rounding)),
            Type::F16 => write!(self, i, u16, to_f16(real, rounding).to_bits()),
            Type::Bf16 => write!(self, i, u16, to_bf16(real, rounding).to_bits()),
            Type::U64 => integer!(u64),
            Type::U32 => integer!(u32),
            Type::U16 => integer!(u16),
            Type::U8 => integer!(u8),
            Type::I64 => integer!(i64),
            Type::I32 => integer!(i32),
            Type::I16 => integer!(i16),
            Type::I8 => integer!(i8),
            Type::Bool => write!(self, i, u8, u8::from(real != 0.0)),
        }
    }
}

/// Casts an element: to integers it is quantised, from integers it is brought back.
fn one(
    from: Memory,
    to: Memory,
    (source, target): (usize, usize),
    param: Option<&Quantised>,
    rounding: Rounding,
) {
    let number = from.read(source);
    let number = match (param.map(|p| p.channel(source)), number) {
        (None, number) => number,
        (Some(c), Number::Whole(_)) => {
            Number::Real((number.real() - c.offset) * 2f64.powi(c.position) / c.scale)
        }
        (Some(c), Number::Real(value)) => {
            let scaled = value * c.scale / 2f64.powi(c.position);
            match to.kind {
                Type::F64 | Type::F32 | Type::F16 | Type::Bf16 => Number::Real(value),
                _ => Number::Real(rounding.whole(scaled) + c.offset),
            }
        }
    };
    to.write(target, number, rounding);
}

fn param(handle: Ptr) -> Result<Option<Arc<Quantised>>> {
    match handle.addr() {
        0 => Ok(None),
        handle => PARAMS.find(handle).map(Some).ok_or(Failure::INVALID_VALUE),
    }
}

fn cast(
    from: (Ptr, Type),
    to: (Ptr, Type),
    count: i32,
    handle: Ptr,
    rounding: Rounding,
) -> Result<()> {
    let count = usize::try_from(count).map_err(|_| Failure::INVALID_VALUE)?;
    let param = param(handle)?;
    if count == 0 {
        return Ok(());
    }
    let (from, to) = (Memory::new(from.0, from.1)?, Memory::new(to.0, to.1)?);
    for i in 0..count {
        one(from, to, (i, i), param.as_deref(), rounding);
    }
    Ok(())
}

fn sizes(place: In<i32>, count: usize) -> Result<Vec<usize>> {
    (0..count)
        .map(|i| usize::try_from(place.get_at(i)?).map_err(|_| Failure::INVALID_VALUE))
        .collect()
}

fn insert(place: Out<Ptr>, param: Quantised) -> Result<()> {
    let handle = PARAMS.insert(Arc::new(param)).ok_or(Failure::HOST_MEMORY)?;
    place.set(Ptr::at(handle))
}

fn channel(position: i32, scale: f32, offset: f64) -> Result<Channel> {
    match scale.is_finite() && scale != 0.0 {
        true => Ok(Channel {
            position,
            scale: scale.into(),
            offset,
        }),
        false => Err(Failure::INVALID_VALUE),
    }
}

exports! { run;
    /// See the header.
    fn cnrtCreateQuantizedParam(place: Out<Ptr>, position: i32, scale: f32, offset: i32) {
        place.check()?;
        let channels = vec![channel(position, scale, offset.into())?];
        insert(place, Quantised { channels, stride: 1 })
    }

    /// See the header.
    fn cnrtCreateQuantizedParamByChannel(place: Out<Ptr>, positions: In<i32>, scales: In<f32>, offsets: In<f32>, rank: i32, dims: In<i32>, axis: i32) {
        place.check()?;
        let rank = usize::try_from(rank).map_err(|_| Failure::INVALID_VALUE)?;
        let axis = usize::try_from(axis).map_err(|_| Failure::INVALID_VALUE)?;
        if rank > 64 || axis >= rank {
            return Err(Failure::INVALID_VALUE);
        }
        let dims = sizes(dims, rank)?;
        let stride = dims[axis + 1..].iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let stride = stride.filter(|s| *s > 0 && dims[axis] > 0).ok_or(Failure::INVALID_VALUE)?;
        let channels = (0..dims[axis]).map(|i| {
            let offset = if offsets.is_null() { 0.0 } else { offsets.get_at(i)? };
            channel(positions.get_at(i)?, scales.get_at(i)?, offset.into())
        });
        insert(place, Quantised { channels: channels.collect::<Result<_>>()?, stride })
    }

    /// See the header.
    fn cnrtDestroyQuantizedParam(handle: Ptr) {
        PARAMS.remove(handle.addr()).map(drop).ok_or(Failure::INVALID_VALUE)
    }

    /// See the header.
    fn cnrtCastDataType(src: Ptr, src_type: i32, dst: Ptr, dst_type: i32, count: i32, handle: Ptr) {
        let types = (Type::old(src_type)?, Type::old(dst_type)?);
        cast((src, types.0), (dst, types.1), count, handle, Rounding(5))
    }

    /// See the header.
    fn cnrtCastDataType_V2(src: Ptr, src_type: i32, dst: Ptr, dst_type: i32, count: i32, handle: Ptr, rounding: i32) {
        let types = (Type::new(src_type)?, Type::new(dst_type)?);
        cast((src, types.0), (dst, types.1), count, handle, Rounding::from_raw(rounding)?)
    }

    /// See the header.
    fn cnrtTransOrderAndCast(src: Ptr, src_type: i32, dst: Ptr, dst_type: i32, handle: Ptr, rank: i32, dims: In<i32>, order: In<i32>) {
        let rank = usize::try_from(rank).ok().filter(|r| (1..=8).contains(r)).ok_or(Failure::INVALID_VALUE)?;
        let (dims, order) = (sizes(dims, rank)?, sizes(order, rank)?);
        let mut seen = order.clone();
        seen.sort_unstable();
        if seen.into_iter().ne(0..rank) {
            return Err(Failure::INVALID_VALUE);
        }
        let (from, to) = (Memory::new(src, Type::old(src_type)?)?, Memory::new(dst, Type::old(dst_type)?)?);
        let param = param(handle)?;
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or(Failure::INVALID_VALUE)?;
        let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
        for target in 0..count {
            let (mut rest, mut source) = (target, 0);
            for axis in order.iter().rev() {
                source += rest % dims[*axis] * stride(*axis);
                rest /= dims[*axis];
            }
            one(from, to, (source, target), param.as_deref(), Rounding(5));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roundings_choose_the_right_neighbour() {
        let cases = [
            (2.5, [2.0, 2.0, 2.0, 3.0, 3.0, 3.0]),
            (-2.5, [-2.0, -2.0, -3.0, -2.0, -3.0, -2.0]),
            (2.6, [3.0, 2.0, 2.0, 3.0, 3.0, 3.0]),
            (-0.4, [0.0, 0.0, -1.0, 0.0, -1.0, 0.0]),
        ];
        for (value, expected) in cases {
            for (mode, wanted) in expected.into_iter().enumerate() {
                assert_eq!(
                    Rounding(mode as i32).whole(value),
                    wanted,
                    "{value} in {mode}"
                );
            }
        }
        // Just above 1: the neighbours are 1 and 1 + 2^-10.
        let above = 1.0 + 2f64.powi(-12);
        let bits: Vec<u16> = (0..6)
            .map(|m| to_f16(above, Rounding(m)).to_bits())
            .collect();
        assert_eq!(bits, [0x3c00, 0x3c00, 0x3c00, 0x3c01, 0x3c01, 0x3c00]);
        let bits: Vec<u16> = (0..6)
            .map(|m| to_f16(-above, Rounding(m)).to_bits())
            .collect();
        assert_eq!(bits, [0xbc00, 0xbc00, 0xbc01, 0xbc00, 0xbc01, 0xbc00]);
    }
}
