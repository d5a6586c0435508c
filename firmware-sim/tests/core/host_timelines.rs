//! Timelines that the host advances.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu_abi::event::EventKind;
use vmlu_abi::rpc::{self, Function};
use vmlu_abi::{queue, Status};

use crate::harness::*;

#[test]
fn the_doorbell_is_the_timeline() {
    let chip = Chip::new();
    let context = chip.context();
    let (host, queue) = (context.host_timeline(), context.queue());
    let waits = queue.wait_for(host.handle, 5);
    for value in [1, 4] {
        host.ring(value);
        host.ok(value);
        assert_eq!((host.timeline(), host.consumed()), (value, value));
    }
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(queue.timeline(), waits - 1);
    // Any greater value.
    host.ring(1 << 60);
    queue.ok(waits);
    queue.ok(queue.wait_for(host.handle, 1 << 60));
    host.sleeps();
    host.ring(u64::MAX);
    host.ok(u64::MAX);
    queue.ok(queue.wait_for(host.handle, u64::MAX));
    assert_eq!(chip.telemetry().packets, 3);
}

/// Each way of asking for one that is not right.
#[test]
fn a_host_timeline_has_no_ring() {
    let chip = Chip::new();
    let context = chip.context();
    let good = context.host_timeline_memory();
    let ring = chip.pages(PAGE * 2);
    for (create, status) in [
        (rpc::QueueCreate { ring, ..good }, Status::InvalidArgument),
        (
            rpc::QueueCreate {
                ring_units: 128,
                ..good
            },
            Status::InvalidArgument,
        ),
        (
            rpc::QueueCreate {
                ring,
                ring_units: 128,
                ..good
            },
            Status::InvalidArgument,
        ),
        (
            rpc::QueueCreate { flags: 0, ..good },
            Status::InvalidArgument,
        ),
        (
            rpc::QueueCreate { flags: 3, ..good },
            Status::ReservedNotZero,
        ),
        (
            rpc::QueueCreate {
                priority: 8,
                ..good
            },
            Status::InvalidArgument,
        ),
        (
            rpc::QueueCreate { weight: 0, ..good },
            Status::InvalidArgument,
        ),
        (rpc::QueueCreate { status: 0, ..good }, Status::AddressFault),
        (rpc::QueueCreate { arm: 0, ..good }, Status::AddressFault),
        (
            rpc::QueueCreate {
                doorbell: 8,
                ..good
            },
            Status::AddressFault,
        ),
    ] {
        let answer: Answer<rpc::QueueCreated> = context.call(Function::QueueCreate, &create);
        assert_eq!(answer, Err(status), "{create:?}");
    }
    context.host_timeline().destroy().unwrap();
}

#[test]
fn a_host_timeline_does_not_go_back() {
    let chip = Chip::new();
    let context = chip.context();
    let (host, queue) = (context.host_timeline(), context.queue());
    host.ring(7);
    host.ok(7);
    let waits = queue.wait_for(host.handle, 9);
    host.ring(6);
    until("the error", || host.error() == Status::FramingError);
    assert_eq!(queue.done(waits), Status::Dependency);
    queue.record(true);
    queue.ok(queue.wait_for(host.handle, 7));
    assert_eq!(context.read(host.handle), Ok((7, Status::FramingError)));
    assert!(rule(&host.record(true)).contains("from 7 to 6"));
    // It is stopped for good.
    host.ring(100);
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!((host.timeline(), host.error()), (7, Status::FramingError));
    host.destroy().unwrap();
}

/// With the doorbell in memory of the host.
#[test]
fn a_doorbell_of_the_host() {
    let chip = Chip::new();
    let context = chip.context();
    let doorbell = chip.pages(PAGE);
    let host = context.queue_of(rpc::QueueCreate {
        doorbell,
        ..context.host_timeline_memory()
    });
    let queue = context.queue();
    let waits = queue.wait_for(host.handle, 3);
    chip.u64_at(doorbell).store(3, Ordering::SeqCst);
    host.kick();
    queue.ok(waits);
    chip.take(doorbell, PAGE);
    let waits = queue.wait_for(host.handle, 4);
    std::thread::sleep(Duration::from_millis(2));
    chip.firmware.revoke_host(doorbell, PAGE);
    let status = queue.done(waits);
    assert!(
        matches!(status, Status::Dependency | Status::BadHandle),
        "{status:?}"
    );
}

#[test]
fn an_event_when_it_is_armed() {
    let chip = Chip::new();
    let events = chip.event_ring(2, 64);
    let context = chip.context();
    let host = context.queue_of(rpc::QueueCreate {
        vector: 2,
        ..context.host_timeline_memory()
    });
    host.arm().store(10, Ordering::SeqCst);
    host.ring(9);
    host.ok(9);
    assert_eq!(events.produced(), 0);
    host.ring(12);
    until("the event", || events.produced() == 1);
    let event = events.entry(0);
    assert_eq!(
        (event.kind, event.object, event.value),
        (EventKind::Timeline as u32, host.index, 12)
    );
    host.arm().store(queue::ARM_NONE, Ordering::SeqCst);
}

#[test]
fn its_end_ends_the_waits() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    for round in 0..20 {
        let host = context.host_timeline();
        let waits = queue.wait_for(host.handle, 2);
        host.ring(1);
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        host.destroy().unwrap();
        let status = queue.done(waits);
        assert!(
            matches!(status, Status::Dependency | Status::BadHandle),
            "{status:?}"
        );
        queue.record(true);
    }
}

/// One whose value changes all the time takes no more than its turn.
#[test]
fn a_busy_host_timeline_starves_nobody() {
    let chip = Chip::new();
    let context = chip.context();
    let quiet = context.queue();
    let loud: Vec<Queue<'_>> = (0..3).map(|_| context.host_timeline()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 0;
            while !stop.load(Ordering::SeqCst) {
                value += 1;
                loud.iter().for_each(|q| q.ring(value));
            }
        });
        let _stop = Stop(&stop);
        let start = Instant::now();
        let mut worst = Duration::ZERO;
        while start.elapsed() < Duration::from_millis(300) {
            let begin = Instant::now();
            quiet.ok(quiet.nop());
            worst = worst.max(begin.elapsed());
        }
        assert!(worst < SOON, "{worst:?} for one command");
    });
    assert!(loud.iter().all(|q| q.timeline() > 100));
}

/// No value is lost, and none is seen twice, however sleep and advance meet.
#[test]
fn every_advance_arrives() {
    let chip = Chip::new();
    let context = chip.context();
    let (host, queue) = (context.host_timeline(), context.queue());
    for round in 1..=600_u64 {
        let waits = queue.wait_for(host.handle, round * 3);
        if round % 3 == 0 {
            let pause = Duration::from_micros(470 + round % 60);
            let start = Instant::now();
            while start.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        host.ring(round * 3);
        queue.ok(waits);
    }
}
