//! Running reductions along an axis: element i of the result is made of elements 0 to i of `x`, or with [`FLAG_EXCLUSIVE`] 0 to i - 1.
//!
//! Sums and products of floats are accumulated in f64 in the order of the axis and rounded at each element; those of integers wrap around. From a
//! NaN on, results are NaN. `cummax` and `cummin` also give the index of the element, of equal ones the last. Walking an axis backwards (a
//! negative stride in `x` and `out`) makes suffixes.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor, INDICES};

/// Without the element itself; sums and products only.
pub const FLAG_EXCLUSIVE: u32 = 1 << 0;

descriptor! {
    /// Body of `opcode::SCAN`.
    pub struct Scan : 496 {
        /// Operand 0: any type but Bool.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type and shape; may be exactly `x`.
        pub out: TensorDesc = 160,
        /// Operand 2, written, may be absent: I32 or I64, of `x`'s shape; for cummax and cummin.
        pub indices: TensorDesc = 320,
        /// A [`Function`].
        pub function: u32 = 480,
        /// The axis; not used for rank 0.
        pub axis: u32 = 484,
        /// `FLAG_*`.
        pub flags: u32 = 488,
        /// Zero.
        pub reserved: u32 = 492,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// Running sum.
        Sum = 0, "cumsum";
        /// Running product.
        Prod = 1, "cumprod";
        /// Running largest.
        Max = 2, "cummax";
        /// Running smallest.
        Min = 3, "cummin";
        /// Logarithm of the running sum of exponentials; floats only.
        LogSumExp = 4, "logcumsumexp";
    }
}

/// A checked [`Scan`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Operand 2.
    pub indices: Option<Tensor>,
    /// What is computed.
    pub function: Function,
    /// The axis.
    pub axis: usize,
    /// Whether the element itself is left out.
    pub exclusive: bool,
}

impl crate::Descriptor for Scan {
    const INFO: Info = Info {
        opcode: opcode::SCAN,
        name: "scan",
        formula: "out[i] = f over x[0 … i] along an axis",
        operands: &["x", "out*", "indices*?"],
        functions: Function::ROWS,
        types: "all but bool; logcumsumexp floats",
        backward: "cumsum: scan of the reversed gradient; others by scan and binary; cummax, cummin: scatter",
        cost: "1 per element; logcumsumexp 20",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "scan";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        let si = Site::new(NAME, 2, "indices");
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let indices = Tensor::check_optional(si, &self.indices, Role::Output)?;
        if x.dtype == DataType::Bool || (function == Function::LogSumExp && !is_float(x.dtype)) {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        out.expect_same_type(so, &x, "x")?;
        out.expect_dims(so, x.dims(), "x is")?;
        out.refuse_overlap(so, &x, "x", true)?;
        let axis = self.axis as usize;
        if axis >= x.rank().max(1) {
            return Err(sx.error(format_args!(
                ".rank is {}, but the axis is {axis}",
                x.rank()
            )));
        }
        let extremes = matches!(function, Function::Max | Function::Min);
        if let Some(i) = &indices {
            if !extremes {
                return Err(si.error(format_args!(" is given, but {} has none", function.name())));
            }
            i.expect_type(si, &INDICES)?;
            i.expect_dims(si, x.dims(), "x is")?;
            i.refuse_overlap(si, &x, "x", false)?;
            i.refuse_overlap(si, &out, "out", false)?;
        }
        let sums = matches!(function, Function::Sum | Function::Prod);
        if self.flags & !FLAG_EXCLUSIVE != 0 || (self.flags != 0 && !sums) {
            let text = format_args!(
                "flags are {:#x}, which {} does not take",
                self.flags,
                function.name()
            );
            return Err(rule::error(NAME, text));
        }
        Ok(Checked {
            x,
            out,
            indices,
            function,
            axis,
            exclusive: self.flags & FLAG_EXCLUSIVE != 0,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = if self.function == Function::LogSumExp {
            20
        } else {
            1
        };
        Cost {
            operations: self.x.elements.saturating_mul(each),
            read: self.x.footprint(),
            written: (self.out.footprint())
                .saturating_add(self.indices.map_or(0, |i| i.footprint())),
            ..Cost::default()
        }
    }
}
