//! Packets that a hostile or broken program writes. Each gets a clear error, and the card goes on for everyone else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vmlu::abi::packet::{self, op, PacketHeader};
use vmlu::abi::queue::UNIT;
use vmlu::abi::tensor::DataType;
use vmlu::abi::Wire;
use vmlu::ops::tensor::{contiguous, strided};
use vmlu::ops::unary::Unary;
use vmlu::ops::Descriptor;
use vmlu::transport::{Channel, QueueMemory, QueueProgress};
use vmlu::{Queue, Status};

use super::{rejected, Bench, Check};

pub(super) fn unknown_opcode(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    for opcode in [0, 2, 0x1fff, 0x4fff, 0x5000, 0x6001, 0x7000, 0xffff] {
        let record = rejected(&queue, opcode, &[], Status::UnknownOpcode)?;
        assert_eq!(record.opcode, opcode);
    }
    Ok(())
}

pub(super) fn wrong_version_and_flags(bench: &Bench) -> Check {
    let context = bench.context()?;
    for (header, status) in [
        (
            PacketHeader {
                version: 2,
                ..nop()
            },
            Status::VersionMismatch,
        ),
        (
            PacketHeader {
                version: 0,
                ..nop()
            },
            Status::VersionMismatch,
        ),
        (
            PacketHeader {
                flags: 1 << 7,
                ..nop()
            },
            Status::ReservedNotZero,
        ),
    ] {
        let progress = raw(context.channel(), 1, &[&unit(&header)])?;
        assert_eq!(
            (progress.timeline, progress.error),
            (1, status.raw()),
            "{header:?}"
        );
    }
    Ok(())
}

pub(super) fn truncated_body(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    // One unit less than a copy's neighbour in length, and operators far shorter than their descriptors.
    rejected(&queue, Unary::OPCODE, &[0; 100], Status::TruncatedBody)?;
    let write = packet::WriteInline {
        dst: 0x1000,
        length: 500,
        reserved: 0,
    };
    rejected(&queue, op::WRITE, write.as_bytes(), Status::TruncatedBody)?;
    Ok(())
}

pub(super) fn dirty_padding(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(4096)?;
    let copy = packet::Copy {
        dst: buffer.address(),
        src: buffer.address() + 2048,
        length: 16,
    };
    rejected(
        &queue,
        op::COPY,
        &[copy.as_bytes(), &[1]].concat(),
        Status::ReservedNotZero,
    )?;
    rejected(&queue, op::NOP, &[0, 0, 0, 1], Status::ReservedNotZero)?;
    let fill = packet::Fill {
        dst: buffer.address(),
        length: 16,
        pattern: 0x1ff,
        width: 1,
        reserved: 0,
    };
    rejected(&queue, op::FILL, fill.as_bytes(), Status::InvalidArgument)?;
    Ok(())
}

pub(super) fn operand_outside(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(1 << 16)?;
    let good = contiguous(DataType::F32, buffer.address(), &[16]);
    let behind = buffer.address() + (1 << 16);
    for address in [
        0,
        64,
        behind,
        behind - 60,
        u64::MAX - 63,
        0xffff_8000_0000_0000,
    ] {
        let desc = contiguous(DataType::F32, address, &[16]);
        let body = Unary {
            x: desc,
            out: good,
            function: 0,
            ..vmlu::abi::Wire::zeroed()
        };
        let record = run(&queue, &body)?;
        assert!(
            [Status::OperandFault.raw(), Status::BadOperand.raw()].contains(&record.status),
            "{record:?}"
        );
        if record.status == Status::OperandFault.raw()
            && address >= behind - 60
            && address < 1 << 60
        {
            assert_eq!(
                (record.operand, record.nearest, record.nearest_length),
                (0, buffer.address(), 1 << 16)
            );
        }
    }
    let copy = packet::Copy {
        dst: buffer.address(),
        src: behind - 8,
        length: 16,
    };
    let record = rejected(&queue, op::COPY, copy.as_bytes(), Status::OperandFault)?;
    assert_eq!((record.operand, record.address), (1, behind - 8));
    Ok(())
}

pub(super) fn operand_across_allocations(bench: &Bench) -> Check {
    // Two allocations side by side in the address space: an operand must not reach from one into the other.
    let context = bench.context()?;
    let queue = context.queue()?;
    let base = 1_u64 << 40;
    context.channel().memory_alloc(base, 1 << 16)?;
    context.channel().memory_alloc(base + (1 << 16), 1 << 16)?;
    let out = context.alloc(1 << 16)?;
    let x = contiguous(DataType::F32, base + (1 << 16) - 32, &[16]);
    let body = Unary {
        x,
        out: contiguous(DataType::F32, out.address(), &[16]),
        function: 0,
        ..vmlu::abi::Wire::zeroed()
    };
    assert_eq!(run(&queue, &body)?.status, Status::OperandFault.raw());
    let copy = packet::Copy {
        dst: out.address(),
        src: base + (1 << 16) - 32,
        length: 64,
    };
    rejected(&queue, op::COPY, copy.as_bytes(), Status::OperandFault)?;
    let whole = packet::Copy {
        dst: out.address(),
        src: base,
        length: 1 << 16,
    };
    queue.submit_raw(op::COPY, whole.as_bytes())?;
    queue.sync()?;
    Ok(())
}

pub(super) fn overlapping_strides(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(1 << 16)?;
    let x = contiguous(DataType::F32, buffer.address(), &[4, 4]);
    for strides in [[0, 1], [1, 1], [3, 1], [2, 2]] {
        let out = strided(DataType::F32, buffer.address() + 4096, &[4, 4], &strides);
        let record = run(
            &queue,
            &Unary {
                x,
                out,
                function: 0,
                ..vmlu::abi::Wire::zeroed()
            },
        )?;
        assert_eq!(
            (record.status, record.operand),
            (Status::BadOperand.raw(), 1),
            "{strides:?}"
        );
    }
    // An output over a part of its input.
    let out = contiguous(DataType::F32, buffer.address() + 8, &[4, 4]);
    assert_eq!(
        run(
            &queue,
            &Unary {
                x,
                out,
                function: 0,
                ..vmlu::abi::Wire::zeroed()
            }
        )?
        .status,
        Status::BadOperand.raw()
    );
    Ok(())
}

pub(super) fn overflowing_dimensions(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(1 << 16)?;
    let good = contiguous(DataType::F32, buffer.address(), &[4]);
    let mut deep = good;
    deep.rank = 9;
    let mut typed = good;
    typed.dtype = 4000;
    let mut behind = good;
    behind.dims[5] = 1;
    let mut quantised = good;
    quantised.scale = 1.0;
    for x in [
        strided(DataType::F32, buffer.address(), &[u64::MAX, 2], &[1, 1]),
        strided(
            DataType::F32,
            buffer.address(),
            &[1 << 32, 1 << 32],
            &[1 << 32, 1],
        ),
        strided(DataType::F32, buffer.address(), &[3, 1 << 62], &[1, 4]),
        strided(DataType::F32, buffer.address(), &[4], &[i64::MAX]),
        strided(DataType::F32, buffer.address(), &[4], &[i64::MIN]),
        contiguous(DataType::F32, buffer.address() + 2, &[4]),
        deep,
        typed,
        behind,
        quantised,
    ] {
        let record = run(
            &queue,
            &Unary {
                x,
                out: good,
                function: 0,
                ..vmlu::abi::Wire::zeroed()
            },
        )?;
        assert_eq!(record.status, Status::BadOperand.raw(), "{x:?}");
    }
    Ok(())
}

pub(super) fn overlapping_copy(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let buffer = queue.context().alloc(4096)?;
    let copy = packet::Copy {
        dst: buffer.address(),
        src: buffer.address() + 10,
        length: 20,
    };
    rejected(&queue, op::COPY, copy.as_bytes(), Status::BadOperand)?;
    Ok(())
}

pub(super) fn indirect_body(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let buffer = context.alloc(1 << 16)?;
    let fill = packet::Fill {
        dst: buffer.address() + 1024,
        length: 64,
        pattern: 7,
        width: 1,
        reserved: 0,
    };
    queue.fill(&buffer, 0, 1 << 16, 0)?;
    queue.write(&buffer, 0, fill.as_bytes())?;
    queue.sync()?;
    let header = PacketHeader {
        opcode: op::FILL,
        flags: packet::FLAG_INDIRECT,
        ..nop()
    };
    let submit = |address: u64, length: u64| {
        let mut bytes = unit(&header);
        packet::Indirect { address, length }.write_to(&mut bytes[16..]);
        raw(context.channel(), 1, &[&bytes])
    };
    assert_eq!(
        submit(buffer.address(), size_of::<packet::Fill>() as u64)?,
        QueueProgress {
            timeline: 1,
            error: 0
        }
    );
    let mut back = vec![0; 2048];
    queue.read(&buffer, 0, &mut back)?;
    assert!(back[1024..1088].iter().all(|b| *b == 7) && back[1088] == 0);
    for (address, length, status) in [
        (0x10, 32, Status::OperandFault),
        (buffer.address() + (1 << 16) - 16, 32, Status::OperandFault),
        (buffer.address(), 1 << 40, Status::InvalidArgument),
        (buffer.address(), 31, Status::TruncatedBody),
        (buffer.address(), 0, Status::TruncatedBody),
    ] {
        assert_eq!(
            submit(address, length)?.error,
            status.raw(),
            "{address:#x} {length}"
        );
    }
    Ok(())
}

pub(super) fn foreign_queue(bench: &Bench) -> Check {
    let (mine, other) = (bench.queue()?, bench.queue()?);
    let wait = packet::Wait {
        queue: other.handle(),
        value: 1,
    };
    rejected(&mine, op::WAIT, wait.as_bytes(), Status::BadHandle)?;
    let gone = {
        let queue = mine.context().queue()?;
        queue.handle()
    };
    rejected(
        &mine,
        op::WAIT,
        packet::Wait {
            queue: gone,
            value: 1,
        }
        .as_bytes(),
        Status::BadHandle,
    )?;
    let context = mine.context();
    let channel = context.channel();
    for handle in [other.handle(), gone, 0, u64::MAX] {
        super::refused(channel.queue_error(handle, true), Status::BadHandle);
        super::refused(channel.queue_wait(handle, 0, 0), Status::BadHandle);
        super::refused(channel.queue_destroy(handle), Status::BadHandle);
    }
    other.nop()?;
    other.sync()?;
    Ok(())
}

pub(super) fn own_future(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let wait = packet::Wait {
        queue: queue.handle(),
        value: 1_000_000,
    };
    rejected(&queue, op::WAIT, wait.as_bytes(), Status::InvalidArgument)?;
    Ok(())
}

pub(super) fn doorbell_beyond_the_ring(bench: &Bench) -> Check {
    let (context, witness) = (bench.context()?, bench.queue()?);
    for doorbell in [129, 1 << 20, u64::MAX] {
        let progress = raw(context.channel(), doorbell, &[&unit(&nop())])?;
        assert_eq!(
            (progress.timeline, progress.error),
            (0, Status::FramingError.raw()),
            "{doorbell}"
        );
    }
    witness.nop()?;
    witness.sync()?;
    Ok(())
}

pub(super) fn packet_beyond_the_doorbell(bench: &Bench) -> Check {
    let context = bench.context()?;
    for units in [0, 2, 65, 255] {
        let progress = raw(
            context.channel(),
            1,
            &[&unit(&PacketHeader { units, ..nop() })],
        )?;
        assert_eq!(
            (progress.timeline, progress.error),
            (0, Status::FramingError.raw()),
            "{units} units"
        );
    }
    Ok(())
}

pub(super) fn foreign_address(bench: &Bench) -> Check {
    let (mine, other) = (bench.queue()?, bench.queue()?);
    let secret = other.context().alloc(4096)?;
    other.fill(&secret, 0, 4096, 0x77)?;
    other.sync()?;
    let out = mine.context().alloc(4096)?;
    let read = packet::Copy {
        dst: out.address(),
        src: secret.address(),
        length: 64,
    };
    rejected(&mine, op::COPY, read.as_bytes(), Status::OperandFault)?;
    let write = packet::Copy {
        dst: secret.address(),
        src: out.address(),
        length: 64,
    };
    rejected(&mine, op::COPY, write.as_bytes(), Status::OperandFault)?;
    let mut seen = [0; 64];
    other.read(&secret, 0, &mut seen)?;
    assert_eq!(seen, [0x77; 64]);
    Ok(())
}

pub(super) fn stale_address(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let (gone, out) = (queue.context().alloc(4096)?, queue.context().alloc(4096)?);
    let address = gone.address();
    drop(gone);
    let copy = packet::Copy {
        dst: out.address(),
        src: address,
        length: 64,
    };
    rejected(&queue, op::COPY, copy.as_bytes(), Status::OperandFault)?;
    Ok(())
}

fn nop() -> PacketHeader {
    PacketHeader {
        opcode: op::NOP,
        version: packet::VERSION,
        units: 1,
        flags: 0,
        correlation: 0,
    }
}

fn unit(header: &PacketHeader) -> [u8; UNIT] {
    let mut bytes = [0; UNIT];
    header.write_to(&mut bytes);
    bytes
}

/// Runs an operator whose descriptor the runtime would not let pass; the error record.
fn run(
    queue: &Queue,
    body: &Unary,
) -> Result<vmlu::abi::status::ErrorRecord, Box<dyn std::error::Error>> {
    let value = queue.submit_raw(Unary::OPCODE, body.as_bytes())?;
    let error = queue.wait(value).err().ok_or("it was accepted")?;
    let record = queue
        .clear_error()?
        .ok_or_else(|| format!("no error record, but {error}"))?;
    queue.nop()?;
    queue.sync()?;
    Ok(record)
}

/// Makes a queue of 128 units, writes packets into its ring by hand, rings a doorbell value, and waits for the first completion or an
/// error.
fn raw(
    channel: &dyn Channel,
    doorbell: u64,
    packets: &[&[u8; UNIT]],
) -> Result<QueueProgress, Box<dyn std::error::Error>> {
    let memory: QueueMemory = channel.queue_create(128, 3, 1)?;
    for (i, packet) in packets.iter().enumerate() {
        // SAFETY: the ring has 128 units and is mapped until `queue_destroy`; the card looks at it only after the doorbell.
        unsafe { std::ptr::copy_nonoverlapping(packet.as_ptr(), memory.ring.add(i * UNIT), UNIT) };
    }
    // SAFETY: the doorbell word is aligned, mapped until `queue_destroy`, and only accessed atomically.
    unsafe { AtomicU64::from_ptr(memory.doorbell) }.store(doorbell, Ordering::SeqCst);
    channel.kick();
    let limit = Duration::from_secs(20);
    let start = std::time::Instant::now();
    // A packet that failed advances the timeline right after the error shows.
    let mut progress = channel.queue_wait(memory.queue, 1, u64::MAX)?;
    while progress.timeline == 0
        && progress.error != Status::FramingError.raw()
        && start.elapsed() < limit
    {
        progress = channel.queue_wait(memory.queue, 1, u64::MAX)?;
    }
    channel.queue_destroy(memory.queue)?;
    Ok(progress)
}
