//! Gradient of softmax cross-entropy: `gradientᵢⱼ = (softmax(logitsᵢ)ⱼ - [j = labelsᵢ]) · scale · upstreamᵢ`.
//!
//! Labels as in `cross_entropy`; ignored rows have gradient 0. With weights and smoothing ε, W being the sum of all weights:
//! `(1 - ε) · weight[labelsᵢ] · (softmaxᵢⱼ - [j = labelsᵢ]) + ε / C · (W · softmaxᵢⱼ - weight[j])` in place of the difference. For a mean, `total` divides the factor; without
//! it `scale` may be 1/N.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::cross_entropy::{check_ignore, check_smoothing};
use crate::loss::Reduction;
use crate::nll;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

descriptor! {
    /// Body of `opcode::CROSS_ENTROPY_BACKWARD`.
    pub struct CrossEntropyBackward : 992 {
        /// Operand 0: `[N, C, …]`, floats: what [`CrossEntropyBackward::source_kind`] says.
        pub source: TensorDesc = 0,
        /// Operand 1: `[N, …]`, I32 or I64.
        pub labels: TensorDesc = 160,
        /// Operand 2, may be absent: of the type of `source`, broadcast to `labels`: gradient of each row's loss, or of their sum.
        pub upstream: TensorDesc = 320,
        /// Operand 3, written: of the type and shape of `source`; may be exactly `source`.
        pub gradient: TensorDesc = 480,
        /// Operand 4, may be absent: `[C]`, of the type of `source`: weights of the classes.
        pub weight: TensorDesc = 640,
        /// Operand 5, may be absent: without dimensions, of the type of `source`: what gradients are divided by.
        pub total: TensorDesc = 800,
        /// Factor of all rows.
        pub scale: f64 = 960,
        /// Label of rows that do not count; 0 without `cross_entropy::FLAG_IGNORE`.
        pub ignore_label: i64 = 968,
        /// Share of the loss that falls on all classes alike: ε, 0 to 1.
        pub smoothing: f64 = 976,
        /// `cross_entropy::FLAG_*`.
        pub flags: u32 = 984,
        /// A [`Source`].
        pub source_kind: u32 = 988,
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
    /// Operand 2, and its strides over `labels`.
    pub upstream: Option<(Tensor, [i64; MAX_DIMS])>,
    /// Operand 3.
    pub gradient: Tensor,
    /// Operand 4.
    pub weight: Option<Tensor>,
    /// Operand 5.
    pub total: Option<Tensor>,
    /// Share of the loss that falls on all classes alike.
    pub smoothing: f64,
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
        operands: &[
            "source",
            "labels",
            "upstream?",
            "gradient*",
            "weight?",
            "total?",
        ],
        functions: Source::ROWS,
        types: "f32, f16, bf16, f64; labels i32, i64",
        backward: "by softmax_backward and binary",
        cost: "10 per element from logits, 2 from probabilities",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "cross_entropy_backward";
        let [sx, sl, su, sg, sw, st] = [
            (0, "source"),
            (1, "labels"),
            (2, "upstream"),
            (3, "gradient"),
            (4, "weight"),
            (5, "total"),
        ]
        .map(|(i, name)| Site::new(NAME, i, name));
        let kind = Source::from_raw(self.source_kind).ok_or_else(|| {
            rule::error(
                NAME,
                format_args!("source_kind {} is unknown", self.source_kind),
            )
        })?;
        let ignore = check_ignore(NAME, "ignore_label", self.flags, self.ignore_label)?;
        check_smoothing(NAME, self.smoothing)?;
        let source = Tensor::check(sx, &self.source, Role::Input)?;
        let labels = Tensor::check(sl, &self.labels, Role::Input)?;
        let upstream = Tensor::check_optional(su, &self.upstream, Role::Input)?;
        let gradient = Tensor::check(sg, &self.gradient, Role::Output)?;
        let weight = Tensor::check_optional(sw, &self.weight, Role::Input)?;
        let total = Tensor::check_optional(st, &self.total, Role::Input)?;
        source.expect_type(sx, &FLOATS)?;
        labels.expect_type(sl, &INDICES)?;
        nll::expect_rows(sl, &labels, sx, &source)?;
        nll::check_weight(sw, weight.as_ref(), &source)?;
        nll::check_total(st, total.as_ref(), &source, Reduction::Mean, false)?;
        let upstream = match upstream {
            None => None,
            Some(u) => {
                u.expect_same_type(su, &source, "source")?;
                let strides = u.broadcast(su, labels.dims())?;
                Some((u, strides))
            }
        };
        gradient.expect_same_type(sg, &source, "source")?;
        gradient.expect_dims(sg, source.dims(), "source is")?;
        gradient.refuse_overlap(sg, &source, "source", true)?;
        let others = [
            Some(("labels", &labels)),
            upstream.as_ref().map(|u| ("upstream", &u.0)),
            weight.as_ref().map(|w| ("weight", w)),
            total.as_ref().map(|t| ("total", t)),
        ];
        for (name, t) in others.into_iter().flatten() {
            gradient.refuse_overlap(sg, t, name, false)?;
        }
        Ok(Checked {
            source,
            labels,
            upstream,
            gradient,
            weight,
            total,
            smoothing: self.smoothing,
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
        let upstream = self.upstream.map_or(0, |u| u.0.footprint());
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
