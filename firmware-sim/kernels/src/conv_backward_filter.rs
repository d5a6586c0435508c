//! Kernel of `vmlu_ops::conv_backward_filter`: for each tap, a product of `dy` and `x` along the positions.

use std::marker::PhantomData;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::conv_backward_filter::{Checked, ConvBackwardFilter};
use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::matmul::{Activation, K_BLOCK};

use super::conv_sides::{Positions, Taps};
use super::env::{Access, Env, Fault, Work};
use super::epilogue::{Finish, Narrow, Plane, Store};
use super::gemm::{
    self, Arith, BrainStraight, Double, Feed, Half, Product, Single, Sums, F32, F64,
};
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    use DataType::{Bf16, F16, F32 as To32, F64 as To64};
    let op = super::parse::<ConvBackwardFilter>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let dy = View::open(env, 1, &op.dy, Access::Read)?;
    let dw = View::open(env, 2, &op.dw, Access::Write)?;
    let job = Job {
        op: &op,
        env,
        x: &x,
        dy: &dy,
        dw: &dw,
    };
    if op.dw.elements > 0 {
        match (op.x.dtype, op.dw.dtype) {
            (To64, _) => job.compute::<F64, Double, f64>()?,
            (F16, To32) => job.compute::<F32, Half, f32>()?,
            (F16, _) => job.compute::<F32, Half, f16>()?,
            (Bf16, To32) => job.compute::<F32, BrainStraight, f32>()?,
            (Bf16, _) => job.compute::<F32, BrainStraight, bf16>()?,
            _ => job.compute::<F32, Single, f32>()?,
        }
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'j dyn Env,
    x: &'j View<'a>,
    dy: &'j View<'a>,
    dw: &'j View<'a>,
}

impl Job<'_, '_> {
    fn compute<A, F, O>(&self) -> Result<(), Fault>
    where
        A: Arith,
        F: Feed<Word = A::Word>,
        O: Narrow<Compute = A::Acc>,
    {
        let geometry = &self.op.geometry;
        let (sx, sy, sw) = (
            Geometry::strides(&self.op.x),
            Geometry::strides(&self.op.dy),
            Geometry::strides(&self.op.dw),
        );
        let [d, h, w] = geometry.output;
        let counts = [geometry.images, d, h, w];
        let taps = geometry.all_taps();
        let plain = |i: usize| Taps {
            count: 1,
            first: 0,
            every: 1,
            shift: 0,
            advance: 0,
            step: 1,
            limit: geometry.output[i],
        };
        gemm::run_all(
            self.env,
            geometry.groups * taps,
            |index, then: &mut gemm::Then<'_, A>| {
                let (group, tap) = ((index / taps) as isize, index % taps);
                let at = [
                    tap / (geometry.taps[1] * geometry.taps[2]),
                    tap / geometry.taps[2] % geometry.taps[1],
                    tap % geometry.taps[2],
                ];
                let a = Positions::<F> {
                    view: self.dy,
                    offset: group * geometry.outputs as isize * sy[1],
                    strides: sy,
                    counts,
                    taps: std::array::from_fn(plain),
                    lines: geometry.outputs,
                    feed: PhantomData,
                };
                let b = Positions::<F> {
                    view: self.x,
                    offset: group * geometry.inputs as isize * sx[1],
                    strides: sx,
                    counts,
                    taps: std::array::from_fn(|i| Taps {
                        shift: (at[i] * geometry.dilation[i]) as isize
                            - geometry.before[i] as isize,
                        step: geometry.stride[i] as isize,
                        limit: geometry.input[i],
                        ..plain(i)
                    }),
                    lines: geometry.inputs,
                    feed: PhantomData,
                };
                let moved: isize = (0..3).map(|i| at[i] as isize * sw[2 + i]).sum();
                let offset = group * geometry.outputs as isize * sw[0] + moved;
                let sink = Store::<_, O>(
                    Finish {
                        alpha: self.op.alpha,
                        beta: self.op.beta,
                        activation: Activation::None,
                        out: self.dw,
                        bias: None,
                        place: Plane {
                            out: (offset, sw[0], sw[1]),
                            bias: (0, 0, 0),
                        },
                    },
                    PhantomData,
                );
                then(&Product {
                    a: &a,
                    b: &b,
                    words: counts.iter().product(),
                    block: K_BLOCK as usize,
                    sink: &sink,
                    sums: Sums::default(),
                })
            },
        )
    }
}
