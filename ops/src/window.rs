//! What pooling and unfolding share: windows that slide over spatial axes.

use crate::conv_geometry::MAX_SPATIAL;
use crate::rule::{self, RuleError, Site};
use crate::tensor::Tensor;

/// Largest extent of a spatial axis.
pub const MAX_EXTENT: u64 = (1 << 31) - 1;

/// The fields of a descriptor that describe windows.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Taps of a window by spatial axis, ≥ 1; zero behind the last, as in the next three.
    pub taps: [u32; 3],
    /// Steps of the window.
    pub stride: [u32; 3],
    /// Distances of its taps.
    pub dilation: [u32; 3],
    /// Padding before and behind each spatial axis.
    pub padding: [u32; 6],
}

/// How windows lie along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Positions of the input.
    pub input: i64,
    /// Windows.
    pub output: i64,
    /// Taps of a window; 0 if windows are adaptive.
    pub taps: i64,
    /// Distance of windows.
    pub stride: i64,
    /// Distance of taps.
    pub dilation: i64,
    /// Padding before the input.
    pub before: i64,
    /// Padding behind it.
    pub after: i64,
}

/// An axis that is not there.
const NONE: Axis = Axis {
    input: 1,
    output: 1,
    taps: 1,
    stride: 1,
    dilation: 1,
    before: 0,
    after: 0,
};

/// The taps of a window that lie in the input: positions `first`, `first + step`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Position of the first.
    pub first: i64,
    /// How many.
    pub count: i64,
    /// Their distance.
    pub step: i64,
    /// Number of the first among the taps of the window.
    pub tap: i64,
}

impl Axis {
    /// The taps of window `o` that lie in the input.
    pub fn span(&self, o: i64) -> Span {
        if self.taps == 0 {
            let first = o * self.input / self.output;
            let end = ((o + 1) * self.input + self.output - 1) / self.output;
            return Span {
                first,
                count: end - first,
                step: 1,
                tap: 0,
            };
        }
        let start = o * self.stride - self.before;
        let tap = if start < 0 {
            (-start + self.dilation - 1) / self.dilation
        } else {
            0
        };
        let first = start + tap * self.dilation;
        let fit = if first < self.input {
            (self.input - 1 - first) / self.dilation + 1
        } else {
            0
        };
        Span {
            first,
            count: fit.min(self.taps - tap).max(0),
            step: self.dilation,
            tap,
        }
    }

    /// Taps of window `o` that lie in the input or its padding.
    pub fn padded(&self, o: i64) -> i64 {
        if self.taps == 0 {
            return self.span(o).count;
        }
        let room = self.input + self.before + self.after - o * self.stride;
        ((room + self.dilation - 1) / self.dilation).min(self.taps)
    }

    /// The first and the last window that may have a tap at position `p`, and how many there are: none if the first is behind the last.
    pub fn covering(&self, p: i64) -> (i64, i64) {
        if self.taps == 0 {
            let last = ((p + 1) * self.output + self.input - 1) / self.input - 1;
            return (p * self.output / self.input, last.min(self.output - 1));
        }
        let at = p + self.before;
        let early = at - (self.taps - 1) * self.dilation;
        let first = if early > 0 {
            (early + self.stride - 1) / self.stride
        } else {
            0
        };
        (first, (at / self.stride).min(self.output - 1))
    }

    /// The tap of window `o`, one of those that [`Axis::covering`] gives, that lies at position `p`.
    pub fn tap_at(&self, o: i64, p: i64) -> Option<i64> {
        if self.taps == 0 {
            return Some(p - self.span(o).first);
        }
        let at = p + self.before - o * self.stride;
        (at % self.dilation == 0).then_some(at / self.dilation)
    }
}

/// Windows over up to three spatial axes; of fewer, the last stand here.
pub type Axes = [Axis; MAX_SPATIAL];

/// Where the extents of an axis come from.
pub(crate) struct Extents<'t> {
    /// The tensor that windows slide over, and its operand.
    pub input: (Site, &'t Tensor),
    /// Extents of the axes of windows, one a spatial axis, and the operand that has them.
    pub windows: (Site, &'t [u64]),
    /// Number of the first of them among the operand's axes.
    pub from: usize,
}

/// Checks windows over the axes of `input` from the third on. With `Some(fields)` windows slide, and the last may reach over the padding, as
/// rounding up gives them; `None` is adaptive.
pub(crate) fn check(
    name: &'static str,
    extents: &Extents<'_>,
    fields: Option<&Fields>,
    rounding_up: bool,
) -> Result<Axes, RuleError> {
    let ((sx, x), (so, windows)) = (extents.input, extents.windows);
    let mut axes = [NONE; MAX_SPATIAL];
    let spatial = x.rank() - 2;
    for i in 0..MAX_SPATIAL {
        let field = fields.map(|f| {
            let (t, s, d) = (f.taps[i], f.stride[i], f.dilation[i]);
            [t, s, d, f.padding[2 * i], f.padding[2 * i + 1]].map(i64::from)
        });
        if i >= spatial {
            if field.is_some_and(|f| f != [0; 5]) {
                return Err(rule::error(
                    name,
                    format_args!("taps, stride, dilation and padding of axis {i} must be 0: there are {spatial}"),
                ));
            }
            continue;
        }
        let (input, output) = (x.dims()[2 + i], windows[i]);
        for (site, axis, extent) in [(sx, 2 + i, input), (so, extents.from + i, output)] {
            if extent > MAX_EXTENT {
                return Err(site.error(format_args!(
                    ".dims[{axis}] is {extent}, at most {MAX_EXTENT}"
                )));
            }
        }
        let axis = &mut axes[MAX_SPATIAL - spatial + i];
        (axis.input, axis.output) = (input as i64, output as i64);
        let Some([taps, stride, dilation, before, after]) = field else {
            axis.taps = 0;
            if input == 0 && output != 0 {
                return Err(sx.error(format_args!(".dims[{}] is 0, there is nothing", 2 + i)));
            }
            continue;
        };
        if taps == 0 || stride == 0 || dilation == 0 {
            return Err(rule::error(
                name,
                format_args!("spatial axis {i}: {taps} taps, stride {stride}, dilation {dilation}: all must be positive"),
            ));
        }
        let reach = (taps - 1)
            .checked_mul(dilation)
            .and_then(|r| r.checked_add(1));
        let padded = axis.input + before + after;
        let Some(room) = reach
            .and_then(|r| padded.checked_sub(r))
            .filter(|r| *r >= 0)
        else {
            return Err(sx.error(format_args!(
                ".dims[{}] is {input}, {padded} with padding; {taps} taps at distance {dilation} reach over more",
                2 + i
            )));
        };
        let down = room / stride + 1;
        let mut up = (room + stride - 1) / stride + 1;
        // A window that would begin behind the input is none.
        if (up - 1) * stride >= axis.input + before {
            up -= 1;
        }
        let up = up.max(down);
        if axis.output != down && !(rounding_up && axis.output == up) {
            return Err(so.error(format_args!(
                ".dims[{}] is {output}, but {down} windows fit{}",
                extents.from + i,
                if rounding_up && up != down {
                    ", one more rounded up"
                } else {
                    ""
                }
            )));
        }
        (axis.taps, axis.stride, axis.dilation) = (taps, stride, dilation);
        (axis.before, axis.after) = (before, after);
    }
    Ok(axes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans and covering windows against a loop over all taps.
    #[test]
    fn spans_and_coverings_agree() {
        let mut all = alloc::vec::Vec::new();
        for (input, output) in [(1, 1), (5, 3), (3, 5), (7, 7), (10, 4), (1, 6)] {
            all.push(Axis {
                input,
                output,
                taps: 0,
                ..NONE
            });
        }
        for taps in 1..4 {
            for (stride, dilation) in [(1, 1), (2, 1), (3, 2), (1, 3), (4, 1)] {
                for (before, after) in [(0, 0), (1, 2), (4, 3)] {
                    let (input, reach) = (8, (taps - 1) * dilation + 1);
                    all.push(Axis {
                        input,
                        output: (input + before + after - reach) / stride + 1,
                        taps,
                        stride,
                        dilation,
                        before,
                        after,
                    });
                }
            }
        }
        for axis in all {
            for p in 0..axis.input {
                let (first, last) = axis.covering(p);
                for o in 0..axis.output {
                    let span = axis.span(o);
                    let mut hit = None;
                    for i in 0..span.count {
                        if span.first + i * span.step == p {
                            hit = Some(span.tap + i);
                        }
                    }
                    let found = (first..=last).contains(&o).then(|| axis.tap_at(o, p));
                    assert_eq!(found.flatten(), hit, "{axis:?}: window {o}, position {p}");
                    assert!((0..=axis.padded(o)).contains(&span.count));
                }
            }
        }
    }
}
