//! Grids, regions and boxes.

use vmlu::ops::affine_grid::AffineGrid;
use vmlu::ops::grid_sample::{Function, GridSample, Padding, FLAG_ALIGN};
use vmlu::ops::nms::{Nms, FLAG_CENTRE};
use vmlu::ops::roi_align::{self, RoiAlign};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::{unsupported, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "AffineGrid" => one(affine_grid(node)?),
        "GridSample" => one(grid_sample(node)?),
        "RoiAlign" => one(regions(node)?),
        "NonMaxSuppression" => one(suppression(node)?),
        _ => Ok(None),
    }
}

fn aligned(node: &Node<'_>) -> u32 {
    if node.int("align_corners", 0) != 0 {
        FLAG_ALIGN
    } else {
        0
    }
}

fn affine_grid(node: &Node<'_>) -> Result<Tensor> {
    let (card, theta) = (node.card, node.input(0)?);
    let size = card.whole(node.input(1)?)?;
    let mut dims = vec![size[0] as u64];
    dims.extend(size[2..].iter().map(|d| *d as u64));
    dims.push(size.len() as u64 - 2);
    let grid = card.empty(theta.dtype(), &dims)?;
    card.queue.affine_grid(&AffineGrid {
        theta: *theta.desc(),
        grid: *grid.desc(),
        flags: aligned(node),
        reserved: 0,
    })?;
    Ok(grid)
}

fn grid_sample(node: &Node<'_>) -> Result<Tensor> {
    let (card, x, grid) = (node.card, node.input(0)?, node.input(1)?);
    let mut dims = x.dims()[..2].to_vec();
    dims.extend(&grid.dims()[1..grid.dims().len() - 1]);
    let out = card.empty(x.dtype(), &dims)?;
    let function = match &node.text("mode", "linear")[..] {
        "nearest" => Function::Nearest,
        "linear" | "bilinear" => Function::Linear,
        "cubic" | "bicubic" => Function::Cubic,
        other => return unsupported(format!("interpolation {other}")),
    };
    let padding = match &node.text("padding_mode", "zeros")[..] {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        other => return unsupported(format!("padding {other}")),
    };
    card.queue.grid_sample(&GridSample {
        x: *x.desc(),
        grid: *grid.desc(),
        out: *out.desc(),
        function: function.raw(),
        padding: padding as u32,
        flags: aligned(node),
        reserved: 0,
    })?;
    Ok(out)
}

fn regions(node: &Node<'_>) -> Result<Tensor> {
    let (card, x, rois, images) = (node.card, node.input(0)?, node.input(1)?, node.input(2)?);
    let dims = [
        rois.dims()[0],
        x.dims()[1],
        node.int("output_height", 1) as u64,
        node.int("output_width", 1) as u64,
    ];
    let out = card.empty(x.dtype(), &dims)?;
    let function = match &node.text("mode", "avg")[..] {
        "max" => roi_align::Function::Max,
        _ => roi_align::Function::Average,
    };
    let newer = card.opset >= 16;
    let default = if newer {
        "half_pixel"
    } else {
        "output_half_pixel"
    };
    let half = node.text("coordinate_transformation_mode", default) == "half_pixel";
    card.queue.roi_align(&RoiAlign {
        x: *x.desc(),
        rois: *rois.desc(),
        images: *images.desc(),
        out: *out.desc(),
        scale: node.float("spatial_scale", 1.0),
        samples: node.int("sampling_ratio", 0) as u32,
        function: function.raw(),
        flags: if half { roi_align::FLAG_ALIGN } else { 0 },
        reserved: 0,
    })?;
    Ok(out)
}

fn suppression(node: &Node<'_>) -> Result<Tensor> {
    let (card, boxes, scores) = (node.card, node.input(0)?, node.input(1)?);
    let number = |i: usize, default: f64| -> Result<f64> {
        let given = node.given(i).filter(|t| t.elements() > 0);
        given.map_or(Ok(default), |t| Ok(card.numbers(t)?[0]))
    };
    let limit = number(2, 0.0)? as u64;
    let [images, classes, boxes_each] = [0, 1, 2].map(|i| scores.dims()[i]);
    let most = images * classes * boxes_each.min(limit);
    let out = card.empty(DataType::I64, &[most, 3])?;
    let count = card.empty(DataType::I64, &[1])?;
    card.queue.nms(&Nms {
        boxes: *boxes.desc(),
        scores: *scores.desc(),
        out: *out.desc(),
        count: *count.desc(),
        overlap_threshold: number(3, 0.0)?,
        score_threshold: number(4, f64::NEG_INFINITY)?,
        limit,
        flags: if node.int("center_point_box", 0) != 0 {
            FLAG_CENTRE
        } else {
            0
        },
        reserved: 0,
    })?;
    let rows = card.whole(&count)?[0] as u64;
    card.slice(&out, 0, 0, 1, rows)
}
