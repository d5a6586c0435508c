//! Kernel of `vmlu_ops::search_sorted`.

use vmlu_ops::search_sorted::{Checked, SearchSorted};

use super::env::{Access, Env, Fault, Work};
use super::number::{with_storage, Number, Storage, TILE};
use super::view::View;
use super::walk::{split, Pace};
use super::window::store_indices;

/// Longest row that is copied before it is searched.
const COPIED: usize = 1 << 16;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<SearchSorted>(body)?;
    let sorted = View::open(env, 0, &op.sorted, Access::Read)?;
    let values = View::open(env, 1, &op.values, Access::Read)?;
    let out = View::output(env, 2, &op.out)?;
    if op.out.elements > 0 {
        with_storage!(op.sorted.dtype, S => compute::<S>(&op, env, &sorted, &values, &out)?);
    }
    Ok(op.cost().into())
}

/// How many of `length` elements belong before a value. They may change meanwhile: then it is some number.
pub(super) fn place<T: Number>(
    length: usize,
    right: bool,
    value: T,
    get: impl Fn(usize) -> T,
) -> usize {
    let before = |element: T| match (element.is_nan(), value.is_nan()) {
        (true, true) => right,
        (true, false) => false,
        (false, true) => true,
        _ if right => element <= value,
        _ => element < value,
    };
    let (mut low, mut high) = (0, length);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(get(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn compute<S: Storage>(
    op: &Checked,
    env: &dyn Env,
    sorted: &View<'_>,
    values: &View<'_>,
    out: &View<'_>,
) -> Result<(), Fault> {
    let length = op.length() as usize;
    let dims = op.values.dims();
    let (width, outer) = match dims.split_last() {
        Some((width, outer)) => (*width as usize, outer),
        None => (1, &[][..]),
    };
    let own_rows = op.sorted.rank() > 1;
    let last = |strides: &[i64]| strides.last().map_or(0, |s| *s as isize);
    let (step, step_in, step_out) = (
        last(op.sorted.strides()),
        last(op.values.strides()),
        last(op.out.strides()),
    );
    let rows: usize = outer.iter().map(|d| *d as usize).product();
    let pieces = width.div_ceil(TILE);
    let each = width.min(TILE) * (length.max(2).ilog2() as usize + 1);
    let grain = (16 * TILE / each.clamp(1, 16 * TILE)).max(1);
    split(env, rows * pieces, grain, |range| {
        let mut pace = Pace::new(env);
        let (mut row, mut places) = ([S::Compute::default(); TILE], [0i64; TILE]);
        let (mut copy, mut copied) = (Vec::new(), usize::MAX);
        for index in range {
            let (mut rest, start) = (index / pieces, index % pieces * TILE);
            let number = if own_rows { rest } else { 0 };
            let (mut from, mut read, mut to) = (0, 0, 0);
            for (i, dim) in outer.iter().enumerate().rev() {
                let at = (rest % *dim as usize) as isize;
                rest /= *dim as usize;
                read += at * op.values.strides()[i] as isize;
                to += at * op.out.strides()[i] as isize;
                if own_rows {
                    from += at * op.sorted.strides()[i] as isize;
                }
            }
            let n = TILE.min(width - start);
            // A copy pays where it is used for several values.
            let short = length <= COPIED && (!own_rows || width * 8 >= length);
            if short && copied != number {
                copy.resize(length, S::Compute::default());
                for (i, part) in copy.chunks_mut(TILE).enumerate() {
                    S::load(sorted, from + (i * TILE) as isize * step, step, part);
                    pace.did(part.len())?;
                }
                copied = number;
            }
            let (row, places) = (&mut row[..n], &mut places[..n]);
            S::load(values, read + start as isize * step_in, step_in, row);
            for (v, place_of) in row.iter().zip(places.iter_mut()) {
                *place_of = if short {
                    place(length, op.right, *v, |i| copy[i])
                } else {
                    place(length, op.right, *v, |i| {
                        let mut one = [S::Compute::default()];
                        S::load(sorted, from + i as isize * step, 1, &mut one);
                        one[0]
                    })
                } as i64;
                pace.did(2 * length.max(2).ilog2() as usize)?;
            }
            let to = to + start as isize * step_out;
            store_indices(out, op.out.dtype, to, step_out, places);
        }
        Ok(())
    })
}
