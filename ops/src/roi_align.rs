//! Regions of images, made the same size: `out[r, c, i, j]` is the mean, or the largest, of points in bin `[i, j]` of region `r`.
//!
//! `x` is `[images, channels, height, width]`, `rois` `[regions, 4]`: left, top, right, bottom, in units of which `scale` makes positions of `x`; `images`
//! says which image each lies on. `out` is `[regions, channels, rows, columns]`. With `FLAG_ALIGN` positions are centres of elements (half
//! a position less), else a region is at least one position wide and high. A bin has `samples` points along each axis, evenly spaced, or,
//! with 0, as many as it is long, rounded up, at most [`MAX_SAMPLES`].
//!
//! A point more than one position outside of `x` is 0; else it is linear in the elements around it, those outside being the nearest inside. `max`
//! takes the largest of the weighed elements of all points, not of their sums, as the original and ONNX do; `max_point` that of the points.
//!
//! Places, weights and sums are of f32 (f64 for F64), rounded at each step; points row by row, elements of a point row by row; the mean is
//! the sum divided by the number of points, of a bin without points 0.

use vmlu_abi::tensor::TensorDesc;

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};
use crate::window::MAX_EXTENT;

/// Positions are centres of elements.
pub const FLAG_ALIGN: u32 = 1;

/// Most points of a bin along an axis.
pub const MAX_SAMPLES: u32 = 4096;

descriptor! {
    /// Body of `opcode::ROI_ALIGN`.
    pub struct RoiAlign : 664 {
        /// Operand 0: `[images, channels, height, width]`, floats.
        pub x: TensorDesc = 0,
        /// Operand 1: `[regions, 4]`, of `x`'s type.
        pub rois: TensorDesc = 160,
        /// Operand 2: `[regions]`, I32 or I64.
        pub images: TensorDesc = 320,
        /// Operand 3, written: `[regions, channels, rows, columns]`, of `x`'s type.
        pub out: TensorDesc = 480,
        /// Positions of `x` in a unit of `rois`.
        pub scale: f64 = 640,
        /// Points of a bin along each axis, at most [`MAX_SAMPLES`]; 0 by its length.
        pub samples: u32 = 648,
        /// A [`Function`].
        pub function: u32 = 652,
        /// `FLAG_*`.
        pub flags: u32 = 656,
        /// 0.
        pub reserved: u32 = 660,
    }
}

functions! {
    /// What becomes of the points of a bin.
    pub enum Function {
        /// Their mean.
        Average = 0, "average";
        /// The largest of their weighed elements.
        Max = 1, "max";
        /// The largest of them.
        MaxPoint = 2, "max_point";
    }
}

/// How regions are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Positions in a unit.
    pub scale: f64,
    /// Points of a bin along each axis.
    pub samples: u32,
    /// Whether positions are centres.
    pub align: bool,
}

/// A checked [`RoiAlign`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub x: Tensor,
    /// Operand 1.
    pub rois: Tensor,
    /// Operand 2.
    pub images: Tensor,
    /// Operand 3.
    pub out: Tensor,
    /// How regions are looked at.
    pub look: Look,
    /// What becomes of the points of a bin.
    pub function: Function,
}

/// Checks what the operator and its gradient share.
pub(crate) fn look(
    name: &'static str,
    scale: f64,
    [samples, flags, reserved]: [u32; 3],
    (sx, x): (Site, &Tensor),
    (sr, rois): (Site, &Tensor),
    (si, images): (Site, &Tensor),
    (so, out): (Site, &Tensor),
) -> Result<Look, RuleError> {
    rule::reserved(name, &[reserved])?;
    let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(name, text));
    if flags & !FLAG_ALIGN != 0 {
        return fail(format_args!(
            "flags are {flags:#x}, of which some are unknown"
        ));
    }
    if !scale.is_finite() {
        return fail(format_args!("scale is {scale}, must be finite"));
    }
    if samples > MAX_SAMPLES {
        return fail(format_args!("samples are {samples}, at most {MAX_SAMPLES}"));
    }
    x.expect_type(sx, &FLOATS)?;
    rois.expect_same_type(sr, x, sx.name)?;
    out.expect_same_type(so, x, sx.name)?;
    images.expect_type(si, &INDICES)?;
    x.expect_rank(sx, 4)?;
    rois.expect_rank(sr, 2)?;
    let regions = rois.dims()[0];
    rois.expect_dims(sr, &[regions, 4], "regions have four numbers")?;
    images.expect_dims(si, &[regions], "there are as many as regions")?;
    out.expect_rank(so, 4)?;
    out.expect_dims(
        so,
        &[regions, x.dims()[1], out.dims()[2], out.dims()[3]],
        "regions and input say",
    )?;
    for i in 2..4 {
        let extent = x.dims()[i];
        if extent > MAX_EXTENT || (extent == 0 && out.elements != 0) {
            return Err(sx.error(format_args!(
                ".dims[{i}] is {extent}, must be 1 to {MAX_EXTENT}"
            )));
        }
    }
    Ok(Look {
        scale,
        samples,
        align: flags & FLAG_ALIGN != 0,
    })
}

impl crate::Descriptor for RoiAlign {
    const INFO: Info = Info {
        opcode: opcode::ROI_ALIGN,
        name: "roi_align",
        formula: "out = bins of regions of x",
        operands: &["x", "rois", "images", "out*"],
        functions: Function::ROWS,
        types: "f32, f16, bf16, f64; images i32, i64",
        backward: "roi_align_backward",
        cost: "8 per point and element of out",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "roi_align";
        let [sx, sr, si, so] =
            [(0, "x"), (1, "rois"), (2, "images"), (3, "out")].map(|(i, n)| Site::new(NAME, i, n));
        let function = Function::from_raw(self.function).ok_or_else(|| {
            rule::error(NAME, format_args!("function {} is unknown", self.function))
        })?;
        let x = Tensor::check(sx, &self.x, Role::Input)?;
        let rois = Tensor::check(sr, &self.rois, Role::Input)?;
        let images = Tensor::check(si, &self.images, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let numbers = [self.samples, self.flags, self.reserved];
        let look = look(
            NAME,
            self.scale,
            numbers,
            (sx, &x),
            (sr, &rois),
            (si, &images),
            (so, &out),
        )?;
        for (input, name) in [(&x, "x"), (&rois, "rois"), (&images, "images")] {
            out.refuse_overlap(so, input, name, false)?;
        }
        Ok(Checked {
            x,
            rois,
            images,
            out,
            look,
            function,
        })
    }
}

/// Points of a bin, about: those of a region of half of the input.
pub(crate) fn points(look: &Look, x: &Tensor, out: &Tensor) -> u64 {
    let along = |i: usize| match look.samples {
        0 => (x.dims()[i] / 2)
            .div_ceil(out.dims()[i].max(1))
            .clamp(1, MAX_SAMPLES.into()),
        n => n.into(),
    };
    along(2) * along(3)
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let points = points(&self.look, &self.x, &self.out);
        Cost {
            operations: self.out.elements.saturating_mul(8 * points),
            read: self.x.footprint() + self.rois.footprint() + self.images.footprint(),
            written: self.out.footprint(),
            ..Cost::default()
        }
    }
}
