//! `out = alpha · x + beta`, `x` broadcast to `out`.
//!
//! Floats: one fused multiply-add in the type's arithmetic (f32 for F16 and BF16), alpha and beta rounded to it first. Integers: alpha and
//! beta must be whole numbers of 53 bits; the result wraps around.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::AFFINE`.
    pub struct Affine : 336 {
        /// Operand 0: any type but Bool.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type; may be exactly `x`.
        pub out: TensorDesc = 160,
        /// Factor.
        pub alpha: f64 = 320,
        /// Summand.
        pub beta: f64 = 328,
    }
}

/// A checked [`Affine`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Strides of `x` over the axes of `out`.
    pub strides: [i64; MAX_DIMS],
    /// Factor.
    pub alpha: f64,
    /// Summand.
    pub beta: f64,
}

impl crate::Descriptor for Affine {
    const INFO: Info = Info {
        opcode: opcode::AFFINE,
        name: "affine",
        formula: "out = alpha · x + beta, broadcast",
        operands: &["x", "out*"],
        functions: &[],
        types: "all but bool",
        backward: "affine",
        cost: "2 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "affine";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if x.dtype == DataType::Bool {
            return Err(sx.error(".dtype is Bool, a number is needed"));
        }
        out.expect_same_type(so, &x, "x")?;
        for (name, v) in [("alpha", self.alpha), ("beta", self.beta)] {
            // Written so that NaN fails too.
            let whole = v.abs() <= (1u64 << 53) as f64 && (v as i64) as f64 == v;
            if !is_float(x.dtype) && !whole {
                return Err(rule::error(
                    NAME,
                    format_args!("{name} is {v}, but {:?} needs a whole number", x.dtype),
                ));
            }
        }
        let strides = x.broadcast(sx, out.dims())?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked {
            x,
            out,
            strides,
            alpha: self.alpha,
            beta: self.beta,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements.saturating_mul(2),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
