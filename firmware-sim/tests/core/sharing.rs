//! Queues share the workers as their priorities and weights say. The work is an injected delay, which takes the same time on every machine.

use vmlu_abi::packet::op;
use vmlu_abi::rpc::{self, Fault};

use crate::harness::*;

/// Length of a command, us.
const WORK: u64 = 300;

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |n| n.get().max(2))
}

/// Has every empty command of a context take [`WORK`].
fn slow_down(chip: &Chip, context: &Context<'_>) {
    chip.set_fault(rpc::Inject {
        context: context.handle,
        opcode: u32::from(op::NOP),
        count: u32::MAX,
        ..chip.inject(Fault::Delay, WORK)
    });
}

/// Queues with more to do than anybody waits for.
fn backlog<'a>(context: &Context<'a>, count: usize, priority: u32, weight: u32) -> Vec<Queue<'a>> {
    let nops = packet_bytes(op::NOP, &[]).repeat(4000);
    (0..count)
        .map(|_| {
            let memory = rpc::QueueCreate {
                priority,
                weight,
                ..context.queue_memory(4096)
            };
            let queue = context.queue_of(memory);
            let end = queue.write(&nops);
            queue.ring(end);
            queue
        })
        .collect()
}

fn done(queues: &[Queue<'_>]) -> u64 {
    queues.iter().map(|q| q.timeline()).sum()
}

/// More queues than workers, some with three times the weight of the others.
#[test]
fn weights_are_shares() {
    let chip = Chip::new();
    let context = chip.context();
    slow_down(&chip, &context);
    let light = backlog(&context, 2 * workers(), 3, 100);
    let heavy = backlog(&context, 2 * workers(), 3, 300);
    until("enough commands", || {
        done(&light) >= 150 * light.len() as u64
    });
    let ratio = done(&heavy) as f64 / done(&light) as f64;
    // To 10 % it is checked in simulated time; here other tests want the workers too.
    assert!((2.4..3.6).contains(&ratio), "{ratio}");
    context.destroy().unwrap();
}

/// A command of a high priority passes all that wait with a lower one, whether its queue is polled or kicked: at most what runs already
/// ends before it.
#[test]
fn a_high_priority_passes_the_others() {
    let chip = Chip::new();
    let (context, urgent) = (chip.context(), chip.context_of(2));
    slow_down(&chip, &context);
    let low = backlog(&context, 3 * workers(), 0, 1024);
    let high = urgent.queue_of(rpc::QueueCreate {
        priority: 7,
        weight: 1,
        ..urgent.queue_memory(1024)
    });
    for sleeps in [false, true] {
        let mut passed: Vec<u64> = (0..31)
            .map(|_| {
                if sleeps {
                    high.sleeps();
                }
                let before = done(&low);
                high.ok(high.nop());
                done(&low) - before
            })
            .collect();
        // The median: this thread may be off its core while it counts.
        passed.sort_unstable();
        let limit = 2 * workers() as u64;
        assert!(passed[15] <= limit, "asleep {sleeps}: {passed:?}");
    }
    context.destroy().unwrap();
}

/// Queues of one priority all get on, however many there are.
#[test]
fn nobody_starves() {
    let chip = Chip::new();
    let context = chip.context();
    slow_down(&chip, &context);
    let mut queues = backlog(&context, 3 * workers(), 3, 1000);
    queues.extend(backlog(&context, 1, 3, 100));
    let last = queues.last().unwrap();
    until("a queue of little weight", || last.timeline() >= 20);
    context.destroy().unwrap();
}

/// Of 1,024 queues only those are polled that worked lately.
#[test]
fn idle_queues_cost_nothing() {
    let chip = Chip::new();
    let contexts: Vec<Context<'_>> = (0..4).map(|pid| chip.context_of(pid)).collect();
    let queues: Vec<Queue<'_>> = (0..1024)
        .map(|i| contexts[i % 4].queue_of(contexts[i % 4].queue_memory(128)))
        .collect();
    assert_eq!(chip.firmware.polled_queues(), 0);
    queues.iter().for_each(|q| {
        q.nop();
    });
    queues.iter().for_each(|q| q.ok(1));
    queues.iter().for_each(|q| q.sleeps());
    until("nobody is polled", || chip.firmware.polled_queues() == 0);
    for _ in 0..2000 {
        queues[7].ok(queues[7].nop());
        assert!(chip.firmware.polled_queues() <= 1);
    }
    queues[7].sleeps();
    until("nobody is polled", || chip.firmware.polled_queues() == 0);
}
