//! Gradient of softmax cross-entropy: `gradientᵢⱼ = (softmax(logitsᵢ)ⱼ - [j = labelsᵢ]) · scale · upstreamᵢ`.
//!
//! Labels as in `cross_entropy`; ignored rows have gradient 0. `scale` is 1/N for a mean loss.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::cross_entropy::check_ignore;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

descriptor! {
    /// Body of `opcode::CROSS_ENTROPY_BACKWARD`.
    pub struct CrossEntropyBackward : 664 {
        /// Operand 0: `[N, C]`, floats: what [`CrossEntropyBackward::source_kind`] says.
        pub source: TensorDesc = 0,
        /// Operand 1: `[N]`, I32 or I64.
        pub labels: TensorDesc = 160,
        /// Operand 2, may be absent: `[N]`, of the type of `source`: gradient of each row's loss.
        pub upstream: TensorDesc = 320,
        /// Operand 3, written: `[N, C]`, of the type of `source`; may be exactly `source`.
        pub gradient: TensorDesc = 480,
        /// Factor of all rows.
        pub scale: f64 = 640,
        /// Label of rows that do not count; 0 without `cross_entropy::FLAG_IGNORE`.
        pub ignore_label: i64 = 648,
        /// `cross_entropy::FLAG_*`.
        pub flags: u32 = 656,
        /// A [`Source`].
        pub source_kind: u32 = 660,
    }
}

functions! {
    /// What operand 0 holds.
    pub enum Source {
        /// Logits.
        Logits = 0, "logits";
        /// Their softmax, as `cross_entropy` gives it.
        Probabilities = 1, "probabilities";
    }
}

/// A checked [`CrossEntropyBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub source: Tensor,
    /// Operand 1.
    pub labels: Tensor,
    /// Operand 2.
    pub upstream: Option<Tensor>,
    /// Operand 3.
    pub gradient: Tensor,
    /// Factor of all rows.
    pub scale: f64,
    /// Label of rows that do not count.
    pub ignore: Option<i64>,
    /// What operand 0 holds.
    pub kind: Source,
}

impl crate::Descriptor for CrossEntropyBackward {
    const INFO: Info = Info {
        opcode: opcode::CROSS_ENTROPY_BACKWARD,
        name: "cross_entropy_backward",
        formula: "gradientᵢⱼ = (softmaxᵢⱼ - [j = labelsᵢ]) · scale · upstreamᵢ",
        operands: &["source", "labels", "upstream?", "gradient*"],
        functions: Source::ROWS,
        types: "f32, f16, bf16, f64; labels i32, i64",
        backward: "not yet",
        cost: "10 per element from logits, 2 from probabilities",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "cross_entropy_backward";
        let (sx, sl, su, sg) = (
            Site::new(NAME, 0, "source"),
            Site::new(NAME, 1, "labels"),
            Site::new(NAME, 2, "upstream"),
            Site::new(NAME, 3, "gradient"),
        );
        let kind = Source::from_raw(self.source_kind).ok_or_else(|| {
            rule::error(
                NAME,
                format_args!("source_kind {} is unknown", self.source_kind),
            )
        })?;
        let ignore = check_ignore(NAME, self.flags, self.ignore_label)?;
        let source = Tensor::check(sx, &self.source, Role::Input)?;
        let labels = Tensor::check(sl, &self.labels, Role::Input)?;
        let upstream = Tensor::check_optional(su, &self.upstream, Role::Input)?;
        let gradient = Tensor::check(sg, &self.gradient, Role::Output)?;
        source.expect_type(sx, &FLOATS)?;
        source.expect_rank(sx, 2)?;
        let rows = &source.dims()[..1];
        labels.expect_type(sl, &INDICES)?;
        labels.expect_dims(sl, rows, "the rows of source are")?;
        if let Some(u) = &upstream {
            u.expect_same_type(su, &source, "source")?;
            u.expect_dims(su, rows, "the rows of source are")?;
            gradient.refuse_overlap(sg, u, "upstream", false)?;
        }
        gradient.expect_same_type(sg, &source, "source")?;
        gradient.expect_dims(sg, source.dims(), "source is")?;
        gradient.refuse_overlap(sg, &source, "source", true)?;
        gradient.refuse_overlap(sg, &labels, "labels", false)?;
        Ok(Checked {
            source,
            labels,
            upstream,
            gradient,
            scale: self.scale,
            ignore,
            kind,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = match self.kind {
            Source::Logits => 10,
            Source::Probabilities => 2,
        };
        let upstream = self.upstream.map_or(0, |u| u.footprint());
        Cost {
            operations: self.source.elements.saturating_mul(each),
            read: self
                .source
                .footprint()
                .saturating_add(self.labels.footprint())
                .saturating_add(upstream),
            written: self.gradient.footprint(),
            ..Cost::default()
        }
    }
}
