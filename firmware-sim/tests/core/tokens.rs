//! Timelines that others wait for, in other contexts and on other chips.

use std::sync::atomic::Ordering;
use std::time::Duration;

use vmlu_abi::queue::{IMPORTED, MAX_IMPORTS};
use vmlu_abi::rpc::{Fault, Function, Timeline, TimelineState};
use vmlu_abi::Status;

use crate::harness::*;

#[test]
fn a_token_leads_to_the_timeline() {
    let chip = Chip::new();
    let (mine, other) = (chip.context_of(1), chip.context_of(2));
    let queue = mine.queue();
    let token = mine.export(queue.handle).unwrap();
    assert_eq!(mine.export(queue.handle), Ok(token), "it keeps its token");
    assert_ne!(
        mine.export(mine.queue().handle).unwrap().secret,
        token.secret
    );
    let import = other.import(token).unwrap();
    assert!(import & IMPORTED != 0);
    assert_eq!(other.read(import), Ok((0, Status::Ok)));
    let waiter = other.queue();
    let waits = waiter.wait_for(import, 2);
    queue.ok(queue.nop());
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(waiter.timeline(), waits - 1);
    queue.ok(queue.nop());
    waiter.ok(waits);
    assert_eq!(other.read(import), Ok((2, Status::Ok)));
    assert_eq!(mine.read(queue.handle), Ok((2, Status::Ok)));
    queue.done(queue.submit(0xffff, &[]));
    assert_eq!(other.read(import), Ok((3, Status::UnknownOpcode)));
    assert_eq!(waiter.done(waiter.wait_for(import, 3)), Status::Dependency);
    waiter.record(true);
    // What was reached without an error stays reached, after the end too.
    waiter.ok(waiter.wait_for(import, 2));
    queue.destroy().unwrap();
    waiter.ok(waiter.wait_for(import, 2));
    assert_eq!(other.read(import), Ok((3, Status::QueueDestroyed)));
    assert_eq!(waiter.done(waiter.wait_for(import, 4)), Status::Dependency);
    assert_eq!(other.import(token), Err(Status::BadHandle));
    assert_eq!(mine.export(queue.handle), Err(Status::BadHandle));
}

/// Each part of a token, and each kind of handle, that is not right.
#[test]
fn a_wrong_token_or_handle_is_refused() {
    let chip = Chip::new();
    let (mine, other) = (chip.context_of(1), chip.context_of(2));
    let queue = mine.queue();
    let token = mine.export(queue.handle).unwrap();
    for at in 0..16 {
        let mut wrong = token;
        wrong.secret[at] ^= 1 << (at % 8);
        assert_eq!(other.import(wrong), Err(Status::BadHandle));
    }
    let mut wrong = token;
    wrong.serial ^= 1;
    assert_eq!(other.import(wrong), Err(Status::BadHandle));
    wrong = token;
    wrong.chip += 1;
    assert_eq!(other.import(wrong), Err(Status::BadHandle));
    wrong = token;
    wrong.reserved = 1;
    assert_eq!(other.import(wrong), Err(Status::ReservedNotZero));
    wrong.secret = [0; 16];
    wrong.reserved = 0;
    assert_eq!(other.import(wrong), Err(Status::BadHandle));

    let import = other.import(token).unwrap();
    // An import is its context's alone, and not one to give on, destroy, or release twice.
    assert_eq!(other.export(import), Err(Status::BadHandle));
    assert_eq!(other.export(queue.handle), Err(Status::BadHandle));
    assert_eq!(mine.read(import), Err(Status::BadHandle));
    assert_eq!(mine.release(import), Err(Status::BadHandle));
    assert_eq!(mine.release(queue.handle), Err(Status::BadHandle));
    assert_eq!(other.read(queue.handle), Err(Status::BadHandle));
    for handle in [
        import & !IMPORTED,
        import ^ 1,
        import ^ 1 << 32,
        0,
        IMPORTED,
        u64::MAX,
    ] {
        assert_eq!(other.read(handle), Err(Status::BadHandle), "{handle:#x}");
        assert_eq!(other.release(handle), Err(Status::BadHandle), "{handle:#x}");
    }
    for function in [Function::QueueDestroy, Function::TimelineExport] {
        let answer: Answer<()> = other.call(function, &Timeline { timeline: import });
        assert_eq!(answer, Err(Status::BadHandle), "{function:?}");
    }
    let waiter = mine.queue();
    assert_eq!(waiter.done(waiter.wait_for(import, 0)), Status::BadHandle);
    other.release(import).unwrap();
    assert_eq!(other.release(import), Err(Status::BadHandle));
    let again = other.import(token).unwrap();
    assert_ne!(again, import, "a handle is not used twice");
}

#[test]
fn imports_are_counted() {
    let chip = Chip::new();
    let (mine, other) = (chip.context_of(1), chip.context_of(2));
    let queue = mine.queue();
    let token = mine.export(queue.handle).unwrap();
    let imports: Vec<u64> = (0..MAX_IMPORTS)
        .map(|_| other.import(token).unwrap())
        .collect();
    assert_eq!(other.import(token), Err(Status::OutOfResources));
    other.release(imports[17]).unwrap();
    other.import(token).unwrap();
    // Another context has its own.
    mine.import(token).unwrap();
}

#[test]
fn a_wait_for_oneself_by_token() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let import = context
        .import(context.export(queue.handle).unwrap())
        .unwrap();
    queue.ok(queue.nop());
    queue.ok(queue.wait_for(import, 1));
    assert_eq!(
        queue.done(queue.wait_for(import, 3)),
        Status::InvalidArgument
    );
}

/// An import is given up at the moment at which a queue begins to wait for it, or just before or after: the wait ends in any case.
#[test]
fn a_wait_that_begins_as_its_import_goes() {
    let chip = Chip::new();
    let (mine, other) = (chip.context_of(1), chip.context_of(2));
    let queue = mine.queue();
    let token = mine.export(queue.handle).unwrap();
    let waiter = other.queue();
    for round in 0..3000_u32 {
        let import = other.import(token).unwrap();
        // The card polls the queue: it begins with the wait within a microsecond or so.
        waiter.ok(waiter.nop());
        let waits = waiter.wait_for(import, 1);
        (0..round % 64 * 8).for_each(|_| std::hint::spin_loop());
        other.release(import).unwrap();
        let status = within(SOON, "a wait for an import that is gone", || {
            waiter.done(waits)
        });
        assert!(
            matches!(status, Status::Dependency | Status::BadHandle),
            "{status:?}"
        );
        waiter.record(true);
    }
}

/// Who gives an import up while a queue waits for it ends the wait.
#[test]
fn a_wait_ends_with_its_import() {
    let chip = Chip::new();
    let (mine, other) = (chip.context_of(1), chip.context_of(2));
    let queue = mine.queue();
    let token = mine.export(queue.handle).unwrap();
    let stays = chip.context_of(3);
    let (kept, third) = (stays.import(token).unwrap(), stays.queue());
    let wait = third.wait_for(kept, 1);
    let waiter = other.queue();
    let mut ended = 0;
    for _ in 0..1000 {
        let import = other.import(token).unwrap();
        let waits = waiter.wait_for(import, 1);
        std::thread::sleep(Duration::from_millis(1));
        other.release(import).unwrap();
        match waiter.done(waits) {
            Status::Dependency => ended += 1,
            // On a busy machine the card may not have looked at the wait before the import was gone.
            status => assert_eq!(status, Status::BadHandle),
        }
        waiter.record(true);
        if ended == 20 {
            break;
        }
    }
    assert_eq!(ended, 20, "waits that the card had begun");
    assert_eq!(third.timeline(), wait - 1, "others go on waiting");
    queue.ok(queue.nop());
    third.ok(wait);
}

#[test]
fn chips_wait_for_each_other() {
    let (a, b) = (Chip::at(0, DEVICE, true), Chip::at(1, DEVICE, true));
    let (ca, cb) = (a.context(), b.context());
    let (qa, qb) = (ca.queue(), cb.queue());
    let of_a = cb.import(ca.export(qa.handle).unwrap()).unwrap();
    let of_b = ca.import(cb.export(qb.handle).unwrap()).unwrap();
    for round in 0..300 {
        qb.wait_for(of_a, 2 * round + 1);
        qb.nop();
        qa.nop();
        qa.wait_for(of_b, 2 * round + 2);
        if round % 60 == 0 {
            qa.sleeps();
        }
    }
    qa.ok(qa.submitted());
    qb.ok(qb.submitted());
}

/// A host timeline of one chip, which queues of another wait for.
#[test]
fn a_host_timeline_is_exported() {
    let (a, b) = (Chip::at(0, DEVICE, true), Chip::at(1, DEVICE, true));
    let (ca, cb) = (a.context(), b.context());
    let host = ca.host_timeline();
    let import = cb.import(ca.export(host.handle).unwrap()).unwrap();
    let queues: Vec<Queue<'_>> = (0..32).map(|_| cb.queue_of(cb.queue_memory(128))).collect();
    queues.iter().enumerate().for_each(|(i, q)| {
        q.wait_for(import, 1 + i as u64);
    });
    for value in 1..=queues.len() as u64 {
        host.ring(value);
        queues[value as usize - 1].ok(1);
    }
}

/// However the exporter ends, who waits on another chip hears of it.
#[test]
fn the_exporter_s_end_ends_the_waits() {
    for round in 0..15 {
        let (a, b) = (Chip::at(0, 64 << 20, true), Chip::at(1, 64 << 20, true));
        let (ca, cb) = (a.context(), b.context());
        let (queue, waiter) = (ca.queue(), cb.queue());
        let token = ca.export(queue.handle).unwrap();
        let import = cb.import(token).unwrap();
        let waits = waiter.wait_for(import, 5);
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        match round % 5 {
            0 => queue.destroy().unwrap(),
            1 => ca.destroy().unwrap(),
            2 => queue.ring(1 << 40),
            3 => a.set_fault(a.inject(Fault::AllOnes, 0)),
            _ => a.firmware.shutdown(),
        }
        assert_eq!(waiter.done(waits), Status::Dependency, "{round}");
        let (_, error) = cb.read(import).unwrap();
        let stopped = if round % 5 == 2 {
            Status::FramingError
        } else {
            Status::QueueDestroyed
        };
        assert_eq!(error, stopped, "{round}");
        waiter.record(true);
        waiter.ok(waiter.nop());
    }
}

/// The exporter's chip goes with all that it has, although somebody has imported from it; the importer's does too.
#[test]
fn an_import_keeps_nothing_alive() {
    let b = Chip::at(1, DEVICE, true);
    let cb = b.context();
    let waiter = cb.queue();
    let (import, memory, host) = {
        let a = Chip::at(0, DEVICE, true);
        let ca = a.context();
        let queue = ca.queue();
        queue.ok(queue.nop());
        let import = cb.import(ca.export(queue.handle).unwrap()).unwrap();
        waiter.wait_for(import, 9);
        // The other way round: a queue of the chip that goes waits for one that stays.
        let stays = cb.queue();
        let other = ca.import(cb.export(stays.handle).unwrap()).unwrap();
        queue.wait_for(other, 9);
        std::thread::sleep(Duration::from_millis(1));
        (
            import,
            std::sync::Arc::downgrade(&a.memory),
            std::sync::Arc::downgrade(&a.host),
        )
    };
    assert_eq!(waiter.done(1), Status::Dependency);
    until("the chip's memory goes", || {
        memory.strong_count() == 0 && host.strong_count() == 0
    });
    assert_eq!(cb.read(import), Ok((1, Status::QueueDestroyed)));
    waiter.record(true);
    waiter.ok(waiter.wait_for(import, 1));
}

/// A fault of the exporter reaches the waiter only where it waits for what failed.
#[test]
fn errors_cross_chips() {
    let (a, b) = (Chip::at(0, DEVICE, true), Chip::at(1, DEVICE, true));
    let (ca, cb) = (a.context(), b.context());
    let (queue, waiter) = (ca.queue(), cb.queue());
    let import = cb.import(ca.export(queue.handle).unwrap()).unwrap();
    let (good, bad) = (queue.nop(), queue.submit(0xffff, &[]));
    queue.done(bad);
    waiter.ok(waiter.wait_for(import, good));
    assert_eq!(
        waiter.done(waiter.wait_for(import, bad)),
        Status::Dependency
    );
    waiter.record(true);
    queue.record(true);
    waiter.ok(waiter.wait_for(import, queue.nop()));
    // Of the other's memory and contexts nothing is told.
    let state: TimelineState = cb
        .call(Function::TimelineRead, &Timeline { timeline: import })
        .unwrap();
    assert_eq!(state.error, 0);
    assert_eq!(queue.arm().load(Ordering::SeqCst), u64::MAX);
}
