//! Reduction over a set of axes.
//!
//! Sums and products of floats, and all that is made of them, are accumulated in f64 and rounded once; those of integers wrap around. `max`,
//! `min`, `norm_inf` and `norm_neg_inf` give NaN if any element is NaN. Over no elements, sums, counts and norms are 0, `prod` 1, `any` false,
//! `all` true, `logsumexp` -∞, `mean`, `var` and `std` NaN; `max`, `min`, `norm_inf` and `norm_neg_inf` are refused. `var` and `std` divide by the count less
//! `alpha`. The order of accumulation depends on shapes and strides only. Integers take `sum`, `max`, `min`, `prod`, `any`, `all` and `count_nonzero`,
//! Bool the last three; floats take all.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::REDUCE`.
    pub struct Reduce : 336 {
        /// Operand 0.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `x`'s axes with the reduced ones 1 or left out; of `x`'s type, for `sum` and `prod` of
        /// integers also I64; Bool for `any` and `all`; I64 for `count_nonzero`.
        pub out: TensorDesc = 160,
        /// A [`Function`].
        pub function: u32 = 320,
        /// Bit i: axis i is reduced.
        pub axes: u32 = 324,
        /// Parameter of the function; 0 where it has none.
        pub alpha: f64 = 328,
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
        /// Whether an element is not 0.
        Any = 5, "any";
        /// Whether no element is 0.
        All = 6, "all";
        /// Sum of magnitudes.
        Norm1 = 7, "norm1";
        /// Root of the sum of squares.
        Norm2 = 8, "norm2";
        /// Sum of squares.
        SumSquares = 9, "sum_squares";
        /// Largest magnitude.
        NormInf = 10, "norm_inf";
        /// Smallest magnitude.
        NormNegInf = 11, "norm_neg_inf";
        /// `(Σ |x|^alpha)^(1/alpha)`, alpha neither 0 nor infinite.
        NormP = 12, "norm_p";
        /// Elements that are not 0.
        CountNonzero = 13, "count_nonzero";
        /// Variance, over the count less alpha.
        Var = 14, "var";
        /// Root of the variance.
        Std = 15, "std";
        /// `log Σ eˣ`.
        LogSumExp = 16, "logsumexp";
        /// Sum of all that is not NaN.
        NanSum = 17, "nansum";
    }
}

impl Function {
    /// Whether it takes elements of a type.
    pub fn takes(self, dtype: DataType) -> bool {
        match self {
            Self::Any | Self::All | Self::CountNonzero => true,
            Self::Sum | Self::Prod | Self::Max | Self::Min => dtype != DataType::Bool,
            _ => is_float(dtype),
        }
    }

    /// Whether it needs an element.
    pub const fn needs_element(self) -> bool {
        matches!(
            self,
            Self::Max | Self::Min | Self::NormInf | Self::NormNegInf
        )
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
    /// Parameter of the function.
    pub alpha: f64,
}

impl crate::Descriptor for Reduce {
    const INFO: Info = Info {
        opcode: opcode::REDUCE,
        name: "reduce",
        formula: "out = f over axes of x",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "floats; sum, max, min, prod also integers; any, all, count_nonzero all",
        backward: "sum, mean: unary copy (broadcast) and affine",
        cost: "1 to 3 per element of x; norm_p and logsumexp 10",
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
        if !function.takes(x.dtype) {
            return Err(sx.error(format_args!(
                ".dtype is {:?}, which {} does not take",
                x.dtype,
                function.name()
            )));
        }
        let wide = !is_float(x.dtype) && matches!(function, Function::Sum | Function::Prod);
        match function {
            Function::Any | Function::All => out.expect_type(so, &[DataType::Bool])?,
            Function::CountNonzero => out.expect_type(so, &[DataType::I64])?,
            _ if wide && out.dtype != x.dtype => out.expect_type(so, &[x.dtype, DataType::I64])?,
            _ => out.expect_same_type(so, &x, "x")?,
        }
        let count = usize::from(matches!(
            function,
            Function::NormP | Function::Var | Function::Std
        ));
        rule::parameters(
            "reduce",
            function.name(),
            count,
            [self.alpha],
            DataType::F64,
        )?;
        if function == Function::NormP && !(self.alpha.is_finite() && self.alpha != 0.0) {
            let text = format_args!(
                "alpha is {}, norm_p needs a number that is not 0",
                self.alpha
            );
            return Err(rule::error("reduce", text));
        }
        if self.axes >> x.rank() != 0 {
            return Err(rule::error(
                "reduce",
                format_args!("axes {:#b} name more than the {} of x", self.axes, x.rank()),
            ));
        }
        let out_strides = reduced_strides(so, &x, &out, self.axes)?;
        if x.elements == 0 && out.elements > 0 && function.needs_element() {
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
            alpha: self.alpha,
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
        let each = match self.function {
            Function::Sum | Function::Mean | Function::Max | Function::Min | Function::Prod => 1,
            Function::NormP | Function::LogSumExp => 10,
            _ => 3,
        };
        Cost {
            operations: self.x.elements.saturating_mul(each),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
