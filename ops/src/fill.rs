//! Every element becomes one value, given as the bits of the element.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::FILL`.
    pub struct Fill : 168 {
        /// Operand 0, written: any type, any strides.
        pub out: TensorDesc = 0,
        /// The element's bits in the low bytes; the rest is zero.
        pub bits: u64 = 160,
    }
}

/// A checked [`Fill`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub out: Tensor,
    /// The element's bits.
    pub bits: u64,
}

impl crate::Descriptor for Fill {
    const INFO: Info = Info {
        opcode: opcode::FILL,
        name: "fill",
        formula: "out = value",
        operands: &["out*"],
        functions: &[],
        types: "all",
        backward: "none: constant",
        cost: "none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let site = Site::new("fill", 0, "out");
        let out = Tensor::check(site, &self.out, Role::Output)?;
        let size = out.dtype.size() as u32;
        if size < 8 && self.bits >> (8 * size) != 0 {
            let text = format_args!("bits {:#x} do not fit {:?}", self.bits, out.dtype);
            return Err(rule::error("fill", text));
        }
        Ok(Checked {
            out,
            bits: self.bits,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
