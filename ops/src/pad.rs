//! `out[p] = x[p - before]`, and where that lies outside `x` what the mode says. Negative `before` cuts off. `wrap` with the shape of `x` rolls it, and
//! with a multiple of it tiles it. Bits are moved.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::PAD`.
    pub struct Pad : 400 {
        /// Operand 0: any type.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type and rank.
        pub out: TensorDesc = 160,
        /// Positions before the first of `x` along each axis; zero beyond the rank.
        pub before: [i64; 8] = 320,
        /// The element outside, for `constant`, in the lowest bits; zero for the other modes.
        pub bits: u64 = 384,
        /// A [`Function`].
        pub function: u32 = 392,
        /// Zero.
        pub reserved: u32 = 396,
    }
}

functions! {
    /// What stands outside.
    pub enum Function {
        /// One value.
        Constant = 0, "constant";
        /// The elements mirrored at the first and last, these not repeated; at most the extent less one.
        Reflect = 1, "reflect";
        /// The first and last element.
        Edge = 2, "edge";
        /// `x` again.
        Wrap = 3, "wrap";
        /// The elements mirrored at the edges; at most the extent.
        Symmetric = 4, "symmetric";
    }
}

/// A checked [`Pad`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Positions before the first of `x`.
    pub before: [i64; 8],
    /// The element outside.
    pub bits: u64,
    /// What stands outside.
    pub function: Function,
}

impl crate::Descriptor for Pad {
    const INFO: Info = Info {
        opcode: opcode::PAD,
        name: "pad",
        formula: "out = x with a border; roll, tile",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "all",
        backward: "constant: pad with negative borders; others by put",
        cost: "none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "pad";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        out.expect_same_type(so, &x, "x")?;
        out.expect_rank(so, x.rank())?;
        let bits = 8 * x.dtype.size() as u32;
        if (bits < 64 && self.bits >> bits != 0)
            || (function != Function::Constant && self.bits != 0)
        {
            return Err(rule::error(
                NAME,
                format_args!("bits {:#x} are no element, or are not used", self.bits),
            ));
        }
        for (i, &before) in self.before.iter().enumerate() {
            if i >= x.rank() {
                if before != 0 {
                    return Err(rule::error(
                        NAME,
                        format_args!("before[{i}] is {before}, but the rank is {}", x.rank()),
                    ));
                }
                continue;
            }
            if before.unsigned_abs() > 1 << 61 {
                let text = format_args!("before[{i}] is {before}, too far");
                return Err(rule::error(NAME, text));
            }
            let (n, m) = (x.dims()[i], out.dims()[i]);
            // Extents fit in 63 bits.
            let after = (m as i64)
                .checked_sub(n as i64)
                .and_then(|d| d.checked_sub(before));
            let Some(after) = after else {
                return Err(rule::error(
                    NAME,
                    format_args!("before[{i}] is {before}, too far"),
                ));
            };
            let reach = before.max(after);
            let limit = match function {
                Function::Reflect => n as i64 - 1,
                Function::Symmetric => n as i64,
                Function::Edge | Function::Wrap if n == 0 && m > 0 => 0,
                _ => i64::MAX,
            };
            if m > 0 && reach > limit {
                let text = format_args!(
                    ".dims[{i}] is {n}, too few for {reach} positions of {}",
                    function.name()
                );
                return Err(sx.error(text));
            }
        }
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked {
            x,
            out,
            before: self.before,
            bits: self.bits,
            function,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            read: self.x.footprint().min(self.out.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
