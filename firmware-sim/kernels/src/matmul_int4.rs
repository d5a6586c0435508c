//! Kernel of `vmlu_ops::matmul_int4`: weights become f32 where they are packed.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::matmul::K_BLOCK;
use vmlu_ops::matmul_int4::{Checked, MatmulInt4};
use vmlu_ops::tensor::Tensor;

use super::env::{Access, Env, Fault, Work};
use super::epilogue::{Finish, Narrow, Plane, Store};
use super::gemm::{
    with_space, BrainStraight, Feed, Half, Private, Product, Side, Single, Strided, Sums, F32,
};
use super::number::{Storage, TILE};
use super::simd::multiversion;
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<MatmulInt4>(body)?;
    let open = |index, tensor: &Tensor| View::open(env, index, tensor, Access::Read);
    let optional = |index, tensor: &Option<Tensor>| {
        tensor
            .as_ref()
            .map(|tensor| open(index, tensor))
            .transpose()
    };
    let a = open(0, &op.a)?;
    let weights = Weights {
        op: &op,
        octets: open(1, &op.w)?,
        scales: open(2, &op.scales)?,
        zeros: optional(3, &op.zeros)?,
    };
    let out = View::open(env, 4, &op.out, Access::Write)?;
    let bias = optional(5, &op.bias)?;
    if op.out.elements > 0 {
        let job = Job {
            op: &op,
            env,
            a: &a,
            weights: &weights,
            out: &out,
            bias: bias.as_ref(),
        };
        match (op.a.dtype, op.out.dtype) {
            (DataType::F16, DataType::F16) => job.run::<Half, f16>()?,
            (DataType::F16, _) => job.run::<Half, f32>()?,
            (DataType::Bf16, DataType::Bf16) => job.run::<BrainStraight, bf16>()?,
            (DataType::Bf16, _) => job.run::<BrainStraight, f32>()?,
            _ => job.run::<Single, f32>()?,
        }
    }
    Ok(op.cost().into())
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'a dyn Env,
    a: &'j View<'a>,
    weights: &'j Weights<'j, 'a>,
    out: &'j View<'a>,
    bias: Option<&'j View<'a>>,
}

impl Job<'_, '_> {
    fn run<F: Feed<Word = f32>, O: Narrow<Compute = f32>>(&self) -> Result<(), Fault> {
        let op = self.op;
        let two = |t: &Tensor| (t.strides()[0] as isize, t.strides()[1] as isize);
        let (line, depth) = two(&op.a);
        let k = op.a.dims()[1] as usize;
        let a = Strided::<F> {
            view: self.a,
            offset: 0,
            line,
            depth,
            lines: op.a.dims()[0] as usize,
            length: k,
            feed: PhantomData,
        };
        let (rows, columns) = two(&op.out);
        let bias = op.bias.map_or(0, |b| b.strides()[0] as isize);
        let finish = Finish {
            alpha: op.alpha,
            beta: 0.0,
            activation: op.activation,
            out: self.out,
            bias: self.bias,
            place: Plane {
                out: (0, rows, columns),
                bias: (0, 0, bias),
            },
        };
        Product::<F32> {
            a: &a,
            b: self.weights,
            words: k,
            block: K_BLOCK as usize,
            sink: &Store::<_, O>(finish, PhantomData),
            sums: Sums::default(),
        }
        .run(self.env)
    }
}

/// The weights as columns of f32.
struct Weights<'w, 'a> {
    op: &'w Checked,
    octets: View<'a>,
    scales: View<'a>,
    zeros: Option<View<'a>>,
}

/// Elements of depth that become f32 at a time.
const STRETCH: usize = 512;

impl Weights<'_, '_> {
    /// Scales and zero points of some columns of a group.
    fn tables(&self, group: usize, columns: Range<usize>, scales: &mut [f32], zeros: &mut [f32]) {
        let at = |t: &Tensor| {
            let (rows, line) = (t.strides()[0] as isize, t.strides()[1] as isize);
            (group as isize * rows + columns.start as isize * line, line)
        };
        let (offset, stride) = at(&self.op.scales);
        match self.op.scales.dtype {
            DataType::F16 => f16::load(&self.scales, offset, stride, scales),
            DataType::Bf16 => bf16::load(&self.scales, offset, stride, scales),
            _ => f32::load(&self.scales, offset, stride, scales),
        }
        match (&self.zeros, &self.op.zeros) {
            (Some(view), Some(tensor)) => {
                let mut raw = [0i8; TILE];
                let raw = &mut raw[..zeros.len()];
                let (offset, stride) = at(tensor);
                view.load(offset, stride, raw);
                for (z, r) in zeros.iter_mut().zip(raw) {
                    *z = f32::from(*r);
                }
            }
            _ => zeros.fill(0.0),
        }
    }

    /// Neighbours along the depth share octets: up to 64 columns, a stretch at a time.
    fn along(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [f32]) {
        let group = self.op.group as usize;
        let row = self.op.w.strides()[0] as isize;
        let count = lines.len();
        with_space(|space| {
            let data = space.out.take::<f32>(count * STRETCH);
            let (mut scales, mut zeros) = ([0f32; TILE], [0f32; TILE]);
            let mut octets = [0u8; STRETCH / 2 + 1];
            for start in words.clone().step_by(STRETCH) {
                let end = words.end.min(start + STRETCH);
                let mut from = start;
                while from < end {
                    // An even number of elements but for the last: groups are even, and so is where blocks begin.
                    let until = end.min((from / group + 1) * group);
                    let (scales, zeros) = (&mut scales[..count], &mut zeros[..count]);
                    self.tables(from / group, lines.clone(), scales, zeros);
                    for (i, line) in lines.clone().enumerate() {
                        let octets = &mut octets[..(until - from).div_ceil(2)];
                        self.octets
                            .load(line as isize * row + (from / 2) as isize, 1, octets);
                        let to = &mut data[i * STRETCH..][from - start..until - start];
                        unpack(octets, self.op.signed, scales[i], zeros[i], to);
                    }
                    from = until;
                }
                let side = Private::<Single> {
                    data,
                    pitch: STRETCH,
                    lines: count,
                    length: end - start,
                };
                side.pack(
                    0..count,
                    0..end - start,
                    pitch,
                    &mut to[(start - words.start) * pitch..],
                );
            }
        });
    }

    /// Neighbouring columns share octets.
    fn across(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [f32]) {
        let row = self.op.w.strides()[0] as isize;
        let (mut scales, mut zeros) = ([0f32; TILE], [0f32; TILE]);
        let (scales, zeros) = (&mut scales[..lines.len()], &mut zeros[..lines.len()]);
        // Where columns begin in the middle of an octet.
        let odd = lines.start % 2;
        let mut octets = [0u8; TILE];
        let octets = &mut octets[..(odd + lines.len()).div_ceil(2)];
        let mut loaded = None;
        for (word, to) in words.zip(to.chunks_mut(pitch)) {
            let group = word / self.op.group as usize;
            if loaded != Some(group) {
                loaded = Some(group);
                self.tables(group, lines.clone(), scales, zeros);
            }
            self.octets
                .load(word as isize * row + (lines.start / 2) as isize, 1, octets);
            to.fill(0.0);
            unpack_each(
                octets,
                odd,
                self.op.signed,
                scales,
                zeros,
                &mut to[..lines.len()],
            );
        }
    }
}

impl Side<f32> for Weights<'_, '_> {
    fn lines(&self) -> usize {
        self.op.out.dims()[1] as usize
    }

    fn across(&self) -> bool {
        !self.op.along
    }

    fn pack(&self, lines: Range<usize>, words: Range<usize>, pitch: usize, to: &mut [f32]) {
        // Lines of the last panel that do not exist.
        let lines = lines.start..lines.end.min(self.lines());
        match self.op.along {
            true => self.along(lines, words, pitch, to),
            false => self.across(lines, words, pitch, to),
        }
    }
}

/// The weight of four bits.
#[inline(always)]
fn four(bits: u8, signed: bool) -> f32 {
    let flip = if signed { 8 } else { 0 };
    ((bits ^ flip) as i32 - flip as i32) as f32
}

multiversion! {
    /// Elements of one scale.
    fn unpack(octets: &[u8], signed: bool, scale: f32, zero: f32, to: &mut [f32]) {
        let (pairs, rest) = to.as_chunks_mut::<2>();
        for (octet, pair) in octets.iter().zip(pairs.iter_mut()) {
            *pair = [
                scale * (four(octet & 15, signed) - zero),
                scale * (four(octet >> 4, signed) - zero),
            ];
        }
        if let ([last], Some(octet)) = (rest, octets.last()) {
            *last = scale * (four(octet & 15, signed) - zero);
        }
    }

    /// Elements with a scale each; the first is in the lower half of an octet, or, if `odd`, in the upper.
    fn unpack_each(octets: &[u8], odd: usize, signed: bool, scales: &[f32], zeros: &[f32], to: &mut [f32]) {
        for (i, ((t, s), z)) in to.iter_mut().zip(scales).zip(zeros).enumerate() {
            let at = i + odd;
            let bits = octets[at / 2] >> (4 * (at % 2)) & 15;
            *t = s * (four(bits, signed) - z);
        }
    }
}
