//! Every algorithm of an all-reduce, for every function and type, on topologies of every shape.

use vmlu::collective::{Algorithm, Function, Shape};
use vmlu::transport::embedded::Embedded;
use vmlu::DataType;

use crate::reductions::reduced;
use crate::values::{reference, values, FUNCTIONS, TYPES};
use crate::{ranks, Rank};

/// Boards in a ring, whose two chips are joined.
const RING: &str = r#"
version = 1
link = [
    { a = "0.0:0", b = "0.1:0" }, { a = "1.0:0", b = "1.1:0" }, { a = "2.0:0", b = "2.1:0" },
    { a = "0.1:1", b = "1.0:1" }, { a = "1.1:1", b = "2.0:1" }, { a = "2.1:1", b = "0.0:1" },
]
"#;
/// A chip that is joined with each other one.
const STAR: &str = r#"
version = 1
link = [
    { a = "0.0:0", b = "0.1:0" }, { a = "0.0:1", b = "1.0:0" }, { a = "0.0:2", b = "1.1:0" },
    { a = "0.0:3", b = "2.0:0" },
]
"#;
/// Boards with nothing but PCIe between them.
const BOARDS: &str = "version = 1\ngroup = 1\n";
const GROUPS: &str = "version = 1\n";

const CASES: [(&str, u32, u32, Shape); 7] = [
    (GROUPS, 2, 2, Shape::Mesh),
    (GROUPS, 8, 7, Shape::Mesh),
    (GROUPS, 16, 16, Shape::Groups),
    (GROUPS, 10, 9, Shape::Sparse),
    (BOARDS, 6, 6, Shape::Groups),
    (RING, 6, 6, Shape::Sparse),
    (STAR, 6, 5, Shape::Sparse),
];

/// Whether the order of a reduction changes its bits.
fn depends_on_order(dtype: DataType, function: Function) -> bool {
    matches!(dtype, DataType::F32 | DataType::F64)
        && !matches!(function, Function::Max | Function::Min)
}

/// Whether values are the same but for what rounding in another order does: 16 values of one size.
fn is_near(dtype: DataType, found: &[u8], wanted: &[u8]) -> bool {
    let near = |a: f64, b: f64, bits: i32| (a - b).abs() <= b.abs() * 32.0 * 2f64.powi(-bits);
    let mut all = found
        .chunks(dtype.size())
        .zip(wanted.chunks(dtype.size()))
        .map(|(found, wanted)| match (found, wanted) {
            ([a, b, c, d], [e, f, g, h]) => near(
                f32::from_le_bytes([*a, *b, *c, *d]).into(),
                f32::from_le_bytes([*e, *f, *g, *h]).into(),
                24,
            ),
            _ => near(
                f64::from_le_bytes(found.try_into().unwrap()),
                f64::from_le_bytes(wanted.try_into().unwrap()),
                53,
            ),
        });
    found.len() == wanted.len() && all.all(|one| one)
}

fn check(ranks: &[Rank], dtype: DataType, function: Function, count: usize, in_place: bool) {
    let inputs: Vec<Vec<u8>> = (0..ranks.len())
        .map(|rank| values(dtype, rank as u64 * 31 + count as u64, count))
        .collect();
    let found = reduced(ranks, (dtype, function), &inputs, in_place);
    let what = || format!("{dtype:?} {function:?} of {count}, in place {in_place}");
    for (rank, other) in found.iter().enumerate() {
        assert!(*other == found[0], "{}: rank {rank} has other bits", what());
    }
    let wanted = reference(dtype, function, &inputs);
    if depends_on_order(dtype, function) {
        assert!(is_near(dtype, &found[0], &wanted), "{}", what());
        // The same calls give the same bits, also out of place.
        let again = reduced(ranks, (dtype, function), &inputs, !in_place);
        assert!(again == found, "{}: other bits", what());
    } else {
        assert!(found[0] == wanted, "{}", what());
    }
}

#[test]
fn every_algorithm_reduces_everything() {
    for (topology, chips, size, shape) in CASES {
        let card = Embedded::linked(chips, false, topology).unwrap();
        let ranks = ranks(&*card, size);
        assert_eq!(ranks[0].comm.shape(), shape, "{topology}");
        for algorithm in Algorithm::ALL {
            eprintln!("{algorithm}, {size} of {chips} chips: {topology}");
            ranks[0].comm.set_algorithm(Some(algorithm));
            for function in FUNCTIONS {
                for dtype in TYPES {
                    check(&ranks, dtype, function, 1003, dtype.size() == 4);
                }
                check(&ranks, DataType::I32, function, 1, false);
                check(&ranks, DataType::F64, function, 40_007, true);
            }
        }
    }
}

/// Sums and largest values of half precision are exact for small integers, whatever the order.
#[test]
fn every_algorithm_reduces_halves() {
    for (topology, chips, size, _) in CASES {
        let card = Embedded::linked(chips, false, topology).unwrap();
        let ranks = ranks(&*card, size);
        for algorithm in Algorithm::ALL {
            ranks[0].comm.set_algorithm(Some(algorithm));
            for dtype in [DataType::F16, DataType::Bf16] {
                for function in [Function::Sum, Function::Max, Function::Min] {
                    check(&ranks, dtype, function, 5001, function == Function::Sum);
                }
            }
        }
    }
}

/// Sums of groups are added.
#[test]
fn the_order_of_a_hierarchy() {
    let card = Embedded::new(16, false).unwrap();
    let ranks = ranks(&*card, 16);
    ranks[0].comm.set_algorithm(Some(Algorithm::Hierarchical));
    let of = (DataType::F32, Function::Sum);
    let inputs: Vec<Vec<u8>> = (0..16).map(|r| values(of.0, r, 300_001)).collect();
    let halves: Vec<Vec<u8>> = inputs
        .chunks(8)
        .map(|half| reference(of.0, of.1, half))
        .collect();
    let wanted = reference(of.0, of.1, &halves);
    let found = reduced(&ranks, of, &inputs, true);
    assert!(found.iter().all(|found| *found == wanted));
}
