//! Kernel of `vmlu_ops::matmul`: which arithmetic, which batch elements, how they are split.

use std::marker::PhantomData;

use half::{bf16, f16};
use vmlu_abi::tensor::DataType;
use vmlu_ops::matmul::{Checked, Matmul, BF16_BLOCK, K_BLOCK};

use super::env::{Access, Env, Fault, Work};
use super::epilogue::{Factors, Finish, Narrow, Plane, Quantising, Shifted, Store, Whole};
use super::gemm::{
    self, Arith, Brain, Bytes, Double, DoubleOfI16, Feed, Half, Pairs, Product, Single, Sink,
    Strided, Sums, WideBytes, F32, F64, I16,
};
use super::simd;
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<Matmul>(body)?;
    let a = View::open(env, 0, &op.a, Access::Read)?;
    let b = View::open(env, 1, &op.b, Access::Read)?;
    let out = View::open(env, 2, &op.out, Access::Write)?;
    let bias = match &op.bias {
        Some(bias) => Some(View::open(env, 3, bias, Access::Read)?),
        None => None,
    };
    let bias = bias.as_ref();
    if op.out.elements > 0 {
        let factors = match &op.quantised {
            Some(quantised) => Some(Factors::read(env, 1, quantised, op.out.dtype)?),
            None => None,
        };
        let job = Job {
            op: &op,
            env,
            a: &a,
            b: &b,
            out: &out,
            bias,
            axes: Axes::new(&op),
            factors,
        };
        job.compute()?;
    }
    Ok(op.cost().into())
}

/// One batch element: the sides may have changed places, so that rows of the result are the closer elements.
#[derive(Clone, Copy)]
struct Axes {
    m: usize,
    n: usize,
    /// Line and depth strides of the sides.
    a: (isize, isize),
    b: (isize, isize),
    /// Row and column strides.
    out: (isize, isize),
    bias: (isize, isize),
    /// Whether `a` and `b` have changed places.
    swapped: bool,
    /// The first batch axes that are left.
    batch_axes: usize,
}

impl Axes {
    fn new(op: &Checked) -> Self {
        let last = |t: &vmlu_ops::tensor::Tensor| {
            let r = t.rank();
            (t.strides()[r - 2] as isize, t.strides()[r - 1] as isize)
        };
        let ((ar, ak), (bk, bc)) = (last(&op.a), last(&op.b));
        let rank = op.out.rank();
        let [sa, sb, sbias] = op.batch_strides;
        let mut axes = Self {
            m: op.m as usize,
            n: op.n as usize,
            a: (ar, ak),
            b: (bc, bk),
            out: last(&op.out),
            bias: (sbias[rank - 2] as isize, sbias[rank - 1] as isize),
            swapped: false,
            batch_axes: rank - 2,
        };
        // Batch elements that share `b` are more rows of one product.
        while axes.batch_axes > 0 {
            let i = axes.batch_axes - 1;
            let (dim, m) = (op.out.dims()[i] as usize, axes.m as isize);
            let follows = |stride: i64, row: isize| {
                dim == 1 || axes.m == 1 || row.checked_mul(m) == Some(stride as isize)
            };
            let one = axes.m == 1 && dim > 1;
            if dim > 1
                && (sb[i] != 0
                    || !follows(sa[i], axes.a.0)
                    || !follows(op.out.strides()[i], axes.out.0)
                    || !follows(sbias[i], axes.bias.0))
            {
                break;
            }
            if one {
                axes.a.0 = sa[i] as isize;
                axes.out.0 = op.out.strides()[i] as isize;
                axes.bias.0 = sbias[i] as isize;
            }
            axes.m *= dim;
            axes.batch_axes = i;
        }
        if axes.out.1.unsigned_abs() > axes.out.0.unsigned_abs() && axes.m > 1 {
            std::mem::swap(&mut axes.m, &mut axes.n);
            std::mem::swap(&mut axes.a, &mut axes.b);
            axes.out = (axes.out.1, axes.out.0);
            axes.bias = (axes.bias.1, axes.bias.0);
            axes.swapped = true;
        }
        axes
    }
}

struct Job<'j, 'a> {
    op: &'j Checked,
    env: &'a dyn Env,
    a: &'j View<'a>,
    b: &'j View<'a>,
    out: &'j View<'a>,
    bias: Option<&'j View<'a>>,
    axes: Axes,
    /// What quantised bytes stand for.
    factors: Option<Factors>,
}

impl<'a> Job<'_, 'a> {
    fn compute(&self) -> Result<(), Fault> {
        use DataType::{Bf16, F16, F32 as Single32, F64 as Double64, I16 as Whole16, I64, U8};
        let block = K_BLOCK as usize;
        #[cfg(target_arch = "x86_64")]
        if self.is_thin() {
            return self.thin();
        }
        match (self.op.a.dtype, self.op.out.dtype) {
            (Single32, _) => self.floats::<F32, Single, f32>(block),
            (Double64, _) => self.floats::<F64, Double, f64>(block),
            (F16, Single32) => self.floats::<F32, Half, f32>(block),
            (F16, _) => self.floats::<F32, Half, f16>(block),
            (Bf16, Single32) => self.bf16::<f32>(),
            (Bf16, _) => self.bf16::<bf16>(),
            (Whole16, I64) => {
                let sink = |place| Whole(self.finish(place));
                self.all::<F64, DoubleOfI16, DoubleOfI16, _>(block, Sums::default(), sink)
            }
            (Whole16, _) => self.whole::<I16, Pairs, Pairs>([0, 0]),
            _ => {
                let (a, b) = match self.axes.swapped {
                    false => (self.op.a.dtype, self.op.b.dtype),
                    true => (self.op.b.dtype, self.op.a.dtype),
                };
                #[cfg(target_arch = "x86_64")]
                if simd::has_vnni() {
                    use gemm::I8;
                    // Unsigned in `a`, signed in `b`, as the instruction wants it.
                    return match (a == U8, b == U8) {
                        (true, false) => self.whole::<I8, Bytes<0>, Bytes<0>>([0, 0]),
                        (true, true) => self.whole::<I8, Bytes<0>, Bytes<0x80>>([0, -128]),
                        (false, false) => self.whole::<I8, Bytes<0x80>, Bytes<0>>([128, 0]),
                        (false, true) => self.whole::<I8, Bytes<0x80>, Bytes<0x80>>([128, -128]),
                    };
                }
                match (a == U8, b == U8) {
                    (true, false) => self.whole::<I16, WideBytes<false>, WideBytes<true>>([0, 0]),
                    (true, true) => self.whole::<I16, WideBytes<false>, WideBytes<false>>([0, 0]),
                    (false, false) => self.whole::<I16, WideBytes<true>, WideBytes<true>>([0, 0]),
                    (false, true) => self.whole::<I16, WideBytes<true>, WideBytes<false>>([0, 0]),
                }
            }
        }
    }

    /// Whether [`Job::thin`] has the product: few rows, of a type that it knows.
    #[cfg(target_arch = "x86_64")]
    fn is_thin(&self) -> bool {
        use DataType::{F64 as Double64, I16 as Whole16};
        let axes = &self.axes;
        let words = self.op.k.next_multiple_of(2) as usize;
        let shape = (axes.m, axes.n, self.op.k as usize, words);
        // The sums of rows that an offset of the other side asks for are not taken there.
        let plain = self.offsets()[1] == 0;
        plain && !matches!(self.op.a.dtype, Double64 | Whole16) && gemm::thin::fits(shape, axes.b)
    }

    /// Few rows: the other side is read as it stands in memory.
    #[cfg(target_arch = "x86_64")]
    fn thin(&self) -> Result<(), Fault> {
        use gemm::thin::Kind;
        use DataType::{Bf16, F16, F32 as Single32, U8};
        fn store<'f, 'a, O>(finish: Finish<'f, 'a, Plane>) -> Store<'f, 'a, Plane, O> {
            Store(finish, PhantomData)
        }
        let sides = match self.axes.swapped {
            false => (self.op.a.dtype, self.op.b.dtype),
            true => (self.op.b.dtype, self.op.a.dtype),
        };
        let narrow = self.op.out.dtype != Single32;
        let offset = self.offsets()[0];
        let shifted = move |added| {
            move |finish| Shifted {
                finish,
                zero_a: added + offset,
                zero_b: 0,
                depth: 0,
            }
        };
        if let Some(factors) = &self.factors {
            let sink = |added| {
                move |finish| Quantising {
                    shifted: shifted(added)(finish),
                    factors,
                    columns: !self.axes.swapped,
                    first: 0,
                }
            };
            return match sides {
                (U8, U8) => self.thin_of::<Bytes<0x80>, i32, _>(Kind::Unsigned, sink(-128)),
                (U8, _) => self.thin_of::<Bytes<0>, i32, _>(Kind::Signed, sink(0)),
                (_, U8) => self.thin_of::<Bytes<0>, i32, _>(Kind::Unsigned, sink(0)),
                (_, _) => self.thin_of::<Bytes<0x80>, i32, _>(Kind::Signed, sink(128)),
            };
        }
        match (sides.0, sides.1) {
            (Single32, _) => self.thin_of::<Single, f32, _>(Kind::Single, store::<f32>),
            (F16, _) if narrow => self.thin_of::<Half, f32, _>(Kind::Half, store::<f16>),
            (F16, _) => self.thin_of::<Half, f32, _>(Kind::Half, store::<f32>),
            (Bf16, _) if narrow => self.thin_of::<Brain, f32, _>(Kind::Brain, store::<bf16>),
            (Bf16, _) => self.thin_of::<Brain, f32, _>(Kind::Brain, store::<f32>),
            // One side is to be unsigned and the other signed: what is added to the elements of `a` for that is subtracted again.
            (U8, U8) => self.thin_of::<Bytes<0x80>, i32, _>(Kind::Unsigned, shifted(-128)),
            (U8, _) => self.thin_of::<Bytes<0>, i32, _>(Kind::Signed, shifted(0)),
            (_, U8) => self.thin_of::<Bytes<0>, i32, _>(Kind::Unsigned, shifted(0)),
            (_, _) => self.thin_of::<Bytes<0x80>, i32, _>(Kind::Signed, shifted(128)),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn thin_of<'f, F: Feed<Word: Sync>, T, S: Sink<T>>(
        &'f self,
        kind: gemm::thin::Kind,
        sink: impl Fn(Finish<'f, 'a, Plane>) -> S,
    ) -> Result<(), Fault>
    where
        T: vmlu_abi::Wire + Default,
    {
        let axes = &self.axes;
        let k = self.op.k as usize;
        let (view_a, view_b) = self.views();
        let batch = self.op.out.elements as usize / (axes.m * axes.n);
        (0..batch).try_for_each(|index| {
            let (base_a, base_b, out, bias) = self.bases(index);
            let a = Strided::<F> {
                view: view_a,
                offset: base_a,
                line: axes.a.0,
                depth: axes.a.1,
                lines: axes.m,
                length: k,
                feed: PhantomData,
            };
            let sink = sink(self.finish(Plane {
                out: (out, axes.out.0, axes.out.1),
                bias: (bias, axes.bias.0, axes.bias.1),
            }));
            gemm::thin::Thin {
                a: &a,
                view: view_b,
                offset: base_b,
                strides: axes.b,
                columns: axes.n,
                length: k,
                words: F::words(k),
                block: match kind {
                    gemm::thin::Kind::Brain => BF16_BLOCK as usize,
                    _ => K_BLOCK as usize,
                },
                kind,
                sink: &sink,
            }
            .run(self.env)
        })
    }

    /// The memory of the sides, of which the first has the rows.
    fn views(&self) -> (&View<'a>, &View<'a>) {
        match self.axes.swapped {
            false => (self.a, self.b),
            true => (self.b, self.a),
        }
    }

    /// Offsets of a batch element in these, in the result and in the bias.
    fn bases(&self, index: usize) -> (isize, isize, isize, isize) {
        let [a, b, out, bias] = self.base(index);
        match self.axes.swapped {
            false => (a, b, out, bias),
            true => (b, a, out, bias),
        }
    }

    fn bf16<O: Narrow<Compute = f32>>(&self) -> Result<(), Fault> {
        #[cfg(target_arch = "x86_64")]
        if simd::has_bf16() {
            return self.floats::<gemm::Bf16, Pairs, O>(BF16_BLOCK as usize / 2);
        }
        self.floats::<F32, Brain, O>(BF16_BLOCK as usize)
    }

    fn floats<A, F, O>(&self, block: usize) -> Result<(), Fault>
    where
        A: Arith,
        F: Feed<Word = A::Word>,
        O: Narrow<Compute = A::Acc>,
    {
        let sink = |place| Store::<_, O>(self.finish(place), PhantomData);
        self.all::<A, F, F, _>(block, Sums::default(), sink)
    }

    /// Offsets of the sides, if they are quantised.
    fn offsets(&self) -> [i32; 2] {
        let offsets = self.op.quantised.map_or([0; 2], |q| [q.a.1, q.b.1]);
        match self.axes.swapped {
            false => offsets,
            true => [offsets[1], offsets[0]],
        }
    }

    /// Whole numbers with i32 sums; `added` is what packing has added to the elements.
    fn whole<A, FA, FB>(&self, added: [i32; 2]) -> Result<(), Fault>
    where
        A: Arith<Word = u32, Acc = i32>,
        FA: Feed<Word = u32>,
        FB: Feed<Word = u32>,
    {
        let offsets = self.offsets();
        let zeros: [i32; 2] = std::array::from_fn(|i| added[i] + offsets[i]);
        // Words of ones, of bytes or of i16.
        let ones = Some(if FA::STEP == 4 {
            0x0101_0101
        } else {
            0x0001_0001
        });
        let sums = Sums {
            columns: ones.filter(|_| zeros[0] != 0),
            rows: ones.filter(|_| zeros[1] != 0),
        };
        let shifted = |place| Shifted {
            finish: self.finish(place),
            zero_a: zeros[0],
            zero_b: zeros[1],
            depth: self.op.k as usize,
        };
        match &self.factors {
            None => self.all::<A, FA, FB, _>(gemm::BLOCK, sums, shifted),
            Some(factors) => self.all::<A, FA, FB, _>(gemm::BLOCK, sums, |place| Quantising {
                shifted: shifted(place),
                factors,
                columns: !self.axes.swapped,
                first: 0,
            }),
        }
    }

    fn finish(&self, place: Plane) -> Finish<'_, 'a, Plane> {
        Finish {
            alpha: self.op.alpha,
            beta: self.op.beta,
            activation: self.op.activation,
            out: self.out,
            bias: self.bias,
            place,
        }
    }

    /// Computes all batch elements.
    fn all<A: Arith, FA, FB, S>(
        &self,
        block: usize,
        sums: Sums<A::Word>,
        sink: impl Fn(Plane) -> S + Sync,
    ) -> Result<(), Fault>
    where
        FA: Feed<Word = A::Word>,
        FB: Feed<Word = A::Word>,
        S: Sink<A::Acc>,
    {
        let axes = &self.axes;
        let k = self.op.k as usize;
        let (view_a, view_b) = self.views();
        let element = |index: usize, then: &mut gemm::Then<'_, A>| {
            let (base_a, base_b, out, bias) = self.bases(index);
            let a = Strided::<FA> {
                view: view_a,
                offset: base_a,
                line: axes.a.0,
                depth: axes.a.1,
                lines: axes.m,
                length: k,
                feed: PhantomData,
            };
            let b = Strided::<FB> {
                view: view_b,
                offset: base_b,
                line: axes.b.0,
                depth: axes.b.1,
                lines: axes.n,
                length: k,
                feed: PhantomData,
            };
            let sink = sink(Plane {
                out: (out, axes.out.0, axes.out.1),
                bias: (bias, axes.bias.0, axes.bias.1),
            });
            then(&Product {
                a: &a,
                b: &b,
                words: FA::words(k),
                block,
                sink: &sink,
                sums,
            })
        };
        let batch = self.op.out.elements as usize / (axes.m * axes.n);
        gemm::run_all(self.env, batch, element)
    }

    /// Offsets of a batch element in a, b, out, bias.
    fn base(&self, mut index: usize) -> [isize; 4] {
        let op = self.op;
        let mut base = [0; 4];
        for i in (0..self.axes.batch_axes).rev() {
            let dim = op.out.dims()[i] as usize;
            let at = (index % dim) as isize;
            index /= dim;
            let [a, b, bias] = op.batch_strides.map(|s| s[i] as isize);
            let strides = [a, b, op.out.strides()[i] as isize, bias];
            for (to, stride) in base.iter_mut().zip(strides) {
                *to += at * stride;
            }
        }
        base
    }
}
