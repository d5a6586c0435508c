//! Operands that do not fit the caches go other ways than small ones: the same bits, row by row.

use vmlu_abi::tensor::DataType::{Bf16, F32};
use vmlu_abi::tensor::TensorDesc;
use vmlu_abi::Wire;
use vmlu_ops::tensor::{contiguous, transposed};
use vmlu_ops::{binary, cast, norm, reduce, softmax, unary, Descriptor};

use super::tensors::Rng;
use crate::testing::Arena;

/// Rows, so many that outputs go past the caches.
const ROWS: u64 = 4200;
/// Elements of a row: not a multiple of a line's.
const COLUMNS: u64 = 1027;
/// Rows of a small operand.
const FEW: u64 = 60;

struct Rows {
    arena: Arena,
    x: u64,
    y: u64,
    out: u64,
    small: u64,
}

impl Rows {
    fn new() -> Self {
        let mut arena = Arena::new(80 << 20);
        let mut rng = Rng::new(3);
        let noise: Vec<f32> = (0..ROWS * COLUMNS)
            .map(|_| 6.0 * rng.value() as f32)
            .collect();
        let (x, y) = (arena.put(&noise), arena.put(&noise));
        arena.set(y, &noise[7..]);
        let out = arena.reserve(4 * (ROWS * COLUMNS) as usize);
        let small = arena.reserve(4 * (FEW * COLUMNS) as usize);
        Self {
            arena,
            x,
            y,
            out,
            small,
        }
    }

    /// Compares all rows at once with some at a time: `make(first row, rows, out)`.
    fn compare<D: Descriptor>(&mut self, row_bytes: u64, make: impl Fn(u64, u64, u64) -> D) {
        for threads in [1, 2] {
            self.arena.threads = threads;
            let all = make(0, ROWS, self.out);
            self.arena.run(&all).unwrap();
            for row in [0, 1000, 2049, ROWS - FEW] {
                self.arena.run(&make(row, FEW, self.small)).unwrap();
                let bytes = (FEW * row_bytes) as usize;
                let large: Vec<u8> = self.arena.get(self.out + row * row_bytes, bytes);
                assert!(
                    large == self.arena.get::<u8>(self.small, bytes),
                    "{} of {threads} threads, from row {row}",
                    D::INFO.name
                );
            }
        }
    }
}

/// Some rows of a tensor.
fn rows(address: u64, row: u64, count: u64) -> TensorDesc {
    contiguous(F32, address + 4 * row * COLUMNS, &[count, COLUMNS])
}

#[test]
fn large_operands_give_the_bits_of_small_ones() {
    let mut all = Rows::new();
    let (x, y) = (all.x, all.y);
    let out = |at, count| contiguous(F32, at, &[count, COLUMNS]);
    for function in softmax::Function::ALL {
        all.compare(4 * COLUMNS, |row, count, to| softmax::Softmax {
            x: rows(x, row, count),
            out: out(to, count),
            function: function.raw(),
            axis: 1,
        });
    }
    for function in [norm::Function::Standard, norm::Function::Rms] {
        all.compare(4 * COLUMNS, |row, count, to| norm::Norm {
            x: rows(x, row, count),
            weight: contiguous(F32, y, &[COLUMNS]),
            bias: contiguous(F32, y + 4096, &[COLUMNS]),
            out: out(to, count),
            function: function.raw(),
            axes: 2,
            eps: 1e-5,
            ..Wire::zeroed()
        });
        // Factors of each row.
        all.compare(4 * COLUMNS, |row, count, to| norm::Norm {
            x: rows(x, row, count),
            weight: rows(y, row, count),
            out: out(to, count),
            function: function.raw(),
            axes: 2,
            eps: 1e-5,
            ..Wire::zeroed()
        });
    }
    all.compare(4 * COLUMNS, |row, count, to| unary::Unary {
        x: rows(x, row, count),
        out: out(to, count),
        function: unary::Function::Gelu.raw(),
        ..Wire::zeroed()
    });
    all.compare(4 * COLUMNS, |row, count, to| binary::Binary {
        a: rows(x, row, count),
        b: rows(y, row, count),
        out: out(to, count),
        function: binary::Function::Add.raw(),
        ..Wire::zeroed()
    });
    all.compare(2 * COLUMNS, |row, count, to| cast::Cast {
        x: rows(x, row, count),
        out: contiguous(Bf16, to, &[count, COLUMNS]),
        ..Wire::zeroed()
    });
    all.compare(4, |row, count, to| reduce::Reduce {
        x: rows(x, row, count),
        out: contiguous(F32, to, &[count]),
        axes: 2,
        ..Wire::zeroed()
    });
}

/// Blocks whose lines are aligned to those of the caches, and blocks whose lines are not.
#[test]
fn large_transposes_move_every_element() {
    let mut all = Rows::new();
    for (lines, columns) in [(ROWS, COLUMNS), (4096, 1040)] {
        all.arena.threads = 2;
        all.arena
            .run(&unary::Unary {
                x: transposed(contiguous(F32, all.x, &[lines, columns]), 0, 1),
                out: contiguous(F32, all.out, &[columns, lines]),
                function: unary::Function::Copy.raw(),
                ..Wire::zeroed()
            })
            .unwrap();
        let (lines, columns) = (lines as usize, columns as usize);
        let x: Vec<u32> = all.arena.get(all.x, lines * columns);
        let out: Vec<u32> = all.arena.get(all.out, lines * columns);
        for i in 0..lines {
            for j in 0..columns {
                assert_eq!(out[j * lines + i], x[i * columns + j], "{i}, {j}");
            }
        }
    }
}
