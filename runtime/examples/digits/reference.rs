//! The same network on the host in float64, for checking the first steps.

use crate::data::{Set, CLASSES, PIXELS};
use crate::network::{Weights, BATCH, HIDDEN, SGD, SHAPES};

/// The network in float64.
pub struct Reference {
    weights: [Vec<f64>; 4],
    velocities: [Vec<f64>; 4],
}

impl Reference {
    /// The network with these weights.
    pub fn new(weights: &Weights) -> Self {
        Self {
            weights: weights
                .0
                .clone()
                .map(|w| w.into_iter().map(f64::from).collect()),
            velocities: SHAPES.map(|[rows, columns]| vec![0.0; rows * columns]),
        }
    }

    /// One step on a batch; its mean loss.
    pub fn step(&mut self, set: &Set, batch: usize) -> f64 {
        let [w1, b1, w2, b2] = &self.weights;
        let mut gradients = SHAPES.map(|[rows, columns]| vec![0.0; rows * columns]);
        let mut loss = 0.0;
        for i in batch * BATCH..(batch + 1) * BATCH {
            let image: Vec<f64> = set.images[i * PIXELS..(i + 1) * PIXELS]
                .iter()
                .map(|p| f64::from(*p))
                .collect();
            let label = set.labels[i] as usize;
            let hidden: Vec<f64> = (0..HIDDEN)
                .map(|h| {
                    (0..PIXELS)
                        .map(|p| image[p] * w1[p * HIDDEN + h])
                        .sum::<f64>()
                        + b1[h]
                })
                .map(|h| h.max(0.0))
                .collect();
            let logits: Vec<f64> = (0..CLASSES)
                .map(|c| {
                    (0..HIDDEN)
                        .map(|h| hidden[h] * w2[h * CLASSES + c])
                        .sum::<f64>()
                        + b2[c]
                })
                .collect();
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
            loss += (sum.ln() + largest - logits[label]) / BATCH as f64;
            let delta: Vec<f64> = (0..CLASSES)
                .map(|c| {
                    ((logits[c] - largest).exp() / sum - f64::from(u8::from(c == label)))
                        / BATCH as f64
                })
                .collect();
            for c in 0..CLASSES {
                gradients[3][c] += delta[c];
                for h in 0..HIDDEN {
                    gradients[2][h * CLASSES + c] += hidden[h] * delta[c];
                }
            }
            for h in (0..HIDDEN).filter(|h| hidden[*h] > 0.0) {
                let back: f64 = (0..CLASSES).map(|c| delta[c] * w2[h * CLASSES + c]).sum();
                gradients[1][h] += back;
                for p in 0..PIXELS {
                    gradients[0][p * HIDDEN + h] += image[p] * back;
                }
            }
        }
        for (i, gradient) in gradients.iter().enumerate() {
            for (j, g) in gradient.iter().enumerate() {
                let velocity = &mut self.velocities[i][j];
                *velocity = SGD.momentum * *velocity + g + SGD.weight_decay * self.weights[i][j];
                self.weights[i][j] -= SGD.rate * *velocity;
            }
        }
        loss
    }

    /// Largest difference of a weight, relative to the largest weight of its matrix.
    pub fn difference(&self, weights: &Weights) -> f64 {
        let pairs = self.weights.iter().zip(&weights.0);
        pairs
            .map(|(reference, card)| {
                let scale = reference.iter().fold(1e-30, |m: f64, w| m.max(w.abs()));
                let apart = reference
                    .iter()
                    .zip(card)
                    .map(|(r, c)| (r - f64::from(*c)).abs())
                    .fold(0.0, f64::max);
                apart / scale
            })
            .fold(0.0, f64::max)
    }
}
