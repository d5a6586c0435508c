//! Kernel of `vmlu_ops::matmul_grouped`: one product a group.

use std::marker::PhantomData;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_abi::Status;
use vmlu_ops::matmul::{BF16_BLOCK, K_BLOCK};
use vmlu_ops::matmul_grouped::{Checked, MatmulGrouped};

use super::env::{Access, Env, Fault, Work};
use super::epilogue::{Finish, Narrow, Plane, Store};
use super::gemm::{Arith, Brain, Double, Feed, Half, Product, Single, Strided, Sums, F32, F64};
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    use DataType::{Bf16, F16, F32 as To32, F64 as To64};
    let op = super::parse::<MatmulGrouped>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = View::open(env, 1, &op.b, Access::Read)?;
    let ends = View::open(env, 2, &op.ends, Access::Read)?;
    let out = View::open(env, 3, &op.out, Access::Write)?;
    let bias = match &op.bias {
        Some(bias) => Some(View::open(env, 4, bias, Access::Read)?),
        None => None,
    };
    let job = Job {
        ends: read_ends(&op, &ends)?,
        op: &op,
        env,
        a: &a,
        b: &b,
        out: &out,
        bias: bias.as_ref(),
    };
    let block = K_BLOCK as usize;
    if op.out.elements > 0 {
        match (op.a.dtype, op.out.dtype) {
            (To64, _) => job.compute::<F64, Double, f64>(block)?,
            (F16, To32) => job.compute::<F32, Half, f32>(block)?,
            (F16, _) => job.compute::<F32, Half, f16>(block)?,
            (Bf16, To32) => job.bf16::<f32>()?,
            (Bf16, _) => job.bf16::<bf16>()?,
            _ => job.compute::<F32, Single, f32>(block)?,
        }
    }
    Ok(op.cost().into())
}

/// Where each group ends: a checked copy.
fn read_ends(op: &Checked, view: &View<'_>) -> Result<Vec<usize>, Fault> {
    let rows = op.a.dims()[0];
    let mut raw = vec![0i32; op.ends.elements as usize];
    view.load(0, op.ends.strides()[0] as isize, &mut raw);
    let mut last = 0;
    let check = |(g, end): (usize, &i32)| match u64::try_from(*end) {
        Ok(end) if end >= last && end <= rows => {
            last = end;
            Ok(end as usize)
        }
        _ => {
            let text = format!(
                "matmul_grouped: ends[{g}] is {end}, must be from {last} to the {rows} rows of a"
            );
            Err(Fault::operand(
                Status::IndexOutOfRange,
                2,
                op.ends.address,
                text,
            ))
        }
    };
    raw.iter().enumerate().map(check).collect()
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    a: &'j View<'a>,
    b: &'j View<'a>,
    out: &'j View<'a>,
    bias: Option<&'j View<'a>>,
    ends: Vec<usize>,
}

impl Job<'_, '_> {
    fn bf16<O: Narrow<Compute = f32>>(&self) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if super::simd::has_bf16() {
            use super::gemm::{Bf16, Pairs};
            return self.compute::<Bf16, Pairs, O>(BF16_BLOCK as usize / 2);
        }
        self.compute::<F32, Brain, O>(BF16_BLOCK as usize)
    }

    fn compute<A, F, O>(&self, block: usize) -> Result<(), Fault>
    where
        A: Arith,
        F: Feed<Word = A::Word>,
        O: Narrow<Compute = A::Acc>,
    {
        let op = self.op;
        let strides = |t: &vmlu_ops::tensor::Tensor, i: usize| t.strides()[i] as isize;
        let (k, n) = (op.a.dims()[1] as usize, op.b.dims()[2] as usize);
        let mut start = 0;
        for (g, end) in self.ends.iter().enumerate() {
            self.env.check()?;
            let (group, row) = (g as isize, start as isize);
            let a = Strided::<F> {
                view: self.a,
                offset: row * strides(&op.a, 0),
                line: strides(&op.a, 0),
                depth: strides(&op.a, 1),
                lines: end - start,
                length: k,
                feed: PhantomData,
            };
            let b = Strided::<F> {
                view: self.b,
                offset: group * strides(&op.b, 0),
                line: strides(&op.b, 2),
                depth: strides(&op.b, 1),
                lines: n,
                length: k,
                feed: PhantomData,
            };
            let bias = op
                .bias
                .map_or((0, 0), |b| (group * strides(&b, 0), strides(&b, 1)));
            let sink = Store::<_, O>(
                Finish {
                    alpha: op.alpha,
                    beta: 0.0,
                    activation: op.activation,
                    out: self.out,
                    bias: self.bias,
                    place: Plane {
                        out: (
                            row * strides(&op.out, 0),
                            strides(&op.out, 0),
                            strides(&op.out, 1),
                        ),
                        bias: (bias.0, 0, bias.1),
                    },
                },
                PhantomData,
            );
            if end > &start {
                Product::<A> {
                    a: &a,
                    b: &b,
                    words: F::words(k),
                    block,
                    sink: &sink,
                    sums: Sums::default(),
                }
                .run(self.env)?;
            }
            start = *end;
        }
        Ok(())
    }
}
