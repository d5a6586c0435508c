//! Functions of the gamma family: `out = f(a, b)`, broadcast.
//!
//! Computed in f64, one element at a time, and rounded to the type once; so F16, BF16 and F32 are off by little more than that. F64 is off by 2⁻³⁶ at
//! most, where the result is no smaller than 2⁻¹⁰⁰.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

/// Highest order of [`Function::Polygamma`].
pub const MAX_ORDER: u32 = 32;

descriptor! {
    /// Body of `opcode::GAMMA`.
    pub struct Gamma : 488 {
        /// Operand 0: floats.
        pub a: TensorDesc = 0,
        /// Operand 1, of `a`'s type; absent for functions of one.
        pub b: TensorDesc = 160,
        /// Operand 2, written: of `a`'s type; may be exactly `a` or `b`.
        pub out: TensorDesc = 320,
        /// A [`Function`].
        pub function: u32 = 480,
        /// Of polygamma, 0 to [`MAX_ORDER`]; 0 for others.
        pub order: u32 = 484,
    }
}

functions! {
    /// What is computed.
    pub enum Function {
        /// Derivative of `order` of digamma. At 0 and negative whole numbers `∞` for odd orders, NaN for even ones but for `∓∞` at `±0`.
        Polygamma = 0, "polygamma";
        /// Lower incomplete gamma function of parameter a at b, divided by the gamma function of a. NaN where a or b is negative or both are 0 or infinite.
        Lower = 1, "igamma";
        /// Upper incomplete gamma function of parameter a at b, likewise.
        Upper = 2, "igammac";
        /// Hurwitz' zeta function: the sum of `(k + b)⁻ᵃ` over k from 0 on. `∞` where a is 1, NaN where a is less or b is negative, `∞` where b is 0.
        Zeta = 3, "zeta";
    }
}

impl Function {
    /// Whether it has a second operand.
    pub const fn is_binary(self) -> bool {
        !matches!(self, Self::Polygamma)
    }
}

/// A checked [`Gamma`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub a: Tensor,
    /// Operand 1.
    pub b: Option<Tensor>,
    /// Operand 2.
    pub out: Tensor,
    /// Strides of `a` and `b` over the axes of `out`.
    pub strides: [[i64; MAX_DIMS]; 2],
    /// What is computed.
    pub function: Function,
    /// Of polygamma.
    pub order: u32,
}

impl crate::Descriptor for Gamma {
    const INFO: Info = Info {
        opcode: opcode::GAMMA,
        name: "gamma",
        formula: "out = f(a, b), of the gamma family, broadcast",
        operands: &["a", "b?", "out*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward:
            "polygamma: that of the next order; igamma, igammac by b: unary and binary; others none",
        cost: "64 per element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "gamma";
        let [sa, sb, so] = [(0, "a"), (1, "b"), (2, "out")].map(|(i, n)| Site::new(NAME, i, n));
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(NAME, text));
        let Some(function) = Function::from_raw(self.function) else {
            return fail(format_args!("function {} is unknown", self.function));
        };
        let most = if function == Function::Polygamma {
            MAX_ORDER
        } else {
            0
        };
        if self.order > most {
            return fail(format_args!(
                "order is {}, at most {most} for {}",
                self.order,
                function.name()
            ));
        }
        let a = Tensor::check(sa, &self.a, Role::Input)?;
        let b = Tensor::check_optional(sb, &self.b, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        a.expect_type(sa, &FLOATS)?;
        out.expect_same_type(so, &a, "a")?;
        let mut strides = [a.broadcast(sa, out.dims())?, [0; MAX_DIMS]];
        out.refuse_overlap(so, &a, "a", true)?;
        match (&b, function.is_binary()) {
            (Some(b), true) => {
                b.expect_same_type(sb, &a, "a")?;
                strides[1] = b.broadcast(sb, out.dims())?;
                out.refuse_overlap(so, b, "b", true)?;
            }
            (None, false) => {}
            (given, _) => {
                let text = if given.is_some() {
                    "takes none"
                } else {
                    "needs it"
                };
                return Err(sb.error(format_args!(": {} {text}", function.name())));
            }
        }
        Ok(Checked {
            a,
            b,
            out,
            strides,
            function,
            order: self.order,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements.saturating_mul(64),
            read: self.a.footprint() + self.b.map_or(0, |b| b.footprint()),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
