//! Gradient of [`crate::attention`], without the matrix of scores in memory.
//!
//! With `P` the weights, which `lse` and the operands of the forward pass give again, and `D` the sum of `dout · out` along the last axis: `dv = Pᵀ @ dout`,
//! `dS = P · (dout @ vᵀ - D)`, `dq = scale · dS @ k`, `dk = scale · dSᵀ @ q`; `dk` and `dv` are sums over the heads that share keys. Keys beyond
//! `lengths` have the gradient 0, as has a query that sees no key.
//!
//! With `table`, `dk` and `dv` are `[pages, groups, page, width]` as `k` and `v` are: a page has the sum over all its entries in `table` that have keys which
//! count, and 0 if there are none. `dmask` is `dS`, summed over the axes along which the mask repeats by its shape; where a query does not look it is 0.
//!
//! Products are those of [`crate::matmul`], `P` and `dS` are computed in f32, and rounded to bf16 before they meet another operand of bf16. Sums go over
//! blocks of [`crate::attention::KEY_BLOCK`] keys or queries in order, heads one after the other, and for a page the entries of `table` in order.
//! `dmask` is summed in f32: queries of a block of [`QUERIES`], blocks of queries, heads, and batch elements, one after the other.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::attention::{self, Attention, Causal};
use crate::conv::{bytes, class};
use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{absent, Role, Tensor, INDICES};

/// Queries that are computed together: part of the definition of the rounding of `dmask`.
pub const QUERIES: usize = 192;

descriptor! {
    /// Body of `opcode::ATTENTION_BACKWARD`.
    pub struct AttentionBackward : 2096 {
        /// Operand 0: `[batch, heads, queries, width]`; F32, F16 or BF16.
        pub q: TensorDesc = 0,
        /// Operand 1: `[batch, groups, keys, width]`, or `[pages, groups, page, width]`; of `q`'s type, as are all others of which nothing else is
        /// said.
        pub k: TensorDesc = 160,
        /// Operand 2: as `k`, the last axis of any size.
        pub v: TensorDesc = 320,
        /// Operand 3: the result, `[batch, heads, queries, width of v]`.
        pub out: TensorDesc = 480,
        /// Operand 4: its gradient, of its shape.
        pub dout: TensorDesc = 640,
        /// Operand 5: `[batch, heads, queries]`, F32, as `attention` gives it.
        pub lse: TensorDesc = 800,
        /// Operand 6, may be absent: as for `attention`.
        pub mask: TensorDesc = 960,
        /// Operand 7, may be absent: as for `attention`.
        pub lengths: TensorDesc = 1120,
        /// Operand 8, written: gradient of `q`, of its shape.
        pub dq: TensorDesc = 1280,
        /// Operand 9, written: gradient of `k`, of its shape.
        pub dk: TensorDesc = 1440,
        /// Operand 10, written: gradient of `v`, of its shape.
        pub dv: TensorDesc = 1600,
        /// Operand 11, may be absent: as for `attention`.
        pub table: TensorDesc = 1760,
        /// Operand 12, written, may be absent: gradient of `mask`, which is not Bool, of its shape and type.
        pub dmask: TensorDesc = 1920,
        /// Factor of the scores.
        pub scale: f64 = 2080,
        /// A `Causal` of `attention`.
        pub causal: u32 = 2088,
        /// Zero.
        pub reserved: u32 = 2092,
    }
}

/// A checked [`AttentionBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub q: Tensor,
    /// Operand 1.
    pub k: Tensor,
    /// Operand 2.
    pub v: Tensor,
    /// Operand 3.
    pub out: Tensor,
    /// Operand 4.
    pub dout: Tensor,
    /// Operand 5.
    pub lse: Tensor,
    /// Operand 6, and its strides over `[batch, heads, queries, keys]`.
    pub mask: Option<(Tensor, [i64; 4])>,
    /// Operand 7.
    pub lengths: Option<Tensor>,
    /// Operand 8.
    pub dq: Tensor,
    /// Operand 9.
    pub dk: Tensor,
    /// Operand 10.
    pub dv: Tensor,
    /// Operand 11.
    pub table: Option<Tensor>,
    /// Operand 12.
    pub dmask: Option<MaskGradient>,
    /// Keys of a batch element, at most.
    pub keys: u64,
    /// Factor of the scores.
    pub scale: f64,
    /// Which keys a query sees.
    pub causal: Causal,
}

/// The gradient of the mask, seen over `[batch, heads, queries, keys]`.
#[derive(Clone, Copy, Debug)]
pub struct MaskGradient {
    /// The operand.
    pub tensor: Tensor,
    /// Its strides.
    pub strides: [i64; 4],
    /// Axes that it has; it is a sum over the others.
    pub kept: [bool; 4],
}

impl AttentionBackward {
    /// The gradient of an attention, whose `out` and `lse` are there, from `dout` to `[dq, dk, dv]`; that of its mask is not asked for.
    pub fn of(forward: &Attention, dout: TensorDesc, [dq, dk, dv]: [TensorDesc; 3]) -> Self {
        Self {
            q: forward.q,
            k: forward.k,
            v: forward.v,
            out: forward.out,
            dout,
            lse: forward.lse,
            mask: forward.mask,
            lengths: forward.lengths,
            dq,
            dk,
            dv,
            table: forward.table,
            dmask: absent(),
            scale: forward.scale,
            causal: forward.causal,
            reserved: 0,
        }
    }
}

impl crate::Descriptor for AttentionBackward {
    const INFO: Info = Info {
        opcode: opcode::ATTENTION_BACKWARD,
        name: "attention_backward",
        formula: "dq, dk, dv, dmask = gradients of attention",
        operands: &[
            "q", "k", "v", "out", "dout", "lse", "mask?", "lengths?", "dq*", "dk*", "dv*",
            "table?", "dmask*?",
        ],
        functions: Causal::ROWS,
        types: "f32, f16, bf16",
        backward: "none",
        cost: "2 · queries · keys · (3 · width of k + 2 · width of v) per head, and once more both widths for dmask",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        use DataType::{Bf16, Bool, F16, F32};
        const NAME: &str = "attention_backward";
        let site = |i: u16| {
            Site::new(
                NAME,
                i,
                Self::INFO.operands[i as usize].trim_end_matches(['*', '?']),
            )
        };
        rule::reserved(NAME, &[self.reserved])?;
        let causal = Causal::from_raw(self.causal)
            .ok_or_else(|| rule::error(NAME, format_args!("causal {} is unknown", self.causal)))?;
        let input = |i: u16, desc| Tensor::check(site(i), desc, Role::Input);
        let output = |i: u16, desc| Tensor::check(site(i), desc, Role::Output);
        let (q, k, v) = (input(0, &self.q)?, input(1, &self.k)?, input(2, &self.v)?);
        let (out, dout, lse) = (
            input(3, &self.out)?,
            input(4, &self.dout)?,
            input(5, &self.lse)?,
        );
        let mask = Tensor::check_optional(site(6), &self.mask, Role::Input)?;
        let lengths = Tensor::check_optional(site(7), &self.lengths, Role::Input)?;
        let (dq, dk, dv) = (
            output(8, &self.dq)?,
            output(9, &self.dk)?,
            output(10, &self.dv)?,
        );
        q.expect_type(site(0), &[F32, F16, Bf16])?;
        let all = [
            (1, &k),
            (2, &v),
            (3, &out),
            (4, &dout),
            (8, &dq),
            (9, &dk),
            (10, &dv),
        ];
        for (i, t) in all {
            t.expect_same_type(site(i), &q, "q")?;
        }
        let table = Tensor::check_optional(site(11), &self.table, Role::Input)?;
        let dmask = Tensor::check_optional(site(12), &self.dmask, Role::Output)?;
        let keys = attention::keys(
            (site(0), &q),
            (site(1), &k),
            (site(2), &v),
            table.as_ref().map(|t| (site(11), t)),
        )?;
        let [batch, heads, queries, _] = [0, 1, 2, 3].map(|i| q.dims()[i]);
        let columns = v.dims()[3];
        for (i, t) in [(3, &out), (4, &dout)] {
            t.expect_dims(site(i), &[batch, heads, queries, columns], "q and v say")?;
        }
        lse.expect_type(site(5), &[F32])?;
        lse.expect_dims(site(5), &q.dims()[..3], "q says")?;
        dq.expect_dims(site(8), q.dims(), "q is")?;
        dk.expect_dims(site(9), k.dims(), "k is")?;
        dv.expect_dims(site(10), v.dims(), "v is")?;
        if let Some(lengths) = &lengths {
            lengths.expect_type(site(7), &INDICES[..1])?;
            lengths.expect_dims(site(7), &[batch], "q says")?;
        }
        let mask = match mask {
            None => None,
            Some(mask) => {
                mask.expect_type(site(6), &[Bool, F32, q.dtype])?;
                let all = mask.broadcast(site(6), &[batch, heads, queries, keys])?;
                Some((mask, [all[0], all[1], all[2], all[3]]))
            }
        };
        let dmask = match dmask {
            None => None,
            Some(tensor) => Some(mask_gradient(
                (site(12), tensor),
                (site(6), mask.as_ref().map(|m| &m.0)),
                [batch, heads, queries, keys],
            )?),
        };
        let inputs = [
            Some((&q, "q")),
            Some((&k, "k")),
            Some((&v, "v")),
            Some((&out, "out")),
            Some((&dout, "dout")),
            Some((&lse, "lse")),
            mask.as_ref().map(|m| (&m.0, "mask")),
            lengths.as_ref().map(|t| (t, "lengths")),
            table.as_ref().map(|t| (t, "table")),
        ];
        let outputs = [
            Some((8, &dq, "dq")),
            Some((9, &dk, "dk")),
            Some((10, &dv, "dv")),
            dmask.as_ref().map(|m| (12, &m.tensor, "dmask")),
        ];
        for (n, (i, t, _)) in outputs.iter().flatten().enumerate() {
            let before = outputs.iter().flatten().take(n).map(|o| (o.1, o.2));
            for (other, name) in inputs.iter().flatten().copied().chain(before) {
                t.refuse_overlap(site(*i), other, name, false)?;
            }
        }
        Ok(Checked {
            q,
            k,
            v,
            out,
            dout,
            lse,
            mask,
            lengths,
            dq,
            dk,
            dv,
            table,
            dmask,
            keys,
            scale: self.scale,
            causal,
        })
    }
}

/// Checks the gradient of a mask.
fn mask_gradient(
    (site, tensor): (Site, Tensor),
    (mask_site, mask): (Site, Option<&Tensor>),
    dims: [u64; 4],
) -> Result<MaskGradient, RuleError> {
    let Some(mask) = mask else {
        return Err(mask_site.error(" is absent, but dmask is its gradient"));
    };
    if mask.dtype == DataType::Bool {
        return Err(mask_site.error(" is Bool, which has no gradient"));
    }
    tensor.expect_same_type(site, mask, "mask")?;
    tensor.expect_dims(site, mask.dims(), "mask is")?;
    let strides = tensor.broadcast(site, &dims)?;
    let missing = 4 - tensor.rank();
    Ok(MaskGradient {
        tensor,
        strides: [0, 1, 2, 3].map(|i| strides[i]),
        kept: [0, 1, 2, 3].map(|i| i >= missing && tensor.dims()[i - missing] == dims[i]),
    })
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let rows = self.q.dims()[..3]
            .iter()
            .fold(2u64, |p, d| p.saturating_mul(*d));
        let [width, columns] = [self.q.dims()[3], self.v.dims()[3]];
        let widths = match self.dmask {
            None => 3 * width + 2 * columns,
            Some(_) => 4 * width + 3 * columns,
        };
        Cost {
            operations: rows.saturating_mul(self.keys).saturating_mul(widths),
            class: class(self.q.dtype),
            read: bytes(&[
                Some(&self.q),
                Some(&self.k),
                Some(&self.v),
                Some(&self.out),
                Some(&self.dout),
                Some(&self.lse),
                self.mask.as_ref().map(|m| &m.0),
            ]),
            written: bytes(&[
                Some(&self.dq),
                Some(&self.dk),
                Some(&self.dv),
                self.dmask.as_ref().map(|m| &m.tensor),
            ]),
        }
    }
}
