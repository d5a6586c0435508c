//! Commands that fail inside the card, by injected faults.

use std::time::{Duration, Instant};

use vmlu::abi::packet::{self, op};
use vmlu::abi::rpc::Fault;
use vmlu::abi::Wire;
use vmlu::operators::UnaryFunction;
use vmlu::ops::Descriptor;
use vmlu::{DataType, Status, Tensor};

use super::{failed, refused, Bench, Check};

/// Well under every limit of a test, well over every delay.
const SOON: Duration = Duration::from_secs(2);

pub(super) fn panic_in_a_command(bench: &Bench) -> Check {
    let (queue, witness) = (bench.queue()?, bench.queue()?);
    let x = Tensor::zeros(&queue, DataType::F32, &[16])?;
    queue.sync()?;
    let _fault = bench.inject(Fault::Panic, vmlu::ops::unary::Unary::OPCODE, 1, 0, 0)?;
    let value = queue.unary(UnaryFunction::Relu, &x, &x)?;
    let record = failed(&queue, value, Status::KernelPanic)?;
    assert_eq!(record.opcode, vmlu::ops::unary::Unary::OPCODE);
    queue.unary(UnaryFunction::Relu, &x, &x)?;
    queue.sync()?;
    witness.nop()?;
    witness.sync()?;
    Ok(())
}

pub(super) fn hang_ends_by_watchdog(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let _fault = bench.inject(Fault::Hang, op::NOP, 1, 0, 100)?;
    let start = Instant::now();
    let value = queue.nop()?;
    failed(&queue, value, Status::Watchdog)?;
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_millis(95) && elapsed < SOON,
        "{elapsed:?}"
    );
    Ok(())
}

pub(super) fn hang_leaves_others_alone(bench: &Bench) -> Check {
    let (queue, witness) = (bench.queue()?, bench.queue()?);
    let _fault = bench.inject(Fault::Hang, op::NOP, 1, 0, 800)?;
    let start = Instant::now();
    let value = queue.nop()?;
    while bench.transport.telemetry(bench.device)?.busy == 0 {
        assert!(start.elapsed() < SOON, "the command does not start");
    }
    let buffer = witness.context().alloc(4096)?;
    for _ in 0..50 {
        witness.fill(&buffer, 0, 4096, 1)?;
        witness.sync()?;
    }
    assert!(
        queue.timeline() < value,
        "it was over before the others were done: {:?}",
        start.elapsed()
    );
    failed(&queue, value, Status::Watchdog)?;
    Ok(())
}

pub(super) fn uncorrectable_error(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let before = bench.transport.telemetry(bench.device)?;
    let _fault = bench.inject(Fault::Ecc, op::NOP, 1, 0, 0)?;
    let value = queue.nop()?;
    let record = failed(&queue, value, Status::EccUncorrected)?;
    assert_eq!(record.xid, vmlu::abi::status::Xid::Ecc as u32);
    let after = bench.transport.telemetry(bench.device)?;
    assert_eq!(after.ecc_uncorrected, before.ecc_uncorrected + 1);
    assert!(after.xid_count > before.xid_count && after.xid == record.xid);
    Ok(())
}

pub(super) fn failure_of_the_third(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let _fault = bench.inject(
        Fault::Fail,
        op::NOP,
        1,
        2,
        u64::from(Status::Injected.raw()),
    )?;
    queue.nop()?;
    queue.nop()?;
    let third = queue.nop()?;
    failed(&queue, third, Status::Injected)?;
    Ok(())
}

pub(super) fn delay(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let _fault = bench.inject(Fault::Delay, op::NOP, 1, 0, 50_000)?;
    let start = Instant::now();
    queue.nop()?;
    queue.sync()?;
    assert!(
        start.elapsed() >= Duration::from_millis(50),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

pub(super) fn freed_while_running(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let base = 1_u64 << 40;
    context.channel().memory_alloc(base, 1 << 28)?;
    // A fill of a quarter GiB is under way for some milliseconds; whether it is caught in the middle or not, memory is free afterwards and
    // the queue tells the truth.
    let fill = packet::Fill {
        dst: base,
        length: 1 << 28,
        pattern: 1,
        width: 1,
        reserved: 0,
    };
    let value = queue.submit_raw(op::FILL, fill.as_bytes())?;
    context.channel().memory_free(base)?;
    match queue.wait(value) {
        Ok(()) => {}
        Err(error) => assert!(
            matches!(error.status(), Status::AddressFault | Status::OperandFault),
            "{error}"
        ),
    }
    queue.clear_error()?;
    queue.nop()?;
    queue.sync()?;
    Ok(())
}

pub(super) fn destroyed_while_hanging(bench: &Bench) -> Check {
    let context = bench.context()?;
    let _fault = bench.inject(Fault::Hang, op::NOP, 1, 0, 60_000)?;
    let memory = context.channel().queue_create(128, 3, 1)?;
    let header = packet::PacketHeader {
        opcode: op::NOP,
        version: packet::VERSION,
        units: 1,
        flags: 0,
        correlation: 0,
    };
    // SAFETY: the ring has 128 units and is mapped until `queue_destroy`; the doorbell word is aligned and only accessed atomically.
    unsafe {
        std::ptr::copy_nonoverlapping(
            header.as_bytes().as_ptr(),
            memory.ring,
            size_of_val(&header),
        );
        std::sync::atomic::AtomicU64::from_ptr(memory.doorbell)
            .store(1, std::sync::atomic::Ordering::SeqCst);
    }
    context.channel().kick();
    let start = Instant::now();
    while bench.transport.telemetry(bench.device)?.busy == 0 {
        assert!(start.elapsed() < SOON, "the command does not start");
    }
    let start = Instant::now();
    context.channel().queue_destroy(memory.queue)?;
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    let queue = context.queue()?;
    queue.nop()?;
    queue.sync()?;
    Ok(())
}

pub(super) fn dependants_end(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (first, second) = (context.queue()?, context.queue()?);
    let _fault = bench.inject(Fault::Fail, op::FILL, 1, 0, 0)?;
    let buffer = context.alloc(4096)?;
    let waits = second.wait_for(&first, 1)?;
    let value = first.fill(&buffer, 0, 4096, 1)?;
    refused(first.wait(value), Status::Injected);
    refused(second.wait(waits), Status::Dependency);
    first.clear_error()?;
    second.clear_error()?;
    second.wait_for(&first, first.nop()?)?;
    second.sync()?;
    Ok(())
}

pub(super) fn dropped_interrupt(bench: &Bench) -> Check {
    let queue = bench.queue()?;
    let _delay = bench.inject(Fault::Delay, op::NOP, 1, 0, 50_000)?;
    let _lost = bench.inject(Fault::DropInterrupt, 0, 1, 0, 0)?;
    let start = Instant::now();
    queue.nop()?;
    queue.sync()?;
    assert!(
        start.elapsed() < SOON,
        "a lost interrupt held up the waiter for {:?}",
        start.elapsed()
    );
    Ok(())
}
