//! Attention, products with packed weights, and what is looked up, as a program uses them.

use vmlu::abi::Wire;
use vmlu::operators::{Activation, Bins, GammaFunction, Int4Weights};
use vmlu::ops::attention::Attention;
use vmlu::ops::attention_backward::AttentionBackward;
use vmlu::{DataType, Queue, Status, Tensor};

use super::{refused, Bench, Check};

/// One query that looks at two keys: all of it can be said in a line.
pub(super) fn attention_and_its_gradient(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let of = |values: &[f32], dims: &[u64]| Tensor::from_slice(&queue, values, dims);
    let (q, k) = (of(&[2.0], &[1, 1, 1, 1])?, of(&[1.0, 1.5], &[1, 1, 2, 1])?);
    let v = of(&[3.0, 7.0], &[1, 1, 2, 1])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 1, 1, 1])?;
    let lse = Tensor::zeros(&queue, DataType::F32, &[1, 1, 1])?;
    let forward = Attention {
        q: *q.desc(),
        k: *k.desc(),
        v: *v.desc(),
        out: *out.desc(),
        lse: *lse.desc(),
        scale: 0.5,
        ..Attention::zeroed()
    };
    queue.attention(&forward)?;
    // Scores are 1 and 1.5.
    let second = 1.0 / (1.0 + (-0.5f32).exp());
    let near = |t: &Tensor, want: &[f32]| -> Check {
        let found = t.to_vec::<f32>(&queue)?;
        let close = found.iter().zip(want).all(|(f, w)| (f - w).abs() < 1e-5);
        assert!(close, "{found:?}, must be {want:?}");
        Ok(())
    };
    near(&out, &[3.0 + 4.0 * second])?;

    let dout = of(&[1.0], &[1, 1, 1, 1])?;
    let gradients = [&q, &k, &v].map(|t| Tensor::zeros(&queue, DataType::F32, t.dims()));
    let [dq, dk, dv] = gradients;
    let (dq, dk, dv) = (dq?, dk?, dv?);
    let descs = [*dq.desc(), *dk.desc(), *dv.desc()];
    queue.attention_backward(&AttentionBackward::of(&forward, *dout.desc(), descs))?;
    // The score of the second key moves the result by the product of both weights and the distance of the values.
    let slope = second * (1.0 - second) * 4.0;
    near(&dv, &[1.0 - second, second])?;
    near(&dk, &[-slope, slope])?;
    near(&dq, &[slope * 0.25])?;

    // Both keys on a page that is not the first, and a mask that says what the scores said.
    let pages = of(&[9.0, 9.0, 1.0, 1.0], &[2, 1, 2, 1])?;
    let values = of(&[9.0, 9.0, 3.0, 7.0], &[2, 1, 2, 1])?;
    let table = Tensor::from_slice(&queue, &[1i32], &[1, 1])?;
    let mask = of(&[0.0, 0.5], &[2])?;
    let forward = Attention {
        k: *pages.desc(),
        v: *values.desc(),
        mask: *mask.desc(),
        table: *table.desc(),
        ..forward
    };
    queue.attention(&forward)?;
    near(&out, &[3.0 + 4.0 * second])?;
    let gradients =
        [&pages, &values, &mask].map(|t| Tensor::zeros(&queue, DataType::F32, t.dims()));
    let [dk, dv, dmask] = gradients;
    let (dk, dv, dmask) = (dk?, dv?, dmask?);
    let descs = [*dq.desc(), *dk.desc(), *dv.desc()];
    queue.attention_backward(&AttentionBackward {
        dmask: *dmask.desc(),
        ..AttentionBackward::of(&forward, *dout.desc(), descs)
    })?;
    near(&dmask, &[-slope, slope])?;
    near(&dk, &[0.0, 0.0, -slope, slope])?;
    near(&dv, &[0.0, 0.0, 1.0 - second, second])?;

    let mut bad = forward;
    bad.causal = 7;
    let text = refused(queue.attention(&bad), Status::BadOperand);
    assert!(text.contains("attention: causal 7 is unknown"), "{text}");
    Ok(())
}

fn packed(queue: &Queue) -> vmlu::Result<Tensor> {
    // Rows 1 -2 3 -4 and 7 0 -8 5.
    Tensor::from_slice(queue, &[0xe1u8, 0xc3, 0x07, 0x58], &[2, 2])
}

pub(super) fn weights_of_four_bits(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let a = Tensor::from_slice(&queue, &[1.0f32, 2.0, 3.0, 4.0], &[1, 4])?;
    let scales = Tensor::from_slice(&queue, &[0.5f32, 1.0, 2.0, 4.0], &[2, 2])?;
    let bias = Tensor::from_slice(&queue, &[0.25f32, 100.0], &[2])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 2])?;
    let packed = packed(&queue)?;
    let weights = Int4Weights {
        packed: &packed,
        signed: true,
        scales: &scales,
        zeros: None,
        group: 2,
    };
    queue.matmul_int4(&a, &weights, Some(&bias), Activation::None, &out)?;
    // 0.5 · (1 - 4) + 2 · (9 - 16) + 0.25; 1 · 7 + 4 · (-24 + 20) + 100.
    assert_eq!(out.to_vec::<f32>(&queue)?, [-15.25, 91.0]);
    let wide = Int4Weights {
        packed: &a,
        ..weights
    };
    refused(
        queue.matmul_int4(&a, &wide, None, Activation::None, &out),
        Status::BadOperand,
    );
    Ok(())
}

pub(super) fn places_and_histograms(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let of = |values: &[f32]| Tensor::from_slice(&queue, values, &[values.len() as u64]);
    let zeros = |dtype, n| Tensor::zeros(&queue, dtype, &[n]);
    let (sorted, values) = (of(&[1.0, 2.0, 2.0, 5.0])?, of(&[0.0, 2.0, 6.0])?);
    let places = zeros(DataType::I64, 3)?;
    queue.search_sorted(&sorted, &values, false, &places)?;
    assert_eq!(places.to_vec::<i64>(&queue)?, [0, 1, 4]);
    queue.search_sorted(&sorted, &values, true, &places)?;
    assert_eq!(places.to_vec::<i64>(&queue)?, [0, 3, 4]);

    let counts = zeros(DataType::I64, 2)?;
    queue.histogram(&sorted, Bins::Uniform(1.0, 5.0), None, &counts)?;
    assert_eq!(counts.to_vec::<i64>(&queue)?, [3, 1]);
    queue.histogram(&sorted, Bins::Edges(&of(&[0.0, 2.0, 4.0])?), None, &counts)?;
    assert_eq!(counts.to_vec::<i64>(&queue)?, [1, 2]);
    let numbers = Tensor::from_slice(&queue, &[0i32, 2, 2, 1], &[4])?;
    let sums = zeros(DataType::F32, 3)?;
    queue.histogram(&numbers, Bins::Count, Some(&sorted), &sums)?;
    assert_eq!(sums.to_vec::<f32>(&queue)?, [1.0, 5.0, 4.0]);
    let text = refused(
        queue.histogram(&sorted, Bins::Count, None, &counts),
        Status::BadOperand,
    );
    assert!(
        text.contains("x.dtype is F32, which count does not take"),
        "{text}"
    );

    // ψ₁(1) = π² / 6, and the lower function of parameter 1 is 1 - e⁻ˣ.
    let one = of(&[1.0])?;
    let out = zeros(DataType::F32, 1)?;
    queue.gamma(GammaFunction::Polygamma, 1, &one, None, &out)?;
    let third = std::f32::consts::PI.powi(2) / 6.0;
    assert!((out.to_vec::<f32>(&queue)?[0] - third).abs() < 1e-6);
    queue.gamma(GammaFunction::Lower, 0, &one, Some(&one), &out)?;
    assert!((out.to_vec::<f32>(&queue)?[0] - (1.0 - (-1.0f32).exp())).abs() < 1e-6);
    Ok(())
}
