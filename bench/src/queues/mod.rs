//! `queues`: the path from a program's store to the card and back.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use crate::floors;
use crate::row::{Better, Row};

/// Runs of each figure, interleaved with the others.
const RUNS: usize = 9;
/// Bytes of a large copy.
const LARGE: u64 = 64 << 20;
/// Bytes of a small copy.
const SMALL: u64 = 4096;

struct Bench {
    context: Context,
    queue: Queue,
    many: Vec<Queue>,
    latencies: Vec<u64>,
}

/// What one round gives, in the order of [`NAMES`].
type Round = [f64; NAMES.len()];

const NAMES: [&str; 14] = [
    "cache line round trip",
    "eventfd round trip",
    "memcpy 64 MiB",
    "enqueue an empty command",
    "enqueue to completion, p50",
    "enqueue to completion, p99",
    "empty commands",
    "empty commands, 64 queues",
    "64 queues against one",
    "wake a sleeping card, there and back",
    "pinned host to device, 64 MiB",
    "device to pinned host, 64 MiB",
    "copies of 4 KiB",
    "kicks a million commands",
];

/// Measures a chip over a transport.
pub fn run(transport: &dyn Transport, device: u32) -> Result<Vec<Row>> {
    let context = Context::open_on(transport, device)?;
    let queue = context.queue_with(65536, 3, 1)?;
    let many = (0..64)
        .map(|_| context.queue_with(1024, 3, 1))
        .collect::<Result<_>>()?;
    let mut bench = Bench {
        context,
        queue,
        many,
        latencies: Vec::with_capacity(20_000),
    };
    let pinned = bench.context.alloc_pinned(LARGE)?;
    let buffer = bench.context.alloc(LARGE)?;
    let from = vec![1_u8; LARGE as usize];
    let mut to = vec![2_u8; LARGE as usize];
    bench.queue.fill(&buffer, 0, LARGE, 0)?;
    bench.queue.sync()?;

    let mut rounds: Vec<Round> = Vec::new();
    for _ in 0..RUNS {
        let (p50, p99) = bench.latency()?;
        let before = transport.telemetry(device)?.kicks;
        let one = bench.rate(1_000_000)?;
        let kicks = transport.telemetry(device)?.kicks - before;
        let many = bench.rate_of_many()?;
        rounds.push([
            floors::cache_line(),
            floors::event_fd(),
            floors::memory_copy(&from, &mut to),
            bench.enqueue()?,
            p50,
            p99,
            one,
            many,
            many / one,
            bench.wake()?,
            bench.copy(buffer.address(), pinned.address(), LARGE, 1)? * LARGE as f64 / 1e3,
            bench.copy(pinned.address(), buffer.address(), LARGE, 1)? * LARGE as f64 / 1e3,
            bench.copy(buffer.address(), pinned.address(), SMALL, 50_000)?,
            kicks as f64,
        ]);
    }
    Ok(rows(transport.name(), &rounds))
}

fn median(rounds: &[Round], at: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|r| r[at]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rows(transport: &str, rounds: &[Round]) -> Vec<Row> {
    let value: Vec<f64> = (0..NAMES.len()).map(|i| median(rounds, i)).collect();
    let (line, event, memory) = (value[0], value[1], value[2]);
    let guest = transport == "kernel";
    let row = |at: usize, unit: &str| Row::new("queues", transport, NAMES[at], value[at], unit);
    let (p50, p99, rate, small): (f64, _, f64, _) = if guest {
        (1_000.0, Some(5_000.0), 5.0, None)
    } else {
        (500.0, None, 10.0, Some(2.0))
    };
    // `min` leaves a floor out that is not a number.
    let p50 = p50.min(line * if guest { 10.0 } else { 5.0 });
    let optional = |row: Row, better, goal: Option<f64>| match goal {
        Some(goal) => row.goal(better, goal),
        None => row,
    };
    let enqueue = row(3, "ns");
    let wake = row(9, "ns").floor(event);
    vec![
        row(0, "ns"),
        row(1, "ns"),
        row(2, "GB/s"),
        if guest {
            enqueue
        } else {
            enqueue.goal(Better::Lower, 50.0)
        },
        row(4, "ns").floor(line).goal(Better::Lower, p50),
        optional(row(5, "ns").floor(line), Better::Lower, p99),
        row(6, "M/s").goal(Better::Higher, rate),
        row(7, "M/s"),
        row(8, "").goal(Better::Higher, 0.9),
        if transport == "embedded" {
            wake.goal(Better::Lower, 1.5 * event)
        } else {
            wake
        },
        row(10, "GB/s")
            .floor(memory)
            .goal(Better::Higher, 0.9 * memory),
        row(11, "GB/s")
            .floor(memory)
            .goal(Better::Higher, 0.9 * memory),
        optional(row(12, "M/s"), Better::Higher, small),
        row(13, "").goal(Better::Lower, 0.0),
    ]
    .into_iter()
    .filter(|row| row.value.is_finite())
    .collect()
}

impl Bench {
    fn spin(queue: &Queue, value: u64) {
        while queue.timeline() < value {
            spin_loop();
        }
    }

    fn warm(&self) -> Result<()> {
        for _ in 0..1000 {
            Self::spin(&self.queue, self.queue.nop()?);
        }
        Ok(())
    }

    /// Time to write one command, ns; the ring has room for all of them.
    fn enqueue(&self) -> Result<f64> {
        const COUNT: u32 = 20_000;
        self.queue.sync()?;
        self.warm()?;
        let start = Instant::now();
        for _ in 0..COUNT {
            self.queue.nop()?;
        }
        let elapsed = start.elapsed();
        self.queue.sync()?;
        Ok(elapsed.as_nanos() as f64 / f64::from(COUNT))
    }

    /// Times from before the enqueue to the completion seen, ns: p50 and p99.
    fn latency(&mut self) -> Result<(f64, f64)> {
        self.queue.sync()?;
        self.warm()?;
        self.latencies.clear();
        for _ in 0..20_000 {
            let start = Instant::now();
            Self::spin(&self.queue, self.queue.nop()?);
            self.latencies.push(start.elapsed().as_nanos() as u64);
        }
        self.latencies.sort_unstable();
        let at = |share: f64| self.latencies[(self.latencies.len() as f64 * share) as usize] as f64;
        Ok((at(0.5), at(0.99)))
    }

    /// Empty commands through one queue, millions a second.
    fn rate(&self, count: u32) -> Result<f64> {
        self.queue.sync()?;
        self.warm()?;
        let start = Instant::now();
        for _ in 0..count {
            self.queue.nop()?;
        }
        self.queue.sync()?;
        Ok(f64::from(count) / start.elapsed().as_micros() as f64)
    }

    /// Empty commands through 64 queues, millions a second.
    fn rate_of_many(&self) -> Result<f64> {
        const BATCH: u32 = 256;
        const BATCHES: u32 = 4000;
        for queue in &self.many {
            queue.nop()?;
        }
        let start = Instant::now();
        for i in 0..BATCHES {
            let queue = &self.many[i as usize % self.many.len()];
            for _ in 0..BATCH {
                queue.nop()?;
            }
        }
        for queue in &self.many {
            queue.sync()?;
        }
        Ok(f64::from(BATCH * BATCHES) / start.elapsed().as_micros() as f64)
    }

    /// A command to a card that fell asleep, until its completion is seen, ns.
    fn wake(&self) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..15 {
            self.queue.sync()?;
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            Self::spin(&self.queue, self.queue.nop()?);
            times.push(start.elapsed().as_nanos() as u64);
        }
        times.sort_unstable();
        Ok(times[times.len() / 2] as f64)
    }

    /// Copies, millions a second.
    fn copy(&self, dst: u64, src: u64, length: u64, count: u32) -> Result<f64> {
        self.queue.sync()?;
        self.warm()?;
        let start = Instant::now();
        for _ in 0..count {
            self.queue.copy(dst, src, length)?;
        }
        self.queue.sync()?;
        Ok(f64::from(count) / (start.elapsed().as_nanos() as f64 / 1e3))
    }
}
