//! Gradient of [`crate::grid_sample`], by `x` and by the grid.
//!
//! `dx` gets from each element of `dy` what the elements were weighed with; sums are of f32 (f64 for F64), rounded at each step, over the elements of `dy`
//! in row-major order. `dgrid` is the slope of the interpolation at each place, summed over the channels in order; that of `nearest`, of a place that
//! `border` or `reflection` has moved to the edge, is 0. Both are written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::grid_sample::{self, Function, Look};
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::GRID_SAMPLE_BACKWARD`.
    pub struct GridSampleBackward : 816 {
        /// Operand 0: gradient of the result, `[images, channels, …]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[images, channels, …]`, of `dy`'s type.
        pub x: TensorDesc = 160,
        /// Operand 2: `[images, …, axes]`, of `dy`'s type.
        pub grid: TensorDesc = 320,
        /// Operand 3, written, may be absent: gradient of `x`, of its shape and type.
        pub dx: TensorDesc = 480,
        /// Operand 4, written, may be absent: gradient of `grid`, of its shape and type.
        pub dgrid: TensorDesc = 640,
        /// A `Function` of `grid_sample`.
        pub function: u32 = 800,
        /// A `Padding` of `grid_sample`.
        pub padding: u32 = 804,
        /// `FLAG_*` of `grid_sample`.
        pub flags: u32 = 808,
        /// 0.
        pub reserved: u32 = 812,
    }
}

/// A checked [`GridSampleBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub x: Tensor,
    /// Operand 2.
    pub grid: Tensor,
    /// Operand 3.
    pub dx: Option<Tensor>,
    /// Operand 4.
    pub dgrid: Option<Tensor>,
    /// How places are looked at.
    pub look: Look,
}

impl crate::Descriptor for GridSampleBackward {
    const INFO: Info = Info {
        opcode: opcode::GRID_SAMPLE_BACKWARD,
        name: "grid_sample_backward",
        formula: "dx, dgrid = gradients of grid_sample",
        operands: &["dy", "x", "grid", "dx*?", "dgrid*?"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64",
        backward: "none",
        cost: "4 per weighed element and element of dy, 16 per number of the grid",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "grid_sample_backward";
        let [sy, sx, sg, sdx, sdg] = [(0, "dy"), (1, "x"), (2, "grid"), (3, "dx"), (4, "dgrid")]
            .map(|(i, n)| Site::new(NAME, i, n));
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let grid = Tensor::check(sg, &self.grid, Role::Input)?;
        let dx = Tensor::check_optional(sdx, &self.dx, Role::Output)?;
        let dgrid = Tensor::check_optional(sdg, &self.dgrid, Role::Output)?;
        let numbers = [self.function, self.padding, self.flags, self.reserved];
        let look = grid_sample::look(NAME, numbers, (sx, &x), (sg, &grid), (sy, &dy))?;
        if dx.is_none() && dgrid.is_none() {
            return Err(sdx.error(" and dgrid are absent"));
        }
        for (s, out, like, name) in [(sdx, &dx, &x, "x"), (sdg, &dgrid, &grid, "grid")] {
            let Some(out) = out else { continue };
            out.expect_same_type(s, like, name)?;
            out.expect_dims(s, like.dims(), if name == "x" { "x is" } else { "grid is" })?;
            for (input, name) in [(&dy, "dy"), (&x, "x"), (&grid, "grid")] {
                out.refuse_overlap(s, input, name, false)?;
            }
        }
        if let (Some(dx), Some(dgrid)) = (&dx, &dgrid) {
            dgrid.refuse_overlap(sdg, dx, "dx", false)?;
        }
        Ok(Checked {
            dy,
            x,
            grid,
            dx,
            dgrid,
            look,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let places = self.grid.elements.saturating_mul(16);
        let sums = self.dy.elements.saturating_mul(4 * self.look.taps());
        let outputs = [self.dx, self.dgrid];
        Cost {
            operations: places.saturating_add(sums),
            read: self.dy.footprint() + self.x.footprint() + self.grid.footprint(),
            written: outputs.iter().flatten().map(Tensor::footprint).sum(),
            ..Cost::default()
        }
    }
}
