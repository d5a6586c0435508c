//! `out = x` in another type, `x` broadcast to `out`.
//!
//! Float to narrower float: to nearest, ties to even; overflow gives infinity. Float to integer: towards zero, saturating, NaN gives 0.
//! Integer to integer: the low bits. To Bool: whether it is not 0 (NaN is not). Bool gives 0 or 1.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::CAST`.
    pub struct Cast : 328 {
        /// Operand 0: any type.
        pub x: TensorDesc = 0,
        /// Operand 1, written: any type.
        pub out: TensorDesc = 160,
        /// Rounding mode: 0, as described above; others are not served.
        pub rounding: u32 = 320,
        /// Zero.
        pub reserved: u32 = 324,
    }
}

/// A checked [`Cast`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Strides of `x` over the axes of `out`.
    pub strides: [i64; MAX_DIMS],
}

impl crate::Descriptor for Cast {
    const INFO: Info = Info {
        opcode: opcode::CAST,
        name: "cast",
        formula: "out = x in out's type, broadcast",
        operands: &["x", "out*"],
        functions: &[],
        types: "all to all",
        backward: "cast",
        cost: "1 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "cast";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        rule::reserved(NAME, &[self.reserved])?;
        if self.rounding != 0 {
            let text = format_args!("rounding mode {} is not served", self.rounding);
            return Err(rule::error(NAME, text));
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let strides = x.broadcast(sx, out.dims())?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked { x, out, strides })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements,
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
