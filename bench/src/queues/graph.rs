//! A graph: many commands that one packet runs.

use std::time::Instant;

use vmlu::graph::GraphExec;
use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use super::{spin, warm, Group, Site};
use crate::row::{median, Better, Row, Samples};

const REPLAY: &str = "graph of 1,000 empty commands, replay";
const COMMANDS: u64 = 1000;

/// A graph of empty commands.
pub struct Graph {
    queue: Queue,
    graph: GraphExec,
}

impl Graph {
    /// Captures it.
    pub fn new(transport: &dyn Transport, device: u32) -> Result<Self> {
        let context = Context::open_on(transport, device)?;
        let queue = context.queue()?;
        queue.begin_capture()?;
        for _ in 0..COMMANDS {
            queue.nop()?;
        }
        let graph = queue.end_capture()?.instantiate(&context)?;
        Ok(Self { queue, graph })
    }

    /// From before the launch until the end of the last command is seen, the card being hot, µs.
    fn replay(&self) -> Result<f64> {
        warm(&self.queue)?;
        let mut times = Vec::new();
        for _ in 0..200 {
            let start = Instant::now();
            spin(&self.queue, self.queue.launch(&self.graph, &[])?);
            times.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        // A failed graph would be quick.
        self.queue.sync()?;
        Ok(median(&mut times))
    }
}

impl Group for Graph {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        samples.add(REPLAY, self.replay()?);
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        vec![site.row(samples, REPLAY, "µs").goal(Better::Lower, 50.0)]
    }
}
