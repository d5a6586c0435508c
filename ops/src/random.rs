//! Random numbers: `out[i] = f(Philox4x32-10)`, counter-based, so that a seed gives the same numbers on every host, thread count and layout.
//!
//! Block `b` is Philox4x32-10 (Salmon et al., SC 2011) of the counter `(offset + b, stream)` and the key `seed`, each number's lower half first: four
//! words of 32 bits. Elements are counted in row-major order. An element takes one word, or two, the first the lower half, where the result
//! is F64 or the function is `integers` or `bits`; the command takes the blocks that have all of them, the last maybe in part. `u` is a word's upper
//! bits times a power of 2, as many as the type's significand has (24, 11, 8, 53), below 1; `v` is `(word + ½) · 2⁻³²`, or of the upper 52 bits of two words,
//! between 0 and 1 and neither. What follows is computed in f64 and rounded once.
//!
//! With `state` the seed and the offset come from there, and the offset has moved on by the command's blocks when it has ended: a graph that is
//! replayed draws new numbers.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::RANDOM`.
    pub struct Random : 544 {
        /// Operand 0, written: of a type that the function gives.
        pub out: TensorDesc = 0,
        /// Operand 1, may be absent: floats, broadcast to `out`: the probabilities of `bernoulli`.
        pub probability: TensorDesc = 160,
        /// Operand 2, read and written, may be absent: U64 `[2]`: seed and offset.
        pub state: TensorDesc = 320,
        /// Key; 0 with `state`.
        pub seed: u64 = 480,
        /// First block; 0 with `state`.
        pub offset: u64 = 488,
        /// Upper half of the counter: streams of one seed never meet.
        pub stream: u64 = 496,
        /// First parameter of the function.
        pub alpha: f64 = 504,
        /// Second parameter.
        pub beta: f64 = 512,
        /// Least value of `integers`.
        pub low: i64 = 520,
        /// Behind the greatest value of `integers`.
        pub high: i64 = 528,
        /// A [`Function`].
        pub function: u32 = 536,
        /// Zero.
        pub reserved: u32 = 540,
    }
}

functions! {
    /// Distributions.
    pub enum Function {
        /// `u · (beta - alpha) + alpha`, floats; what rounding takes to `beta` becomes `alpha`.
        Uniform = 0, "uniform";
        /// Mean `alpha`, deviation `beta`, floats: Box and Muller's. `r = √(-2 log v₁)`, `w = 2π v₂` of the `v` of elements 2j and 2j + 1; they become `r cos w` and `r sin w`.
        Normal = 1, "normal";
        /// 1 with probability `alpha`, or `probability`, else 0, all types: whether `word · 2⁻³²` is below it.
        Bernoulli = 2, "bernoulli";
        /// `low + ⌊words · (high - low) / 2⁶⁴⌋`, all types but Bool that hold both ends.
        Integers = 3, "integers";
        /// `-log(v) / alpha`, floats.
        Exponential = 4, "exponential";
        /// The exponential of a normal number of mean `alpha` and deviation `beta`, floats.
        LogNormal = 5, "log_normal";
        /// `alpha + beta · tan(π (v - ½))`, floats.
        Cauchy = 6, "cauchy";
        /// Trials of probability `alpha` until the first success: `⌈log(v) / log(1 - alpha)⌉`, at least 1, all types but Bool.
        Geometric = 7, "geometric";
        /// The lower bits of the words, whole numbers.
        Bits = 8, "bits";
    }
}

impl Function {
    /// Whether it gives this type.
    pub fn gives(self, dtype: DataType) -> bool {
        match self {
            Self::Bernoulli => true,
            Self::Integers | Self::Geometric => dtype != DataType::Bool,
            Self::Bits => !is_float(dtype) && dtype != DataType::Bool,
            _ => is_float(dtype),
        }
    }

    /// How many of `alpha` and `beta` it has.
    pub const fn parameters(self) -> usize {
        match self {
            Self::Uniform | Self::Normal | Self::LogNormal | Self::Cauchy => 2,
            Self::Bernoulli | Self::Exponential | Self::Geometric => 1,
            Self::Integers | Self::Bits => 0,
        }
    }

    /// Words that an element takes.
    pub fn words(self, dtype: DataType) -> u64 {
        match self {
            Self::Integers | Self::Bits => 2,
            Self::Bernoulli | Self::Geometric => 1,
            _ if dtype == DataType::F64 => 2,
            _ => 1,
        }
    }
}

/// Blocks that some elements of some words take. An odd last element of a pair takes its partner's words too.
pub fn blocks(elements: u64, words: u64) -> u64 {
    elements.div_ceil(4 / words)
}

/// A checked [`Random`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub out: Tensor,
    /// Operand 1, and its strides over `out`.
    pub probability: Option<(Tensor, [i64; 8])>,
    /// Where the numbers come from.
    pub source: Source,
    /// Parameters.
    pub alpha: f64,
    /// See `alpha`.
    pub beta: f64,
    /// Least whole number.
    pub low: i64,
    /// Behind the greatest.
    pub high: i64,
    /// Distribution.
    pub function: Function,
}

/// Where random numbers come from: the fields that all operators of this kind have.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// U64 `[2]` in memory: seed and offset, instead of the next two.
    pub state: Option<Tensor>,
    /// Key.
    pub seed: u64,
    /// First block.
    pub offset: u64,
    /// Upper half of the counter.
    pub stream: u64,
}

impl Source {
    /// Checks the fields.
    pub(crate) fn check(
        site: Site,
        state: &TensorDesc,
        seed: u64,
        offset: u64,
        stream: u64,
    ) -> Result<Self, RuleError> {
        let state = Tensor::check_optional(site, state, Role::Output)?;
        if let Some(state) = &state {
            state.expect_type(site, &[DataType::U64])?;
            state.expect_dims(site, &[2], "it must be")?;
            if seed != 0 || offset != 0 {
                return Err(site.error(" is given, and seed or offset is not 0"));
            }
        }
        Ok(Self {
            state,
            seed,
            offset,
            stream,
        })
    }

    /// Bytes of the state.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.map_or(0, |s| s.footprint())
    }
}

impl crate::Descriptor for Random {
    const INFO: Info = Info {
        opcode: opcode::RANDOM,
        name: "random",
        formula: "out = random numbers of a distribution",
        operands: &["out*", "probability?", "state*?"],
        functions: Function::ROWS,
        types: "floats; bernoulli all; integers, geometric all but bool; bits integers",
        backward: "none: random",
        cost: "10 per element, 30 from normal on",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "random";
        let (so, sp, ss) = (
            Site::new(NAME, 0, "out"),
            Site::new(NAME, 1, "probability"),
            Site::new(NAME, 2, "state"),
        );
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let probability = Tensor::check_optional(sp, &self.probability, Role::Input)?;
        let source = Source::check(ss, &self.state, self.seed, self.offset, self.stream)?;
        if !function.gives(out.dtype) {
            return Err(so.error(format_args!(
                ".dtype is {:?}, which {} does not give",
                out.dtype,
                function.name()
            )));
        }
        let probability = match probability {
            None => None,
            Some(_) if function != Function::Bernoulli => {
                let text = format_args!(" is given, but {} has none", function.name());
                return Err(sp.error(text));
            }
            Some(p) => {
                p.expect_type(sp, &FLOATS)?;
                let strides = p.broadcast(sp, out.dims())?;
                out.refuse_overlap(so, &p, "probability", false)?;
                Some((p, strides))
            }
        };
        if let Some(state) = &source.state {
            state.refuse_overlap(ss, &out, "out", false)?;
            if let Some((p, _)) = &probability {
                state.refuse_overlap(ss, p, "probability", false)?;
            }
        }
        self.check_numbers(function, out.dtype, probability.is_some())?;
        Ok(Checked {
            out,
            probability,
            source,
            alpha: self.alpha,
            beta: self.beta,
            low: self.low,
            high: self.high,
            function,
        })
    }
}

impl Random {
    /// The parameters.
    fn check_numbers(
        &self,
        function: Function,
        dtype: DataType,
        given: bool,
    ) -> Result<(), RuleError> {
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error("random", text));
        let name = function.name();
        let (alpha, beta) = (self.alpha, self.beta);
        let count = if given { 0 } else { function.parameters() };
        for (i, v) in [alpha, beta].into_iter().enumerate() {
            let field = ["alpha", "beta"][i];
            if i >= count && v.to_bits() != 0 {
                return fail(format_args!(
                    "{field} is {v}, which {name} does not take here"
                ));
            }
            if i < count && !v.is_finite() {
                return fail(format_args!("{field} is {v}, must be finite"));
            }
        }
        let whole = function == Function::Integers;
        if !whole && (self.low != 0 || self.high != 0) {
            return fail(format_args!("low or high is not 0, but {name} has none"));
        }
        match function {
            Function::Uniform if alpha > beta || !(beta - alpha).is_finite() => {
                fail(format_args!("{name} from {alpha:e} to {beta:e}: no range"))
            }
            Function::Normal | Function::LogNormal if beta < 0.0 => {
                fail(format_args!("beta is {beta}: a deviation is not negative"))
            }
            Function::Bernoulli if !(0.0..=1.0).contains(&alpha) => {
                fail(format_args!("alpha is {alpha}: a probability is 0 to 1"))
            }
            Function::Exponential if alpha <= 0.0 => {
                fail(format_args!("alpha is {alpha}: a rate is positive"))
            }
            Function::Cauchy if beta <= 0.0 => {
                fail(format_args!("beta is {beta}: a width is positive"))
            }
            Function::Geometric if alpha <= 0.0 || alpha >= 1.0 => {
                fail(format_args!("alpha is {alpha}, must lie between 0 and 1"))
            }
            Function::Integers => {
                let (least, greatest) = range(dtype);
                let (low, high) = (i128::from(self.low), i128::from(self.high));
                if low >= high {
                    return fail(format_args!("{name} from {low} up to {high}: no range"));
                }
                if low < least || high - 1 > greatest {
                    return fail(format_args!(
                        "{name} from {low} up to {high}: {dtype:?} does not hold all of them"
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Least and greatest number of a type, such that it has all between them.
fn range(dtype: DataType) -> (i128, i128) {
    let float = |digits: u32| (-(1i128 << digits), 1i128 << digits);
    match dtype {
        DataType::F16 => float(11),
        DataType::Bf16 => float(8),
        DataType::F32 => float(24),
        DataType::F64 => float(53),
        DataType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::I64 => (i64::MIN.into(), i64::MAX.into()),
        DataType::U8 => (0, u8::MAX.into()),
        DataType::U16 => (0, u16::MAX.into()),
        DataType::U32 => (0, u32::MAX.into()),
        DataType::U64 => (0, u64::MAX.into()),
        DataType::Bool => (0, 1),
    }
}

impl Checked {
    /// Blocks of the generator that the command takes.
    pub fn blocks(&self) -> u64 {
        blocks(self.out.elements, self.function.words(self.out.dtype))
    }

    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = match self.function {
            Function::Uniform | Function::Bernoulli | Function::Integers | Function::Bits => 10,
            _ => 30,
        };
        let state = self.source.bytes();
        Cost {
            operations: self.out.elements.saturating_mul(each),
            read: self.probability.map_or(0, |p| p.0.footprint()) + state,
            written: self.out.footprint() + state,
            ..Cost::default()
        }
    }
}
