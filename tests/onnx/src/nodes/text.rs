//! How often runs of numbers, which stand for words, occur in a row.

use vmlu::operators::{BinaryFunction as B, PutFunction, ReduceFunction};
use vmlu::{DataType, Tensor};

use super::{one, Found, Node};
use crate::card::Card;
use crate::{unsupported, wrong, Result};

pub(super) fn run(node: &Node<'_>) -> Found {
    match &node.proto.op_type[..] {
        "TfIdfVectorizer" => one(frequencies(node)?),
        _ => Ok(None),
    }
}

/// Counts of each run of a pool, weighed or not, in the column that the run names.
fn frequencies(node: &Node<'_>) -> Result<Tensor> {
    let (card, x) = (node.card, node.input(0)?);
    let list = |name: &str| node.ints(name).unwrap_or_default();
    let (pool, starts, columns) = (
        list("pool_int64s"),
        list("ngram_counts"),
        list("ngram_indexes"),
    );
    if pool.is_empty() {
        return unsupported("strings");
    }
    let (least, most) = (
        node.int("min_gram_length", 1),
        node.int("max_gram_length", 1),
    );
    let furthest = node.int("max_skip_count", 0) + 1;
    let length = x.dims().last().copied().unwrap_or(1);
    let rows = card.cast(
        &card.reshape(x, &[x.elements() / length, length])?,
        DataType::I64,
    )?;
    let width = columns.iter().max().map_or(0, |c| *c as u64 + 1);
    let counts = card.full(DataType::I64, &[rows.dims()[0], width], 0.0)?;
    let mut number = 0;
    for (i, start) in starts.iter().enumerate() {
        let size = i + 1;
        let end = starts.get(size).map_or(pool.len(), |e| *e as usize);
        let Some(runs) = pool.get(*start as usize..end) else {
            return wrong(format!("ngram_counts {starts:?} of {} numbers", pool.len()));
        };
        let many = runs.len() / size;
        let Some(own) = columns.get(number..number + many) else {
            return wrong("ngram_indexes are less than the pool has");
        };
        number += many;
        if many == 0 || !(least..=most).contains(&(size as i64)) {
            continue;
        }
        let runs = card.reshape(
            &card.integers(&runs[..many * size])?,
            &[many as u64, size as u64],
        )?;
        let own = card.reshape(&card.integers(own)?, &[1, many as u64])?;
        // A single number has no distance.
        let distances = if size == 1 { 1 } else { furthest };
        for distance in 1..=distances as u64 {
            let Some(found) = occurrences(card, &rows, &runs, distance)? else {
                break;
            };
            card.put(PutFunction::Add, &counts, &found, &[(1, &own)], &[(0, 0)])?;
        }
    }
    let mut out = card.cast(&counts, DataType::F32)?;
    let mode = node.text("mode", "TF");
    if mode == "IDF" {
        let there = card.binary(B::Greater, &counts, &card.scalar(DataType::I64, 0.0)?)?;
        out = card.cast(&there, DataType::F32)?;
    }
    let weights = node.attribute("weights").map(|a| a.floats.clone());
    if let Some(weights) = weights.filter(|w| !w.is_empty() && mode != "TF") {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let weights = card.tensor_of(DataType::F32, &[weights.len() as u64], &bytes)?;
        out = card.binary(B::Mul, &out, &weights)?;
    }
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(width);
    card.reshape(&out, &dims)
}

/// How often each of `runs` occurs in each row with its numbers `distance` apart; `None` if rows are too short.
fn occurrences(
    card: &Card<'_>,
    rows: &Tensor,
    runs: &Tensor,
    distance: u64,
) -> Result<Option<Tensor>> {
    let size = runs.dims()[1];
    let reach = (size - 1) * distance;
    let Some(places) = rows.dims()[1].checked_sub(reach).filter(|p| *p > 0) else {
        return Ok(None);
    };
    let mut all: Option<Tensor> = None;
    for i in 0..size {
        // [rows, runs, places]
        let here = card.unsqueeze(&rows.narrow(1, i * distance, places)?, 1);
        let same = card.binary(B::Equal, &here, &runs.narrow(1, i, 1)?)?;
        all = Some(match all {
            Some(all) => card.binary(B::LogicalAnd, &all, &same)?,
            None => same,
        });
    }
    let all = all.map(|all| card.reduce(ReduceFunction::CountNonzero, &all, &[2], false));
    all.transpose()
}
