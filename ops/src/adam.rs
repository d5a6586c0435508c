//! A step of Adam or AdamW over many parameters, in place.
//!
//! Adam: `g = weight_decay · w + g`; AdamW (bit 1): `w = (1 - rate · weight_decay) · w`. Then `m = (1 - beta1) · (g - m) + m`,
//! `v = ((1 - beta2) · g) · g + beta2 · v`, with AMSGrad (bit 2) `x = max(x, v)` in place of v from here on; `d = √v · (1 / √(1 - beta2ˢᵗᵉᵖ)) + eps`;
//! `w = w - rate / (1 - beta1ˢᵗᵉᵖ) · (m / d)`.
//!
//! Operand 6i + k is vector k of parameter i: weights, gradients, first, second, largest, copy; 384 is `scale`, 385 `skip`. Gradients are widened, divided by the F32 at
//! `scale_address` if there is one, and with bit 0 of the flags negated; if the F32 at `skip_address` is not 0 the command does nothing. Weights and states have `dtype`,
//! arithmetic is f32 for F16 and BF16; `copy` takes the new weights in another type, as a model of mixed precision wants them. A product with the sum that
//! follows it is one fused multiply-add; scalars are computed in f64 and rounded once.

use crate::cost::Cost;
use crate::parameters::{self, Fields, Parameters, Part, FLAG_MAXIMIZE};
use crate::rule::{self, RuleError};
use crate::table::{opcode, Info};

/// Weight decay apart from the gradient: AdamW.
pub const FLAG_DECOUPLED: u32 = 1 << 1;
/// AMSGrad: the largest second moment so far is kept, in the third state.
pub const FLAG_AMSGRAD: u32 = 1 << 2;

descriptor! {
    /// Body of `opcode::ADAM`.
    pub struct Adam : 3672 {
        /// Parameters of 56 bytes: addresses (u64) of weights, gradients, three states (first, second, largest; the rest 0) and copy, then the number of elements (u64).
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
        /// Decay of the first moment.
        pub beta1: f64 = 3624,
        /// Decay of the second moment.
        pub beta2: f64 = 3632,
        /// Added to the denominator.
        pub eps: f64 = 3640,
        /// Weight decay.
        pub weight_decay: f64 = 3648,
        /// Number of this step, from 1 on.
        pub step: u64 = 3656,
        /// Bits: 0 walk up the gradients; 1 weight decay apart from the gradient: AdamW; 2 AMSGrad: the largest second moment so far is kept, in the third state.
        pub flags: u32 = 3664,
        /// Zero.
        pub reserved: u32 = 3668,
    }
}

/// A checked [`Adam`].
#[derive(Clone, Debug)]
pub struct Checked {
    /// The parameters.
    pub parameters: Parameters,
    /// Learning rate.
    pub rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Number of this step.
    pub step: u64,
}

impl crate::Descriptor for Adam {
    const INFO: Info = Info {
        opcode: opcode::ADAM,
        name: "adam",
        formula: "weight -= rate · m / (√v + eps), m and v moments of the gradient",
        operands: &["weight*", "gradient", "first*", "second*", "largest*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "none: an optimiser",
        cost: "16 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "adam";
        rule::reserved(NAME, &[self.reserved])?;
        parameters::finite(
            NAME,
            &[
                ("rate", self.rate),
                ("eps", self.eps),
                ("weight_decay", self.weight_decay),
            ],
        )?;
        parameters::fractions(NAME, &[("beta1", self.beta1), ("beta2", self.beta2)])?;
        parameters::step(NAME, self.step)?;
        let parameters = Fields {
            parts: &self.parts,
            count: self.count,
            dtype: self.dtype,
            gradient_type: self.gradient_type,
            copy_type: self.copy_type,
            scale_address: self.scale_address,
            skip_address: self.skip_address,
            flags: self.flags,
            known: FLAG_MAXIMIZE | FLAG_DECOUPLED | FLAG_AMSGRAD,
            states: if self.flags & FLAG_AMSGRAD != 0 {
                &["first", "second", "largest"]
            } else {
                &["first", "second"]
            },
        };
        Ok(Checked {
            parameters: parameters.check(NAME)?,
            rate: self.rate,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            step: self.step,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        self.parameters.cost(16)
    }
}
