//! Gradient of [`crate::roi_align`] with `average`: `dx` gets from each bin what its elements were weighed with.
//!
//! Weights as there, divided by the number of points of the bin. Sums are of f32 (f64 for F64), rounded at each step, over regions, bins and points in
//! order. `dx` is written, not added to.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::roi_align::{self, Look};
use crate::rule::{RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor};

descriptor! {
    /// Body of `opcode::ROI_ALIGN_BACKWARD`.
    pub struct RoiAlignBackward : 664 {
        /// Operand 0: gradient of the result, `[regions, channels, rows, columns]`, floats.
        pub dy: TensorDesc = 0,
        /// Operand 1: `[regions, 4]`, of `dy`'s type.
        pub rois: TensorDesc = 160,
        /// Operand 2: `[regions]`, I32 or I64.
        pub images: TensorDesc = 320,
        /// Operand 3, written: gradient of the input, `[images, channels, height, width]`, of `dy`'s type.
        pub dx: TensorDesc = 480,
        /// As for `roi_align`, as are all that follow.
        pub scale: f64 = 640,
        /// Points of a bin along each axis; 0 by its length.
        pub samples: u32 = 648,
        /// `FLAG_*` of `roi_align`.
        pub flags: u32 = 652,
        /// 0.
        pub reserved: [u32; 2] = 656,
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
    /// How regions were looked at.
    pub look: Look,
}

impl crate::Descriptor for RoiAlignBackward {
    const INFO: Info = Info {
        opcode: opcode::ROI_ALIGN_BACKWARD,
        name: "roi_align_backward",
        formula: "dx = gradient of roi_align",
        operands: &["dy", "rois", "images", "dx*"],
        functions: &[],
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
        let dy = Tensor::check(sy, &self.dy, Role::Input)?;
        let rois = Tensor::check(sr, &self.rois, Role::Input)?;
        let images = Tensor::check(si, &self.images, Role::Input)?;
        let dx = Tensor::check(sx, &self.dx, Role::Output)?;
        let [a, b] = self.reserved;
        let numbers = [self.samples, self.flags, a | b];
        let look = roi_align::look(
            NAME,
            self.scale,
            numbers,
            (sx, &dx),
            (sr, &rois),
            (si, &images),
            (sy, &dy),
        )?;
        for (input, name) in [(&dy, "dy"), (&rois, "rois"), (&images, "images")] {
            dx.refuse_overlap(sx, input, name, false)?;
        }
        Ok(Checked {
            dy,
            rois,
            images,
            dx,
            look,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let points = roi_align::points(&self.look, &self.dx, &self.dy);
        Cost {
            operations: self.dy.elements.saturating_mul(8 * points),
            read: self.dy.footprint() + self.rois.footprint() + self.images.footprint(),
            written: self.dx.footprint(),
            ..Cost::default()
        }
    }
}
