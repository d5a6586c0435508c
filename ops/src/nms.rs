//! Non-maximum suppression: of boxes that overlap too much only the one with the highest score stays.
//!
//! `boxes` is `[images, boxes, 4]`: two opposite corners, or, with `FLAG_CENTRE`, the centre and the extents. `scores` is `[images, classes, boxes]`. For each image
//! and class, boxes whose score is above `score_threshold` (all, with -∞) are visited from the highest score down, of equal ones the
//! lower number first, NaN before all; one is kept unless its overlap with a kept one is above `overlap_threshold`, and no more than `limit` are (0: any
//! number). The overlap is the area of the intersection divided by that of the union, f32 (f64 for F64) rounded at each step; with NaN or 0 / 0 it
//! is above nothing.
//!
//! `out` is `[most, 3]`: image, class and number of the kept boxes, images in order, classes in order, by falling score. What does not fit is
//! left out, and rows behind the last are -1. `count` takes how many rows there are.

use vmlu_abi::tensor::{DataType, TensorDesc};

use crate::cost::Cost;
use crate::rule::{self, RuleError, Site};
use crate::table::{opcode, Info};
use crate::tensor::{Role, Tensor, FLOATS, INDICES};

/// Boxes are centre, width and height.
pub const FLAG_CENTRE: u32 = 1;

/// Most boxes of an image: the card keeps a copy.
pub const MAX_BOXES: u64 = 1 << 20;

descriptor! {
    /// Body of `opcode::NMS`.
    pub struct Nms : 672 {
        /// Operand 0: `[images, boxes, 4]`, floats.
        pub boxes: TensorDesc = 0,
        /// Operand 1: `[images, classes, boxes]`, of `boxes`' type.
        pub scores: TensorDesc = 160,
        /// Operand 2, written: `[most, 3]`, I32 or I64.
        pub out: TensorDesc = 320,
        /// Operand 3, written, may be absent: one element, I64.
        pub count: TensorDesc = 480,
        /// Overlap from which on a box goes.
        pub overlap_threshold: f64 = 640,
        /// Score that a box needs more than; -∞ for none.
        pub score_threshold: f64 = 648,
        /// Most boxes of an image and class, 0 for any number.
        pub limit: u64 = 656,
        /// `FLAG_*`.
        pub flags: u32 = 664,
        /// 0.
        pub reserved: u32 = 668,
    }
}

/// A checked [`Nms`].
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Operand 0.
    pub boxes: Tensor,
    /// Operand 1.
    pub scores: Tensor,
    /// Operand 2.
    pub out: Tensor,
    /// Operand 3.
    pub count: Option<Tensor>,
    /// Overlap from which on a box goes.
    pub overlap_threshold: f64,
    /// Score that a box needs more than.
    pub score_threshold: f64,
    /// Most boxes of an image and class.
    pub limit: u64,
    /// Whether boxes are centre and extents.
    pub centre: bool,
}

impl crate::Descriptor for Nms {
    const INFO: Info = Info {
        opcode: opcode::NMS,
        name: "nms",
        formula: "out = boxes that no better one overlaps",
        operands: &["boxes", "scores", "out*", "count*?"],
        functions: &[],
        types: "f32, f16, bf16, f64; out i32, i64",
        backward: "none: piecewise constant",
        cost: "2 · log2 of the boxes per score, 16 per score and 64 boxes",
        body: size_of::<Self>(),
        fields: Self::FIELDS,
    };
    type Checked = Checked;

    fn check(&self) -> Result<Checked, RuleError> {
        const NAME: &str = "nms";
        let [sb, ss, so, sc] = [(0, "boxes"), (1, "scores"), (2, "out"), (3, "count")]
            .map(|(i, n)| Site::new(NAME, i, n));
        rule::reserved(NAME, &[self.reserved])?;
        let fail = |text: core::fmt::Arguments<'_>| Err(rule::error(NAME, text));
        if self.flags & !FLAG_CENTRE != 0 {
            return fail(format_args!(
                "flags are {:#x}, of which some are unknown",
                self.flags
            ));
        }
        if self.overlap_threshold.is_nan() || self.score_threshold.is_nan() {
            return fail(format_args!("a threshold is NaN"));
        }
        let boxes = Tensor::check(sb, &self.boxes, Role::Input)?;
        let scores = Tensor::check(ss, &self.scores, Role::Input)?;
        let out = Tensor::check(so, &self.out, Role::Output)?;
        let count = Tensor::check_optional(sc, &self.count, Role::Output)?;
        boxes.expect_type(sb, &FLOATS)?;
        scores.expect_same_type(ss, &boxes, "boxes")?;
        boxes.expect_rank(sb, 3)?;
        scores.expect_rank(ss, 3)?;
        let [images, number, _] = [0, 1, 2].map(|i| boxes.dims()[i]);
        boxes.expect_dims(sb, &[images, number, 4], "boxes have four numbers")?;
        scores.expect_dims(ss, &[images, scores.dims()[1], number], "boxes say")?;
        if number > MAX_BOXES {
            return Err(sb.error(format_args!(".dims[1] is {number}, at most {MAX_BOXES}")));
        }
        out.expect_type(so, &INDICES)?;
        out.expect_rank(so, 2)?;
        out.expect_dims(so, &[out.dims()[0], 3], "rows have three numbers")?;
        for (name, extent) in [("images", images), ("classes", scores.dims()[1])] {
            if out.dtype == DataType::I32 && extent > 1 << 31 {
                return Err(so.error(format_args!(".dtype is I32, but there are {extent} {name}")));
            }
        }
        for (input, name) in [(&boxes, "boxes"), (&scores, "scores")] {
            out.refuse_overlap(so, input, name, false)?;
        }
        if let Some(count) = &count {
            count.expect_type(sc, &[DataType::I64])?;
            if count.elements != 1 {
                return Err(sc.error(format_args!(
                    " has {} elements, must have one",
                    count.elements
                )));
            }
            for (other, name) in [(&boxes, "boxes"), (&scores, "scores"), (&out, "out")] {
                count.refuse_overlap(sc, other, name, false)?;
            }
        }
        Ok(Checked {
            boxes,
            scores,
            out,
            count,
            overlap_threshold: self.overlap_threshold,
            score_threshold: self.score_threshold,
            limit: match self.limit {
                0 => u64::MAX,
                n => n,
            },
            centre: self.flags & FLAG_CENTRE != 0,
        })
    }
}

impl Checked {
    /// What the clock is charged.
    pub fn cost(&self) -> Cost {
        let boxes = self.boxes.dims()[1].max(2);
        let each = 2 * u64::from(boxes.ilog2()) + 16 * boxes.div_ceil(64);
        Cost {
            operations: self.scores.elements.saturating_mul(each),
            read: self.boxes.footprint() + self.scores.footprint(),
            written: self.out.footprint() + self.count.map_or(0, |t| t.footprint()),
            ..Cost::default()
        }
    }
}
