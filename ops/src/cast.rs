//! `out = x` in another type, `x` broadcast to `out`.
//!
//! Values that the type of `out` has are kept. Others are rounded as [`Rounding`] says, to a whole number for integers; by default to nearest
//! with ties to even for floats (overflow gives infinity), and towards zero for integers. Directed modes overflow to infinity only in their
//! direction, else to the largest number. Float to integer saturates, NaN gives 0. Integer to integer: the low bits. To Bool: whether it is not
//! 0 (NaN is not). Bool gives 0 or 1.
//!
//! Either operand, or both, may be of type I4 (-8 to 7) or U4 (0 to 15), two elements an octet, the one of the lower index in the lower half: strides
//! count elements, one of them is 1, the others even, and the address is that of an octet. Both have the same shape then, and their octets lie
//! along the same axis. Where an odd number of elements is written, half of the last octet becomes 0.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::nibbles::Nibbles;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::CAST`.
    pub struct Cast : 328 {
        /// Operand 0: any type, also I4 and U4.
        pub x: TensorDesc = 0,
        /// Operand 1, written: any type, also I4 and U4.
        pub out: TensorDesc = 160,
        /// A [`Rounding`].
        pub rounding: u32 = 320,
        /// Zero.
        pub reserved: u32 = 324,
    }
}

functions! {
    /// How numbers are rounded that lie between two of the target type. Names as the vendor's runtime has them (its numbers are one less).
    pub enum Rounding {
        /// To nearest with ties to even for floats, towards zero for integers: as programming languages do.
        Default = 0, "default";
        /// To nearest, ties to even.
        NearestEven = 1, "rn";
        /// Towards zero.
        TowardsZero = 2, "rz";
        /// Down.
        Down = 3, "rd";
        /// Up.
        Up = 4, "ru";
        /// Away from zero.
        OffZero = 5, "ro";
        /// To nearest, ties up.
        HalfUp = 6, "rm";
    }
}

/// A checked [`Cast`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0; of four-bit integers the octets.
    pub x: Tensor,
    /// Operand 1; of four-bit integers the octets.
    pub out: Tensor,
    /// `x` and `out`, where they are of four-bit integers.
    pub packed: [Option<Nibbles>; 2],
    /// Strides of `x` over the axes of `out`.
    pub strides: [i64; MAX_DIMS],
    /// How numbers are rounded.
    pub rounding: Rounding,
}

impl crate::Descriptor for Cast {
    const INFO: Info = Info {
        opcode: opcode::CAST,
        name: "cast",
        formula: "out = x in out's type, broadcast",
        operands: &["x", "out*"],
        functions: Rounding::ROWS,
        types: "all to all, also i4 and u4",
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
        let rounding = Rounding::from_raw(self.rounding).ok_or_else(|| {
            rule::error(
                NAME,
                format_args!("rounding mode {} is unknown", self.rounding),
            )
        })?;
        if Nibbles::is(&self.x) || Nibbles::is(&self.out) {
            return self.check_packed(sx, so, rounding);
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let strides = x.broadcast(sx, out.dims())?;
        out.refuse_overlap(so, &x, "x", true)?;
        Ok(Checked {
            x,
            out,
            packed: [None; 2],
            strides,
            rounding,
        })
    }
}

/// An operand that may be of four-bit integers.
fn either(
    site: Site,
    desc: &TensorDesc,
    role: Role,
) -> Result<(Tensor, Option<Nibbles>), RuleError> {
    if !Nibbles::is(desc) {
        return Ok((Tensor::check(site, desc, role)?, None));
    }
    let packed = Nibbles::check(site, desc, role)?;
    Ok((packed.octets, Some(packed)))
}

impl Cast {
    /// The rules for four-bit integers.
    fn check_packed(&self, sx: Site, so: Site, rounding: Rounding) -> Result<Checked, RuleError> {
        let (x, from) = either(sx, &self.x, Role::Input)?;
        let (out, to) = either(so, &self.out, Role::Output)?;
        match (&from, &to) {
            (Some(from), Some(to)) => {
                if from.dims() != to.dims() {
                    return Err(so.error(format_args!(
                        ".dims are {:?}, but x is {:?}",
                        to.dims(),
                        from.dims()
                    )));
                }
                if from.axis != to.axis {
                    return Err(so.error(format_args!(
                        ".strides: octets lie along axis {}, but those of x along axis {}",
                        to.axis, from.axis
                    )));
                }
            }
            (Some(from), None) => out.expect_dims(so, from.dims(), "x is")?,
            (None, Some(to)) => x.expect_dims(sx, to.dims(), "out is")?,
            (None, None) => {}
        }
        out.refuse_overlap(so, &x, "x", false)?;
        let mut strides = [0; MAX_DIMS];
        strides[..x.rank()].copy_from_slice(x.strides());
        Ok(Checked {
            x,
            out,
            packed: [from, to],
            strides,
            rounding,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements.max(self.x.elements),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
