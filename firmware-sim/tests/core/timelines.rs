//! Queues that wait for one another.

use std::time::Duration;

use vmlu_abi::packet::{self, op};
use vmlu_abi::rpc::Fault;
use vmlu_abi::Status;

use crate::harness::*;

#[test]
fn a_queue_waits_for_another() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b) = (context.queue(), context.queue());
    b.ok(b.wait_for(a.handle, 0));
    let waits = b.wait_for(a.handle, 3);
    a.ok(a.nop());
    a.ok(a.nop());
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(b.timeline(), waits - 1);
    // A kick changes nothing.
    for _ in 0..1000 {
        b.kick();
    }
    assert_eq!(b.timeline(), waits - 1);
    a.nop();
    b.ok(waits);
    b.ok(b.wait_for(a.handle, 3));
}

#[test]
fn ping_pong() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b) = (context.queue(), context.queue());
    for round in 0..400 {
        b.wait_for(a.handle, 2 * round + 1);
        b.nop();
        a.nop();
        a.wait_for(b.handle, 2 * round + 2);
        if round % 50 == 0 {
            a.sleeps();
        }
    }
    a.ok(a.submitted());
    b.ok(b.submitted());
}

#[test]
fn a_wait_for_oneself() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    queue.ok(queue.nop());
    queue.ok(queue.wait_for(queue.handle, 1));
    assert_eq!(
        queue.done(queue.wait_for(queue.handle, 3)),
        Status::InvalidArgument
    );
    queue.record(true);
    assert_eq!(
        queue.done(queue.wait_for(queue.handle, u64::MAX)),
        Status::InvalidArgument
    );
}

#[test]
fn a_wait_for_what_failed() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b, c) = (context.queue(), context.queue(), context.queue());
    let before = a.nop();
    let bad = a.submit(0xffff, &[]);
    let later = a.nop();
    a.done(later);
    b.ok(b.wait_for(a.handle, before));
    for value in [bad, later] {
        let depends = b.wait_for(a.handle, value);
        // It goes on: who waits for the one that waits.
        let next = c.wait_for(b.handle, depends);
        assert_eq!(b.done(depends), Status::Dependency);
        assert_eq!(c.done(next), Status::Dependency);
        b.record(true);
        c.record(true);
    }
    a.record(true);
    let good = a.nop();
    b.ok(b.wait_for(a.handle, good));
    assert_eq!(
        b.done(b.wait_for(a.handle, later)),
        Status::Dependency,
        "it failed, cleared or not"
    );
}

/// Blocked first, then the other fails.
#[test]
fn a_blocked_queue_hears_of_the_error() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b) = (context.queue(), context.queue());
    for round in 0..100 {
        let blocked = b.wait_for(a.handle, a.submitted() + 2);
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_micros(100 * round));
        }
        a.submit(0xffff, &[]);
        a.nop();
        assert_eq!(b.done(blocked), Status::Dependency);
        a.done(a.submitted());
        a.record(true);
        b.record(true);
    }
}

/// Who waits for a queue that ends, however it ends, ends too.
#[test]
fn a_blocked_queue_hears_of_the_end() {
    let chip = Chip::new();
    let context = chip.context();
    let b = context.queue();
    for round in 0..30 {
        let a = context.queue();
        let blocked = b.wait_for(a.handle, 1);
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        match round % 3 {
            0 => a.destroy().unwrap(),
            1 => a.ring(1 << 40),
            _ => {
                chip.take(a.create.status, PAGE);
                chip.firmware.revoke_host(a.create.status, PAGE);
            }
        }
        let status = b.done(blocked);
        assert!(
            matches!(status, Status::Dependency | Status::BadHandle),
            "{status:?}"
        );
        b.record(true);
        b.ok(b.nop());
        let _ = a.destroy();
    }
}

/// Queues that wait for each other, in circles of several sizes, over imports too: the one that closes the circle fails, or two that close it
/// at the same time, and the others with it.
#[test]
fn a_circle_ends_in_errors() {
    let chip = Chip::new();
    let contexts = [chip.context_of(1), chip.context_of(2)];
    for size in [2, 3, 7] {
        for round in 0..30 {
            let queues: Vec<_> = (0..size).map(|i| contexts[i % 2].queue()).collect();
            let waits: Vec<u64> = (0..size)
                .map(|i| {
                    let (context, other) = (&contexts[i % 2], &queues[(i + 1) % size]);
                    let home = &contexts[(i + 1) % size % 2];
                    let handle = if std::ptr::eq(context, home) {
                        other.handle
                    } else {
                        context.import(home.export(other.handle).unwrap()).unwrap()
                    };
                    if round % 2 == 0 {
                        queues[i].ok(queues[i].nop());
                    }
                    // For the other's own wait, which is its first command or its second.
                    queues[i].wait_for(handle, 2 - round % 2)
                })
                .collect();
            let ends: Vec<_> = queues.iter().zip(&waits).map(|(q, w)| q.done(*w)).collect();
            let of = |status| ends.iter().filter(|s| **s == status).count();
            let (closed, failed) = (of(Status::InvalidArgument), of(Status::Dependency));
            assert!(closed > 0 && closed + failed == size, "{ends:?}");
        }
    }
}

/// A queue that waits for several, one of which waits for it.
#[test]
fn a_circle_by_way_of_several() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b, c) = (context.queue(), context.queue(), context.queue());
    let host = context.host_timeline();
    let first = a.wait_for_all(&[(host.handle, 1), (b.handle, 1)]);
    let second = b.wait_for(c.handle, 1);
    std::thread::sleep(Duration::from_millis(2));
    let third = c.wait_for_all(&[(host.handle, 2), (a.handle, 1)]);
    assert_eq!(c.done(third), Status::InvalidArgument);
    assert!(
        rule(&c.record(false)).contains("3 queues"),
        "{}",
        rule(&c.record(false))
    );
    assert_eq!(
        (b.done(second), a.done(first)),
        (Status::Dependency, Status::Dependency)
    );
}

/// What looks like a circle but is none: the host can still advance one of them, or the value comes before the wait.
#[test]
fn no_circle() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b) = (context.queue(), context.queue());
    let host = context.host_timeline();
    for round in 1..=200_u64 {
        let first = a.wait_for(host.handle, round);
        let second = b.wait_for(a.handle, first);
        // Of `b` what is before its wait.
        let third = a.wait_for(b.handle, second - 1);
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        host.ring(round);
        a.ok(third);
        b.ok(second);
    }
}

/// Many queues on one value, and one that fails half of them.
#[test]
fn many_wait_for_one() {
    let chip = Chip::new();
    let context = chip.context();
    let a = context.queue();
    let others: Vec<_> = (0..64)
        .map(|_| context.queue_of(context.queue_memory(128)))
        .collect();
    let waits: Vec<u64> = others
        .iter()
        .enumerate()
        .map(|(i, q)| q.wait_for(a.handle, 1 + i as u64 % 4))
        .collect();
    std::thread::sleep(Duration::from_millis(2));
    chip.set_fault(vmlu_abi::rpc::Inject {
        skip: 2,
        opcode: 1,
        ..chip.inject(Fault::Fail, 0)
    });
    (0..4).for_each(|_| {
        a.nop();
    });
    for (i, (queue, value)) in others.iter().zip(waits).enumerate() {
        let expected = if i % 4 < 2 {
            Status::Ok
        } else {
            Status::Dependency
        };
        assert_eq!(queue.done(value), expected, "{i}");
    }
}

#[test]
fn a_queue_waits_for_several() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b, c) = (context.queue(), context.queue(), context.queue());
    c.ok(c.wait_for_all(&[(a.handle, 0)]));
    for round in 0..200 {
        let waits = c.wait_for_all(&[(a.handle, 2 * round + 2), (b.handle, round + 1)]);
        let (first, second) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let submit = |queue: &Queue<'_>| {
            let packets = if std::ptr::eq(queue, &a) { 2 } else { 1 };
            (0..packets).for_each(|_| queue.ok(queue.nop()));
        };
        submit(first);
        assert_eq!(c.timeline(), waits - 1);
        submit(second);
        c.ok(waits);
    }
}

#[test]
fn a_wait_for_several_fails_with_one() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, b, c) = (context.queue(), context.queue(), context.queue());
    let waits = c.wait_for_all(&[(a.handle, 1), (b.handle, 1)]);
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(c.timeline(), waits - 1);
    // The other one is still awaited.
    assert_eq!(b.done(b.submit(0x0eee, &[])), Status::UnknownOpcode);
    assert_eq!(c.done(waits), Status::Dependency);
}

#[test]
fn damaged_waits_for_several() {
    let chip = Chip::new();
    let context = chip.context();
    let (a, queue) = (context.queue(), context.queue());
    let reject = |body: &[u8], status| {
        assert_eq!(queue.done(queue.submit(op::WAIT_ALL, body)), status);
        queue.record(true);
    };
    reject(&[0; 8], Status::InvalidArgument);
    reject(&[1, 0, 0, 0, 1, 0, 0, 0], Status::ReservedNotZero);
    let many = vec![(a.handle, 0); packet::MAX_WAITS + 1];
    assert_eq!(
        queue.done(queue.wait_for_all(&many)),
        Status::InvalidArgument
    );
    queue.record(true);
    assert_eq!(
        queue.done(queue.wait_for_all(&[(a.handle, 0), (0x123, 0)])),
        Status::BadHandle
    );
    queue.record(true);
    let own = [(a.handle, 0), (queue.handle, u64::MAX)];
    assert_eq!(
        queue.done(queue.wait_for_all(&own)),
        Status::InvalidArgument
    );
    queue.record(true);
    queue.ok(queue.wait_for_all(&many[1..]));
}
