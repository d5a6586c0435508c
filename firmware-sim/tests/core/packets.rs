//! Packets: what the commands outside the operators do, and each way in which one can be wrong.

use vmlu_abi::packet::{self, op, PacketHeader, FLAG_INDIRECT, MAX_INDIRECT, MAX_INLINE};
use vmlu_abi::rpc::{Fault, ACCESS_READ, ACCESS_WRITE};
use vmlu_abi::{Status, Wire};

use crate::harness::*;

fn device(chip: &Chip, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    assert!(chip
        .memory
        .bytes(offset, length as u64)
        .unwrap()
        .copy_to(&mut bytes));
    bytes
}

#[test]
fn copies_fills_and_writes() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, a_offset) = context.alloc(3 << 20);
    let (b, b_offset) = context.alloc(3 << 20);
    queue.submit(
        op::FILL,
        packet::Fill {
            dst: a,
            length: 3 << 20,
            pattern: 0x0403_0201,
            width: 4,
            reserved: 0,
        }
        .as_bytes(),
    );
    queue.copy(b + 5, a + 1, (2 << 20) + 3);
    let head = packet::WriteInline {
        dst: b + 1,
        length: 3,
        reserved: 0,
    };
    queue.submit(op::WRITE, &[head.as_bytes(), b"xyz"].concat());
    let long: Vec<u8> = (0..MAX_INLINE).map(|i| i as u8).collect();
    let head = packet::WriteInline {
        dst: a,
        length: MAX_INLINE as u32,
        reserved: 0,
    };
    queue.ok(queue.submit(op::WRITE, &[head.as_bytes(), &long].concat()));
    assert_eq!(
        device(&chip, b_offset, 10),
        [0, b'x', b'y', b'z', 0, 2, 3, 4, 1, 2]
    );
    assert_eq!(device(&chip, b_offset + (2 << 20) + 6, 4), [3, 4, 0, 0]);
    assert_eq!(device(&chip, a_offset, MAX_INLINE), long);
    assert_eq!(device(&chip, a_offset + MAX_INLINE as u64, 4), [1, 2, 3, 4]);
    assert_eq!(queue.consumed(), 1 + 1 + 1 + 64);

    // Host memory in pieces, both ways.
    let dma = chip.pages(8 * PAGE);
    let va = context.addresses(4 * PAGE);
    let map = vmlu_abi::rpc::HostMap {
        va,
        length: 4 * PAGE,
        offset: 0,
        count: 2,
        access: ACCESS_READ | ACCESS_WRITE,
        flags: 0,
    };
    context
        .map_pieces(map, &[(dma + 4 * PAGE, 2 * PAGE), (dma, 2 * PAGE)])
        .unwrap();
    queue.copy(va, a + MAX_INLINE as u64, 4 * PAGE);
    queue.fill(va + 2 * PAGE - 1, 2, 0xee);
    queue.ok(queue.copy(b, va + 2 * PAGE - 4, 8));
    assert_eq!(device(&chip, b_offset, 8), [1, 2, 3, 0xee, 0xee, 2, 3, 4]);
    assert_eq!(chip.host_bytes(dma + 6 * PAGE - 1, 1), [0xee]);
    assert_eq!(chip.host_bytes(dma + 6 * PAGE, 4), [0; 4]);
    queue.fill(a, 0, 1);
    queue.ok(queue.copy(0, 0, 0));
}

#[test]
fn indirect_bodies() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, a_offset) = context.alloc(1 << 17);
    let fill = packet::Fill {
        dst: a + 4096,
        length: 16,
        pattern: 9,
        width: 1,
        reserved: 0,
    };
    chip.memory
        .bytes(a_offset, 32)
        .unwrap()
        .copy_from(fill.as_bytes());
    let indirect = |address, length| {
        let mut bytes = packet_bytes(op::FILL, packet::Indirect { address, length }.as_bytes());
        bytes[4] |= FLAG_INDIRECT as u8;
        bytes
    };
    queue.ok(queue.submit_bytes(&indirect(a, 32)));
    assert_eq!(
        device(&chip, a_offset + 4096, 17),
        [&[9; 16][..], &[0]].concat()
    );
    for (address, length, status) in [
        (a, 31, Status::TruncatedBody),
        (a, 33, Status::TruncatedBody),
        (a, 0, Status::TruncatedBody),
        (a, MAX_INDIRECT, Status::TruncatedBody),
        (a, MAX_INDIRECT + 1, Status::InvalidArgument),
        (a, u64::MAX, Status::InvalidArgument),
        (0, 32, Status::OperandFault),
        (a - 1, 32, Status::OperandFault),
        (a + (1 << 17) - 31, 32, Status::OperandFault),
        (u64::MAX, 32, Status::OperandFault),
    ] {
        assert_eq!(
            queue.done(queue.submit_bytes(&indirect(address, length))),
            status,
            "{address:#x} {length}"
        );
        queue.record(true);
    }
}

/// Each case is refused with its status, writes nothing, and leaves the queue usable once the error is cleared.
#[test]
fn bad_packets_are_refused() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, a_offset) = context.alloc(1 << 20);
    let (b, _) = context.alloc(1 << 20);
    let end = a + (1 << 20);
    let read_only = context.map(READ_ONLY_DMA, PAGE, ACCESS_READ);
    chip.memory
        .bytes(a_offset, 1 << 20)
        .unwrap()
        .copy_from(&vec![0x5a; 1 << 20]);

    let fill = packet::Fill {
        dst: a,
        length: 64,
        pattern: 1,
        width: 1,
        reserved: 0,
    };
    let fill_of = |f: packet::Fill| packet_bytes(op::FILL, f.as_bytes());
    let copy =
        |dst, src, length| packet_bytes(op::COPY, packet::Copy { dst, src, length }.as_bytes());
    let with = |change: &dyn Fn(&mut PacketHeader)| {
        let mut bytes = fill_of(fill);
        let mut header = PacketHeader::read_from(&bytes).unwrap();
        change(&mut header);
        header.write_to(&mut bytes);
        bytes
    };
    let write = |head: packet::WriteInline, data: &[u8]| {
        packet_bytes(op::WRITE, &[head.as_bytes(), data].concat())
    };
    let head = packet::WriteInline {
        dst: a,
        length: 4,
        reserved: 0,
    };
    let mut dirty = fill_of(fill);
    *dirty.last_mut().unwrap() = 1;
    let mut dirty_nop = packet_bytes(op::NOP, &[]);
    dirty_nop[40] = 1;

    let cases: Vec<(&str, Vec<u8>, Status)> = vec![
        ("opcode 0", with(&|h| h.opcode = 0), Status::UnknownOpcode),
        (
            "an opcode of an empty range",
            with(&|h| h.opcode = 0x5000),
            Status::UnknownOpcode,
        ),
        (
            "the last opcode",
            with(&|h| h.opcode = 0xffff),
            Status::UnknownOpcode,
        ),
        (
            "an operator that does not exist",
            with(&|h| h.opcode = 0x3fff),
            Status::UnknownOpcode,
        ),
        (
            "version 0",
            with(&|h| h.version = 0),
            Status::VersionMismatch,
        ),
        (
            "version 2",
            with(&|h| h.version = 2),
            Status::VersionMismatch,
        ),
        (
            "unknown flag",
            with(&|h| h.flags = 2),
            Status::ReservedNotZero,
        ),
        (
            "all flags",
            with(&|h| h.flags = u32::MAX),
            Status::ReservedNotZero,
        ),
        ("dirty padding", dirty, Status::ReservedNotZero),
        ("a NOP with a body", dirty_nop, Status::ReservedNotZero),
        (
            "fill: reserved",
            fill_of(packet::Fill {
                reserved: 1,
                ..fill
            }),
            Status::InvalidArgument,
        ),
        (
            "fill: width 0",
            fill_of(packet::Fill { width: 0, ..fill }),
            Status::InvalidArgument,
        ),
        (
            "fill: width 3",
            fill_of(packet::Fill { width: 3, ..fill }),
            Status::InvalidArgument,
        ),
        (
            "fill: width 16",
            fill_of(packet::Fill { width: 16, ..fill }),
            Status::InvalidArgument,
        ),
        (
            "fill: pattern",
            fill_of(packet::Fill {
                pattern: 256,
                ..fill
            }),
            Status::InvalidArgument,
        ),
        (
            "fill: length",
            fill_of(packet::Fill {
                width: 8,
                length: 63,
                ..fill
            }),
            Status::BadOperand,
        ),
        (
            "fill: alignment",
            fill_of(packet::Fill {
                width: 8,
                dst: a + 4,
                ..fill
            }),
            Status::BadOperand,
        ),
        (
            "fill: before",
            fill_of(packet::Fill { dst: a - 1, ..fill }),
            Status::OperandFault,
        ),
        (
            "fill: behind",
            fill_of(packet::Fill {
                dst: end - 63,
                ..fill
            }),
            Status::OperandFault,
        ),
        (
            "fill: null",
            fill_of(packet::Fill { dst: 0, ..fill }),
            Status::OperandFault,
        ),
        (
            "fill: wraps",
            fill_of(packet::Fill {
                length: u64::MAX - a,
                ..fill
            }),
            Status::OperandFault,
        ),
        (
            "fill: overflows",
            fill_of(packet::Fill {
                length: u64::MAX,
                ..fill
            }),
            Status::OperandFault,
        ),
        (
            "fill: read-only",
            fill_of(packet::Fill {
                dst: read_only,
                ..fill
            }),
            Status::OperandFault,
        ),
        ("copy: overlap", copy(a, a + 63, 64), Status::BadOperand),
        ("copy: itself", copy(a, a, 64), Status::BadOperand),
        (
            "copy: from nowhere",
            copy(a, 0x1000, 64),
            Status::OperandFault,
        ),
        (
            "copy: to nowhere",
            copy(0x1000, a, 64),
            Status::OperandFault,
        ),
        (
            "copy: to read-only",
            copy(read_only, a, 64),
            Status::OperandFault,
        ),
        (
            "copy: across allocations",
            copy(a, b - 64, (1 << 20) + 64),
            Status::OperandFault,
        ),
        ("copy: overflow", copy(a, b, u64::MAX), Status::OperandFault),
        (
            "write: reserved",
            write(
                packet::WriteInline {
                    reserved: 1,
                    ..head
                },
                b"1234",
            ),
            Status::BadLength,
        ),
        (
            "write: too short",
            write(packet::WriteInline { length: 3, ..head }, b"1234"),
            Status::ReservedNotZero,
        ),
        (
            "write: too long",
            write(
                packet::WriteInline {
                    length: 100,
                    ..head
                },
                b"1234",
            ),
            Status::TruncatedBody,
        ),
        (
            "write: longest",
            write(
                packet::WriteInline {
                    length: u32::MAX,
                    ..head
                },
                b"1234",
            ),
            Status::TruncatedBody,
        ),
        (
            "write: outside",
            write(
                packet::WriteInline {
                    dst: end - 3,
                    ..head
                },
                b"1234",
            ),
            Status::OperandFault,
        ),
        (
            "wait: no queue",
            packet_bytes(op::WAIT, packet::Wait { queue: 0, value: 0 }.as_bytes()),
            Status::BadHandle,
        ),
        (
            "notify: no pool",
            packet_bytes(op::NOTIFY, packet::Notify { index: 0, value: 0 }.as_bytes()),
            Status::BadHandle,
        ),
        (
            "matmul: nothing in it",
            packet_bytes(0x1000, &[]),
            Status::TruncatedBody,
        ),
    ];
    let mut seen = 0;
    for (name, bytes, status) in &cases {
        let value = queue.submit_bytes(bytes);
        assert_eq!(
            queue.done(value),
            *status,
            "{name}: {}",
            rule(&queue.record(false))
        );
        let record = queue.record(true);
        let header = PacketHeader::read_from(bytes).unwrap();
        assert_eq!(
            (record.value, record.queue, record.context, record.opcode),
            (value, queue.handle, context.handle, header.opcode),
            "{name}"
        );
        assert_eq!(
            (record.correlation, record.status, record.offset),
            (0xc0, status.raw(), seen),
            "{name}"
        );
        assert!(
            !rule(&record).is_empty() && record.xid == status.xid() as u32,
            "{name}"
        );
        seen += u64::from(header.units);
        assert_eq!(queue.error(), Status::Ok, "{name}");
        queue.ok(queue.nop());
        seen += 1;
    }
    assert!(
        device(&chip, a_offset, 1 << 20).iter().all(|x| *x == 0x5a),
        "a refused packet wrote"
    );
    assert_eq!(chip.telemetry().packets_failed, cases.len() as u64);

    // The nearest allocation is told.
    queue.done(queue.fill(end + 3, 1, 0));
    let record = queue.record(true);
    assert_eq!(
        (
            record.address,
            record.nearest,
            record.nearest_length,
            record.operand
        ),
        (end + 3, a, 1 << 20, 0)
    );
}

/// Damage of the ring or doorbell: stops the queue for good, and no other.
#[test]
fn framing_damage_stops_the_queue() {
    let chip = Chip::new();
    let context = chip.context();
    let other = context.queue();
    let small = || context.queue_of(context.queue_memory(128));
    let nop = |units: u8| {
        let mut bytes = packet_bytes(op::NOP, &[]);
        bytes[3] = units;
        bytes
    };
    type Damage = Box<dyn Fn(&Queue<'_>)>;
    let cases: Vec<(&str, Damage)> = vec![
        ("doorbell beyond the ring", Box::new(|q| q.ring(129))),
        ("doorbell far beyond", Box::new(|q| q.ring(u64::MAX))),
        (
            "doorbell behind",
            Box::new(|q| {
                q.ok(q.nop());
                q.ring(0);
            }),
        ),
        ("no units", Box::new(move |q| q.ring(q.write(&nop(0))))),
        (
            "more units than written",
            Box::new(move |q| q.ring(q.write(&nop(2)))),
        ),
        (
            "more units than a packet has",
            Box::new(move |q| {
                q.write(&nop(65));
                q.ring(q.write(&[0; 64 * 64]));
            }),
        ),
        (
            "255 units",
            Box::new(move |q| {
                q.write(&nop(255));
                q.ring(q.write(&[0; 100 * 64]));
            }),
        ),
    ];
    for (name, damage) in cases {
        let queue = small();
        damage(&queue);
        until(name, || queue.error() != Status::Ok);
        assert_eq!(queue.error(), Status::FramingError, "{name}");
        let timeline = queue.timeline();
        assert_eq!(
            queue.record(true).status,
            Status::FramingError.raw(),
            "{name}"
        );
        assert_eq!(
            queue.record(true).status,
            Status::FramingError.raw(),
            "{name}: cannot be cleared"
        );
        // It does not go on, whatever the doorbell says.
        queue.ring(queue.consumed() + 1);
        queue.kick();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(
            (queue.timeline(), queue.error()),
            (timeline, Status::FramingError),
            "{name}"
        );
        // Who waits for it ends.
        assert_eq!(
            other.done(other.wait_for(queue.handle, timeline + 1)),
            Status::Dependency,
            "{name}"
        );
        other.record(true);
        queue.destroy().unwrap();
    }
    other.ok(other.nop());
}

/// The card takes a packet once: what the guest changes afterwards does not count.
#[test]
fn packets_wrap_around_the_ring() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue_of(context.queue_memory(128));
    let (a, a_offset) = context.alloc(1 << 20);
    let mut expected = vec![0; 100 * 199];
    for (i, part) in expected.chunks_mut(199).enumerate() {
        let head = packet::WriteInline {
            dst: a + 199 * i as u64,
            length: 199,
            reserved: 0,
        };
        part.fill(i as u8 + 1);
        queue.submit(op::WRITE, &[head.as_bytes(), part].concat());
    }
    queue.ok(queue.submitted());
    assert_eq!(device(&chip, a_offset, expected.len()), expected);
    assert_eq!((queue.consumed(), queue.timeline()), (400, 100));
}

#[test]
fn an_injected_status_comes_through() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    for (value, status) in [
        (34, Status::BadOperand),
        (64, Status::FramingError),
        (0, Status::Injected),
        (1 << 40, Status::Injected),
    ] {
        chip.set_fault(chip.inject(Fault::Fail, value));
        assert_eq!(queue.done(queue.nop()), status);
        queue.record(true);
        queue.ok(queue.nop());
    }
}
