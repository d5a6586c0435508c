//! Where values belong in a sorted row: `out[i]` is how many elements of the row are less than `values[i]`, or, with `FLAG_RIGHT`, not more.
//!
//! `sorted` is one row for all, or has a row for each of `values`: then its axes but the last are those of `values`. Rows ascend, NaN behind all; of one
//! that does not, the result is some number of 0 … its length. `FLAG_RIGHT` gives each value the place behind its equals.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

/// Behind equals, not before them.
pub const FLAG_RIGHT: u32 = 1;

descriptor! {
    /// Body of `opcode::SEARCH_SORTED`.
    pub struct SearchSorted : 488 {
        /// Operand 0: `[length]`, or `[…, length]`; all types but Bool.
        pub sorted: TensorDesc = 0,
        /// Operand 1: of `sorted`'s type.
        pub values: TensorDesc = 160,
        /// Operand 2, written: I32 or I64, of `values`' shape.
        pub out: TensorDesc = 320,
        /// `FLAG_*`.
        pub flags: u32 = 480,
        /// 0.
        pub reserved: u32 = 484,
    }
}

/// A checked [`SearchSorted`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub sorted: Tensor,
    /// Operand 1.
    pub values: Tensor,
    /// Operand 2.
    pub out: Tensor,
    /// Behind equals.
    pub right: bool,
}

impl crate::Descriptor for SearchSorted {
    const INFO: Info = Info {
        opcode: opcode::SEARCH_SORTED,
        name: "search_sorted",
        formula: "out = places of values in sorted rows",
        operands: &["sorted", "values", "out*"],
        functions: &[],
        types: "all but bool; out i32, i64",
        backward: "none: piecewise constant",
        cost: "2 · log2 of the length per value",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "search_sorted";
        let [ss, sv, so] =
            [(0, "sorted"), (1, "values"), (2, "out")].map(|(i, n)| Site::new(NAME, i, n));
        rule::reserved(NAME, &[self.reserved])?;
        if self.flags & !FLAG_RIGHT != 0 {
            let text = format_args!("flags are {:#x}, of which some are unknown", self.flags);
            return Err(rule::error(NAME, text));
        }
        let sorted = Tensor::check(ss, &self.sorted, Role::Input)?;
        let values = Tensor::check(sv, &self.values, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if sorted.dtype == DataType::Bool {
            return Err(ss.error(".dtype is Bool, which has no order"));
        }
        values.expect_same_type(sv, &sorted, "sorted")?;
        out.expect_type(so, &INDICES)?;
        out.expect_dims(so, values.dims(), "values are")?;
        let Some((length, rows)) = sorted.dims().split_last() else {
            return Err(ss.error(".rank is 0, must be 1 at least"));
        };
        if !rows.is_empty() && values.dims().split_last().map(|(_, r)| r) != Some(rows) {
            return Err(ss.error(
                ": its axes but the last are not those of values, and it has more than one",
            ));
        }
        if out.dtype == DataType::I32 && *length >= 1 << 31 {
            return Err(so.error(format_args!(
                ".dtype is I32, but rows have {length} elements"
            )));
        }
        for (input, name) in [(&sorted, "sorted"), (&values, "values")] {
            out.refuse_overlap(so, input, name, false)?;
        }
        Ok(Checked {
            sorted,
            values,
            out,
            right: self.flags & FLAG_RIGHT != 0,
        })
    }
}

impl Checked {
    /// Elements of a row.
    pub fn length(&self) -> u64 {
        self.sorted.dims().last().copied().unwrap_or(0)
    }

    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = 2 * (u64::from(self.length().max(1).ilog2()) + 1);
        Cost {
            operations: self.values.elements.saturating_mul(each),
            read: self.sorted.footprint() + self.values.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
