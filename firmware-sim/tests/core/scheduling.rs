//! Every queue is looked at, and none holds up the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu_abi::packet::op;
use vmlu_abi::rpc::{self, Fault};

use crate::harness::*;

/// How long something may take that other processes of the machine hold up.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn many_queues_are_all_served() {
    let chip = Chip::new();
    let contexts: Vec<Context<'_>> = (0..8).map(|pid| chip.context_of(pid)).collect();
    let queues: Vec<Queue<'_>> = (0..256)
        .map(|i| contexts[i % 8].queue_of(contexts[i % 8].queue_memory(128)))
        .collect();
    for round in 0..40 {
        queues.iter().for_each(|q| {
            q.nop();
        });
        if round % 8 == 0 {
            queues.iter().for_each(|q| q.ok(q.submitted()));
        }
        if round % 20 == 0 {
            queues.iter().for_each(|q| q.sleeps());
        }
    }
    queues.iter().for_each(|q| q.ok(40));
}

/// However many commands hang, each has a worker of its own, and another queue is served.
#[test]
fn commands_that_hang_hold_up_nobody() {
    const HANGING: u32 = 300;
    let chip = Chip::new();
    let (victim, other) = (chip.context(), chip.context());
    // Of a low priority, so that they take no turns from other tests.
    let hanging: Vec<Queue<'_>> = (0..HANGING)
        .map(|_| {
            let create = victim.queue_memory(128);
            victim.queue_of(rpc::QueueCreate {
                priority: 0,
                ..create
            })
        })
        .collect();
    chip.set_fault(rpc::Inject {
        count: HANGING,
        context: victim.handle,
        opcode: u32::from(op::NOP),
        ..chip.inject(Fault::Hang, 0)
    });
    for queue in &hanging {
        // Nothing, which tells that its worker is there.
        queue.fill(0, 0, 0);
        queue.nop();
    }
    let begun = Instant::now();
    while hanging.iter().any(|q| q.timeline() == 0) {
        assert!(begun.elapsed() < LONG, "not all of them have a worker");
        std::thread::sleep(Duration::from_millis(5));
    }
    let queue = other.queue();
    queue.ok(queue.nop());
    assert!(hanging.iter().all(|q| q.timeline() == 1));
    victim.destroy().unwrap();
    queue.ok(queue.nop());
}

/// A queue that never runs empty shares the workers: also when they are fewer than such queues.
#[test]
fn a_flood_of_nops_starves_nobody() {
    let chip = Chip::new();
    let context = chip.context();
    let stop = AtomicBool::new(false);
    let quiet = context.queue();
    let loud: Vec<Queue<'_>> = (0..3)
        .map(|_| context.queue_of(context.queue_memory(4096)))
        .collect();
    std::thread::scope(|scope| {
        // One thread for all: it is to flood the card, not the machine.
        scope.spawn(|| {
            let nops = packet_bytes(1, &[]).repeat(512);
            while !stop.load(Ordering::SeqCst) {
                for queue in &loud {
                    let end = queue.write(&nops);
                    queue.ring(end);
                }
            }
        });
        let _stop = Stop(&stop);
        let start = Instant::now();
        let mut worst = Duration::ZERO;
        let mut rounds = 0;
        while start.elapsed() < Duration::from_millis(400) {
            let begin = Instant::now();
            quiet.ok(quiet.nop());
            worst = worst.max(begin.elapsed());
            rounds += 1;
            if rounds % 4 == 0 {
                quiet.sleeps();
            }
        }
        assert!(worst < SOON, "{worst:?} for one command");
    });
    let progress: Vec<u64> = loud.iter().map(|q| q.timeline()).collect();
    assert!(progress.iter().all(|p| *p > 500), "{progress:?}");
}

/// Sleeping and waking, over and over, with work that comes just as the queue falls asleep.
#[test]
fn no_wake_up_is_lost() {
    let chip = Chip::new();
    let context = chip.context();
    let queues: Vec<Queue<'_>> = (0..2)
        .map(|_| context.queue_of(context.queue_memory(128)))
        .collect();
    std::thread::scope(|scope| {
        for (n, queue) in queues.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..1500_u64 {
                    queue.ok(queue.nop());
                    // Around the end of the time for which it is polled, which follows the pauses.
                    let pause = Duration::from_micros(15 + (round * (n as u64 + 7)) % 300);
                    if round % 4 == 0 {
                        let start = Instant::now();
                        while start.elapsed() < pause {
                            std::hint::spin_loop();
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn an_idle_card_uses_no_time() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    queue.ok(queue.nop());
    queue.sleeps();
    let kicks = chip.telemetry().kicks;
    // Kicks without work, and kicks of nobody, are for nothing.
    for i in 0..100_000_u32 {
        chip.firmware.kick(i % 3);
    }
    assert!(queue.asleep() && chip.telemetry().kicks == kicks + 100_000);
    assert_eq!(chip.telemetry().busy, 0);
}

/// A queue with packets before its first kick, and one that is kicked by another's producer.
#[test]
fn a_kick_looks_at_all_queues_of_its_context() {
    let chip = Chip::new();
    let context = chip.context();
    let queues: Vec<Queue<'_>> = (0..4).map(|_| context.queue()).collect();
    for queue in &queues {
        let end = queue.write(&packet_bytes(1, &[]));
        queue.doorbell().store(end, Ordering::SeqCst);
    }
    chip.firmware.kick(context.index);
    queues.iter().for_each(|q| q.ok(1));
}
