//! Empty commands: how long one takes, and how many there can be.

use std::time::Instant;

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use super::{spin, warm, Group, Site, PEER_COMMAND, PEER_RATE, PEER_RATE_OF_MANY};
use crate::row::{Better, Row, Samples};

const ENQUEUE: &str = "enqueue an empty command";
const P50: &str = "enqueue to completion, p50";
const P99: &str = "enqueue to completion, p99";
const RATE: &str = "empty commands";
const MANY: &str = "empty commands, 64 queues";
const RATIO: &str = "64 queues against one";
const KICKS: &str = "kicks a million commands";
const MESSAGES: &str = "messages a million commands";

/// Empty commands.
pub struct Commands<'a> {
    transport: &'a dyn Transport,
    device: u32,
    queue: Queue,
    many: Vec<Queue>,
    latencies: Vec<u64>,
}

impl<'a> Commands<'a> {
    /// Queues for them.
    pub fn new(transport: &'a dyn Transport, device: u32) -> Result<Self> {
        let context = Context::open_on(transport, device)?;
        let many = (0..64).map(|_| context.queue_with(1024, 3, 1));
        Ok(Self {
            transport,
            device,
            queue: context.queue_with(65536, 3, 1)?,
            many: many.collect::<Result<_>>()?,
            latencies: Vec::with_capacity(20_000),
        })
    }

    /// Time to write one command, ns; the ring has room for all of them.
    fn enqueue(&self) -> Result<f64> {
        const COUNT: u32 = 20_000;
        warm(&self.queue)?;
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
        warm(&self.queue)?;
        self.latencies.clear();
        for _ in 0..20_000 {
            let start = Instant::now();
            spin(&self.queue, self.queue.nop()?);
            self.latencies.push(start.elapsed().as_nanos() as u64);
        }
        self.latencies.sort_unstable();
        let at = |share: f64| self.latencies[(self.latencies.len() as f64 * share) as usize] as f64;
        Ok((at(0.5), at(0.99)))
    }

    /// Empty commands through one queue, millions a second.
    fn rate(&self) -> Result<f64> {
        const COUNT: u32 = 1_000_000;
        warm(&self.queue)?;
        let start = Instant::now();
        for _ in 0..COUNT {
            self.queue.nop()?;
        }
        self.queue.sync()?;
        Ok(f64::from(COUNT) / start.elapsed().as_micros() as f64)
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
}

impl Group for Commands<'_> {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        let (p50, p99) = self.latency()?;
        let counters = || self.transport.telemetry(self.device);
        let (first, before) = (counters()?, counters()?);
        let one = self.rate()?;
        let after = counters()?;
        // A look at the counters is a message too.
        let look = before.rpcs - first.rpcs;
        samples.add(KICKS, (after.kicks - before.kicks) as f64);
        samples.add(MESSAGES, (after.rpcs - before.rpcs - look) as f64);
        let many = self.rate_of_many()?;
        samples.add(ENQUEUE, self.enqueue()?);
        samples.add(P50, p50);
        samples.add(P99, p99);
        samples.add(RATE, one);
        samples.add(MANY, many);
        samples.add(RATIO, many / one);
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        let enqueue = (!site.guest).then_some(50.0);
        let (p50, p99, rate, lines) = if site.guest {
            (1_000.0_f64, Some(5_000.0), 5.0, 10.0)
        } else {
            (500.0, None, 10.0, 5.0)
        };
        // `min` leaves a floor out that is not a number.
        let p50 = p50.min(site.line * lines);
        let row = |name, unit| site.row(samples, name, unit);
        vec![
            row(ENQUEUE, "ns").goal_if(Better::Lower, enqueue),
            row(P50, "ns")
                .floor(site.line)
                .peer(PEER_COMMAND)
                .goal(Better::Lower, p50),
            row(P99, "ns").floor(site.line).goal_if(Better::Lower, p99),
            row(RATE, "M/s").peer(PEER_RATE).goal(Better::Higher, rate),
            row(MANY, "M/s").peer(PEER_RATE_OF_MANY),
            row(RATIO, "").goal(Better::Higher, 0.9),
            row(KICKS, "").goal(Better::Lower, 0.0),
            row(MESSAGES, "").goal(Better::Lower, 0.0),
        ]
    }
}
