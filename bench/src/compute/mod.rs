//! `compute`: operators beside what the processor can do at best and beside other libraries, commands queued ahead.

mod figures;
pub mod peaks;
pub mod peers;

use std::thread::sleep;
use std::time::{Duration, Instant};

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use self::figures::{Figure, Floor};
use self::peers::{Peer, Program};
use crate::row::{median, Better, Row};

/// Runs of each figure, interleaved with the others.
const RUNS: usize = 9;
/// Seconds that the commands of a run take, about.
const RUN_SECONDS: f64 = 0.012;

/// Pause between one engine and the next, so that threads that wait by spinning have gone to sleep.
const PAUSE: Duration = Duration::from_millis(3);

/// A peer, and how many executions a run has of each figure that it knows.
struct Rival {
    peer: Peer,
    counts: Vec<Option<u32>>,
    values: Vec<Vec<f64>>,
}

impl Rival {
    fn start(program: &Program, cores: usize, figures: &[Figure]) -> std::io::Result<Self> {
        let mut peer = Peer::start(program, cores)?;
        let mut counts = Vec::new();
        for (number, figure) in figures.iter().enumerate() {
            let known = match &figure.peer {
                Some(operator) => peer.prepare(number, operator)?,
                None => false,
            };
            counts.push(match known {
                true => {
                    peer.seconds(number, 1)?;
                    Some(count(peer.seconds(number, 1)?))
                }
                false => None,
            });
        }
        let values = vec![Vec::new(); figures.len()];
        Ok(Self {
            peer,
            counts,
            values,
        })
    }
}

/// Measures with some cores, to which the process is bound already. `only` leaves out figures whose names do not contain it.
pub fn run(
    transport: &dyn Transport,
    device: u32,
    cores: usize,
    only: &str,
    programs: &[Program],
) -> Result<Vec<Row>> {
    let context = Context::open_on(transport, device)?;
    let queue = context.queue_with(4096, 3, 1)?;
    let memory = figures::Memory::new(&context, &queue)?;
    let mut figures = figures::all(&memory);
    figures.retain(|f| f.name.contains(only));
    let counts = figures
        .iter()
        .map(|f| {
            seconds(&queue, f, 1)?;
            Ok(count(seconds(&queue, f, 1)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut rivals = Vec::new();
    for program in programs {
        match Rival::start(program, cores, &figures) {
            Ok(rival) => rivals.push(rival),
            Err(error) => eprintln!("{} is left out: {error}", program.name),
        }
    }
    let mut floors = vec![Vec::new(); Floor::ALL.len()];
    let mut values = vec![Vec::new(); figures.len()];
    for _ in 0..RUNS {
        for (floor, to) in Floor::ALL.iter().zip(&mut floors) {
            to.push(floor.measure(cores));
        }
        for (i, figure) in figures.iter().enumerate() {
            sleep(PAUSE);
            // The floors of memory are of memory that has just been used.
            if figure.is_of_memory() {
                seconds(&queue, figure, 1)?;
            }
            values[i].push(figure.work / seconds(&queue, figure, counts[i])? / 1e9);
            for rival in &mut rivals {
                let Some(count) = rival.counts[i] else {
                    continue;
                };
                sleep(PAUSE);
                let warm = match figure.is_of_memory() {
                    true => rival.peer.seconds(i, 1).map(drop),
                    false => Ok(()),
                };
                match warm.and_then(|()| rival.peer.seconds(i, count)) {
                    Ok(seconds) => rival.values[i].push(figure.work / seconds / 1e9),
                    Err(error) => {
                        eprintln!("{}: {error}", figure.name);
                        rival.counts[i] = None;
                    }
                }
            }
        }
    }
    let floors: Vec<f64> = floors.iter_mut().map(|v| median(v)).collect();
    let spreads: Vec<f64> = values.iter().map(|v| spread(v)).collect();
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
    for (i, figure) in figures.iter().enumerate() {
        let at = |floor: Floor| floors[floor as usize];
        let floor = match (&figure.like, figure.bandwidth) {
            (Some(like), _) => named(like).unwrap_or(f64::NAN),
            // The larger of two times is the smaller of two rates.
            (None, Some((floor, bytes))) => at(figure.floor).min(figure.work / (bytes / at(floor))),
            (None, None) => at(figure.floor),
        };
        let mut row = Row::new(
            "compute",
            transport.name(),
            &prefix(&figure.name),
            values[i],
            figure.floor.unit(),
        )
        .floor(floor);
        for rival in &mut rivals {
            if rival.values[i].len() == RUNS {
                row = row.beside(&rival.peer.name, median(&mut rival.values[i]));
            }
        }
        let share = figure.share.filter(|_| floor.is_finite());
        let rival = row.peer.filter(|_| figure.beat);
        let goal = share.map(|share| share * floor).into_iter().chain(rival);
        let goal = goal.reduce(f64::max);
        rows.push(row.goal_within(Better::Higher, goal, spreads[i]));
    }
    Ok(rows)
}

/// Commands of a run, of which one takes `seconds`.
fn count(seconds: f64) -> u32 {
    (RUN_SECONDS / seconds).clamp(1.0, 1000.0) as u32
}

/// Half the distance of the quartiles.
fn spread(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len() * part / 4).copied();
    (at(3).unwrap_or(0.0) - at(1).unwrap_or(0.0)) / 2.0
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
