//! Losses and their gradients.

use vmlu_abi::Wire;
use vmlu_ops::{
    cross_entropy, cross_entropy_backward, ctc, ctc_backward, loss, loss_backward, nll,
    soft_cross_entropy, soft_cross_entropy::SoftCrossEntropy,
};

use super::{optional, Source};
use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

pub use vmlu_ops::loss::{Function as LossFunction, Reduction};

/// What an elementwise loss takes besides input and target.
#[derive(Clone, Copy)]
pub struct LossOptions<'a> {
    /// Factors of the losses, broadcast.
    pub weight: Option<&'a Tensor>,
    /// `bce_logits`: factors of what is lost where the target is 1.
    pub positive: Option<&'a Tensor>,
    /// `smooth_l1` and `huber`: where the square ends.
    pub alpha: f64,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl Default for LossOptions<'_> {
    fn default() -> Self {
        Self {
            weight: None,
            positive: None,
            alpha: 0.0,
            reduction: Reduction::Mean,
        }
    }
}

/// What losses of classes take besides input and labels.
#[derive(Clone, Copy)]
pub struct ClassOptions<'a> {
    /// Weights of the classes.
    pub weight: Option<&'a Tensor>,
    /// A label that does not count.
    pub ignore: Option<i64>,
    /// Share of the loss that falls on all classes alike; cross-entropy only.
    pub smoothing: f64,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl Default for ClassOptions<'_> {
    fn default() -> Self {
        Self {
            weight: None,
            ignore: None,
            smoothing: 0.0,
            reduction: Reduction::Mean,
        }
    }
}

impl ClassOptions<'_> {
    /// The label that does not count, and the flag that says so.
    fn ignored(&self) -> (i64, u32) {
        match self.ignore {
            Some(label) => (label, cross_entropy::FLAG_IGNORE),
            None => (0, 0),
        }
    }
}

/// The examples of [`Queue::ctc`].
#[derive(Clone, Copy)]
pub struct CtcExamples<'a> {
    /// `[T, N, C]`: logarithms of probabilities.
    pub x: &'a Tensor,
    /// `[N, S]`, or one behind the other.
    pub targets: &'a Tensor,
    /// `[N]`: steps that count.
    pub input_lengths: &'a Tensor,
    /// `[N]`: targets that count.
    pub target_lengths: &'a Tensor,
    /// F64 `[N, T, 2 · S + 1]`, which the loss writes and the gradient reads.
    pub alpha: &'a Tensor,
    /// The class that spells nothing.
    pub blank: u32,
    /// Infinite losses count as 0.
    pub zero_infinity: bool,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl Queue {
    /// An elementwise loss.
    pub fn loss(
        &self,
        function: LossFunction,
        x: &Tensor,
        target: &Tensor,
        options: &LossOptions<'_>,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&loss::Loss {
            x: *x.desc(),
            target: *target.desc(),
            weight: optional(options.weight),
            positive: optional(options.positive),
            out: *out.desc(),
            alpha: options.alpha,
            function: function as u32,
            reduction: options.reduction as u32,
            reserved: 0,
        })
    }

    /// Gradient of [`Queue::loss`] by `x`; `upstream` is that of its result, 1 without.
    pub fn loss_backward(
        &self,
        function: LossFunction,
        [x, target]: [&Tensor; 2],
        options: &LossOptions<'_>,
        upstream: Option<&Tensor>,
        dx: &Tensor,
    ) -> Result<u64> {
        self.submit(&loss_backward::LossBackward {
            x: *x.desc(),
            target: *target.desc(),
            weight: optional(options.weight),
            positive: optional(options.positive),
            upstream: optional(upstream),
            dx: *dx.desc(),
            alpha: options.alpha,
            function: function as u32,
            reduction: options.reduction as u32,
            reserved: 0,
        })
    }

    /// Negative log-likelihood of labels; `total` takes the sum of the weights, which the gradient of a mean needs.
    pub fn nll(
        &self,
        x: &Tensor,
        labels: &Tensor,
        options: &ClassOptions<'_>,
        out: &Tensor,
        total: Option<&Tensor>,
    ) -> Result<u64> {
        let (ignore_target, flags) = options.ignored();
        self.submit(&nll::Nll {
            x: *x.desc(),
            target: *labels.desc(),
            weight: optional(options.weight),
            loss: *out.desc(),
            total: optional(total),
            ignore_target,
            flags,
            reduction: options.reduction as u32,
            function: nll::Function::Forward as u32,
            reserved: 0,
        })
    }

    /// Gradient of [`Queue::nll`]; `total` for a mean.
    pub fn nll_backward(
        &self,
        labels: &Tensor,
        options: &ClassOptions<'_>,
        upstream: &Tensor,
        total: Option<&Tensor>,
        dx: &Tensor,
    ) -> Result<u64> {
        let (ignore_target, flags) = options.ignored();
        self.submit(&nll::Nll {
            x: *dx.desc(),
            target: *labels.desc(),
            weight: optional(options.weight),
            loss: *upstream.desc(),
            total: optional(total),
            ignore_target,
            flags,
            reduction: options.reduction as u32,
            function: nll::Function::Backward as u32,
            reserved: 0,
        })
    }

    /// Softmax cross-entropy of `logits` `[N, C, …]` with `labels` `[N, …]` and all options; `total` takes the sum of the rows' weights.
    pub fn cross_entropy_with(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        options: &ClassOptions<'_>,
        out: &Tensor,
        probabilities: Option<&Tensor>,
        total: Option<&Tensor>,
    ) -> Result<u64> {
        let (ignore_label, flags) = options.ignored();
        self.submit(&cross_entropy::CrossEntropy {
            logits: *logits.desc(),
            labels: *labels.desc(),
            loss: *out.desc(),
            probabilities: optional(probabilities),
            weight: optional(options.weight),
            total: optional(total),
            ignore_label,
            smoothing: options.smoothing,
            flags,
            reduction: options.reduction as u32,
            reserved: 0,
        })
    }

    /// Gradient of [`Queue::cross_entropy_with`]; `total` for a mean.
    pub fn cross_entropy_backward_with(
        &self,
        (kind, source): (Source, &Tensor),
        labels: &Tensor,
        options: &ClassOptions<'_>,
        upstream: Option<&Tensor>,
        total: Option<&Tensor>,
        gradient: &Tensor,
    ) -> Result<u64> {
        let (ignore_label, flags) = options.ignored();
        self.submit(&cross_entropy_backward::CrossEntropyBackward {
            source: *source.desc(),
            labels: *labels.desc(),
            upstream: optional(upstream),
            gradient: *gradient.desc(),
            weight: optional(options.weight),
            total: optional(total),
            scale: 1.0,
            ignore_label,
            smoothing: options.smoothing,
            flags,
            source_kind: kind as u32,
        })
    }

    /// Connectionist temporal classification.
    pub fn ctc(&self, examples: &CtcExamples<'_>, out: &Tensor) -> Result<u64> {
        self.submit(&ctc::Ctc {
            x: *examples.x.desc(),
            targets: *examples.targets.desc(),
            input_lengths: *examples.input_lengths.desc(),
            target_lengths: *examples.target_lengths.desc(),
            loss: *out.desc(),
            alpha: *examples.alpha.desc(),
            blank: examples.blank,
            flags: u32::from(examples.zero_infinity) * ctc::FLAG_ZERO_INFINITY,
            reduction: examples.reduction as u32,
            ..ctc::Ctc::zeroed()
        })
    }

    /// Gradient of [`Queue::ctc`].
    pub fn ctc_backward(
        &self,
        examples: &CtcExamples<'_>,
        upstream: &Tensor,
        dx: &Tensor,
    ) -> Result<u64> {
        self.submit(&ctc_backward::CtcBackward {
            x: *examples.x.desc(),
            targets: *examples.targets.desc(),
            input_lengths: *examples.input_lengths.desc(),
            target_lengths: *examples.target_lengths.desc(),
            upstream: *upstream.desc(),
            alpha: *examples.alpha.desc(),
            dx: *dx.desc(),
            blank: examples.blank,
            flags: u32::from(examples.zero_infinity) * ctc::FLAG_ZERO_INFINITY,
            reduction: examples.reduction as u32,
            ..ctc_backward::CtcBackward::zeroed()
        })
    }
}

/// What [`Queue::soft_cross_entropy`] takes besides logits and targets.
#[derive(Clone, Copy)]
pub struct SoftOptions<'a> {
    /// Weights of the classes.
    pub weight: Option<&'a Tensor>,
    /// Share of the loss that falls on all classes alike.
    pub smoothing: f64,
    /// What becomes of the losses.
    pub reduction: Reduction,
}

impl Default for SoftOptions<'_> {
    fn default() -> Self {
        Self {
            weight: None,
            smoothing: 0.0,
            reduction: Reduction::Mean,
        }
    }
}

impl SoftOptions<'_> {
    fn body(&self, logits: &Tensor, target: &Tensor, loss: &Tensor) -> SoftCrossEntropy {
        SoftCrossEntropy {
            logits: *logits.desc(),
            target: *target.desc(),
            weight: optional(self.weight),
            loss: *loss.desc(),
            smoothing: self.smoothing,
            reduction: self.reduction as u32,
            ..SoftCrossEntropy::zeroed()
        }
    }
}

impl Queue {
    /// Softmax cross-entropy of `logits` `[N, C, …]` with probabilities of that shape.
    pub fn soft_cross_entropy(
        &self,
        logits: &Tensor,
        target: &Tensor,
        options: &SoftOptions<'_>,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&options.body(logits, target, out))
    }

    /// Gradient of [`Queue::soft_cross_entropy`] by the logits; `upstream` is that of its result.
    pub fn soft_cross_entropy_backward(
        &self,
        logits: &Tensor,
        target: &Tensor,
        options: &SoftOptions<'_>,
        upstream: &Tensor,
        gradient: &Tensor,
    ) -> Result<u64> {
        self.submit(&SoftCrossEntropy {
            gradient: *gradient.desc(),
            function: soft_cross_entropy::Function::Backward.raw(),
            ..options.body(logits, target, upstream)
        })
    }
}
