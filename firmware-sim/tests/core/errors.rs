//! What an error does to its queue, and what clearing it means.

use vmlu_abi::notifier::Notifier;
use vmlu_abi::rpc::{self, Fault, Function, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::Status;
use vmlu_abi::{packet, Wire};

use crate::harness::*;

#[test]
fn the_timeline_advances_over_what_an_error_cancels() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, offset) = context.alloc(1 << 16);
    queue.ok(queue.fill(a, 16, 1));
    let bad = queue.fill(0x10, 16, 2);
    let cancelled = queue.fill(a, 16, 3);
    let last = queue.nop();
    assert_eq!(queue.done(last), Status::OperandFault);
    assert_eq!(queue.record(false).value, bad);
    // Still so, and a second error does not cover the first.
    assert_eq!(queue.done(queue.submit(0xffff, &[])), Status::OperandFault);
    assert_eq!(queue.record(false).value, bad);
    let telemetry = chip.telemetry();
    assert_eq!(
        (
            telemetry.packets,
            telemetry.packets_failed,
            telemetry.xid_count
        ),
        (1, 4, 1)
    );
    let record = queue.record(true);
    assert_eq!(
        (record.value, record.status),
        (bad, Status::OperandFault.raw())
    );
    assert_eq!(queue.record(false).status, 0);
    queue.ok(queue.fill(a + 16, 16, 4));
    let mut bytes = [0; 32];
    chip.memory.bytes(offset, 32).unwrap().copy_to(&mut bytes);
    assert_eq!(
        bytes[..],
        [[1; 16], [4; 16]].concat(),
        "command {cancelled} ran"
    );
}

/// What was written before the error was cleared is cancelled, also if the card had not come to it; what comes later runs.
#[test]
fn clearing_counts_what_was_written() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    for round in 0..200 {
        let bad = queue.submit(0xffff, &[]);
        let before = (0..round % 40).map(|_| queue.nop()).last().unwrap_or(bad);
        until("the error", || queue.error() != Status::Ok);
        let failed = chip.telemetry().packets_failed;
        assert_eq!(queue.record(true).value, bad);
        let after = queue.nop();
        queue.ok(after);
        assert!(chip.telemetry().packets_failed >= failed);
        // Who waits for a cancelled one hears of it, however late; who waits for one that ran does not.
        let other = context.queue();
        other.ok(other.wait_for(queue.handle, after));
        assert_eq!(
            other.done(other.wait_for(queue.handle, before)),
            Status::Dependency,
            "round {round}"
        );
        other.destroy().unwrap();
    }
    let total = queue.submitted();
    let telemetry = chip.telemetry();
    let waits = 2 * 200;
    assert_eq!(telemetry.packets + telemetry.packets_failed, total + waits);
}

#[test]
fn notifiers_carry_the_error() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let dma = chip.pages(PAGE);
    let va = context.map(dma, PAGE, ACCESS_READ | ACCESS_WRITE);
    context
        .call::<_, ()>(
            Function::NotifierPool,
            &rpc::NotifierPool {
                va,
                count: 128,
                reserved: 0,
            },
        )
        .unwrap();
    let read = |index: u64| Notifier::read_from(&chip.host_bytes(dma + 32 * index, 32)).unwrap();

    queue.notify(0, 10);
    let (a, _) = context.alloc(1 << 20);
    queue.fill(a, 1 << 20, 1);
    queue.ok(queue.notify(127, 11));
    let (first, second) = (read(0), read(127));
    assert_eq!(
        (first.value, first.error, second.value, second.error),
        (10, 0, 11, 0)
    );
    assert!(second.device_ns > first.device_ns && second.wall_ns >= first.wall_ns);
    // A fill writes a MiB at 307.2 GB/s, after a launch.
    let expected = (1 << 20) * 1_000_000_000_u128 / 307_200_000_000 + 2000;
    assert_eq!(u128::from(second.busy_ns - first.busy_ns), expected);

    assert_eq!(queue.done(queue.notify(128, 1)), Status::BadHandle);
    queue.record(true);
    queue.submit(0xffff, &[]);
    queue.notify(1, 12);
    // Malformed ones write nothing.
    let mut bytes = packet_bytes(
        packet::op::NOTIFY,
        packet::Notify { index: 2, value: 5 }.as_bytes(),
    );
    bytes[4] = 1;
    queue.submit_bytes(&bytes);
    bytes[4] = 0;
    bytes[40] = 1;
    queue.submit_bytes(&bytes);
    assert_eq!(queue.done(queue.nop()), Status::UnknownOpcode);
    assert_eq!(
        (read(1).value, read(1).error),
        (12, Status::UnknownOpcode.raw())
    );
    assert_eq!(read(2), Notifier::zeroed());
    queue.record(true);
    queue.ok(queue.notify(1, 13));
    assert_eq!((read(1).value, read(1).error), (13, 0));
}

/// Reading and clearing errors does not wait for a command.
#[test]
fn reading_an_error_does_not_wait() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    queue.done(queue.submit(0xffff, &[]));
    queue.record(true);
    let hung = queue.hang();
    for clear in [false, true] {
        assert_eq!(
            within(SOON, "reading an error", || queue.record(clear)).status,
            0
        );
    }
    within(SOON, "telemetry", || chip.telemetry());
    within(SOON, "memory", || context.alloc(1 << 20));
    within(SOON, "a queue", || context.queue().destroy().unwrap());
    assert!(queue.timeline() < hung);
}

#[test]
fn a_panic_costs_one_command() {
    let chip = Chip::new();
    let context = chip.context();
    let (queue, other) = (context.queue(), context.queue());
    for _ in 0..50 {
        chip.set_fault(chip.inject(Fault::Panic, 0));
        assert_eq!(queue.done(queue.nop()), Status::KernelPanic);
        assert!(rule(&queue.record(true)).contains("panic"));
        queue.ok(queue.nop());
        other.ok(other.nop());
    }
}
