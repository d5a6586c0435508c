//! Elements at places that a grid says, interpolated: `out[n, c, p] = x[n, c, grid[n, p]]`.
//!
//! `x` is `[images, channels, …]` with 1 to 3 spatial axes, `grid` `[images, …, axes]`, `out` `[images, channels, …]`; the layout is a matter of strides.
//! The last axis of `grid` names the place along the last spatial axis first. -1 and 1 are the ends of `x`: the centres of its first and last elements
//! with `FLAG_ALIGN`, else their outer edges. A number that is infinite is the largest or smallest, one that is NaN lies outside, before the first.
//!
//! `nearest` takes the element next to the place, of two as near the even one; `linear` weighs two along each axis, `cubic` four by Keys' kernel with
//! -0.75. What lies outside is 0 (`zeros`), the element at the edge (`border`), or what lies as far inside of the edge (`reflection`): its
//! centre with `FLAG_ALIGN`, else its outer side. `nearest` and `linear` move the place so, `cubic` each of the elements.
//!
//! Places, weights and sums are of f32 (f64 for F64), rounded at each step; Σ ((wᵈ · wʰ) · wʷ) · x in row-major order.

use vmlu_abi::tensor::TensorDesc;

use crate::conv_geometry::MAX_SPATIAL;
use crate::cost::Cost;
pub use crate::resize::Function;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};
use crate::window::MAX_EXTENT;

/// The ends of the grid are centres of elements.
pub const FLAG_ALIGN: u32 = 1;

descriptor! {
    /// Body of `opcode::GRID_SAMPLE`.
    pub struct GridSample : 496 {
        /// Operand 0: `[images, channels, …]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[images, …, axes]`, of `x`'s type.
        pub grid: TensorDesc = 160,
        /// Operand 2, written: `[images, channels, …]`, of `x`'s type.
        pub out: TensorDesc = 320,
        /// A [`Function`].
        pub function: u32 = 480,
        /// A [`Padding`].
        pub padding: u32 = 484,
        /// `FLAG_*`.
        pub flags: u32 = 488,
        /// 0.
        pub reserved: u32 = 492,
    }
}

/// What lies outside of `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Padding {
    /// Zeroes.
    Zeros = 0,
    /// The element at the edge.
    Border = 1,
    /// What lies as far inside.
    Reflection = 2,
}

impl Padding {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Zeros, Self::Border, Self::Reflection];

    /// What a number of a descriptor names.
    pub const fn from_raw(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Zeros),
            1 => Some(Self::Border),
            2 => Some(Self::Reflection),
            _ => None,
        }
    }
}

/// How places are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// How elements are interpolated.
    pub function: Function,
    /// What lies outside.
    pub padding: Padding,
    /// Whether the ends are centres.
    pub align: bool,
    /// Spatial axes.
    pub spatial: usize,
}

impl Look {
    /// Elements of `x` that an element of `out` is made of.
    pub fn taps(&self) -> u64 {
        let along = match self.function {
            Function::Nearest => 1u64,
            Function::Linear => 2,
            Function::Cubic => 4,
        };
        along.pow(self.spatial as u32)
    }
}

/// A checked [`GridSample`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub grid: Tensor,
    /// Operand 2.
    pub out: Tensor,
    /// How places are looked at.
    pub look: Look,
}

/// Checks what sampling and its gradient share: numbers, and the shapes of input, grid and result.
pub(crate) fn look(
    name: &'static str,
    [function, padding, flags, reserved]: [u32; 4],
    (sx, x): (Site, &Tensor),
    (sg, grid): (Site, &Tensor),
    (so, out): (Site, &Tensor),
) -> Result<Look, RuleError> {
    rule::reserved(name, &[reserved])?;
    let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
    let Some(function) = Function::from_raw(function) else {
        return fail(format_args!("function {function} is unknown"));
    };
    let Some(padding) = Padding::from_raw(padding) else {
        return fail(format_args!("padding {padding} is unknown"));
    };
    if flags & !FLAG_ALIGN != 0 {
        return fail(format_args!(
            "flags are {flags:#x}, of which some are unknown"
        ));
    }
    x.expect_type(sx, &FLOATS)?;
    grid.expect_same_type(sg, x, sx.name)?;
    out.expect_same_type(so, x, sx.name)?;
    if !(3..=2 + MAX_SPATIAL).contains(&x.rank()) {
        return Err(sx.error(format_args!(".rank is {}, must be 3 to 5", x.rank())));
    }
    let spatial = x.rank() - 2;
    out.expect_rank(so, x.rank())?;
    out.expect_dims(
        so,
        &[&x.dims()[..2], &out.dims()[2..]].concat(),
        "the input says",
    )?;
    grid.expect_rank(sg, x.rank())?;
    grid.expect_dims(
        sg,
        &[&x.dims()[..1], &out.dims()[2..], &[spatial as u64]].concat(),
        "the result says",
    )?;
    for (i, extent) in x.dims().iter().enumerate().skip(2) {
        if *extent > MAX_EXTENT {
            return Err(sx.error(format_args!(".dims[{i}] is {extent}, at most {MAX_EXTENT}")));
        }
        if *extent == 0 && out.elements != 0 {
            return Err(sx.error(format_args!(".dims[{i}] is 0, there is nothing")));
        }
    }
    Ok(Look {
        function,
        padding,
        align: flags & FLAG_ALIGN != 0,
        spatial,
    })
}

impl crate::Descriptor for GridSample {
    const INFO: Info = Info {
        opcode: opcode::GRID_SAMPLE,
        name: "grid_sample",
        formula: "out = x interpolated at the places of a grid",
        operands: &["x", "grid", "out*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "grid_sample_backward",
        cost: "2 per weighed element and element of out, 16 per number of the grid",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "grid_sample";
        let [sx, sg, so] = [(0, "x"), (1, "grid"), (2, "out")].map(|(i, n)| Site::new(NAME, i, n));
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let grid = Tensor::check(sg, &self.grid, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let numbers = [self.function, self.padding, self.flags, self.reserved];
        let look = look(NAME, numbers, (sx, &x), (sg, &grid), (so, &out))?;
        out.refuse_overlap(so, &x, "x", false)?;
        out.refuse_overlap(so, &grid, "grid", false)?;
        Ok(Checked { x, grid, out, look })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let places = self.grid.elements.saturating_mul(16);
        let sums = self.out.elements.saturating_mul(2 * self.look.taps());
        Cost {
            operations: places.saturating_add(sums),
            read: self.x.footprint() + self.grid.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
