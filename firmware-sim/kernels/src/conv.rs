//! Kernel of `vmlu_ops::conv`: a product of patches and filters.

use std::marker::PhantomData;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::conv::{Checked, Conv};
use vmlu_ops::conv_geometry::Geometry;
use vmlu_ops::matmul::{BF16_BLOCK, K_BLOCK};

use super::conv_sides::{Filter, Patches, Pixels, Taps};
use super::env::{Access, Env, Fault, Work};
use super::epilogue::{Factors, Finish, Narrow, Quantising, Shifted, Store};
use super::gemm::{
    self, Arith, Brain, Bytes, Double, Feed, Half, Pairs, Product, Side, Single, Sink, Sums,
    WideBytes, F32, F64, I16,
};
use super::simd;
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Conv>(body)?;
    let x = View::open(env, 0, &op.x, Access::Read)?;
    let w = View::open(env, 1, &op.w, Access::Read)?;
    let out = View::open(env, 2, &op.out, Access::Write)?;
    let bias = match &op.bias {
        Some(bias) => Some(View::open(env, 3, bias, Access::Read)?),
        None => None,
    };
    if op.out.elements > 0 {
        let bias_stride = op.bias.map_or(0, |b| b.strides()[0] as isize);
        let geometry = &op.geometry;
        let taps = std::array::from_fn(|i| Taps {
            count: geometry.taps[i],
            first: 0,
            every: 1,
            shift: -(geometry.before[i] as isize),
            advance: geometry.dilation[i] as isize,
            step: geometry.stride[i] as isize,
            limit: geometry.input[i],
        });
        let [ni, ci, strides @ ..] = Geometry::strides(&op.out);
        let [wo, wi, tap_strides @ ..] = Geometry::strides(&op.w);
        let pass = Pass {
            env,
            image: &x,
            image_strides: Geometry::strides(&op.x),
            filter: &w,
            filter_strides: (wo, wi),
            filter_group: wo.wrapping_mul(geometry.outputs as isize),
            tap_strides,
            taps,
            groups: geometry.groups,
            depth_channels: geometry.inputs,
            line_channels: geometry.outputs,
            counts: [
                geometry.images,
                geometry.output[0],
                geometry.output[1],
                geometry.output[2],
            ],
            origin: 0,
            strides: [ni, strides[0], strides[1], strides[2]],
            channel: [ci, bias_stride],
            finish: Scalars {
                alpha: op.alpha,
                beta: op.beta,
                activation: op.activation,
                out: &out,
                bias: bias.as_ref(),
            },
        };
        let quantised = match &op.quantised {
            Some(q) => Some(Factors::read(env, 1, q, op.out.dtype)?),
            None => None,
        };
        compute(&op, &pass, quantised.as_ref())?;
    }
    Ok(op.cost().into())
}

fn compute(op: &Checked, pass: &Pass<'_, '_>, factors: Option<&Factors>) -> Result<(), Fault> {
    use DataType::{I8, U8};
    if !matches!(op.x.dtype, I8 | U8) {
        return pass.floats(op.x.dtype, op.out.dtype);
    }
    let of = Bytewise {
        offsets: op.quantised.map_or([0; 2], |q| [q.a.1, q.b.1]),
        factors,
    };
    // The first side unsigned, the second signed, as the instruction wants it; zeroes of padding are shifted with the others.
    let unsigned = op.x.dtype == U8;
    #[cfg(target_arch = "x86_64")]
    if simd::has_vnni() {
        use gemm::I8 as Vnni;
        return match (pass.pixels_are_rows(), unsigned) {
            (true, true) => pass.whole::<Vnni, Bytes<0>, Bytes<0>>([0, 0], &of),
            (true, false) => pass.whole::<Vnni, Bytes<0x80>, Bytes<0>>([128, 0], &of),
            (false, true) => pass.whole::<Vnni, Bytes<0x80>, Bytes<0x80>>([128, -128], &of),
            (false, false) => pass.whole::<Vnni, Bytes<0>, Bytes<0x80>>([128, 0], &of),
        };
    }
    match unsigned {
        true => pass.whole::<I16, WideBytes<false>, WideBytes<true>>([0, 0], &of),
        false => pass.whole::<I16, WideBytes<true>, WideBytes<true>>([0, 0], &of),
    }
}

/// What bytes stand for.
struct Bytewise<'f> {
    /// Offsets of image and filter.
    offsets: [i32; 2],
    /// Their scales, if they are quantised.
    factors: Option<&'f Factors>,
}

/// What is done with sums.
#[derive(Clone, Copy)]
pub(super) struct Scalars<'p, 'a> {
    pub alpha: f64,
    pub beta: f64,
    pub activation: vmlu_ops::matmul::Activation,
    pub out: &'p View<'a>,
    pub bias: Option<&'p View<'a>>,
}

impl<'p, 'a> Scalars<'p, 'a> {
    pub fn finish<P>(&self, place: P) -> Finish<'p, 'a, P> {
        Finish {
            alpha: self.alpha,
            beta: self.beta,
            activation: self.activation,
            out: self.out,
            bias: self.bias,
            place,
        }
    }
}

/// A convolution, or a part of a transposed one: patches of an image times filters.
#[derive(Clone, Copy)]
pub(super) struct Pass<'p, 'a> {
    pub env: &'p dyn Env,
    pub image: &'p View<'a>,
    pub image_strides: [isize; 5],
    pub filter: &'p View<'a>,
    /// Strides of the result's channels and of the depth's.
    pub filter_strides: (isize, isize),
    /// From one group's filters to the next.
    pub filter_group: isize,
    pub tap_strides: [isize; 3],
    pub taps: [Taps; 3],
    pub groups: usize,
    /// Channels of a group that are summed over.
    pub depth_channels: usize,
    /// Channels of a group in the result.
    pub line_channels: usize,
    /// Images and positions of the result, where they begin, and the strides of each.
    pub counts: [usize; 4],
    pub origin: isize,
    pub strides: [isize; 4],
    /// Strides of the channels in the result and in the bias.
    pub channel: [isize; 2],
    pub finish: Scalars<'p, 'a>,
}

impl<'p, 'a> Pass<'p, 'a> {
    /// Positions are rows if the channels of the result lie closest.
    pub fn pixels_are_rows(&self) -> bool {
        self.line_channels > 1 && self.channel[0].unsigned_abs() < self.strides[3].unsigned_abs()
    }

    /// Multiplies floats.
    pub fn floats(&self, from: DataType, to: DataType) -> Result<(), Fault> {
        use DataType::{Bf16, F16, F32 as To32, F64 as To64};
        let block = K_BLOCK as usize;
        match (from, to) {
            (To64, _) => self.sums::<F64, Double, f64>(block),
            (F16, To32) => self.sums::<F32, Half, f32>(block),
            (F16, _) => self.sums::<F32, Half, f16>(block),
            (Bf16, To32) => self.bf16::<f32>(),
            (Bf16, _) => self.bf16::<bf16>(),
            _ => self.sums::<F32, Single, f32>(block),
        }
    }

    fn bf16<O: Narrow<Compute = f32>>(&self) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if simd::has_bf16() {
            return self.sums::<gemm::Bf16, Pairs, O>(BF16_BLOCK as usize / 2);
        }
        self.sums::<F32, Brain, O>(BF16_BLOCK as usize)
    }

    fn sums<A, F, O>(&self, block: usize) -> Result<(), Fault>
    where
        A: Arith,
        F: Feed<Word = A::Word>,
        O: Narrow<Compute = A::Acc>,
    {
        let sink = |place, _| Store::<_, O>(self.finish.finish(place), PhantomData);
        self.all::<A, F, F, _>(block, Sums::default(), sink)
    }

    /// `added` is what packing has added to the elements of the first side and of the second.
    fn whole<A, FX, FW>(&self, added: [i32; 2], of: &Bytewise<'_>) -> Result<(), Fault>
    where
        A: Arith<Word = u32, Acc = i32>,
        FX: Feed<Word = u32>,
        FW: Feed<Word = u32>,
    {
        let rows = self.pixels_are_rows();
        let [image, filter] = of.offsets;
        let zeros = match rows {
            true => [added[0] + image, added[1] + filter],
            false => [added[0] + filter, added[1] + image],
        };
        // Words of ones, of bytes or of i16.
        let ones = Some(if FX::STEP == 4 {
            0x0101_0101
        } else {
            0x0001_0001
        });
        let sums = Sums {
            columns: ones.filter(|_| zeros[0] != 0),
            rows: ones.filter(|_| zeros[1] != 0),
        };
        let depth = super::conv_sides::all_taps(&self.taps).wrapping_mul(self.depth_channels);
        let shifted = |place| Shifted {
            finish: self.finish.finish(place),
            zero_a: zeros[0],
            zero_b: zeros[1],
            depth,
        };
        match of.factors {
            None => self.all::<A, FX, FW, _>(gemm::BLOCK, sums, |place, _| shifted(place)),
            Some(factors) => {
                self.all::<A, FX, FW, _>(gemm::BLOCK, sums, |place, first| Quantising {
                    shifted: shifted(place),
                    factors,
                    columns: rows,
                    first,
                })
            }
        }
    }

    /// Computes all groups; `FX` feeds the image, `FW` the filter; `sink` takes a place and the first channel of a group in the result.
    fn all<A: Arith, FX, FW, S>(
        &self,
        block: usize,
        sums: Sums<A::Word>,
        sink: impl Fn(Pixels, usize) -> S + Sync,
    ) -> Result<(), Fault>
    where
        FX: Feed<Word = A::Word>,
        FW: Feed<Word = A::Word>,
        S: Sink<A::Acc>,
    {
        let rows = self.pixels_are_rows();
        let words =
            super::conv_sides::all_taps(&self.taps).saturating_mul(FX::words(self.depth_channels));
        gemm::run_all(
            self.env,
            self.groups,
            |group, then: &mut gemm::Then<'_, A>| {
                let group = group as isize;
                let patches = Patches::<FX> {
                    view: self.image,
                    offset: group * self.depth_channels as isize * self.image_strides[1],
                    strides: self.image_strides,
                    counts: self.counts,
                    taps: self.taps,
                    channels: self.depth_channels,
                    feed: PhantomData,
                };
                let filter = Filter::<FW> {
                    view: self.filter,
                    offset: group * self.filter_group,
                    strides: self.filter_strides,
                    tap_strides: self.tap_strides,
                    taps: self.taps,
                    lines: self.line_channels,
                    channels: self.depth_channels,
                    feed: PhantomData,
                };
                let first = group * self.line_channels as isize;
                let place = Pixels::new(
                    [
                        self.origin + first * self.channel[0],
                        first * self.channel[1],
                    ],
                    self.counts,
                    self.strides,
                    self.channel,
                    rows,
                );
                let sink = sink(place, first as usize);
                let (a, b): (&dyn Side<A::Word>, &dyn Side<A::Word>) = match rows {
                    true => (&patches, &filter),
                    false => (&filter, &patches),
                };
                then(&Product {
                    a,
                    b,
                    words,
                    block,
                    sink: &sink,
                    sums,
                })
            },
        )
    }
}
