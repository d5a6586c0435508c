//! Resizing.

use vmlu::ops::resize::{
    align_corners, Function, Place, Resize, Rounding, FLAG_ANTIALIAS, FLAG_EXCLUDE,
    FLAG_EXTRAPOLATE,
};
use vmlu::Tensor;

use super::{one, Found, Node};
use crate::card::axis;
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "Resize" => one(resize(node)?),
        "Upsample" => one(upsample(node)?),
        _ => Ok(None),
    }
}

/// An axis that is resized: the extents, the ratio as ONNX has it, and the part of the input that is looked at.
struct Axis {
    number: usize,
    input: u64,
    output: u64,
    ratio: (f64, f64),
    part: (f64, f64),
}

impl Axis {
    /// Extent of the result as a fraction, and divided by that of the input.
    fn exact(&self) -> f64 {
        self.input as f64 * self.ratio.0 / self.ratio.1
    }

    /// What a convention makes of positions.
    fn place(&self, convention: &str) -> Result<Place> {
        let (output, input) = self.ratio;
        let (end, last) = (self.input as f64 - 1.0, self.output as f64 - 1.0);
        let (from, to) = self.part;
        Ok(match convention {
            "half_pixel" => [0.5, input, output, -0.5],
            "pytorch_half_pixel" if self.output == 1 => [0.0, 0.0, 1.0, 0.0],
            "pytorch_half_pixel" => [0.5, input, output, -0.5],
            "half_pixel_symmetric" => {
                let left = self.input as f64 / 2.0 * (1.0 - self.output as f64 / self.exact());
                [0.5, input, output, left - 0.5]
            }
            "asymmetric" => [0.0, input, output, 0.0],
            "align_corners" if self.exact().fract() == 0.0 => {
                align_corners(self.input, self.output)
            }
            "align_corners" => [0.0, end, self.exact() - 1.0, 0.0],
            "tf_crop_and_resize" if last == 0.0 => [0.0, 0.0, 1.0, (from + to) * end / 2.0],
            "tf_crop_and_resize" => [0.0, (to - from) * end, last, from * end],
            other => return unsupported(format!("positions by {other}")),
        })
    }
}

/// Resizes those axes. The card has two that stay; others are resized to what they are.
fn over(
    node: &Node<'_>,
    x: &Tensor,
    mut axes: Vec<Axis>,
    body: Resize,
    convention: &str,
) -> Result<Tensor> {
    let card = node.card;
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let mut dims = x.dims().to_vec();
    for axis in &axes {
        dims[axis.number] = axis.output;
    }
    let out = card.empty(x.dtype(), &dims)?;
    let mut order: Vec<usize> = (0..dims.len())
        .filter(|i| axes.iter().all(|a| a.number != *i))
        .collect();
    while order.len() > 2 && !axes.is_empty() {
        let number = order.remove(0);
        let extent = x.dims()[number];
        axes.push(Axis {
            number,
            input: extent,
            output: extent,
            ratio: (1.0, 1.0),
            part: (0.0, 1.0),
        });
    }
    if order.len() > 2 || axes.len() > 3 {
        return unsupported(format!("resizing {} of {} axes", axes.len(), dims.len()));
    }
    let missing = 2 - order.len();
    order.extend(axes.iter().map(|a| a.number));
    let images = |t: &Tensor| {
        let t = card.permute(t, &order);
        (0..missing).fold(t, |t, _| card.unsqueeze(&t, 0))
    };
    let mut body = Resize {
        x: *images(x).desc(),
        out: *images(&out).desc(),
        ..body
    };
    for (i, axis) in axes.iter().enumerate() {
        let place = axis.place(convention)?;
        [
            body.offset[i],
            body.numerator[i],
            body.denominator[i],
            body.shift[i],
        ] = place;
    }
    card.queue.resize(&body)?;
    Ok(out)
}

fn function(mode: &str) -> Result<Function> {
    Ok(match mode {
        "nearest" => Function::Nearest,
        "linear" | "bilinear" => Function::Linear,
        "cubic" => Function::Cubic,
        other => return unsupported(format!("interpolation {other}")),
    })
}

fn resize(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let numbers = |i: usize| -> Result<Option<Vec<f64>>> {
        let given = node.given(i).filter(|t| t.elements() > 0);
        given.map(|t| card.numbers(t)).transpose()
    };
    // The oldest version has no part.
    let first = if card.opset < 11 { 0 } else { 1 };
    let part = if first == 1 { numbers(1)? } else { None };
    let (scales, sizes) = (numbers(1 + first)?, numbers(2 + first)?);
    let mut numbers = Vec::new();
    match node.ints("axes") {
        Some(axes) => {
            for a in axes {
                numbers.push(axis(a, x.dims().len())?);
            }
        }
        None => numbers.extend(0..x.dims().len()),
    }
    let count = numbers.len();
    let policy = node.text("keep_aspect_ratio_policy", "stretch");
    let convention = match card.opset {
        ..11 => "asymmetric".into(),
        _ => node.text("coordinate_transformation_mode", "half_pixel"),
    };
    let mut axes = Vec::new();
    for (i, number) in numbers.into_iter().enumerate() {
        let input = x.dims()[number];
        let length = input as f64;
        let (output, ratio) = match (&scales, &sizes) {
            (Some(scales), _) => ((length * scales[i]).floor(), (scales[i], 1.0)),
            (None, Some(sizes)) if policy == "stretch" => (sizes[i], (sizes[i], length)),
            (None, Some(sizes)) => {
                let dims = x.dims();
                let all = match node.ints("axes") {
                    Some(axes) => axes,
                    None => (0..dims.len() as i64).collect(),
                };
                let each = all.iter().zip(sizes).map(|(a, s)| {
                    let a = if *a < 0 { a + dims.len() as i64 } else { *a };
                    s / dims[a as usize] as f64
                });
                let ratio = match &policy[..] {
                    "not_larger" => each.fold(f64::INFINITY, f64::min),
                    _ => each.fold(0.0, f64::max),
                };
                ((length * ratio + 0.5).floor(), (ratio, 1.0))
            }
            (None, None) => return wrong("Resize has neither scales nor sizes"),
        };
        let part = match &part {
            Some(p) if convention == "tf_crop_and_resize" => (p[i], p[count + i]),
            _ => (0.0, 1.0),
        };
        if output as u64 != input || ratio.0 != ratio.1 || part != (0.0, 1.0) {
            axes.push(Axis {
                number,
                input,
                output: output as u64,
                ratio,
                part,
            });
        }
    }
    let function = function(&node.text("mode", "nearest"))?;
    let nearest = function == Function::Nearest;
    let flag = |name, flag| {
        if node.int(name, 0) != 0 && !nearest {
            flag
        } else {
            0
        }
    };
    let mut body = Resize::new(function, *x.desc(), *x.desc(), |_, _| [0.0; 4]);
    body.flags = flag("antialias", FLAG_ANTIALIAS) | flag("exclude_outside", FLAG_EXCLUDE);
    if convention == "tf_crop_and_resize" {
        body.flags |= FLAG_EXTRAPOLATE;
        body.extrapolation = node.float("extrapolation_value", 0.0);
    }
    if nearest {
        let rounding = match card.opset {
            ..11 => "floor".into(),
            _ => node.text("nearest_mode", "round_prefer_floor"),
        };
        body.rounding = match &rounding[..] {
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            "round_prefer_ceil" => Rounding::HalfUp,
            _ => Rounding::HalfDown,
        } as u32;
    }
    if function == Function::Cubic {
        body.coefficient = node.float("cubic_coeff_a", -0.75);
    }
    over(node, x, axes, body, &convention)
}

fn upsample(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let scales = match (node.attribute("scales"), node.given(1)) {
        (Some(a), _) => a.floats.iter().map(|v| f64::from(*v)).collect(),
        (None, Some(t)) => card.numbers(t)?,
        _ => return wrong("Upsample has no scales"),
    };
    let each = x.dims().iter().zip(&scales).enumerate();
    let axes: Vec<Axis> = each
        .filter(|(_, (_, s))| **s != 1.0)
        .map(|(number, (d, s))| Axis {
            number,
            input: *d,
            output: (*d as f64 * s).floor() as u64,
            ratio: (*s, 1.0),
            part: (0.0, 1.0),
        })
        .collect();
    let function = function(&node.text("mode", "nearest"))?;
    let body = Resize::new(function, *x.desc(), *x.desc(), |_, _| [0.0; 4]);
    over(node, x, axes, body, "asymmetric")
}
