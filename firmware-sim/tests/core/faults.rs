//! Injected faults, and that the card goes on for everyone else.

use std::time::{Duration, Instant};

use vmlu_abi::packet::op;
use vmlu_abi::rpc::{self, Fault};
use vmlu_abi::{status::Xid, Status};

use crate::harness::*;

#[test]
fn the_watchdog_ends_what_hangs() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    chip.set_fault(chip.inject(Fault::Hang, 30));
    let start = Instant::now();
    let hung = queue.nop();
    let later = queue.nop();
    assert_eq!(queue.done(later), Status::Watchdog);
    assert!(start.elapsed() >= Duration::from_millis(30));
    let record = queue.record(true);
    assert_eq!((record.value, record.xid), (hung, Xid::Halt as u32));
    assert!(rule(&record).contains("ran for 3"), "{}", rule(&record));
    queue.ok(queue.nop());
}

#[test]
fn one_hangs_the_other_goes_on() {
    let chip = Chip::new();
    let context = chip.context();
    let (hung, other) = (context.queue(), context.queue());
    hung.hang();
    for _ in 0..20 {
        within(SOON, "a command beside one that hangs", || {
            other.ok(other.nop())
        });
    }
    other.sleeps();
    within(SOON, "a command beside one that hangs", || {
        other.ok(other.nop())
    });
}

/// As many hang as there are workers, and more.
#[test]
fn many_hang_the_other_goes_on() {
    let chip = Chip::new();
    let context = chip.context();
    let hung: Vec<Queue<'_>> = (0..8).map(|_| context.queue()).collect();
    let other = context.queue();
    for queue in &hung {
        queue.hang();
        for pause in [0, 2] {
            std::thread::sleep(Duration::from_millis(pause));
            within(SOON, "a command beside some that hang", || {
                other.ok(other.nop())
            });
        }
    }
    // All of them get their hang although all workers hang already.
    assert!(hung.iter().all(|q| q.timeline() < q.submitted()));
}

#[test]
fn ecc_errors_are_counted() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    chip.set_fault(chip.inject(Fault::Ecc, 0));
    assert_eq!(queue.done(queue.nop()), Status::EccUncorrected);
    assert_eq!(queue.record(true).xid, Xid::Ecc as u32);
    chip.set_fault(chip.inject(Fault::EccCorrected, 5));
    let telemetry = chip.telemetry();
    assert_eq!(
        (
            telemetry.ecc_uncorrected,
            telemetry.ecc_corrected,
            telemetry.xid
        ),
        (1, 5, Xid::Ecc as u32)
    );
}

#[test]
fn the_nth_of_a_kind_fails() {
    let chip = Chip::new();
    let context = chip.context();
    let foreign = chip.context();
    let (queue, theirs) = (context.queue(), foreign.queue());
    let (a, _) = context.alloc(1 << 16);
    let inject = rpc::Inject {
        count: 2,
        skip: 1,
        opcode: u32::from(op::FILL),
        context: context.handle,
        ..chip.inject(Fault::Fail, 33)
    };
    chip.set_fault(inject);
    let (b, _) = foreign.alloc(1 << 16);
    theirs.fill(b, 8, 1);
    theirs.fill(b, 8, 1);
    theirs.ok(theirs.fill(b, 8, 1));
    queue.nop();
    queue.ok(queue.fill(a, 8, 1));
    for _ in 0..2 {
        assert_eq!(queue.done(queue.fill(a, 8, 1)), Status::TruncatedBody);
        queue.record(true);
    }
    queue.ok(queue.fill(a, 8, 1));
    // One that is taken away in time hits nobody.
    chip.set_fault(inject);
    chip.set_fault(rpc::Inject { count: 0, ..inject });
    queue.fill(a, 8, 1);
    queue.ok(queue.fill(a, 8, 1));
}

/// A wait that is looked at several times is one command.
#[test]
fn a_blocked_wait_counts_once() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b) = (context.queue(), context.queue());
    chip.set_fault(rpc::Inject {
        skip: 1,
        opcode: u32::from(op::WAIT),
        ..chip.inject(Fault::Fail, 0)
    });
    let first = b.wait_for(a.handle, 1);
    std::thread::sleep(Duration::from_millis(2));
    a.nop();
    b.ok(first);
    assert_eq!(b.done(b.wait_for(a.handle, 1)), Status::Injected);
}

#[test]
fn a_delay_is_late() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    chip.set_fault(chip.inject(Fault::Delay, 20_000));
    let start = Instant::now();
    queue.ok(queue.nop());
    assert!(start.elapsed() >= Duration::from_millis(20));
}
