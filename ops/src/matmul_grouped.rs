//! Matrix products of groups of rows, each with a matrix of its own: `out[rows of g] = activation(alpha · a[rows of g] @ b[g] + bias[g])`.
//!
//! `a` is `[rows, K]`, `b` `[groups, K, N]`, `out` `[rows, N]`. Group `g` has the rows from `ends[g - 1]` (0 for the first) up to `ends[g]`; ends do
//! not decrease. Rows behind the last end are not written. Each product is as in [`crate::matmul`].

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::conv::{activation, bytes, class};
use crate::cost::Cost;
use crate::matmul::Activation;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

/// Most groups: the card keeps a copy of `ends`.
pub const MAX_GROUPS: u64 = 1 << 20;

descriptor! {
    /// Body of `opcode::MATMUL_GROUPED`.
    pub struct MatmulGrouped : 816 {
        /// Operand 0: `[rows, K]`, floats.
        pub a: TensorDesc = 0,
        /// Operand 1: `[groups, K, N]`, of `a`'s type.
        pub b: TensorDesc = 160,
        /// Operand 2: `[groups]`, I32: where each group's rows end.
        pub ends: TensorDesc = 320,
        /// Operand 3, written: `[rows, N]`, of `a`'s type; F32 also for F16 and BF16.
        pub out: TensorDesc = 480,
        /// Operand 4, may be absent: `[groups, N]`, of `out`'s type.
        pub bias: TensorDesc = 640,
        /// Factor of the products.
        pub alpha: f64 = 800,
        /// An `Activation` of `matmul`.
        pub activation: u32 = 808,
        /// Zero.
        pub reserved: u32 = 812,
    }
}

/// A checked [`MatmulGrouped`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub a: Tensor,
    /// Operand 1.
    pub b: Tensor,
    /// Operand 2.
    pub ends: Tensor,
    /// Operand 3.
    pub out: Tensor,
    /// Operand 4.
    pub bias: Option<Tensor>,
    /// Factor of the products.
    pub alpha: f64,
    /// Applied last.
    pub activation: Activation,
}

impl crate::Descriptor for MatmulGrouped {
    const INFO: Info = Info {
        opcode: opcode::MATMUL_GROUPED,
        name: "matmul_grouped",
        formula: "out[rows of g] = activation(alpha · a[rows of g] @ b[g] + bias[g])",
        operands: &["a", "b", "ends", "out*", "bias?"],
        functions: &[],
        types: "f32, f16, bf16 (out also f32), f64",
        backward: "of a: itself with b transposed; of b: a matmul per group",
        cost: "2·rows·N·K",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "matmul_grouped";
        let [sa, sb, se, so, sbias] = [(0, "a"), (1, "b"), (2, "ends"), (3, "out"), (4, "bias")]
            .map(|(i, n)| Site::new(NAME, i, n));
        rule::reserved(NAME, &[self.reserved])?;
        let activation = activation(NAME, self.activation)?;
        let a = Tensor::check(sa, &self.a, Role::Input)?;
        let b = Tensor::check(sb, &self.b, Role::Input)?;
        let ends = Tensor::check(se, &self.ends, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let bias = Tensor::check_optional(sbias, &self.bias, Role::Input)?;
        a.expect_type(sa, &FLOATS)?;
        b.expect_same_type(sb, &a, "a")?;
        ends.expect_type(se, &[DataType::I32])?;
        match a.dtype {
            DataType::F16 | DataType::Bf16 => out.expect_type(so, &[a.dtype, DataType::F32])?,
            other => out.expect_type(so, &[other])?,
        }
        a.expect_rank(sa, 2)?;
        b.expect_rank(sb, 3)?;
        let ([rows, k], [groups, _, n]) = (
            [a.dims()[0], a.dims()[1]],
            [b.dims()[0], b.dims()[1], b.dims()[2]],
        );
        b.expect_dims(sb, &[groups, k, n], "a says")?;
        if groups > MAX_GROUPS {
            return Err(sb.error(format_args!(".dims[0] is {groups}, at most {MAX_GROUPS}")));
        }
        ends.expect_dims(se, &[groups], "b says")?;
        out.expect_dims(so, &[rows, n], "a and b say")?;
        for (t, name) in [(&a, "a"), (&b, "b"), (&ends, "ends")] {
            out.refuse_overlap(so, t, name, false)?;
        }
        if let Some(bias) = &bias {
            bias.expect_same_type(sbias, &out, "out")?;
            bias.expect_dims(sbias, &[groups, n], "b says")?;
            out.refuse_overlap(so, bias, "bias", false)?;
        }
        Ok(Checked {
            a,
            b,
            ends,
            out,
            bias,
            alpha: self.alpha,
            activation,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let k = self.a.dims()[1];
        Cost {
            operations: self.out.elements.saturating_mul(k).saturating_mul(2),
            class: class(self.a.dtype),
            read: bytes(&[Some(&self.a), Some(&self.b), self.bias.as_ref()]),
            written: self.out.footprint(),
        }
    }
}
