//! Deformable convolution over two spatial axes: each tap of each window looks where `offset` moves it, and counts as `mask` says.
//!
//! `x` is `[images, channels, height, width]`, `w` `[outputs, channels / groups, taps down, taps across]`, `out` `[images, outputs, rows, columns]`. `offset` is
//! `[images, offset groups · taps · 2, rows, columns]`: for each group of channels and tap how far it is moved down, then across; `mask` is `[images, offset
//! groups · taps, rows, columns]`. The place of a tap is linear in the four elements around it, those outside being 0: [`crate::grid_sample`] with
//! `zeros`.
//!
//! Elements are widened to f32 (f64 for F64), moved elements are rounded at each step; sums are those of [`crate::matmul`] of f32, along channels
//! and, within a channel, taps. Strides, dilation and padding are those of [`crate::conv`].

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};
use crate::window::{self, Axes, Extents, Fields};

/// Most elements of `w`, and of the channels of a group times taps: the card keeps copies.
pub const MAX_WEIGHTS: u64 = 1 << 26;
/// Most channels of a group times taps.
pub const MAX_DEPTH: u64 = 1 << 18;

descriptor! {
    /// Body of `opcode::DEFORM_CONV`.
    pub struct DeformConv : 1008 {
        /// Operand 0: `[images, channels, height, width]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[outputs, channels / groups, taps down, taps across]`, of `x`'s type, as are all that follow.
        pub w: TensorDesc = 160,
        /// Operand 2: `[images, offset groups · taps · 2, rows, columns]`.
        pub offset: TensorDesc = 320,
        /// Operand 3, may be absent: `[images, offset groups · taps, rows, columns]`.
        pub mask: TensorDesc = 480,
        /// Operand 4, may be absent: `[outputs]`.
        pub bias: TensorDesc = 640,
        /// Operand 5, written: `[images, outputs, rows, columns]`.
        pub out: TensorDesc = 800,
        /// Steps of the filter down and across.
        pub stride: [u32; 2] = 960,
        /// Distances of its taps.
        pub dilation: [u32; 2] = 968,
        /// Zeroes above, below, left and right.
        pub padding: [u32; 4] = 976,
        /// Groups of channels and outputs.
        pub groups: u32 = 992,
        /// Groups of channels that share offsets.
        pub offset_groups: u32 = 996,
        /// Zero.
        pub reserved: u64 = 1000,
    }
}

/// A checked [`DeformConv`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub w: Tensor,
    /// Operand 2.
    pub offset: Tensor,
    /// Operand 3.
    pub mask: Option<Tensor>,
    /// Operand 4.
    pub bias: Option<Tensor>,
    /// Operand 5.
    pub out: Tensor,
    /// How taps are moved.
    pub look: Look,
}

impl crate::Descriptor for DeformConv {
    const INFO: Info = Info {
        opcode: opcode::DEFORM_CONV,
        name: "deform_conv",
        formula: "out = conv(x at moved places · mask, w) + bias",
        operands: &["x", "w", "offset", "mask?", "bias?", "out*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "deform_conv_backward_data, deform_conv_backward_filter; bias: reduce sum",
        cost: "2 per tap, channel and element of out, 10 per moved element",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "deform_conv";
        let site = |i: u16| {
            Site::new(
                NAME,
                i,
                ["x", "w", "offset", "mask", "bias", "out"][i as usize],
            )
        };
        let x = Tensor::check(site(0), &self.x, Role::Input)?;
        let w = Tensor::check(site(1), &self.w, Role::Input)?;
        let offset = Tensor::check(site(2), &self.offset, Role::Input)?;
        let mask = Tensor::check_optional(site(3), &self.mask, Role::Input)?;
        let bias = Tensor::check_optional(site(4), &self.bias, Role::Input)?;
        let out = Tensor::check(site(5), &self.out, Role::Output)?;
        let parts = Parts {
            x: (site(0), &x),
            w: (site(1), &w),
            offset: (site(2), &offset),
            mask: mask.as_ref().map(|t| (site(3), t)),
            out: (site(5), &out),
        };
        let numbers = Numbers {
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
            groups: self.groups,
            offset_groups: self.offset_groups,
            reserved: self.reserved,
        };
        let look = look(NAME, &parts, &numbers)?;
        if let Some(bias) = &bias {
            bias.expect_same_type(site(4), &x, "x")?;
            bias.expect_dims(site(4), &[w.dims()[0]], "w says")?;
        }
        let inputs = [
            Some((&x, "x")),
            Some((&w, "w")),
            Some((&offset, "offset")),
            mask.as_ref().map(|t| (t, "mask")),
            bias.as_ref().map(|t| (t, "bias")),
        ];
        for (input, name) in inputs.into_iter().flatten() {
            out.refuse_overlap(site(5), input, name, false)?;
        }
        Ok(Checked {
            x,
            w,
            offset,
            mask,
            bias,
            out,
            look,
        })
    }
}

/// How taps are moved over an image.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The windows; the first axis is not there.
    pub axes: Axes,
    /// Groups of channels and outputs.
    pub groups: usize,
    /// Groups of channels that share offsets.
    pub offset_groups: usize,
    /// Channels of a group.
    pub own: usize,
}

impl Look {
    /// Taps of a window.
    pub fn taps(&self) -> usize {
        (self.axes[1].taps * self.axes[2].taps) as usize
    }
}

/// The tensors that the operator and its gradients have, as the former has them.
pub(crate) struct Parts<'t> {
    pub x: (Site, &'t Tensor),
    pub w: (Site, &'t Tensor),
    pub offset: (Site, &'t Tensor),
    pub mask: Option<(Site, &'t Tensor)>,
    pub out: (Site, &'t Tensor),
}

/// The fields behind them.
pub(crate) struct Numbers {
    pub stride: [u32; 2],
    pub dilation: [u32; 2],
    pub padding: [u32; 4],
    pub groups: u32,
    pub offset_groups: u32,
    pub reserved: u64,
}

/// Checks what the operator and its gradients share.
pub(crate) fn look(
    name: &'static str,
    parts: &Parts<'_>,
    numbers: &Numbers,
) -> Result<Look, RuleError> {
    let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
    if numbers.reserved != 0 {
        return fail(format_args!(
            "a reserved field is {:#x}, must be 0",
            numbers.reserved
        ));
    }
    let ((sx, x), (sw, w), (so, out)) = (parts.x, parts.w, parts.out);
    x.expect_type(sx, &FLOATS)?;
    x.expect_rank(sx, 4)?;
    let others = [
        Some(parts.w),
        Some(parts.offset),
        parts.mask,
        Some(parts.out),
    ];
    for (site, t) in others.into_iter().flatten() {
        t.expect_same_type(site, x, sx.name)?;
        t.expect_rank(site, 4)?;
    }
    let [images, channels] = [0, 1].map(|i| x.dims()[i]);
    let [outputs, own, down, across] = [0, 1, 2, 3].map(|i| w.dims()[i]);
    let (groups, offset_groups) = (u64::from(numbers.groups), u64::from(numbers.offset_groups));
    if groups == 0 || !channels.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        return fail(format_args!(
            "groups are {groups}, must divide {channels} channels and {outputs} outputs"
        ));
    }
    if offset_groups == 0 || !channels.is_multiple_of(offset_groups) {
        return fail(format_args!(
            "offset_groups are {offset_groups}, must divide {channels} channels"
        ));
    }
    w.expect_dims(
        sw,
        &[outputs, channels / groups, down, across],
        "groups say",
    )?;
    for (i, taps) in [(2, down), (3, across)] {
        if taps > 1 << 16 {
            return Err(sw.error(format_args!(".dims[{i}] is {taps}, at most 65536")));
        }
    }
    // Both are small enough to be multiplied with what follows.
    let taps = down * across;
    if w.elements > MAX_WEIGHTS || own.saturating_mul(taps) > MAX_DEPTH {
        return Err(sw.error(format_args!(
            " has {} elements, {} an output: at most {MAX_WEIGHTS} and {MAX_DEPTH}",
            w.elements,
            own.saturating_mul(taps)
        )));
    }
    let [above, below, left, right] = numbers.padding;
    let fields = Fields {
        taps: [down as u32, across as u32, 0],
        stride: [numbers.stride[0], numbers.stride[1], 0],
        dilation: [numbers.dilation[0], numbers.dilation[1], 0],
        padding: [above, below, left, right, 0, 0],
    };
    let extents = Extents {
        input: (sx, x),
        windows: (so, &out.dims()[2..]),
        from: 2,
    };
    let axes = window::check(name, &extents, Some(&fields), false)?;
    let [rows, columns] = [2, 3].map(|i| out.dims()[i]);
    out.expect_dims(so, &[images, outputs, rows, columns], "the others say")?;
    let moved = offset_groups.saturating_mul(taps);
    let (site, offset) = parts.offset;
    offset.expect_dims(
        site,
        &[images, moved.saturating_mul(2), rows, columns],
        "the others say",
    )?;
    if let Some((site, mask)) = parts.mask {
        mask.expect_dims(site, &[images, moved, rows, columns], "the others say")?;
    }
    Ok(Look {
        axes,
        groups: groups as usize,
        offset_groups: offset_groups as usize,
        own: own as usize,
    })
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let depth = self.w.dims()[1..].iter().product::<u64>();
        let positions = [0, 2, 3]
            .iter()
            .map(|i| self.out.dims()[*i])
            .product::<u64>();
        let moved = positions
            .saturating_mul(10 * depth)
            .saturating_mul(self.look.groups as u64);
        let read = [
            Some(self.x),
            Some(self.w),
            Some(self.offset),
            self.mask,
            self.bias,
        ];
        Cost {
            operations: self
                .out
                .elements
                .saturating_mul(2 * depth)
                .saturating_add(moved),
            read: read.iter().flatten().map(Tensor::footprint).sum(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
