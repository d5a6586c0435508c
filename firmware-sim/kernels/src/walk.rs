//! Walking over the elements of several tensors of one shape, row by row, on several cores.

use std::ops::Range;
use std::sync::Mutex;

use vmlu_abi::tensor::MAX_DIMS;

use super::env::{Env, Fault};
use super::number::{Storage, TILE};
use super::stream::fence;
use super::view::View;

/// Elements between two looks at the cancel flag: some microseconds of work.
const CHECK_EVERY: usize = 8 * TILE;
/// Rows between two looks, where rows are short.
const CHECK_ROWS: usize = 256;
/// Elements of a task, unless there would be more than [`MAX_TASKS`].
const GRAIN: usize = 32 * TILE;
/// Most tasks of a command.
const MAX_TASKS: usize = 4096;

/// The space of one shape over `N` tensors, with axes reordered by the strides of one of them and merged where that is possible.
#[derive(Clone, Debug)]
pub struct Walk<const N: usize> {
    /// Axes, outermost first; never empty.
    axes: Vec<(usize, [isize; N])>,
    total: usize,
}

impl<const N: usize> Walk<N> {
    /// `strides` has one slice a tensor, each at least as long as `dims`. Axes are walked in the order of tensor `lead`'s strides.
    pub fn new(dims: &[u64], strides: [&[i64]; N], lead: usize) -> Self {
        debug_assert!(dims.len() <= MAX_DIMS);
        let mut axes: Vec<(usize, [isize; N])> = Vec::with_capacity(MAX_DIMS);
        // Checked by the operator: the product of the dimensions fits in 63 bits.
        let total = dims.iter().map(|d| *d as usize).product();
        for (i, &dim) in dims.iter().enumerate() {
            if dim > 1 {
                axes.push((dim as usize, strides.map(|s| s[i] as isize)));
            }
        }
        axes.sort_by_key(|(_, s)| std::cmp::Reverse(s[lead].unsigned_abs()));
        let mut merged: Vec<(usize, [isize; N])> = Vec::with_capacity(axes.len());
        for (dim, s) in axes {
            match merged.last_mut() {
                Some((outer, o))
                    if (0..N).all(|t| s[t].checked_mul(dim as isize) == Some(o[t])) =>
                {
                    *outer *= dim;
                    *o = s;
                }
                _ => merged.push((dim, s)),
            }
        }
        if merged.is_empty() {
            merged.push((1, [0; N]));
        }
        Self {
            axes: merged,
            total,
        }
    }

    /// Positions of the space.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Strides along the innermost axis.
    pub fn inner_strides(&self) -> [isize; N] {
        self.axes[self.axes.len() - 1].1
    }

    /// Calls `row(offsets, strides, count)` for the rows of a range of positions, each at most `limit` long, from `base`.
    pub fn rows(
        &self,
        range: Range<usize>,
        limit: usize,
        base: [isize; N],
        mut row: impl FnMut([isize; N], [isize; N], usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.rows_dyn(range, limit, base, &mut row)
    }

    /// [`Walk::rows`], compiled once.
    fn rows_dyn(
        &self,
        range: Range<usize>,
        limit: usize,
        base: [isize; N],
        row: &mut dyn FnMut([isize; N], [isize; N], usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let rank = self.axes.len();
        let mut at = [0usize; MAX_DIMS];
        let mut offsets = base;
        let mut rest = range.start;
        for i in (0..rank).rev() {
            let (dim, strides) = self.axes[i];
            at[i] = rest % dim;
            rest /= dim;
            for t in 0..N {
                offsets[t] += at[i] as isize * strides[t];
            }
        }
        let (inner, inner_strides) = self.axes[rank - 1];
        let mut left = range.end.min(self.total).saturating_sub(range.start);
        while left > 0 {
            let count = (inner - at[rank - 1]).min(left).min(limit);
            row(offsets, inner_strides, count)?;
            left -= count;
            at[rank - 1] += count;
            for t in 0..N {
                offsets[t] += count as isize * inner_strides[t];
            }
            let mut i = rank - 1;
            while at[i] == self.axes[i].0 && i > 0 {
                let (dim, strides) = self.axes[i];
                at[i] = 0;
                at[i - 1] += 1;
                for t in 0..N {
                    offsets[t] += self.axes[i - 1].1[t] - dim as isize * strides[t];
                }
                i -= 1;
            }
        }
        Ok(())
    }

    /// Calls `row` for all rows, in parallel; `row` must write only what belongs to its positions.
    pub fn each(
        &self,
        env: &dyn Env,
        row: impl Fn([isize; N], [isize; N], usize) + Sync,
    ) -> Result<(), Fault> {
        self.each_dyn(env, &row)
    }

    /// [`Walk::each`], compiled once.
    fn each_dyn(
        &self,
        env: &dyn Env,
        row: &(dyn Fn([isize; N], [isize; N], usize) + Sync),
    ) -> Result<(), Fault> {
        split(env, self.total, GRAIN, |range| {
            let mut pace = Pace::new(env);
            self.rows(range, TILE, [0; N], |offsets, strides, count| {
                row(offsets, strides, count);
                pace.did(count)
            })
        })
    }

    /// Calls `tile(buffers, tile)` for all positions, in parallel, up to [`TILE`] of them at a time; it must write only what belongs to its
    /// positions. Each task has buffers of its own.
    pub fn tiles<B>(
        &self,
        env: &dyn Env,
        buffers: impl Fn() -> B + Sync,
        tile: impl Fn(&mut B, &Tile<'_, N>) + Sync,
    ) -> Result<(), Fault> {
        split(env, self.total, GRAIN, |range| {
            let mut buffers = Aligned(buffers());
            self.tiles_of(env, range, &mut |t| tile(&mut buffers.0, t))
        })
    }

    /// The tiles of a range of positions.
    fn tiles_of(
        &self,
        env: &dyn Env,
        range: Range<usize>,
        tile: &mut dyn FnMut(&Tile<'_, N>),
    ) -> Result<(), Fault> {
        let mut pace = Pace::new(env);
        let strides = self.inner_strides();
        let inner = self.axes[self.axes.len() - 1].0;
        let mut pieces = [([0isize; N], 0usize); PIECES];
        let (mut used, mut count) = (0, 0);
        let mut left = range.end.min(self.total).saturating_sub(range.start);
        self.rows(range, TILE, [0; N], |offsets, _, n| {
            pieces[used] = (offsets, n);
            used += 1;
            count += n;
            left -= n;
            // The next row might not fit.
            if used == PIECES || count + inner.min(TILE) > TILE || left == 0 {
                tile(&Tile {
                    strides,
                    pieces: &pieces[..used],
                    count,
                });
                let did = count;
                (used, count) = (0, 0);
                return pace.did(did);
            }
            Ok(())
        })
    }
}

/// A buffer that begins with a line of the caches, so that no vector lies in two.
#[repr(align(64))]
pub struct Aligned<B>(pub B);

/// The part of a buffer that begins with a line of the caches; the buffer has [`line_of`] more elements than are needed.
pub fn aligned<T>(buffer: &mut [T]) -> &mut [T] {
    let at = buffer.as_ptr().align_offset(64).min(line_of::<T>());
    let count = buffer.len() - line_of::<T>();
    &mut buffer[at..at + count]
}

/// Elements of a line of the caches.
pub const fn line_of<T>() -> usize {
    64 / size_of::<T>()
}

/// Elements that are computed on between two fetches: a few lines.
pub const PART: usize = 128;
/// Most rows of a [`Tile`].
const PIECES: usize = 64;

/// Some positions of a walk: at most [`TILE`], of one or several rows.
pub struct Tile<'t, const N: usize> {
    /// Strides along a row.
    pub strides: [isize; N],
    /// Offset of the first element and length of each row.
    pub pieces: &'t [([isize; N], usize)],
    /// Positions in all.
    pub count: usize,
}

impl<const N: usize> Tile<'_, N> {
    /// Loads tensor `t`.
    #[inline]
    pub fn load<S: Storage>(&self, t: usize, view: &View<'_>, to: &mut [S::Compute]) {
        let mut at = 0;
        for (offsets, n) in self.pieces {
            S::load(view, offsets[t], self.strides[t], &mut to[at..at + n]);
            at += n;
        }
    }

    /// Calls `f` for parts of the values. In between it fetches of tensor `t` what follows the tile.
    #[inline]
    pub fn in_parts<S: Storage>(
        &self,
        t: usize,
        view: &View<'_>,
        values: &mut [S::Compute],
        f: impl Fn(&mut [S::Compute]),
    ) {
        let [(offsets, n)] = self.pieces else {
            return f(values);
        };
        if self.strides[t] != 1 || !view.is_large() {
            return f(values);
        }
        for (i, part) in values.chunks_mut(PART).enumerate() {
            view.fetch::<S::Raw>(offsets[t] + (n + i * PART) as isize, part.len());
            f(part);
        }
    }

    /// Stores tensor `t`.
    #[inline]
    pub fn store<S: Storage>(&self, t: usize, view: &View<'_>, from: &[S::Compute]) {
        let mut at = 0;
        for (offsets, n) in self.pieces {
            S::store(view, offsets[t], self.strides[t], &from[at..at + n]);
            at += n;
        }
    }
}

/// Looks at the cancel flag often enough, and not too often.
pub struct Pace<'a> {
    env: &'a dyn Env,
    elements: usize,
    rows: usize,
}

impl<'a> Pace<'a> {
    /// Looks at once.
    pub fn new(env: &'a dyn Env) -> Self {
        Self {
            env,
            elements: CHECK_EVERY,
            rows: 0,
        }
    }

    /// After a row of some elements.
    #[inline]
    pub fn did(&mut self, elements: usize) -> Result<(), Fault> {
        self.elements += elements;
        self.rows += 1;
        if self.elements >= CHECK_EVERY || self.rows >= CHECK_ROWS {
            self.elements = 0;
            self.rows = 0;
            self.env.check()?;
        }
        Ok(())
    }
}

/// Splits `total` positions into tasks of at least `grain` and runs them. The fault of the lowest task is returned.
pub fn split(
    env: &dyn Env,
    total: usize,
    grain: usize,
    part: impl Fn(Range<usize>) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    split_dyn(env, total, grain, &part)
}

/// [`split`], compiled once.
fn split_dyn(
    env: &dyn Env,
    total: usize,
    grain: usize,
    part: &(dyn Fn(Range<usize>) -> Result<(), Fault> + Sync),
) -> Result<(), Fault> {
    env.check()?;
    if total == 0 {
        return Ok(());
    }
    let grain = grain.max(total.div_ceil(MAX_TASKS)).max(1);
    let tasks = total.div_ceil(grain);
    if tasks == 1 {
        let result = part(0..total);
        fence();
        return result;
    }
    let first: Mutex<Option<(usize, Fault)>> = Mutex::new(None);
    env.parallel(tasks, &|task| {
        let start = task * grain;
        let result = part(start..total.min(start.saturating_add(grain)));
        fence();
        if let Err(fault) = result {
            let mut first = first.lock().unwrap_or_else(|e| e.into_inner());
            if first.as_ref().is_none_or(|(t, _)| task < *t) {
                *first = Some((task, fault));
            }
        }
    });
    match first.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some((_, fault)) => Err(fault),
        None => Ok(()),
    }
}
