use vmlu_abi::tensor::DataType::{F32, I32};
use vmlu_abi::Wire;
use vmlu_ops::tensor::contiguous;

use crate::kernels::testing::Arena;

#[test]
fn matmul_small() {
    let mut m = Arena::new(1 << 20);
    let a = m.put(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = m.put(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bias = m.put(&[100.0f32, -1000.0]);
    let c = m.reserve(16);
    let d = vmlu_ops::matmul::Matmul {
        a: contiguous(F32, a, &[2, 3]),
        b: contiguous(F32, b, &[3, 2]),
        out: contiguous(F32, c, &[2, 2]),
        bias: contiguous(F32, bias, &[2]),
        alpha: 2.0,
        activation: 1,
        ..Wire::zeroed()
    };
    println!("{:?}", m.run(&d).unwrap());
    assert_eq!(m.get::<f32>(c, 4), [144.0, 0.0, 198.0, 0.0]);
}

#[test]
fn cross_entropy_small() {
    let mut m = Arena::new(1 << 20);
    let x = m.put(&[1.0f32, 2.0, 3.0, 0.0, 0.0, 0.0]);
    let l = m.put(&[2i32, 1]);
    let (loss, p, g) = (m.reserve(8), m.reserve(24), m.reserve(24));
    let d = vmlu_ops::cross_entropy::CrossEntropy {
        logits: contiguous(F32, x, &[2, 3]),
        labels: contiguous(I32, l, &[2]),
        loss: contiguous(F32, loss, &[2]),
        probabilities: contiguous(F32, p, &[2, 3]),
        ..Wire::zeroed()
    };
    m.run(&d).unwrap();
    let got = m.get::<f32>(loss, 2);
    assert!(
        (got[0] - 0.407_605_95).abs() < 1e-6 && (got[1] - 1.098_612_3).abs() < 1e-6,
        "{got:?}"
    );
    for (source, kind) in [(x, 0), (p, 1)] {
        let d = vmlu_ops::cross_entropy_backward::CrossEntropyBackward {
            source: contiguous(F32, source, &[2, 3]),
            labels: contiguous(I32, l, &[2]),
            gradient: contiguous(F32, g, &[2, 3]),
            scale: 0.5,
            source_kind: kind,
            ..Wire::zeroed()
        };
        m.run(&d).unwrap();
        let got = m.get::<f32>(g, 6);
        let want = [
            0.045_015_2,
            0.122_364_2,
            -0.167_379_5,
            0.166_666_7,
            -0.333_333_3,
            0.166_666_7,
        ];
        assert!(
            got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6),
            "{got:?}"
        );
    }
}

#[test]
fn reduce_and_argmax_small() {
    let mut m = Arena::new(1 << 20);
    let x = m.put(&[1.0f32, 5.0, 3.0, 4.0, 2.0, 6.0]);
    let out = m.reserve(64);
    let mut d = vmlu_ops::reduce::Reduce {
        x: contiguous(F32, x, &[2, 3]),
        out: contiguous(F32, out, &[3]),
        axes: 1,
        ..Wire::zeroed()
    };
    m.run(&d).unwrap();
    assert_eq!(m.get::<f32>(out, 3), [5.0, 7.0, 9.0]);
    d.axes = 2;
    d.out = contiguous(F32, out, &[2, 1]);
    m.run(&d).unwrap();
    assert_eq!(m.get::<f32>(out, 2), [9.0, 12.0]);
    let d = vmlu_ops::arg_reduce::ArgReduce {
        x: contiguous(F32, x, &[2, 3]),
        out: contiguous(I32, out, &[2]),
        axis: 1,
        ..Wire::zeroed()
    };
    m.run(&d).unwrap();
    assert_eq!(m.get::<i32>(out, 2), [1, 2]);
}
