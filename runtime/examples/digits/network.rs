//! The network on the card: two layers, softmax cross-entropy, SGD with momentum. Every number of it is computed there.
//!
//! On several chips each has the whole network and takes its share of every batch; the gradients are summed over the chips before the
//! update, so that all keep the same weights.

use vmlu::collective::Function;
use vmlu::operators::{
    Activation, ArgFunction, BinaryFunction, MatmulOptions, ReduceFunction, SgdOptions, Source,
};
use vmlu::{DataType, Queue, Result, Tensor};

use crate::data::{Random, Set, CLASSES, PIXELS};
use crate::ranks::Ranks;

/// Hidden units.
pub const HIDDEN: usize = 128;
/// Images of a step, on all chips together.
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

/// What a chip has for training: its queue and, if it is one of several, its rank among them.
#[derive(Clone)]
pub struct Chip {
    /// Where everything is submitted.
    pub queue: Queue,
    /// None if it is alone.
    pub ranks: Option<Ranks>,
}

impl Chip {
    /// Its rank, and how many there are.
    pub fn place(&self) -> (u32, u32) {
        let ranks = self.ranks.as_ref();
        ranks.map_or((0, 1), |ranks| (ranks.rank(), ranks.size()))
    }

    /// Images of a batch that are this chip's: the first, and how many.
    fn share(&self) -> (usize, usize) {
        let (rank, size) = self.place();
        let share = BATCH / size as usize;
        (rank as usize * share, share)
    }

    /// The tensor becomes its sum or mean over all chips.
    fn combine(&self, tensor: &Tensor, function: Function) -> Result<()> {
        let Some(ranks) = &self.ranks else {
            return Ok(());
        };
        let buffer = tensor.buffer();
        let place = (buffer, tensor.desc().address - buffer.address());
        let (count, dtype) = (tensor.elements(), tensor.dtype());
        ranks.all_reduce(place, place, count, dtype, function, &self.queue)?;
        Ok(())
    }

    /// Whether all chips say the same number.
    pub fn agree(&self, number: u64) -> Result<bool> {
        let Some(ranks) = &self.ranks else {
            return Ok(true);
        };
        let size = ranks.size() as usize;
        let own = Tensor::from_slice(&self.queue, &[number], &[1])?;
        let all = Tensor::zeros(&self.queue, DataType::U64, &[size as u64])?;
        ranks.all_gather(own.buffer(), all.buffer(), 1, DataType::U64, &self.queue)?;
        let all = all.to_vec::<u64>(&self.queue)?;
        Ok(all.iter().all(|other| *other == number))
    }
}

/// The network and all that a step needs.
pub struct Network {
    chip: Chip,
    queue: Queue,
    weights: [Tensor; 4],
    /// One after another in one buffer, so that one all-reduce does for them.
    all_gradients: Tensor,
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
    pub fn new(chip: &Chip, weights: &Weights, batches: usize) -> Result<Self> {
        let queue = &chip.queue;
        let (_, share) = chip.share();
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
        let sizes = SHAPES.map(|[rows, columns]| rows * columns);
        let all_gradients = floats(&[sizes.iter().sum()])?;
        let gradient = |i: usize| {
            let first = sizes[..i].iter().sum::<usize>() as u64;
            let flat = all_gradients.narrow(0, first, sizes[i] as u64)?;
            Ok(flat.with_layout(&shape(i), &[SHAPES[i][1] as i64, 1]))
        };
        Ok(Self {
            chip: chip.clone(),
            queue: queue.clone(),
            weights: each(&|i| Tensor::from_slice(queue, &weights.0[i], &shape(i)))?,
            gradients: each(&gradient)?,
            all_gradients,
            velocities: each(&|i| Tensor::zeros(queue, DataType::F32, &shape(i)))?,
            hidden: floats(&[share, HIDDEN])?,
            hidden_gradient: floats(&[share, HIDDEN])?,
            logits: floats(&[share, CLASSES])?,
            logits_gradient: floats(&[share, CLASSES])?,
            losses: floats(&[share])?,
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
        let (first, share) = self.chip.share();
        let first = (batch * BATCH + first) as u64;
        let images = data.images.narrow(0, first, share as u64)?;
        let labels = data.labels.narrow(0, first, share as u64)?;
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

        self.chip.combine(&self.all_gradients, Function::Sum)?;
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

    /// Mean loss of the last epoch, over the shares of all chips.
    pub fn mean_loss(&self) -> Result<f32> {
        self.chip.combine(&self.history, Function::Average)?;
        let mean = Tensor::zeros(&self.queue, DataType::F32, &[1])?;
        self.queue
            .reduce(ReduceFunction::Mean, &self.history, 1, &mean)?;
        Ok(mean.to_vec::<f32>(&self.queue)?[0])
    }

    /// Loss of a batch of the last epoch, over the shares of all chips.
    pub fn batch_loss(&self, batch: usize) -> Result<f32> {
        let loss = self.history.narrow(0, batch as u64, 1)?;
        self.chip.combine(&loss, Function::Average)?;
        Ok(loss.to_vec::<f32>(&self.queue)?[0])
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
