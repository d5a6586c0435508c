//! Elements that a mask or their value chooses, in row-major order: results whose length the data decides.
//!
//! `select` writes the elements of `x` where `mask` is true, one after the other; `nonzero` the coordinates of the elements of `x` that are not 0, a row
//! each; `scatter` writes the elements of `x`, one after the other, to where `mask` is true in `out`; `unique` the different elements of `x` in
//! ascending order (NaN last, each NaN by itself). `count` takes how many there are. If `out` has room for fewer (or `x` has fewer to scatter),
//! the command faults; `reduce` counts beforehand. `unique` also gives for each element of `x` its place, and for each result how often it occurs.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

/// Most elements of `unique`: they are held in the card's private memory.
pub const MAX_LENGTH: u64 = 1 << 26;

descriptor! {
    /// Body of `opcode::COMPACT`.
    pub struct Compact : 968 {
        /// Operand 0: any type.
        pub x: TensorDesc = 0,
        /// Operand 1: Bool, of `x`'s shape (`out`'s for scatter), may repeat by strides; absent for nonzero and unique.
        pub mask: TensorDesc = 160,
        /// Operand 2, written: rank 1 of `x`'s type; for nonzero I64 of shape [n, rank of x]; for scatter of any shape.
        pub out: TensorDesc = 320,
        /// Operand 3, written, may be absent: I64, rank 0.
        pub count: TensorDesc = 480,
        /// Operand 4, written, may be absent: I64 of `x`'s shape; unique only.
        pub inverse: TensorDesc = 640,
        /// Operand 5, written, may be absent: I64 of `out`'s shape; unique only.
        pub counts: TensorDesc = 800,
        /// A [`Function`].
        pub function: u32 = 960,
        /// Zero.
        pub reserved: u32 = 964,
    }
}

functions! {
    /// What is written.
    pub enum Function {
        /// Elements where the mask is true.
        Select = 0, "select";
        /// Coordinates of what is not 0.
        Nonzero = 1, "nonzero";
        /// Elements to where the mask is true.
        Scatter = 2, "scatter";
        /// Different elements.
        Unique = 3, "unique";
    }
}

/// A checked [`Compact`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub mask: Option<Tensor>,
    /// Strides of the mask over the axes of `x`, or of `out` for scatter.
    pub mask_strides: [i64; MAX_DIMS],
    /// Operand 2.
    pub out: Tensor,
    /// Operand 3.
    pub count: Option<Tensor>,
    /// Operand 4.
    pub inverse: Option<Tensor>,
    /// Operand 5.
    pub counts: Option<Tensor>,
    /// What is written.
    pub function: Function,
}

impl crate::Descriptor for Compact {
    const INFO: Info = Info {
        opcode: opcode::COMPACT,
        name: "compact",
        formula: "out = chosen elements, or their coordinates, one after the other",
        operands: &["x", "mask?", "out*", "count*?", "inverse*?", "counts*?"],
        functions: Function::ROWS,
        types: "all; coordinates and counts i64",
        backward: "select, scatter: compact the other way",
        cost: "2 per element; unique 2 · log2 of their number",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "compact";
        let site = |i, name| Site::new(NAME, i, name);
        let (sx, sm, so) = (site(0, "x"), site(1, "mask"), site(2, "out"));
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let mask = Tensor::check_optional(sm, &self.mask, Role::Input)?;
        let masked = matches!(function, Function::Select | Function::Scatter);
        let mut mask_strides = [0; MAX_DIMS];
        match &mask {
            Some(m) if masked => {
                m.expect_type(sm, &[DataType::Bool])?;
                let over = if function == Function::Scatter {
                    out.dims()
                } else {
                    x.dims()
                };
                mask_strides = m.broadcast(sm, over)?;
            }
            None if !masked => {}
            Some(_) => {
                return Err(sm.error(format_args!(
                    " is given, but {} takes none",
                    function.name()
                )))
            }
            None => {
                return Err(sm.error(format_args!(" is absent, but {} needs it", function.name())))
            }
        }
        match function {
            Function::Nonzero => {
                out.expect_type(so, &[DataType::I64])?;
                out.expect_rank(so, 2)?;
                if out.dims()[1] != x.rank() as u64 {
                    return Err(so.error(format_args!(
                        ".dims[1] is {}, but x.rank is {}",
                        out.dims()[1],
                        x.rank()
                    )));
                }
            }
            _ => {
                out.expect_same_type(so, &x, "x")?;
                if function != Function::Scatter {
                    out.expect_rank(so, 1)?;
                }
            }
        }
        if function == Function::Unique && x.elements > MAX_LENGTH {
            return Err(sx.error(format_args!(
                " has {} elements, unique takes at most {MAX_LENGTH}",
                x.elements
            )));
        }
        let count = Tensor::check_optional(site(3, "count"), &self.count, Role::Output)?;
        let inverse = Tensor::check_optional(site(4, "inverse"), &self.inverse, Role::Output)?;
        let counts = Tensor::check_optional(site(5, "counts"), &self.counts, Role::Output)?;
        for (i, t) in [&count, &inverse, &counts].into_iter().enumerate() {
            let (s, Some(t)) = (site(3 + i as u16, ["count", "inverse", "counts"][i]), t) else {
                continue;
            };
            t.expect_type(s, &[DataType::I64])?;
            match i {
                0 => t.expect_rank(s, 0)?,
                _ if function != Function::Unique => {
                    return Err(
                        s.error(format_args!(" is given, but {} has none", function.name()))
                    );
                }
                1 => t.expect_dims(s, x.dims(), "x is")?,
                _ => t.expect_dims(s, out.dims(), "out is")?,
            }
            t.refuse_overlap(s, &x, "x", false)?;
            t.refuse_overlap(s, &out, "out", false)?;
            if let Some(m) = &mask {
                t.refuse_overlap(s, m, "mask", false)?;
            }
        }
        for (i, a) in [&count, &inverse, &counts].into_iter().enumerate() {
            for b in [&count, &inverse, &counts].into_iter().take(i).flatten() {
                if let Some(a) = a {
                    a.refuse_overlap(
                        site(3 + i as u16, "count, inverse or counts"),
                        b,
                        "another",
                        false,
                    )?;
                }
            }
        }
        out.refuse_overlap(so, &x, "x", false)?;
        if let Some(m) = &mask {
            out.refuse_overlap(so, m, "mask", false)?;
        }
        Ok(Checked {
            x,
            mask,
            mask_strides,
            out,
            count,
            inverse,
            counts,
            function,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let sorting = 2 * u64::from(self.x.elements.max(2).ilog2());
        let each = if self.function == Function::Unique {
            sorting
        } else {
            2
        };
        let mask = self.mask.map_or(0, |m| m.footprint());
        Cost {
            operations: self.x.elements.max(self.out.elements).saturating_mul(each),
            read: self.x.footprint().saturating_add(mask),
            written: self.out.footprint().min(self.x.footprint()),
            ..Cost::default()
        }
    }
}
