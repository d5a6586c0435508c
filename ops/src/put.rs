//! Elements by index, written: `out[c(p)] = f(out[c(p)], x[p])` for every position p, in row-major order of `dims`.
//!
//! Coordinates as for `take`, with `out` in the place of its `x`, and `x` broadcast to the positions. Several positions may name one element: the
//! last one is left by `set`, the others go in one by one, each rounded to the type. So this is scatter with its reductions, index add, copy, fill
//! and put, and the gradient of gather, index select and embedding. With [`FLAG_SKIP`] positions whose first index is `skip` are left out (the
//! padding of an embedding). Indices are checked before anything is written. Mean is a sum divided by counts, which `put` of ones gives.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::take::{indexing, Indexing};
use crate::tensor::{Role, Tensor};

/// Positions whose first index is `skip` are left out.
pub const FLAG_SKIP: u32 = 1 << 1;

descriptor! {
    /// Body of `opcode::PUT`.
    pub struct Put : 1704 {
        /// Operand 0: of `out`'s type, broadcast to `dims`.
        pub x: TensorDesc = 0,
        /// Operand 1, read and written: any type; Bool only for `set`.
        pub out: TensorDesc = 160,
        /// Operands 2 to 9: as for `take`.
        pub indices: [TensorDesc; 8] = 320,
        /// As for `take`.
        pub axes: [u8; 8] = 1600,
        /// As for `take`.
        pub map: [u8; 8] = 1608,
        /// The shape of the positions.
        pub dims: [u64; 8] = 1616,
        /// Index that is left out; 0 without `FLAG_SKIP`.
        pub skip: i64 = 1680,
        /// `FLAG_*` of this operator and of `take`.
        pub flags: u32 = 1688,
        /// A [`Function`].
        pub function: u32 = 1692,
        /// Axes in `dims`.
        pub rank: u32 = 1696,
        /// Zero.
        pub reserved: u32 = 1700,
    }
}

functions! {
    /// What is done with the old and the new element.
    pub enum Function {
        /// The new one.
        Set = 0, "set";
        /// Their sum.
        Add = 1, "add";
        /// Their product.
        Mul = 2, "mul";
        /// The larger one; NaN if either is.
        Max = 3, "max";
        /// The smaller one; NaN if either is.
        Min = 4, "min";
    }
}

/// A checked [`Put`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Strides of `x` over the axes of the positions.
    pub strides: [i64; MAX_DIMS],
    /// Operand 1.
    pub out: Tensor,
    /// The indices.
    pub indexing: Indexing,
    /// What is done.
    pub function: Function,
    /// Index that is left out.
    pub skip: Option<i64>,
    dims: [u64; MAX_DIMS],
    rank: usize,
    positions: u64,
}

impl crate::Descriptor for Put {
    const INFO: Info = Info {
        opcode: opcode::PUT,
        name: "put",
        formula: "out[index(p)] = f(out[index(p)], x[p])",
        operands: &[
            "x", "out*", "index?", "index?", "index?", "index?", "index?", "index?", "index?",
            "index?",
        ],
        functions: Function::ROWS,
        types: "all; bool only set; indices i32, i64",
        backward: "set, add: take; others by take and binary",
        cost: "1 per position",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "put";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let rank = self.rank as usize;
        if rank > MAX_DIMS || self.dims[rank..].iter().any(|d| *d != 0) {
            return Err(rule::error(
                NAME,
                format_args!("rank {rank} does not fit dims {:?}", self.dims),
            ));
        }
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        x.expect_same_type(sx, &out, "out")?;
        if out.dtype == DataType::Bool && function != Function::Set {
            return Err(so.error(format_args!(
                ".dtype is Bool, {} needs a number",
                function.name()
            )));
        }
        let dims = &self.dims[..rank];
        let positions = dims.iter().try_fold(1u64, |p, d| {
            p.checked_mul((*d).max(1)).filter(|p| *p < 1 << 62)
        });
        let Some(mut positions) = positions else {
            return Err(rule::error(
                NAME,
                format_args!("dims {dims:?}: the product overflows"),
            ));
        };
        if dims.contains(&0) {
            positions = 0;
        }
        let strides = x.broadcast(sx, dims)?;
        let all = (&self.indices, &self.axes, &self.map);
        let indexing = indexing(NAME, (&out, so), dims, all, self.flags & !FLAG_SKIP, 2)?;
        let skip = (self.flags & FLAG_SKIP != 0).then_some(self.skip);
        if (skip.is_none() && self.skip != 0) || (skip.is_some() && indexing.indices[0].is_none()) {
            return Err(rule::error(
                NAME,
                format_args!(
                    "skip is {}, flags {:#x}: there is nothing to skip by",
                    self.skip, self.flags
                ),
            ));
        }
        out.refuse_overlap(so, &x, "x", false)?;
        for index in indexing.indices.iter().flatten() {
            out.refuse_overlap(so, &index.tensor, "an index", false)?;
        }
        Ok(Checked {
            x,
            strides,
            out,
            indexing,
            function,
            skip,
            dims: self.dims,
            rank,
            positions,
        })
    }
}

impl Checked {
    /// The shape of the positions.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank]
    }

    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let indices = self.indexing.indices.iter().flatten();
        let bytes = self.positions.saturating_mul(self.out.dtype.size() as u64);
        let moved = if self.function == Function::Set {
            0
        } else {
            bytes
        };
        Cost {
            operations: self.positions,
            read: indices.fold(self.x.footprint().saturating_add(moved), |s, i| {
                s.saturating_add(i.tensor.footprint())
            }),
            written: bytes,
            ..Cost::default()
        }
    }
}
