//! Gradient of [`crate::roi_align`]: `dx` gets from each bin what its elements were weighed with.
//!
//! Weights are as there. `average` divides them by the number of points of the bin; of `max` the element, and of `max_point` the point, that was the
//! largest gets all, the first of several; which it was is computed anew from `x`. Sums are of f32 (f64 for F64), rounded at each step, over regions, bins
//! and points in order. `dx` is written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::roi_align::{self, Function, Look};
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::ROI_ALIGN_BACKWARD`.
    pub struct RoiAlignBackward : 824 {
        /// Operand 0: gradient of the result, `[regions, channels, rows, columns]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[regions, 4]`, of `dy`'s type.
        pub rois: TensorDesc = 160,
        /// Operand 2: `[regions]`, I32 or I64.
        pub images: TensorDesc = 320,
        /// Operand 3, written: gradient of the input, `[images, channels, height, width]`, of `dy`'s type.
        pub dx: TensorDesc = 480,
        /// Operand 4: the input, of `dx`'s shape and type; absent for `average`.
        pub x: TensorDesc = 640,
        /// As for `roi_align`, as are all that follow.
        pub scale: f64 = 800,
        /// Points of a bin along each axis; 0 by its length.
        pub samples: u32 = 808,
        /// A `Function` of `roi_align`.
        pub function: u32 = 812,
        /// `FLAG_*` of `roi_align`.
        pub flags: u32 = 816,
        /// 0.
        pub reserved: u32 = 820,
    }
}

/// A checked [`RoiAlignBackward`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub dy: Tensor,
    /// Operand 1.
    pub rois: Tensor,
    /// Operand 2.
    pub images: Tensor,
    /// Operand 3.
    pub dx: Tensor,
    /// Operand 4, unless the function is the mean.
    pub x: Option<Tensor>,
    /// How regions were looked at.
    pub look: Look,
    /// What became of the points of a bin.
    pub function: Function,
}

impl crate::Descriptor for RoiAlignBackward {
    const INFO: Info = Info {
        opcode: opcode::ROI_ALIGN_BACKWARD,
        name: "roi_align_backward",
        formula: "dx = gradient of roi_align",
        operands: &["dy", "rois", "images", "dx*", "x?"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; images i32, i64",
        backward: "roi_align",
        cost: "8 per point and element of dy",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "roi_align_backward";
        let [sy, sr, si, sx] =
            [(0, "dy"), (1, "rois"), (2, "images"), (3, "dx")].map(|(i, n)| Site::new(NAME, i, n));
        let input = Site::new(NAME, 4, "x");
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let rois = Tensor::check(sr, &self.rois, Role::Input)?;
        let images = Tensor::check(si, &self.images, Role::Input)?;
        let dx = Tensor::check(sx, &self.dx, Role::Output)?;
        let x = Tensor::check_optional(input, &self.x, Role::Input)?;
        let numbers = [self.samples, self.flags, self.reserved];
        let look = roi_align::look(
            NAME,
            self.scale,
            numbers,
            (sx, &dx),
            (sr, &rois),
            (si, &images),
            (sy, &dy),
        )?;
        match (&x, function) {
            (None, Function::Average) => {}
            (Some(x), Function::Max | Function::MaxPoint) => {
                x.expect_same_type(input, &dx, "dx")?;
                x.expect_dims(input, dx.dims(), "dx is")?;
                dx.refuse_overlap(sx, x, "x", false)?;
            }
            (Some(_), _) => return Err(input.error(" is given, but average takes none")),
            (None, _) => {
                let name = function.name();
                return Err(input.error(format_args!(" is absent, but {name} needs it")));
            }
        }
        for (input, name) in [(&dy, "dy"), (&rois, "rois"), (&images, "images")] {
            dx.refuse_overlap(sx, input, name, false)?;
        }
        Ok(Checked {
            dy,
            rois,
            images,
            dx,
            x,
            look,
            function,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let points = roi_align::points(&self.look, &self.dx, &self.dy);
        Cost {
            operations: self.dy.elements.saturating_mul(8 * points),
            read: self.dy.footprint()
                + self.rois.footprint()
                + self.images.footprint()
                + self.x.map_or(0, |x| x.footprint()),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
