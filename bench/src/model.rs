//! `model`: what the card's model says of known workloads, by the device times that notifiers record.
//!
//! The workloads are the ones for which a product's published figures are meant: large matrix products at each precision, copies in device
//! memory and over PCIe. They run on this card; how fast this machine computes them does not matter.

use vmlu::abi::tensor::DataType::{self, Bf16, F16, F32, I16, I32, I8};
use vmlu::abi::Wire;
use vmlu::ops::tensor::contiguous;
use vmlu::ops::{binary, matmul};
use vmlu::transport::Transport;
use vmlu::{Context, Queue, Result};

use crate::row::{Better, Row};

/// Rows, columns and depth of products: large enough that launch and memory count for less than a hundredth.
const SIDE: u64 = 4096;
/// Bytes of an operand of a workload that memory bounds.
const LARGE: u64 = 64 << 20;
/// Share of a published figure that must come out.
const SHARE: f64 = 0.99;

/// Runs the workloads; each row's floor is the published figure of a chip.
pub fn run(transport: &dyn Transport, device: u32) -> Result<Vec<Row>> {
    let context = Context::open_on(transport, device)?;
    let model =
        vmlu::abi::model::by_id(context.info().info.model).unwrap_or(&vmlu::abi::model::MLU370_X8);
    let queue = context.queue()?;
    let (a, b, c) = (
        context.alloc(LARGE)?,
        context.alloc(LARGE)?,
        context.alloc(LARGE)?,
    );
    for buffer in [&a, &b] {
        queue.fill(buffer, 0, LARGE, 0)?;
    }
    let row = |name: &str, amount: f64, published: u64, unit: &str, seconds: f64| {
        let published = published as f64 / if unit == "Top/s" { 1e12 } else { 1e9 };
        let value = amount / seconds / if unit == "Top/s" { 1e12 } else { 1e9 };
        let title = format!("{}: {name}", model.name);
        let row = Row::new("model", transport.name(), &title, value, unit).floor(published);
        // Faster than published is as wrong as slower.
        let mut row = row.goal(Better::Higher, SHARE * published);
        row.ok = row.ok.map(|ok| ok && value <= published * 1.0001);
        row
    };
    let mut rows = Vec::new();
    let rates = &model.rates;
    let kinds: [(&str, DataType, DataType, u64); 5] = [
        ("int8", I8, I32, rates.i8),
        ("int16", I16, I32, rates.i16),
        ("f16", F16, F16, rates.f16),
        ("bf16", Bf16, Bf16, rates.f16),
        ("f32", F32, F32, rates.f32),
    ];
    for (name, from, to, published) in kinds {
        let dims = [SIDE, SIDE];
        let product = matmul::Matmul {
            a: contiguous(from, a.address(), &dims),
            b: contiguous(from, b.address(), &dims),
            out: contiguous(to, c.address(), &dims),
            alpha: 1.0,
            ..Wire::zeroed()
        };
        let seconds = device_seconds(&context, &queue, || queue.submit(&product))?;
        let operations = 2.0 * (SIDE * SIDE * SIDE) as f64;
        let title = format!("{name} matmul {SIDE}");
        rows.push(row(&title, operations, published, "Top/s", seconds));
    }
    let bandwidth = model.memory_bandwidth;
    let seconds = device_seconds(&context, &queue, || {
        queue.copy(c.address(), a.address(), LARGE)
    })?;
    let moved = 2.0 * LARGE as f64;
    rows.push(row(
        "copy in device memory, 64 MiB, read and written",
        moved,
        bandwidth,
        "GB/s",
        seconds,
    ));
    let elements = [LARGE / 4];
    let add = binary::Binary {
        a: contiguous(F32, a.address(), &elements),
        b: contiguous(F32, b.address(), &elements),
        out: contiguous(F32, c.address(), &elements),
        function: binary::Function::Add.raw(),
        ..Wire::zeroed()
    };
    let seconds = device_seconds(&context, &queue, || queue.submit(&add))?;
    let moved = 3.0 * LARGE as f64;
    rows.push(row(
        "f32 add, 64 MiB, read and written",
        moved,
        bandwidth,
        "GB/s",
        seconds,
    ));
    let pinned = context.alloc_pinned(LARGE)?;
    for (name, to, from) in [
        (
            "pinned host to device, 64 MiB",
            a.address(),
            pinned.address(),
        ),
        (
            "device to pinned host, 64 MiB",
            pinned.address(),
            a.address(),
        ),
    ] {
        let seconds = device_seconds(&context, &queue, || queue.copy(to, from, LARGE))?;
        rows.push(row(
            name,
            LARGE as f64,
            model.pcie_bandwidth,
            "GB/s",
            seconds,
        ));
    }
    Ok(rows)
}

/// Device time of a command.
fn device_seconds(
    context: &Context,
    queue: &Queue,
    submit: impl Fn() -> Result<u64>,
) -> Result<f64> {
    let (start, end) = (context.notifier()?, context.notifier()?);
    // The queue is held until all of it is there: one that runs dry between two packets idles, and idle time is the host's.
    let gate = context.host_timeline()?;
    queue.wait_for_timeline(&gate, 1)?;
    start.place(queue)?;
    submit()?;
    end.place(queue)?;
    gate.signal(1)?;
    end.wait()?;
    Ok(f64::from(start.device_elapsed_ms(&end)?) / 1e3)
}
