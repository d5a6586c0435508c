//! Dropout: `out = x · mask / (1 - p)`, with a mask that is drawn, or given, as the gradient needs it.
//!
//! `draw` keeps element i (row-major) where word i of the generator of `random` times 2⁻³² is not below `p`, and writes the mask if it is wanted: 1 for what
//! is kept. `apply` takes the mask: with the gradient of the result as `x` it gives that of `x`; so does `draw` with the same seed and offset. The
//! factor `1 / (1 - p)`, 0 for p = 1, is rounded to the type of the arithmetic; what is dropped is multiplied by 0, so NaN and infinity become NaN.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::random::{self, Source};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::DROPOUT`.
    pub struct Dropout : 680 {
        /// Operand 0: floats.
        pub x: TensorDesc = 0,
        /// Operand 1: Bool or U8, of `x`'s shape; written by `draw`, where it may be absent, read by `apply`.
        pub mask: TensorDesc = 160,
        /// Operand 2, written: of `x`'s type and shape; may be exactly `x`.
        pub out: TensorDesc = 320,
        /// Operand 3, read and written, may be absent, `draw` only: U64 `[2]`: seed and offset.
        pub state: TensorDesc = 480,
        /// Key; 0 with `state` and for `apply`.
        pub seed: u64 = 640,
        /// First block; 0 with `state` and for `apply`.
        pub offset: u64 = 648,
        /// Upper half of the counter; 0 for `apply`.
        pub stream: u64 = 656,
        /// Probability of being dropped, 0 to 1.
        pub p: f64 = 664,
        /// A [`Function`].
        pub function: u32 = 672,
        /// Zero.
        pub reserved: u32 = 676,
    }
}

functions! {
    /// Where the mask comes from.
    pub enum Function {
        /// The mask is drawn.
        Draw = 0, "draw";
        /// The mask is given.
        Apply = 1, "apply";
    }
}

/// A checked [`Dropout`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub mask: Option<Tensor>,
    /// Operand 2.
    pub out: Tensor,
    /// Where the mask comes from.
    pub source: Source,
    /// Probability of being dropped.
    pub p: f64,
    /// What to do.
    pub function: Function,
}

impl crate::Descriptor for Dropout {
    const INFO: Info = Info {
        opcode: opcode::DROPOUT,
        name: "dropout",
        formula: "out = x · mask / (1 - p)",
        operands: &["x", "mask*?", "out*", "state*?"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; mask bool, u8",
        backward: "itself: apply",
        cost: "12 per element, 1 for apply",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "dropout";
        let (sx, sm, so, ss) = (
            Site::new(NAME, 0, "x"),
            Site::new(NAME, 1, "mask"),
            Site::new(NAME, 2, "out"),
            Site::new(NAME, 3, "state"),
        );
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        if !(0.0..=1.0).contains(&self.p) {
            let text = format_args!("p is {}: a probability is 0 to 1", self.p);
            return Err(rule::error(NAME, text));
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let role = match function {
            Function::Draw => Role::Output,
            Function::Apply => Role::Input,
        };
        let mask = Tensor::check_optional(sm, &self.mask, role)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let source = Source::check(ss, &self.state, self.seed, self.offset, self.stream)?;
        x.expect_type(sx, &FLOATS)?;
        out.expect_same_type(so, &x, "x")?;
        out.expect_dims(so, x.dims(), "x is")?;
        out.refuse_overlap(so, &x, "x", true)?;
        if let Some(mask) = &mask {
            mask.expect_type(sm, &[DataType::Bool, DataType::U8])?;
            mask.expect_dims(sm, x.dims(), "x is")?;
            mask.refuse_overlap(sm, &out, "out", false)?;
            if function == Function::Draw {
                mask.refuse_overlap(sm, &x, "x", false)?;
            }
        }
        if function == Function::Apply {
            if mask.is_none() {
                return Err(sm.error(" is absent, but is to be applied"));
            }
            let any = source.seed | source.offset | source.stream != 0;
            if any || source.state.is_some() {
                return Err(ss.error(", seed, offset or stream is given, but nothing is drawn"));
            }
        }
        if let Some(state) = &source.state {
            state.refuse_overlap(ss, &out, "out", false)?;
            state.refuse_overlap(ss, &x, "x", false)?;
            if let Some(mask) = &mask {
                state.refuse_overlap(ss, mask, "mask", false)?;
            }
        }
        Ok(Checked {
            x,
            mask,
            out,
            source,
            p: self.p,
            function,
        })
    }
}

impl Checked {
    /// Blocks of the generator that the command takes.
    pub fn blocks(&self) -> u64 {
        match self.function {
            Function::Draw => random::blocks(self.x.elements, 1),
            Function::Apply => 0,
        }
    }

    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let mask = self.mask.map_or(0, |m| m.footprint());
        let state = self.source.bytes();
        let (each, read, written) = match self.function {
            Function::Draw => (12, 0, mask),
            Function::Apply => (1, mask, 0),
        };
        Cost {
            operations: self.x.elements.saturating_mul(each),
            read: self.x.footprint().saturating_add(read + state),
            written: self.out.footprint().saturating_add(written + state),
            ..Cost::default()
        }
    }
}
