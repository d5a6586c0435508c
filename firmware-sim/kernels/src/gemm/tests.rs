//! What a host with fewer instructions computes, this host can show as well.

use std::marker::PhantomData;
use std::sync::Mutex;

use vmlu_abi::tensor::DataType;
use vmlu_ops::rule::Site;
use vmlu_ops::tensor::{contiguous, Role, Tensor};

use super::*;
use crate::env::Access;
use crate::testing::Arena;
use crate::view::View;

/// Keeps the sums.
struct Keep<T>(Mutex<Vec<T>>, usize);

impl<T: Copy + Send> Sink<T> for Keep<T> {
    fn store(&self, row: usize, column: usize, sums: &mut [T], _: &[T], _: T) {
        self.0.lock().unwrap()[row * self.1 + column..][..sums.len()].copy_from_slice(sums);
    }
}

const M: usize = 29;
const N: usize = 41;
const K: usize = 2101;

/// Multiplies two arrays with depth along rows of `a` and `across` (or along) rows of `b`.
fn product<A: Arith, F: Feed<Word = A::Word>>(
    level: Level,
    dtype: DataType,
    values: &[F::Element],
    block: usize,
    across: bool,
) -> Vec<A::Acc> {
    let mut arena = Arena::new(1 << 21);
    let (pa, pb) = (
        arena.put(&values[..M * K]),
        arena.put(&values[7..7 + N * K]),
    );
    let open = |address, elements: usize| {
        let desc = contiguous(dtype, address, &[elements as u64]);
        let tensor = Tensor::check(Site::new("test", 0, "x"), &desc, Role::Input).unwrap();
        View::open(&arena, 0, &tensor, Access::Read).unwrap()
    };
    let (va, vb) = (open(pa, M * K), open(pb, N * K));
    let side = |view, lines: usize, (line, depth): (usize, usize)| Strided::<F> {
        view,
        offset: 0,
        line: line as isize,
        depth: depth as isize,
        lines,
        length: K,
        feed: PhantomData,
    };
    let (a, b) = (
        side(&va, M, (K, 1)),
        side(&vb, N, if across { (1, N) } else { (K, 1) }),
    );
    let keep = Keep(Mutex::new(vec![A::Acc::default(); M * N]), N);
    Product::<A> {
        a: &a,
        b: &b,
        words: F::words(K),
        block,
        sink: &keep,
        sums: Sums::default(),
    }
    .run_for(level, &arena)
    .unwrap();
    keep.0.into_inner().unwrap()
}

fn levels() -> Vec<Level> {
    let all = [Level::Plain, Level::V3, Level::V4];
    let best = all.iter().position(|l| *l == simd::level()).unwrap();
    all[..=best].to_vec()
}

fn noise(count: usize) -> impl Iterator<Item = u32> {
    (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761).rotate_left(9))
}

#[test]
fn all_instruction_sets_give_the_same_bits_of_f32_and_f64() {
    let values: Vec<f32> = noise(N * K + 7)
        .map(|n| (n >> 8) as f32 / (1 << 22) as f32 - 2.0)
        .collect();
    let wide: Vec<f64> = values.iter().map(|v| f64::from(*v) / 3.0).collect();
    for across in [false, true] {
        let run = |level| product::<F32, Single>(level, DataType::F32, &values, BLOCK, across);
        let plain: Vec<u32> = run(Level::Plain).iter().map(|v| v.to_bits()).collect();
        let run_wide = |level| product::<F64, Double>(level, DataType::F64, &wide, BLOCK, across);
        let plain_wide: Vec<u64> = run_wide(Level::Plain).iter().map(|v| v.to_bits()).collect();
        for level in levels() {
            assert!(run(level)
                .iter()
                .map(|v| v.to_bits())
                .eq(plain.iter().copied()));
            assert!(run_wide(level)
                .iter()
                .map(|v| v.to_bits())
                .eq(plain_wide.iter().copied()));
        }
    }
}

#[test]
fn all_instruction_sets_give_the_same_sums_of_i16() {
    let values: Vec<u16> = noise(N * K + 7).map(|n| n as u16).collect();
    let run = |level| product::<I16, Pairs>(level, DataType::I16, &values, 512, true);
    for level in levels() {
        assert!(run(level) == run(Level::Plain), "{level:?}");
    }
}

/// The processor's bf16 instruction gives what widening gives, also where denormal numbers occur in operands, products or sums.
#[test]
fn bf16_instructions_give_the_bits_of_exact_arithmetic() {
    if !simd::has_bf16() {
        return;
    }
    for (least, span) in [(110, 30), (64, 10), (50, 16), (0, 3), (0, 255)] {
        let values: Vec<u16> = noise(N * K + 7)
            .map(|n| {
                let exponent = (least + (n >> 16) % span) as u16;
                (n & 0x807f) as u16 | exponent << 7
            })
            .collect();
        for across in [false, true] {
            let best = product::<Bf16, Pairs>(Level::V4, DataType::Bf16, &values, 512, across);
            for level in levels() {
                let wide = product::<F32, Brain>(level, DataType::Bf16, &values, 1024, across);
                for (i, (b, w)) in best.iter().zip(&wide).enumerate() {
                    assert!(
                        b.to_bits() == w.to_bits() || (b.is_nan() && w.is_nan()),
                        "exponents from {least}: {i}: {b:e}, {w:e}"
                    );
                }
            }
        }
    }
}
