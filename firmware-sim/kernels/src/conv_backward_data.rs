//! Kernel of `vmlu_ops::conv_backward_data`: positions of `dx` that the same taps reach are one convolution of `dy`.

use vmlu_ops::conv_backward_data::{Checked, ConvBackwardData};
use vmlu_ops::conv_geometry::Geometry;

use super::conv::{Pass, Scalars};
use super::conv_sides::Taps;
use super::env::{Access, Env, Fault, Work};
use super::view::View;

pub(super) fn run(body: &[u8], env: &dyn Env) -> Result<Work, Fault> {
    let op = super::parse::<ConvBackwardData>(body)?;
    let dy = View::open(env, 0, &op.dy, Access::Read)?;
    let w = View::open(env, 1, &op.w, Access::Read)?;
    let dx = View::open(env, 2, &op.dx, Access::Write)?;
    let bias = match &op.bias {
        Some(bias) => Some(View::open(env, 3, bias, Access::Read)?),
        None => None,
    };
    if op.dx.elements == 0 {
        return Ok(op.cost().into());
    }
    let geometry = &op.geometry;
    let bias_stride = op.bias.map_or(0, |b| b.strides()[0] as isize);
    let [wo, wi, tap_strides @ ..] = Geometry::strides(&op.w);
    let [image, channel, axes @ ..] = Geometry::strides(&op.dx);
    // Positions with the same remainder of the stride meet the same taps.
    let phases: [usize; 3] = std::array::from_fn(|i| geometry.stride[i].min(geometry.input[i]));
    for d in 0..phases[0] {
        for h in 0..phases[1] {
            for w_phase in 0..phases[2] {
                env.check()?;
                let phase = [d, h, w_phase];
                let count = |i: usize| (geometry.input[i] - phase[i]).div_ceil(geometry.stride[i]);
                let step = |i: usize| axes[i].wrapping_mul(geometry.stride[i] as isize);
                let origin: isize = (0..3).map(|i| phase[i] as isize * axes[i]).sum();
                let pass = Pass {
                    env,
                    image: &dy,
                    image_strides: Geometry::strides(&op.dy),
                    filter: &w,
                    filter_strides: (wi, wo),
                    filter_group: wo.wrapping_mul(geometry.outputs as isize),
                    tap_strides,
                    taps: std::array::from_fn(|i| taps(&op, i, phase[i])),
                    groups: geometry.groups,
                    depth_channels: geometry.outputs,
                    line_channels: geometry.inputs,
                    counts: [geometry.images, count(0), count(1), count(2)],
                    origin,
                    strides: [image, step(0), step(1), step(2)],
                    channel: [channel, bias_stride],
                    finish: Scalars {
                        alpha: op.alpha,
                        beta: op.beta,
                        activation: op.activation,
                        out: &dx,
                        bias: bias.as_ref(),
                    },
                };
                pass.floats(op.dy.dtype, op.dx.dtype)?;
            }
        }
    }
    Ok(op.cost().into())
}

/// The taps of an axis that reach positions `phase + i · stride`: those for which `phase + before - tap · dilation` is a multiple of the
/// stride.
fn taps(op: &Checked, axis: usize, phase: usize) -> Taps {
    let geometry = &op.geometry;
    let (stride, dilation) = (
        geometry.stride[axis] as i128,
        geometry.dilation[axis] as i128,
    );
    let count = geometry.taps[axis];
    let place = (phase + geometry.before[axis]) as i128;
    let fits = |tap: usize| (place - tap as i128 * dilation).rem_euclid(stride) == 0;
    let (mut a, mut b) = (stride, dilation % stride);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    // Which taps fit repeats.
    let every = (stride / a) as usize;
    let first = (0..count.min(every)).find(|tap| fits(*tap));
    let Some(first) = first else {
        return Taps {
            count: 0,
            first: 0,
            every,
            shift: 0,
            advance: 0,
            step: 1,
            limit: 0,
        };
    };
    Taps {
        count: (count - first).div_ceil(every),
        first,
        every,
        shift: ((place - first as i128 * dilation) / stride) as isize,
        advance: -(every as i128 * dilation / stride) as isize,
        step: 1,
        limit: geometry.output[axis],
    }
}
