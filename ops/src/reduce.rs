//! Reduction over a set of axes.
//!
//! `sum`, `mean` and `prod` of floats are accumulated in f64 and rounded once; those of integers wrap around (`mean` takes floats only).
//! `max` and `min` give NaN if any element is NaN. Over no elements, `sum` is 0, `prod` 1, `mean` NaN; `max` and `min` are refused.
//! The order of accumulation depends on shapes and strides only.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::REDUCE`.
    pub struct Reduce : 328 {
        /// Operand 0: any type but Bool.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `x`'s axes with the reduced ones 1 or left out; of `x`'s type, for `sum` and `prod` of integers also I64.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// Bit i: axis i is reduced.
        pub axes: u32 = 324,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// Sum.
        Sum = 0, "sum";
        /// Arithmetic mean.
        Mean = 1, "mean";
        /// Largest.
        Max = 2, "max";
        /// Smallest.
        Min = 3, "min";
        /// Product.
        Prod = 4, "prod";
    }
}

/// A checked [`Reduce`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// What is computed.
    pub function: Function,
    /// Bit i: axis i is reduced.
    pub axes: u32,
    /// Strides of `out` over the axes of `x`; 0 for the reduced ones.
    pub out_strides: [i64; MAX_DIMS],
}

impl crate::Descriptor for Reduce {
    const INFO: Info = Info {
        opcode: opcode::REDUCE,
        name: "reduce",
        formula: "out = f over axes of x",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "all but bool; mean floats only",
        backward: "sum, mean: unary copy (broadcast) and affine",
        cost: "1 per element of x",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let (sx, so) = (Site::new("reduce", 0, "x"), Site::new("reduce", 1, "out"));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(
                "reduce",
                format_args!("function {} is unknown", self.function),
            )
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let integer = !is_float(x.dtype);
        if x.dtype == DataType::Bool || (integer && function == Function::Mean) {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        let wide = integer && matches!(function, Function::Sum | Function::Prod);
        if wide && out.dtype != x.dtype {
            out.expect_type(so, &[x.dtype, DataType::I64])?;
        } else {
            out.expect_same_type(so, &x, "x")?;
        }
        if self.axes >> x.rank() != 0 {
            return Err(rule::error(
                "reduce",
                format_args!("axes {:#b} name more than the {} of x", self.axes, x.rank()),
            ));
        }
        let out_strides = reduced_strides(so, &x, &out, self.axes)?;
        if x.elements == 0 && out.elements > 0 && matches!(function, Function::Max | Function::Min)
        {
            return Err(sx.error(format_args!(
                " is empty, {} needs an element",
                function.name()
            )));
        }
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked {
            x,
            out,
            function,
            axes: self.axes,
            out_strides,
        })
    }
}

/// Checks that `out` has the shape of `x` without (or with 1 for) the axes of a set, and gives `out`'s strides over the axes of `x`.
pub(crate) fn reduced_strides(
    site: Site,
    x: &Tensor,
    out: &Tensor,
    axes: u32,
) -> Result<[i64; MAX_DIMS], RuleError> {
    let keep = out.rank() == x.rank();
    let (mut dims, mut strides, mut rank) = ([0; MAX_DIMS], [0; MAX_DIMS], 0);
    for (i, &dim) in x.dims().iter().enumerate() {
        let reduced = axes >> i & 1 != 0;
        if !reduced {
            dims[rank] = dim;
            strides[i] = out.strides().get(rank).copied().unwrap_or(0);
        } else if keep {
            dims[rank] = 1;
        }
        rank += usize::from(!reduced || keep);
    }
    out.expect_dims(site, &dims[..rank], "x reduces to")?;
    Ok(strides)
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.x.elements,
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
