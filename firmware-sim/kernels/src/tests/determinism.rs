//! Operators whose work is split: the same bits whatever the number of threads and the order of tasks.

use vmlu_abi::tensor::DataType::{self, Bf16, F32, F64, I32};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::attention::Attention;
use vmlu_ops::attention_backward::AttentionBackward;
use vmlu_ops::ctc::Ctc;
use vmlu_ops::ctc_backward::CtcBackward;
use vmlu_ops::parameters::Part;
use vmlu_ops::soft_cross_entropy::SoftCrossEntropy;
use vmlu_ops::tensor::contiguous;
use vmlu_ops::{adagrad, adam, fused_sgd, lamb, rmsprop, Descriptor};

use super::tensors::Rng;
use crate::testing::Arena;

/// Runs what `make` puts into memory, with several threads and orders, and compares all of memory.
#[track_caller]
fn same_bits(bytes: usize, make: impl Fn(&mut Arena, &mut Rng)) {
    let mut first: Option<Vec<u8>> = None;
    for (threads, shuffle) in [(1, 0), (2, 5), (3, 77), (1, 123)] {
        let mut arena = Arena::new(bytes);
        (arena.threads, arena.shuffle) = (threads, shuffle);
        make(&mut arena, &mut Rng::new(1));
        let memory = arena.snapshot();
        match &first {
            None => first = Some(memory),
            Some(first) => assert!(*first == memory, "{threads} threads, order {shuffle}"),
        }
    }
}

/// Random numbers, positive ones if they are second moments.
fn numbers(arena: &mut Arena, rng: &mut Rng, count: usize) -> u64 {
    let values: Vec<f32> = (0..count)
        .map(|_| rng.value().abs() as f32 + 0.01)
        .collect();
    arena.put(&values)
}

fn tensor(arena: &mut Arena, rng: &mut Rng, dims: &[u64]) -> TensorDesc {
    let count = dims.iter().product::<u64>() as usize;
    contiguous(F32, numbers(arena, rng, count), dims)
}

/// Parameters of several sizes, one of many tasks.
fn parts(arena: &mut Arena, rng: &mut Rng, states: usize) -> [Part; 3] {
    [150_000, 7, 40_000].map(|count| Part {
        weight: numbers(arena, rng, count),
        gradient: numbers(arena, rng, count),
        states: std::array::from_fn(|k| match k < states {
            true => numbers(arena, rng, count),
            false => 0,
        }),
        copy: 0,
        count: count as u64,
    })
}

const MODEL: usize = 8 << 20;

macro_rules! optimiser {
    ($test:ident, $body:ty, $states:literal, |$op:ident| $set:block) => {
        #[test]
        fn $test() {
            same_bits(MODEL, |arena, rng| {
                let mut $op = <$body>::zeroed();
                let parts = parts(arena, rng, $states);
                $op.count = 3;
                ($op.dtype, $op.gradient_type) = (F32 as u32, F32 as u32);
                $op.parts[..3].copy_from_slice(&parts);
                $op.rate = 0.125;
                $set
                arena.run(&$op).unwrap();
            });
        }
    };
}

optimiser!(sgd_over_parameters, fused_sgd::FusedSgd, 1, |op| {
    op.momentum = 0.75;
    op.weight_decay = 0.01;
});
optimiser!(adam_over_parameters, adam::Adam, 2, |op| {
    op.beta1 = 0.9;
    op.beta2 = 0.99;
    op.eps = 1e-8;
    op.step = 3;
});
optimiser!(lamb_over_parameters, lamb::Lamb, 2, |op| {
    op.beta1 = 0.9;
    op.beta2 = 0.99;
    op.eps = 1e-6;
    op.weight_decay = 0.01;
    op.step = 3;
});
optimiser!(adagrad_over_parameters, adagrad::Adagrad, 1, |op| {
    op.eps = 1e-8;
    op.step = 3;
});
optimiser!(rmsprop_over_parameters, rmsprop::Rmsprop, 2, |op| {
    op.alpha = 0.9;
    op.eps = 1e-8;
    op.momentum = 0.5;
});

#[test]
fn connectionist_classification() {
    for dtype in [F32, F64] {
        same_bits(8 << 20, |arena, rng| {
            let (steps, batch, classes, longest) = (60, 9, 30, 25u64);
            let logs: Vec<f64> = (0..steps * batch * classes)
                .map(|_| rng.value() - 3.0)
                .collect();
            let address = match dtype {
                F64 => arena.put(&logs),
                _ => arena.put(&logs.iter().map(|v| *v as f32).collect::<Vec<_>>()),
            };
            let dims = [steps, batch, classes];
            let of = |arena: &mut Arena, dtype: DataType, dims: &[u64]| {
                let bytes = dims.iter().product::<u64>() as usize * dtype.size();
                contiguous(dtype, arena.reserve(bytes), dims)
            };
            let words = |arena: &mut Arena, values: Vec<i32>, dims: &[u64]| {
                contiguous(I32, arena.put(&values), dims)
            };
            let targets = (0..batch * longest)
                .map(|_| 1 + rng.below(classes - 1) as i32)
                .collect();
            let forward = Ctc {
                x: contiguous(dtype, address, &dims),
                targets: words(arena, targets, &[batch, longest]),
                input_lengths: words(arena, vec![steps as i32; batch as usize], &[batch]),
                target_lengths: words(arena, (0..batch as i32).map(|n| 17 + n).collect(), &[batch]),
                loss: of(arena, dtype, &[]),
                alpha: of(arena, F64, &[batch, steps, 2 * longest + 1]),
                reduction: 2,
                ..Wire::zeroed()
            };
            arena.run(&forward).unwrap();
            let backward = CtcBackward {
                x: forward.x,
                targets: forward.targets,
                input_lengths: forward.input_lengths,
                target_lengths: forward.target_lengths,
                upstream: forward.loss,
                alpha: forward.alpha,
                dx: of(arena, dtype, &dims),
                reduction: 2,
                ..Wire::zeroed()
            };
            arena.run(&backward).unwrap();
        });
    }
}

#[test]
fn gradients_of_attention() {
    for dtype in [F32, Bf16] {
        same_bits(8 << 20, |arena, rng| {
            let mut of = |dims: &[u64]| {
                let count = dims.iter().product::<u64>();
                let values: Vec<f32> = (0..count).map(|_| rng.value() as f32).collect();
                let half = |v: &f32| half::bf16::from_f32(*v).to_bits();
                let address = match dtype {
                    F32 => arena.put(&values),
                    _ => arena.put(&values.iter().map(half).collect::<Vec<_>>()),
                };
                contiguous(dtype, address, dims)
            };
            let (query, keys) = (of(&[1, 4, 300, 16]), of(&[1, 2, 500, 16]));
            let forward = Attention {
                q: query,
                k: keys,
                v: of(&[1, 2, 500, 16]),
                out: of(&[1, 4, 300, 16]),
                scale: 0.25,
                ..Wire::zeroed()
            };
            let dout = of(&[1, 4, 300, 16]);
            let gradients = [&query, &keys, &keys].map(|t| of(&t.dims[..4]));
            let forward = Attention {
                lse: tensor(arena, rng, &[1, 4, 300]),
                mask: tensor(arena, rng, &[300, 500]),
                ..forward
            };
            arena.run(&forward).unwrap();
            let backward = AttentionBackward {
                dmask: tensor(arena, rng, &[300, 500]),
                ..AttentionBackward::of(&forward, dout, gradients)
            };
            arena.run(&backward).unwrap();
        });
    }
}

#[test]
fn means_of_losses() {
    same_bits(8 << 20, |arena, rng| {
        let dims = [2000, 40, 5];
        let desc = SoftCrossEntropy {
            logits: tensor(arena, rng, &dims),
            target: tensor(arena, rng, &dims),
            loss: tensor(arena, rng, &[]),
            reduction: 1,
            ..Wire::zeroed()
        };
        desc.check().unwrap();
        arena.run(&desc).unwrap();
    });
}
