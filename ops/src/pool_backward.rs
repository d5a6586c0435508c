//! Gradient of [`crate::pool`]: `dx` gets from each window what its result has for it.
//!
//! For `max` that is `dy` at the element that `indices` names; an index that names no tap of its window counts for nothing. For averages each
//! element of the window gets `dy` divided as the average was. Sums are of f32 (f64 for F64), rounded at each step: for `max` windows in row-major
//! order, for averages each column of windows from zero, in order, then the columns in order. `dx` is written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::pool::{self, Function};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};
use crate::window::{Axes, Fields};

descriptor! {
    /// Body of `opcode::POOL_BACKWARD`.
    pub struct PoolBackward : 552 {
        /// Operand 0: gradient of the result, `[images, channels, …]`; floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: as `pool` gives them; for max only.
        pub indices: TensorDesc = 160,
        /// Operand 2, written: gradient of the input, `[images, channels, …]`, of `dy`'s type.
        pub dx: TensorDesc = 320,
        /// As for `pool`, as are all that follow.
        pub taps: [u32; 3] = 480,
        /// Steps of the window.
        pub stride: [u32; 3] = 492,
        /// Distances of its taps.
        pub dilation: [u32; 3] = 504,
        /// Padding before and behind each spatial axis.
        pub padding: [u32; 6] = 516,
        /// What averages divide by; 0 counts the elements.
        pub divisor: u32 = 540,
        /// A `Function` of `pool`.
        pub function: u32 = 544,
        /// `FLAG_*` of `pool`.
        pub flags: u32 = 548,
    }
}

/// A checked [`PoolBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1; there for max only.
    pub indices: Option<Tensor>,
    /// Operand 2.
    pub dx: Tensor,
    /// The windows.
    pub axes: Axes,
    /// What averages divide by, if not the count.
    pub divisor: Option<u32>,
    /// What became of a window.
    pub function: Function,
}

impl crate::Descriptor for PoolBackward {
    const INFO: Info = Info {
        opcode: opcode::POOL_BACKWARD,
        name: "pool_backward",
        formula: "dx = gradient of pool",
        operands: &["dy", "indices?", "dx*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; indices i32, i64",
        backward: "max: take by the indices; averages: pool",
        cost: "1 per tap and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "pool_backward";
        let [sy, si, sx] =
            [(0, "dy"), (1, "indices"), (2, "dx")].map(|(i, n)| Site::new(NAME, i, n));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let indices = Tensor::check_optional(si, &self.indices, Role::Input)?;
        let dx = Tensor::check(sx, &self.dx, Role::Output)?;
        dy.expect_type(sy, &FLOATS)?;
        dx.expect_same_type(sx, &dy, "dy")?;
        let fields = Fields {
            taps: self.taps,
            stride: self.stride,
            dilation: self.dilation,
            padding: self.padding,
        };
        let axes = pool::windows(NAME, (sx, &dx), (sy, &dy), &fields, self.flags)?;
        if function == Function::Max && self.divisor != 0 {
            return Err(rule::error(
                NAME,
                format_args!("divisor is {}, but max has none", self.divisor),
            ));
        }
        dx.refuse_overlap(sx, &dy, "dy", false)?;
        match (&indices, function) {
            (Some(indices), Function::Max) => {
                pool::indices_fit(si, indices, &dx)?;
                indices.expect_dims(si, dy.dims(), "dy is")?;
                dx.refuse_overlap(sx, indices, "indices", false)?;
            }
            (None, Function::Max) => return Err(si.error(" is absent, but max needs it")),
            (Some(_), _) => {
                return Err(si.error(format_args!(" is given, but {} has none", function.name())));
            }
            (None, _) => {}
        }
        Ok(Checked {
            dy,
            indices,
            dx,
            axes,
            divisor: (self.divisor != 0).then_some(self.divisor),
            function,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.dy.elements.saturating_mul(pool::taps(&self.axes)),
            read: self.dy.footprint() + self.indices.map_or(0, |t| t.footprint()),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
