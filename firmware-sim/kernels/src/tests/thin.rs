//! Products of few rows take another way through memory than large ones; their bits are the same.

use vmlu_abi::tensor::DataType::{self, Bf16, F16, F32, I32, I8, U8};
use vmlu_abi::Wire;
use vmlu_ops::matmul::Matmul;
use vmlu_ops::tensor::{contiguous, transposed};

use crate::testing::Arena;

/// More rows than any thin product has.
const MANY: u64 = 40;

/// Bytes of a product of the first `rows` rows.
fn product(
    arena: &Arena,
    [a, b, out]: [u64; 3],
    (from, other, to): (DataType, DataType, DataType),
    [rows, n, k]: [u64; 3],
    along: bool,
) -> Vec<u8> {
    let right = match along {
        true => transposed(contiguous(other, b, &[n, k]), 0, 1),
        false => contiguous(other, b, &[k, n]),
    };
    let desc = Matmul {
        a: contiguous(from, a, &[rows, k]),
        b: right,
        out: contiguous(to, out, &[rows, n]),
        alpha: 1.0,
        ..Wire::zeroed()
    };
    arena.run(&desc).unwrap();
    arena.get(out, (rows * n) as usize * to.size())
}

#[test]
fn few_rows_have_the_bits_of_many() {
    let mut arena = Arena::new(16 << 20);
    let [a, b, out] = std::array::from_fn(|_| arena.reserve(5 << 20));
    for (from, other, to) in [
        (F32, F32, F32),
        (F16, F16, F32),
        (F16, F16, F16),
        (Bf16, Bf16, F32),
        (U8, I8, I32),
        (I8, I8, I32),
        (I8, U8, I32),
        (U8, U8, I32),
    ] {
        // Finite numbers of both signs and many magnitudes; denormal ones too.
        let word = |i: u32| {
            let noise = (i ^ 0x55).wrapping_mul(2_654_435_761).rotate_left(11);
            match from {
                F32 => noise & 0xbfff_ffff,
                F16 => noise & 0xbbff_bbff,
                Bf16 => noise & 0xbfff_bfff,
                _ => noise,
            }
        };
        let words: Vec<u32> = (0..1 << 20).map(word).collect();
        arena.set(a, &words[..1 << 18]);
        arena.set(b, &words[9..]);
        for [n, k] in [[64, 512], [16, 1030], [203, 1537], [700, 64], [130, 129]] {
            for along in [false, true] {
                let run =
                    |rows| product(&arena, [a, b, out], (from, other, to), [rows, n, k], along);
                let many = run(MANY);
                for rows in [1, 2, 3, 5, 8, 9, 16] {
                    let some = run(rows);
                    assert!(
                        some == many[..some.len()],
                        "{from:?}·{other:?} → {to:?}, {rows} rows, {n} columns, depth {k}, along {along}"
                    );
                }
            }
        }
    }
}
