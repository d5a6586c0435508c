//! Operators, enqueued on a queue. Each call returns the command's timeline value; rules are checked before anything is submitted. See
//! `docs/operators.md` for formulas, types and rules.

mod losses;
mod optimisers;
mod products;
mod random;
mod searching;
mod vision;

use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::{
    affine, arg_reduce, binary, cast, compact, concat, cross_entropy, cross_entropy_backward,
    matmul, norm, norm_backward, pad, put, quantize, range, reduce, scan, sgd, softmax,
    softmax_backward, sort, take, ternary, unary,
};

use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

pub use self::losses::{
    ClassOptions, CtcExamples, LossFunction, LossOptions, Reduction, SoftOptions,
};
pub use self::optimisers::{
    AdagradOptions, AdamOptions, Common, FusedSgdOptions, Parameter, RmspropOptions,
};
pub use self::products::Int4Weights;
pub use self::random::{Distribution, Draw, Generator};
pub use self::searching::{Bins, GammaFunction};
pub use vmlu_ops::arg_reduce::Function as ArgFunction;
pub use vmlu_ops::binary::Function as BinaryFunction;
pub use vmlu_ops::cast::Rounding;
pub use vmlu_ops::cross_entropy_backward::Source;
pub use vmlu_ops::matmul::Activation;
pub use vmlu_ops::norm::Function as NormFunction;
pub use vmlu_ops::pad::Function as PadFunction;
pub use vmlu_ops::pool::Function as PoolFunction;
pub use vmlu_ops::put::Function as PutFunction;
pub use vmlu_ops::reduce::Function as ReduceFunction;
pub use vmlu_ops::resize::Function as ResizeFunction;
pub use vmlu_ops::scan::Function as ScanFunction;
pub use vmlu_ops::softmax::Function as SoftmaxFunction;
pub use vmlu_ops::ternary::Function as TernaryFunction;
pub use vmlu_ops::unary::Function as UnaryFunction;

/// What a matmul does besides the product: `out = activation(alpha · a @ b + beta · out + bias)`.
#[derive(Clone)]
pub struct MatmulOptions<'a> {
    /// Factor of the product.
    pub alpha: f64,
    /// Factor of the old result.
    pub beta: f64,
    /// Added, broadcast to the result.
    pub bias: Option<&'a Tensor>,
    /// Applied last.
    pub activation: Activation,
}

impl Default for MatmulOptions<'_> {
    fn default() -> Self {
        Self {
            alpha: 1.0,
            beta: 0.0,
            bias: None,
            activation: Activation::None,
        }
    }
}

/// How SGD updates: `velocity = momentum · velocity + gradient + weight_decay · weight; weight -= rate · velocity`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SgdOptions {
    /// Learning rate.
    pub rate: f64,
    /// Momentum; 0 without a velocity.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

fn optional(tensor: Option<&Tensor>) -> TensorDesc {
    tensor.map_or(vmlu_ops::tensor::absent(), |t| *t.desc())
}

fn parts_of(
    parts: &[&Tensor],
    axis: u32,
    whole: &Tensor,
    function: concat::Function,
) -> concat::Concat {
    let mut descs = [vmlu_ops::tensor::absent(); concat::MAX_PARTS];
    for (d, p) in descs.iter_mut().zip(parts) {
        *d = *p.desc();
    }
    concat::Concat {
        whole: *whole.desc(),
        parts: descs,
        // More than there is room for is refused by the operator's rules.
        count: u32::try_from(parts.len()).unwrap_or(u32::MAX),
        axis,
        function: function as u32,
        reserved: 0,
    }
}

impl Queue {
    /// `out = activation(alpha · a @ b + beta · out + bias)`; transposes are views.
    pub fn matmul(
        &self,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
        options: &MatmulOptions<'_>,
    ) -> Result<u64> {
        self.submit(&matmul::Matmul {
            a: *a.desc(),
            b: *b.desc(),
            out: *out.desc(),
            bias: optional(options.bias),
            alpha: options.alpha,
            beta: options.beta,
            activation: options.activation as u32,
            ..matmul::Matmul::zeroed()
        })
    }

    /// `out = function(a, b)`, both broadcast to `out`.
    pub fn binary(
        &self,
        function: BinaryFunction,
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
    ) -> Result<u64> {
        let function = function as u32;
        self.submit(&binary::Binary {
            a: *a.desc(),
            b: *b.desc(),
            out: *out.desc(),
            function,
            ..binary::Binary::zeroed()
        })
    }

    /// `out = function(x)`.
    pub fn unary(&self, function: UnaryFunction, x: &Tensor, out: &Tensor) -> Result<u64> {
        self.submit(&unary::Unary {
            x: *x.desc(),
            out: *out.desc(),
            function: function as u32,
            ..unary::Unary::zeroed()
        })
    }

    /// `out = function(x)` with up to three parameters; those that the function has not must be 0.
    pub fn unary_with(
        &self,
        function: UnaryFunction,
        parameters: [f64; 3],
        x: &Tensor,
        out: &Tensor,
    ) -> Result<u64> {
        let [alpha, beta, gamma] = parameters;
        self.submit(&unary::Unary {
            x: *x.desc(),
            out: *out.desc(),
            function: function as u32,
            alpha,
            beta,
            gamma,
            ..unary::Unary::zeroed()
        })
    }

    /// `out = function(a, b)` with up to three parameters; those that the function has not must be 0.
    pub fn binary_with(
        &self,
        function: BinaryFunction,
        parameters: [f64; 3],
        a: &Tensor,
        b: &Tensor,
        out: &Tensor,
    ) -> Result<u64> {
        let [alpha, beta, gamma] = parameters;
        self.submit(&binary::Binary {
            a: *a.desc(),
            b: *b.desc(),
            out: *out.desc(),
            function: function as u32,
            alpha,
            beta,
            gamma,
            ..binary::Binary::zeroed()
        })
    }

    /// `out = function(a, b, c)`; `alpha` is 0 for functions without a parameter.
    pub fn ternary(
        &self,
        function: TernaryFunction,
        alpha: f64,
        inputs: [&Tensor; 3],
        out: &Tensor,
    ) -> Result<u64> {
        let [a, b, c] = inputs;
        self.submit(&ternary::Ternary {
            a: *a.desc(),
            b: *b.desc(),
            c: *c.desc(),
            out: *out.desc(),
            function: function as u32,
            alpha,
            ..ternary::Ternary::zeroed()
        })
    }

    /// `out = x` in `out`'s type, rounding as asked.
    pub fn cast_rounding(&self, x: &Tensor, out: &Tensor, rounding: Rounding) -> Result<u64> {
        self.submit(&cast::Cast {
            x: *x.desc(),
            out: *out.desc(),
            rounding: rounding as u32,
            ..cast::Cast::zeroed()
        })
    }

    /// Running reduction along an axis.
    pub fn scan(
        &self,
        function: ScanFunction,
        x: &Tensor,
        axis: u32,
        out: &Tensor,
        indices: Option<&Tensor>,
    ) -> Result<u64> {
        self.submit(&scan::Scan {
            x: *x.desc(),
            out: *out.desc(),
            indices: optional(indices),
            function: function as u32,
            axis,
            ..scan::Scan::zeroed()
        })
    }

    /// Gradient of softmax or log-softmax along an axis, from its result and the gradient of that.
    pub fn softmax_backward(
        &self,
        function: SoftmaxFunction,
        y: &Tensor,
        dy: &Tensor,
        axis: u32,
        dx: &Tensor,
    ) -> Result<u64> {
        self.submit(&softmax_backward::SoftmaxBackward {
            y: *y.desc(),
            dy: *dy.desc(),
            dx: *dx.desc(),
            function: function as u32,
            axis,
        })
    }

    /// Normalisation over a set of axes; see [`norm::Norm`], whose body this takes.
    pub fn norm(&self, body: &norm::Norm) -> Result<u64> {
        self.submit(body)
    }

    /// Gradients of [`Queue::norm`].
    pub fn norm_backward(&self, body: &norm_backward::NormBackward) -> Result<u64> {
        self.submit(body)
    }

    /// Joins up to 16 parts along an axis.
    pub fn concat(&self, parts: &[&Tensor], axis: u32, whole: &Tensor) -> Result<u64> {
        self.submit(&parts_of(parts, axis, whole, concat::Function::Concat))
    }

    /// Cuts an array along an axis into up to 16 parts.
    pub fn split(&self, whole: &Tensor, axis: u32, parts: &[&Tensor]) -> Result<u64> {
        self.submit(&parts_of(parts, axis, whole, concat::Function::Split))
    }

    /// `x` with a border, whose elements are `bits` for `Constant`; also rolls and tiles.
    pub fn pad(
        &self,
        function: PadFunction,
        x: &Tensor,
        before: &[i64],
        bits: u64,
        out: &Tensor,
    ) -> Result<u64> {
        let mut all = [0; 8];
        for (a, b) in all.iter_mut().zip(before) {
            *a = *b;
        }
        self.submit(&pad::Pad {
            x: *x.desc(),
            out: *out.desc(),
            before: all,
            bits,
            function: function as u32,
            reserved: 0,
        })
    }

    /// Elements by index; see [`take::Take`], whose body this takes.
    pub fn take(&self, body: &take::Take) -> Result<u64> {
        self.submit(body)
    }

    /// Elements by index, written; see [`put::Put`], whose body this takes.
    pub fn put(&self, body: &put::Put) -> Result<u64> {
        self.submit(body)
    }

    /// Chosen elements, one after the other; see [`compact::Compact`], whose body this takes.
    pub fn compact(&self, body: &compact::Compact) -> Result<u64> {
        self.submit(body)
    }

    /// The first elements along an axis in order: all (sort), or as many as `values` or `indices` has there (top-k).
    pub fn sort(
        &self,
        x: &Tensor,
        axis: u32,
        descending: bool,
        values: Option<&Tensor>,
        indices: Option<&Tensor>,
    ) -> Result<u64> {
        self.submit(&sort::Sort {
            x: *x.desc(),
            values: optional(values),
            indices: optional(indices),
            axis,
            flags: if descending { sort::FLAG_DESCENDING } else { 0 },
            reserved: 0,
        })
    }

    /// Ranges, identity matrices and triangles; see [`range::Range`], whose body this takes.
    pub fn range(&self, body: &range::Range) -> Result<u64> {
        self.submit(body)
    }

    /// `out = alpha · x + beta`.
    pub fn affine(&self, x: &Tensor, out: &Tensor, alpha: f64, beta: f64) -> Result<u64> {
        self.submit(&affine::Affine {
            x: *x.desc(),
            out: *out.desc(),
            alpha,
            beta,
        })
    }

    /// `out = x` in `out`'s type, rounding to nearest.
    pub fn cast(&self, x: &Tensor, out: &Tensor) -> Result<u64> {
        self.submit(&cast::Cast {
            x: *x.desc(),
            out: *out.desc(),
            ..cast::Cast::zeroed()
        })
    }

    /// `out = x`, one of them or both quantised: quantises, dequantises, or requantises.
    pub fn quantize(&self, x: &Tensor, out: &Tensor) -> Result<u64> {
        self.submit(&quantize::Quantize {
            x: *x.desc(),
            out: *out.desc(),
        })
    }

    /// Reduces the axes whose bits are set in `axes`; `out` has them with length 1.
    pub fn reduce(
        &self,
        function: ReduceFunction,
        x: &Tensor,
        axes: u32,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&reduce::Reduce {
            x: *x.desc(),
            out: *out.desc(),
            function: function as u32,
            axes,
            ..vmlu_abi::Wire::zeroed()
        })
    }

    /// Index of the largest or smallest element along an axis.
    pub fn arg_reduce(
        &self,
        function: ArgFunction,
        x: &Tensor,
        axis: u32,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&arg_reduce::ArgReduce {
            x: *x.desc(),
            out: *out.desc(),
            function: function as u32,
            axis,
        })
    }

    /// Softmax or log-softmax along an axis.
    pub fn softmax(
        &self,
        function: SoftmaxFunction,
        x: &Tensor,
        axis: u32,
        out: &Tensor,
    ) -> Result<u64> {
        self.submit(&softmax::Softmax {
            x: *x.desc(),
            out: *out.desc(),
            function: function as u32,
            axis,
        })
    }

    /// Softmax cross-entropy of `logits` [N, C] with `labels` [N]: `loss` [N], and the probabilities if wanted.
    pub fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        loss: &Tensor,
        probabilities: Option<&Tensor>,
    ) -> Result<u64> {
        self.submit(&cross_entropy::CrossEntropy {
            logits: *logits.desc(),
            labels: *labels.desc(),
            loss: *loss.desc(),
            probabilities: optional(probabilities),
            ..cross_entropy::CrossEntropy::zeroed()
        })
    }

    /// Gradient of the cross-entropy: `gradient = scale · (probabilities - one_hot(labels))`.
    pub fn cross_entropy_backward(
        &self,
        kind: Source,
        source: &Tensor,
        labels: &Tensor,
        gradient: &Tensor,
        scale: f64,
    ) -> Result<u64> {
        self.submit(&cross_entropy_backward::CrossEntropyBackward {
            source: *source.desc(),
            labels: *labels.desc(),
            gradient: *gradient.desc(),
            scale,
            source_kind: kind as u32,
            ..cross_entropy_backward::CrossEntropyBackward::zeroed()
        })
    }

    /// One step of SGD on `weight`, in place.
    pub fn sgd(
        &self,
        weight: &Tensor,
        gradient: &Tensor,
        velocity: Option<&Tensor>,
        options: &SgdOptions,
    ) -> Result<u64> {
        self.submit(&sgd::Sgd {
            weight: *weight.desc(),
            gradient: *gradient.desc(),
            velocity: optional(velocity),
            rate: options.rate,
            momentum: options.momentum,
            weight_decay: options.weight_decay,
            ..sgd::Sgd::zeroed()
        })
    }
}
