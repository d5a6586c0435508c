//! The grid of an affine map, for [`crate::grid_sample`]: `grid[n, p] = theta[n] @ [place of p; 1]`.
//!
//! `theta` is `[images, axes, axes + 1]`, `grid` `[images, …, axes]`, with 1 to 3 axes. Places go from -1 to 1 along each axis, the last axis first: those of the
//! elements' centres, at `(2 · i + 1) / n - 1`, or, with `FLAG_ALIGN`, at `2 · i / (n - 1) - 1`, 0 of a single one. Places are of f64, rounded to f32 (f64 for F64)
//! once; sums go from the first column on, in f32 (f64), rounded at each step.

use vmlu_abi::tensor::TensorDesc;

use crate::conv_geometry::MAX_SPATIAL;
use crate::cost::Cost;
use crate::grid_sample::FLAG_ALIGN;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS};

descriptor! {
    /// Body of `opcode::AFFINE_GRID`.
    pub struct AffineGrid : 328 {
        /// Operand 0: `[images, axes, axes + 1]`, floats.
        pub theta: TensorDesc = 0,
        /// Operand 1, written: `[images, …, axes]`, of `theta`'s type.
        pub grid: TensorDesc = 160,
        /// `FLAG_ALIGN` of `grid_sample`, or 0.
        pub flags: u32 = 320,
        /// 0.
        pub reserved: u32 = 324,
    }
}

/// A checked [`AffineGrid`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub theta: Tensor,
    /// Operand 1.
    pub grid: Tensor,
    /// Whether the ends are centres.
    pub align: bool,
    /// Spatial axes.
    pub spatial: usize,
}

impl crate::Descriptor for AffineGrid {
    const INFO: Info = Info {
        opcode: opcode::AFFINE_GRID,
        name: "affine_grid",
        formula: "grid = theta @ [places; 1]",
        operands: &["theta", "grid*"],
        functions: &[],
        types: "f32, f16, bf16, f64",
        backward: "matmul of the gradient with the grid of the identity",
        cost: "8 per element of grid",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "affine_grid";
        let [st, sg] = [(0, "theta"), (1, "grid")].map(|(i, n)| Site::new(NAME, i, n));
        if self.flags & !FLAG_ALIGN != 0 {
            let text = format_args!("flags are {:#x}, of which some are unknown", self.flags);
            return Err(rule::error(NAME, text));
        }
        rule::reserved(NAME, &[self.reserved])?;
        let theta = Tensor::check(st, &self.theta, Role::Input)?;
        let grid = Tensor::check(sg, &self.grid, Role::Output)?;
        theta.expect_type(st, &FLOATS)?;
        grid.expect_same_type(sg, &theta, "theta")?;
        theta.expect_rank(st, 3)?;
        let spatial = theta.dims()[1];
        if !(1..=MAX_SPATIAL as u64).contains(&spatial) {
            return Err(st.error(format_args!(".dims[1] is {spatial}, must be 1 to 3")));
        }
        theta.expect_dims(
            st,
            &[theta.dims()[0], spatial, spatial + 1],
            "its second axis says",
        )?;
        grid.expect_rank(sg, 2 + spatial as usize)?;
        let mut dims = [0; 2 + MAX_SPATIAL];
        let dims = &mut dims[..grid.rank()];
        dims.copy_from_slice(grid.dims());
        (dims[0], dims[1 + spatial as usize]) = (theta.dims()[0], spatial);
        grid.expect_dims(sg, dims, "theta says")?;
        grid.refuse_overlap(sg, &theta, "theta", false)?;
        Ok(Checked {
            theta,
            grid,
            align: self.flags & FLAG_ALIGN != 0,
            spatial: spatial as usize,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        Cost {
            operations: self.grid.elements.saturating_mul(8),
            read: self.theta.footprint(),
            written: self.grid.footprint(),
            ..Cost::default()
        }
    }
}
