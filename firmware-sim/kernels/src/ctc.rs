//! Kernel of `vmlu_ops::ctc`, and the lattice that its gradient shares.

use vmlu_abi::Status;
use vmlu_ops::ctc::{Checked, Ctc, Problem, MAX_TARGET};
use vmlu_ops::loss::Reduction;
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::labels::Sums;
use super::number::TILE;
use super::poly64;
use super::simd::multiversion;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Ctc>(body)?;
    let lattice = Lattice::open("ctc", env, &op.of, Access::Write)?;
    let loss = View::open(env, 4, &op.loss, Access::Write)?;
    lattice.check()?;
    with_compute!(op.of.x.dtype, T => compute::<T>(&op, &lattice, &loss)?);
    Ok(op.cost().into())
}

fn compute<T: Float>(op: &Checked, lattice: &Lattice<'_>, loss: &View<'_>) -> Result<(), Fault> {
    let sums = Sums::default();
    let dtype = op.of.x.dtype;
    let each = op.of.reduction == Reduction::None;
    split(lattice.env, lattice.batch(), 1, |range| {
        let (start, mut sum) = (range.start, 0.0);
        for n in range {
            let example = lattice.example(n)?;
            let mut lost = example.forward::<T>(lattice)?;
            if op.of.zero_infinity && lost == f64::INFINITY {
                lost = 0.0;
            }
            match op.of.reduction {
                Reduction::Mean => sum += lost / example.length() as f64,
                _ => sum += lost,
            }
            if each {
                let at = n as isize * op.loss_stride() as isize;
                T::store(dtype, loss, at, 1, &[T::of(lost)]);
            }
        }
        sums.add(start, [sum, 0.0]);
        Ok(())
    })?;
    let [sum, _] = sums.total();
    match op.of.reduction {
        Reduction::None => {}
        Reduction::Mean => {
            let mean = sum / lattice.batch() as f64;
            T::store(dtype, loss, 0, 1, &[T::of(mean)]);
        }
        _ => T::store(dtype, loss, 0, 1, &[T::of(sum)]),
    }
    Ok(())
}

/// The operands of all examples.
pub(super) struct Lattice<'a> {
    operator: &'static str,
    pub(super) env: &'a dyn Env,
    pub(super) of: &'a Problem,
    x: View<'a>,
    targets: View<'a>,
    pub(super) alpha: View<'a>,
    /// Steps of each example, and its targets: the first, and how many.
    steps: Vec<usize>,
    places: Vec<(usize, usize)>,
}

/// One of them: a checked copy of what decides.
pub(super) struct Example {
    number: usize,
    pub(super) steps: usize,
    /// The classes of its states.
    pub(super) states: Vec<usize>,
    /// 0 where a state follows the one before the last directly, else -∞.
    skips: Vec<f64>,
}

impl<'a> Lattice<'a> {
    pub(super) fn open(
        operator: &'static str,
        env: &'a dyn Env,
        of: &'a Problem,
        access: Access,
    ) -> Result<Self, Fault> {
        let x = View::open(env, 0, &of.x, Access::Read)?;
        let targets = View::open(env, 1, &of.targets, Access::Read)?;
        let inputs = View::open(env, 2, &of.input_lengths, Access::Read)?;
        let lengths = View::open(env, 3, &of.target_lengths, Access::Read)?;
        let alpha = View::open(env, 5, &of.alpha, access)?;
        let mut lattice = Self {
            operator,
            env,
            of,
            x,
            targets,
            alpha,
            steps: Vec::new(),
            places: Vec::new(),
        };
        lattice.read_lengths(&inputs, &lengths)?;
        Ok(lattice)
    }

    fn fault(&self, operand: u16, tensor: &Tensor, text: std::fmt::Arguments<'_>) -> Fault {
        let text = format!("{}: {text}", self.operator);
        Fault::operand(Status::IndexOutOfRange, operand, tensor.address, text)
    }

    /// Copies and checks the lengths.
    fn read_lengths(&mut self, inputs: &View<'_>, lengths: &View<'_>) -> Result<(), Fault> {
        let of = self.of;
        let batch = of.x.dims()[1] as usize;
        let states = of.alpha.dims()[2] as usize;
        let flat = of.targets.rank() == 1;
        let available = of.targets.dims()[of.targets.rank() - 1] as usize;
        let mut next = 0;
        let mut pace = Pace::new(self.env);
        for n in 0..batch {
            let steps = whole(
                &of.input_lengths,
                inputs,
                n as isize * of.input_lengths.strides()[0] as isize,
            );
            let length = whole(
                &of.target_lengths,
                lengths,
                n as isize * of.target_lengths.strides()[0] as isize,
            );
            let most = of.x.dims()[0] as usize;
            match usize::try_from(steps).ok().filter(|s| *s <= most) {
                Some(s) => self.steps.push(s),
                None => {
                    let text =
                        format_args!("input_lengths[{n}] is {steps}, there are {most} steps");
                    return Err(self.fault(2, &of.input_lengths, text));
                }
            }
            let most = if flat { available - next } else { available };
            let most = most
                .min(states.saturating_sub(1) / 2)
                .min(MAX_TARGET as usize);
            match usize::try_from(length)
                .ok()
                .filter(|l| *l <= most && states > 0)
            {
                Some(l) => {
                    self.places.push((next, l));
                    next += if flat { l } else { 0 };
                }
                None => {
                    let text =
                        format_args!("target_lengths[{n}] is {length}, there is room for {most}");
                    return Err(self.fault(3, &of.target_lengths, text));
                }
            }
            pace.did(8)?;
        }
        Ok(())
    }

    /// Examples.
    pub(super) fn batch(&self) -> usize {
        self.steps.len()
    }

    /// Checks all targets.
    pub(super) fn check(&self) -> Result<(), Fault> {
        split(self.env, self.batch(), 64, |range| {
            range
                .into_iter()
                .try_for_each(|n| self.example(n).map(|_| ()))
        })
    }

    /// Copies and checks an example's targets.
    pub(super) fn example(&self, n: usize) -> Result<Example, Fault> {
        let (first, length) = self.places[n];
        let (tensor, blank) = (&self.of.targets, self.of.blank);
        let classes = self.of.x.dims()[2] as usize;
        let stride = tensor.strides()[tensor.rank() - 1] as isize;
        let base = match tensor.rank() {
            1 => first as isize * stride,
            _ => n as isize * tensor.strides()[0] as isize,
        };
        let mut pace = Pace::new(self.env);
        let mut states = vec![blank; 2 * length + 1];
        let mut skips = vec![f64::NEG_INFINITY; 2 * length + 1];
        for i in 0..length {
            let class = whole(tensor, &self.targets, base + i as isize * stride);
            let Some(class) = usize::try_from(class).ok().filter(|c| *c < classes) else {
                let text = format_args!(
                    "target {i} of example {n} is {class}, there are {classes} classes"
                );
                return Err(self.fault(1, tensor, text));
            };
            states[2 * i + 1] = class;
            if i > 0 && class != states[2 * i - 1] {
                skips[2 * i + 1] = 0.0;
            }
            pace.did(4)?;
        }
        Ok(Example {
            number: n,
            steps: self.steps[n],
            states,
            skips,
        })
    }

    /// Offset of a step's row of an example in `x` or in what has its shape.
    pub(super) fn row(&self, tensor: &Tensor, n: usize, t: usize) -> isize {
        t as isize * tensor.strides()[0] as isize + n as isize * tensor.strides()[1] as isize
    }
}

/// A whole number of an I32 or I64.
fn whole(tensor: &Tensor, view: &View<'_>, offset: isize) -> i64 {
    if tensor.dtype.size() == 8 {
        let mut value = [0i64];
        view.load(offset, 1, &mut value);
        return value[0];
    }
    let mut value = [0i32];
    view.load(offset, 1, &mut value);
    i64::from(value[0])
}

impl Example {
    /// Length of the target, at least 1.
    pub(super) fn length(&self) -> usize {
        (self.states.len() / 2).max(1)
    }

    /// `x` of each state at a step.
    pub(super) fn emissions<T: Float>(&self, lattice: &Lattice<'_>, t: usize, to: &mut [f64]) {
        let x = &lattice.of.x;
        let row = lattice.row(x, self.number, t);
        for (to, class) in to.iter_mut().zip(&self.states) {
            let mut value = [T::default()];
            let at = row + *class as isize * x.strides()[2] as isize;
            T::load(x.dtype, &lattice.x, at, 1, &mut value);
            *to = value[0].to_f64();
        }
    }

    /// Loads a part of a step's row of `x`.
    pub(super) fn classes<T: Float>(
        &self,
        lattice: &Lattice<'_>,
        t: usize,
        start: usize,
        to: &mut [T],
    ) {
        let x = &lattice.of.x;
        let stride = x.strides()[2] as isize;
        let at = lattice.row(x, self.number, t) + start as isize * stride;
        T::load(x.dtype, &lattice.x, at, stride, to);
    }

    /// Offset of a step's states, and their distance.
    fn place(&self, lattice: &Lattice<'_>, t: usize) -> (isize, isize) {
        let strides = lattice.of.alpha.strides();
        let at = self.number as isize * strides[0] as isize + t as isize * strides[1] as isize;
        (at, strides[2] as isize)
    }

    /// Reads a step's alphas.
    pub(super) fn alphas(&self, lattice: &Lattice<'_>, t: usize, to: &mut [f64]) {
        let (at, stride) = self.place(lattice, t);
        lattice.alpha.load(at, stride, to);
    }

    /// Computes and stores all alphas; returns the loss.
    fn forward<T: Float>(&self, lattice: &Lattice<'_>) -> Result<f64, Fault> {
        let count = self.states.len();
        let mut rows = Recursion::new(&self.skips);
        let mut emissions = vec![0.0; count];
        let mut pace = Pace::new(lattice.env);
        for t in 0..self.steps {
            self.emissions::<T>(lattice, t, &mut emissions);
            rows.advance(&emissions, &mut pace)?;
            let (at, stride) = self.place(lattice, t);
            for (i, part) in rows.now().chunks(TILE).enumerate() {
                let from = at + (i * TILE) as isize * stride;
                lattice.alpha.store(from, stride, part);
            }
            pace.did(8 * count)?;
        }
        Ok(self.loss(if self.steps > 0 {
            Some(rows.now())
        } else {
            None
        }))
    }

    /// The loss, from the last step's alphas, if there is one.
    pub(super) fn loss(&self, last: Option<&[f64]>) -> f64 {
        match last {
            None if self.states.len() == 1 => 0.0,
            None => f64::INFINITY,
            Some(a) => {
                let end = a[a.len() - 1];
                let before = a.len().checked_sub(2).map_or(f64::NEG_INFINITY, |i| a[i]);
                -either(end, before, f64::NEG_INFINITY)
            }
        }
    }

    /// The recursion from the end, whose states count backwards.
    pub(super) fn backwards(&self) -> Recursion {
        // A state may be left for the one after the next where that may be reached so.
        let mut skips = vec![f64::NEG_INFINITY; self.states.len()];
        for (i, s) in self.skips.iter().enumerate().skip(2) {
            skips[self.states.len() - 1 - (i - 2)] = *s;
        }
        Recursion::new(&skips)
    }
}

/// A step after the other of the probabilities of all states.
pub(super) struct Recursion {
    /// Two states that are never taken, and all that there are, in this step.
    row: Vec<f64>,
    next: Vec<f64>,
    skips: Vec<f64>,
    begun: bool,
}

impl Recursion {
    fn new(skips: &[f64]) -> Self {
        Self {
            row: vec![f64::NEG_INFINITY; skips.len() + 2],
            next: vec![f64::NEG_INFINITY; skips.len() + 2],
            skips: skips.to_vec(),
            begun: false,
        }
    }

    /// Goes on by a step.
    pub(super) fn advance(&mut self, emissions: &[f64], pace: &mut Pace<'_>) -> Result<(), Fault> {
        if !self.begun {
            self.begun = true;
            for (r, e) in self.row[2..].iter_mut().zip(emissions).take(2) {
                *r = *e;
            }
            return Ok(());
        }
        for start in (0..emissions.len()).step_by(TILE) {
            let end = emissions.len().min(start + TILE);
            let (row, skips) = (&self.row[start..end + 2], &self.skips[start..end]);
            step(
                row,
                skips,
                &emissions[start..end],
                &mut self.next[2 + start..2 + end],
            );
            pace.did(16 * (end - start))?;
        }
        std::mem::swap(&mut self.row, &mut self.next);
        Ok(())
    }

    /// This step's.
    pub(super) fn now(&self) -> &[f64] {
        &self.row[2..]
    }
}

/// `log(eᵃ + eᵇ + eᶜ)`.
#[inline(always)]
fn either(a: f64, b: f64, c: f64) -> f64 {
    let most = if b > a { b } else { a };
    let most = if c > most { c } else { most };
    let none = most == f64::NEG_INFINITY;
    let base = if none { 0.0 } else { most };
    let sum = poly64::exp(a - base) + poly64::exp(b - base) + poly64::exp(c - base);
    let all = base + poly64::log(sum);
    if none && !(a.is_nan() | b.is_nan() | c.is_nan()) {
        f64::NEG_INFINITY
    } else {
        all
    }
}

multiversion! {
    /// `to[i] = log(e^row[i + 2] + e^row[i + 1] + e^(row[i] + skip[i])) + emission[i]`.
    fn step(row: &[f64], skips: &[f64], emissions: &[f64], to: &mut [f64]) {
        let n = to.len();
        let (a, b, c) = (&row[2..][..n], &row[1..][..n], &row[..n]);
        let (skips, emissions) = (&skips[..n], &emissions[..n]);
        for i in 0..n {
            to[i] = either(a[i], b[i], c[i] + skips[i]) + emissions[i];
        }
    }
}
