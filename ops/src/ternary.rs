//! Elementwise operators of three tensors: `out = f(a, b, c)`, all broadcast to `out`.
//!
//! F16 and BF16 are computed in f32; integers wrap around. In `where`, `a` is Bool and chooses; `where` moves bits. Parameters as for `unary`.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{broadcast_dims, is_float, Role, Tensor};

descriptor! {
    /// Body of `opcode::TERNARY`.
    pub struct Ternary : 656 {
        /// Operand 0: Bool for `where`.
        pub a: TensorDesc = 0,
        /// Operand 1: of `a`'s type; any type for `where`.
        pub b: TensorDesc = 160,
        /// Operand 2: of `b`'s type.
        pub c: TensorDesc = 320,
        /// Operand 3, written: of `b`'s type; may be exactly an input.
        pub out: TensorDesc = 480,
        /// A [`Function`].
        pub function: u32 = 640,
        /// Zero.
        pub reserved: u32 = 644,
        /// Parameter of the function.
        pub alpha: f64 = 648,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// `b` where `a`, else `c`. A masked fill is this, with a `b` of one element.
        Where = 0, "where";
        /// `a + alpha · b · c`; of floats, `alpha · b` is rounded, then one fused multiply-add.
        AddCmul = 1, "addcmul";
        /// `a + alpha · (b / c)`; of floats, the quotient is rounded, then one fused multiply-add.
        AddCdiv = 2, "addcdiv";
        /// `a + c · (b - a)`, from b's side for c ≥ ½. Floats only.
        Lerp = 3, "lerp";
        /// `min(max(a, b), c)`; NaN if one of them is.
        Clamp = 4, "clamp";
        /// `a · b + c`; of floats, one fused multiply-add.
        Fma = 5, "fma";
        /// `a` where b > 0, else `a · c`: the gradient of prelu for its input b with weight c. Floats only.
        PreluBackward = 6, "prelu_backward";
    }
}

impl Function {
    /// Whether it takes elements of a type (that of `b`).
    pub fn takes(self, dtype: DataType) -> bool {
        match self {
            Self::Where => true,
            Self::AddCmul | Self::AddCdiv | Self::Clamp | Self::Fma => dtype != DataType::Bool,
            Self::Lerp | Self::PreluBackward => is_float(dtype),
        }
    }
}

/// A checked [`Ternary`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operands 0 to 2.
    pub inputs: [Tensor; 3],
    /// Operand 3.
    pub out: Tensor,
    /// Strides of the inputs over the axes of `out`.
    pub strides: [[i64; MAX_DIMS]; 3],
    /// What is computed.
    pub function: Function,
    /// `alpha`.
    pub alpha: f64,
}

impl crate::Descriptor for Ternary {
    const INFO: Info = Info {
        opcode: opcode::TERNARY,
        name: "ternary",
        formula: "out = f(a, b, c), broadcast",
        operands: &["a", "b", "c", "out*"],
        functions: Function::ROWS,
        types: "where all; lerp and prelu_backward floats; the rest all but bool",
        backward: "ternary, binary and reduce",
        cost: "2 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "ternary";
        let sites = [
            Site::new(NAME, 0, "a"),
            Site::new(NAME, 1, "b"),
            Site::new(NAME, 2, "c"),
        ];
        let so = Site::new(NAME, 3, "out");
        rule::reserved(NAME, &[self.reserved])?;
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let a = Tensor::check(sites[0], &self.a, Role::Input)?;
        let b = Tensor::check(sites[1], &self.b, Role::Input)?;
        let c = Tensor::check(sites[2], &self.c, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        if !function.takes(b.dtype) {
            return Err(sites[1].error(format_args!(
                ".dtype is {:?}, which {} does not take",
                b.dtype,
                function.name()
            )));
        }
        let count = usize::from(matches!(function, Function::AddCmul | Function::AddCdiv));
        rule::parameters(NAME, function.name(), count, [self.alpha], b.dtype)?;
        if function == Function::Where {
            a.expect_type(sites[0], &[DataType::Bool])?;
        } else {
            a.expect_same_type(sites[0], &b, "b")?;
        }
        c.expect_same_type(sites[2], &b, "b")?;
        out.expect_same_type(so, &b, "b")?;
        let (dims, rank) = broadcast_dims(a.dims(), b.dims()).map_err(|i| {
            sites[1].error(format_args!(
                ": axis {i} of the result does not broadcast with that of a"
            ))
        })?;
        let (dims, rank) = broadcast_dims(&dims[..rank], c.dims()).map_err(|i| {
            sites[2].error(format_args!(
                ": axis {i} of the result does not broadcast with that of a and b"
            ))
        })?;
        let dims = &dims[..rank];
        out.expect_dims(so, dims, "the inputs broadcast to")?;
        let inputs = [a, b, c];
        let mut strides = [[0; MAX_DIMS]; 3];
        for (i, input) in inputs.iter().enumerate() {
            strides[i] = input.broadcast(sites[i], dims)?;
            out.refuse_overlap(so, input, sites[i].name, true)?;
        }
        Ok(Checked {
            inputs,
            out,
            strides,
            function,
            alpha: self.alpha,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements.saturating_mul(2),
            read: self
                .inputs
                .iter()
                .fold(0, |s, t| t.footprint().saturating_add(s)),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
