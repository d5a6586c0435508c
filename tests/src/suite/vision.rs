//! Operators of images as a program uses them.

use vmlu::abi::Wire;
use vmlu::operators::{PoolFunction, ResizeFunction};
use vmlu::ops::affine_grid::AffineGrid;
use vmlu::ops::grid_sample::{self, GridSample, FLAG_ALIGN};
use vmlu::ops::grid_sample_backward::GridSampleBackward;
use vmlu::ops::nms::Nms;
use vmlu::ops::pool::Pool;
use vmlu::ops::pool_backward::PoolBackward;
use vmlu::ops::resize::{self, Resize};
use vmlu::ops::resize_backward::ResizeBackward;
use vmlu::ops::roi_align::RoiAlign;
use vmlu::ops::roi_align_backward::RoiAlignBackward;
use vmlu::{DataType, Status, Tensor};

use super::{refused, Bench, Check};

pub(super) fn pooling_and_its_gradient(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let values: Vec<f32> = (0..16).map(|i| ((i * 7) % 16) as f32).collect();
    let x = Tensor::from_slice(&queue, &values, &[1, 1, 4, 4])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 1, 2, 2])?;
    let indices = Tensor::zeros(&queue, DataType::I64, &[1, 1, 2, 2])?;
    let mut pool = Pool {
        x: *x.desc(),
        out: *out.desc(),
        indices: *indices.desc(),
        taps: [2, 2, 0],
        stride: [2, 2, 0],
        dilation: [1, 1, 0],
        ..Pool::zeroed()
    };
    queue.pool(&pool)?;
    // Rows 0 7 14 5, 12 3 10 1, 8 15 6 13, 4 11 2 9.
    assert_eq!(out.to_vec::<f32>(&queue)?, [12.0, 14.0, 15.0, 13.0]);
    assert_eq!(indices.to_vec::<i64>(&queue)?, [4, 2, 9, 11]);

    let dx = Tensor::zeros(&queue, DataType::F32, &[1, 1, 4, 4])?;
    queue.pool_backward(&PoolBackward {
        dy: *out.desc(),
        indices: *indices.desc(),
        dx: *dx.desc(),
        taps: pool.taps,
        stride: pool.stride,
        dilation: pool.dilation,
        ..PoolBackward::zeroed()
    })?;
    let mut expected = [0.0; 16];
    for (i, v) in [(4, 12.0), (2, 14.0), (9, 15.0), (11, 13.0)] {
        expected[i] = v;
    }
    assert_eq!(dx.to_vec::<f32>(&queue)?, expected);

    pool.function = PoolFunction::Average.raw();
    let text = refused(queue.pool(&pool), Status::BadOperand);
    assert!(text.contains("pool: indices is given"), "{text}");
    Ok(())
}

pub(super) fn resizing_and_its_gradient(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let x = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0, 4.0], &[1, 1, 2, 2])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 1, 3, 3])?;
    queue.interpolate(ResizeFunction::Linear, &x, true, &out)?;
    let expected = [1.0, 1.5, 2.0, 2.0, 2.5, 3.0, 3.0, 3.5, 4.0];
    assert_eq!(out.to_vec::<f32>(&queue)?, expected);
    let large = Tensor::zeros(&queue, DataType::F32, &[1, 1, 2, 4])?;
    queue.interpolate(ResizeFunction::Nearest, &x, false, &large)?;
    let expected = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0];
    assert_eq!(large.to_vec::<f32>(&queue)?, expected);

    let dy = Tensor::from_slice(&queue, &[1.0f32; 9], &[1, 1, 3, 3])?;
    let dx = Tensor::zeros(&queue, DataType::F32, &[1, 1, 2, 2])?;
    let body = Resize::new(
        ResizeFunction::Linear,
        *dx.desc(),
        *dy.desc(),
        resize::align_corners,
    );
    queue.resize_backward(&ResizeBackward::of(&body))?;
    // Each corner has its own weight, half of two edges and a quarter of the middle.
    assert_eq!(dx.to_vec::<f32>(&queue)?, [2.25; 4]);

    let mut bad = body;
    bad.function = 9;
    let text = refused(queue.resize(&bad), Status::BadOperand);
    assert!(text.contains("resize: function 9 is unknown"), "{text}");
    Ok(())
}

pub(super) fn grids(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let zeros = |dims: &[u64]| Tensor::zeros(&queue, DataType::F32, dims);
    // Left and right change places.
    let theta = Tensor::from_slice(&queue, &[-1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0], &[1, 2, 3])?;
    let grid = zeros(&[1, 2, 3, 2])?;
    queue.affine_grid(&AffineGrid {
        theta: *theta.desc(),
        grid: *grid.desc(),
        flags: FLAG_ALIGN,
        reserved: 0,
    })?;
    let x = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[1, 1, 2, 3])?;
    let out = zeros(&[1, 1, 2, 3])?;
    let mut sample = GridSample {
        x: *x.desc(),
        grid: *grid.desc(),
        out: *out.desc(),
        function: grid_sample::Function::Linear.raw(),
        flags: FLAG_ALIGN,
        ..GridSample::zeroed()
    };
    queue.grid_sample(&sample)?;
    let turned = [3.0, 2.0, 1.0, 6.0, 5.0, 4.0];
    assert_eq!(out.to_vec::<f32>(&queue)?, turned);

    let dx = zeros(&[1, 1, 2, 3])?;
    queue.grid_sample_backward(&GridSampleBackward {
        dy: *x.desc(),
        x: *x.desc(),
        grid: *grid.desc(),
        dx: *dx.desc(),
        function: sample.function,
        flags: sample.flags,
        ..GridSampleBackward::zeroed()
    })?;
    assert_eq!(dx.to_vec::<f32>(&queue)?, turned);

    sample.padding = 3;
    let text = refused(queue.grid_sample(&sample), Status::BadOperand);
    assert!(text.contains("grid_sample: padding 3 is unknown"), "{text}");
    Ok(())
}

pub(super) fn regions_and_boxes(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
    let x = Tensor::from_slice(&queue, &values, &[1, 1, 4, 4])?;
    let rois = Tensor::from_slice(&queue, &[0.0f32, 0.0, 4.0, 4.0], &[1, 4])?;
    let images = Tensor::from_slice(&queue, &[0i32], &[1])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 1, 2, 2])?;
    let mut align = RoiAlign {
        x: *x.desc(),
        rois: *rois.desc(),
        images: *images.desc(),
        out: *out.desc(),
        scale: 1.0,
        samples: 2,
        flags: vmlu::ops::roi_align::FLAG_ALIGN,
        ..RoiAlign::zeroed()
    };
    queue.roi_align(&align)?;
    // Points are the centres of elements, so bins are means of four.
    assert_eq!(out.to_vec::<f32>(&queue)?, [2.5, 4.5, 10.5, 12.5]);
    let dx = Tensor::zeros(&queue, DataType::F32, &[1, 1, 4, 4])?;
    let dy = Tensor::from_slice(&queue, &[4.0f32; 4], &[1, 1, 2, 2])?;
    queue.roi_align_backward(&RoiAlignBackward {
        dy: *dy.desc(),
        rois: *rois.desc(),
        images: *images.desc(),
        dx: *dx.desc(),
        scale: 1.0,
        samples: 2,
        flags: align.flags,
        ..RoiAlignBackward::zeroed()
    })?;
    assert_eq!(dx.to_vec::<f32>(&queue)?, [1.0; 16]);
    // Of each bin the last element is the largest.
    align.function = vmlu::ops::roi_align::Function::MaxPoint.raw();
    queue.roi_align(&align)?;
    assert_eq!(out.to_vec::<f32>(&queue)?, [5.0, 7.0, 13.0, 15.0]);
    queue.roi_align_backward(&RoiAlignBackward {
        dy: *dy.desc(),
        rois: *rois.desc(),
        images: *images.desc(),
        dx: *dx.desc(),
        x: *x.desc(),
        scale: 1.0,
        samples: 2,
        function: align.function,
        flags: align.flags,
        ..RoiAlignBackward::zeroed()
    })?;
    let mut largest = [0.0; 16];
    for i in [5, 7, 13, 15] {
        largest[i] = 4.0;
    }
    assert_eq!(dx.to_vec::<f32>(&queue)?, largest);
    align.samples = 1 << 20;
    let text = refused(queue.roi_align(&align), Status::BadOperand);
    assert!(text.contains("samples are 1048576"), "{text}");

    let boxes = [
        [0.0f32, 0.0, 2.0, 2.0],
        [0.0, 0.0, 2.0, 1.9],
        [5.0, 5.0, 6.0, 6.0],
    ]
    .concat();
    let boxes = Tensor::from_slice(&queue, &boxes, &[1, 3, 4])?;
    let scores = Tensor::from_slice(&queue, &[0.5f32, 0.75, 0.25], &[1, 1, 3])?;
    let kept = Tensor::zeros(&queue, DataType::I64, &[3, 3])?;
    let count = Tensor::zeros(&queue, DataType::I64, &[1])?;
    queue.nms(&Nms {
        boxes: *boxes.desc(),
        scores: *scores.desc(),
        out: *kept.desc(),
        count: *count.desc(),
        overlap_threshold: 0.5,
        score_threshold: f64::NEG_INFINITY,
        ..Nms::zeroed()
    })?;
    assert_eq!(count.to_vec::<i64>(&queue)?, [2]);
    assert_eq!(kept.to_vec::<i64>(&queue)?, [0, 0, 1, 0, 0, 2, -1, -1, -1]);
    Ok(())
}
