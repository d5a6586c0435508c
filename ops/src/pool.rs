//! Pooling over 1 to 3 spatial axes: the largest element of each window, or the mean of them.
//!
//! `x` is `[images, channels, …]`, `out` `[images, channels, …]` with as many windows along each spatial axis as fit into the padded input, or one
//! more where rounding up gives one that begins in the input or the padding before it; the layout is a matter of strides. With `FLAG_ADAPTIVE`
//! window `o` of `n` along an axis of `m` goes from ⌊o·m/n⌋ up to ⌈(o+1)·m/n⌉, and taps, strides, dilation and padding are zero.
//!
//! `max` leaves taps on the padding out; the first of equal elements in row-major order wins, a NaN wins over all before it. `indices` takes
//! where it lies: its number in row-major order among the positions of its image and channel, -1 of a window without elements. `average` divides
//! by the taps in the input and its padding, `average_valid` by those in the input (0 if there are none), both by `divisor` if it is not
//! 0. Sums are of f32 (f64 for F64), rounded at each step: each column of a window from zero, in order, then the columns in order.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};
use crate::window::{self, Axes, Extents, Fields};

/// Windows follow from the extents of `x` and `out` alone.
pub const FLAG_ADAPTIVE: u32 = 1;

descriptor! {
    /// Body of `opcode::POOL`.
    pub struct Pool : 552 {
        /// Operand 0: `[images, channels, …]`; all types but Bool for max, floats for averages.
        pub x: TensorDesc = 0,
        /// Operand 1, written: `[images, channels, …]`, of `x`'s type.
        pub out: TensorDesc = 160,
        /// Operand 2, written, may be absent: I32 or I64, of `out`'s shape; max only.
        pub indices: TensorDesc = 320,
        /// Taps of a window by spatial axis; zero behind the last, as in the next three.
        pub taps: [u32; 3] = 480,
        /// Steps of the window.
        pub stride: [u32; 3] = 492,
        /// Distances of its taps.
        pub dilation: [u32; 3] = 504,
        /// Padding before and behind each spatial axis.
        pub padding: [u32; 6] = 516,
        /// What averages divide by; 0 counts the elements.
        pub divisor: u32 = 540,
        /// A [`Function`].
        pub function: u32 = 544,
        /// `FLAG_*`.
        pub flags: u32 = 548,
    }
}

functions! {
    /// What becomes of a window.
    pub enum Function {
        /// The largest element.
        Max = 0, "max";
        /// The mean, with taps on the padding as zeroes.
        Average = 1, "average";
        /// The mean of the elements.
        AverageValid = 2, "average_valid";
    }
}

/// A checked [`Pool`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub out: Tensor,
    /// Operand 2.
    pub indices: Option<Tensor>,
    /// The windows.
    pub axes: Axes,
    /// What averages divide by, if not the count.
    pub divisor: Option<u32>,
    /// What becomes of a window.
    pub function: Function,
}

/// Checks what pooling and its gradient share: flags, windows, and that `small` has a window for each element.
pub(crate) fn windows(
    name: &'static str,
    (sx, x): (Site, &Tensor),
    (so, out): (Site, &Tensor),
    fields: &Fields,
    flags: u32,
) -> Result<Axes, RuleError> {
    if flags & !FLAG_ADAPTIVE != 0 {
        return Err(rule::error(
            name,
            format_args!("flags are {flags:#x}, of which some are unknown"),
        ));
    }
    if !(3..=5).contains(&x.rank()) {
        return Err(sx.error(format_args!(".rank is {}, must be 3 to 5", x.rank())));
    }
    out.expect_rank(so, x.rank())?;
    for i in 0..2 {
        if out.dims()[i] != x.dims()[i] {
            return Err(so.error(format_args!(
                ".dims[{i}] is {}, but the input has {}",
                out.dims()[i],
                x.dims()[i]
            )));
        }
    }
    let extents = Extents {
        input: (sx, x),
        windows: (so, &out.dims()[2..]),
        from: 2,
    };
    if flags & FLAG_ADAPTIVE == 0 {
        return window::check(name, &extents, Some(fields), true);
    }
    let numbers = [
        &fields.taps[..],
        &fields.stride,
        &fields.dilation,
        &fields.padding,
    ];
    if numbers.iter().any(|n| n.iter().any(|v| *v != 0)) {
        return Err(rule::error(
            name,
            "adaptive windows have no taps, strides, dilation and padding: all must be 0",
        ));
    }
    window::check(name, &extents, None, false)
}

/// Demands indices that the positions of an input fit into.
pub(crate) fn indices_fit(site: Site, indices: &Tensor, x: &Tensor) -> Result<(), RuleError> {
    indices.expect_type(site, &INDICES)?;
    let plane: u128 = x.dims()[2..].iter().map(|d| u128::from(*d)).product();
    if indices.dtype == DataType::I32 && plane > 1 << 31 {
        return Err(site.error(format_args!(
            ".dtype is I32, but a channel has {plane} positions"
        )));
    }
    Ok(())
}

impl crate::Descriptor for Pool {
    const INFO: Info = Info {
        opcode: opcode::POOL,
        name: "pool",
        formula: "out = the largest or the mean of each window of x",
        operands: &["x", "out*", "indices*?"],
        functions: Function::ROWS,
        types: "max all but bool, averages floats; indices i32, i64",
        backward: "pool_backward",
        cost: "1 per tap and element of out",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "pool";
        let [sx, so, si] =
            [(0, "x"), (1, "out"), (2, "indices")].map(|(i, n)| Site::new(NAME, i, n));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let indices = Tensor::check_optional(si, &self.indices, Role::Output)?;
        match function {
            Function::Max if x.dtype == DataType::Bool => {
                return Err(sx.error(".dtype is Bool, which has no largest"));
            }
            Function::Max => {}
            _ => x.expect_type(sx, &FLOATS)?,
        }
        out.expect_same_type(so, &x, "x")?;
        let fields = Fields {
            taps: self.taps,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
        };
        let axes = windows(NAME, (sx, &x), (so, &out), &fields, self.flags)?;
        if function == Function::Max && self.divisor != 0 {
            return Err(rule::error(
                NAME,
                format_args!("divisor is {}, but max has none", self.divisor),
            ));
        }
        out.refuse_overlap(so, &x, "x", false)?;
        if let Some(indices) = &indices {
            if function != Function::Max {
                return Err(si.error(format_args!(" is given, but {} has none", function.name())));
            }
            indices_fit(si, indices, &x)?;
            indices.expect_dims(si, out.dims(), "out is")?;
            indices.refuse_overlap(si, &x, "x", false)?;
            indices.refuse_overlap(si, &out, "out", false)?;
        }
        Ok(Checked {
            x,
            out,
            indices,
            axes,
            divisor: (self.divisor != 0).then_some(self.divisor),
            function,
        })
    }
}

/// Taps of all windows along all axes, about; what the clock is charged for one element.
pub(crate) fn taps(axes: &Axes) -> u64 {
    let of = |a: &window::Axis| match a.taps {
        0 if a.output == 0 => 0,
        0 => (a.input as u64).div_ceil(a.output as u64),
        taps => taps as u64,
    };
    axes.iter().fold(1, |p, a| p.saturating_mul(of(a)))
}

impl Checked {
    /// Taps of a window, about.
    pub fn taps(&self) -> u64 {
        taps(&self.axes)
    }

    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.out.elements.saturating_mul(taps(&self.axes)),
            read: self.x.footprint(),
            written: self.out.footprint() + self.indices.map_or(0, |t| t.footprint()),
            ..Cost::default()
        }
    }
}
