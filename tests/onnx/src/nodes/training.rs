//! Optimisers of the training domain, by the card's.

use vmlu::operators::{AdagradOptions, AdamOptions, Common, FusedSgdOptions, Parameter};
use vmlu::Tensor;

use super::Node;
use crate::{unsupported, wrong, Result};

/// Inputs by kind: weights, gradients, states of each parameter.
struct Model {
    rate: f64,
    step: f64,
    kinds: Vec<Vec<Tensor>>,
}

impl Model {
    /// Rate and number of the step come first, then all weights, all gradients, and each state of all.
    fn of(node: &Node<'_>, states: usize) -> Result<Self> {
        let card = node.card;
        let each = (node.inputs.len() - 2) / (2 + states);
        let mut kinds = Vec::new();
        for kind in 0..2 + states {
            let mut tensors = Vec::new();
            for i in 0..each {
                // They are updated in place.
                tensors.push(card.copy(node.input(2 + kind * each + i)?)?);
            }
            kinds.push(tensors);
        }
        Ok(Self {
            rate: card.numbers(node.input(0)?)?[0],
            step: card.numbers(node.input(1)?)?[0],
            kinds,
        })
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        (0..self.kinds[0].len())
            .map(|i| {
                let states: Vec<&Tensor> = self.kinds[2..].iter().map(|k| &k[i]).collect();
                Parameter::new(&self.kinds[0][i], &self.kinds[1][i], &states)
            })
            .collect()
    }

    /// Weights, then states.
    fn outputs(mut self) -> Vec<Tensor> {
        self.kinds.remove(1);
        self.kinds.concat()
    }
}

pub(super) fn run(node: &Node<'_>) -> Result<Vec<Tensor>> {
    let queue = node.card.queue;
    let number = |name: &str, default: f64| node.float(name, default);
    let common = |rate: f64| Common {
        rate,
        weight_decay: number("norm_coefficient", 0.0),
        ..Common::default()
    };
    Ok(match &node.proto.op_type[..] {
        "Adagrad" => {
            let model = Model::of(node, 1)?;
            let rate = model.rate / (1.0 + model.step * number("decay_factor", 0.0));
            queue.adagrad(
                &model.parameters(),
                &AdagradOptions {
                    common: common(rate),
                    rate_decay: 0.0,
                    eps: number("epsilon", 0.0),
                    step: 1,
                },
            )?;
            model.outputs()
        }
        "Adam" => {
            let model = Model::of(node, 2)?;
            if number("norm_coefficient_post", 0.0) != 0.0 {
                return unsupported("weights that shrink after the step");
            }
            let betas = [number("alpha", 0.9), number("beta", 0.999)];
            // Step 0 has no correction of the moments: that of a far one is none. ONNX adds epsilon before it, the card behind it.
            let step = if model.step > 0.0 {
                model.step as u64
            } else {
                1 << 40
            };
            let correction = (1.0 - betas[1].powf(step as f64)).sqrt();
            queue.adam(
                &model.parameters(),
                &AdamOptions {
                    common: common(model.rate),
                    betas,
                    eps: number("epsilon", 0.0) / correction,
                    step,
                    ..AdamOptions::default()
                },
            )?;
            model.outputs()
        }
        "Momentum" => {
            let model = Model::of(node, 1)?;
            let beta = if model.step > 0.0 {
                number("beta", 0.0)
            } else {
                1.0
            };
            let nesterov = match &node.text("mode", "standard")[..] {
                "standard" => false,
                "nesterov" => true,
                other => return wrong(format!("momentum of mode {other}")),
            };
            queue.fused_sgd(
                &model.parameters(),
                &FusedSgdOptions {
                    common: common(model.rate),
                    momentum: number("alpha", 0.0),
                    dampening: 1.0 - beta,
                    nesterov,
                    first: false,
                },
            )?;
            model.outputs()
        }
        other => return unsupported(format!("operator {other} of training")),
    })
}
