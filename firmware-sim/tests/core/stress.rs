//! Producers, queues and destruction all at once: every packet is accounted for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vmlu_abi::rpc::{self, Function};
use vmlu_abi::{Status, Wire};

use crate::harness::*;

const THREADS: usize = 4;
const QUEUES: usize = 8;

/// A small generator: the same numbers on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn every_packet_is_accounted_for() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, _) = context.alloc(1 << 20);
    let pool = context.map(chip.pages(4 * PAGE), 4 * PAGE, 3);
    context
        .call::<_, ()>(
            Function::NotifierPool,
            &rpc::NotifierPool {
                va: pool,
                count: 512,
                reserved: 0,
            },
        )
        .unwrap();
    let ring = chip.event_ring(0, 64);
    let submitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (chip, context, submitted, ring) = (&chip, &context, &submitted, &ring);
            scope.spawn(move || {
                let mut random = Random(0x9e37_79b9 + thread as u64);
                let creates: Vec<_> = (0..QUEUES).map(|_| context.queue_memory(256)).collect();
                let mut queues: Vec<Queue<'_>> =
                    creates.iter().map(|c| context.queue_of(*c)).collect();
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(2500) {
                    let at = random.below(QUEUES as u64) as usize;
                    let queue = &queues[at];
                    if queue.submitted() - queue.timeline() > 40 {
                        if queue.error() != Status::Ok {
                            queue.record(true);
                        }
                        std::thread::yield_now();
                    }
                    let from = a + (thread as u64) * (1 << 18);
                    match random.below(100) {
                        0..40 => drop(queue.nop()),
                        40..60 => drop(queue.fill(from, random.below(4096), 7)),
                        60..75 => drop(queue.copy(from, from + (1 << 17), random.below(1 << 16))),
                        75..88 => {
                            // Only of queues before it, so that no circle comes to be.
                            let other = &queues[random.below(at as u64 + 1) as usize];
                            let value = random.below(other.submitted() + 1);
                            queue.wait_for(other.handle, value);
                        }
                        88..94 => drop(queue.notify(random.below(600) as u32, 1)),
                        94..96 => drop(queue.submit(random.below(0xffff) as u16 | 0x8000, &[1])),
                        96..98 => queue.arm().store(queue.submitted() + 1, Ordering::SeqCst),
                        98 => {
                            ring.set_consumed(ring.produced());
                            queue.record(true);
                        }
                        _ => {
                            let packets = replace(&mut queues, at, context, creates[at]);
                            submitted.fetch_add(packets, Ordering::SeqCst);
                        }
                    }
                }
                for queue in &queues {
                    queue.done(queue.submitted());
                    assert_eq!(queue.timeline(), queue.submitted());
                    submitted.fetch_add(queue.submitted(), Ordering::SeqCst);
                    queue.destroy().unwrap();
                }
                let _ = chip;
            });
        }
    });
    let telemetry = chip.telemetry();
    let submitted = submitted.load(Ordering::SeqCst);
    assert_eq!(
        telemetry.packets + telemetry.packets_failed,
        submitted,
        "{} completed, {} failed",
        telemetry.packets,
        telemetry.packets_failed
    );
    assert!(
        telemetry.packets > 1000 && telemetry.packets_failed > 10,
        "{} and {}",
        telemetry.packets,
        telemetry.packets_failed
    );
    assert_eq!((telemetry.queues, telemetry.busy), (0, 0));
    context.destroy().unwrap();
    assert_eq!(chip.telemetry().memory_used, 0);
}

/// Destroys a queue with what it has to do, and puts a new one on the same memory in its place; the packets that it was given.
fn replace<'a>(
    queues: &mut [Queue<'a>],
    at: usize,
    context: &Context<'a>,
    create: rpc::QueueCreate,
) -> u64 {
    let queue = &queues[at];
    let submitted = queue.submitted();
    let destroy = rpc::QueueDestroy {
        queue: queue.handle,
    };
    context
        .chip
        .raw(Function::QueueDestroy, context.handle, destroy.as_bytes())
        .unwrap();
    queues[at] = context.queue_of(create);
    submitted
}
