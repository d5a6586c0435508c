//! Matrix product, batched: `out = activation(alpha · a @ b + beta · out + bias)`.
//!
//! `a` is `[…, M, K]`, `b` is `[…, K, N]`, `out` is `[…, M, N]`; transposes are strides. The batch axes of `a` and `b` broadcast to those of
//! `out`. With `beta` 0, `out` is not read. K = 0 gives `activation(beta · out + bias)`.
//!
//! Products of f32 and f16 are accumulated in f32 (f64 in f64) in blocks of [`K_BLOCK`] along K, each from zero in ascending order with fused
//! multiply-adds; blocks are added in order. bf16 is accumulated in f32 in blocks of [`BF16_BLOCK`], in pairs along K of which the odd
//! element comes first. So an element's value depends on nothing but its row, its column and the scalars, on every host, and denormal
//! numbers count. Bytes, signed or not, are accumulated in i32, i16 in i32 or in i64, and wrap around.
//!
//! Quantised bytes: `a` and `b` have a scale and an offset, `b` may have scales (and no offsets) of its columns. The sum of
//! `(a - a.offset) · (b - b.offset)` is taken in i32, converted to f32 and multiplied by the f32 product of the scales; alpha, bias and activation
//! follow in f32. `out` is F32, F16 or BF16, or quantised as a whole: then the number is divided by `out.scale`, rounded with ties to even, and
//! saturated behind the offset's addition; `bias` is F32 then, and `beta` 0.

use vmlu_abi::tensor::{DataType, TensorDesc, MAX_DIMS};

use crate::cost::{Class, Cost};
use crate::quant::{self, Quant};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{broadcast_dims, Role, Tensor};

/// Elements along K that are accumulated before they are added to the result: part of the definition of the result's rounding.
pub const K_BLOCK: u64 = 512;
/// The same for bf16.
pub const BF16_BLOCK: u64 = 1024;
/// Largest K of a product of i16 with i64 sums.
pub const MAX_K_I64: u64 = 1 << 23;

descriptor! {
    /// Body of `opcode::MATMUL`.
    pub struct Matmul : 664 {
        /// Operand 0: `[…, M, K]`; F32, F16, BF16, F64, I16, I8 or U8.
        pub a: TensorDesc = 0,
        /// Operand 1: `[…, K, N]`, of `a`'s type; with bytes, signed or not as it likes.
        pub b: TensorDesc = 160,
        /// Operand 2, written: `[…, M, N]`, of `a`'s type; F32 also for F16 and BF16; I32 for bytes; I32 or I64 for I16; floats, I8 or U8 for quantised bytes.
        pub out: TensorDesc = 320,
        /// Operand 3, may be absent: broadcasts to `out`, of `out`'s type.
        pub bias: TensorDesc = 480,
        /// Factor of the product; 1 for integers that are not quantised.
        pub alpha: f64 = 640,
        /// Factor of the old `out`; 0 or 1 for integers.
        pub beta: f64 = 648,
        /// An [`Activation`].
        pub activation: u32 = 656,
        /// Zero.
        pub reserved: u32 = 660,
    }
}

functions! {
    /// What is applied to the result.
    pub enum Activation {
        /// Nothing.
        None = 0, "none";
        /// `max(x, 0)`; NaN stays NaN.
        Relu = 1, "relu";
        /// `x` clamped to 0 … 6; NaN stays NaN. Floats only, as all that follow.
        Relu6 = 2, "relu6";
        /// `x · Φ(x)`, by erf.
        Gelu = 3, "gelu";
        /// `x · Φ(x)`, by the approximation with tanh.
        GeluTanh = 4, "gelu_tanh";
        /// `x / (1 + e⁻ˣ)`.
        Silu = 5, "silu";
        /// `1 / (1 + e⁻ˣ)`.
        Sigmoid = 6, "sigmoid";
        /// Hyperbolic tangent.
        Tanh = 7, "tanh";
    }
}

/// A checked [`Matmul`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub a: Tensor,
    /// Operand 1.
    pub b: Tensor,
    /// Operand 2.
    pub out: Tensor,
    /// Operand 3.
    pub bias: Option<Tensor>,
    /// Strides of `a`, `b` and `bias` over the batch axes of `out`; of `bias` over all of its axes.
    pub batch_strides: [[i64; MAX_DIMS]; 3],
    /// Rows.
    pub m: u64,
    /// Columns.
    pub n: u64,
    /// Inner dimension.
    pub k: u64,
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of the old result.
    pub beta: f64,
    /// Applied last.
    pub activation: Activation,
    /// What bytes stand for, if they are quantised.
    pub quantised: Option<Quantised>,
}

/// What the bytes of a quantised product stand for.
#[derive(Clone, Copy, Debug)]
pub struct Quantised {
    /// Scale and offset of the first operand.
    pub a: (f32, i32),
    /// Scale of the second; 1 if it has scales of its channels.
    pub b: (f32, i32),
    /// Scales of the second operand's channels.
    pub channels: Option<Tensor>,
    /// Scale and offset of the result; `None` for floats.
    pub out: Option<(f32, i32)>,
}

impl Quantised {
    /// Takes what three operands say; `axis` is the second one's axis of channels. `None` if none is quantised.
    pub(crate) fn of(
        [sa, sb, so]: [Site; 3],
        quants: [Option<Quant>; 3],
        axis: usize,
    ) -> Result<Option<Self>, RuleError> {
        let [a, b, out] = quants;
        let (a, b) = match (a, b) {
            (None, None) if out.is_none() => return Ok(None),
            (None, _) => return Err(sa.error(" is not quantised, but another operand is")),
            (_, None) => return Err(sb.error(" is not quantised, but another operand is")),
            (Some(a), Some(b)) => (a, b),
        };
        let whole = |site: Site, quant: Quant| match quant {
            Quant::Tensor { scale, offset } => Ok((scale, offset)),
            Quant::Channels { .. } => Err(site.error(" has per-channel scales, must have one")),
        };
        let (b, channels) = match b {
            Quant::Tensor { scale, offset } => ((scale, offset), None),
            Quant::Channels {
                axis: of,
                scales,
                offsets: None,
            } if of == axis => ((1.0, 0), Some(scales)),
            Quant::Channels {
                offsets: Some(_), ..
            } => return Err(sb.error(" has per-channel offsets, may have scales only")),
            Quant::Channels { axis: of, .. } => {
                return Err(sb.error(format_args!(".channel_axis is {of}, must be {axis}")))
            }
        };
        Ok(Some(Self {
            a: whole(sa, a)?,
            b,
            channels,
            out: out.map(|q| whole(so, q)).transpose()?,
        }))
    }
}

impl crate::Descriptor for Matmul {
    const INFO: Info = Info {
        opcode: opcode::MATMUL,
        name: "matmul",
        formula: "out = activation(alpha · a @ b + beta · out + bias)",
        operands: &["a", "b", "out*", "bias?"],
        functions: Activation::ROWS,
        types: "f32, f16, bf16 (out also f32), f64, i8 and u8 (out i32; quantised: floats, i8, u8), i16 (out i32, i64)",
        backward: "matmul of transposed operands; bias: reduce sum",
        cost: "2·M·N·K per batch element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        let [sa, sb, so, sbias] = ["a", "b", "out", "bias"].map(|n| Site::new("matmul", 0, n));
        let (sb, so, sbias) = (
            Site { operand: 1, ..sb },
            Site { operand: 2, ..so },
            Site {
                operand: 3,
                ..sbias
            },
        );
        rule::reserved("matmul", &[self.reserved])?;
        let activation = Activation::from_raw(self.activation).ok_or_else(|| {
            rule::error(
                "matmul",
                format_args!("activation {} is unknown", self.activation),
            )
        })?;
        let (a, qa) = quant::check(sa, &self.a, Role::Input)?;
        let (b, qb) = quant::check(sb, &self.b, Role::Input)?;
        let (out, qo) = quant::check(so, &self.out, Role::Output)?;
        let bias = Tensor::check_optional(sbias, &self.bias, Role::Input)?;
        let axis = b.rank().wrapping_sub(1);
        let quantised = Quantised::of([sa, sb, so], [qa, qb, qo], axis)?;
        let (sites, bias_of) = ([sa, sb, so, sbias], bias.as_ref());
        match &quantised {
            None => self.check_types(&a, &b, &out, bias_of, sites)?,
            Some(q) => {
                quantised_types(q, [&a, &b, &out], bias_of, sites)?;
                if q.out.is_some() && self.beta != 0.0 {
                    return Err(rule::error("matmul", "a quantised out takes beta 0 only"));
                }
                if let Some(scales) = &q.channels {
                    out.refuse_overlap(so, scales, "b's scales", false)?;
                }
            }
        }

        for (site, t) in [(sa, &a), (sb, &b), (so, &out)] {
            if t.rank() < 2 {
                return Err(site.error(format_args!(".rank is {}, at least 2", t.rank())));
            }
        }
        let (ra, rb) = (a.rank() - 2, b.rank() - 2);
        let (m, k, n) = (a.dims()[ra], a.dims()[ra + 1], b.dims()[rb + 1]);
        if b.dims()[rb] != k {
            return Err(sb.error(format_args!(
                ".dims[{rb}] is {}, but a.dims[{}] is {k}",
                b.dims()[rb],
                ra + 1
            )));
        }
        if out.dtype == DataType::I64 && k > MAX_K_I64 {
            return Err(sa.error(format_args!(
                ".dims[{}] is {k}, at most {MAX_K_I64} for I64 sums",
                ra + 1
            )));
        }
        let (mut dims, batch) = broadcast_dims(&a.dims()[..ra], &b.dims()[..rb]).map_err(|i| {
            sb.error(format_args!(
                ": batch axis {i} does not broadcast with that of a"
            ))
        })?;
        dims[batch] = m;
        dims[batch + 1] = n;
        let dims = &dims[..batch + 2];
        out.expect_dims(so, dims, "the product is")?;
        out.refuse_overlap(so, &a, "a", false)?;
        out.refuse_overlap(so, &b, "b", false)?;
        let mut batch_strides = [[0; MAX_DIMS]; 3];
        for (t, to) in [&a, &b].into_iter().zip(&mut batch_strides) {
            let shift = out.rank() - t.rank();
            for i in 0..t.rank() - 2 {
                if t.dims()[i] > 1 {
                    to[shift + i] = t.strides()[i];
                }
            }
        }
        if let Some(bias) = &bias {
            batch_strides[2] = bias.broadcast(sbias, dims)?;
            out.refuse_overlap(so, bias, "bias", false)?;
        }
        Ok(Checked {
            a,
            b,
            out,
            bias,
            batch_strides,
            m,
            n,
            k,
            alpha: self.alpha,
            beta: self.beta,
            activation,
            quantised,
        })
    }
}

/// Types of a quantised product.
pub(crate) fn quantised_types(
    quantised: &Quantised,
    [a, b, out]: [&Tensor; 3],
    bias: Option<&Tensor>,
    [sa, sb, so, sbias]: [Site; 4],
) -> Result<(), RuleError> {
    use DataType::{Bf16, F16, F32, I8, U8};
    a.expect_type(sa, &[I8, U8])?;
    b.expect_type(sb, &[I8, U8])?;
    match quantised.out {
        Some(_) => out.expect_type(so, &[I8, U8])?,
        None => out.expect_type(so, &[F32, F16, Bf16])?,
    }
    match (bias, quantised.out) {
        (Some(bias), Some(_)) => bias.expect_type(sbias, &[F32]),
        (Some(bias), None) => bias.expect_same_type(sbias, out, "out"),
        (None, _) => Ok(()),
    }
}

impl Matmul {
    fn check_types(
        &self,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
        bias: Option<&Tensor>,
        [sa, sb, so, sbias]: [Site; 4],
    ) -> Result<(), RuleError> {
        use DataType::{Bf16, F16, F32, F64, I16, I32, I64, I8, U8};
        a.expect_type(sa, &[F32, F16, Bf16, F64, I16, I8, U8])?;
        let bytes = [I8, U8];
        if bytes.contains(&a.dtype) {
            b.expect_type(sb, &bytes)?;
        } else {
            b.expect_same_type(sb, a, "a")?;
        }
        match a.dtype {
            I8 | U8 => out.expect_type(so, &[I32])?,
            I16 => out.expect_type(so, &[I32, I64])?,
            F16 | Bf16 => out.expect_type(so, &[a.dtype, F32])?,
            F64 => out.expect_type(so, &[F64])?,
            _ => out.expect_type(so, &[F32])?,
        }
        if let Some(bias) = bias {
            bias.expect_same_type(sbias, out, "out")?;
        }
        if crate::tensor::is_float(out.dtype) {
            return Ok(());
        }
        if self.alpha != 1.0 || (self.beta != 0.0 && self.beta != 1.0) {
            return Err(rule::error(
                "matmul",
                "integers take alpha 1 and beta 0 or 1 only",
            ));
        }
        if self.activation > Activation::Relu.raw() {
            return Err(rule::error(
                "matmul",
                "integers take the activations none and relu only",
            ));
        }
        Ok(())
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let class = match self.a.dtype {
            DataType::F16 | DataType::Bf16 => Class::F16,
            DataType::I8 | DataType::U8 => Class::I8,
            DataType::I16 => Class::I16,
            _ => Class::F32,
        };
        let old = if self.beta == 0.0 {
            0
        } else {
            self.out.footprint()
        };
        let bias = self.bias.map_or(0, |b| b.footprint());
        Cost {
            operations: self.out.elements.saturating_mul(self.k).saturating_mul(2),
            class,
            read: [self.a.footprint(), self.b.footprint(), old, bias]
                .iter()
                .fold(0, |s, v| s.saturating_add(*v)),
            written: self.out.footprint(),
        }
    }
}
