//! Operators of images. Their bodies are filled in by the caller: see the modules of [`vmlu_ops`] for what the fields mean.

use vmlu_ops::resize::{self, Function as ResizeFunction};
use vmlu_ops::{
    affine_grid, col2im, grid_sample, grid_sample_backward, im2col, nms, pool, pool_backward,
    resize_backward, roi_align, roi_align_backward,
};

use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

impl Queue {
    /// The largest or the mean of each window; see [`pool::Pool`], whose body this takes.
    pub fn pool(&self, body: &pool::Pool) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::pool`].
    pub fn pool_backward(&self, body: &pool_backward::PoolBackward) -> Result<u64> {
        self.submit(body)
    }

    /// Interpolates `[images, channels, …]` as PyTorch's `interpolate` does with a size: `nearest` takes the position below, others weigh
    /// around it, with centres half a step in or, `align_corners`, with the ends of both meeting.
    pub fn interpolate(
        &self,
        function: ResizeFunction,
        x: &Tensor,
        align_corners: bool,
        out: &Tensor,
    ) -> Result<u64> {
        let place = match function {
            ResizeFunction::Nearest => resize::asymmetric,
            _ if align_corners => resize::align_corners,
            _ => resize::half_pixel,
        };
        self.resize(&resize::Resize::new(
            function,
            *x.desc(),
            *out.desc(),
            place,
        ))
    }

    /// Interpolation by any convention; see [`resize::Resize`], whose body this takes.
    pub fn resize(&self, body: &resize::Resize) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::resize`].
    pub fn resize_backward(&self, body: &resize_backward::ResizeBackward) -> Result<u64> {
        self.submit(body)
    }

    /// Elements at the places of a grid; see [`grid_sample::GridSample`].
    pub fn grid_sample(&self, body: &grid_sample::GridSample) -> Result<u64> {
        self.submit(body)
    }

    /// Gradients of [`Queue::grid_sample`].
    pub fn grid_sample_backward(
        &self,
        body: &grid_sample_backward::GridSampleBackward,
    ) -> Result<u64> {
        self.submit(body)
    }

    /// The grid of an affine map; see [`affine_grid::AffineGrid`].
    pub fn affine_grid(&self, body: &affine_grid::AffineGrid) -> Result<u64> {
        self.submit(body)
    }

    /// Regions of images, made the same size; see [`roi_align::RoiAlign`].
    pub fn roi_align(&self, body: &roi_align::RoiAlign) -> Result<u64> {
        self.submit(body)
    }

    /// Gradient of [`Queue::roi_align`].
    pub fn roi_align_backward(&self, body: &roi_align_backward::RoiAlignBackward) -> Result<u64> {
        self.submit(body)
    }

    /// Boxes that no better one overlaps; see [`nms::Nms`].
    pub fn nms(&self, body: &nms::Nms) -> Result<u64> {
        self.submit(body)
    }

    /// Windows of an image side by side; see [`im2col::Im2col`].
    pub fn im2col(&self, body: &im2col::Im2col) -> Result<u64> {
        self.submit(body)
    }

    /// Sums of windows that overlap: the gradient of [`Queue::im2col`].
    pub fn col2im(&self, body: &col2im::Col2im) -> Result<u64> {
        self.submit(body)
    }
}
