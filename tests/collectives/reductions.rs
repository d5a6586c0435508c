//! All-reduces by the algorithm that the table says.

use vmlu::collective::{group, Function};
use vmlu::transport::embedded::Embedded;
use vmlu::{Buffer, DataType};

use crate::values::{reference, small, values, FUNCTIONS, TYPES};
use crate::{ranks, Rank};

/// What every rank has after an all-reduce that one thread makes; what was sent out of place stays as it was.
pub fn reduced(
    ranks: &[Rank],
    (dtype, function): (DataType, Function),
    inputs: &[Vec<u8>],
    in_place: bool,
) -> Vec<Vec<u8>> {
    let length = inputs[0].len();
    let send: Vec<Buffer> = ranks
        .iter()
        .zip(inputs)
        .map(|(rank, input)| rank.buffer(input))
        .collect();
    let receive: Vec<Buffer> = if in_place {
        send.clone()
    } else {
        ranks.iter().map(|rank| rank.empty(length)).collect()
    };
    let count = (length / dtype.size()) as u64;
    group(|| {
        for (i, rank) in ranks.iter().enumerate() {
            let (send, receive) = (&send[i], &receive[i]);
            rank.comm
                .all_reduce(send, receive, count, dtype, function, &rank.queue)?;
        }
        Ok(())
    })
    .unwrap();
    let all = ranks.iter().enumerate();
    all.map(|(i, rank)| {
        if !in_place {
            assert!(rank.bytes(&send[i], length) == inputs[i], "rank {i}: sent");
        }
        rank.bytes(&receive[i], length)
    })
    .collect()
}

fn all_reduce(ranks: &[Rank], dtype: DataType, function: Function, count: usize, in_place: bool) {
    let inputs: Vec<Vec<u8>> = (0..ranks.len())
        .map(|r| values(dtype, r as u64 * 31 + count as u64, count))
        .collect();
    let wanted = reference(dtype, function, &inputs);
    let found = reduced(ranks, (dtype, function), &inputs, in_place);
    for (i, found) in found.iter().enumerate() {
        let what = format!("rank {i}: {dtype:?} {function:?} {count} in place {in_place}");
        assert!(*found == wanted, "{what}");
    }
}

#[test]
fn all_reduce_types_and_functions() {
    let card = Embedded::new(8, false).unwrap();
    let ranks = ranks(&*card, 8);
    for dtype in TYPES {
        for function in FUNCTIONS {
            all_reduce(&ranks, dtype, function, 1001, false);
            all_reduce(&ranks, dtype, function, 40_003, true);
        }
    }
}

#[test]
fn all_reduce_sizes() {
    for size in [1, 2, 3, 8] {
        let card = Embedded::new(8, false).unwrap();
        let ranks = ranks(&*card, size);
        for count in [0, 1, 7, 8192, 8193, 100_000, 1 << 20] {
            all_reduce(&ranks, DataType::F32, Function::Sum, count, count % 2 == 1);
        }
    }
}

/// Sixteen chips are two groups.
#[test]
fn all_reduce_of_sixteen() {
    let card = Embedded::new(16, false).unwrap();
    let ranks = ranks(&*card, 16);
    for count in [1, 999, 100_003, 1 << 20] {
        all_reduce(&ranks, DataType::I32, Function::Sum, count, count == 999);
        all_reduce(&ranks, DataType::U64, Function::Product, count, false);
        all_reduce(&ranks, DataType::F32, Function::Max, count, true);
        all_reduce(&ranks, DataType::I32, Function::Average, count, false);
    }
}

#[test]
fn all_reduce_halves() {
    let card = Embedded::new(8, false).unwrap();
    let ranks = ranks(&*card, 8);
    for dtype in [DataType::F16, DataType::Bf16] {
        for count in [5usize, 30_001] {
            let seeds: Vec<u32> = (0..8 * count as u64).map(|i| (i * 7 % 13) as u32).collect();
            let inputs: Vec<Vec<u8>> = (0..8)
                .map(|r| {
                    let own = &seeds[r * count..][..count];
                    own.iter()
                        .flat_map(|v| small(dtype, *v).to_le_bytes())
                        .collect()
                })
                .collect();
            let wanted: Vec<u8> = (0..count)
                .map(|i| (0..8).map(|r| seeds[r * count + i]).sum::<u32>())
                .flat_map(|sum| small(dtype, sum).to_le_bytes())
                .collect();
            for found in reduced(&ranks, (dtype, Function::Sum), &inputs, true) {
                assert!(found == wanted, "{dtype:?} {count}");
            }
        }
    }
}
