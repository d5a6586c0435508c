//! Elements by index: `out[p] = x[c(p)]` for every position p of `out`.
//!
//! Along the axes of `x` in `axes[k]`, the coordinate is `index k` at p; along every other axis `a` of `x` it is the coordinate of p along the axis
//! `map[a]` of `out`. Index tensors broadcast to `out`. So this is gather (one index of `out`'s shape), index select and embedding (an index that is
//! constant along all axes but one), and indexing by several tensors. Indices are checked before anything is written; one that is out of
//! range faults the command. With [`FLAG_WRAP`] negative indices count from the end. Bits are moved.

use vmlu_abi::tensor::{TensorDesc, MAX_DIMS};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, INDICES};

/// Negative indices count from the end of the axis.
pub const FLAG_WRAP: u32 = 1 << 0;
/// Most index tensors.
pub const MAX_INDICES: usize = 8;
/// Stands in `axes` where there is no index, and in `map` where there is one or no axis.
pub const NONE: u8 = 0xff;

descriptor! {
    /// Body of `opcode::TAKE`.
    pub struct Take : 1624 {
        /// Operand 0: any type.
        pub x: TensorDesc = 0,
        /// Operand 1, written: of `x`'s type.
        pub out: TensorDesc = 160,
        /// Operands 2 to 9: I32 or I64, broadcast to `out`; as many as `axes` names, the rest absent.
        pub indices: [TensorDesc; 8] = 320,
        /// The axis of `x` of each index; `NONE` (255) behind the last.
        pub axes: [u8; 8] = 1600,
        /// The axis of `out` of each axis of `x` that has no index; `NONE` elsewhere. No axis twice.
        pub map: [u8; 8] = 1608,
        /// `FLAG_*`.
        pub flags: u32 = 1616,
        /// Zero.
        pub reserved: u32 = 1620,
    }
}

/// An index tensor.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    /// The tensor.
    pub tensor: Tensor,
    /// Its strides over the axes of the positions.
    pub strides: [i64; MAX_DIMS],
    /// Elements of the axis that it indexes.
    pub limit: u64,
    /// Stride of that axis.
    pub step: i64,
}

/// How positions name elements of an indexed tensor.
#[derive(Clone, Copy, Debug)]
pub struct Indexing {
    /// The index tensors.
    pub indices: [Option<Index>; MAX_INDICES],
    /// Strides of the indexed tensor over the axes of the positions.
    pub strides: [i64; MAX_DIMS],
    /// Axes of the positions that name different elements by themselves, a bit each.
    pub mapped: u32,
    /// Whether negative indices count from the end.
    pub wrap: bool,
}

/// Checks the indices and maps of `x` indexed by positions of shape `dims`. `first` is the number of the first index operand.
pub(crate) fn indexing(
    name: &'static str,
    x: (&Tensor, Site),
    dims: &[u64],
    (descs, axes, map): (&[TensorDesc; 8], &[u8; 8], &[u8; 8]),
    flags: u32,
    first: u16,
) -> Result<Indexing, RuleError> {
    let (x, site) = x;
    let mut indices = [None; MAX_INDICES];
    let (mut taken, mut mapped, mut ended) = (0u32, 0u32, false);
    for (k, desc) in descs.iter().enumerate() {
        let s = Site::new(name, first + k as u16, "index");
        let Some(tensor) = Tensor::check_optional(s, desc, Role::Input)? else {
            ended = true;
            if axes[k] != NONE {
                return Err(s.error(format_args!(" is absent, but axes[{k}] is {}", axes[k])));
            }
            continue;
        };
        let axis = usize::from(axes[k]);
        if ended || axis >= x.rank() || taken >> axis & 1 != 0 {
            return Err(s.error(format_args!(
                " is for axis {axis} of x, which is none, or has one already"
            )));
        }
        taken |= 1 << axis;
        tensor.expect_type(s, &INDICES)?;
        indices[k] = Some(Index {
            tensor,
            strides: tensor.broadcast(s, dims)?,
            limit: x.dims()[axis],
            step: x.strides()[axis],
        });
    }
    let mut strides = [0; MAX_DIMS];
    for (a, &to) in map.iter().enumerate() {
        let indexed = a >= x.rank() || taken >> a & 1 != 0;
        if indexed {
            if to != NONE {
                return Err(rule::error(
                    name,
                    format_args!("map[{a}] is {to}, but that axis is not mapped"),
                ));
            }
            continue;
        }
        let to = usize::from(to);
        if to >= dims.len() || mapped >> to & 1 != 0 {
            return Err(rule::error(
                name,
                format_args!("map[{a}] is {to}, no axis, or one that is taken"),
            ));
        }
        if dims[to] > x.dims()[a] {
            return Err(site.error(format_args!(
                ".dims[{a}] is {}, less than the {} positions",
                x.dims()[a],
                dims[to]
            )));
        }
        mapped |= 1 << to;
        strides[to] = x.strides()[a];
    }
    if flags & !FLAG_WRAP != 0 {
        return Err(rule::error(
            name,
            format_args!("flags {flags:#x} are unknown"),
        ));
    }
    Ok(Indexing {
        indices,
        strides,
        mapped,
        wrap: flags & FLAG_WRAP != 0,
    })
}

/// A checked [`Take`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// The indices.
    pub indexing: Indexing,
}

impl crate::Descriptor for Take {
    const INFO: Info = Info {
        opcode: opcode::TAKE,
        name: "take",
        formula: "out[p] = x[index(p)]",
        operands: &[
            "x", "out*", "index?", "index?", "index?", "index?", "index?", "index?", "index?",
            "index?",
        ],
        functions: &[],
        types: "all; indices i32, i64",
        backward: "put, adding",
        cost: "none",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "take";
        let (sx, so) = (Site::new(NAME, 0, "x"), Site::new(NAME, 1, "out"));
        rule::reserved(NAME, &[self.reserved])?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        out.expect_same_type(so, &x, "x")?;
        let all = (&self.indices, &self.axes, &self.map);
        let indexing = indexing(NAME, (&x, sx), out.dims(), all, self.flags, 2)?;
        out.refuse_overlap(so, &x, "x", false)?;
        for index in indexing.indices.iter().flatten() {
            out.refuse_overlap(so, &index.tensor, "an index", false)?;
        }
        Ok(Checked { x, out, indexing })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let indices = self.indexing.indices.iter().flatten();
        Cost {
            read: indices.fold(self.out.footprint(), |s, i| {
                s.saturating_add(i.tensor.footprint())
            }),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
