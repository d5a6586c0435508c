//! Products of matrices: packed panels, register tiles, and how a product is split.
//!
//! Both sides are packed into panels of words, blocks of [`Product::block`] words deep. A side that several parts of the result use is
//! packed once, by all workers; otherwise each part packs its own. A part goes through the blocks in order; a tile sums a block from zero
//! in registers, and blocks are added in order. So an element's bits depend on its row and its column alone.
//!
//! Products of up to sixteen rows pack only those, and read the other side once ([`thin`]).
#![allow(clippy::too_many_arguments)]

mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_x86;
mod scratch;
#[cfg(target_arch = "x86_64")]
pub(super) mod thin;
#[cfg(target_arch = "x86_64")]
mod thin_x86;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;
use std::sync::Mutex;

use super::env::{Env, Fault};
use super::simd::{self, Level};
use super::walk::split;

pub(super) use self::pack::{
    pack_lanes, Brain, BrainStraight, Bytes, Depth, Double, DoubleOfI16, Feed, Half, Lanes, Pairs,
    Private, Side, Single, Strided, WideBytes, LANES,
};
pub(super) use self::scratch::{with_space, Buffer, Space};
pub(super) use self::tile::{Arith, Plan, F32, F64, I16};
#[cfg(target_arch = "x86_64")]
pub(super) use self::tile::{Bf16, I8};

/// Words of depth in a block, unless the type's rounding says otherwise.
pub(super) const BLOCK: usize = vmlu_ops::matmul::K_BLOCK as usize;
/// Most rows and columns of a part.
const PART: (usize, usize) = (196, 512);
/// Parts that a product is cut into if it is large, so that no worker waits long for another's last.
const PARTS: usize = 16;
/// Least multiplications of vectors of 16 that a part is worth.
const WORTH: usize = 1 << 16;
/// Most words of a side that are packed for all parts.
const SHARED: usize = 8 << 20;
/// Vector multiplications between two looks at the cancel flag: less than 100 µs.
const CHECK: usize = 200_000;

/// Where results go.
pub(super) trait Sink<T>: Sync {
    /// Takes the sums of some columns of a row, and may change them. `columns` and `row` are the sums of the elements of `b` in each of
    /// these columns and of `a` in this row, if [`Product::sums`] asks for them.
    fn store(&self, row: usize, column: usize, sums: &mut [T], columns: &[T], of_row: T);
}

/// Which sums of operands a sink needs besides the products: words of ones for `a` and for `b`.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums<W> {
    /// Multiplied with the columns of `b`.
    pub columns: Option<W>,
    /// Multiplied with the rows of `a`.
    pub rows: Option<W>,
}

/// A product.
pub(super) struct Product<'p, A: Arith> {
    /// Rows.
    pub a: &'p dyn Side<A::Word>,
    /// Columns.
    pub b: &'p dyn Side<A::Word>,
    /// Words of depth.
    pub words: usize,
    /// Words of a block.
    pub block: usize,
    /// Where the results go.
    pub sink: &'p dyn Sink<A::Acc>,
    /// What the sink needs.
    pub sums: Sums<A::Word>,
}

/// A side in panels: block, panel, word, line.
#[derive(Clone, Copy)]
pub(super) struct Packed<'s, W> {
    words: &'s [W],
    notes: &'s [u16],
    panels: usize,
    pitch: usize,
}

/// How a product is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Rows of a tile.
    rows: usize,
    /// Rows of a part, a multiple of `rows`.
    part_rows: usize,
    /// Columns of a part, a multiple of a panel's.
    part_columns: usize,
    /// Parts down and across.
    pub down: usize,
    /// See `down`.
    pub across: usize,
}

impl Cut {
    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.down * self.across
    }
}

impl<A: Arith> Product<'_, A> {
    /// Computes all of it, on several workers if that pays.
    pub fn run(&self, env: &dyn Env) -> Result<(), Fault> {
        self.run_for(simd::level(), env)
    }

    fn run_for(&self, level: Level, env: &dyn Env) -> Result<(), Fault> {
        let plan = A::plan_for(level);
        let cut = self.cut(plan, PARTS);
        if cut.parts() == 0 {
            return Ok(());
        }
        if cut.parts() == 1 {
            env.check()?;
            return with_space(|space| self.part(plan, &cut, None, None, 0, env, space));
        }
        let fits = |lines: usize| lines.saturating_mul(self.words) <= SHARED;
        let share_a = cut.across > 1 && fits(self.a.lines());
        let share_b = cut.down > 1 && fits(self.b.lines());
        with_space(|space| {
            let a = match share_a {
                true => Some(self.share(
                    env,
                    self.a,
                    cut.rows,
                    plan.pitch_a,
                    &mut space.a,
                    &mut space.notes_a,
                )?),
                false => None,
            };
            let columns = plan.columns;
            let b = match share_b {
                true => Some(self.share(
                    env,
                    self.b,
                    columns,
                    columns,
                    &mut space.b,
                    &mut space.notes_b,
                )?),
                false => None,
            };
            split(env, cut.parts(), 1, |range| {
                with_space(|space| {
                    for part in range {
                        self.part(plan, &cut, a, b, part, env, space)?;
                    }
                    Ok(())
                })
            })
        })
    }

    /// How the product is cut into at least `parts` parts, if it is large enough for that. Shapes alone decide.
    pub fn cut(&self, plan: &Plan<A::Word, A::Acc>, parts: usize) -> Cut {
        let (m, n) = (self.a.lines(), self.b.lines());
        let tiles = m.div_ceil(plan.rows).max(1);
        let rows = m.div_ceil(tiles).max(1);
        let mut part_rows = (PART.0 / rows * rows)
            .min(m.next_multiple_of(rows))
            .max(rows);
        let mut part_columns = PART
            .1
            .min(n.next_multiple_of(plan.columns))
            .max(plan.columns);
        let vectors =
            |r: usize, c: usize| r.saturating_mul(c / plan.lanes).saturating_mul(self.words);
        while m.div_ceil(part_rows) * n.div_ceil(part_columns) < parts
            && vectors(part_rows, part_columns) > 2 * WORTH
        {
            if part_rows > rows && part_rows >= part_columns / 2 {
                part_rows = part_rows.div_ceil(2).next_multiple_of(rows);
            } else if part_columns > plan.columns {
                part_columns = part_columns.div_ceil(2).next_multiple_of(plan.columns);
            } else if part_rows > rows {
                part_rows = part_rows.div_ceil(2).next_multiple_of(rows);
            } else {
                break;
            }
        }
        Cut {
            rows,
            part_rows,
            part_columns,
            down: m.div_ceil(part_rows),
            across: n.div_ceil(part_columns),
        }
    }

    /// Packs a whole side on all workers.
    fn share<'s>(
        &self,
        env: &dyn Env,
        side: &dyn Side<A::Word>,
        lines: usize,
        pitch: usize,
        words: &'s mut Buffer,
        notes: &'s mut Buffer,
    ) -> Result<Packed<'s, A::Word>, Fault> {
        let panels = side.lines().div_ceil(lines);
        let blocks = self.words.div_ceil(self.block);
        let words = words.take::<A::Word>(panels * pitch * self.words);
        let notes = notes.take::<u16>(panels * blocks);
        // About 256 KiB a unit.
        let group = ((1 << 16) / (pitch * self.words.clamp(1, self.block))).max(1);
        type Unit<'u, W> = (usize, usize, &'u mut [W], &'u mut [u16]);
        let mut units: Vec<Mutex<Unit<'_, A::Word>>> = Vec::new();
        let (mut words_left, mut notes_left) = (&mut *words, &mut *notes);
        for block in 0..blocks {
            let deep = self.block.min(self.words - block * self.block);
            for panel in (0..panels).step_by(group) {
                let count = group.min(panels - panel);
                let (w, rest) = words_left.split_at_mut(count * deep * pitch);
                let (n, rest_notes) = notes_left.split_at_mut(count);
                (words_left, notes_left) = (rest, rest_notes);
                units.push(Mutex::new((block, panel, w, n)));
            }
        }
        split(env, units.len(), 1, |range| {
            for unit in &units[range] {
                let mut unit = unit.lock().unwrap_or_else(|e| e.into_inner());
                let (block, panel, words, notes) = &mut *unit;
                let from = *block * self.block;
                let depth = from..self.words.min(from + self.block);
                pack_panels::<A>(env, side, lines, pitch, *panel, depth, words, notes)?;
            }
            Ok(())
        })?;
        Ok(Packed {
            words,
            notes,
            panels,
            pitch,
        })
    }

    /// Panel `panel` of block `block`.
    fn panel<'s>(
        &self,
        packed: &Packed<'s, A::Word>,
        block: usize,
        panel: usize,
    ) -> (&'s [A::Word], u16) {
        let deep = self.block.min(self.words - block * self.block);
        let start = (block * self.block * packed.panels + panel * deep) * packed.pitch;
        (
            &packed.words[start..][..deep * packed.pitch],
            packed.notes[block * packed.panels + panel],
        )
    }

    /// Computes one part, with private memory and without help, and stores it.
    pub fn part(
        &self,
        plan: &Plan<A::Word, A::Acc>,
        cut: &Cut,
        shared_a: Option<Packed<'_, A::Word>>,
        shared_b: Option<Packed<'_, A::Word>>,
        part: usize,
        env: &dyn Env,
        space: &mut Space,
    ) -> Result<(), Fault> {
        let (rows, columns, pitch) =
            self.part_sums(plan, cut, shared_a, shared_b, part, env, space)?;
        let out = space.out.take::<A::Acc>(rows.len() * pitch);
        let sums = space.sums.take::<A::Acc>(pitch + rows.len() * plan.lanes);
        let (column_sums, row_sums) = sums.split_at(pitch);
        for (i, row) in rows.clone().enumerate() {
            let values = &mut out[i * pitch..][..columns.len()];
            let sum = row_sums[i * plan.lanes];
            self.sink.store(
                row,
                columns.start,
                values,
                &column_sums[..columns.len()],
                sum,
            );
            if i % 64 == 63 {
                env.check()?;
            }
        }
        env.check()?;
        Ok(())
    }

    /// Computes the sums of one part: its rows, its columns, and the distance of rows in `space.out`.
    pub fn part_sums(
        &self,
        plan: &Plan<A::Word, A::Acc>,
        cut: &Cut,
        shared_a: Option<Packed<'_, A::Word>>,
        shared_b: Option<Packed<'_, A::Word>>,
        part: usize,
        env: &dyn Env,
        space: &mut Space,
    ) -> Result<(Range<usize>, Range<usize>, usize), Fault> {
        let (down, across) = (part / cut.across, part % cut.across);
        let rows = {
            let start = down * cut.part_rows;
            start..self.a.lines().min(start + cut.part_rows)
        };
        let columns = {
            let start = across * cut.part_columns;
            start..self.b.lines().min(start + cut.part_columns)
        };
        let row_panels = rows.len().div_ceil(cut.rows);
        let column_panels = columns.len().div_ceil(plan.columns);
        let pitch = column_panels * plan.columns;
        let Space {
            a: space_a,
            b: space_b,
            notes_a,
            notes_b,
            out,
            sums,
            spare,
        } = space;
        let out = out.take::<A::Acc>(rows.len() * pitch);
        // The sums of the columns, and behind them those of the rows, each in a vector of equal ones.
        let sums = sums.take::<A::Acc>(pitch + rows.len() * plan.lanes);
        let (column_sums, row_sums) = sums.split_at_mut(pitch);
        if self.words == 0 {
            out.fill(A::Acc::default());
            column_sums.fill(A::Acc::default());
            row_sums.fill(A::Acc::default());
        }
        let mut since_check = 0;
        for (block, from) in (0..self.words).step_by(self.block).enumerate() {
            let depth = from..self.words.min(from + self.block);
            let (deep, first) = (depth.len(), block == 0);
            let local_a = match shared_a {
                Some(_) => None,
                None => {
                    let words = space_a.take(row_panels * deep * plan.pitch_a);
                    let notes = notes_a.take(row_panels);
                    let panel = rows.start / cut.rows;
                    pack_panels::<A>(
                        env,
                        self.a,
                        cut.rows,
                        plan.pitch_a,
                        panel,
                        depth.clone(),
                        words,
                        notes,
                    )?;
                    Some((&*words, &*notes))
                }
            };
            // As many panels of `b` at a time as stay in the second-level cache.
            const TOGETHER: usize = 8;
            for start in (0..column_panels).step_by(TOGETHER) {
                let count = TOGETHER.min(column_panels - start);
                let panel = columns.start / plan.columns + start;
                let local_b = match shared_b {
                    Some(_) => None,
                    None => {
                        let words = space_b.take(count * deep * plan.columns);
                        let notes = notes_b.take(count);
                        let lines = plan.columns;
                        pack_panels::<A>(
                            env,
                            self.b,
                            lines,
                            lines,
                            panel,
                            depth.clone(),
                            words,
                            notes,
                        )?;
                        Some((&*words, &*notes))
                    }
                };
                for j in 0..count {
                    let (b, note_b) = match (local_b, &shared_b) {
                        (Some((words, notes)), _) => (
                            &words[j * deep * plan.columns..][..deep * plan.columns],
                            notes[j],
                        ),
                        (None, Some(packed)) => self.panel(packed, block, panel + j),
                        (None, None) => unreachable!("packed above"),
                    };
                    let column = (start + j) * plan.columns;
                    let width = plan.columns.min(columns.len() - column);
                    for i in 0..row_panels {
                        let (a, note_a) = match (local_a, &shared_a) {
                            (Some((words, notes)), _) => (
                                &words[i * deep * plan.pitch_a..][..deep * plan.pitch_a],
                                notes[i],
                            ),
                            (None, Some(packed)) => {
                                self.panel(packed, block, rows.start / cut.rows + i)
                            }
                            (None, None) => unreachable!("packed above"),
                        };
                        let height = cut.rows.min(rows.len() - i * cut.rows);
                        let to = &mut out[i * cut.rows * pitch + column..];
                        A::multiply(
                            plan,
                            (height, width),
                            (a, b),
                            (note_a, note_b),
                            spare,
                            to,
                            pitch,
                            first,
                        );
                        since_check += deep * (height * 2 + 8);
                        if since_check > CHECK {
                            since_check = 0;
                            env.check()?;
                        }
                        if let (Some(one), true) = (self.sums.rows, column == 0) {
                            let ones = spare.take(deep * plan.columns);
                            ones.fill(one);
                            let to = &mut row_sums[i * cut.rows * plan.lanes..];
                            plan.run((height, 1), (a, ones), to, plan.lanes, first);
                        }
                    }
                    if let Some(one) = self.sums.columns {
                        let ones = spare.take(deep * plan.pitch_a);
                        ones.fill(one);
                        plan.run(
                            (1, width),
                            (ones, b),
                            &mut column_sums[column..],
                            pitch,
                            first,
                        );
                    }
                }
            }
        }
        Ok((rows, columns, pitch))
    }
}

/// Computes many products of one shape: `element(i, then)` makes product `i` and calls `then` with it. Products of many parts are split;
/// others are parts themselves.
pub(super) fn run_all<A: Arith>(
    env: &dyn Env,
    count: usize,
    element: impl Fn(usize, &mut Then<'_, A>) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let plan = A::plan_for(simd::level());
    let mut shape = None;
    element(0, &mut |product| {
        let vectors = (product.a.lines() * product.b.lines()).saturating_mul(product.words);
        shape = Some((product.cut(plan, 1), vectors / plan.lanes));
        Ok(())
    })?;
    let Some((cut, work)) = shape else {
        return Ok(());
    };
    if count == 1 || cut.parts() > 4 {
        return (0..count).try_for_each(|i| element(i, &mut |product| product.run(env)));
    }
    let grain = (WORTH / work.max(1)).max(1);
    split(env, count * cut.parts(), grain, |range| {
        with_space(|space| {
            range.into_iter().try_for_each(|i| {
                element(i / cut.parts(), &mut |product| {
                    let part = i % cut.parts();
                    product.part(plan, &cut, None, None, part, env, space)
                })
            })
        })
    })
}

/// What [`run_all`] does with a product.
pub(super) type Then<'t, A> = dyn FnMut(&Product<'_, A>) -> Result<(), Fault> + 't;

/// Packs panels of `lines` lines from number `panel` on, as many as `notes` has, over some words of depth.
fn pack_panels<A: Arith>(
    env: &dyn Env,
    side: &dyn Side<A::Word>,
    lines: usize,
    pitch: usize,
    panel: usize,
    depth: Range<usize>,
    to: &mut [A::Word],
    notes: &mut [u16],
) -> Result<(), Fault> {
    let size = depth.len() * pitch;
    // Words at a time: across the lines, all panels go along together, so that memory is read in long rows.
    let chunk = if side.across() { 32 } else { depth.len() };
    let mut since_check = 0;
    for start in (0..depth.len()).step_by(chunk) {
        let words = depth.start + start..depth.end.min(depth.start + start + chunk);
        for i in 0..notes.len() {
            let first = (panel + i) * lines;
            let these = first..side.lines().min(first + lines);
            let to = &mut to[i * size + start * pitch..][..words.len() * pitch];
            since_check += to.len();
            side.pack(these, words.clone(), pitch, to);
            if since_check > 1 << 16 {
                since_check = 0;
                env.check()?;
            }
        }
    }
    for (note, panel) in notes.iter_mut().zip(to.chunks_exact(size)) {
        *note = A::inspect(panel);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
