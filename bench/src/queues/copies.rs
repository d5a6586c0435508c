//! Copies by the card between pinned and device memory.

use std::time::Instant;

use vmlu::transport::Transport;
use vmlu::{Buffer, Context, PinnedBuffer, Queue, Result};

use super::{warm, Group, Site, LARGE};
use crate::row::{Better, Row, Samples};

/// Bytes of a small copy.
const SMALL: u64 = 4096;

const TO_DEVICE: &str = "pinned host to device, 64 MiB";
const TO_HOST: &str = "device to pinned host, 64 MiB";
const SMALL_ONES: &str = "copies of 4 KiB";

/// Memory for copies.
pub struct Large {
    queue: Queue,
    pinned: PinnedBuffer,
    buffer: Buffer,
}

impl Large {
    /// Memory that is warm.
    pub fn new(transport: &dyn Transport, device: u32) -> Result<Self> {
        let context = Context::open_on(transport, device)?;
        let queue = context.queue()?;
        let (pinned, buffer) = (context.alloc_pinned(LARGE)?, context.alloc(LARGE)?);
        queue.fill(&buffer, 0, LARGE, 0)?;
        queue.copy(pinned.address(), buffer.address(), LARGE)?;
        queue.sync()?;
        Ok(Self {
            queue,
            pinned,
            buffer,
        })
    }

    /// Copies, millions a second.
    fn copy(&self, dst: u64, src: u64, length: u64, count: u32) -> Result<f64> {
        warm(&self.queue)?;
        let start = Instant::now();
        for _ in 0..count {
            self.queue.copy(dst, src, length)?;
        }
        self.queue.sync()?;
        Ok(f64::from(count) / (start.elapsed().as_nanos() as f64 / 1e3))
    }
}

impl Group for Large {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        let (device, host) = (self.buffer.address(), self.pinned.address());
        // Megabytes a microsecond are gigabytes a millisecond.
        let bandwidth = |copies: f64| copies * LARGE as f64 / 1e3;
        samples.add(TO_DEVICE, bandwidth(self.copy(device, host, LARGE, 1)?));
        samples.add(TO_HOST, bandwidth(self.copy(host, device, LARGE, 1)?));
        samples.add(SMALL_ONES, self.copy(device, host, SMALL, 50_000)?);
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        let large = |name| {
            site.row(samples, name, "GB/s")
                .floor(site.copy)
                .goal(Better::Higher, 0.9 * site.copy)
        };
        let small = site.embedded().then_some(2.0);
        vec![
            large(TO_DEVICE),
            large(TO_HOST),
            site.row(samples, SMALL_ONES, "M/s")
                .goal_if(Better::Higher, small),
        ]
    }
}
