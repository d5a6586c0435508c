//! Sleep: a card that is woken by a command, and a program that is woken by a completion.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use super::{spin, warm, Group, Site};
use crate::row::{median, Better, Row, Samples};

const CARD: &str = "wake a sleeping card, there and back";
const WAITER: &str = "wake a sleeping waiter";

/// Queues that sleep.
pub struct Wake {
    queue: Queue,
}

impl Wake {
    /// A queue.
    pub fn new(transport: &dyn Transport, device: u32) -> Result<Self> {
        let context = Context::open_on(transport, device)?;
        Ok(Self {
            queue: context.queue()?,
        })
    }

    /// From before a command for a card that fell asleep until its completion is seen, ns.
    fn card(&self) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..15 {
            self.queue.sync()?;
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            spin(&self.queue, self.queue.nop()?);
            times.push(start.elapsed().as_nanos() as f64);
        }
        Ok(median(&mut times))
    }

    /// From before a command, for a card that polls, until the thread that sleeps for its completion runs, ns.
    fn waiter(&self) -> Result<f64> {
        let mut times = Vec::new();
        let origin = Instant::now();
        for _ in 0..15 {
            warm(&self.queue)?;
            const BEFORE: u64 = 2000;
            let value = self.queue.submitted() + BEFORE + 1;
            let woken = AtomicU64::new(0);
            let started = std::thread::scope(|scope| {
                let (queue, context) = (&self.queue, self.queue.context());
                let woken = &woken;
                scope.spawn(move || {
                    let _ = context
                        .channel()
                        .queue_wait(queue.handle(), value, u64::MAX);
                    woken.store(origin.elapsed().as_nanos() as u64, Ordering::SeqCst);
                });
                std::thread::sleep(Duration::from_millis(2));
                for _ in 0..BEFORE {
                    spin(queue, queue.nop()?);
                }
                let start = origin.elapsed().as_nanos() as u64;
                queue.nop()?;
                vmlu::Result::Ok(start)
            })?;
            times.push(woken.load(Ordering::SeqCst).saturating_sub(started) as f64);
        }
        Ok(median(&mut times))
    }
}

impl Group for Wake {
    fn round(&mut self, samples: &mut Samples) -> Result<()> {
        samples.add(CARD, self.card()?);
        samples.add(WAITER, self.waiter()?);
        Ok(())
    }

    fn rows(&self, site: &Site, samples: &Samples) -> Vec<Row> {
        let goal = site.embedded().then_some(1.5 * site.event);
        [CARD, WAITER]
            .map(|name| {
                site.row(samples, name, "ns")
                    .floor(site.event)
                    .goal_if(Better::Lower, goal)
            })
            .into()
    }
}
