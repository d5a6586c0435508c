//! Capturing queues: what becomes part of a graph, and what is an error. Nothing here runs a graph.

use std::time::Duration;

use vmlu::abi::packet::op;
use vmlu::graph::CaptureStatus;
use vmlu::operators::UnaryFunction;
use vmlu::ops::Descriptor;
use vmlu::{DataType, Graph, Queue, Status, Tensor};

use super::{refused, Bench, Check};

fn opcodes(graph: &Graph) -> Vec<u16> {
    (0..graph.commands())
        .filter_map(|i| graph.opcode(i))
        .collect()
}

pub(super) fn commands_are_recorded(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let x = Tensor::from_slice(&queue, &[-1.0_f32, 2.0], &[2])?;
    queue.sync()?;
    let submitted = queue.submitted();
    queue.begin_capture()?;
    assert_eq!(queue.capture_status(), CaptureStatus::Active);
    let first = queue.unary(UnaryFunction::Relu, &x, &x)?;
    let second = queue.nop()?;
    assert!(
        first >> 63 == 1 && second == first + 1,
        "{first:#x} {second:#x}"
    );
    queue.write(x.buffer(), 0, &[0; 8])?;
    let graph = queue.end_capture()?;
    assert_eq!(queue.capture_status(), CaptureStatus::None);
    assert_eq!(
        opcodes(&graph),
        [vmlu::ops::unary::Unary::OPCODE, op::NOP, op::WRITE]
    );
    assert_eq!(graph.fixed_addresses(), [x.desc().address]);
    assert_eq!(queue.submitted(), submitted, "something was run");
    assert_eq!(x.to_vec::<f32>(&queue)?, [-1.0, 2.0]);
    refused(queue.wait(second), Status::InvalidArgument);
    // The same bytes make the same graph.
    let again = Graph::from_image(&graph.image())?;
    assert_eq!(again.image(), graph.image());
    Ok(())
}

pub(super) fn joined_queues(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (first, second, third) = (context.queue()?, context.queue()?, context.queue()?);
    let (fork, join) = (context.notifier()?, context.notifier()?);
    let early = second.nop()?;
    second.wait(early)?;
    first.begin_capture()?;
    first.nop()?;
    fork.place(&first)?;
    fork.hold(&second)?;
    assert_eq!(second.capture_status(), CaptureStatus::Active);
    second.nop()?;
    first.nop()?;
    join.place(&second)?;
    third.wait_for(&second, second.nop()?)?;
    let last = third.nop()?;
    refused(second.end_capture().map(drop), Status::CaptureUnmatched);
    join.hold(&first)?;
    first.wait_for(&third, last)?;
    first.nop()?;
    let graph = first.end_capture()?;
    assert_eq!(graph.commands(), 6);
    for queue in [&first, &second, &third] {
        assert_eq!(queue.capture_status(), CaptureStatus::None);
        let value = queue.nop()?;
        queue.wait_timeout(value, Duration::from_secs(5))?;
    }
    Ok(())
}

/// Captures something wrong on a queue, and sees the capture spoiled.
fn spoiled(queue: &Queue, status: Status, wrong: impl FnOnce() -> vmlu::Result<()>) -> Check {
    queue.begin_capture()?;
    queue.nop()?;
    refused(wrong(), status);
    assert_eq!(queue.capture_status(), CaptureStatus::Invalidated);
    refused(queue.nop(), Status::CaptureInvalidated);
    refused(queue.end_capture().map(drop), Status::CaptureInvalidated);
    assert_eq!(queue.capture_status(), CaptureStatus::None);
    queue.nop()?;
    queue.sync()?;
    Ok(())
}

pub(super) fn errors(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, other) = (context.queue()?, context.queue()?);
    let buffer = context.alloc(1 << 20)?;
    let value = queue.nop()?;
    let others = other.nop()?;
    let unsupported = Status::CaptureUnsupported;
    spoiled(&queue, unsupported, || queue.sync())?;
    spoiled(&queue, unsupported, || queue.wait(value))?;
    spoiled(&queue, unsupported, || queue.read(&buffer, 0, &mut [0; 4]))?;
    spoiled(&queue, unsupported, || queue.host_fn(|| ()).map(drop))?;
    spoiled(&queue, unsupported, || {
        queue.submit_raw(0x5000, &[]).map(drop)
    })?;
    let isolation = Status::CaptureIsolation;
    spoiled(&queue, isolation, || {
        queue.wait_for(&other, others).map(drop)
    })?;
    let timeline = context.host_timeline()?;
    spoiled(&queue, isolation, || {
        queue.wait_for_timeline(&timeline, 1).map(drop)
    })?;

    refused(queue.end_capture().map(drop), Status::BadState);
    queue.begin_capture()?;
    refused(queue.begin_capture(), Status::BadState);
    let captured = queue.nop()?;
    queue.end_capture()?;
    refused(other.wait_for(&queue, captured), isolation);

    queue.begin_capture()?;
    other.wait_for(&queue, queue.nop()?)?;
    other.nop()?;
    refused(queue.end_capture().map(drop), Status::CaptureUnjoined);
    assert_eq!(other.capture_status(), CaptureStatus::None);

    queue.begin_capture()?;
    other.begin_capture()?;
    let point = other.nop()?;
    refused(queue.wait_for(&other, point), Status::CaptureMerged);
    for queue in [&queue, &other] {
        refused(queue.end_capture().map(drop), Status::CaptureInvalidated);
    }

    let foreign = bench.queue()?;
    queue.begin_capture()?;
    let point = queue.nop()?;
    refused(foreign.wait_for(&queue, point), isolation);
    refused(queue.end_capture().map(drop), Status::CaptureInvalidated);
    Ok(())
}

pub(super) fn queues_that_end(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (first, second) = (context.queue()?, context.queue()?);
    first.begin_capture()?;
    second.wait_for(&first, first.nop()?)?;
    second.nop()?;
    drop(first);
    assert_eq!(second.capture_status(), CaptureStatus::None);
    second.nop()?;
    second.sync()?;
    let third = context.queue()?;
    second.begin_capture()?;
    third.wait_for(&second, second.nop()?)?;
    third.nop()?;
    drop(third);
    refused(second.end_capture().map(drop), Status::CaptureInvalidated);
    Ok(())
}

pub(super) fn parameters(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let (x, y) = (
        Tensor::zeros(&queue, DataType::F32, &[8])?,
        context.alloc(64)?,
    );
    queue.begin_capture()?;
    queue.affine(&x.narrow(0, 4, 4)?, &x.narrow(0, 0, 4)?, 2.0, 0.0)?;
    queue.copy(y.address() + 8, x.desc().address, 16)?;
    let mut graph = queue.end_capture()?;
    assert_eq!(graph.parameter(&x.buffer().clone())?.index(), 0);
    assert_eq!(graph.parameter(&y)?.index(), 1);
    assert!(graph.fixed_addresses().is_empty());
    refused(graph.parameter(&y), Status::InvalidArgument);
    // The first factor of the affine map, by its place in the descriptor.
    let alpha = std::mem::offset_of!(vmlu::ops::affine::Affine, alpha);
    assert_eq!(graph.number(0, alpha, 8)?.index(), 2);
    for (command, offset, width) in [(0, alpha, 8), (0, alpha + 4, 4), (9, 0, 8), (0, 2, 4)] {
        refused(
            graph.number(command, offset, width),
            Status::InvalidArgument,
        );
    }
    for (offset, width) in [(usize::MAX, 8), (4096, 8), (8, 16), (8, 0)] {
        refused(graph.number(1, offset, width), Status::InvalidArgument);
    }
    assert_eq!(graph.parameters(), 3);
    Ok(())
}
