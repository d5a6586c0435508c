//! Resizing over 1 to 3 spatial axes: nearest, linear or cubic interpolation, with or without a filter against aliasing.
//!
//! `x` is `[images, channels, …]`, `out` `[images, channels, …]`; the layout is a matter of strides. Position `o` along an axis of `out` is at `(o + offset)
//! · numerator / denominator + shift` in `x` (f64, rounded at each step), so that every convention of frameworks is a choice of four numbers; the
//! functions of this module make them. What lies before or behind `x` is its first or last element.
//!
//! `nearest` copies the element that `rounding` says. `linear` and `cubic` weigh the elements around the place; `cubic` is Keys' kernel with `coefficient`
//! (-0.75 in most frameworks, -0.5 in some). With `FLAG_ANTIALIAS` the kernel is stretched by numerator / denominator if that is above 1,
//! and weights are divided by their sum. `FLAG_EXCLUDE` leaves elements outside of `x` out, and divides the other weights by their sum. With
//! `FLAG_EXTRAPOLATE` an element of `out` whose place is before the first or behind the last position of `x` is `extrapolation`.
//!
//! Weights are of f64, rounded to f32 (f64 for F64) once, and weights of 0 at the ends do not count. Sums are of f32 (f64 for F64), rounded at each
//! step. Where channels lie side by side: Σ (wᵈ · wʰ) · wʷ · x in row-major order. Else the rows of the first two axes are summed, weighed by wᵈ · wʰ, and the
//! elements of that row, weighed by wʷ, in order.

use vmlu_abi::tensor::TensorDesc;

use crate::conv_geometry::MAX_SPATIAL;
use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};
use crate::window::MAX_EXTENT;

/// The kernel is stretched where `out` is smaller, so that all of `x` counts.
pub const FLAG_ANTIALIAS: u32 = 1;
/// Elements outside of `x` have no weight.
pub const FLAG_EXCLUDE: u32 = 2;
/// Places outside of `x` give `extrapolation`.
pub const FLAG_EXTRAPOLATE: u32 = 4;

/// Largest numerator / denominator with `FLAG_ANTIALIAS`.
pub const MAX_STRETCH: f64 = 8192.0;

descriptor! {
    /// Body of `opcode::RESIZE`.
    pub struct Resize : 448 {
        /// Operand 0: `[images, channels, …]`; all types for nearest, floats for the others.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `[images, channels, …]`, of `x`'s type.
        pub out: TensorDesc = 160,
        /// Added to a position of `out`, by spatial axis; zero behind the last, as in the next three.
        pub offset: [f64; 3] = 320,
        /// Factor, ≥ 0.
        pub numerator: [f64; 3] = 344,
        /// Divisor, above 0.
        pub denominator: [f64; 3] = 368,
        /// Added last.
        pub shift: [f64; 3] = 392,
        /// Of the cubic kernel; 0 for others.
        pub coefficient: f64 = 416,
        /// With `FLAG_EXTRAPOLATE`, else 0.
        pub extrapolation: f64 = 424,
        /// A [`Function`].
        pub function: u32 = 432,
        /// A [`Rounding`]; 0 for all but nearest.
        pub rounding: u32 = 436,
        /// `FLAG_*`; none for nearest but `FLAG_EXTRAPOLATE`.
        pub flags: u32 = 440,
        /// 0.
        pub reserved: u32 = 444,
    }
}

functions! {
    /// How elements are interpolated.
    pub enum Function {
        /// One element.
        Nearest = 0, "nearest";
        /// Two along each axis, weighed by nearness.
        Linear = 1, "linear";
        /// Four along each axis.
        Cubic = 2, "cubic";
    }
}

/// Which element is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rounding {
    /// The position below.
    Floor = 0,
    /// The position above.
    Ceil = 1,
    /// The nearer one, the lower of two as near.
    HalfDown = 2,
    /// The nearer one, the higher of two as near.
    HalfUp = 3,
}

impl Rounding {
    /// What a number of a descriptor names.
    pub const fn from_raw(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Floor),
            1 => Some(Self::Ceil),
            2 => Some(Self::HalfDown),
            3 => Some(Self::HalfUp),
            _ => None,
        }
    }
}

/// The numbers of one axis: offset, numerator, denominator, shift.
pub type Place = [f64; 4];

/// Centres of elements are half a step in, and the ends of both axes meet; PyTorch's `align_corners = False`.
pub const fn half_pixel(input: u64, output: u64) -> Place {
    [0.5, input as f64, output as f64, -0.5]
}

/// The first and last elements of both axes meet.
pub const fn align_corners(input: u64, output: u64) -> Place {
    match (input, output) {
        (0, _) | (_, 0 | 1) => [0.0, 0.0, 1.0, 0.0],
        _ => [0.0, (input - 1) as f64, (output - 1) as f64, 0.0],
    }
}

/// The first elements of both axes meet; PyTorch's `nearest`.
pub const fn asymmetric(input: u64, output: u64) -> Place {
    [0.0, input as f64, output as f64, 0.0]
}

/// Where positions along one axis lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Positions of the input.
    pub input: i64,
    /// Positions of the result.
    pub output: i64,
    /// Added to a position of the result.
    pub offset: f64,
    /// Factor.
    pub numerator: f64,
    /// Divisor.
    pub denominator: f64,
    /// Added last.
    pub shift: f64,
}

/// An axis that is not there.
const NONE: Axis = Axis {
    input: 1,
    output: 1,
    offset: 0.0,
    numerator: 1.0,
    denominator: 1.0,
    shift: 0.0,
};

/// How `out` looks at `x`.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The axes; of fewer than three, the last stand here.
    pub axes: [Axis; MAX_SPATIAL],
    /// How elements are interpolated.
    pub function: Function,
    /// Which is nearest.
    pub rounding: Rounding,
    /// Whether the kernel is stretched.
    pub antialias: bool,
    /// Whether elements outside are left out.
    pub exclude: bool,
    /// What places outside give.
    pub extrapolation: Option<f64>,
    /// Of the cubic kernel.
    pub coefficient: f64,
}

impl Look {
    /// Elements of `x` that an element of `out` is made of, at most.
    pub fn taps(&self) -> u64 {
        let along = |a: &Axis| {
            let support = match self.function {
                Function::Nearest => return 1,
                Function::Linear => 2.0,
                Function::Cubic => 4.0,
            };
            if *a == NONE {
                return 1;
            }
            let stretch = a.numerator / a.denominator;
            let stretch = if self.antialias && stretch > 1.0 {
                stretch
            } else {
                1.0
            };
            ((support * stretch) as u64).min(a.input as u64)
        };
        self.axes
            .iter()
            .fold(1, |p: u64, a| p.saturating_mul(along(a)))
    }
}

/// A checked [`Resize`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Where elements come from.
    pub look: Look,
}

/// Checks all but types: `large` is what is looked at, whichever of the two is written. The fields are those of [`Resize`], whose tensors do not count.
pub(crate) fn look(
    name: &'static str,
    fields: &Resize,
    (sx, x): (Site, &Tensor),
    (so, out): (Site, &Tensor),
) -> Result<Look, RuleError> {
    rule::reserved(name, &[fields.reserved])?;
    let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
    let Some(function) = Function::from_raw(fields.function) else {
        return fail(format_args!("function {} is unknown", fields.function));
    };
    let rounding = Rounding::from_raw(fields.rounding);
    let nearest = function == Function::Nearest;
    let Some(rounding) = rounding.filter(|_| nearest || fields.rounding == 0) else {
        return fail(format_args!(
            "rounding is {}, must be {}",
            fields.rounding,
            if nearest { "at most 3" } else { "0" }
        ));
    };
    let known = match nearest {
        true => FLAG_EXTRAPOLATE,
        false => FLAG_ANTIALIAS | FLAG_EXCLUDE | FLAG_EXTRAPOLATE,
    };
    if fields.flags & !known != 0 {
        return fail(format_args!(
            "flags are {:#x}, of which {} has only {known:#x}",
            fields.flags,
            function.name()
        ));
    }
    let extrapolate = fields.flags & FLAG_EXTRAPOLATE != 0;
    if !extrapolate && fields.extrapolation.to_bits() != 0 {
        return fail(format_args!(
            "extrapolation is {}, must be 0 without its flag",
            fields.extrapolation
        ));
    }
    let c = fields.coefficient;
    if !c.is_finite() || (function != Function::Cubic && c.to_bits() != 0) {
        return fail(format_args!(
            "coefficient is {c}, must be {}",
            if function == Function::Cubic {
                "finite"
            } else {
                "0"
            }
        ));
    }
    if !(3..=5).contains(&x.rank()) {
        return Err(sx.error(format_args!(".rank is {}, must be 3 to 5", x.rank())));
    }
    out.expect_rank(so, x.rank())?;
    for i in 0..2 {
        if out.dims()[i] != x.dims()[i] {
            return Err(so.error(format_args!(
                ".dims[{i}] is {}, but {} has {}",
                out.dims()[i],
                sx.name,
                x.dims()[i]
            )));
        }
    }
    let antialias = fields.flags & FLAG_ANTIALIAS != 0;
    let mut axes = [NONE; MAX_SPATIAL];
    let spatial = x.rank() - 2;
    for i in 0..MAX_SPATIAL {
        let [o, n, d, s] = [
            fields.offset,
            fields.numerator,
            fields.denominator,
            fields.shift,
        ]
        .map(|f| f[i]);
        if i >= spatial {
            if [o, n, d, s].iter().any(|v| v.to_bits() != 0) {
                return fail(format_args!(
                    "offset, numerator, denominator and shift of axis {i} must be 0: there are {spatial}"
                ));
            }
            continue;
        }
        if ![o, n, d, s].iter().all(|v| v.is_finite()) || n < 0.0 || d <= 0.0 {
            return fail(format_args!(
                "spatial axis {i}: (o + {o}) · {n} / {d} + {s}: all must be finite, the factor ≥ 0, the divisor > 0"
            ));
        }
        let stretch = n / d;
        if !stretch.is_finite() || (antialias && stretch > MAX_STRETCH) {
            return fail(format_args!(
                "spatial axis {i}: numerator / denominator is {stretch}, too large"
            ));
        }
        for (site, extent) in [(sx, x.dims()[2 + i]), (so, out.dims()[2 + i])] {
            if extent > MAX_EXTENT {
                return Err(site.error(format_args!(
                    ".dims[{}] is {extent}, at most {MAX_EXTENT}",
                    2 + i
                )));
            }
        }
        if x.dims()[2 + i] == 0 && out.dims()[2 + i] != 0 {
            return Err(sx.error(format_args!(".dims[{}] is 0, there is nothing", 2 + i)));
        }
        axes[MAX_SPATIAL - spatial + i] = Axis {
            input: x.dims()[2 + i] as i64,
            output: out.dims()[2 + i] as i64,
            offset: o,
            numerator: n,
            denominator: d,
            shift: s,
        };
    }
    Ok(Look {
        axes,
        function,
        rounding,
        antialias,
        exclude: fields.flags & FLAG_EXCLUDE != 0,
        extrapolation: extrapolate.then_some(fields.extrapolation),
        coefficient: c,
    })
}

impl Resize {
    /// Positions by one convention: [`half_pixel`], [`align_corners`] or [`asymmetric`]. `nearest` takes the position below, `cubic` -0.75.
    pub fn new(
        function: Function,
        x: TensorDesc,
        out: TensorDesc,
        place: impl Fn(u64, u64) -> Place,
    ) -> Self {
        let mut body = Self {
            x,
            out,
            function: function.raw(),
            ..vmlu_abi::Wire::zeroed()
        };
        if function == Function::Cubic {
            body.coefficient = -0.75;
        }
        // A rank that is none is the check's to refuse.
        let spatial = (out.rank as usize).saturating_sub(2).min(MAX_SPATIAL);
        for i in 0..spatial {
            [
                body.offset[i],
                body.numerator[i],
                body.denominator[i],
                body.shift[i],
            ] = place(x.dims[2 + i], out.dims[2 + i].max(1));
        }
        body
    }
}

impl crate::Descriptor for Resize {
    const INFO: Info = Info {
        opcode: opcode::RESIZE,
        name: "resize",
        formula: "out = x interpolated at other positions",
        operands: &["x", "out*"],
        functions: Function::ROWS,
        types: "nearest all, the others f32, f16, bf16, f64",
        backward: "resize_backward",
        cost: "2 per weighed element and element of out",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "resize";
        let [sx, so] = [(0, "x"), (1, "out")].map(|(i, n)| Site::new(NAME, i, n));
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let look = look(NAME, self, (sx, &x), (so, &out))?;
        if look.function != Function::Nearest {
            x.expect_type(sx, &FLOATS)?;
        }
        out.expect_same_type(so, &x, "x")?;
        out.refuse_overlap(so, &x, "x", false)?;
        Ok(Checked { x, out, look })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let each = match self.look.function {
            Function::Nearest => 0,
            _ => self.look.taps().saturating_mul(2),
        };
        Cost {
            operations: self.out.elements.saturating_mul(each),
            read: self.x.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
