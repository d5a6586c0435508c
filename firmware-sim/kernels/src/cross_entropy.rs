//! Kernel of `vmlu_ops::cross_entropy`, and what its gradient shares.

use vmlu_abi::Status;
use vmlu_ops::cross_entropy::{Checked, CrossEntropy};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::math::Real;
use super::number::{with_float, Storage, TILE};
use super::softmax::Row;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<CrossEntropy>(body)?;
    let logits = View::open(env, 0, &op.logits, Access::Read)?;
    let labels = View::open(env, 1, &op.labels, Access::Read)?;
    let loss = View::open(env, 2, &op.loss, Access::Write)?;
    let probabilities = match &op.probabilities {
        Some(p) => Some(View::open(env, 3, p, Access::Write)?),
        None => None,
    };
    let labels = Labels {
        operator: "cross_entropy",
        view: &labels,
        tensor: &op.labels,
        classes: op.logits.dims()[1],
        ignore: op.ignore,
    };
    labels.check(env)?;
    with_float!(op.logits.dtype, S => compute::<S>(&op, env, &logits, &labels, &loss, probabilities.as_ref())?);
    Ok(op.cost().into())
}

fn compute<S: Storage<Compute: Real>>(
    op: &Checked,
    env: &dyn Env,
    logits: &View<'_>,
    labels: &Labels<'_, '_>,
    loss: &View<'_>,
    probabilities: Option<&View<'_>>,
) -> Result<(), Fault> {
    let (rows, classes) = (op.logits.dims()[0] as usize, op.logits.dims()[1] as usize);
    split(env, rows, rows_per_task(classes), |range| {
        let mut pace = Pace::new(env);
        for i in range {
            let row = Row {
                view: logits,
                offset: i as isize * op.logits.strides()[0] as isize,
                stride: op.logits.strides()[1] as isize,
                count: classes,
            };
            let norm = row.norm::<S>(&mut pace)?;
            let value = match labels.get(i)? {
                // From the logit itself, before an in-place softmax overwrites it.
                Some(label) => norm.loss(row.element::<S>(label)),
                None => S::Compute::default(),
            };
            if let (Some(view), Some(p)) = (probabilities, &op.probabilities) {
                let to = Row {
                    view,
                    offset: i as isize * p.strides()[0] as isize,
                    stride: p.strides()[1] as isize,
                    count: classes,
                };
                row.write_softmax::<S>(&norm, &to, &mut pace)?;
            }
            let at = i as isize * op.loss.strides()[0] as isize;
            S::store(loss, at, 1, &[value]);
        }
        Ok(())
    })
}

/// Rows of a task.
pub(super) fn rows_per_task(classes: usize) -> usize {
    (16 * TILE / classes.max(1)).max(1)
}

/// The labels. They stay in operand memory, since there may be more than the host has memory for: all are checked before anything is
/// written, and each is checked again when it is used, on a private copy.
pub(super) struct Labels<'v, 'a> {
    pub(super) operator: &'static str,
    pub(super) view: &'v View<'a>,
    pub(super) tensor: &'v Tensor,
    pub(super) classes: u64,
    pub(super) ignore: Option<i64>,
}

impl Labels<'_, '_> {
    /// Checks all labels; the fault names the first that is out of range.
    pub(super) fn check(&self, env: &dyn Env) -> Result<(), Fault> {
        let rows = self.tensor.elements as usize;
        let mut pace = Pace::new(env);
        let mut part = [0i64; TILE];
        let mut start = 0;
        while start < rows {
            let part = &mut part[..(rows - start).min(TILE)];
            self.load(start, part);
            for (i, label) in part.iter().enumerate() {
                self.class(start + i, *label)?;
            }
            start += part.len();
            pace.did(part.len())?;
        }
        Ok(())
    }

    /// The class of a row; `None` if the row does not count.
    pub(super) fn get(&self, row: usize) -> Result<Option<usize>, Fault> {
        let mut label = [0];
        self.load(row, &mut label);
        self.class(row, label[0])
    }

    /// Copies at most [`TILE`] labels.
    fn load(&self, start: usize, to: &mut [i64]) {
        let stride = self.tensor.strides()[0] as isize;
        let at = start as isize * stride;
        if self.tensor.dtype.size() == 8 {
            return self.view.load(at, stride, to);
        }
        let mut narrow = [0i32; TILE];
        let narrow = &mut narrow[..to.len()];
        self.view.load(at, stride, narrow);
        for (t, n) in to.iter_mut().zip(narrow) {
            *t = i64::from(*n);
        }
    }

    fn class(&self, row: usize, label: i64) -> Result<Option<usize>, Fault> {
        if self.ignore == Some(label) {
            return Ok(None);
        }
        if u64::try_from(label).is_ok_and(|l| l < self.classes) {
            return Ok(Some(label as usize));
        }
        let bytes = (row as i64)
            .wrapping_mul(self.tensor.strides()[0])
            .wrapping_mul(self.tensor.dtype.size() as i64);
        Err(Fault::operand(
            Status::IndexOutOfRange,
            1,
            self.tensor.address.wrapping_add_signed(bytes),
            format!(
                "{}: labels[{row}] is {label}, but there are {} classes",
                self.operator, self.classes
            ),
        ))
    }
}
