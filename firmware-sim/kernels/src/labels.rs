//! Labels of rows: the classes that losses look up.

use std::sync::Mutex;

use vmlu_abi::tensor::MAX_DIMS;
use vmlu_abi::Status;
use vmlu_ops::tensor::Tensor;

use super::env::{Env, Fault};
use super::number::TILE;
use super::random::numbering;
use super::view::View;
use super::walk::{split, Pace, Walk};

/// Rows of a task that only looks at labels.
const GRAIN: usize = 32 * TILE;

/// The labels. They stay in operand memory, since there may be more than the host has memory for: all are checked before anything is
/// written, and each is checked again when it is used, on a private copy.
pub(super) struct Labels<'v, 'a> {
    pub(super) operator: &'static str,
    /// The operand, number 1.
    pub(super) name: &'static str,
    pub(super) view: &'v View<'a>,
    pub(super) tensor: &'v Tensor,
    pub(super) classes: u64,
    pub(super) ignore: Option<i64>,
}

/// Strides of a tensor's rows: without those of the classes, the second axis.
pub(super) fn row_strides(tensor: &Tensor) -> [i64; MAX_DIMS] {
    let mut strides = [0; MAX_DIMS];
    strides[0] = tensor.strides()[0];
    for (s, t) in strides[1..].iter_mut().zip(&tensor.strides()[2..]) {
        *s = *t;
    }
    strides
}

impl Labels<'_, '_> {
    /// The rows in row-major order, over several tensors, the last being their numbers.
    pub(super) fn walk<const N: usize>(&self, strides: [&[i64]; N]) -> Walk<N> {
        let numbers = numbering(self.tensor);
        let mut strides: [&[i64]; N] = strides;
        strides[N - 1] = &numbers;
        Walk::new(self.tensor.dims(), strides, N - 1)
    }

    /// Checks all labels; the fault names the first that is out of range.
    pub(super) fn check(&self, env: &dyn Env) -> Result<(), Fault> {
        let walk = self.walk([self.tensor.strides(), &[]]);
        split(env, walk.total(), GRAIN, |range| {
            let mut pace = Pace::new(env);
            walk.rows(range, TILE, [0; 2], |at, step, count| {
                let mut part = [0i64; TILE];
                self.load(at[0], step[0], &mut part[..count]);
                for (i, label) in part[..count].iter().enumerate() {
                    let i = i as isize;
                    self.class(at[0] + i * step[0], (at[1] + i * step[1]) as usize, *label)?;
                }
                pace.did(count)
            })
        })
    }

    /// The class of the row with this offset and number; `None` if the row does not count.
    pub(super) fn get(&self, offset: isize, row: usize) -> Result<Option<usize>, Fault> {
        let mut label = [0];
        self.load(offset, 1, &mut label);
        self.class(offset, row, label[0])
    }

    /// Copies at most [`TILE`] labels.
    fn load(&self, offset: isize, stride: isize, to: &mut [i64]) {
        if self.tensor.dtype.size() == 8 {
            return self.view.load(offset, stride, to);
        }
        let mut narrow = [0i32; TILE];
        let narrow = &mut narrow[..to.len()];
        self.view.load(offset, stride, narrow);
        for (t, n) in to.iter_mut().zip(narrow) {
            *t = i64::from(*n);
        }
    }

    fn class(&self, offset: isize, row: usize, label: i64) -> Result<Option<usize>, Fault> {
        if self.ignore == Some(label) {
            return Ok(None);
        }
        if u64::try_from(label).is_ok_and(|l| l < self.classes) {
            return Ok(Some(label as usize));
        }
        let bytes = (offset as i64).wrapping_mul(self.tensor.dtype.size() as i64);
        Err(Fault::operand(
            Status::IndexOutOfRange,
            1,
            self.tensor.address.wrapping_add_signed(bytes),
            format!(
                "{}: {}[{row}] is {label}, but there are {} classes",
                self.operator, self.name, self.classes
            ),
        ))
    }
}

/// Two sums in f64 over tasks, added in their order.
#[derive(Default)]
pub(super) struct Sums(Mutex<Vec<(usize, [f64; 2])>>);

impl Sums {
    /// Takes a task's sums; `start` is its first position.
    pub(super) fn add(&self, start: usize, sums: [f64; 2]) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.push((start, sums));
    }

    /// All of them.
    pub(super) fn total(self) -> [f64; 2] {
        let mut all = self.0.into_inner().unwrap_or_else(|e| e.into_inner());
        all.sort_unstable_by_key(|(start, _)| *start);
        all.iter()
            .fold([0.0; 2], |[a, b], (_, [c, d])| [a + c, b + d])
    }
}
