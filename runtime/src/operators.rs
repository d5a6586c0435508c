//! Operators, enqueued on a queue. Each call returns the command's timeline value; rules are checked before anything is submitted. See
//! `docs/operators.md` for formulas, types and rules.

use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::{
    affine, arg_reduce, binary, cast, cross_entropy, cross_entropy_backward, matmul, reduce, sgd,
    softmax, unary,
};

use crate::error::Result;
use crate::queue::Queue;
use crate::tensor::Tensor;

pub use vmlu_ops::arg_reduce::Function as ArgFunction;
pub use vmlu_ops::binary::Function as BinaryFunction;
pub use vmlu_ops::cross_entropy_backward::Source;
pub use vmlu_ops::matmul::Activation;
pub use vmlu_ops::reduce::Function as ReduceFunction;
pub use vmlu_ops::softmax::Function as SoftmaxFunction;
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
