//! Kernel of `vmlu_ops::ctc_backward`.

use vmlu_ops::ctc_backward::{Checked, CtcBackward};
use vmlu_ops::loss::Reduction;

use super::ctc::{Example, Lattice};
use super::env::{Access, Env, Fault, Work};
use super::floats::{with_compute, Float};
use super::number::TILE;
use super::view::View;
use super::walk::{split, Pace};

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<CtcBackward>(body)?;
    let lattice = Lattice::open("ctc_backward", env, &op.of, Access::Read)?;
    let upstream = View::open(env, 4, &op.upstream, Access::Read)?;
    let dx = View::open(env, 6, &op.dx, Access::Write)?;
    lattice.check()?;
    with_compute!(op.dx.dtype, T => split(env, lattice.batch(), 1, |range| {
        range.into_iter().try_for_each(|n| example::<T>(&op, &lattice, n, &upstream, &dx))
    })?);
    Ok(op.cost().into())
}

/// The gradient of an example.
fn example<T: Float>(
    op: &Checked,
    lattice: &Lattice<'_>,
    n: usize,
    upstream: &View<'_>,
    dx: &View<'_>,
) -> Result<(), Fault> {
    let of = lattice.example(n)?;
    let mut factor = [T::default()];
    let at = n as isize * op.upstream_stride() as isize;
    T::load(op.dx.dtype, upstream, at, 1, &mut factor);
    let mut factor = factor[0].to_f64();
    if op.of.reduction == Reduction::Mean {
        factor /= lattice.batch() as f64 * of.length() as f64;
    }
    let mut pace = Pace::new(lattice.env);
    let states = of.states.len();
    let mut alphas = vec![0.0; states];
    let lost = match of.steps.checked_sub(1) {
        None => of.loss(None),
        Some(last) => {
            load(&of, lattice, last, &mut alphas, &mut pace)?;
            of.loss(Some(&alphas))
        }
    };
    let nothing = op.of.zero_infinity && lost == f64::INFINITY;
    let steps = op.dx.dims()[0] as usize;
    let row = Row {
        op,
        lattice,
        of: &of,
        n,
        dx,
    };
    for t in if nothing { 0 } else { of.steps }..steps {
        row.zero::<T>(t, &mut pace)?;
    }
    if nothing {
        return Ok(());
    }
    let classes = op.dx.dims()[2] as usize;
    let mut shares = vec![0.0; classes];
    let mut emissions = vec![0.0; states];
    let mut reversed = vec![0.0; states];
    let mut betas = of.backwards();
    for t in (0..of.steps).rev() {
        of.emissions::<T>(lattice, t, &mut emissions);
        for (r, e) in reversed.iter_mut().rev().zip(&emissions) {
            *r = *e;
        }
        betas.advance(&reversed, &mut pace)?;
        load(&of, lattice, t, &mut alphas, &mut pace)?;
        let back = betas.now().iter().rev();
        for (((class, a), b), e) in of.states.iter().zip(&alphas).zip(back).zip(&emissions) {
            // What cannot be has no share, whatever its emission.
            if *a != f64::NEG_INFINITY && *b != f64::NEG_INFINITY {
                shares[*class] += libm::exp(a + b + lost - e);
            }
        }
        pace.did(8 * states)?;
        row.write::<T>(t, &shares, factor, &mut pace)?;
        of.states.iter().for_each(|class| shares[*class] = 0.0);
    }
    Ok(())
}

/// Reads a step's alphas.
fn load(
    of: &Example,
    lattice: &Lattice<'_>,
    t: usize,
    to: &mut [f64],
    pace: &mut Pace<'_>,
) -> Result<(), Fault> {
    of.alphas(lattice, t, to);
    pace.did(to.len())
}

/// Rows of an example's gradient.
struct Row<'r, 'a> {
    op: &'r Checked,
    lattice: &'r Lattice<'a>,
    of: &'r Example,
    n: usize,
    dx: &'r View<'a>,
}

impl Row<'_, '_> {
    fn tiles<T: Float>(
        &self,
        t: usize,
        pace: &mut Pace<'_>,
        fill: impl Fn(usize, &mut [T]),
    ) -> Result<(), Fault> {
        let classes = self.op.dx.dims()[2] as usize;
        let stride = self.op.dx.strides()[2] as isize;
        let base = self.lattice.row(&self.op.dx, self.n, t);
        let mut tile = [T::default(); TILE];
        for start in (0..classes).step_by(TILE) {
            let tile = &mut tile[..TILE.min(classes - start)];
            fill(start, tile);
            T::store(
                self.op.dx.dtype,
                self.dx,
                base + start as isize * stride,
                stride,
                tile,
            );
            pace.did(tile.len())?;
        }
        Ok(())
    }

    fn zero<T: Float>(&self, t: usize, pace: &mut Pace<'_>) -> Result<(), Fault> {
        self.tiles::<T>(t, pace, |_, tile| tile.fill(T::default()))
    }

    fn write<T: Float>(
        &self,
        t: usize,
        shares: &[f64],
        factor: f64,
        pace: &mut Pace<'_>,
    ) -> Result<(), Fault> {
        self.tiles::<T>(t, pace, |start, tile| {
            self.of.classes::<T>(self.lattice, t, start, tile);
            T::exp_all(tile);
            for (v, s) in tile.iter_mut().zip(&shares[start..]) {
                *v = T::of((v.to_f64() - s) * factor);
            }
        })
    }
}
