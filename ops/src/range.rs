//! Arrays that are computed from their positions: ranges, even spacings, identity matrices, and triangles of matrices.
//!
//! In `arange` element i of the only axis is `alpha + i · beta`; in `linspace` the axis runs from alpha to beta, both exact: `alpha + i · step` in its first
//! half and `beta - (n - 1 - i) · step` in its second, with `step = (beta - alpha) / (n - 1)`. Both are computed in f64 and rounded once; integers
//! take whole numbers of 53 bits in `arange`, and are cut off in `linspace`. The others work on the last two axes: `eye` is 1 where column - row
//! is alpha, else 0; `tril` keeps of `x` what has column - row ≤ alpha, `triu` what has ≥ alpha, and writes 0 elsewhere.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::RANGE`.
    pub struct Range : 344 {
        /// Operand 0, written: any type; for `tril` and `triu` may be exactly `x`.
        pub out: TensorDesc = 0,
        /// Operand 1: of `out`'s type and shape; `tril` and `triu` only.
        pub x: TensorDesc = 160,
        /// First parameter of the function.
        pub alpha: f64 = 320,
        /// Second parameter of the function; 0 where it has none.
        pub beta: f64 = 328,
        /// A [`Function`].
        pub function: u32 = 336,
        /// Zero.
        pub reserved: u32 = 340,
    }
}

functions! {
    /// What is written.
    pub enum Function {
        /// `alpha + i · beta`.
        Arange = 0, "arange";
        /// From alpha to beta.
        Linspace = 1, "linspace";
        /// An identity matrix, moved by alpha columns.
        Eye = 2, "eye";
        /// The lower triangle.
        Tril = 3, "tril";
        /// The upper triangle.
        Triu = 4, "triu";
    }
}

/// A checked [`Range`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub out: Tensor,
    /// Operand 1.
    pub x: Option<Tensor>,
    /// What is written.
    pub function: Function,
    /// First parameter.
    pub alpha: f64,
    /// Second parameter.
    pub beta: f64,
}

impl crate::Descriptor for Range {
    const INFO: Info = Info {
        opcode: opcode::RANGE,
        name: "range",
        formula: "out = a range, an identity matrix, a triangle of x",
        operands: &["out*", "x?"],
        functions: Function::ROWS,
        types: "all; arange and linspace not bool",
        backward: "tril, triu: range; others none",
        cost: "1 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "range";
        let (so, sx) = (Site::new(NAME, 0, "out"), Site::new(NAME, 1, "x"));
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let x = Tensor::check_optional(sx, &self.x, Role::Input)?;
        let line = matches!(function, Function::Arange | Function::Linspace);
        let triangle = matches!(function, Function::Tril | Function::Triu);
        if line {
            out.expect_rank(so, 1)?;
            if out.dtype == DataType::Bool {
                return Err(so.error(format_args!(
                    ".dtype is Bool, {} needs a number",
                    function.name()
                )));
            }
        } else if out.rank() < 2 {
            return Err(so.error(format_args!(".rank is {}, at least 2", out.rank())));
        }
        match &x {
            Some(x) if triangle => {
                x.expect_same_type(sx, &out, "out")?;
                x.expect_dims(sx, out.dims(), "out is")?;
                out.refuse_overlap(so, x, "x", true)?;
            }
            None if !triangle => {}
            Some(_) => {
                return Err(sx.error(format_args!(
                    " is given, but {} takes none",
                    function.name()
                )))
            }
            None => {
                return Err(sx.error(format_args!(" is absent, but {} needs it", function.name())))
            }
        }
        let whole = !line || (function == Function::Arange && !is_float(out.dtype));
        let count = if line { 2 } else { 1 };
        let dtype = if whole { DataType::I64 } else { DataType::F64 };
        rule::parameters(NAME, function.name(), count, [self.alpha, self.beta], dtype)?;
        Ok(Checked {
            out,
            x,
            function,
            alpha: self.alpha,
            beta: self.beta,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements,
            read: self.x.map_or(0, |x| x.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
