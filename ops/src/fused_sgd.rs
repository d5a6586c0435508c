//! A step of stochastic gradient descent over many parameters, in place, as PyTorch's `SGD` orders it.
//!
//! `d = weight_decay · w + g`; with a momentum that is not 0: `v = (1 - dampening) · d + momentum · v`, in the first step `v = d`, then `d = v`, or by Nesterov
//! `d = momentum · v + d`; `w = w - rate · d`.
//!
//! Operand 6i + k is vector k of parameter i: weights, gradients, velocity, copy; 384 is `scale`, 385 `skip`. Gradients are widened, divided by the F32 at
//! `scale_address` if there is one, and with bit 0 of the flags negated; if the F32 at `skip_address` is not 0 the command does nothing. Weights and states have `dtype`,
//! arithmetic is f32 for F16 and BF16; `copy` takes the new weights in another type, as a model of mixed precision wants them. A product with the sum that
//! follows it is one fused multiply-add; scalars are computed in f64 and rounded once.

use crate::cost::Cost;
use crate::parameters::{self, Fields, Parameters, Part, FLAG_MAXIMIZE};
use crate::rule::{self, RuleError};
use crate::table::{opcode, Info};

/// Nesterov's momentum.
pub const FLAG_NESTEROV: u32 = 1 << 1;
/// First step: velocities are written without being read.
pub const FLAG_FIRST: u32 = 1 << 2;

descriptor! {
    /// Body of `opcode::FUSED_SGD`.
    pub struct FusedSgd : 3656 {
        /// Parameters of 56 bytes: addresses (u64) of weights, gradients, three states (velocity; the rest 0) and copy, then the number of elements (u64).
        pub parts: [Part; 64] = 0,
        /// Parameters in use; the rest are zero.
        pub count: u32 = 3584,
        /// Type of weights and states: floats.
        pub dtype: u32 = 3588,
        /// Type of gradients: F64 with F64, otherwise any other floats.
        pub gradient_type: u32 = 3592,
        /// Type of copies, as for gradients; 0 if there are none.
        pub copy_type: u32 = 3596,
        /// Operand 384, may be 0: address of an F32 that gradients are divided by.
        pub scale_address: u64 = 3600,
        /// Operand 385, may be 0: address of an F32; the command does nothing unless it is 0.
        pub skip_address: u64 = 3608,
        /// Learning rate.
        pub rate: f64 = 3616,
        /// Momentum; 0 without velocities.
        pub momentum: f64 = 3624,
        /// Dampening; 0 without velocities.
        pub dampening: f64 = 3632,
        /// Weight decay.
        pub weight_decay: f64 = 3640,
        /// Bits: 0 walk up the gradients; 1 Nesterov's momentum; 2 first step: velocities are written without being read.
        pub flags: u32 = 3648,
        /// Zero.
        pub reserved: u32 = 3652,
    }
}

/// A checked [`FusedSgd`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// The parameters.
    pub parameters: Parameters,
    /// Learning rate.
    pub rate: f64,
    /// Momentum; 0 without velocities.
    pub momentum: f64,
    /// Dampening; 0 without velocities.
    pub dampening: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl crate::Descriptor for FusedSgd {
    const INFO: Info = Info {
        opcode: opcode::FUSED_SGD,
        name: "fused_sgd",
        formula: "weight -= rate · (gradient + weight_decay · weight), with momentum",
        operands: &["weight*", "gradient", "velocity*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none: an optimiser",
        cost: "8 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "fused_sgd";
        rule::reserved(NAME, &[self.reserved])?;
        let velocity = self.momentum != 0.0;
        if !velocity && (self.dampening != 0.0 || self.flags & (FLAG_NESTEROV | FLAG_FIRST) != 0) {
            return Err(rule::error(
                NAME,
                "momentum is 0, but something of it is asked for",
            ));
        }
        parameters::finite(
            NAME,
            &[
                ("rate", self.rate),
                ("momentum", self.momentum),
                ("dampening", self.dampening),
                ("weight_decay", self.weight_decay),
            ],
        )?;
        let parameters = Fields {
            parts: &self.parts,
            count: self.count,
            dtype: self.dtype,
            gradient_type: self.gradient_type,
            copy_type: self.copy_type,
            scale_address: self.scale_address,
            skip_address: self.skip_address,
            flags: self.flags,
            known: FLAG_MAXIMIZE | FLAG_NESTEROV | FLAG_FIRST,
            states: if velocity { &["velocity"] } else { &[] },
        };
        Ok(Checked {
            parameters: parameters.check(NAME)?,
            rate: self.rate,
            momentum: self.momentum,
            dampening: self.dampening,
            weight_decay: self.weight_decay,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        self.parameters.cost(8)
    }
}
