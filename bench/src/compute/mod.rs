//! `compute`: operators beside what the processor can do at best, commands queued ahead.

mod figures;
pub mod peaks;

use std::time::Instant;

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use self::figures::{Figure, Floor};
use crate::row::{median, Better, Row};

/// Runs of each figure, interleaved with the others.
const RUNS: usize = 9;
/// Seconds that the commands of a run take, about.
const RUN_SECONDS: f64 = 0.012;

/// Measures with some cores, to which the process is bound already. `only` leaves out figures whose names do not contain it.
pub fn run(transport: &dyn Transport, device: u32, cores: usize, only: &str) -> Result<Vec<Row>> {
    let context = Context::open_on(transport, device)?;
    let queue = context.queue_with(4096, 3, 1)?;
    let memory = figures::Memory::new(&context, &queue)?;
    let mut figures = figures::all(&memory);
    figures.retain(|f| f.name.contains(only));
    let counts = figures
        .iter()
        .map(|f| calibrate(&queue, f))
        .collect::<Result<Vec<_>>>()?;
    let mut floors = vec![Vec::new(); Floor::ALL.len()];
    let mut values = vec![Vec::new(); figures.len()];
    for _ in 0..RUNS {
        for (floor, to) in Floor::ALL.iter().zip(&mut floors) {
            to.push(floor.measure(cores));
        }
        for ((figure, count), to) in figures.iter().zip(&counts).zip(&mut values) {
            to.push(figure.work / seconds(&queue, figure, *count)? / 1e9);
        }
    }
    let floors: Vec<f64> = floors.iter_mut().map(|v| median(v)).collect();
    let values: Vec<f64> = values.iter_mut().map(|v| median(v)).collect();
    let named = |name: &str| {
        let at = figures.iter().position(|f| f.name == name);
        at.map(|at| values[at])
    };
    let prefix = |name: &str| format!("{cores} core{}: {name}", if cores == 1 { "" } else { "s" });
    let mut rows: Vec<Row> = Floor::ALL
        .iter()
        .zip(&floors)
        .filter(|(_, v)| v.is_finite())
        .map(|(f, v)| Row::new("compute", transport.name(), &prefix(f.name()), *v, f.unit()))
        .collect();
    for (figure, value) in figures.iter().zip(&values) {
        let at = |floor: Floor| floors[floor as usize];
        let floor = match (&figure.like, figure.bandwidth) {
            (Some(like), _) => named(like).unwrap_or(f64::NAN),
            // The larger of two times is the smaller of two rates.
            (None, Some((floor, bytes))) => at(figure.floor).min(figure.work / (bytes / at(floor))),
            (None, None) => at(figure.floor),
        };
        let row = Row::new(
            "compute",
            transport.name(),
            &prefix(&figure.name),
            *value,
            figure.floor.unit(),
        );
        let goal = figure.share.filter(|_| floor.is_finite());
        rows.push(
            row.floor(floor)
                .goal_if(Better::Higher, goal.map(|share| share * floor)),
        );
    }
    Ok(rows)
}

/// Commands of a run.
fn calibrate(queue: &Queue, figure: &Figure) -> Result<u32> {
    seconds(queue, figure, 1)?;
    let one = seconds(queue, figure, 1)?;
    Ok((RUN_SECONDS / one).clamp(1.0, 1000.0) as u32)
}

/// Seconds of a command, of `count` that are queued ahead.
fn seconds(queue: &Queue, figure: &Figure, count: u32) -> Result<f64> {
    queue.sync()?;
    let start = Instant::now();
    for _ in 0..count {
        (figure.submit)(queue)?;
    }
    queue.sync()?;
    Ok(start.elapsed().as_secs_f64() / f64::from(count))
}
