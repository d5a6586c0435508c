//! Softmax cross-entropy with probabilities as targets: `lossᵢ = -Σⱼ weightⱼ · tᵢⱼ · pᵢⱼ`, p being the logarithms of the softmax of the logits, and its gradient.
//!
//! Logits and target are `[N, C, …]`, classes along the second axis. With smoothing ε, t is `(1 - ε) · target + ε / C`. The mean is the sum divided by the
//! number of rows, as PyTorch has it. `backward` reads `loss` as the gradient that comes from above, of the shape that the result had, and writes
//! `gradientᵢⱼ = lossᵢ · (softmaxᵢⱼ · Σₖ weightₖ · tᵢₖ - weightⱼ · tᵢⱼ)`, divided by the number of rows for the mean. The target has no gradient.
//!
//! Exponentials are of f32 (f64 for F64), sums are f64, in order along a row.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::cross_entropy::check_smoothing;
use crate::loss::Reduction;
use crate::nll;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::SOFT_CROSS_ENTROPY`.
    pub struct SoftCrossEntropy : 824 {
        /// Operand 0: `[N, C, …]`, floats; C is at least 1.
        pub logits: TensorDesc = 0,
        /// Operand 1: of the type and shape of `logits`.
        pub target: TensorDesc = 160,
        /// Operand 2, may be absent: `[C]`, of the type of `logits`: weights of the classes.
        pub weight: TensorDesc = 320,
        /// Operand 3, written, but read by `backward`: of the type of `logits`; `[N, …]` without a reduction, else without dimensions.
        pub loss: TensorDesc = 480,
        /// Operand 4, written, for `backward` only: of the type and shape of `logits`.
        pub gradient: TensorDesc = 640,
        /// Share of the loss that falls on all classes alike: ε, 0 to 1.
        pub smoothing: f64 = 800,
        /// A [`Function`].
        pub function: u32 = 808,
        /// A `loss::Reduction`, not `batch_mean`.
        pub reduction: u32 = 812,
        /// Zero.
        pub reserved: u64 = 816,
    }
}

functions! {
    /// Which way.
    pub enum Function {
        /// The loss.
        Forward = 0, "forward";
        /// Its gradient by the logits.
        Backward = 1, "backward";
    }
}

/// A checked [`SoftCrossEntropy`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub logits: Tensor,
    /// Operand 1.
    pub target: Tensor,
    /// Operand 2.
    pub weight: Option<Tensor>,
    /// Operand 3.
    pub loss: Tensor,
    /// Operand 4; there for `backward` only.
    pub gradient: Option<Tensor>,
    /// Share of the loss that falls on all classes alike.
    pub smoothing: f64,
    /// What becomes of the losses.
    pub reduction: Reduction,
    /// Rows: all axes of `logits` but the second.
    pub rows: u64,
}

impl crate::Descriptor for SoftCrossEntropy {
    const INFO: Info = Info {
        opcode: opcode::SOFT_CROSS_ENTROPY,
        name: "soft_cross_entropy",
        formula: "lossᵢ = -Σⱼ weightⱼ · targetᵢⱼ · log softmax(logits)ᵢⱼ",
        operands: &["logits", "target", "weight?", "loss*", "gradient*?"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "itself: backward",
        cost: "14 per logit",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "soft_cross_entropy";
        let [sx, st, sw, so, sg] = [
            (0, "logits"),
            (1, "target"),
            (2, "weight"),
            (3, "loss"),
            (4, "gradient"),
        ]
        .map(|(i, name)| Site::new(NAME, i, name));
        if self.reserved != 0 {
            let text = format_args!("a reserved field is {:#x}, must be 0", self.reserved);
            return Err(rule::error(NAME, text));
        }
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let reduction = nll::mean_or_sum(NAME, self.reduction)?;
        check_smoothing(NAME, self.smoothing)?;
        let backward = function == Function::Backward;
        let logits = Tensor::check(sx, &self.logits, Role::Input)?;
        let target = Tensor::check(st, &self.target, Role::Input)?;
        let weight = Tensor::check_optional(sw, &self.weight, Role::Input)?;
        let role = if backward { Role::Input } else { Role::Output };
        let loss = Tensor::check(so, &self.loss, role)?;
        let gradient = Tensor::check_optional(sg, &self.gradient, Role::Output)?;
        logits.expect_type(sx, &FLOATS)?;
        if logits.rank() < 2 {
            return Err(sx.error(format_args!(
                ".rank is {}, must be 2 at least",
                logits.rank()
            )));
        }
        let classes = logits.dims()[1];
        if classes == 0 {
            return Err(sx.error(".dims[1] is 0, there are no classes"));
        }
        target.expect_same_type(st, &logits, "logits")?;
        target.expect_dims(st, logits.dims(), "logits are")?;
        if let Some(weight) = &weight {
            weight.expect_same_type(sw, &logits, "logits")?;
            weight.expect_dims(sw, &[classes], "classes say")?;
        }
        loss.expect_same_type(so, &logits, "logits")?;
        let rows = [&logits.dims()[..1], &logits.dims()[2..]].concat();
        match reduction {
            Reduction::None => loss.expect_dims(so, &rows, "logits say")?,
            _ => loss.expect_dims(so, &[], "it is reduced")?,
        }
        let inputs = [Some((&logits, "logits")), Some((&target, "target"))];
        let inputs = inputs
            .into_iter()
            .chain([weight.as_ref().map(|w| (w, "weight"))]);
        match (&gradient, backward) {
            (Some(gradient), true) => {
                gradient.expect_same_type(sg, &logits, "logits")?;
                gradient.expect_dims(sg, logits.dims(), "logits are")?;
                for (input, name) in inputs.flatten() {
                    gradient.refuse_overlap(sg, input, name, false)?;
                }
                gradient.refuse_overlap(sg, &loss, "loss", false)?;
            }
            (None, false) => {
                for (input, name) in inputs.flatten() {
                    loss.refuse_overlap(so, input, name, false)?;
                }
            }
            (given, _) => {
                let text = match given {
                    Some(_) => " is given, but forward writes none",
                    None => " is absent, but backward writes it",
                };
                return Err(sg.error(text));
            }
        }
        Ok(Checked {
            // The product fits in 63 bits with the classes.
            rows: rows.iter().product(),
            logits,
            target,
            weight,
            loss,
            gradient,
            smoothing: self.smoothing,
            reduction,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let read = self.logits.footprint() + self.target.footprint();
        let (read, written) = match &self.gradient {
            Some(gradient) => (read + self.loss.footprint(), gradient.footprint()),
            None => (read, self.loss.footprint()),
        };
        Cost {
            operations: self.logits.elements.saturating_mul(14),
            read,
            written,
            ..Cost::default()
        }
    }
}
