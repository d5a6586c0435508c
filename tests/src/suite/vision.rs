//! Operators of images as a program uses them.

use vmlu::abi::Wire;
use vmlu::operators::PoolFunction;
use vmlu::ops::pool::Pool;
use vmlu::ops::pool_backward::PoolBackward;
use vmlu::{DataType, Status, Tensor};

use super::{refused, Bench, Check};

pub(super) fn pooling_and_its_gradient(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let values: Vec<f32> = (0..16).map(|i| ((i * 7) % 16) as f32).collect();
    let x = Tensor::from_slice(&queue, &values, &[1, 1, 4, 4])?;
    let out = Tensor::zeros(&queue, DataType::F32, &[1, 1, 2, 2])?;
    let indices = Tensor::zeros(&queue, DataType::I64, &[1, 1, 2, 2])?;
    let mut pool = Pool {
        x: *x.desc(),
        out: *out.desc(),
        indices: *indices.desc(),
        taps: [2, 2, 0],
        stride: [2, 2, 0],
        dilation: [1, 1, 0],
        ..Pool::zeroed()
    };
    queue.pool(&pool)?;
    // Rows 0 7 14 5, 12 3 10 1, 8 15 6 13, 4 11 2 9.
    assert_eq!(out.to_vec::<f32>(&queue)?, [12.0, 14.0, 15.0, 13.0]);
    assert_eq!(indices.to_vec::<i64>(&queue)?, [4, 2, 9, 11]);

    let dx = Tensor::zeros(&queue, DataType::F32, &[1, 1, 4, 4])?;
    queue.pool_backward(&PoolBackward {
        dy: *out.desc(),
        indices: *indices.desc(),
        dx: *dx.desc(),
        taps: pool.taps,
        stride: pool.stride,
        dilation: pool.dilation,
        ..PoolBackward::zeroed()
    })?;
    let mut expected = [0.0; 16];
    for (i, v) in [(4, 12.0), (2, 14.0), (9, 15.0), (11, 13.0)] {
        expected[i] = v;
    }
    assert_eq!(dx.to_vec::<f32>(&queue)?, expected);

    pool.function = PoolFunction::Average.raw();
    let text = refused(queue.pool(&pool), Status::BadOperand);
    assert!(text.contains("pool: indices is given"), "{text}");
    Ok(())
}
