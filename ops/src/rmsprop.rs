//! A step of RMSprop over many parameters, in place.
//!
//! `g = weight_decay · w + g`, `s = ((1 - alpha) · g) · g + alpha · s`; centred (bit 1): `a = (1 - alpha) · (g - a) + a`, `d = √(s - a · a) + eps`, otherwise `d = √s + eps`;
//! with a momentum that is not 0: `v = momentum · v + g / d`, `w = w - rate · v`, otherwise `w = w - rate · (g / d)`. States are s, then those of a and v that there are.
//!
//! Operand 6i + k is vector k of parameter i: weights, gradients, square, average or velocity, velocity, copy; 384 is `scale`, 385 `skip`. Gradients are widened, divided by the F32 at
//! `scale_address` if there is one, and with bit 0 of the flags negated; if the F32 at `skip_address` is not 0 the command does nothing. Weights and states have `dtype`,
//! arithmetic is f32 for F16 and BF16; `copy` takes the new weights in another type, as a model of mixed precision wants them. A product with the sum that
//! follows it is one fused multiply-add; scalars are computed in f64 and rounded once.

use crate::cost::Cost;
use crate::parameters::{self, Fields, Parameters, Part, FLAG_MAXIMIZE};
use crate::rule::{self, RuleError};
use crate::table::{opcode, Info};

/// The gradient's variance in place of its square.
pub const FLAG_CENTRED: u32 = 1 << 1;

descriptor! {
    /// Body of `opcode::RMSPROP`.
    pub struct Rmsprop : 3664 {
        /// Parameters of 56 bytes: addresses (u64) of weights, gradients, three states (square, average or velocity, velocity; the rest 0) and copy, then the number of elements (u64).
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
        /// Decay of the means.
        pub alpha: f64 = 3624,
        /// Momentum; 0 without velocities.
        pub momentum: f64 = 3632,
        /// Added to the denominator.
        pub eps: f64 = 3640,
        /// Weight decay.
        pub weight_decay: f64 = 3648,
        /// Bits: 0 walk up the gradients; 1 the gradient's variance in place of its square.
        pub flags: u32 = 3656,
        /// Zero.
        pub reserved: u32 = 3660,
    }
}

/// A checked [`Rmsprop`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// The parameters.
    pub parameters: Parameters,
    /// Learning rate.
    pub rate: f64,
    /// Decay of the means.
    pub alpha: f64,
    /// Momentum; 0 without velocities.
    pub momentum: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

impl crate::Descriptor for Rmsprop {
    const INFO: Info = Info {
        opcode: opcode::RMSPROP,
        name: "rmsprop",
        formula: "weight -= rate · g / (√square + eps), square a mean of g²",
        operands: &[
            "weight*",
            "gradient",
            "square*",
            "average or velocity*",
            "velocity*",
        ],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none: an optimiser",
        cost: "14 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "rmsprop";
        rule::reserved(NAME, &[self.reserved])?;
        const STATES: [&[&str]; 4] = [
            &["square"],
            &["square", "velocity"],
            &["square", "average"],
            &["square", "average", "velocity"],
        ];
        let centred = self.flags & FLAG_CENTRED != 0;
        let velocity = self.momentum != 0.0;
        parameters::finite(
            NAME,
            &[
                ("rate", self.rate),
                ("momentum", self.momentum),
                ("eps", self.eps),
                ("weight_decay", self.weight_decay),
            ],
        )?;
        parameters::fractions(NAME, &[("alpha", self.alpha)])?;
        let parameters = Fields {
            parts: &self.parts,
            count: self.count,
            dtype: self.dtype,
            gradient_type: self.gradient_type,
            copy_type: self.copy_type,
            scale_address: self.scale_address,
            skip_address: self.skip_address,
            flags: self.flags,
            known: FLAG_MAXIMIZE | FLAG_CENTRED,
            states: STATES[2 * usize::from(centred) + usize::from(velocity)],
        };
        Ok(Checked {
            parameters: parameters.check(NAME)?,
            rate: self.rate,
            alpha: self.alpha,
            momentum: self.momentum,
            eps: self.eps,
            weight_decay: self.weight_decay,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        self.parameters.cost(14)
    }
}
