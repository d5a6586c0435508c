//! How many elements of `x` fall into each bin, or the sum of their weights.
//!
//! `uniform` has bins of equal width from `low` to `high`: an element `v` falls into bin `⌊(v - low) / (high - low) · bins⌋` (f64, rounded at each step), `high` into
//! the last. `edges` has them from the operand, ascending: bin `i` goes from `edges[i]` up to, but not with, `edges[i + 1]`; the last has its end too. `count`
//! takes whole numbers, each of which is its bin. What falls into none does not count, NaN neither; but for `count` it is an index out of range.
//!
//! Without weights `out` is I64. Weights are summed in f64, in at most [`PIECES`] pieces of equal length of the order of memory, each from zero, then the
//! pieces in order, and rounded to `out`'s type, which is theirs.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor, FLOATS};

/// Most bins: the card sums in memory of its own.
pub const MAX_BINS: u64 = 1 << 24;
/// Pieces of the sums of at most 2¹⁶ bins; of more there is one.
pub const PIECES: usize = 16;

descriptor! {
    /// Body of `opcode::HISTOGRAM`.
    pub struct Histogram : 664 {
        /// Operand 0: all types but Bool; whole numbers for `count`.
        pub x: TensorDesc = 0,
        /// Operand 1: `[bins + 1]`, of `x`'s type; for `edges` only.
        pub edges: TensorDesc = 160,
        /// Operand 2, may be absent: floats, of `x`'s shape.
        pub weights: TensorDesc = 320,
        /// Operand 3, written: `[bins]`, I64, or of the weights' type.
        pub out: TensorDesc = 480,
        /// Of `uniform`, finite; 0 for others.
        pub low: f64 = 640,
        /// Of `uniform`, above `low`; 0 for others.
        pub high: f64 = 648,
        /// A [`Function`].
        pub function: u32 = 656,
        /// 0.
        pub reserved: u32 = 660,
    }
}

functions! {
    /// Where bins are.
    pub enum Function {
        /// Of equal width.
        Uniform = 0, "uniform";
        /// Between edges.
        Edges = 1, "edges";
        /// One for each whole number.
        Count = 2, "count";
    }
}

/// A checked [`Histogram`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub edges: Option<Tensor>,
    /// Operand 2.
    pub weights: Option<Tensor>,
    /// Operand 3.
    pub out: Tensor,
    /// Strides of the weights over the axes of `x`.
    pub weight_strides: [i64; MAX_DIMS],
    /// Ends of equal bins.
    pub range: [f64; 2],
    /// Where bins are.
    pub function: Function,
}

impl crate::Descriptor for Histogram {
    const INFO: Info = Info {
        opcode: opcode::HISTOGRAM,
        name: "histogram",
        formula: "out = elements of x, or their weights, by bin",
        operands: &["x", "edges?", "weights?", "out*"],
        functions: Function::ROWS,
        types: "x all but bool; weights f32, f16, bf16, f64; out i64 or theirs",
        backward: "of the weights: take",
        cost: "4 per element; edges 2 · log2 of the bins",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "histogram";
        let [sx, se, sw, so] = [(0, "x"), (1, "edges"), (2, "weights"), (3, "out")]
            .map(|(i, n)| Site::new(NAME, i, n));
        rule::reserved(NAME, &[self.reserved])?;
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(NAME, text));
        let Some(function) = Function::from_raw(self.function) else {
            return fail(format_args!("function {} is unknown", self.function));
        };
        let (low, high) = (self.low, self.high);
        let uniform = function == Function::Uniform;
        if !uniform && low.to_bits() | high.to_bits() != 0 {
            return fail(format_args!("low and high are {low} and {high}, must be 0"));
        }
        // Written so that NaN fails too.
        if uniform && !(low.is_finite() && high > low && (high - low).is_finite()) {
            return fail(format_args!(
                "low is {low}, high {high}: must be finite and ascend"
            ));
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let edges = Tensor::check_optional(se, &self.edges, Role::Input)?;
        let weights = Tensor::check_optional(sw, &self.weights, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if x.dtype == DataType::Bool || (function == Function::Count && is_float(x.dtype)) {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        out.expect_rank(so, 1)?;
        let bins = out.dims()[0];
        if bins > MAX_BINS {
            return Err(so.error(format_args!(".dims[0] is {bins}, at most {MAX_BINS}")));
        }
        match (&edges, function) {
            (Some(edges), Function::Edges) => {
                edges.expect_same_type(se, &x, "x")?;
                edges.expect_rank(se, 1)?;
                edges.expect_dims(se, &[bins + 1], "out says")?;
                out.refuse_overlap(so, edges, "edges", false)?;
            }
            (None, Function::Edges) => return Err(se.error(" is absent, but edges needs it")),
            (Some(_), _) => {
                return Err(se.error(format_args!(
                    " is given, but {} takes none",
                    function.name()
                )));
            }
            (None, _) => {}
        }
        let mut weight_strides = [0; MAX_DIMS];
        match &weights {
            Some(weights) => {
                weights.expect_type(sw, &FLOATS)?;
                weights.expect_dims(sw, x.dims(), "x is")?;
                weight_strides = weights.broadcast(sw, x.dims())?;
                out.expect_same_type(so, weights, "weights")?;
                out.refuse_overlap(so, weights, "weights", false)?;
            }
            None => out.expect_type(so, &[DataType::I64])?,
        }
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked {
            x,
            edges,
            weights,
            out,
            weight_strides,
            range: [low, high],
            function,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = match self.function {
            Function::Edges => 2 * (u64::from(self.out.elements.max(1).ilog2()) + 1),
            _ => 4,
        };
        let read = [Some(self.x), self.edges, self.weights];
        Cost {
            operations: self.x.elements.saturating_mul(each),
            read: read.iter().flatten().map(Tensor::footprint).sum(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
