//! What the convolutions share: how taps, strides, dilation, padding and groups fit three tensors.

use crate::rule::{self, RuleError, Site};
use crate::tensor::Tensor;

/// Most spatial axes.
pub const MAX_SPATIAL: usize = 3;

/// How a filter slides, by spatial axis; of fewer than three axes the last stand here, and the first are as if of size 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Images.
    pub images: usize,
    /// Channels of the input, in one group.
    pub inputs: usize,
    /// Channels of the output, in one group.
    pub outputs: usize,
    /// Groups.
    pub groups: usize,
    /// Sizes of the input.
    pub input: [usize; 3],
    /// Sizes of the output.
    pub output: [usize; 3],
    /// Sizes of the filter.
    pub taps: [usize; 3],
    /// Steps of the filter.
    pub stride: [usize; 3],
    /// Distances of its taps.
    pub dilation: [usize; 3],
    /// Zeroes before the input.
    pub before: [usize; 3],
}

/// The fields of a descriptor that describe how a filter slides.
#[derive(Clone, Copy, Debug)]
pub struct Slide {
    /// Steps of the filter by spatial axis, ≥ 1; zero behind the last.
    pub stride: [u32; 3],
    /// Distances of the filter's taps, likewise.
    pub dilation: [u32; 3],
    /// Zeroes before and behind each spatial axis.
    pub padding: [u32; 6],
    /// Groups.
    pub groups: u32,
}

/// A tensor and its place in the descriptor.
pub(crate) type Named<'t> = (Site, &'t Tensor);

impl Geometry {
    /// Checks that the tensors fit: `x` `[images, channels, …]`, `w` `[outputs, channels / groups, …]`, `y` `[images, outputs, …]`.
    pub(crate) fn check(
        name: &'static str,
        (sx, x): Named<'_>,
        (sw, w): Named<'_>,
        (sy, y): Named<'_>,
        slide: &Slide,
    ) -> Result<Self, RuleError> {
        let rank = x.rank();
        if !(3..=2 + MAX_SPATIAL).contains(&rank) {
            return Err(sx.error(format_args!(".rank is {rank}, must be 3 to 5")));
        }
        w.expect_rank(sw, rank)?;
        y.expect_rank(sy, rank)?;
        let spatial = rank - 2;
        let groups = u64::from(slide.groups);
        let channels = x.dims()[1];
        if groups == 0 || !channels.is_multiple_of(groups) || !w.dims()[0].is_multiple_of(groups) {
            return Err(rule::error(
                name,
                format_args!(
                    "{groups} groups do not divide {channels} channels into {}",
                    w.dims()[0]
                ),
            ));
        }
        let expect = |site: Site, axis: usize, is: u64, must: u64, why: &str| {
            if is == must {
                return Ok(());
            }
            Err(site.error(format_args!(".dims[{axis}] is {is}, but {why} {must}")))
        };
        expect(sw, 1, w.dims()[1], channels / groups, "a group has")?;
        expect(sy, 0, y.dims()[0], x.dims()[0], "the images are")?;
        expect(sy, 1, y.dims()[1], w.dims()[0], "the filters are")?;
        let mut geometry = Self {
            images: x.dims()[0] as usize,
            inputs: (channels / groups) as usize,
            outputs: (w.dims()[0] / groups) as usize,
            groups: groups as usize,
            input: [1; 3],
            output: [1; 3],
            taps: [1; 3],
            stride: [1; 3],
            dilation: [1; 3],
            before: [0; 3],
        };
        for i in 0..MAX_SPATIAL {
            let at = |v: u32| u64::from(v);
            let (stride, dilation) = (at(slide.stride[i]), at(slide.dilation[i]));
            let (before, after) = (at(slide.padding[2 * i]), at(slide.padding[2 * i + 1]));
            if i >= spatial {
                if stride | dilation | before | after != 0 {
                    return Err(rule::error(
                        name,
                        format_args!("stride, dilation and padding of axis {i} must be 0: there are {spatial}"),
                    ));
                }
                continue;
            }
            let (input, taps) = (x.dims()[2 + i], w.dims()[2 + i]);
            if stride == 0 || dilation == 0 || taps == 0 {
                return Err(rule::error(
                    name,
                    format_args!("spatial axis {i}: stride {stride}, dilation {dilation}, {taps} taps: all must be positive"),
                ));
            }
            // Dimensions fit in 63 bits, the others in 32.
            let reach = (taps - 1)
                .checked_mul(dilation)
                .and_then(|r| r.checked_add(1));
            let padded = input.checked_add(before + after);
            let (Some(reach), Some(padded)) = (reach, padded) else {
                return Err(sw.error(format_args!(
                    ".dims[{}]: the filter's reach overflows",
                    2 + i
                )));
            };
            if reach > padded {
                return Err(sw.error(format_args!(
                    ".dims[{}]: the filter reaches over {reach}, the padded input has {padded}",
                    2 + i
                )));
            }
            let output = (padded - reach) / stride + 1;
            expect(sy, 2 + i, y.dims()[2 + i], output, "the filter fits")?;
            let to = MAX_SPATIAL - spatial + i;
            geometry.input[to] = input as usize;
            geometry.output[to] = output as usize;
            geometry.taps[to] = taps as usize;
            geometry.stride[to] = stride as usize;
            geometry.dilation[to] = dilation as usize;
            geometry.before[to] = before as usize;
        }
        Ok(geometry)
    }

    /// Taps of the filter in all.
    pub fn all_taps(&self) -> usize {
        self.taps.iter().product()
    }

    /// Operations of one pass.
    pub(crate) fn operations(&self) -> u64 {
        let factors = [self.images, self.groups, self.inputs, self.outputs, 2];
        let sizes = factors.iter().chain(&self.output).chain(&self.taps);
        sizes.fold(1u64, |p, f| p.saturating_mul(*f as u64))
    }

    /// Strides of a tensor by image, channel and three spatial axes.
    pub fn strides(tensor: &Tensor) -> [isize; 5] {
        let (rank, given) = (tensor.rank(), tensor.strides());
        let mut strides = [given[0] as isize, given[1] as isize, 0, 0, 0];
        for i in 2..rank {
            strides[5 - rank + i] = given[i] as isize;
        }
        strides
    }
}
