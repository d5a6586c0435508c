//! Gradient of [`crate::loss`]: `dx = upstream · weight · f′(x, target) · factor`, the factor being that of the reduction: 1, or 1 over the number of losses, or over
//! the extent of the first axis.
//!
//! `f′` is the derivative by `x`: `mse` 2d; `l1` the sign of d; `smooth_l1` `d / alpha` where `|d| < alpha`, else the sign; `huber` d where `|d| ≤ alpha`, else `alpha` times the sign;
//! `bce` `d / max((1 - x) · x, 10⁻¹²)`; `bce_logits` `(positive · t + 1 - t) · σ(x) - positive · t`; `kl` -t; `kl_log` `-exp(t)`; `soft_margin` `-t · z / (1 + z)` with
//! `z = exp(-t · x)`; `poisson` `exp(x) - t`. Where functions depend on d alone, the gradient by the target is the negative.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::loss::{Function, Operands};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::LOSS_BACKWARD`.
    pub struct LossBackward : 984 {
        /// Operand 0: floats.
        pub x: TensorDesc = 0,
        /// Operand 1: of `x`'s type, broadcast to it.
        pub target: TensorDesc = 160,
        /// Operand 2, may be absent: factors of the loss, of `x`'s type, broadcast to it.
        pub weight: TensorDesc = 320,
        /// Operand 3, may be absent, `bce_logits` only, as for the loss.
        pub positive: TensorDesc = 480,
        /// Operand 4, may be absent: gradient of the loss's result, of `x`'s type, broadcast to `x`; 1 if absent.
        pub upstream: TensorDesc = 640,
        /// Operand 5, written: of `x`'s type and shape; may be exactly `x`.
        pub dx: TensorDesc = 800,
        /// Parameter of the function.
        pub alpha: f64 = 960,
        /// A `loss::Function`.
        pub function: u32 = 968,
        /// A `loss::Reduction`.
        pub reduction: u32 = 972,
        /// Zero.
        pub reserved: u64 = 976,
    }
}

/// A checked [`LossBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operands 0 to 3, and what is computed of them.
    pub of: Operands,
    /// Operand 4, and its strides over `x`.
    pub upstream: Option<(Tensor, [i64; MAX_DIMS])>,
    /// Operand 5.
    pub dx: Tensor,
}

impl crate::Descriptor for LossBackward {
    const INFO: Info = Info {
        opcode: opcode::LOSS_BACKWARD,
        name: "loss_backward",
        formula: "dx = upstream · weight · f′(x, target)",
        operands: &["x", "target", "weight?", "positive?", "upstream?", "dx*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "by binary and unary",
        cost: "4 per element, 16 from bce on",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "loss_backward";
        if self.reserved != 0 {
            let text = format_args!("a reserved field is {:#x}, must be 0", self.reserved);
            return Err(rule::error(NAME, text));
        }
        let (su, sd) = (Site::new(NAME, 4, "upstream"), Site::new(NAME, 5, "dx"));
        let of = Operands::check(
            NAME,
            [&self.x, &self.target, &self.weight, &self.positive],
            self.alpha,
            self.function,
            self.reduction,
        )?;
        let dx = Tensor::check(sd, &self.dx, Role::Output)?;
        dx.expect_same_type(sd, &of.x, "x")?;
        dx.expect_dims(sd, of.x.dims(), "x is")?;
        let upstream = match Tensor::check_optional(su, &self.upstream, Role::Input)? {
            None => None,
            Some(u) => {
                u.expect_same_type(su, &of.x, "x")?;
                let strides = u.broadcast(su, of.x.dims())?;
                dx.refuse_overlap(sd, &u, "upstream", true)?;
                Some((u, strides))
            }
        };
        for (name, t) in of.each() {
            dx.refuse_overlap(sd, t, name, true)?;
        }
        Ok(Checked { of, upstream, dx })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = if self.of.function.raw() < 4 { 4 } else { 16 };
        let upstream = self.upstream.map_or(0, |u| u.0.footprint());
        Cost {
            operations: self.of.x.elements.saturating_mul(each),
            read: self.of.footprint().saturating_add(upstream),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
