//! Every queue is looked at, and none holds up the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;

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
