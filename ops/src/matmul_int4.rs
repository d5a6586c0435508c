//! Matrix product with weights of four bits: `out = activation(alpha · a @ (scale · (w - zero)) + bias)`.
//!
//! `a` is `[M, K]`, `w` `[K, N]`, `out` `[M, N]`. `w` is of type I4 (-8 to 7) or U4 (0 to 15), two elements an octet, the one of the lower index in
//! the lower half; its strides count elements: one of them is 1, the other even, and its address is that of an octet. So it is stored by rows
//! of `[K, N]`, or, with strides `[1, K]`, by rows of `[N, K]`, as linear layers have it.
//!
//! `scales` is `[⌈K / group⌉, N]`: each `group` elements along K of a column have a scale, and a zero point if there are `zeros`. A `group` of 0
//! is all of K: scales of columns. A weight is the f32 product of its scale and the exact difference; sums are those of [`crate::matmul`] of
//! f32, whatever `a`'s type.

use vmlu_abi::tensor::{reserved_type, DataType, TensorDesc};

use crate::conv::{activation, bytes, class};
use crate::cost::Cost;
use crate::matmul::Activation;
use crate::nibbles;
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{transposed, Role, Tensor};

descriptor! {
    /// Body of `opcode::MATMUL_INT4`.
    pub struct MatmulInt4 : 976 {
        /// Operand 0: `[M, K]`; F32, F16 or BF16.
        pub a: TensorDesc = 0,
        /// Operand 1: `[K, N]`; I4 or U4.
        pub w: TensorDesc = 160,
        /// Operand 2: `[⌈K / group⌉, N]`; F32 or `a`'s type.
        pub scales: TensorDesc = 320,
        /// Operand 3, may be absent: `[⌈K / group⌉, N]`, I8.
        pub zeros: TensorDesc = 480,
        /// Operand 4, written: `[M, N]`, of `a`'s type or F32.
        pub out: TensorDesc = 640,
        /// Operand 5, may be absent: `[N]`, of `out`'s type.
        pub bias: TensorDesc = 800,
        /// Factor of the product.
        pub alpha: f64 = 960,
        /// An `Activation` of `matmul`.
        pub activation: u32 = 968,
        /// Elements along K that share a scale, an even number; 0 for all.
        pub group: u32 = 972,
    }
}

/// A checked [`MatmulInt4`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub a: Tensor,
    /// Operand 1, as octets: `[K, ⌈N / 2⌉]`, or `[N, ⌈K / 2⌉]` if `along`.
    pub w: Tensor,
    /// Whether neighbours along K share octets, not neighbours along N.
    pub along: bool,
    /// Whether weights have a sign.
    pub signed: bool,
    /// Operand 2.
    pub scales: Tensor,
    /// Operand 3.
    pub zeros: Option<Tensor>,
    /// Operand 4.
    pub out: Tensor,
    /// Operand 5.
    pub bias: Option<Tensor>,
    /// Factor of the product.
    pub alpha: f64,
    /// Applied last.
    pub activation: Activation,
    /// Elements along K that share a scale; above 0.
    pub group: u64,
}

/// Four-bit weights as octets; whether they have a sign, and whether neighbours along the first axis share octets.
fn octets(site: Site, desc: &TensorDesc) -> Result<(Tensor, bool, bool), RuleError> {
    let (octets, axis) = nibbles::octets(site, desc)?;
    if desc.rank != 2 {
        return Err(site.error(format_args!(".rank is {}, must be 2", desc.rank)));
    }
    let along = axis == 0;
    let octets = if along {
        transposed(octets, 0, 1)
    } else {
        octets
    };
    let signed = desc.dtype == reserved_type::I4;
    Ok((Tensor::check(site, &octets, Role::Input)?, signed, along))
}

impl crate::Descriptor for MatmulInt4 {
    const INFO: Info = Info {
        opcode: opcode::MATMUL_INT4,
        name: "matmul_int4",
        formula: "out = activation(alpha · a @ (scale · (w - zero)) + bias)",
        operands: &["a", "w", "scales", "zeros?", "out*", "bias?"],
        functions: &[],
        types: "f32, f16, bf16 (out also f32) with weights i4, u4",
        backward: "none: weights are constant",
        cost: "2·M·N·K",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        use DataType::{Bf16, F16, F32, I8};
        const NAME: &str = "matmul_int4";
        let [sa, sw, ss, sz, so, sb] = [
            (0, "a"),
            (1, "w"),
            (2, "scales"),
            (3, "zeros"),
            (4, "out"),
            (5, "bias"),
        ]
        .map(|(i, n)| Site::new(NAME, i, n));
        let activation = activation(NAME, self.activation)?;
        let a = Tensor::check(sa, &self.a, Role::Input)?;
        let (w, signed, along) = octets(sw, &self.w)?;
        let scales = Tensor::check(ss, &self.scales, Role::Input)?;
        let zeros = Tensor::check_optional(sz, &self.zeros, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let bias = Tensor::check_optional(sb, &self.bias, Role::Input)?;
        a.expect_type(sa, &[F32, F16, Bf16])?;
        scales.expect_type(ss, &[F32, a.dtype])?;
        out.expect_type(so, &[a.dtype, F32])?;
        a.expect_rank(sa, 2)?;
        let ([m, k], [rows, n]) = ([a.dims()[0], a.dims()[1]], [self.w.dims[0], self.w.dims[1]]);
        if rows != k {
            return Err(sw.error(format_args!(".dims[0] is {rows}, but a.dims[1] is {k}")));
        }
        let group = match u64::from(self.group) {
            0 => k.max(1),
            odd if odd % 2 != 0 => {
                return Err(crate::rule::error(
                    NAME,
                    format_args!("group is {odd}, must be even"),
                ))
            }
            group => group,
        };
        let table = [k.div_ceil(group), n];
        scales.expect_dims(ss, &table, "a, w and group say")?;
        out.expect_dims(so, &[m, n], "a and w say")?;
        if let Some(zeros) = &zeros {
            zeros.expect_type(sz, &[I8])?;
            zeros.expect_dims(sz, &table, "scales are")?;
        }
        if let Some(bias) = &bias {
            bias.expect_same_type(sb, &out, "out")?;
            bias.expect_dims(sb, &[n], "w says")?;
        }
        let others = [
            Some(&a),
            Some(&w),
            Some(&scales),
            zeros.as_ref(),
            bias.as_ref(),
        ];
        for (other, name) in others.iter().zip(["a", "w", "scales", "zeros", "bias"]) {
            if let Some(other) = other {
                out.refuse_overlap(so, other, name, false)?;
            }
        }
        Ok(Checked {
            a,
            w,
            along,
            signed,
            scales,
            zeros,
            out,
            bias,
            alpha: self.alpha,
            activation,
            group,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let k = self.a.dims()[1];
        let read = [
            Some(&self.a),
            Some(&self.w),
            Some(&self.scales),
            self.zeros.as_ref(),
            self.bias.as_ref(),
        ];
        Cost {
            operations: self.out.elements.saturating_mul(k).saturating_mul(2),
            class: class(self.a.dtype),
            read: bytes(&read),
            written: self.out.footprint(),
        }
    }
}
