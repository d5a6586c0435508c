//! Places in sorted rows, histograms, and functions of the gamma family.

use vmlu_abi::Wire;
use vmlu_ops::{gamma, histogram, search_sorted};

use super::optional;
use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

pub use vmlu_ops::gamma::Function as GammaFunction;

/// Where the bins of [`Queue::histogram`] are.
#[derive(Clone, Copy)]
pub enum Bins<'a> {
    /// Of equal width between two numbers.
    Uniform(f64, f64),
    /// Between edges, of which there is one more than bins.
    Edges(&'a Tensor),
    /// One for each whole number from 0 on.
    Count,
}

impl Queue {
    /// How many elements of a sorted row are less than each value, or, with `right`, not more.
    pub fn search_sorted(
        &self,
        sorted: &Tensor,
        values: &Tensor,
        right: bool,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&search_sorted::SearchSorted {
            sorted: *sorted.desc(),
            values: *values.desc(),
            out: *out.desc(),
            flags: if right { search_sorted::FLAG_RIGHT } else { 0 },
            reserved: 0,
        })
    }

    /// How many elements of `x` fall into each bin, or the sum of their weights.
    pub fn histogram(
        &self,
        x: &Tensor,
        bins: Bins<'_>,
        weights: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<u64> {
        let mut body = histogram::Histogram {
            x: *x.desc(),
            weights: optional(weights),
            out: *out.desc(),
            ..histogram::Histogram::zeroed()
        };
        body.function = match bins {
            Bins::Uniform(low, high) => {
                (body.low, body.high) = (low, high);
                histogram::Function::Uniform
            }
            Bins::Edges(edges) => {
                body.edges = *edges.desc();
                histogram::Function::Edges
            }
            Bins::Count => histogram::Function::Count,
        }
        .raw();
        self.submit(&body)
    }

    /// `out = function(a, b)` of the gamma family; see [`gamma::Gamma`]. `order` is that of polygamma, 0 for others.
    pub fn gamma(
        &self,
        function: GammaFunction,
        order: u32,
        a: &Tensor,
        b: Option<&Tensor>,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&gamma::Gamma {
            a: *a.desc(),
            b: optional(b),
            out: *out.desc(),
            function: function.raw(),
            order,
        })
    }
}
