//! Sorting along an axis, and the first k of the order: sort, top-k, and all that ranks are made of (median, k-th value).
//!
//! Equal elements keep their order. NaN counts as larger than all other numbers, and -0 as equal to 0. The results have as many positions along the
//! axis as `values` (or `indices`) has there: all for sort, k for top-k.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

/// The largest first.
pub const FLAG_DESCENDING: u32 = 1 << 0;
/// Most elements along the axis: they are held in the card's private memory.
pub const MAX_LENGTH: u64 = 1 << 26;

descriptor! {
    /// Body of `opcode::SORT`.
    pub struct Sort : 496 {
        /// Operand 0: any type.
        pub x: TensorDesc = 0,
        /// Operand 1, written, may be absent: of `x`'s type and shape but for the axis, which may be shorter.
        pub values: TensorDesc = 160,
        /// Operand 2, written, may be absent: I32 or I64, of the shape of `values`. One of both is there.
        pub indices: TensorDesc = 320,
        /// The axis; 0 for rank 0.
        pub axis: u32 = 480,
        /// `FLAG_*`.
        pub flags: u32 = 484,
        /// Zero.
        pub reserved: u64 = 488,
    }
}

/// A checked [`Sort`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub values: Option<Tensor>,
    /// Operand 2.
    pub indices: Option<Tensor>,
    /// The axis.
    pub axis: usize,
    /// Positions of the results along the axis.
    pub count: usize,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl crate::Descriptor for Sort {
    const INFO: Info = Info {
        opcode: opcode::SORT,
        name: "sort",
        formula: "values, indices = the first of x along an axis, in order",
        operands: &["x", "values*?", "indices*?"],
        functions: &[],
        types: "all; indices i32, i64",
        backward: "put",
        cost: "2 · log2 of the extent per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "sort";
        let sx = Site::new(NAME, 0, "x");
        if self.reserved != 0 || self.flags & !FLAG_DESCENDING != 0 {
            return Err(rule::error(
                NAME,
                format_args!("flags {:#x} or a reserved field are not 0", self.flags),
            ));
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let axis = self.axis as usize;
        if axis >= x.rank().max(1) {
            return Err(sx.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                x.rank()
            )));
        }
        let length = x.dims().get(axis).copied().unwrap_or(1);
        if length > MAX_LENGTH {
            return Err(sx.error(format_args!(
                ".dims[{axis}] is {length}, at most {MAX_LENGTH} are sorted"
            )));
        }
        let sites = [Site::new(NAME, 1, "values"), Site::new(NAME, 2, "indices")];
        let values = Tensor::check_optional(sites[0], &self.values, Role::Output)?;
        let indices = Tensor::check_optional(sites[1], &self.indices, Role::Output)?;
        let Some(first) = values.or(indices) else {
            return Err(sites[0].error(" and indices are absent"));
        };
        let count = first.dims().get(axis).copied().unwrap_or(1);
        if count > length {
            return Err(
                sites[0].error(format_args!(".dims[{axis}] is {count}, but x has {length}"))
            );
        }
        let mut dims = [0; vmlu_abi::tensor::MAX_DIMS];
        dims[..x.rank()].copy_from_slice(x.dims());
        if x.rank() > 0 {
            dims[axis] = count;
        }
        if let Some(v) = &values {
            v.expect_same_type(sites[0], &x, "x")?;
            v.expect_dims(sites[0], &dims[..x.rank()], "x demands")?;
            v.refuse_overlap(sites[0], &x, "x", true)?;
        }
        if let Some(i) = &indices {
            i.expect_type(sites[1], &INDICES)?;
            i.expect_dims(sites[1], &dims[..x.rank()], "x demands")?;
            i.refuse_overlap(sites[1], &x, "x", false)?;
            if let Some(v) = &values {
                i.refuse_overlap(sites[1], v, "values", false)?;
            }
        }
        Ok(Checked {
            x,
            values,
            indices,
            axis,
            count: count as usize,
            descending: self.flags & FLAG_DESCENDING != 0,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let length = self.x.dims().get(self.axis).copied().unwrap_or(1).max(2);
        let written = [self.values, self.indices]
            .iter()
            .flatten()
            .fold(0, |s: u64, t| s.saturating_add(t.footprint()));
        Cost {
            operations: self
                .x
                .elements
                .saturating_mul(2 * u64::from(length.ilog2())),
            read: self.x.footprint(),
            written,
            ..Cost::default()
        }
    }
}
