//! Graphs that run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmlu_abi::graph::MAX_PARAMETERS;
use vmlu_abi::notifier::Notifier;
use vmlu_abi::packet::{self, op, FLAG_INDIRECT};
use vmlu_abi::rpc::{self, Fault, Function, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{Status, Wire};

use super::builder::*;
use crate::harness::*;

fn device(chip: &Chip, offset: u64, length: u64) -> Vec<u8> {
    let mut to = vec![0; length as usize];
    assert!(chip.memory.bytes(offset, length).unwrap().copy_to(&mut to));
    to
}

#[test]
fn a_graph_is_one_step_of_many_commands() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, offset) = context.alloc(1 << 16);
    let mut graph = Builder::default();
    graph.fill(a, 64, 3);
    let copy = packet::Copy {
        dst: a + 100,
        src: a,
        length: 50,
    };
    graph.packet(op::COPY, copy.as_bytes());
    let write = packet::WriteInline {
        dst: a + 10,
        length: 200,
        reserved: 0,
    };
    graph.packet(op::WRITE, &[write.as_bytes(), &[9; 200]].concat());
    let mut graph = graph.nops(700);
    graph.fill(a + 40, 4, 5);
    let handle = shelf.create(&graph.image()).unwrap();
    let mut expected = vec![0; 300];
    expected[..64].fill(3);
    expected[100..150].fill(3);
    expected[10..210].fill(9);
    expected[40..44].fill(5);
    // The image was copied.
    shelf.put(&[0xff; 4096]);
    for round in 1..=3 {
        queue.ok(queue.fill(a, 300, 0));
        let value = launch(&queue, handle, &[]);
        assert_eq!(value, 2 * round);
        queue.ok(value);
        assert_eq!(device(&chip, offset, 300), expected);
    }
    let telemetry = chip.telemetry();
    assert_eq!((telemetry.packets, telemetry.packets_failed), (6, 0));
    destroy(&context, handle).unwrap();
    assert_eq!(queue.done(launch(&queue, handle, &[])), Status::BadHandle);
    queue.record(true);
    // One without commands.
    let empty = shelf.create(&Builder::default().image()).unwrap();
    assert_ne!(empty, handle, "a handle is not used twice");
    queue.ok(launch(&queue, empty, &[]));
}

#[test]
fn parameters_go_where_they_belong() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, offset) = context.alloc(1 << 16);
    let mut graph = Builder::default();
    // dst = p0 + 16, length = p1, pattern (low half) = p2 - 1; the other fill has none; dst = p0 of the last.
    let body = graph.fill(0, 0, 0);
    graph.place(body, 8, 0, 16);
    graph.place(body + 8, 8, 1, 0);
    graph.place(body + 16, 4, 2, u64::MAX);
    graph.fill(a, 1, 0xee);
    let body = graph.fill(1, 2, 0xdd);
    graph.place(body, 8, 0, 0_u64.wrapping_sub(8));
    let handle = shelf.create(&graph.image()).unwrap();
    for (at, length, byte) in [(100_u64, 8_u64, 1_u8), (500, 3, 0xff), (100, 20, 7)] {
        queue.ok(queue.fill(a, 600, 0));
        queue.ok(launch(
            &queue,
            handle,
            &[a + at, length, u64::from(byte) + 1],
        ));
        let mut expected = vec![0; 600];
        expected[at as usize + 16..][..length as usize].fill(byte);
        expected[0] = 0xee;
        expected[at as usize - 8..][..2].fill(0xdd);
        assert_eq!(device(&chip, offset, 600), expected);
    }
    let before = device(&chip, offset, 600);
    // One that does not fit 4 bytes: before anything runs.
    for parameters in [
        &[a, 8, 1 << 32 | 7][..],
        &[a, 8, (1 << 32) + 1],
        &[a, 8, 0],
        &[a, 8],
        &[a, 8, 1, 1],
        &[],
    ] {
        assert_eq!(
            queue.done(launch(&queue, handle, parameters)),
            Status::InvalidArgument,
            "{parameters:?}"
        );
        assert_eq!(queue.record(true).opcode, op::GRAPH_LAUNCH);
        assert_eq!(device(&chip, offset, 600), before);
    }
}

#[test]
fn a_launch_is_checked() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let most = Builder {
        parameters: MAX_PARAMETERS,
        ..Builder::default().nops(3)
    };
    let handle = shelf.create(&most.image()).unwrap();
    let parameters = vec![7; MAX_PARAMETERS as usize];
    queue.ok(launch(&queue, handle, &parameters));
    let refused = |body: &[u8], status: Status| {
        assert_eq!(queue.done(queue.submit(op::GRAPH_LAUNCH, body)), status);
        queue.record(true);
    };
    let good = launch_body(handle, &parameters);
    let changed = |at: usize, value: u32| {
        let mut body = good.clone();
        body[at..at + 4].copy_from_slice(&value.to_le_bytes());
        body
    };
    refused(&changed(0, handle as u32 ^ 1), Status::BadHandle);
    refused(&changed(4, (handle >> 32) as u32 ^ 1), Status::BadHandle);
    refused(&changed(12, 1), Status::ReservedNotZero);
    refused(&changed(8, 499), Status::ReservedNotZero);
    refused(&changed(8, 501), Status::TruncatedBody);
    refused(&changed(8, u32::MAX), Status::TruncatedBody);
    refused(&good[..good.len() - 100], Status::TruncatedBody);
    refused(&good[..8], Status::InvalidArgument);
    // Another context's is nobody's here.
    let other = chip.context_of(2);
    let stranger = other.queue();
    assert_eq!(
        stranger.done(launch(&stranger, handle, &parameters)),
        Status::BadHandle
    );
    // Indirect: the body is exactly what the number of parameters says.
    let (va, offset) = context.alloc(1 << 16);
    chip.memory
        .bytes(offset, good.len() as u64)
        .unwrap()
        .copy_from(&good);
    for (length, status) in [
        (good.len() as u64, Status::Ok),
        (good.len() as u64 + 8, Status::BadLength),
        (good.len() as u64 - 1, Status::BadLength),
        (15, Status::TruncatedBody),
        (0, Status::TruncatedBody),
    ] {
        let place = packet::Indirect {
            address: va,
            length,
        };
        let mut bytes = packet_bytes(op::GRAPH_LAUNCH, place.as_bytes());
        bytes[4] |= FLAG_INDIRECT as u8;
        assert_eq!(queue.done(queue.submit_bytes(&bytes)), status, "{length}");
        queue.record(true);
    }
    context.destroy().unwrap();
    assert_eq!(
        stranger.try_record(false).map(|r| r.status),
        Ok(Status::BadHandle.raw())
    );
}

/// Notifiers inside tell the device time of what ran between them; the whole takes the sum.
#[test]
fn notifiers_and_device_time() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let pool = chip.pages(PAGE);
    let va = context.map(pool, PAGE, ACCESS_READ | ACCESS_WRITE);
    let set = rpc::NotifierPool {
        va,
        count: 16,
        reserved: 0,
    };
    context.call::<_, ()>(Function::NotifierPool, &set).unwrap();
    let mut graph = Builder::default();
    graph.notify(0, 1);
    let mut graph = graph.nops(300);
    graph.notify(1, 1);
    let body = graph.notify(0, 0);
    graph.place(body, 4, 0, 0);
    graph.place(body + 4, 4, 1, 0);
    let handle = shelf.create(&graph.image()).unwrap();
    let entry = |at: u64| Notifier::read_from(&chip.host_bytes(pool + 32 * at, 32)).unwrap();
    for round in 1..4 {
        queue.ok(launch(&queue, handle, &[3, round]));
        queue.ok(queue.notify(5, 1));
        let (start, end, named, after) = (entry(0), entry(1), entry(3), entry(5));
        assert_eq!((start.value, end.value), (1, 1));
        assert_eq!(named.value, round as u32);
        let took = 300 * vmlu_abi::model::MLU370_X8.launch_ns;
        assert_eq!(end.busy_ns - start.busy_ns, took);
        assert_eq!(end.device_ns - start.device_ns, took);
        assert_eq!(after.busy_ns, end.busy_ns);
        assert_eq!(after.busy_ns, took * round);
    }
    // One that is not there.
    assert_eq!(
        queue.done(launch(&queue, handle, &[16, 1])),
        Status::BadHandle
    );
}

#[test]
fn an_error_ends_the_graph() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, offset) = context.alloc(1 << 16);
    let mut graph = Builder::default();
    graph.fill(a, 8, 1);
    let mut graph = graph.nops(500);
    let copy = packet::Copy {
        dst: a + 16,
        src: 0,
        length: 8,
    };
    let body = graph.packet(op::COPY, copy.as_bytes());
    graph.place(body + 8, 8, 0, 0);
    graph.fill(a + 32, 8, 3);
    let handle = shelf.create(&graph.image()).unwrap();
    queue.ok(queue.nop());
    let position = queue.consumed();
    let value = launch(&queue, handle, &[0xdead_0000]);
    let after = queue.fill(a + 64, 8, 4);
    assert_eq!(queue.done(after), Status::OperandFault);
    let record = queue.record(true);
    assert_eq!(
        (record.opcode, record.correlation, record.operand),
        (op::COPY, 0x1000 + 501, 1)
    );
    assert_eq!((record.value, record.offset), (value, position));
    assert_eq!(record.address, 0xdead_0000);
    let text = rule(&record);
    assert!(text.starts_with("command 501: "), "{text}");
    let mut expected = vec![0; 80];
    expected[..8].fill(1);
    assert_eq!(device(&chip, offset, 80), expected, "nothing behind it ran");
    // Waits for it end as for any packet that failed.
    let other = context.queue();
    assert_eq!(
        other.done(other.wait_for(queue.handle, value)),
        Status::Dependency
    );
    // With a good parameter it runs.
    queue.ok(launch(&queue, handle, &[a]));
    expected[16..24].fill(1);
    expected[32..40].fill(3);
    assert_eq!(device(&chip, offset, 80), expected);
    let telemetry = chip.telemetry();
    assert_eq!((telemetry.packets, telemetry.packets_failed), (2, 3));
}

/// Faults hit the commands inside, each of them a candidate.
#[test]
fn faults_inside() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let handle = shelf.create(&Builder::default().nops(600).image()).unwrap();
    for (fault, status) in [
        (Fault::Fail, Status::Injected),
        (Fault::Panic, Status::KernelPanic),
        (Fault::Ecc, Status::EccUncorrected),
    ] {
        chip.set_fault(rpc::Inject {
            skip: 333,
            opcode: u32::from(op::NOP),
            ..chip.inject(fault, 0)
        });
        assert_eq!(queue.done(launch(&queue, handle, &[])), status);
        let record = queue.record(true);
        assert_eq!((record.opcode, record.correlation), (op::NOP, 0x1000 + 333));
        assert!(rule(&record).starts_with("command 333: "));
    }
    // The watchdog counts each command by itself.
    chip.set_fault(rpc::Inject {
        skip: 10,
        opcode: u32::from(op::NOP),
        ..chip.inject(Fault::Hang, 5)
    });
    assert_eq!(queue.done(launch(&queue, handle, &[])), Status::Watchdog);
    assert!(rule(&queue.record(true)).starts_with("command 10: "));
    queue.ok(launch(&queue, handle, &[]));
}

/// A launch that has begun runs what it began with, whatever happens to the graph.
#[test]
fn update_and_destroy_while_it_runs() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, offset) = context.alloc(1 << 16);
    let image = |byte: u8, nops: u32| {
        let mut graph = Builder::default();
        graph.fill(a, 8, byte);
        let mut graph = graph.nops(nops);
        let body = graph.fill(a + 8, 8, byte);
        graph.place(body, 8, 0, 8);
        graph.image()
    };
    let delay = |ms: u64| {
        chip.set_fault(rpc::Inject {
            opcode: u32::from(op::NOP),
            ..chip.inject(Fault::Delay, ms * 1000)
        });
    };
    let begun = |byte: u8| {
        until("the launch begins", || device(&chip, offset, 1) == [byte]);
    };
    let handle = shelf.create(&image(1, 10)).unwrap();
    delay(30);
    let value = launch(&queue, handle, &[a]);
    begun(1);
    shelf.update(handle, &image(2, 5)).unwrap();
    assert_eq!(queue.timeline(), value - 1, "it still runs");
    queue.ok(value);
    assert_eq!(device(&chip, offset, 16), [1; 16]);
    queue.ok(launch(&queue, handle, &[a]));
    assert_eq!(device(&chip, offset, 16), [2; 16]);

    // Another number of parameters, a bad image, a graph that is not there: the old one stays.
    let none = Builder::default().nops(1).image();
    assert_eq!(shelf.update(handle, &none), Err(Status::InvalidArgument));
    let mut bad = image(3, 1);
    bad[0] ^= 1;
    assert_eq!(shelf.update(handle, &bad), Err(Status::InvalidArgument));
    assert_eq!(
        shelf.update(handle ^ 1 << 32, &image(3, 1)),
        Err(Status::BadHandle)
    );
    queue.ok(launch(&queue, handle, &[a]));
    assert_eq!(device(&chip, offset, 16), [2; 16]);
    queue.ok(queue.fill(a, 16, 0));

    delay(30);
    let value = launch(&queue, handle, &[a]);
    begun(2);
    destroy(&context, handle).unwrap();
    assert_eq!(destroy(&context, handle), Err(Status::BadHandle));
    assert_eq!(queue.timeline(), value - 1, "it still runs");
    queue.ok(value);
    assert_eq!(device(&chip, offset, 16), [2; 16]);
    assert_eq!(queue.done(launch(&queue, handle, &[a])), Status::BadHandle);
}

/// Queues and contexts end in the middle of a graph.
#[test]
fn it_stops_with_its_queue() {
    let chip = Chip::new();
    let context = chip.context();
    let shelf = Shelf::new(&chip, &context, 8 << 20);
    let handle = shelf
        .create(&Builder::default().nops(100_000).image())
        .unwrap();
    let waiter = context.queue();
    for round in 0..30 {
        let queue = context.queue();
        for _ in 0..20 {
            launch(&queue, handle, &[]);
        }
        let waits = waiter.wait_for(queue.handle, 20);
        std::thread::sleep(Duration::from_micros(100 * round));
        within(SOON, "the end of a queue", || queue.destroy().unwrap());
        let status = waiter.done(waits);
        assert!(
            matches!(status, Status::Ok | Status::Dependency | Status::BadHandle),
            "{status:?}"
        );
        waiter.record(true);
    }
    let queue = context.queue();
    launch(&queue, handle, &[]);
    within(SOON, "the end of a context", || context.destroy().unwrap());
    let telemetry = chip.telemetry();
    assert_eq!(telemetry.contexts, 0);
}

/// Memory that a graph uses is freed while it runs: the command that needs it fails, and no other.
#[test]
fn memory_goes_while_it_runs() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let (a, _) = context.alloc(1 << 20);
    let mut graph = Builder::default();
    for i in 0..2000 {
        graph.fill(a + i, 1 << 16, 1);
    }
    let handle = shelf.create(&graph.image()).unwrap();
    let value = launch(&queue, handle, &[]);
    std::thread::sleep(Duration::from_millis(1));
    within(SOON, "a free", || context.free(a).unwrap());
    let status = queue.done(value);
    assert!(
        matches!(
            status,
            Status::OperandFault | Status::AddressFault | Status::Ok
        ),
        "{status:?}"
    );
}

/// Long graphs leave room for others.
#[test]
fn graphs_starve_nobody() {
    let chip = Chip::new();
    let context = chip.context();
    let shelf = Shelf::new(&chip, &context, 16 << 20);
    let handle = shelf
        .create(&Builder::default().nops(250_000).image())
        .unwrap();
    let quiet = context.queue();
    let loud: Vec<Queue<'_>> = (0..3).map(|_| context.queue()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                for queue in &loud {
                    if queue.submitted() - queue.timeline() < 4 {
                        launch(queue, handle, &[]);
                    }
                }
                std::thread::sleep(Duration::from_micros(100));
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
    loud.iter().for_each(|q| q.ok(q.submitted()));
    assert!(loud.iter().all(|q| q.timeline() > 1));
}

/// The image may stand in host memory in pieces.
#[test]
fn an_image_in_pieces() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, offset) = context.alloc(1 << 16);
    let mut graph = Builder::default().nops(200);
    graph.fill(a, 4, 0x77);
    let image = graph.image();
    let pages = image.len().div_ceil(PAGE as usize) as u64;
    let dma = chip.pages(2 * pages * PAGE);
    let pieces: Vec<(u64, u64)> = (0..pages)
        .rev()
        .map(|p| (dma + 2 * p * PAGE, PAGE))
        .collect();
    for ((at, _), bytes) in pieces.iter().zip(image.chunks(PAGE as usize)) {
        let to = chip.host.arena.bytes(at - BASE, PAGE).unwrap();
        assert!(to.copy_from(bytes));
    }
    let va = context.addresses(pages * PAGE);
    let map = rpc::HostMap {
        va,
        length: pages * PAGE,
        offset: 0,
        count: pages as u32,
        access: ACCESS_READ,
        flags: 0,
    };
    context.map_pieces(map, &pieces).unwrap();
    let handle = create(&context, 0, va, image.len() as u64).unwrap();
    context.unmap(va).unwrap();
    queue.ok(launch(&queue, handle, &[]));
    assert_eq!(device(&chip, offset, 4), [0x77; 4]);
}
