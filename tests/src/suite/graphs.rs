//! Graphs that the card runs.

use std::time::Duration;

use vmlu::abi::graph::GraphHead;
use vmlu::abi::packet::{op, Copy};
use vmlu::abi::rpc::Fault;
use vmlu::abi::Wire;
use vmlu::operators::{BinaryFunction, UnaryFunction};
use vmlu::ops::affine::Affine;
use vmlu::ops::Descriptor;
use vmlu::{DataType, Graph, GraphBuilder, Status, Tensor};

use super::{refused, Bench, Check};

/// Well under every limit of a test, well over every delay.
const SOON: Duration = Duration::from_secs(5);

pub(super) fn replay(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let one = Tensor::from_slice(&queue, &[1.0_f32; 16], &[16])?;
    let sum = Tensor::zeros(&queue, DataType::F32, &[16])?;
    queue.begin_capture()?;
    for _ in 0..1000 {
        queue.binary(BinaryFunction::Add, &sum, &one, &sum)?;
    }
    let graph = queue.end_capture()?;
    assert_eq!(sum.to_vec::<f32>(&queue)?, [0.0; 16], "it ran already");
    let exec = graph.instantiate(&context)?;
    let before = queue.submitted();
    for _ in 0..5 {
        queue.launch(&exec, &[])?;
    }
    assert_eq!(queue.submitted(), before + 5, "a launch is one command");
    assert_eq!(sum.to_vec::<f32>(&queue)?, [5000.0; 16]);
    Ok(())
}

/// A graph of two queues, with the address of its input and a factor as parameters.
pub(super) fn parameters(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, other) = (context.queue()?, context.queue()?);
    let x = Tensor::zeros(&queue, DataType::F32, &[8])?;
    let y = Tensor::zeros(&queue, DataType::F32, &[4])?;
    queue.sync()?;
    queue.begin_capture()?;
    let fork = queue.affine(&x.narrow(0, 4, 4)?, &y, 2.0, 1.0)?;
    other.wait_for(&queue, fork)?;
    let join = other.unary(UnaryFunction::Neg, &y, &y)?;
    queue.wait_for(&other, join)?;
    let mut graph = queue.end_capture()?;
    let input = graph.parameter(x.buffer())?;
    let factor = graph.number(0, std::mem::offset_of!(Affine, alpha), 8)?;
    // Through bytes, as if it came from a file; its buffers are then the caller's to keep.
    let exec = Graph::from_image(&graph.image())?.instantiate(&context)?;
    assert_eq!(exec.parameters(), 2);
    let inputs: Vec<_> = (0..3)
        .map(|i| Tensor::from_slice(&queue, &[i as f32; 8], &[8]))
        .collect::<Result<_, _>>()?;
    for (i, x) in inputs.iter().enumerate() {
        let mut values = [0; 2];
        values[input.index()] = x.desc().address;
        values[factor.index()] = 3.0_f64.to_bits();
        queue.launch(&exec, &values)?;
        assert_eq!(y.to_vec::<f32>(&queue)?, [-(3.0 * i as f32 + 1.0); 4]);
    }
    refused(queue.launch(&exec, &[1]), Status::InvalidArgument);
    refused(bench.queue()?.launch(&exec, &[1, 2]), Status::BadHandle);
    // An address that is nobody's.
    let wrong = queue.launch(&exec, &[1 << 50, 0])?;
    refused(queue.wait_timeout(wrong, SOON), Status::OperandFault);
    queue.clear_error()?;
    queue.launch(&exec, &[inputs[1].desc().address, 1.0_f64.to_bits()])?;
    assert_eq!(y.to_vec::<f32>(&queue)?, [-2.0; 4]);
    Ok(())
}

pub(super) fn built(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let mut builder = GraphBuilder::new();
    let (from, to) = (builder.parameter()?, builder.parameter()?);
    let source = vmlu::ops::tensor::contiguous(DataType::F32, builder.address(from) + 8, &[2]);
    let out = vmlu::ops::tensor::contiguous(DataType::F32, builder.address(to), &[2]);
    builder.operator(&Affine {
        x: source,
        out,
        alpha: 10.0,
        beta: 0.0,
    })?;
    let copy = Copy {
        dst: builder.address(to) + 8,
        src: builder.address(to),
        length: 8,
    };
    builder.command(op::COPY, copy.as_bytes())?;
    refused(
        builder.command(op::WAIT, &[0; 16]),
        Status::CaptureUnsupported,
    );
    let unknown = Copy {
        dst: builder.address(to) + (9 << 40),
        ..copy
    };
    refused(
        builder.command(op::COPY, unknown.as_bytes()),
        Status::InvalidArgument,
    );
    let exec = builder.finish().instantiate(&context)?;
    let x = Tensor::from_slice(&queue, &[1.0_f32, 2.0, 3.0, 4.0], &[4])?;
    let y = Tensor::zeros(&queue, DataType::F32, &[4])?;
    queue.launch(&exec, &[x.desc().address, y.desc().address])?;
    assert_eq!(y.to_vec::<f32>(&queue)?, [30.0, 40.0, 30.0, 40.0]);
    Ok(())
}

pub(super) fn updated(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    let x = Tensor::zeros(&queue, DataType::F32, &[4])?;
    let plus = |by: f64, out: &Tensor| -> vmlu::Result<Graph> {
        queue.begin_capture()?;
        queue.affine(out, out, 1.0, by)?;
        queue.end_capture()
    };
    let exec = plus(1.0, &x)?.instantiate(&context)?;
    queue.launch(&exec, &[])?;
    queue.sync()?;
    exec.update(&plus(10.0, &x)?)?;
    queue.launch(&exec, &[])?;
    assert_eq!(x.to_vec::<f32>(&queue)?, [11.0; 4]);
    let mut other = plus(1.0, &x)?;
    other.parameter(x.buffer())?;
    refused(exec.update(&other), Status::GraphUpdate);
    // A graph within a graph, with the values that it was launched with.
    let nested = other.instantiate(&context)?;
    queue.begin_capture()?;
    queue.launch(&nested, &[x.desc().address])?;
    queue.launch(&exec, &[])?;
    let outer = queue.end_capture()?;
    assert_eq!((outer.commands(), outer.parameters()), (2, 0));
    queue.launch(&outer.instantiate(&context)?, &[])?;
    assert_eq!(x.to_vec::<f32>(&queue)?, [22.0; 4]);
    Ok(())
}

/// The graph keeps its buffers, the launches keep the graph.
pub(super) fn lifetimes(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, hold) = (context.queue()?, context.host_timeline()?);
    let result = context.alloc(16)?;
    let exec = {
        let value = Tensor::from_slice(&queue, &[7.0_f32; 4], &[4])?;
        queue.begin_capture()?;
        queue.copy(result.address(), value.desc().address, 16)?;
        queue.end_capture()?.instantiate(&context)?
    };
    queue.wait_for_timeline(&hold, 1)?;
    queue.launch(&exec, &[])?;
    drop(exec);
    // What is allocated now is not where the graph's buffer was.
    let other = context.alloc(16)?;
    let free = context.queue()?;
    free.fill(&other, 0, 16, 0xff)?;
    free.sync()?;
    hold.signal(1)?;
    let mut seen = [0; 16];
    queue.read(&result, 0, &mut seen)?;
    assert_eq!(seen, [0, 0, 224, 64].repeat(4)[..]);
    Ok(())
}

pub(super) fn failing_command(bench: &Bench) -> Check {
    let context = bench.context()?;
    let (queue, dependant) = (context.queue()?, context.queue()?);
    let x = Tensor::zeros(&queue, DataType::F32, &[4])?;
    queue.begin_capture()?;
    queue.affine(&x, &x, 1.0, 1.0)?;
    queue.unary(UnaryFunction::Neg, &x, &x)?;
    queue.affine(&x, &x, 1.0, 100.0)?;
    let exec = queue.end_capture()?.instantiate(&context)?;
    let opcode = vmlu::ops::unary::Unary::OPCODE;
    let fault = bench.inject(Fault::Panic, opcode, 1, 0, 0)?;
    let value = queue.launch(&exec, &[])?;
    let wait = dependant.wait_for(&queue, value)?;
    refused(queue.wait_timeout(value, SOON), Status::KernelPanic);
    refused(dependant.wait_timeout(wait, SOON), Status::Dependency);
    drop(fault);
    let record = queue.clear_error()?.ok_or("no record")?;
    assert_eq!((record.opcode, record.value), (opcode, value));
    let text = vmlu::error::rule_text(&record);
    assert!(text.starts_with("command 1"), "{text}");
    queue.launch(&exec, &[])?;
    // What stood before the failed command ran, what stood behind did not.
    assert_eq!(x.to_vec::<f32>(&queue)?, [98.0; 4]);
    Ok(())
}

pub(super) fn bad_images(bench: &Bench) -> Check {
    let context = bench.context()?;
    let queue = context.queue()?;
    queue.begin_capture()?;
    queue.nop()?;
    let good = queue.end_capture()?.image();
    let memory = context.alloc_pinned(good.len() as u64)?;
    let channel = context.channel();
    let create = |image: &[u8]| {
        memory.write(0, image);
        channel.graph_create(memory.address(), image.len() as u64)
    };
    let graph = create(&good)?;
    // Each byte of the head matters to the card and to the runtime.
    for byte in 0..size_of::<GraphHead>() {
        let mut image = good.clone();
        image[byte] ^= 0x80;
        if image[20..24] != good[20..24] {
            continue; // More parameters than places are allowed.
        }
        assert!(create(&image).is_err(), "byte {byte}: the card took it");
        assert!(Graph::from_image(&image).is_err(), "byte {byte}");
    }
    assert!(create(&good[..good.len() - 1]).is_err());
    refused(channel.graph_create(1 << 50, 96), Status::AddressFault);
    refused(channel.graph_destroy(graph ^ 1 << 33), Status::BadHandle);
    channel.graph_destroy(graph)?;
    refused(channel.graph_destroy(graph), Status::BadHandle);
    let launch = vmlu::abi::packet::GraphLaunch {
        graph,
        parameters: 0,
        reserved: 0,
    };
    let value = queue.submit_raw(op::GRAPH_LAUNCH, launch.as_bytes())?;
    refused(queue.wait_timeout(value, SOON), Status::BadHandle);
    Ok(())
}
