//! What the optimisers' kernels share: walking over the parameters of `vmlu_ops::parameters`, a tile at a time, on several cores.

use std::ops::Range;
use std::sync::Mutex;

use vmlu_abi::tensor::DataType;
use vmlu_ops::parameters::{
    Parameter, Parameters, FLAG_MAXIMIZE, MAX_STATES, SCALE, SKIP, VECTORS,
};

use super::env::{Access, Env, Fault};
use super::floats::Float;
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace};

/// Elements of a block: the unit of work, and of sums.
pub const BLOCK: usize = 16 * TILE;
/// Elements that a task is worth.
const GRAIN: usize = 32 * TILE;

/// The memory of a parameter.
struct Views<'a> {
    weight: View<'a>,
    gradient: View<'a>,
    states: [Option<View<'a>>; MAX_STATES],
    copy: Option<View<'a>>,
}

/// A command's parameters, opened.
pub struct Model<'a> {
    op: &'a Parameters,
    env: &'a dyn Env,
    views: Vec<Views<'a>>,
    /// First block of each parameter, and their number.
    starts: Vec<usize>,
    scale: f32,
    skip: bool,
}

/// What happens to the states of an update.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum States {
    /// Read and written.
    Updated,
    /// Only written: what is read is 0.
    Fresh,
    /// Only read.
    Kept,
}

/// A tile of a parameter, in private memory.
pub struct Part<'t, T> {
    /// Which parameter it is of.
    pub parameter: usize,
    /// Weights.
    pub w: &'t mut [T],
    /// Gradients, as the update takes them.
    pub g: &'t mut [T],
    /// States.
    pub s: [&'t mut [T]; MAX_STATES],
}

impl<'a> Model<'a> {
    /// Opens all operands, and reads what tells whether to work at all.
    pub fn open(env: &'a dyn Env, op: &'a Parameters) -> Result<Self, Fault> {
        let mut views = Vec::with_capacity(op.each.len());
        let mut starts = vec![0];
        for (i, p) in op.each.iter().enumerate() {
            let number = |k: usize| (VECTORS * i + k) as u16;
            let mut states = [None, None, None];
            for (k, state) in states.iter_mut().enumerate() {
                if let Some(tensor) = &p.states[k] {
                    *state = Some(View::open(env, number(2 + k), tensor, Access::Write)?);
                }
            }
            views.push(Views {
                weight: View::open(env, number(0), &p.weight, Access::Write)?,
                gradient: View::open(env, number(1), &p.gradient, Access::Read)?,
                states,
                copy: match &p.copy {
                    Some(tensor) => Some(View::open(env, number(5), tensor, Access::Write)?),
                    None => None,
                },
            });
            starts.push(starts[i] + (p.weight.elements as usize).div_ceil(BLOCK));
        }
        let mut scalars = [1f32, 0.0];
        let operands = [(SCALE, &op.scale), (SKIP, &op.skip)];
        for ((k, tensor), scalar) in operands.into_iter().zip(&mut scalars) {
            if let Some(tensor) = tensor {
                let view = View::open(env, k, tensor, Access::Read)?;
                view.load(0, 1, std::slice::from_mut(scalar));
            }
        }
        Ok(Self {
            op,
            env,
            views,
            starts,
            scale: scalars[0],
            skip: scalars[1] != 0.0,
        })
    }

    /// Whether nothing is to be done.
    pub fn skipped(&self) -> bool {
        self.skip
    }

    /// Updates all: `step` is called for each tile, and what it leaves is stored.
    pub fn update<T: Float>(
        &self,
        states: States,
        step: impl Fn(&mut Part<'_, T>) + Sync,
    ) -> Result<(), Fault> {
        if self.skip {
            return Ok(());
        }
        self.blocks(&|index, elements| {
            let (p, v) = (&self.op.each[index], &self.views[index]);
            self.tiles::<T>(index, elements, states == States::Fresh, &|part, start| {
                step(part);
                if states != States::Kept {
                    self.store_states(v, start, part);
                }
                T::store(self.op.dtype, &v.weight, start, 1, part.w);
                self.copy(p, v, start, part.w);
            })
        })
    }

    /// As [`Model::update`], but stores only states; the sums that `step` adds to are returned, of each parameter.
    pub fn states_and_sums<T: Float>(
        &self,
        step: impl Fn(&mut Part<'_, T>, &mut [f64; 2]) + Sync,
    ) -> Result<Vec<[f64; 2]>, Fault> {
        let blocks = self.starts[self.views.len()];
        let partial = Mutex::new(vec![[0.0; 2]; blocks]);
        self.blocks(&|index, elements| {
            let block = self.starts[index] + elements.start / BLOCK;
            let v = &self.views[index];
            let sums = Mutex::new([0.0; 2]);
            self.tiles::<T>(index, elements, false, &|part, start| {
                step(part, &mut sums.lock().unwrap_or_else(|e| e.into_inner()));
                self.store_states(v, start, part);
            })?;
            let sums = sums.into_inner().unwrap_or_else(|e| e.into_inner());
            partial.lock().unwrap_or_else(|e| e.into_inner())[block] = sums;
            Ok(())
        })?;
        let partial = partial.into_inner().unwrap_or_else(|e| e.into_inner());
        let of = |i: usize| &partial[self.starts[i]..self.starts[i + 1]];
        let add = |[a, b]: [f64; 2], [c, d]: &[f64; 2]| [a + c, b + d];
        Ok((0..self.views.len())
            .map(|i| of(i).iter().fold([0.0; 2], add))
            .collect())
    }

    fn store_states<T: Float>(&self, v: &Views<'_>, start: isize, part: &Part<'_, T>) {
        for (s, view) in part.s.iter().zip(&v.states) {
            if let Some(view) = view {
                T::store(self.op.dtype, view, start, 1, s);
            }
        }
    }

    /// Stores the copy of new weights.
    fn copy<T: Float>(&self, p: &Parameter, v: &Views<'_>, start: isize, w: &[T]) {
        if let (Some(tensor), Some(view)) = (&p.copy, &v.copy) {
            T::store(tensor.dtype, view, start, 1, w);
        }
    }

    /// Calls `run(parameter, elements)` for all blocks, on several cores.
    fn blocks(
        &self,
        run: &(dyn Fn(usize, Range<usize>) -> Result<(), Fault> + Sync),
    ) -> Result<(), Fault> {
        let blocks = self.starts[self.views.len()];
        let mean = self.op.elements() as usize / blocks.max(1);
        let grain = GRAIN.div_ceil(mean.max(1));
        split(self.env, blocks, grain, |range| {
            // The last parameter that begins at or before the block; empty ones begin where the next does.
            let mut index = self.starts.partition_point(|s| *s <= range.start) - 1;
            for block in range {
                while self.starts[index + 1] <= block {
                    index += 1;
                }
                let start = (block - self.starts[index]) * BLOCK;
                let end = (self.op.each[index].weight.elements as usize).min(start + BLOCK);
                run(index, start..end)?;
            }
            Ok(())
        })
    }

    /// Loads the tiles of a block.
    fn tiles<T: Float>(
        &self,
        parameter: usize,
        elements: Range<usize>,
        fresh: bool,
        step: &dyn Fn(&mut Part<'_, T>, isize),
    ) -> Result<(), Fault> {
        let v = &self.views[parameter];
        let (dtype, scale) = (self.op.dtype, T::of(f64::from(self.scale)));
        let mut pace = Pace::new(self.env);
        let mut room = [[T::default(); TILE]; 2 + MAX_STATES];
        for start in elements.clone().step_by(TILE) {
            let count = TILE.min(elements.end - start);
            let at = start as isize;
            let [w, g, a, b, c] = room.each_mut().map(|r| &mut r[..count]);
            T::load(dtype, &v.weight, at, 1, w);
            T::load(self.op.gradient_type, &v.gradient, at, 1, g);
            let mut s = [a, b, c];
            for (s, view) in s.iter_mut().zip(&v.states) {
                match view {
                    Some(view) if !fresh => T::load(dtype, view, at, 1, s),
                    _ => s.fill(T::default()),
                }
            }
            if self.op.scale.is_some() {
                g.iter_mut().for_each(|g| *g = g.div(scale));
            }
            if self.op.flags & FLAG_MAXIMIZE != 0 {
                g.iter_mut().for_each(|g| *g = g.neg());
            }
            let mut part = Part { parameter, w, g, s };
            step(&mut part, at);
            pace.did(4 * count)?;
        }
        Ok(())
    }

    /// Type of weights and states.
    pub fn dtype(&self) -> DataType {
        self.op.dtype
    }
}
