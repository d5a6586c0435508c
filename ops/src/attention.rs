//! Attention: `out = softmax(scale · q @ kᵀ + mask) @ v`, without the matrix of scores in memory.
//!
//! `q` is `[batch, heads, queries, width]`, `k` `[batch, groups, keys, width]`, `v` `[batch, groups, keys, width of v]`; heads are a multiple of
//! groups, and neighbouring heads share one. With `table`, `k` and `v` are `[pages, groups, page, width]`, and key `i` of batch element `b` is
//! number `i mod page` of page `table[b, i / page]`. `lengths` tells how many keys a batch element has. A causal query sees the keys up to its own,
//! counted from the first (`start`) or so that the last query sees the last key (`end`). A query that sees no key has the result 0.
//!
//! Products are those of [`crate::matmul`]; softmax is computed in f32, over blocks of [`KEY_BLOCK`] keys in order; with bf16, weights are rounded to
//! bf16 before they meet `v`.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::conv::{bytes, class};
use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

/// Keys whose weights are computed together: part of the definition of the result's rounding.
pub const KEY_BLOCK: usize = 512;
/// Most batch elements, and most entries of `table`: the card keeps a copy of both.
pub const MAX_BATCH: u64 = 1 << 20;
/// Largest width.
pub const MAX_WIDTH: u64 = 1 << 16;

descriptor! {
    /// Body of `opcode::ATTENTION`.
    pub struct Attention : 1296 {
        /// Operand 0: `[batch, heads, queries, width]`; F32, F16 or BF16.
        pub q: TensorDesc = 0,
        /// Operand 1: `[batch, groups, keys, width]`, or `[pages, groups, page, width]`; of `q`'s type.
        pub k: TensorDesc = 160,
        /// Operand 2: as `k`, the last axis of any size; of `q`'s type.
        pub v: TensorDesc = 320,
        /// Operand 3, written: `[batch, heads, queries, width of v]`, of `q`'s type.
        pub out: TensorDesc = 480,
        /// Operand 4, may be absent: broadcasts to `[batch, heads, queries, keys]`; Bool, true where a query may look, or F32 or of `q`'s
        /// type, added to the scores.
        pub mask: TensorDesc = 640,
        /// Operand 5, may be absent: `[batch]`, I32: keys that count, at most as many as there are.
        pub lengths: TensorDesc = 800,
        /// Operand 6, may be absent: `[batch, pages of an element]`, I32.
        pub table: TensorDesc = 960,
        /// Operand 7, written, may be absent: `[batch, heads, queries]`, F32: the logarithm of the sum of each query's exponentials.
        pub lse: TensorDesc = 1120,
        /// Factor of the scores.
        pub scale: f64 = 1280,
        /// A [`Causal`].
        pub causal: u32 = 1288,
        /// Zero.
        pub reserved: u32 = 1292,
    }
}

functions! {
    /// Which keys a query sees.
    pub enum Causal {
        /// All.
        None = 0, "none";
        /// Query `i` sees keys 0 to `i`.
        Start = 1, "start";
        /// Query `i` sees keys 0 to `i + keys - queries`.
        End = 2, "end";
    }
}

impl Causal {
    /// How many of `keys` keys a query of `queries` sees; they are the first.
    pub fn visible(self, query: usize, queries: usize, keys: usize) -> usize {
        match self {
            Self::None => keys,
            Self::Start => (query + 1).min(keys),
            Self::End => (query + 1 + keys).saturating_sub(queries).min(keys),
        }
    }
}

/// A checked [`Attention`].
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
    /// Operand 4, and its strides over `[batch, heads, queries, keys]`.
    pub mask: Option<(Tensor, [i64; 4])>,
    /// Operand 5.
    pub lengths: Option<Tensor>,
    /// Operand 6.
    pub table: Option<Tensor>,
    /// Operand 7.
    pub lse: Option<Tensor>,
    /// Keys of a batch element, at most.
    pub keys: u64,
    /// Factor of the scores.
    pub scale: f64,
    /// Which keys a query sees.
    pub causal: Causal,
}

impl crate::Descriptor for Attention {
    const INFO: Info = Info {
        opcode: opcode::ATTENTION,
        name: "attention",
        formula: "out = softmax(scale · q @ kᵀ + mask) @ v",
        operands: &[
            "q", "k", "v", "out*", "mask?", "lengths?", "table?", "lse*?",
        ],
        functions: Causal::ROWS,
        types: "f32, f16, bf16",
        backward: "attention_backward",
        cost: "2 · queries · keys · (width of k + width of v) per head",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        use DataType::{Bf16, Bool, F16, F32};
        const NAME: &str = "attention";
        let [sq, sk, sv, so, sm, sn, st, sl] =
            ["q", "k", "v", "out", "mask", "lengths", "table", "lse"]
                .map(|name| Site::new(NAME, 0, name));
        let site = |s: Site, operand: u16| Site { operand, ..s };
        let (sk, sv, so, sm) = (site(sk, 1), site(sv, 2), site(so, 3), site(sm, 4));
        let (sn, st, sl) = (site(sn, 5), site(st, 6), site(sl, 7));
        rule::reserved(NAME, &[self.reserved])?;
        let causal = Causal::from_raw(self.causal)
            .ok_or_else(|| rule::error(NAME, format_args!("causal {} is unknown", self.causal)))?;
        let q = Tensor::check(sq, &self.q, Role::Input)?;
        let k = Tensor::check(sk, &self.k, Role::Input)?;
        let v = Tensor::check(sv, &self.v, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let mask = Tensor::check_optional(sm, &self.mask, Role::Input)?;
        let lengths = Tensor::check_optional(sn, &self.lengths, Role::Input)?;
        let table = Tensor::check_optional(st, &self.table, Role::Input)?;
        let lse = Tensor::check_optional(sl, &self.lse, Role::Output)?;
        q.expect_type(sq, &[F32, F16, Bf16])?;
        for (s, t) in [(sk, &k), (sv, &v), (so, &out)] {
            t.expect_same_type(s, &q, "q")?;
        }
        let keys = keys(
            (sq, &q),
            (sk, &k),
            (sv, &v),
            table.as_ref().map(|t| (st, t)),
        )?;
        let [batch, heads, queries, _] = [0, 1, 2, 3].map(|i| q.dims()[i]);
        out.expect_dims(so, &[batch, heads, queries, v.dims()[3]], "q and v say")?;
        if let Some(lengths) = &lengths {
            lengths.expect_type(sn, &INDICES[..1])?;
            lengths.expect_dims(sn, &[batch], "q says")?;
        }
        let mask = match mask {
            None => None,
            Some(mask) => {
                mask.expect_type(sm, &[Bool, F32, q.dtype])?;
                let all = mask.broadcast(sm, &[batch, heads, queries, keys])?;
                out.refuse_overlap(so, &mask, "mask", false)?;
                Some((mask, [all[0], all[1], all[2], all[3]]))
            }
        };
        for (t, name) in [(&q, "q"), (&k, "k"), (&v, "v")] {
            out.refuse_overlap(so, t, name, false)?;
        }
        if let Some(lse) = &lse {
            lse.expect_type(sl, &[F32])?;
            lse.expect_dims(sl, &q.dims()[..3], "q says")?;
            for (t, name) in [(&q, "q"), (&k, "k"), (&v, "v"), (&out, "out")] {
                lse.refuse_overlap(sl, t, name, false)?;
            }
        }
        Ok(Checked {
            q,
            k,
            v,
            out,
            mask,
            lengths,
            table,
            lse,
            keys,
            scale: self.scale,
            causal,
        })
    }
}

/// Checks the shapes that both directions share, and returns how many keys a batch element has at most.
pub(crate) fn keys(
    (sq, q): (Site, &Tensor),
    (sk, k): (Site, &Tensor),
    (sv, v): (Site, &Tensor),
    table: Option<(Site, &Tensor)>,
) -> Result<u64, RuleError> {
    for (s, t) in [(sq, q), (sk, k), (sv, v)] {
        t.expect_rank(s, 4)?;
    }
    let [batch, heads, _, width] = [0, 1, 2, 3].map(|i| q.dims()[i]);
    let groups = k.dims()[1];
    if batch > MAX_BATCH {
        return Err(sq.error(format_args!(".dims[0] is {batch}, at most {MAX_BATCH}")));
    }
    for (s, t) in [(sq, q), (sv, v)] {
        let width = t.dims()[3];
        if width > MAX_WIDTH {
            return Err(s.error(format_args!(".dims[3] is {width}, at most {MAX_WIDTH}")));
        }
    }
    if groups == 0 || !heads.is_multiple_of(groups) {
        return Err(sk.error(format_args!(
            ".dims[1] is {groups}, which does not divide the {heads} heads of q"
        )));
    }
    if k.dims()[3] != width {
        return Err(sk.error(format_args!(
            ".dims[3] is {}, but q.dims[3] is {width}",
            k.dims()[3]
        )));
    }
    v.expect_dims(
        sv,
        &[k.dims()[0], groups, k.dims()[2], v.dims()[3]],
        "k says",
    )?;
    let Some((st, table)) = table else {
        if k.dims()[0] != batch {
            return Err(sk.error(format_args!(
                ".dims[0] is {}, but q.dims[0] is {batch}",
                k.dims()[0]
            )));
        }
        return Ok(k.dims()[2]);
    };
    table.expect_type(st, &[DataType::I32])?;
    table.expect_rank(st, 2)?;
    table.expect_dims(st, &[batch, table.dims()[1]], "q says")?;
    let page = k.dims()[2];
    if table.elements > MAX_BATCH {
        return Err(st.error(format_args!(
            " has {} entries, at most {MAX_BATCH}",
            table.elements
        )));
    }
    if page == 0 || !page.is_multiple_of(2) {
        return Err(sk.error(format_args!(".dims[2] is {page}: pages have an even size")));
    }
    page.checked_mul(table.dims()[1])
        .filter(|keys| *keys <= 1 << 40)
        .ok_or_else(|| st.error(": there are more than 2⁴⁰ keys"))
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let rows = self.q.dims()[..3]
            .iter()
            .fold(2u64, |p, d| p.saturating_mul(*d));
        let widths = self.q.dims()[3].saturating_add(self.v.dims()[3]);
        Cost {
            operations: rows.saturating_mul(self.keys).saturating_mul(widths),
            class: class(self.q.dtype),
            read: bytes(&[
                Some(&self.q),
                Some(&self.k),
                Some(&self.v),
                self.mask.as_ref().map(|m| &m.0),
            ]),
            written: bytes(&[Some(&self.out), self.lse.as_ref()]),
        }
    }
}
