//! Products whose result stays in private memory.

use super::env::{Env, Fault};
use super::gemm::{self, Arith, Product, Side, Sink, Sums};
use super::simd;

/// Where nothing is stored: sums are taken from the private memory.
struct Nowhere;

impl<T> Sink<T> for Nowhere {
    fn store(&self, _: usize, _: usize, _: &mut [T], _: &[T], _: T) {}
}

/// Calls `row(row, columns, sums)` with each row of the product of two operands' lines, in pieces; `words` is the depth, `block` that of sums.
pub(super) fn each_row<A: Arith>(
    env: &dyn Env,
    (words, block): (usize, usize),
    a: &dyn Side<A::Word>,
    b: &dyn Side<A::Word>,
    mut row: impl FnMut(usize, std::ops::Range<usize>, &[A::Acc]),
) -> Result<(), Fault> {
    let plan = A::plan_for(simd::level());
    let product = Product::<A> {
        a,
        b,
        words,
        block,
        sink: &Nowhere,
        sums: Sums::default(),
    };
    let cut = product.cut(plan, 1);
    gemm::with_space(|space| {
        for part in 0..cut.parts() {
            let (rows, some, pitch) =
                product.part_sums(plan, &cut, None, None, part, env, space)?;
            let all = space.out.take::<A::Acc>(rows.len() * pitch);
            for (i, r) in rows.enumerate() {
                row(r, some.clone(), &all[i * pitch..][..some.len()]);
            }
        }
        Ok(())
    })
}
