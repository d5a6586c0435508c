//! Contexts reach nothing of each other.

use vmlu_abi::rpc::{self, Function, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::status::ErrorRecord;
use vmlu_abi::{Status, Wire};

use crate::harness::*;

#[test]
fn foreign_handles_and_addresses() {
    let chip = Chip::new();
    let (mine, foreign) = (chip.context_of(1), chip.context_of(2));
    let (queue, theirs) = (mine.queue(), foreign.queue());
    let (a, _) = mine.alloc(1 << 16);
    theirs.ok(theirs.nop());

    let queue_error = rpc::QueueError {
        queue: theirs.handle,
        clear: 1,
        reserved: 0,
    };
    assert_eq!(
        mine.call::<_, ErrorRecord>(Function::QueueError, &queue_error),
        Err(Status::BadHandle)
    );
    let destroy = rpc::QueueDestroy {
        queue: theirs.handle,
    };
    assert_eq!(
        mine.call::<_, ()>(Function::QueueDestroy, &destroy),
        Err(Status::BadHandle)
    );
    assert_eq!(
        queue.done(queue.wait_for(theirs.handle, 1)),
        Status::BadHandle
    );
    queue.record(true);

    // An address of the other, which is none of this one's.
    let va = VA + (1 << 40);
    foreign.alloc_at(va, 1 << 16).unwrap();
    for value in [
        queue.copy(a, va, 16),
        queue.copy(va, a, 16),
        queue.fill(va, 16, 1),
    ] {
        assert_eq!(queue.done(value), Status::OperandFault);
    }
    let record = queue.record(true);
    assert_ne!(record.nearest, va, "the record tells of the other's memory");
    assert_eq!(mine.free(va), Err(Status::BadHandle));
    let dma = chip.pages(PAGE);
    let map = rpc::HostMap {
        va,
        length: PAGE,
        offset: 0,
        count: 1,
        access: ACCESS_READ | ACCESS_WRITE,
        flags: 0,
    };
    foreign
        .map_pieces(
            rpc::HostMap {
                va: va + (1 << 20),
                ..map
            },
            &[(dma, PAGE)],
        )
        .unwrap();
    assert_eq!(mine.unmap(va + (1 << 20)), Err(Status::BadHandle));
    let pool = rpc::NotifierPool {
        va: va + (1 << 20),
        count: 1,
        reserved: 0,
    };
    assert_eq!(
        mine.call::<_, ()>(Function::NotifierPool, &pool),
        Err(Status::AddressFault)
    );
    // The same address may mean something else to each.
    mine.alloc_at(va, 1 << 16).unwrap();
    queue.ok(queue.fill(va, 16, 1));
    theirs.ok(theirs.nop());

    // A kick names a context, not a queue.
    theirs.sleeps();
    let end = theirs.write(&packet_bytes(1, &[]));
    theirs
        .doorbell()
        .store(end, std::sync::atomic::Ordering::SeqCst);
    for index in [mine.index, 1000, 1023, u32::MAX] {
        chip.firmware.kick(index);
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(theirs.timeline(), 2);
    chip.firmware.kick(foreign.index);
    theirs.ok(3);
}

#[test]
fn stale_handles() {
    let chip = Chip::new();
    let context = chip.context();
    let (old, other) = (context.queue(), context.queue());
    old.destroy().unwrap();
    let new = context.queue();
    assert!(new.index == old.index && new.handle != old.handle);
    assert_eq!(old.try_record(true), Err(Status::BadHandle));
    assert_eq!(old.destroy(), Err(Status::BadHandle));
    assert_eq!(other.done(other.wait_for(old.handle, 0)), Status::BadHandle);
    new.ok(new.nop());

    let gone = chip.context();
    let (index, lost) = (gone.index, gone.queue());
    gone.destroy().unwrap();
    let next = chip.context();
    assert!(next.index == index && next.handle != gone.handle);
    assert_eq!(gone.alloc_at(VA, 4096), Err(Status::BadHandle));
    assert_eq!(gone.destroy(), Err(Status::BadHandle));
    assert_eq!(lost.destroy(), Err(Status::BadHandle));
}

/// Device memory that moves to another context is zero; what stays with one need not be.
#[test]
fn memory_is_cleared_between_contexts() {
    let chip = Chip::new();
    let length = 32 << 20;
    for round in 0..4 {
        let context = chip.context_of(round);
        let queue = context.queue();
        for _ in 0..2 {
            let (a, offset) = context.alloc(length);
            let mut bytes = vec![1; length as usize];
            chip.memory
                .bytes(offset, length)
                .unwrap()
                .copy_to(&mut bytes);
            let mine = 0xa0 + round as u8;
            assert!(bytes.iter().all(|b| *b == 0 || *b == mine), "round {round}");
            queue.ok(queue.fill(a, length, mine));
            context.free(a).unwrap();
        }
        context.destroy().unwrap();
    }
    let context = chip.context();
    let (_, offset) = context.alloc(DEVICE);
    let mut bytes = vec![1; DEVICE as usize];
    chip.memory
        .bytes(offset, DEVICE)
        .unwrap()
        .copy_to(&mut bytes);
    assert!(bytes.iter().all(|b| *b == 0));
}

/// Threads of a process send messages at the same time.
#[test]
fn messages_at_the_same_time() {
    let chip = Chip::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let chip = &chip;
            scope.spawn(move || {
                for round in 0..60 {
                    let context = chip.context_of(thread as u32);
                    let queue = context.queue_of(queue_memory(chip, thread));
                    let (a, _) = context.alloc(1 << 20);
                    queue.fill(a, 1 << 20, 1);
                    if round % 3 == 0 {
                        queue.ok(queue.submitted());
                        context.free(a).unwrap();
                        queue.destroy().unwrap();
                    }
                    context.destroy().unwrap();
                }
            });
        }
        // All fight for one context.
        let shared = chip.context();
        let handle = shared.handle;
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let chip = &chip;
                scope.spawn(move || {
                    let mut done = [0; 3];
                    loop {
                        let alloc = rpc::MemoryAlloc {
                            va: VA,
                            length: 1 << 20,
                            flags: 0,
                        };
                        match chip.raw(Function::MemoryAlloc, handle, alloc.as_bytes()) {
                            Ok(_) => done[0] += 1,
                            Err(Status::AddressInUse) => done[1] += 1,
                            Err(Status::BadHandle | Status::ContextStopped) => return done,
                            Err(other) => panic!("{other:?}"),
                        }
                        match chip.raw(
                            Function::MemoryFree,
                            handle,
                            rpc::MemoryFree { va: VA }.as_bytes(),
                        ) {
                            Ok(_) => done[2] += 1,
                            Err(Status::BadHandle) => {}
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(50));
        shared.destroy().unwrap();
        for thread in threads {
            assert!(thread.join().unwrap()[0] > 0);
        }
    });
    let telemetry = chip.telemetry();
    assert_eq!(
        (telemetry.contexts, telemetry.queues, telemetry.memory_used),
        (0, 0, 0)
    );
}

/// Memory for a queue at a place of its own for each thread: the arena has no end of it otherwise.
fn queue_memory(chip: &Chip, thread: u64) -> rpc::QueueCreate {
    let base = BASE + (32 << 20) + thread * (1 << 20);
    let arm = base + 0x11000;
    chip.u64_at(arm)
        .store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    rpc::QueueCreate {
        ring: base,
        status: base + 0x10000,
        arm,
        ring_units: 1024,
        priority: 3,
        weight: 1,
        vector: 0,
        flags: 0,
        doorbell: 0,
    }
}
