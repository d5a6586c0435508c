//! Which algorithm all-reduces go by, measured: what `runtime/src/collective/algorithm.txt` says.
//!
//! For each shape of a topology, number of ranks and size every algorithm is run. Device time decides, which is the model's and the same on every
//! host: it knows what links and PCIe carry. Of algorithms that are near the best by it, as all are for small messages, the one is taken that takes
//! the host least time.

use std::fmt::Write;
use std::time::Instant;

use vmlu::collective::{Algorithm, Shape};
use vmlu::transport::embedded::Embedded;
use vmlu::{Error, Result, Status};

use super::Ranks;
use crate::row::median;

/// Boards in a ring, whose two chips are joined, as a topology file.
fn ring(boards: u32) -> String {
    let links = (0..boards).map(|board| {
        let next = (board + 1) % boards;
        format!(
            "{{ a = \"{board}.0:0\", b = \"{board}.1:0\" }}, {{ a = \"{board}.1:1\", b = \"{next}.0:1\" }}"
        )
    });
    let links: Vec<String> = links.collect();
    format!("version = 1\nlink = [{}]\n", links.join(", "))
}

/// What is measured: a shape, so many ranks, and how they are linked.
fn cases() -> Vec<(Shape, u32, String)> {
    let groups = |boards: u32| format!("version = 1\ngroup = {boards}\n");
    vec![
        (Shape::Mesh, 2, groups(4)),
        (Shape::Mesh, 4, groups(4)),
        (Shape::Mesh, 8, groups(4)),
        (Shape::Groups, 4, groups(1)),
        (Shape::Groups, 16, groups(4)),
        (Shape::Sparse, 6, ring(3)),
        (Shape::Sparse, 16, ring(8)),
    ]
}

/// Sizes from which on rows of the table hold; they are measured at twice as many bytes.
const SIZES: [u64; 8] = [
    0,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    8 << 20,
];
/// Bytes that are measured for the first of them.
const SMALL: u64 = 1 << 10;
/// By so much device times may differ and are near each other: a tenth, and what a launch takes, ns.
const NEAR: f64 = 1.10;
const LAUNCH: f64 = 2000.0;
const ROUNDS: u32 = 9;
const SMALL_ROUNDS: u32 = 200;

/// What an algorithm takes: device time, and the least of the host, ns.
type Took = (Algorithm, f64, f64);

fn measure(ranks: &Ranks, shape: Shape, bytes: u64) -> Result<Vec<Took>> {
    let mut took = Vec::new();
    for algorithm in Algorithm::ALL {
        // In a mesh the bits are those that ranks on several hosts get, which reduce in the order of ranks.
        let fits = match shape {
            Shape::Mesh => algorithm.keeps_order(),
            Shape::Groups => true,
            Shape::Sparse => algorithm != Algorithm::Hierarchical,
        };
        if !fits {
            continue;
        }
        ranks.use_algorithm(Some(algorithm));
        ranks.all_reduce(bytes)?;
        let mut device = Vec::new();
        for _ in 0..ROUNDS {
            device.push(ranks.device_time(bytes)?);
        }
        let mut host = f64::MAX;
        for _ in 0..if bytes > 1 << 20 {
            ROUNDS
        } else {
            SMALL_ROUNDS
        } {
            let start = Instant::now();
            ranks.all_reduce(bytes)?;
            // Not the median: others may use the processors.
            host = host.min(start.elapsed().as_nanos() as f64);
        }
        took.push((algorithm, median(&mut device), host));
    }
    Ok(took)
}

fn best(took: &[Took]) -> Option<Algorithm> {
    let least = took
        .iter()
        .map(|(_, device, _)| *device)
        .fold(f64::MAX, f64::min);
    let near = took
        .iter()
        .filter(|(_, device, _)| *device <= least * NEAR + LAUNCH);
    let best = near.min_by(|a, b| a.2.total_cmp(&b.2));
    best.map(|(algorithm, ..)| *algorithm)
}

/// Measures, and gives the table with what was measured beside its rows.
///
/// # Errors
///
/// What the runtime reports.
pub fn run() -> Result<String> {
    let mut table = "# How an all-reduce is done: shape of the topology, from so many ranks on, from so many bytes on. Written by\n\
        # `cargo xtask bench link --table`, which measures; beside a row each algorithm's device time and least host time, us, at twice the bytes.\n"
        .to_owned();
    for (shape, size, topology) in cases() {
        let card = Embedded::linked(size, false, &topology)?;
        let most = 2 * SIZES[SIZES.len() - 1];
        let ranks = Ranks::new(&*card, size, most)?;
        if ranks.shape() != Some(shape) {
            let text = format!("{size} chips are no {}: {topology}", shape.name());
            return Err(Error::new("measure algorithms", Status::Internal, text));
        }
        let mut rows: Vec<(u64, Algorithm, String)> = Vec::new();
        for bytes in SIZES {
            let took = measure(&ranks, shape, (2 * bytes).max(SMALL))?;
            let Some(algorithm) = best(&took) else {
                continue;
            };
            let mut figures = String::new();
            for (algorithm, device, host) in &took {
                let _ = write!(
                    figures,
                    " {algorithm} {:.1} {:.1},",
                    device / 1e3,
                    host / 1e3
                );
            }
            // A row holds until the next: one that says the same is not needed.
            if rows.last().is_none_or(|row| row.1 != algorithm) {
                let figures = figures.trim_end_matches(',').to_owned();
                rows.push((bytes, algorithm, figures));
            }
        }
        let shape = shape.name();
        // The smallest of a shape stands for what is smaller still.
        let known = table.contains(&format!("\n{shape} "));
        let size = if known { size } else { 2 };
        for (bytes, algorithm, figures) in rows {
            let _ = writeln!(table, "{shape} {size} {bytes} {algorithm} #{figures}");
        }
    }
    Ok(table)
}
