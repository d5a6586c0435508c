//! Descriptors that a hostile program could send: no panic, no write by a refused command, no work without end.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vmlu_abi::tensor::DataType::{Bool, F32, F64, I32, I8, U64};
use vmlu_abi::tensor::{reserved_type, TensorDesc};
use vmlu_abi::{Status, Wire};
use vmlu_ops::tensor::{absent, contiguous, strided};
use vmlu_ops::{
    adagrad, adam, affine, arg_reduce, attention, binary, cast, combine, compact, concat, conv,
    conv_backward_data, conv_backward_filter, cross_entropy, cross_entropy_backward, ctc,
    ctc_backward, dropout, fill, fused_sgd, lamb, loss, loss_backward, matmul, matmul_grouped,
    matmul_int4, nll, norm, norm_backward, pad, parameters, permutation, pool, pool_backward, put,
    quantize, random, range, reduce, rmsprop, scan, sgd, softmax, softmax_backward, sort, take,
    ternary, unary,
};

use super::cases;
use super::tensors::Rng;
use crate::testing::{Arena, BASE};
use crate::{find, Kernel, KERNELS};

/// Bytes of memory.
const SIZE: usize = 16384;

/// A valid body for each kernel: those of images and what came later are in [`super::bodies`].
fn bodies(arena: &mut Arena) -> Vec<Vec<u8>> {
    let mut tensor = |dims: &[u64]| {
        let bytes = 4 * dims.iter().product::<u64>() as usize;
        contiguous(F32, arena.reserve(bytes), dims)
    };
    let (x, y, z) = (tensor(&[6, 5]), tensor(&[6, 5]), tensor(&[6, 5]));
    let (row, out, wide) = (tensor(&[6]), tensor(&[6]), tensor(&[6, 6]));
    let right = strided(F32, y.address, &[5, 6], &[1, 5]);
    let (image, filter, map) = (tensor(&[1, 4, 7]), tensor(&[4, 2, 3]), tensor(&[1, 4, 4]));
    let bias = tensor(&[5]);
    let (query, keys, context) = (
        tensor(&[1, 2, 3, 4]),
        tensor(&[3, 1, 2, 4]),
        tensor(&[1, 2, 3, 4]),
    );
    let pages = contiguous(I32, arena.put(&[2i32, 0, 1]), &[1, 3]);
    let row_ends = arena.put(&[2i32, 6]);
    let labels = contiguous(I32, arena.put(&[0i32, 1, 2, 3, 4, 0]), &[6]);
    let indices = contiguous(I32, out.address, &[6]);
    let (spelled, ends) = (arena.put(&[1i32, 2, 3, 3]), arena.put(&[2i32, 1]));
    let lattice = contiguous(F64, arena.reserve(8 * 2 * 3 * 5), &[2, 3, 5]);
    let state = contiguous(U64, arena.put(&[1u64, 2]), &[2]);
    // Two parameters: x with its gradient in y, and a row of both.
    let parts = |states: usize| {
        let part = |at: u64, count| parameters::Part {
            weight: x.address + at,
            gradient: y.address + at,
            states: std::array::from_fn(|k| {
                let state = z.address + at + 40 * k as u64;
                if k < states {
                    state
                } else {
                    0
                }
            }),
            copy: 0,
            count,
        };
        [part(0, 3), part(16, 5)]
    };
    let bytes: &[&dyn Fn() -> Vec<u8>] = &[
        &|| {
            let op = matmul::Matmul {
                a: x,
                b: right,
                out: wide,
                bias: row,
                alpha: 1.0,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = matmul_grouped::MatmulGrouped {
                a: x,
                b: contiguous(F32, y.address, &[2, 5, 3]),
                ends: contiguous(I32, row_ends, &[2]),
                out: contiguous(F32, wide.address, &[6, 3]),
                bias: contiguous(F32, z.address, &[2, 3]),
                alpha: 1.0,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = matmul_int4::MatmulInt4 {
                a: x,
                w: TensorDesc {
                    dtype: reserved_type::I4,
                    ..contiguous(I8, y.address, &[5, 6])
                },
                scales: contiguous(F32, row.address, &[1, 6]),
                out: wide,
                alpha: 1.0,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = conv::Conv {
                x: image,
                w: filter,
                out: map,
                alpha: 1.0,
                stride: [2, 0, 0],
                dilation: [1, 0, 0],
                padding: [1, 1, 0, 0, 0, 0],
                groups: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = conv_backward_data::ConvBackwardData {
                dy: map,
                w: filter,
                dx: image,
                alpha: 1.0,
                stride: [2, 0, 0],
                dilation: [1, 0, 0],
                padding: [1, 1, 0, 0, 0, 0],
                groups: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = conv_backward_filter::ConvBackwardFilter {
                x: image,
                dy: map,
                dw: filter,
                alpha: 1.0,
                stride: [2, 0, 0],
                dilation: [1, 0, 0],
                padding: [1, 1, 0, 0, 0, 0],
                groups: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = attention::Attention {
                q: query,
                k: keys,
                v: keys,
                out: context,
                lengths: contiguous(I32, pages.address, &[1]),
                table: pages,
                scale: 1.0,
                causal: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            unary::Unary {
                x,
                out: z,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| {
            binary::Binary {
                a: x,
                b: y,
                out: z,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| {
            affine::Affine {
                x,
                out: z,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| {
            cast::Cast {
                x,
                out: z,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| fill::Fill { out: z, bits: 5 }.as_bytes().to_vec(),
        &|| {
            let op = ternary::Ternary {
                a: x,
                b: y,
                c: x,
                out: z,
                function: ternary::Function::Fma.raw(),
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = quantize::Quantize {
                x,
                out: TensorDesc {
                    scale: 0.5,
                    ..contiguous(I8, y.address, &[6, 5])
                },
            };
            op.as_bytes().to_vec()
        },
        &|| {
            reduce::Reduce {
                x,
                out,
                axes: 2,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| {
            let op = arg_reduce::ArgReduce {
                x,
                out: indices,
                axis: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = scan::Scan {
                x,
                out: z,
                axis: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            softmax::Softmax {
                x,
                out: z,
                axis: 1,
                ..Wire::zeroed()
            }
            .as_bytes()
            .to_vec()
        },
        &|| {
            let op = softmax_backward::SoftmaxBackward {
                y: x,
                dy: y,
                dx: z,
                axis: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = norm::Norm {
                x,
                weight: bias,
                bias,
                out: z,
                mean: row,
                rstd: out,
                axes: 2,
                eps: 1e-5,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = norm_backward::NormBackward {
                dy: x,
                x: y,
                mean: row,
                rstd: out,
                dx: z,
                axes: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = cross_entropy::CrossEntropy {
                logits: x,
                labels,
                loss: out,
                probabilities: z,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = cross_entropy_backward::CrossEntropyBackward {
                source: x,
                labels,
                upstream: row,
                gradient: z,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = loss::Loss {
                x,
                target: y,
                weight: bias,
                positive: z,
                out: contiguous(F32, out.address, &[]),
                function: 5,
                reduction: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = loss_backward::LossBackward {
                x,
                target: y,
                upstream: bias,
                dx: z,
                function: 5,
                reduction: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = nll::Nll {
                x,
                target: labels,
                weight: bias,
                loss: out,
                function: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = ctc::Ctc {
                x: contiguous(F32, x.address, &[3, 2, 5]),
                targets: contiguous(I32, spelled, &[2, 2]),
                input_lengths: contiguous(I32, ends, &[2]),
                target_lengths: contiguous(I32, ends, &[2]),
                loss: contiguous(F32, out.address, &[2]),
                alpha: lattice,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = ctc_backward::CtcBackward {
                x: contiguous(F32, x.address, &[3, 2, 5]),
                targets: contiguous(I32, spelled, &[2, 2]),
                input_lengths: contiguous(I32, ends, &[2]),
                target_lengths: contiguous(I32, ends, &[2]),
                upstream: contiguous(F32, out.address, &[2]),
                alpha: lattice,
                dx: contiguous(F32, z.address, &[3, 2, 5]),
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = concat::Concat {
                whole: z,
                parts: {
                    let mut p = [absent(); 16];
                    p[0] = strided(F32, x.address, &[6, 2], &[5, 1]);
                    p[1] = strided(F32, y.address, &[6, 3], &[5, 1]);
                    p
                },
                count: 2,
                axis: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = pad::Pad {
                x: strided(F32, x.address, &[4, 3], &[5, 1]),
                out: z,
                before: [1, 1, 0, 0, 0, 0, 0, 0],
                bits: 7,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = take::Take {
                x: wide,
                out: strided(F32, z.address, &[6, 5], &[5, 1]),
                indices: {
                    let mut p = [absent(); 8];
                    p[0] = strided(I32, labels.address, &[6, 1], &[1, 1]);
                    p
                },
                axes: [0, 255, 255, 255, 255, 255, 255, 255],
                map: [255, 1, 255, 255, 255, 255, 255, 255],
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = put::Put {
                x,
                out: wide,
                indices: {
                    let mut p = [absent(); 8];
                    p[0] = strided(I32, labels.address, &[6, 1], &[1, 1]);
                    p
                },
                axes: [0, 255, 255, 255, 255, 255, 255, 255],
                map: [255, 1, 255, 255, 255, 255, 255, 255],
                dims: [6, 5, 0, 0, 0, 0, 0, 0],
                function: 1,
                rank: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = compact::Compact {
                x,
                out: contiguous(F32, y.address, &[30]),
                function: 3,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = sort::Sort {
                x,
                values: z,
                indices: strided(I32, y.address, &[6, 5], &[5, 1]),
                axis: 1,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = range::Range {
                out: z,
                x,
                function: 3,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = pool::Pool {
                x: image,
                out: map,
                indices: contiguous(I32, wide.address, &[1, 4, 4]),
                taps: [3, 0, 0],
                stride: [2, 0, 0],
                dilation: [1, 0, 0],
                padding: [1, 1, 0, 0, 0, 0],
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = pool_backward::PoolBackward {
                dy: map,
                indices: contiguous(I32, wide.address, &[1, 4, 4]),
                dx: image,
                taps: [3, 0, 0],
                stride: [2, 0, 0],
                dilation: [1, 0, 0],
                padding: [1, 1, 0, 0, 0, 0],
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = random::Random {
                out: z,
                probability: bias,
                state,
                function: 2,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = permutation::Permutation {
                out: indices,
                seed: 5,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = dropout::Dropout {
                x,
                mask: contiguous(Bool, wide.address, &[6, 5]),
                out: z,
                state,
                p: 0.5,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let op = sgd::Sgd {
                weight: x,
                gradient: y,
                velocity: z,
                ..Wire::zeroed()
            };
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = fused_sgd::FusedSgd {
                count: 2,
                dtype: F32 as u32,
                gradient_type: F32 as u32,
                momentum: 0.5,
                ..Wire::zeroed()
            };
            op.parts[..2].copy_from_slice(&parts(1));
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = adam::Adam {
                count: 2,
                dtype: F32 as u32,
                gradient_type: F32 as u32,
                flags: adam::FLAG_AMSGRAD,
                step: 2,
                ..Wire::zeroed()
            };
            op.parts[..2].copy_from_slice(&parts(3));
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = lamb::Lamb {
                count: 2,
                dtype: F32 as u32,
                gradient_type: F32 as u32,
                step: 2,
                ..Wire::zeroed()
            };
            op.parts[..2].copy_from_slice(&parts(2));
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = adagrad::Adagrad {
                count: 2,
                dtype: F32 as u32,
                gradient_type: F32 as u32,
                step: 2,
                ..Wire::zeroed()
            };
            op.parts[..2].copy_from_slice(&parts(1));
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = rmsprop::Rmsprop {
                count: 2,
                dtype: F32 as u32,
                gradient_type: F32 as u32,
                flags: rmsprop::FLAG_CENTRED,
                momentum: 0.5,
                ..Wire::zeroed()
            };
            op.parts[..2].copy_from_slice(&parts(3));
            op.as_bytes().to_vec()
        },
        &|| {
            let mut op = combine::Combine {
                count: 30,
                dtype: F32 as u32,
                input_count: 2,
                output_count: 1,
                ..Wire::zeroed()
            };
            op.inputs[..2].copy_from_slice(&[x.address, y.address]);
            op.outputs[0] = z.address;
            op.as_bytes().to_vec()
        },
    ];
    let mut all: Vec<Vec<u8>> = bytes.iter().map(|f| f()).collect();
    for (opcode, body) in super::bodies::bodies(arena) {
        let at = KERNELS.iter().position(|k| k.opcode == opcode);
        all.insert(at.expect("a kernel"), body);
    }
    all
}

/// All bodies, with the kernels that they are for.
fn with_kernels(arena: &mut Arena) -> Vec<(&'static Kernel, Vec<u8>)> {
    let mut all: Vec<_> = KERNELS.iter().zip(bodies(arena)).collect();
    let more = super::bodies::more(arena).into_iter();
    all.extend(more.map(|(opcode, body)| (find(opcode).expect("a kernel"), body)));
    all
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn damaged_descriptors(seed: u64) {
        let (mut rng, mut arena) = (Rng::new(seed), Arena::new(SIZE));
        let all = with_kernels(&mut arena);
        let (kernel, mut body) = all[rng.below(all.len() as u64) as usize].clone();
        prop_assert_eq!(kernel.body, body.len());
        for _ in 0..1 + rng.below(3) {
            let values = [
                0, 1, 2, 3, 8, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX, u64::MAX - 3, 1 << 40,
                BASE, BASE + SIZE as u64, BASE.wrapping_neg(), rng.next(),
            ];
            let value = rng.pick(&values).to_le_bytes();
            let width = rng.pick(&[1usize, 2, 4, 8]);
            let at = rng.below((body.len() / width) as u64) as usize * width;
            body[at..at + width].copy_from_slice(&value[..width]);
        }
        arena.threads = 1;
        arena.patience.store(3000, Ordering::Relaxed);
        let before = arena.snapshot();
        match (kernel.run)(&body, &arena) {
            Ok(_) => {}
            Err(fault) => {
                let faulted = matches!(fault.status, Status::Cancelled | Status::IndexOutOfRange);
                let refused = matches!(fault.status, Status::BadOperand | Status::OperandFault);
                prop_assert!(faulted || refused, "{:?}", fault);
                prop_assert!(!fault.rule.is_empty());
                prop_assert!(!refused || before == arena.snapshot());
            }
        }
    }
}

/// The bodies are valid as they stand, or the test above would test nothing.
#[test]
fn the_undamaged_ones_run() {
    let mut arena = Arena::new(SIZE);
    for (kernel, body) in with_kernels(&mut arena) {
        let result = (kernel.run)(&body, &arena);
        assert!(result.is_ok(), "{}: {result:?}", kernel.name);
    }
}
