//! Valid bodies of the later operators, for the test that damages them.

use vmlu_abi::tensor::DataType::{F32, I32, I64, I8};
use vmlu_abi::tensor::{reserved_type, TensorDesc};
use vmlu_abi::Wire;
use vmlu_ops::affine_grid::AffineGrid;
use vmlu_ops::attention::Attention;
use vmlu_ops::attention_backward::AttentionBackward;
use vmlu_ops::cast::Cast;
use vmlu_ops::col2im::Col2im;
use vmlu_ops::deform_conv::DeformConv;
use vmlu_ops::deform_conv_backward_data::DeformConvBackwardData;
use vmlu_ops::deform_conv_backward_filter::DeformConvBackwardFilter;
use vmlu_ops::gamma::Gamma;
use vmlu_ops::grid_sample::GridSample;
use vmlu_ops::grid_sample_backward::GridSampleBackward;
use vmlu_ops::histogram::Histogram;
use vmlu_ops::im2col::Im2col;
use vmlu_ops::nms::Nms;
use vmlu_ops::resize::{self, Resize};
use vmlu_ops::resize_backward::ResizeBackward;
use vmlu_ops::roi_align::RoiAlign;
use vmlu_ops::roi_align_backward::RoiAlignBackward;
use vmlu_ops::search_sorted::SearchSorted;
use vmlu_ops::soft_cross_entropy::SoftCrossEntropy;
use vmlu_ops::tensor::contiguous;
use vmlu_ops::Descriptor;

use crate::testing::Arena;

fn body<D: Descriptor>(desc: &D) -> (u16, Vec<u8>) {
    (D::OPCODE, desc.as_bytes().to_vec())
}

fn tensor(arena: &mut Arena, dims: &[u64]) -> TensorDesc {
    let bytes = 4 * dims.iter().product::<u64>() as usize;
    contiguous(F32, arena.reserve(bytes), dims)
}

/// One of each, by opcode.
pub fn bodies(arena: &mut Arena) -> Vec<(u16, Vec<u8>)> {
    let (image, map) = (tensor(arena, &[1, 2, 5, 4]), tensor(arena, &[1, 2, 3, 7]));
    let resize = Resize::new(resize::Function::Cubic, image, map, resize::half_pixel);
    let attention = Attention {
        q: tensor(arena, &[1, 2, 3, 4]),
        k: tensor(arena, &[1, 1, 5, 4]),
        v: tensor(arena, &[1, 1, 5, 3]),
        out: tensor(arena, &[1, 2, 3, 3]),
        lse: tensor(arena, &[1, 2, 3]),
        scale: 0.5,
        causal: 2,
        ..Wire::zeroed()
    };
    let dout = tensor(arena, &[1, 2, 3, 3]);
    let gradients = [&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 3]].map(|d| tensor(arena, d));
    let grid = tensor(arena, &[1, 3, 7, 2]);
    let sample = GridSample {
        x: image,
        grid,
        out: map,
        function: 1,
        padding: 1,
        flags: 1,
        reserved: 0,
    };
    let rois = contiguous(
        F32,
        arena.put(&[0.0f32, 1.0, 5.0, 7.0, 2.0, 2.0, 3.0, 9.0]),
        &[2, 4],
    );
    let images = contiguous(I32, arena.put(&[0i32, 0]), &[2]);
    let im2col = Im2col {
        x: image,
        out: tensor(arena, &[1, 2, 2, 3, 4, 2]),
        taps: [2, 3, 0],
        stride: [1, 1, 0],
        dilation: [1, 1, 0],
        ..Wire::zeroed()
    };
    let deform = DeformConv {
        x: image,
        w: tensor(arena, &[4, 1, 2, 2]),
        offset: tensor(arena, &[1, 16, 4, 3]),
        mask: tensor(arena, &[1, 8, 4, 3]),
        bias: tensor(arena, &[4]),
        out: tensor(arena, &[1, 4, 4, 3]),
        stride: [1, 1],
        dilation: [1, 1],
        groups: 2,
        offset_groups: 2,
        ..Wire::zeroed()
    };
    vec![
        body(&deform),
        body(&DeformConvBackwardData {
            dy: deform.out,
            x: image,
            w: deform.w,
            offset: deform.offset,
            mask: deform.mask,
            dx: tensor(arena, &[1, 2, 5, 4]),
            doffset: tensor(arena, &[1, 16, 4, 3]),
            dmask: tensor(arena, &[1, 8, 4, 3]),
            stride: [1, 1],
            dilation: [1, 1],
            groups: 2,
            offset_groups: 2,
            ..Wire::zeroed()
        }),
        body(&DeformConvBackwardFilter {
            dy: deform.out,
            x: image,
            offset: deform.offset,
            mask: deform.mask,
            dw: tensor(arena, &[4, 1, 2, 2]),
            stride: [1, 1],
            dilation: [1, 1],
            groups: 2,
            offset_groups: 2,
            ..Wire::zeroed()
        }),
        body(&AttentionBackward::of(&attention, dout, gradients)),
        body(&Gamma {
            a: image,
            b: image,
            out: tensor(arena, &[1, 2, 5, 4]),
            function: 1,
            order: 0,
        }),
        body(&SoftCrossEntropy {
            logits: image,
            target: image,
            weight: tensor(arena, &[2]),
            loss: tensor(arena, &[1, 5, 4]),
            gradient: tensor(arena, &[1, 2, 5, 4]),
            smoothing: 0.25,
            function: 1,
            ..Wire::zeroed()
        }),
        body(&SearchSorted {
            sorted: tensor(arena, &[9]),
            values: image,
            out: contiguous(I32, arena.reserve(160), &[1, 2, 5, 4]),
            flags: 1,
            reserved: 0,
        }),
        body(&Histogram {
            x: image,
            edges: tensor(arena, &[6]),
            weights: tensor(arena, &[1, 2, 5, 4]),
            out: tensor(arena, &[5]),
            function: 1,
            ..Wire::zeroed()
        }),
        body(&resize),
        body(&ResizeBackward::of(&resize)),
        body(&sample),
        body(&GridSampleBackward {
            dy: map,
            x: image,
            grid,
            dx: tensor(arena, &[1, 2, 5, 4]),
            dgrid: tensor(arena, &[1, 3, 7, 2]),
            function: 2,
            padding: 2,
            flags: 0,
            reserved: 0,
        }),
        body(&AffineGrid {
            theta: tensor(arena, &[1, 2, 3]),
            grid,
            flags: 1,
            reserved: 0,
        }),
        body(&RoiAlign {
            x: image,
            rois,
            images,
            out: tensor(arena, &[2, 2, 2, 3]),
            scale: 0.5,
            ..Wire::zeroed()
        }),
        body(&RoiAlignBackward {
            dy: tensor(arena, &[2, 2, 2, 3]),
            rois,
            images,
            dx: image,
            scale: 0.5,
            ..Wire::zeroed()
        }),
        body(&Nms {
            boxes: tensor(arena, &[2, 6, 4]),
            scores: tensor(arena, &[2, 2, 6]),
            out: contiguous(I32, arena.reserve(120), &[10, 3]),
            count: contiguous(I64, arena.reserve(8), &[1]),
            overlap_threshold: 0.5,
            ..Wire::zeroed()
        }),
        body(&im2col),
        body(&Col2im {
            x: im2col.out,
            out: im2col.x,
            taps: im2col.taps,
            stride: im2col.stride,
            dilation: im2col.dilation,
            padding: im2col.padding,
            reserved: 0,
        }),
    ]
}

/// Bodies of operators that are there already, with operands that those lack.
pub fn more(arena: &mut Arena) -> Vec<(u16, Vec<u8>)> {
    let image = tensor(arena, &[1, 2, 5, 4]);
    let table = contiguous(I32, arena.put(&[2i32, 0]), &[1, 2]);
    let paged = Attention {
        q: tensor(arena, &[1, 2, 3, 4]),
        k: tensor(arena, &[3, 1, 4, 4]),
        v: tensor(arena, &[3, 1, 4, 3]),
        out: tensor(arena, &[1, 2, 3, 3]),
        mask: tensor(arena, &[2, 1, 8]),
        lengths: contiguous(I32, arena.put(&[7i32]), &[1]),
        table,
        lse: tensor(arena, &[1, 2, 3]),
        scale: 0.5,
        ..Wire::zeroed()
    };
    let dout = tensor(arena, &[1, 2, 3, 3]);
    let gradients = [&[1, 2, 3, 4], &[3, 1, 4, 4], &[3, 1, 4, 3]].map(|d| tensor(arena, d));
    vec![
        body(&paged),
        body(&AttentionBackward {
            dmask: tensor(arena, &[2, 1, 8]),
            ..AttentionBackward::of(&paged, dout, gradients)
        }),
        body(&RoiAlignBackward {
            dy: tensor(arena, &[2, 2, 2, 3]),
            rois: tensor(arena, &[2, 4]),
            images: contiguous(I32, arena.put(&[0i32, 0]), &[2]),
            dx: tensor(arena, &[1, 2, 5, 4]),
            x: image,
            scale: 0.5,
            function: 2,
            ..Wire::zeroed()
        }),
        body(&Cast {
            x: TensorDesc {
                dtype: reserved_type::I4,
                ..contiguous(I8, arena.reserve(20), &[5, 8])
            },
            out: tensor(arena, &[5, 8]),
            ..Wire::zeroed()
        }),
    ]
}
