//! The network on the card: two layers, softmax cross-entropy, SGD with momentum. Every number of it is computed there.

use vmlu::operators::{
    Activation, ArgFunction, BinaryFunction, MatmulOptions, ReduceFunction, SgdOptions, Source,
};
use vmlu::{DataType, Queue, Result, Tensor};

use crate::data::{Random, Set, CLASSES, PIXELS};

/// Hidden units.
pub const HIDDEN: usize = 128;
/// Images of a step.
pub const BATCH: usize = 32;
/// How SGD updates.
pub const SGD: SgdOptions = SgdOptions {
    rate: 0.05,
    momentum: 0.9,
    weight_decay: 1e-4,
};

/// Weights of a network, on the host.
#[derive(Clone)]
pub struct Weights(pub [Vec<f32>; 4]);

/// Shapes of the weights: of each layer, its matrix and its bias.
pub const SHAPES: [[usize; 2]; 4] = [
    [PIXELS, HIDDEN],
    [1, HIDDEN],
    [HIDDEN, CLASSES],
    [1, CLASSES],
];

impl Weights {
    /// Random matrices, zero biases.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        Self(SHAPES.map(|[rows, columns]| {
            let limit = if rows == 1 {
                0.0
            } else {
                (6.0 / (rows + columns) as f32).sqrt()
            };
            (0..rows * columns).map(|_| random.uniform(limit)).collect()
        }))
    }

    /// A number that stands for all bits of the weights (FNV-1a, 64 bits).
    pub fn digest(&self) -> u64 {
        let bytes = self.0.iter().flatten().flat_map(|w| w.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }
}

/// A data set on the card.
pub struct Loaded {
    images: Tensor,
    labels: Tensor,
    count: usize,
}

impl Loaded {
    /// Copies a data set to the card.
    pub fn new(queue: &Queue, set: &Set) -> Result<Self> {
        let count = set.len();
        Ok(Self {
            images: Tensor::from_slice(queue, &set.images, &[count as u64, PIXELS as u64])?,
            labels: Tensor::from_slice(queue, &set.labels, &[count as u64])?,
            count,
        })
    }

    /// Full batches.
    pub fn batches(&self) -> usize {
        self.count / BATCH
    }
}

/// The network and all that a step needs.
pub struct Network {
    queue: Queue,
    weights: [Tensor; 4],
    gradients: [Tensor; 4],
    velocities: [Tensor; 4],
    hidden: Tensor,
    hidden_gradient: Tensor,
    logits: Tensor,
    logits_gradient: Tensor,
    losses: Tensor,
    /// Mean loss of each batch of an epoch.
    history: Tensor,
}

impl Network {
    /// A network with these weights, for epochs of this many batches.
    pub fn new(queue: &Queue, weights: &Weights, batches: usize) -> Result<Self> {
        let shape = |i: usize| SHAPES[i].map(|d| d as u64);
        let each = |make: &dyn Fn(usize) -> Result<Tensor>| -> Result<[Tensor; 4]> {
            Ok([make(0)?, make(1)?, make(2)?, make(3)?])
        };
        let floats = |dims: &[usize]| {
            Tensor::zeros(
                queue,
                DataType::F32,
                &dims.iter().map(|d| *d as u64).collect::<Vec<_>>(),
            )
        };
        Ok(Self {
            queue: queue.clone(),
            weights: each(&|i| Tensor::from_slice(queue, &weights.0[i], &shape(i)))?,
            gradients: each(&|i| Tensor::zeros(queue, DataType::F32, &shape(i)))?,
            velocities: each(&|i| Tensor::zeros(queue, DataType::F32, &shape(i)))?,
            hidden: floats(&[BATCH, HIDDEN])?,
            hidden_gradient: floats(&[BATCH, HIDDEN])?,
            logits: floats(&[BATCH, CLASSES])?,
            logits_gradient: floats(&[BATCH, CLASSES])?,
            losses: floats(&[BATCH])?,
            history: floats(&[batches])?,
        })
    }

    fn forward(&self, images: &Tensor, hidden: &Tensor, logits: &Tensor) -> Result<()> {
        let [w1, b1, w2, b2] = &self.weights;
        let layer = |bias, activation| MatmulOptions {
            bias: Some(bias),
            activation,
            ..MatmulOptions::default()
        };
        self.queue
            .matmul(images, w1, hidden, &layer(b1, Activation::Relu))?;
        self.queue
            .matmul(hidden, w2, logits, &layer(b2, Activation::None))?;
        Ok(())
    }

    /// Enqueues one step on a batch.
    pub fn step(&self, data: &Loaded, batch: usize) -> Result<()> {
        let queue = &self.queue;
        let images = data
            .images
            .narrow(0, (batch * BATCH) as u64, BATCH as u64)?;
        let labels = data
            .labels
            .narrow(0, (batch * BATCH) as u64, BATCH as u64)?;
        let [_, _, w2, _] = &self.weights;
        let [g1, gb1, g2, gb2] = &self.gradients;
        let plain = MatmulOptions::default();

        self.forward(&images, &self.hidden, &self.logits)?;
        queue.cross_entropy(&self.logits, &labels, &self.losses, None)?;
        queue.reduce(
            ReduceFunction::Mean,
            &self.losses,
            1,
            &self.history.narrow(0, batch as u64, 1)?,
        )?;

        queue.cross_entropy_backward(
            Source::Logits,
            &self.logits,
            &labels,
            &self.logits_gradient,
            1.0 / BATCH as f64,
        )?;
        queue.matmul(
            &self.hidden.transpose(0, 1)?,
            &self.logits_gradient,
            g2,
            &plain,
        )?;
        queue.reduce(ReduceFunction::Sum, &self.logits_gradient, 1, gb2)?;
        queue.matmul(
            &self.logits_gradient,
            &w2.transpose(0, 1)?,
            &self.hidden_gradient,
            &plain,
        )?;
        queue.binary(
            BinaryFunction::ReluBackward,
            &self.hidden_gradient,
            &self.hidden,
            &self.hidden_gradient,
        )?;
        queue.matmul(&images.transpose(0, 1)?, &self.hidden_gradient, g1, &plain)?;
        queue.reduce(ReduceFunction::Sum, &self.hidden_gradient, 1, gb1)?;

        for i in 0..4 {
            queue.sgd(
                &self.weights[i],
                &self.gradients[i],
                Some(&self.velocities[i]),
                &SGD,
            )?;
        }
        Ok(())
    }

    /// Mean loss of the last epoch.
    pub fn mean_loss(&self) -> Result<f32> {
        let mean = Tensor::zeros(&self.queue, DataType::F32, &[1])?;
        self.queue
            .reduce(ReduceFunction::Mean, &self.history, 1, &mean)?;
        Ok(mean.to_vec::<f32>(&self.queue)?[0])
    }

    /// Loss of a batch of the last epoch.
    pub fn batch_loss(&self, batch: usize) -> Result<f32> {
        Ok(self
            .history
            .narrow(0, batch as u64, 1)?
            .to_vec::<f32>(&self.queue)?[0])
    }

    /// The weights, copied from the card.
    pub fn weights(&self) -> Result<Weights> {
        let read = |i: usize| self.weights[i].to_vec::<f32>(&self.queue);
        Ok(Weights([read(0)?, read(1)?, read(2)?, read(3)?]))
    }

    /// The digit that the network sees in each image.
    pub fn classify(&self, data: &Loaded) -> Result<Vec<i32>> {
        let (queue, count) = (&self.queue, data.count as u64);
        let hidden = Tensor::zeros(queue, DataType::F32, &[count, HIDDEN as u64])?;
        let logits = Tensor::zeros(queue, DataType::F32, &[count, CLASSES as u64])?;
        let digits = Tensor::zeros(queue, DataType::I32, &[count, 1])?;
        self.forward(&data.images, &hidden, &logits)?;
        queue.arg_reduce(ArgFunction::Max, &logits, 1, &digits)?;
        digits.to_vec::<i32>(queue)
    }
}
