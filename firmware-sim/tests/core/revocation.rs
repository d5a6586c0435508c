//! The host takes things back while commands hang on them: it gets them soon, and nothing is written afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmlu_abi::rpc::{self, Fault, Function, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{queue, Status};

use crate::harness::*;

/// A queue's host memory.
fn words(queue: &Queue<'_>) -> [(u64, usize); 3] {
    let create = &queue.create;
    [
        (create.ring, create.ring_units as usize * 64),
        (create.status, queue::STATUS_SIZE),
        (create.arm, 8),
    ]
}

#[test]
fn destroying_a_queue_ends_what_hangs() {
    let chip = Chip::new();
    let context = chip.context();
    let (queue, other) = (context.queue(), context.queue());
    let hung = queue.hang();
    let blocked = other.wait_for(queue.handle, hung);
    within(SOON, "destroying a queue", || queue.destroy().unwrap());
    assert_eq!(other.done(blocked), Status::Dependency);
    chip.fill_host(queue.create.status, 4096, 0x77);
    queue.arm().store(0, Ordering::SeqCst);
    stays(&chip, "a destroyed queue", &words(&queue));
    let telemetry = chip.telemetry();
    assert_eq!((telemetry.queues, telemetry.packets_failed), (1, 2));
}

#[test]
fn closing_a_context_ends_what_hangs() {
    let chip = Chip::new();
    let context = chip.context();
    let hung: Vec<Queue<'_>> = (0..8).map(|_| context.queue()).collect();
    hung.iter().for_each(|q| {
        q.hang();
    });
    let (a, _) = context.alloc(1 << 20);
    let queue = context.queue();
    let waits = queue.wait_for(hung[0].handle, 1);
    queue.fill(a, 1 << 20, 1);
    assert!(queue.timeline() < waits);
    within(SOON, "closing a context", || context.destroy().unwrap());
    let ranges: Vec<(u64, usize)> = hung.iter().chain([&queue]).flat_map(words).collect();
    ranges
        .iter()
        .for_each(|(at, length)| chip.fill_host(*at, *length, 0x55));
    stays(&chip, "a closed context", &ranges);
    let telemetry = chip.telemetry();
    assert_eq!(
        (telemetry.contexts, telemetry.queues, telemetry.memory_used),
        (0, 0, 0)
    );
}

/// A copy that never ends by itself: an injected hang with its operands held cannot be had, so a large one runs all the time.
fn copying(chip: &Chip, queue: &Queue<'_>, dst: u64, src: u64, length: u64, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) && !chip.firmware.is_gone() {
        if queue.submitted() - queue.timeline() < 8 {
            queue.copy(dst, src, length);
        }
        if queue.error() != Status::Ok && queue.try_record(true).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[test]
fn memory_is_freed_under_a_running_copy() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let length = 16 << 20;
    let (src, _) = context.alloc(length);
    let dma = chip.pages(length);
    let stop = AtomicBool::new(false);
    let first = context.map(dma, length, ACCESS_READ | ACCESS_WRITE);
    let map = rpc::HostMap {
        va: first,
        length,
        offset: 0,
        count: 1,
        access: ACCESS_READ | ACCESS_WRITE,
        flags: 0,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copying(&chip, &queue, first, src, length, &stop));
        let _stop = Stop(&stop);
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(3));
            if round % 2 == 0 {
                within(SOON, "unmapping", || context.unmap(first).unwrap());
            } else {
                chip.take(dma, length);
                within(SOON, "revoking", || chip.firmware.revoke_host(dma, length));
                assert_eq!(context.unmap(first), Err(Status::BadHandle));
                chip.give_back();
            }
            chip.fill_host(dma, length as usize, 0x66);
            stays(&chip, "unmapped memory", &[(dma, length as usize)]);
            context.map_pieces(map, &[(dma, length)]).unwrap();
        }
        std::thread::sleep(Duration::from_millis(3));
        within(SOON, "freeing", || context.free(src).unwrap());
        stop.store(true, Ordering::SeqCst);
    });
    queue.done(queue.submitted());
    assert_eq!(chip.telemetry().memory_used, 0);
}

/// The host takes a queue's ring, status page or arm word: the queue is gone, nothing of it is touched.
#[test]
fn the_host_takes_a_queue_s_memory() {
    let chip = Chip::new();
    let context = chip.context();
    for part in 0..3 {
        for hang in [false, true] {
            let queue = context.queue();
            if hang {
                queue.hang();
            } else {
                queue.ok(queue.nop());
            }
            let (address, _) = words(&queue)[part];
            chip.take(address, 8);
            within(SOON, "revoking", || chip.firmware.revoke_host(address, 8));
            chip.fill_host(queue.create.status, 4096, 0x99);
            queue.doorbell().store(1 << 20, Ordering::SeqCst);
            queue.kick();
            stays(&chip, "a revoked queue", &words(&queue));
            assert_eq!(queue.destroy(), Err(Status::BadHandle));
        }
    }
    let queue = context.queue();
    queue.ok(queue.nop());
    // What is next to it is not meant.
    chip.firmware
        .revoke_host(queue.create.ring + 1024 * 64, PAGE);
    chip.firmware.revoke_host(0, 0);
    chip.firmware.revoke_host(u64::MAX, u64::MAX);
    queue.ok(queue.nop());
}

/// A mapping that is half sent when the host takes a piece of it back does not come to be.
#[test]
fn a_pending_mapping_is_revoked() {
    let chip = Chip::new();
    let context = chip.context();
    let dma = chip.pages(2 * PAGE);
    let part = |offset| rpc::HostMap {
        va: VA,
        length: 2 * PAGE,
        offset,
        count: 1,
        access: ACCESS_WRITE,
        flags: 0,
    };
    context.map_pieces(part(0), &[(dma, PAGE)]).unwrap();
    chip.take(dma, PAGE);
    chip.firmware.revoke_host(dma, PAGE);
    assert_eq!(
        context.map_pieces(part(PAGE), &[(dma + PAGE, PAGE)]),
        Err(Status::BadState)
    );
    let queue = context.queue();
    assert_eq!(
        queue.done(queue.fill(VA, 2 * PAGE, 1)),
        Status::OperandFault
    );
}

#[test]
fn rings_pages_and_notifiers_are_revoked() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let ring = chip.event_ring(0, 64);
    let page = chip.pages(PAGE);
    chip.call::<_, ()>(
        Function::TelemetryPage,
        0,
        &rpc::TelemetryPage { address: page },
    )
    .unwrap();
    let pool = chip.pages(PAGE);
    let va = context.map(pool, PAGE, ACCESS_WRITE);
    context
        .call::<_, ()>(
            Function::NotifierPool,
            &rpc::NotifierPool {
                va,
                count: 1,
                reserved: 0,
            },
        )
        .unwrap();
    queue.ok(queue.notify(0, 1));
    assert_eq!(chip.host_bytes(pool, 1), [1]);
    for address in [ring.address, page, pool] {
        chip.take(address, PAGE);
        within(SOON, "revoking", || {
            chip.firmware.revoke_host(address, PAGE)
        });
    }
    let ranges = [(ring.address, 4096), (page, 4096), (pool, 4096)];
    ranges
        .iter()
        .for_each(|(at, length)| chip.fill_host(*at, *length, 0x31));
    queue.arm().store(2, Ordering::SeqCst);
    queue.ok(queue.nop());
    assert_eq!(queue.done(queue.notify(0, 1)), Status::BadHandle);
    chip.telemetry();
    stays(&chip, "revoked pages", &ranges);
    assert_eq!(chip.host_bytes(page, 4096), [0x31; 4096]);
}

#[test]
fn shutdown_ends_everything() {
    let chip = Chip::new();
    let ring = chip.event_ring(0, 64);
    let page = chip.pages(PAGE);
    chip.call::<_, ()>(
        Function::TelemetryPage,
        0,
        &rpc::TelemetryPage { address: page },
    )
    .unwrap();
    let contexts = [chip.context(), chip.context()];
    let queues: Vec<Queue<'_>> = (0..6).map(|i| contexts[i % 2].queue()).collect();
    queues[..4].iter().for_each(|q| {
        q.hang();
    });
    (0..500).for_each(|_| {
        queues[4].nop();
    });
    within(SOON, "shutting down", || chip.firmware.shutdown());
    let interrupts = chip.host.interrupts[0].load(Ordering::SeqCst);
    let mut ranges: Vec<(u64, usize)> = queues.iter().flat_map(words).collect();
    ranges.extend([(ring.address, 4096), (page, 4096)]);
    ranges
        .iter()
        .for_each(|(at, length)| chip.fill_host(*at, *length, 0x12));
    queues.iter().for_each(|q| q.kick());
    // Messages are answered, and lead to nothing.
    for (function, body) in [
        (
            Function::TelemetryPage,
            vmlu_abi::Wire::as_bytes(&rpc::TelemetryPage { address: page }).to_vec(),
        ),
        (
            Function::EventRing,
            vmlu_abi::Wire::as_bytes(&rpc::EventRing {
                address: ring.address,
                entries: 16,
                vector: 0,
                flags: 0,
            })
            .to_vec(),
        ),
        (
            Function::ContextCreate,
            vec![0; size_of::<rpc::ContextCreate>()],
        ),
    ] {
        assert_eq!(
            chip.raw(function, 0, &body),
            Err(Status::DeviceReset),
            "{function:?}"
        );
    }
    chip.firmware.post_event(
        0,
        vmlu_abi::event::Event {
            kind: 4,
            ..vmlu_abi::Wire::zeroed()
        },
    );
    chip.firmware.revoke_host(BASE, 1 << 20);
    stays(&chip, "a chip that is shut down", &ranges);
    assert_eq!(chip.host.interrupts[0].load(Ordering::SeqCst), interrupts);
    chip.firmware.shutdown();
}

/// Queues come and go as fast as they can while their producer works: what belongs to a queue that was destroyed is never written.
#[test]
fn destroyed_under_way() {
    let chip = Chip::new();
    let context = chip.context();
    let create = context.queue_memory(128);
    for round in 0..1500_u64 {
        let queue = context.queue_of(create);
        for _ in 0..round % 7 {
            queue.nop();
        }
        queue.arm().store(1, Ordering::SeqCst);
        if round % 5 == 0 {
            queue.submit(0xffff, &[]);
        }
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_micros(round % 600));
        }
        queue.destroy().unwrap();
        let mark = 0xabcd_0000 + round;
        let words = [0, 64, 128, 192].map(|offset| chip.u64_at(create.status + offset));
        words.iter().for_each(|w| w.store(mark, Ordering::SeqCst));
        queue.kick();
        let _ = queue.try_record(true);
        std::thread::yield_now();
        assert!(
            words.iter().all(|w| w.load(Ordering::SeqCst) == mark),
            "round {round}"
        );
    }
}

/// A card that is pulled out stops at once, without leave.
#[test]
fn all_ones() {
    let chip = Chip::new();
    let context = chip.context();
    let (hung, busy) = (context.queue(), context.queue());
    let page = chip.pages(PAGE);
    chip.call::<_, ()>(
        Function::TelemetryPage,
        0,
        &rpc::TelemetryPage { address: page },
    )
    .unwrap();
    hung.hang();
    (0..300).for_each(|_| {
        busy.nop();
    });
    within(SOON, "pulling out", || {
        chip.set_fault(chip.inject(Fault::AllOnes, 0))
    });
    assert!(chip.firmware.is_gone());
    let ranges: Vec<(u64, usize)> = words(&hung)
        .into_iter()
        .chain(words(&busy))
        .chain([(page, 4096)])
        .collect();
    ranges
        .iter()
        .for_each(|(at, length)| chip.fill_host(*at, *length, 0));
    busy.doorbell().store(400, Ordering::SeqCst);
    busy.kick();
    assert_eq!(chip.raw(Function::Ping, 0, &[]), Err(Status::DeviceLost));
    assert_eq!(busy.destroy(), Err(Status::DeviceLost));
    stays(&chip, "a chip that is gone", &ranges);
    within(SOON, "shutting down", || chip.firmware.shutdown());
}

/// A delayed command is cancelled too.
#[test]
fn a_delay_can_be_cancelled() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    queue.stall(Fault::Delay, 3_600_000_000);
    within(SOON, "destroying a delayed queue", || {
        queue.destroy().unwrap()
    });
    assert_eq!(chip.telemetry().packets_failed, 1);
}
