//! Index of the largest or smallest element along an axis: the first of equals; the first NaN, if there is one.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::reduce::reduced_strides;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

descriptor! {
    /// Body of `opcode::ARG_REDUCE`.
    pub struct ArgReduce : 328 {
        /// Operand 0: any type but Bool.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `x`'s axes with the one 1 or left out; I32 or I64.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// The axis.
        pub axis: u32 = 324,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// Index of the largest.
        Max = 0, "argmax";
        /// Index of the smallest.
        Min = 1, "argmin";
    }
}

/// A checked [`ArgReduce`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// What is computed.
    pub function: Function,
    /// The axis.
    pub axis: usize,
    /// Strides of `out` over the axes of `x`; 0 for the axis.
    pub out_strides: [i64; MAX_DIMS],
}

impl crate::Descriptor for ArgReduce {
    const INFO: Info = Info {
        opcode: opcode::ARG_REDUCE,
        name: "arg_reduce",
        formula: "out = index of the extreme along an axis of x",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "all but bool; out i32, i64",
        backward: "none: piecewise constant",
        cost: "1 per element of x",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "arg_reduce";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if x.dtype == DataType::Bool {
            return Err(sx.error(".dtype is Bool, a number is needed"));
        }
        out.expect_type(so, &INDICES)?;
        let axis = self.axis as usize;
        let Some(&length) = x.dims().get(axis) else {
            return Err(sx.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                x.rank()
            )));
        };
        let out_strides = reduced_strides(so, &x, &out, 1 << axis)?;
        if length == 0 && out.elements > 0 {
            return Err(sx.error(format_args!(".dims[{axis}] is 0, an element is needed")));
        }
        if out.dtype == DataType::I32 && length > 1 << 31 {
            return Err(so.error(format_args!(
                ".dtype is I32, but the axis has {length} elements"
            )));
        }
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked {
            x,
            out,
            function,
            axis,
            out_strides,
        })
    }
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
