//! Gradient of [`crate::ctc`]: `dx[t, n, c] = upstreamₙ · (exp(x[t, n, c]) - γ[t, n, c])`, γ being the probability of class c at step t among all paths that spell the target.
//!
//! As PyTorch has it: the gradient by the logits of a log-softmax that gave `x`. It is 0 at steps that do not count; with `ctc::FLAG_ZERO_INFINITY`, and an infinite loss, everywhere.
//! `alpha` is what the loss wrote. For a mean `upstreamₙ` is divided by the number of examples and the target's length, at least 1.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::ctc::{expect_losses, loss_stride, Fields, Problem};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::CTC_BACKWARD`.
    pub struct CtcBackward : 1136 {
        /// Operand 0: `[T, N, C]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[N, S]`, or of one dimension; I32 or I64.
        pub targets: TensorDesc = 160,
        /// Operand 2: `[N]`, I32 or I64.
        pub input_lengths: TensorDesc = 320,
        /// Operand 3: `[N]`, I32 or I64.
        pub target_lengths: TensorDesc = 480,
        /// Operand 4: gradient of the loss, of `x`'s type; `[N]` without a reduction, else without dimensions.
        pub upstream: TensorDesc = 640,
        /// Operand 5: F64 `[N, T, L]`, as the loss wrote it.
        pub alpha: TensorDesc = 800,
        /// Operand 6, written: of `x`'s type and shape.
        pub dx: TensorDesc = 960,
        /// The class that spells nothing.
        pub blank: u32 = 1120,
        /// `ctc::FLAG_*`.
        pub flags: u32 = 1124,
        /// A `loss::Reduction`, not `batch_mean`.
        pub reduction: u32 = 1128,
        /// Zero.
        pub reserved: u32 = 1132,
    }
}

/// A checked [`CtcBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The inputs of the loss and operand 5.
    pub of: Problem,
    /// Operand 4.
    pub upstream: Tensor,
    /// Operand 6.
    pub dx: Tensor,
}

impl crate::Descriptor for CtcBackward {
    const INFO: Info = Info {
        opcode: opcode::CTC_BACKWARD,
        name: "ctc_backward",
        formula: "dx = upstream · (exp(x) - γ)",
        operands: &[
            "x",
            "targets",
            "input_lengths",
            "target_lengths",
            "upstream",
            "alpha",
            "dx*",
        ],
        functions: &[],
        types: "f32, f16, bf16, f64; targets and lengths i32, i64",
        backward: "none",
        cost: "50 per state and step, 4 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "ctc_backward";
        rule::reserved(NAME, &[self.reserved])?;
        let of = Problem::check(
            NAME,
            &Fields {
                tensors: [
                    &self.x,
                    &self.targets,
                    &self.input_lengths,
                    &self.target_lengths,
                ],
                alpha: (&self.alpha, Role::Input),
                blank: self.blank,
                flags: self.flags,
                reduction: self.reduction,
            },
        )?;
        let (su, sd) = (Site::new(NAME, 4, "upstream"), Site::new(NAME, 6, "dx"));
        let upstream = Tensor::check(su, &self.upstream, Role::Input)?;
        let dx = Tensor::check(sd, &self.dx, Role::Output)?;
        upstream.expect_same_type(su, &of.x, "x")?;
        expect_losses(su, &upstream, &of)?;
        dx.expect_same_type(sd, &of.x, "x")?;
        dx.expect_dims(sd, of.x.dims(), "x is")?;
        for (name, t) in of.inputs() {
            dx.refuse_overlap(sd, t, name, false)?;
        }
        dx.refuse_overlap(sd, &upstream, "upstream", false)?;
        dx.refuse_overlap(sd, &of.alpha, "alpha", false)?;
        Ok(Checked { of, upstream, dx })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let states = self.of.alpha.elements.saturating_mul(50);
        Cost {
            operations: self.dx.elements.saturating_mul(4).saturating_add(states),
            read: self
                .of
                .footprint()
                .saturating_add(self.of.alpha.footprint())
                .saturating_add(self.upstream.footprint()),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }

    /// Distance of the gradients of examples; 0 if there is one.
    pub fn upstream_stride(&self) -> i64 {
        loss_stride(&self.upstream)
    }
}
