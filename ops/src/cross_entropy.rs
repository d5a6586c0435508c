//! Softmax cross-entropy: `lossᵢ = log Σⱼ exp(logitsᵢⱼ) - logitsᵢ[labelsᵢ]`, and the probabilities if they are wanted.
//!
//! A label outside 0 … C - 1 is a fault, found before anything is written; with [`FLAG_IGNORE`], rows whose label is `ignore_label` have
//! loss 0.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

/// `ignore_label` counts.
pub const FLAG_IGNORE: u32 = 1 << 0;

descriptor! {
    /// Body of `opcode::CROSS_ENTROPY`.
    pub struct CrossEntropy : 656 {
        /// Operand 0: `[N, C]`, floats.
        pub logits: TensorDesc = 0,
        /// Operand 1: `[N]`, I32 or I64.
        pub labels: TensorDesc = 160,
        /// Operand 2, written: `[N]`, of the type of `logits`.
        pub loss: TensorDesc = 320,
        /// Operand 3, written, may be absent: `[N, C]`, of the type of `logits`; may be exactly `logits`.
        pub probabilities: TensorDesc = 480,
        /// Label of rows that do not count; 0 without [`FLAG_IGNORE`].
        pub ignore_label: i64 = 640,
        /// `FLAG_*`.
        pub flags: u32 = 648,
        /// Zero.
        pub reserved: u32 = 652,
    }
}

/// A checked [`CrossEntropy`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub logits: Tensor,
    /// Operand 1.
    pub labels: Tensor,
    /// Operand 2.
    pub loss: Tensor,
    /// Operand 3.
    pub probabilities: Option<Tensor>,
    /// Label of rows that do not count.
    pub ignore: Option<i64>,
}

impl crate::Descriptor for CrossEntropy {
    const INFO: Info = Info {
        opcode: opcode::CROSS_ENTROPY,
        name: "cross_entropy",
        formula: "lossᵢ = log Σⱼ exp(logitsᵢⱼ) - logitsᵢ[labelsᵢ]; probabilities = softmax(logits)",
        operands: &["logits", "labels", "loss*", "probabilities*?"],
        functions: &[],
        types: "f32, f16, bf16, f64; labels i32, i64",
        backward: "cross_entropy_backward",
        cost: "10 per logit",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "cross_entropy";
        let (sx, sl, so, sp) = (
            Site::new(NAME, 0, "logits"),
            Site::new(NAME, 1, "labels"),
            Site::new(NAME, 2, "loss"),
            Site::new(NAME, 3, "probabilities"),
        );
        rule::reserved(NAME, &[self.reserved])?;
        let ignore = check_ignore(NAME, self.flags, self.ignore_label)?;
        let logits = Tensor::check(sx, &self.logits, Role::Input)?;
        let labels = Tensor::check(sl, &self.labels, Role::Input)?;
        let loss = Tensor::check(so, &self.loss, Role::Output)?;
        let probabilities = Tensor::check_optional(sp, &self.probabilities, Role::Output)?;
        logits.expect_type(sx, &FLOATS)?;
        logits.expect_rank(sx, 2)?;
        let rows = &logits.dims()[..1];
        labels.expect_type(sl, &INDICES)?;
        labels.expect_dims(sl, rows, "the rows of logits are")?;
        loss.expect_same_type(so, &logits, "logits")?;
        loss.expect_dims(so, rows, "the rows of logits are")?;
        loss.refuse_overlap(so, &logits, "logits", false)?;
        loss.refuse_overlap(so, &labels, "labels", false)?;
        if let Some(p) = &probabilities {
            p.expect_same_type(sp, &logits, "logits")?;
            p.expect_dims(sp, logits.dims(), "logits is")?;
            p.refuse_overlap(sp, &logits, "logits", true)?;
            p.refuse_overlap(sp, &labels, "labels", false)?;
            p.refuse_overlap(sp, &loss, "loss", false)?;
        }
        Ok(Checked {
            logits,
            labels,
            loss,
            probabilities,
            ignore,
        })
    }
}

/// Flags and label of rows that do not count.
pub(crate) fn check_ignore(name: &str, flags: u32, label: i64) -> Result<Option<i64>, RuleError> {
    if flags & !FLAG_IGNORE != 0 {
        return Err(rule::error(
            name,
            format_args!("flags {flags:#x} are unknown"),
        ));
    }
    if flags & FLAG_IGNORE != 0 {
        return Ok(Some(label));
    }
    if label != 0 {
        return Err(rule::error(
            name,
            "ignore_label is set, but its flag is not",
        ));
    }
    Ok(None)
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let probabilities = self.probabilities.map_or(0, |p| p.footprint());
        Cost {
            operations: self.logits.elements.saturating_mul(10),
            read: self
                .logits
                .footprint()
                .saturating_add(self.labels.footprint()),
            written: self.loss.footprint().saturating_add(probabilities),
            ..Cost::default()
        }
    }
}
