//! Optimisers over many parameters: one command for each 64 of them.

use vmlu_abi::Status;
use vmlu_abi::Wire;
use vmlu_ops::parameters::{Part, MAX_PARTS, MAX_STATES};
use vmlu_ops::{adagrad, adam, fused_sgd, lamb, rmsprop, Descriptor};

use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::tensor::Tensor;

/// A parameter of a model. All of its tensors are contiguous and have as many elements.
#[derive(Clone, Copy)]
pub struct Parameter<'a> {
    /// Weights; all parameters of a call have one type.
    pub weight: &'a Tensor,
    /// Their gradients, likewise; another type than the weights' if neither is F64.
    pub gradient: &'a Tensor,
    /// States that the optimiser has, in its order, of the weights' type.
    pub states: [Option<&'a Tensor>; MAX_STATES],
    /// Takes the new weights too, in another type.
    pub copy: Option<&'a Tensor>,
}

impl<'a> Parameter<'a> {
    /// A parameter with states.
    pub fn new(weight: &'a Tensor, gradient: &'a Tensor, states: &[&'a Tensor]) -> Self {
        let mut all = [None; MAX_STATES];
        for (a, s) in all.iter_mut().zip(states) {
            *a = Some(*s);
        }
        Self {
            weight,
            gradient,
            states: all,
            copy: None,
        }
    }
}

/// What all optimisers have.
#[derive(Clone, Copy, Default)]
pub struct Common<'a> {
    /// Learning rate.
    pub rate: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Walk up the gradients.
    pub maximize: bool,
    /// F32 scalar on the card that gradients are divided by.
    pub scale: Option<&'a Tensor>,
    /// F32 scalar on the card: the step does nothing unless it is 0.
    pub skip: Option<&'a Tensor>,
}

/// How [`Queue::fused_sgd`] updates. With a momentum, the state is the velocity.
#[derive(Clone, Copy, Default)]
pub struct FusedSgdOptions<'a> {
    /// Rate, decay and the like.
    pub common: Common<'a>,
    /// Momentum.
    pub momentum: f64,
    /// Dampening of the momentum.
    pub dampening: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// The first step: velocities hold nothing yet.
    pub first: bool,
}

/// How [`Queue::adam`] and [`Queue::lamb`] update. States are the two moments; with AMSGrad, the largest second moment too.
#[derive(Clone, Copy)]
pub struct AdamOptions<'a> {
    /// Rate, decay and the like.
    pub common: Common<'a>,
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Number of the step, from 1 on.
    pub step: u64,
    /// Weight decay apart from the gradient: AdamW. LAMB always has it so.
    pub decoupled: bool,
    /// AMSGrad; not for LAMB.
    pub amsgrad: bool,
}

impl Default for AdamOptions<'_> {
    fn default() -> Self {
        Self {
            common: Common::default(),
            betas: [0.9, 0.999],
            eps: 1e-8,
            step: 1,
            decoupled: false,
            amsgrad: false,
        }
    }
}

/// How [`Queue::adagrad`] updates. The state is the sum of squares.
#[derive(Clone, Copy)]
pub struct AdagradOptions<'a> {
    /// Rate, decay and the like.
    pub common: Common<'a>,
    /// Decay of the rate.
    pub rate_decay: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Number of the step, from 1 on.
    pub step: u64,
}

/// How [`Queue::rmsprop`] updates. States are the mean square; if it is centred the mean; with a momentum the velocity.
#[derive(Clone, Copy)]
pub struct RmspropOptions<'a> {
    /// Rate, decay and the like.
    pub common: Common<'a>,
    /// Decay of the means.
    pub alpha: f64,
    /// Momentum.
    pub momentum: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Divide by the deviation in place of the root mean square.
    pub centred: bool,
}

/// The address of a tensor that lies in memory without gaps.
fn address(tensor: &Tensor, count: u64) -> Result<u64> {
    let dense = vmlu_ops::tensor::contiguous(tensor.dtype(), 0, tensor.dims());
    if dense.strides != tensor.desc().strides || tensor.elements() != count {
        let text = format!(
            "a tensor {:?} of a parameter is not contiguous, or has not {count} elements",
            tensor.dims()
        );
        return Err(Error::new("optimise", Status::InvalidArgument, text));
    }
    Ok(tensor.desc().address)
}

/// The fields that all optimisers have, set in a descriptor.
macro_rules! describe {
    ($($t:ident)::+, $group:expr, $common:expr, $flags:expr, { $($field:ident: $value:expr),* $(,)? }) => {{
        let group: &Group = $group;
        let scalar = |t: Option<&Tensor>| t.map_or(Ok(0), |t| address(t, 1));
        Ok::<_, Error>($($t)::+ {
            parts: group.parts,
            count: group.count,
            dtype: group.types[0],
            gradient_type: group.types[1],
            copy_type: group.types[2],
            scale_address: scalar($common.scale)?,
            skip_address: scalar($common.skip)?,
            rate: $common.rate,
            weight_decay: $common.weight_decay,
            flags: u32::from($common.maximize) * vmlu_ops::parameters::FLAG_MAXIMIZE | $flags,
            $($field: $value,)*
            ..$($t)::+::zeroed()
        })
    }};
}

/// Parameters of one command.
struct Group {
    parts: [Part; MAX_PARTS],
    count: u32,
    types: [u32; 3],
}

impl Group {
    fn new(parameters: &[Parameter<'_>]) -> Result<Self> {
        let first = &parameters[0];
        let types = [Some(first.weight), Some(first.gradient), first.copy];
        let types = types.map(|t| t.map_or(0, |t| t.dtype() as u32));
        let mut parts = [Part::zeroed(); MAX_PARTS];
        for (part, p) in parts.iter_mut().zip(parameters) {
            let count = p.weight.elements();
            let kinds = [Some(p.weight), Some(p.gradient), p.copy].map(|t| t.map(Tensor::dtype));
            let same = |(k, t): (&Option<_>, &u32)| k.map_or(0, |k| k as u32) == *t;
            let states = p.states.iter().flatten();
            if !kinds.iter().zip(&types).all(same)
                || states.clone().any(|s| s.dtype() != p.weight.dtype())
            {
                let text = "the parameters of one call have one type each of weights and states, gradients and copies";
                return Err(Error::new("optimise", Status::InvalidArgument, text));
            }
            let at = |t: Option<&Tensor>| t.map_or(Ok(0), |t| address(t, count));
            *part = Part {
                weight: at(Some(p.weight))?,
                gradient: at(Some(p.gradient))?,
                states: [at(p.states[0])?, at(p.states[1])?, at(p.states[2])?],
                copy: at(p.copy)?,
                count,
            };
        }
        Ok(Self {
            parts,
            count: parameters.len() as u32,
            types,
        })
    }
}

impl Queue {
    /// Submits a command for each group of parameters, after all have been checked. Returns the last one's value; without parameters, that of the last command.
    fn optimise<D: Descriptor>(
        &self,
        parameters: &[Parameter<'_>],
        describe: impl Fn(&Group) -> Result<D>,
    ) -> Result<u64> {
        let mut bodies = Vec::new();
        for part in parameters.chunks(MAX_PARTS) {
            let body = describe(&Group::new(part)?)?;
            body.check().map_err(|e| Error::Operator {
                call: D::INFO.name,
                operand: e.operand,
                rule: e.rule,
            })?;
            bodies.push(body);
        }
        let mut value = self.submitted();
        for body in &bodies {
            value = self.submit(body)?;
        }
        Ok(value)
    }

    /// A step of SGD.
    pub fn fused_sgd(
        &self,
        parameters: &[Parameter<'_>],
        options: &FusedSgdOptions<'_>,
    ) -> Result<u64> {
        let nesterov = u32::from(options.nesterov) * fused_sgd::FLAG_NESTEROV;
        let flags = nesterov | (u32::from(options.first) * fused_sgd::FLAG_FIRST);
        self.optimise(parameters, |group| {
            describe!(fused_sgd::FusedSgd, group, options.common, flags, {
                momentum: options.momentum,
                dampening: options.dampening,
            })
        })
    }

    /// A step of Adam or AdamW.
    pub fn adam(&self, parameters: &[Parameter<'_>], options: &AdamOptions<'_>) -> Result<u64> {
        let decoupled = u32::from(options.decoupled) * adam::FLAG_DECOUPLED;
        let flags = decoupled | (u32::from(options.amsgrad) * adam::FLAG_AMSGRAD);
        self.optimise(parameters, |group| {
            describe!(adam::Adam, group, options.common, flags, {
                beta1: options.betas[0],
                beta2: options.betas[1],
                eps: options.eps,
                step: options.step,
            })
        })
    }

    /// A step of LAMB.
    pub fn lamb(&self, parameters: &[Parameter<'_>], options: &AdamOptions<'_>) -> Result<u64> {
        if options.amsgrad {
            let text = "LAMB has no AMSGrad";
            return Err(Error::new("optimise", Status::InvalidArgument, text));
        }
        self.optimise(parameters, |group| {
            describe!(lamb::Lamb, group, options.common, 0, {
                beta1: options.betas[0],
                beta2: options.betas[1],
                eps: options.eps,
                step: options.step,
            })
        })
    }

    /// A step of Adagrad.
    pub fn adagrad(
        &self,
        parameters: &[Parameter<'_>],
        options: &AdagradOptions<'_>,
    ) -> Result<u64> {
        self.optimise(parameters, |group| {
            describe!(adagrad::Adagrad, group, options.common, 0, {
                rate_decay: options.rate_decay,
                eps: options.eps,
                step: options.step,
            })
        })
    }

    /// A step of RMSprop.
    pub fn rmsprop(
        &self,
        parameters: &[Parameter<'_>],
        options: &RmspropOptions<'_>,
    ) -> Result<u64> {
        let flags = u32::from(options.centred) * rmsprop::FLAG_CENTRED;
        self.optimise(parameters, |group| {
            describe!(rmsprop::Rmsprop, group, options.common, flags, {
                alpha: options.alpha,
                momentum: options.momentum,
                eps: options.eps,
            })
        })
    }
}
