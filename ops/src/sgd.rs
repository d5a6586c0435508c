//! One step of stochastic gradient descent, in place, as PyTorch's `SGD` orders it:
//!
//! `d = g + weight_decay · w` (with [`FLAG_MAXIMIZE`]: `d = -g + …`); with momentum: `v = momentum · v + (1 - dampening) · d` (with [`FLAG_FIRST`]:
//! `v = d`), then `d = v`, or with [`FLAG_NESTEROV`] `d = d + momentum · v`; `w = w - rate · d`.
//!
//! A product with the sum that follows it is one fused multiply-add in the arithmetic of the type (f32 for F16 and BF16); `momentum · v` is
//! rounded first. Scalars are rounded to the type of the arithmetic. The momentum buffer has the type of `w`.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

/// Nesterov's momentum.
pub const FLAG_NESTEROV: u32 = 1 << 0;
/// First step: the momentum buffer is written without being read.
pub const FLAG_FIRST: u32 = 1 << 1;
/// Walk up the gradient.
pub const FLAG_MAXIMIZE: u32 = 1 << 2;
/// All defined flags.
pub const FLAGS: u32 = FLAG_NESTEROV | FLAG_FIRST | FLAG_MAXIMIZE;

descriptor! {
    /// Body of `opcode::SGD`.
    pub struct Sgd : 520 {
        /// Operand 0, read and written: floats.
        pub weight: TensorDesc = 0,
        /// Operand 1: of `weight`'s type and shape.
        pub gradient: TensorDesc = 160,
        /// Operand 2, read and written, may be absent: of `weight`'s type and shape.
        pub velocity: TensorDesc = 320,
        /// Learning rate.
        pub rate: f64 = 480,
        /// Momentum; 0 without `velocity`.
        pub momentum: f64 = 488,
        /// Dampening; 0 without `velocity`.
        pub dampening: f64 = 496,
        /// Weight decay.
        pub weight_decay: f64 = 504,
        /// `FLAG_*`.
        pub flags: u32 = 512,
        /// Zero.
        pub reserved: u32 = 516,
    }
}

/// A checked [`Sgd`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub weight: Tensor,
    /// Operand 1.
    pub gradient: Tensor,
    /// Operand 2.
    pub velocity: Option<Tensor>,
    /// Learning rate.
    pub rate: f64,
    /// Momentum.
    pub momentum: f64,
    /// Dampening.
    pub dampening: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// `FLAG_*`.
    pub flags: u32,
}

impl crate::Descriptor for Sgd {
    const INFO: Info = Info {
        opcode: opcode::SGD,
        name: "sgd",
        formula: "weight -= rate · (gradient + weight_decay · weight), with momentum",
        operands: &["weight*", "gradient", "velocity*?"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none: an optimiser",
        cost: "4 per element, 8 with momentum",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let (sw, sg, sv) = (
            Site::new("sgd", 0, "weight"),
            Site::new("sgd", 1, "gradient"),
            Site::new("sgd", 2, "velocity"),
        );
        rule::reserved("sgd", &[self.reserved])?;
        if self.flags & !FLAGS != 0 {
            return Err(rule::error(
                "sgd",
                format_args!("flags {:#x} are unknown", self.flags),
            ));
        }
        let weight = Tensor::check(sw, &self.weight, Role::Output)?;
        let gradient = Tensor::check(sg, &self.gradient, Role::Input)?;
        let velocity = Tensor::check_optional(sv, &self.velocity, Role::Output)?;
        weight.expect_type(sw, &FLOATS)?;
        gradient.expect_same_type(sg, &weight, "weight")?;
        gradient.expect_dims(sg, weight.dims(), "weight is")?;
        weight.refuse_overlap(sw, &gradient, "gradient", false)?;
        match &velocity {
            Some(v) => {
                v.expect_same_type(sv, &weight, "weight")?;
                v.expect_dims(sv, weight.dims(), "weight is")?;
                v.refuse_overlap(sv, &weight, "weight", false)?;
                v.refuse_overlap(sv, &gradient, "gradient", false)?;
            }
            None => {
                let needs = self.flags & (FLAG_NESTEROV | FLAG_FIRST) != 0;
                if needs || self.momentum != 0.0 || self.dampening != 0.0 {
                    return Err(sv.error(" is absent, but momentum is asked for"));
                }
            }
        }
        Ok(Checked {
            weight,
            gradient,
            velocity,
            rate: self.rate,
            momentum: self.momentum,
            dampening: self.dampening,
            weight_decay: self.weight_decay,
            flags: self.flags,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let velocity = self.velocity.map_or(0, |v| v.footprint());
        let each = if self.velocity.is_some() { 8 } else { 4 };
        Cost {
            operations: self.weight.elements.saturating_mul(each),
            read: self
                .weight
                .footprint()
                .saturating_add(self.gradient.footprint())
                .saturating_add(velocity),
            written: self.weight.footprint().saturating_add(velocity),
            ..Cost::default()
        }
    }
}
