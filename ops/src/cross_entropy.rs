//! Softmax cross-entropy: `lossᵢ = log Σⱼ exp(logitsᵢⱼ) - logitsᵢ[labelsᵢ]`, its mean or sum, and the probabilities if they are wanted.
//!
//! Logits are `[N, C, …]`, classes along the second axis. With weights and smoothing ε: `lossᵢ = -(1 - ε) · weight[labelsᵢ] · pᵢ[labelsᵢ] - ε / C · Σⱼ weight[j] · pᵢ[j]`, p being the
//! logarithms of the probabilities. A label outside 0 … C - 1 is a fault, found before anything is written; with [`FLAG_IGNORE`], rows whose label is `ignore_label` have
//! loss 0 and no weight. The mean is the sum over `total`, the sum of `weight[labelsᵢ]`. Sums are f64.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::loss::Reduction;
use crate::nll;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

/// `ignore_label` counts.
pub const FLAG_IGNORE: u32 = 1 << 0;

descriptor! {
    /// Body of `opcode::CROSS_ENTROPY`.
    pub struct CrossEntropy : 992 {
        /// Operand 0: `[N, C, …]`, floats.
        pub logits: TensorDesc = 0,
        /// Operand 1: `[N, …]`, I32 or I64.
        pub labels: TensorDesc = 160,
        /// Operand 2, written: of the type of `logits`; of the shape of `labels` without a reduction, else without dimensions.
        pub loss: TensorDesc = 320,
        /// Operand 3, written, may be absent: of the type and shape of `logits`; may be exactly `logits`.
        pub probabilities: TensorDesc = 480,
        /// Operand 4, may be absent: `[C]`, of the type of `logits`: weights of the classes.
        pub weight: TensorDesc = 640,
        /// Operand 5, written, may be absent: without dimensions, of the type of `logits`: the sum of the rows' weights.
        pub total: TensorDesc = 800,
        /// Label of rows that do not count; 0 without [`FLAG_IGNORE`].
        pub ignore_label: i64 = 960,
        /// Share of the loss that falls on all classes alike: ε, 0 to 1.
        pub smoothing: f64 = 968,
        /// `FLAG_*`.
        pub flags: u32 = 976,
        /// A `loss::Reduction`, not `batch_mean`.
        pub reduction: u32 = 980,
        /// Zero.
        pub reserved: u64 = 984,
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
    /// Operand 4.
    pub weight: Option<Tensor>,
    /// Operand 5.
    pub total: Option<Tensor>,
    /// Label of rows that do not count.
    pub ignore: Option<i64>,
    /// Share of the loss that falls on all classes alike.
    pub smoothing: f64,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl crate::Descriptor for CrossEntropy {
    const INFO: Info = Info {
        opcode: opcode::CROSS_ENTROPY,
        name: "cross_entropy",
        formula: "lossᵢ = log Σⱼ exp(logitsᵢⱼ) - logitsᵢ[labelsᵢ]; probabilities = softmax(logits)",
        operands: &[
            "logits",
            "labels",
            "loss*",
            "probabilities*?",
            "weight?",
            "total*?",
        ],
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
        let [sx, sl, so, sp, sw, st] = [
            (0, "logits"),
            (1, "labels"),
            (2, "loss"),
            (3, "probabilities"),
            (4, "weight"),
            (5, "total"),
        ]
        .map(|(i, name)| Site::new(NAME, i, name));
        if self.reserved != 0 {
            let text = format_args!("a reserved field is {:#x}, must be 0", self.reserved);
            return Err(rule::error(NAME, text));
        }
        let ignore = check_ignore(NAME, "ignore_label", self.flags, self.ignore_label)?;
        let reduction = nll::mean_or_sum(NAME, self.reduction)?;
        check_smoothing(NAME, self.smoothing)?;
        let logits = Tensor::check(sx, &self.logits, Role::Input)?;
        let labels = Tensor::check(sl, &self.labels, Role::Input)?;
        let loss = Tensor::check(so, &self.loss, Role::Output)?;
        let probabilities = Tensor::check_optional(sp, &self.probabilities, Role::Output)?;
        let weight = Tensor::check_optional(sw, &self.weight, Role::Input)?;
        let total = Tensor::check_optional(st, &self.total, Role::Output)?;
        logits.expect_type(sx, &FLOATS)?;
        labels.expect_type(sl, &INDICES)?;
        nll::expect_rows(sl, &labels, sx, &logits)?;
        nll::check_weight(sw, weight.as_ref(), &logits)?;
        nll::check_total(st, total.as_ref(), &logits, reduction, false)?;
        loss.expect_same_type(so, &logits, "logits")?;
        match reduction {
            Reduction::None => loss.expect_dims(so, labels.dims(), "labels is")?,
            _ => loss.expect_rank(so, 0)?,
        }
        if let Some(p) = &probabilities {
            p.expect_same_type(sp, &logits, "logits")?;
            p.expect_dims(sp, logits.dims(), "logits is")?;
            p.refuse_overlap(sp, &logits, "logits", true)?;
            p.refuse_overlap(sp, &loss, "loss", false)?;
        }
        let written = [Some((so, &loss)), total.as_ref().map(|t| (st, t))];
        for (site, t) in written.into_iter().flatten() {
            t.refuse_overlap(site, &logits, "logits", false)?;
        }
        let probability = probabilities.as_ref().map(|p| (sp, p));
        for (site, t) in written.into_iter().chain([probability]).flatten() {
            t.refuse_overlap(site, &labels, "labels", false)?;
            if let Some(w) = &weight {
                t.refuse_overlap(site, w, "weight", false)?;
            }
        }
        if let Some(total) = &total {
            total.refuse_overlap(st, &loss, "loss", false)?;
            if let Some(p) = &probabilities {
                total.refuse_overlap(st, p, "probabilities", false)?;
            }
        }
        Ok(Checked {
            logits,
            labels,
            loss,
            probabilities,
            weight,
            total,
            ignore,
            smoothing: self.smoothing,
            reduction,
        })
    }
}

/// A share.
pub(crate) fn check_smoothing(name: &str, smoothing: f64) -> Result<(), RuleError> {
    if (0.0..=1.0).contains(&smoothing) {
        return Ok(());
    }
    let text = format_args!("smoothing is {smoothing}, must be 0 to 1");
    Err(rule::error(name, text))
}

/// Flags and label of rows that do not count.
pub(crate) fn check_ignore(
    name: &str,
    field: &str,
    flags: u32,
    label: i64,
) -> Result<Option<i64>, RuleError> {
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
            format_args!("{field} is set, but its flag is not"),
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
