//! Operators as a program uses them; `firmware-sim` tests each for itself.

use vmlu::operators::{
    Activation, BinaryFunction, MatmulOptions, ReduceFunction, SgdOptions, Source, UnaryFunction,
};
use vmlu::ops::Descriptor;
use vmlu::{DataType, Status, Tensor};

use super::{refused, rejected, Bench, Check};

pub(super) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    super::pattern(count * 2, seed)
        .chunks(2)
        .map(|b| (f32::from(b[0]) - 128.0) / 64.0 + f32::from(b[1]) / 4096.0)
        .collect()
}

pub(super) fn close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-30, |m: f64, e| m.max(e.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*f) - e).abs() <= tolerance * scale,
            "element {i} is {f}, not {e}"
        );
    }
}

pub(super) fn matmul_against_float64(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for (m, k, n) in [
        (1, 1, 1),
        (3, 5, 7),
        (64, 64, 64),
        (33, 1027, 65),
        (300, 20, 1),
    ] {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let ta = Tensor::from_slice(&queue, &a, &[m as u64, k as u64])?;
        let tb = Tensor::from_slice(&queue, &b, &[k as u64, n as u64])?;
        let tbias = Tensor::from_slice(&queue, &bias, &[1, n as u64])?;
        let out = Tensor::zeros(&queue, DataType::F32, &[m as u64, n as u64])?;
        let options = MatmulOptions {
            alpha: 0.5,
            bias: Some(&tbias),
            activation: Activation::Relu,
            ..MatmulOptions::default()
        };
        queue.matmul(&ta, &tb, &out, &options)?;
        let expected: Vec<f64> = (0..m * n)
            .map(|i| {
                let (row, column) = (i / n, i % n);
                let sum: f64 = (0..k)
                    .map(|j| f64::from(a[row * k + j]) * f64::from(b[j * n + column]))
                    .sum();
                (0.5 * sum + f64::from(bias[column])).max(0.0)
            })
            .collect();
        close(&out.to_vec(&queue)?, &expected, 1e-5);
    }
    Ok(())
}

pub(super) fn broadcast_and_views(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let a = Tensor::from_slice(&queue, &numbers(12, 4), &[3, 4])?;
    let row = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0], &[3])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[4, 3])?;
    queue.binary(BinaryFunction::Mul, &a.transpose(0, 1)?, &row, &out)?;
    let (host, found) = (numbers(12, 4), out.to_vec::<f32>(&queue)?);
    for i in 0..4 {
        for j in 0..3 {
            assert_eq!(found[i * 3 + j], host[j * 4 + i] * (j + 1) as f32);
        }
    }
    let middle = out.narrow(0, 1, 2)?;
    queue.unary(UnaryFunction::Neg, &middle, &middle)?;
    let after = out.to_vec::<f32>(&queue)?;
    assert!((0..12).all(|i| after[i]
        == if (3..9).contains(&i) {
            -found[i]
        } else {
            found[i]
        }));
    let sum = Tensor::zeros(&queue, DataType::F32, &[1, 1])?;
    queue.reduce(ReduceFunction::Sum, &out, 3, &sum)?;
    close(
        &sum.to_vec(&queue)?,
        &[after.iter().map(|v| f64::from(*v)).sum()],
        1e-6,
    );
    Ok(())
}

pub(super) fn training_step(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let logits = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0, 1.0, 1.0, 1.0], &[2, 3])?;
    let labels = Tensor::from_slice(&queue, &[2i32, 0], &[2])?;
    let loss = Tensor::zeros(&queue, DataType::F32, &[2])?;
    let gradient = Tensor::zeros(&queue, DataType::F32, &[2, 3])?;
    queue.cross_entropy(&logits, &labels, &loss, None)?;
    queue.cross_entropy_backward(Source::Logits, &logits, &labels, &gradient, 1.0)?;
    let sum = 1f64.exp() + 2f64.exp() + 3f64.exp();
    close(&loss.to_vec(&queue)?, &[sum.ln() - 3.0, 3f64.ln()], 1e-6);
    let third = 1.0 / 3.0;
    let expected = [
        1f64.exp() / sum,
        2f64.exp() / sum,
        3f64.exp() / sum - 1.0,
        third - 1.0,
        third,
        third,
    ];
    close(&gradient.to_vec(&queue)?, &expected, 1e-6);
    let options = SgdOptions {
        rate: 0.5,
        ..SgdOptions::default()
    };
    queue.sgd(&logits, &gradient, None, &options)?;
    let updated: Vec<f64> = [1.0, 2.0, 3.0, 1.0, 1.0, 1.0]
        .iter()
        .zip(expected)
        .map(|(w, g)| w - 0.5 * g)
        .collect();
    close(&logits.to_vec(&queue)?, &updated, 1e-6);
    Ok(())
}

pub(super) fn early_refusals(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let a = Tensor::zeros(&queue, DataType::F32, &[2, 3])?;
    let b = Tensor::zeros(&queue, DataType::F32, &[4, 5])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[2, 5])?;
    let before = queue.submitted();
    let text = refused(
        queue.matmul(&a, &b, &out, &MatmulOptions::default()),
        Status::BadOperand,
    );
    assert!(
        text.contains("matmul") && text.contains('3') && text.contains('4'),
        "{text}"
    );
    assert_eq!(queue.submitted(), before, "it was submitted all the same");
    Ok(())
}

pub(super) fn late_refusals(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let a = Tensor::from_slice(&queue, &[7.0f32; 6], &[2, 3])?;
    let out = Tensor::from_slice(&queue, &[9.0f32; 6], &[2, 3])?;
    let mut relu = vmlu::ops::unary::Unary {
        x: *a.desc(),
        out: *out.desc(),
        function: 3,
        ..vmlu::abi::Wire::zeroed()
    };
    relu.out.dims[1] = 4;
    relu.out.strides[0] = 4;
    let record = rejected(
        &queue,
        vmlu::ops::unary::Unary::OPCODE,
        vmlu::abi::Wire::as_bytes(&relu),
        Status::BadOperand,
    )?;
    assert_eq!(record.opcode, vmlu::ops::unary::Unary::OPCODE);
    assert_eq!(
        out.to_vec::<f32>(&queue)?,
        [9.0; 6],
        "a rejected command wrote"
    );

    // An index that only the card can see.
    let logits = Tensor::zeros(&queue, DataType::F32, &[2, 3])?;
    let labels = Tensor::from_slice(&queue, &[1i32, 3], &[2])?;
    let loss = Tensor::zeros(&queue, DataType::F32, &[2])?;
    let value = queue.cross_entropy(&logits, &labels, &loss, None)?;
    let record = super::failed(&queue, value, Status::IndexOutOfRange)?;
    assert_eq!(record.operand, 1);
    Ok(())
}

pub(super) fn types(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let values: Vec<f32> = (-50..50).map(|i| i as f32 * 0.5).collect();
    let source = Tensor::from_slice(&queue, &values, &[100])?;
    for dtype in [DataType::F16, DataType::Bf16, DataType::F64] {
        let (there, back) = (
            Tensor::zeros(&queue, dtype, &[100])?,
            Tensor::zeros(&queue, DataType::F32, &[100])?,
        );
        queue.cast(&source, &there)?;
        queue.cast(&there, &back)?;
        assert_eq!(back.to_vec::<f32>(&queue)?, values, "{dtype:?}");
    }
    let integers = Tensor::zeros(&queue, DataType::I32, &[100])?;
    queue.affine(&source, &source, 2.0, 0.0)?;
    queue.cast(&source, &integers)?;
    assert_eq!(
        integers.to_vec::<i32>(&queue)?,
        (-50..50).collect::<Vec<i32>>()
    );
    Ok(())
}

pub(super) fn quantised_products(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    // Numbers that the integers stand for exactly.
    let a: Vec<f32> = (0..6 * 32).map(|i| (i % 11) as f32 - 5.0).collect();
    let b: Vec<f32> = (0..32 * 20).map(|i| (i % 7) as f32 - 3.0).collect();
    let quantised = |data: &[f32], dims: &[u64], scale: f32| -> vmlu::Result<Tensor> {
        let numbers = Tensor::from_slice(&queue, data, dims)?;
        let integers = Tensor::empty(&queue, DataType::I8, dims)?.quantised(scale, 1);
        queue.quantize(&numbers, &integers)?;
        Ok(integers)
    };
    let (qa, qb) = (
        quantised(&a, &[6, 32], 0.5)?,
        quantised(&b, &[32, 20], 0.25)?,
    );
    let out = Tensor::empty(&queue, DataType::F32, &[6, 20])?;
    queue.matmul(&qa, &qb, &out, &MatmulOptions::default())?;
    let expected: Vec<f32> = (0..6 * 20)
        .map(|i| {
            let (row, column) = (i / 20, i % 20);
            (0..32).map(|k| a[row * 32 + k] * b[k * 20 + column]).sum()
        })
        .collect();
    assert_eq!(out.to_vec::<f32>(&queue)?, expected);
    let plain = Tensor::empty(&queue, DataType::I8, &[6, 32])?;
    let text = refused(
        queue.matmul(&plain, &qb, &out, &MatmulOptions::default()),
        Status::BadOperand,
    );
    assert!(text.contains("a is not quantised"), "{text}");
    Ok(())
}
