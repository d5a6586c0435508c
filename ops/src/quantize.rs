//! Between numbers and quantised tensors: `out = x`, where each is of floats, or quantised.
//!
//! An element `q` of a quantised tensor stands for `scale · (q - offset)`, computed in f32: the difference is exact, the product rounded
//! once. A number becomes `number / scale` in f32, rounded to a whole number with ties to even, plus the offset, saturated to the type; NaN
//! becomes the offset. So floats to integers quantise, integers to floats dequantise, and integers to integers requantise.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::quant::{self, Quant};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::QUANTIZE`.
    pub struct Quantize : 320 {
        /// Operand 0: F32, F16 or BF16, or quantised.
        pub x: TensorDesc = 0,
        /// Operand 1, written: F32, F16 or BF16, or quantised; of `x`'s shape.
        pub out: TensorDesc = 160,
    }
}

/// A checked [`Quantize`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// What `x` stands for; `None` for floats.
    pub from: Option<Quant>,
    /// What `out` stands for; `None` for floats.
    pub to: Option<Quant>,
}

impl crate::Descriptor for Quantize {
    const INFO: Info = Info {
        opcode: opcode::QUANTIZE,
        name: "quantize",
        formula: "out = x, either quantised",
        operands: &["x", "out*"],
        functions: &[],
        types: "f32, f16, bf16; quantised i8, u8, i16",
        backward: "none; straight through: copy",
        cost: "2 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        use vmlu_abi::tensor::DataType::{Bf16, F16, F32};
        const NAME: &str = "quantize";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        let (x, from) = quant::check(sx, &self.x, Role::Input)?;
        let (out, to) = quant::check(so, &self.out, Role::Output)?;
        for (site, tensor, quantised) in [(sx, &x, &from), (so, &out, &to)] {
            if quantised.is_none() {
                tensor.expect_type(site, &[F32, F16, Bf16])?;
            }
        }
        if from.is_none() && to.is_none() {
            return Err(rule::error(NAME, "neither x nor out is quantised"));
        }
        out.expect_dims(so, x.dims(), "x is")?;
        out.refuse_overlap(so, &x, "x", false)?;
        for quantised in from.iter().chain(&to) {
            quantised.refuse_overlap(so, &out)?;
        }
        Ok(Checked { x, out, from, to })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let tables = self.from.iter().chain(&self.to).flat_map(Quant::tables);
        Cost {
            operations: self.out.elements.saturating_mul(2),
            read: tables.fold(self.x.footprint(), |s, t| s.saturating_add(t.footprint())),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
