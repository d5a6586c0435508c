//! The part of `cast` that takes four-bit integers apart, or puts them together: row by row along the axis whose neighbours share octets.

use vmlu_ops::cast::{Checked, Rounding};
use vmlu_ops::nibbles::Nibbles;
use vmlu_ops::tensor::{is_float, Tensor};

use super::cast::{whole, Convert};
use super::env::{Env, Fault};
use super::number::{with_storage, TILE};
use super::view::View;
use super::walk::{split, Pace};

// Tiles begin with an octet.
const _: () = assert!(TILE.is_multiple_of(2));

/// An operand and its strides.
struct Side<'s> {
    tensor: &'s Tensor,
    strides: &'s [i64],
    packed: Option<&'s Nibbles>,
}

impl Side<'_> {
    /// Offset of an element of the axis of which neighbours share octets, in a row that begins at `row`.
    fn place(&self, row: isize, axis: usize, at: usize) -> isize {
        match self.packed {
            Some(_) => row + (at / 2) as isize,
            None => row + at as isize * self.strides[axis] as isize,
        }
    }
}

/// Casts from or to four-bit integers, or both.
pub(super) fn run(op: &Checked, env: &dyn Env, x: &View<'_>, out: &View<'_>) -> Result<(), Fault> {
    let [from, to] = [0, 1].map(|i| op.packed[i].as_ref());
    let Some(packed) = from.or(to) else {
        return Ok(());
    };
    let (dims, axis) = (packed.dims(), packed.axis);
    let from = Side {
        tensor: &op.x,
        strides: &op.strides,
        packed: from,
    };
    let to = Side {
        tensor: &op.out,
        strides: op.out.strides(),
        packed: to,
    };
    let length = dims[axis] as usize;
    let rows: u64 = (0..dims.len())
        .filter(|i| *i != axis)
        .map(|i| dims[i])
        .product();
    let tiles = length.div_ceil(TILE);
    let grain = (16 * TILE / length.clamp(1, TILE)).max(1);
    split(env, rows as usize * tiles, grain, |range| {
        let mut pace = Pace::new(env);
        for index in range {
            let (mut rest, start) = (index / tiles, index % tiles * TILE);
            let (mut read, mut write) = (0, 0);
            for i in (0..dims.len()).rev().filter(|i| *i != axis) {
                let at = (rest as u64 % dims[i]) as isize;
                rest = (rest as u64 / dims[i]) as usize;
                read += at * from.strides[i] as isize;
                write += at * to.strides[i] as isize;
            }
            let count = TILE.min(length - start);
            let read = from.place(read, axis, start);
            let write = to.place(write, axis, start);
            let (step_in, step_out) = (from.strides[axis] as isize, to.strides[axis] as isize);
            if from.packed.is_none() && is_float(op.x.dtype) {
                let mut values = [0f64; TILE];
                let values = &mut values[..count];
                with_storage!(op.x.dtype, S => load_real::<S>(x, read, step_in, values));
                let signed = to.packed.is_some_and(|p| p.signed);
                let mut codes = [0i64; TILE];
                let codes = &mut codes[..count];
                for (c, v) in codes.iter_mut().zip(values) {
                    *c = saturated(*v, signed, op.rounding);
                }
                pack(codes, out, write);
            } else {
                let mut values = [0i64; TILE];
                let values = &mut values[..count];
                match from.packed {
                    Some(packed) => unpack(x, read, packed.signed, values),
                    None => {
                        let dtype = from.tensor.dtype;
                        with_storage!(dtype, S => load_whole::<S>(x, read, step_in, values));
                    }
                }
                match to.packed {
                    Some(_) => pack(values, out, write),
                    None => {
                        let dtype = to.tensor.dtype;
                        with_storage!(dtype, S => store::<S>(out, write, step_out, values));
                    }
                }
            }
            pace.did(count)?;
        }
        Ok(())
    })
}

/// The four-bit integer for a number: rounded, the nearest if it is out of range, 0 for NaN.
fn saturated(value: f64, signed: bool, rounding: Rounding) -> i64 {
    let (low, high) = if signed { (-8.0, 7.0) } else { (0.0, 15.0) };
    // The conversion makes 0 of NaN.
    whole(value, rounding).clamp(low, high) as i64
}

/// Octets become integers.
fn unpack(view: &View<'_>, offset: isize, signed: bool, to: &mut [i64]) {
    let mut octets = [0u8; TILE / 2];
    let octets = &mut octets[..to.len().div_ceil(2)];
    view.load(offset, 1, octets);
    for (i, t) in to.iter_mut().enumerate() {
        let bits = octets[i / 2] >> (4 * (i % 2)) & 15;
        *t = if signed {
            i64::from(((bits << 4) as i8) >> 4)
        } else {
            bits.into()
        };
    }
}

/// The low bits of integers become octets; half of the last one is 0 if there is nothing for it.
fn pack(from: &[i64], view: &View<'_>, offset: isize) {
    let mut octets = [0u8; TILE / 2];
    let octets = &mut octets[..from.len().div_ceil(2)];
    for (octet, pair) in octets.iter_mut().zip(from.chunks(2)) {
        let high = pair.get(1).map_or(0, |v| (*v as u8 & 15) << 4);
        *octet = pair[0] as u8 & 15 | high;
    }
    view.store(offset, 1, octets);
}

fn load_real<S: Convert>(view: &View<'_>, offset: isize, stride: isize, to: &mut [f64]) {
    let mut values = [S::Compute::default(); TILE];
    let values = &mut values[..to.len()];
    S::load(view, offset, stride, values);
    for (t, v) in to.iter_mut().zip(values) {
        *t = S::real(*v);
    }
}

fn load_whole<S: Convert>(view: &View<'_>, offset: isize, stride: isize, to: &mut [i64]) {
    let mut values = [S::Compute::default(); TILE];
    let values = &mut values[..to.len()];
    S::load(view, offset, stride, values);
    for (t, v) in to.iter_mut().zip(values) {
        *t = S::bits(*v);
    }
}

/// Types that do not have a negative number take its low bits.
fn store<S: Convert>(view: &View<'_>, offset: isize, stride: isize, from: &[i64]) {
    let mut raw = [S::Raw::default(); TILE];
    let raw = &mut raw[..from.len()];
    for (r, v) in raw.iter_mut().zip(from) {
        *r = S::from_bits(*v);
    }
    view.store(offset, stride, raw);
}
