//! Kernel of `vmlu_ops::matmul`: which types, which batch element, which part of the result.

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::matmul::{Activation, Checked, Matmul};

use super::env::{Access, Env, Fault, Work};
use super::gemm::{self, Gemm, Operand, Source};
use super::number::{Number, Storage, TILE};
use super::view::View;
use super::walk::split;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    use DataType::{Bf16, F16, F32, F64};
    let op = super::parse::<Matmul>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = View::open(env, 1, &op.b, Access::Read)?;
    let out = View::open(env, 2, &op.out, Access::Write)?;
    let bias = match &op.bias {
        Some(bias) => Some(View::open(env, 3, bias, Access::Read)?),
        None => None,
    };
    let bias = bias.as_ref();
    let job = Job {
        op: &op,
        env,
        a: &a,
        b: &b,
        out: &out,
        bias,
    };
    match (op.a.dtype, op.out.dtype) {
        (F32, _) => job.compute::<f32, f32>()?,
        (F64, _) => job.compute::<f64, f64>()?,
        (F16, F32) => job.compute::<f16, f32>()?,
        (F16, _) => job.compute::<f16, f16>()?,
        (Bf16, F32) => job.compute::<bf16, f32>()?,
        (Bf16, _) => job.compute::<bf16, bf16>()?,
        _ => job.compute::<i8, i32>()?,
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'a dyn Env,
    a: &'j View<'a>,
    b: &'j View<'a>,
    out: &'j View<'a>,
    bias: Option<&'j View<'a>>,
}

/// A part of one batch element's result.
struct Part {
    /// Element offsets of the batch element in a, b, out, bias.
    base: [isize; 4],
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Job<'_, '_> {
    /// Computes with elements of `I` in and `O` out.
    fn compute<I, O>(&self) -> Result<(), Fault>
    where
        O: Storage<Compute: Gemm>,
        I: Source<O::Compute>,
    {
        let op = self.op;
        if op.out.elements == 0 {
            return Ok(());
        }
        let (m, n) = (op.m as usize, op.n as usize);
        let batch = op.out.elements as usize / (m * n);
        // A part has enough work to pay for itself, and there are enough of them for a few cores. Shapes alone decide.
        let (mut pm, mut pn) = (m.min(gemm::PART), n.min(gemm::PART));
        let work = |pm: usize, pn: usize| pm.saturating_mul(pn).saturating_mul(op.k as usize);
        while batch
            .saturating_mul(m.div_ceil(pm))
            .saturating_mul(n.div_ceil(pn))
            < 8
            && work(pm, pn) > 1 << 21
            && pm.max(pn) > 64
        {
            if pm >= pn {
                pm = gemm::round_up(pm.div_ceil(2), 12);
            } else {
                pn = gemm::round_up(pn.div_ceil(2), 32);
            }
        }
        let (across, down) = (n.div_ceil(pn), m.div_ceil(pm));
        let parts = batch * across * down;
        let grain = ((1 << 16) / work(pm, pn).max(1)).max(1);
        split(self.env, parts, grain, |range| {
            let mut space = gemm::Space::<O::Compute>::take();
            for index in range {
                let (row, column) = (index / across % down * pm, index % across * pn);
                let part = Part {
                    base: self.base(index / across / down),
                    rows: row..m.min(row + pm),
                    columns: column..n.min(column + pn),
                };
                self.part::<I, O>(&part, &mut space)?;
            }
            space.give_back();
            Ok(())
        })
    }

    /// Offsets of a batch element.
    fn base(&self, mut index: usize) -> [isize; 4] {
        let op = self.op;
        let mut base = [0; 4];
        for i in (0..op.out.rank() - 2).rev() {
            let dim = op.out.dims()[i] as usize;
            let at = (index % dim) as isize;
            index /= dim;
            let [a, b, bias] = op.batch_strides.map(|s| s[i] as isize);
            for (to, stride) in base
                .iter_mut()
                .zip([a, b, op.out.strides()[i] as isize, bias])
            {
                *to += at * stride;
            }
        }
        base
    }

    fn part<I, O>(&self, part: &Part, space: &mut gemm::Space<O::Compute>) -> Result<(), Fault>
    where
        O: Storage<Compute: Gemm>,
        I: Source<O::Compute>,
    {
        let op = self.op;
        let last = |t: &vmlu_ops::tensor::Tensor| {
            let r = t.rank();
            (t.strides()[r - 2] as isize, t.strides()[r - 1] as isize)
        };
        let ((ar, ak), (bk, bc)) = (last(&op.a), last(&op.b));
        let (i, j) = (part.rows.start as isize, part.columns.start as isize);
        let a = Operand {
            view: self.a,
            offset: part.base[0] + i * ar,
            line: ar,
            depth: ak,
            lines: part.rows.len(),
        };
        let b = Operand {
            view: self.b,
            offset: part.base[1] + j * bc,
            line: bc,
            depth: bk,
            lines: part.columns.len(),
        };
        gemm::multiply::<I, O::Compute>(self.env, &a, &b, op.k as usize, space)?;

        let (or, oc) = last(&op.out);
        let rank = op.out.rank();
        let (br, bc) = (
            op.batch_strides[2][rank - 2] as isize,
            op.batch_strides[2][rank - 1] as isize,
        );
        for row in part.rows.clone() {
            let products = space.row(row - part.rows.start, part.columns.len());
            for (t, tile) in products.chunks_mut(TILE).enumerate() {
                let (row, column) = (row as isize, j + (t * TILE) as isize);
                let at = part.base[2] + row * or + column * oc;
                self.finish::<O>(tile, (at, oc), (part.base[3] + row * br + column * bc, bc));
                O::store(self.out, at, oc, tile);
            }
        }
        self.env.check()?;
        Ok(())
    }

    /// `activation(alpha · products + beta · old + bias)`.
    fn finish<O: Storage<Compute: Gemm>>(
        &self,
        products: &mut [O::Compute],
        old_at: (isize, isize),
        bias_at: (isize, isize),
    ) {
        let op = self.op;
        let mut other = [O::Compute::default(); TILE];
        let other = &mut other[..products.len()];
        if op.alpha != 1.0 {
            let alpha = O::Compute::from_scalar(op.alpha);
            products.iter_mut().for_each(|p| *p = p.mul(alpha));
        }
        if op.beta != 0.0 {
            let beta = O::Compute::from_scalar(op.beta);
            O::load(self.out, old_at.0, old_at.1, other);
            for (p, o) in products.iter_mut().zip(other.iter()) {
                *p = p.add(o.mul(beta));
            }
        }
        if let Some(bias) = self.bias {
            O::load(bias, bias_at.0, bias_at.1, other);
            for (p, o) in products.iter_mut().zip(other.iter()) {
                *p = p.add(*o);
            }
        }
        if op.activation == Activation::Relu {
            let zero = O::Compute::default();
            products
                .iter_mut()
                .for_each(|p| *p = if *p < zero { zero } else { *p });
        }
    }
}
