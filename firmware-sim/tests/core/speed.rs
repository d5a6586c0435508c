//! How long commands take; for people: `cargo test --release --test core speed -- --ignored --nocapture`.

use std::time::Instant;

use crate::harness::*;

#[test]
#[ignore = "a measurement"]
fn latency_and_throughput() {
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let (a, _) = context.alloc(1 << 16);
    let mut hot: Vec<u64> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            let value = queue.nop();
            while queue.timeline() < value {
                std::hint::spin_loop();
            }
            start.elapsed().as_nanos() as u64
        })
        .collect();
    hot.sort_unstable();
    let mut cold: Vec<u64> = (0..200)
        .map(|_| {
            queue.sleeps();
            let start = Instant::now();
            let value = queue.nop();
            while queue.timeline() < value {
                std::hint::spin_loop();
            }
            start.elapsed().as_nanos() as u64
        })
        .collect();
    cold.sort_unstable();
    println!(
        "enqueue to completion, hot: p50 {} ns, p99 {} ns; asleep: p10 {} ns, p50 {} ns, p90 {} ns",
        hot[10_000], hot[19_800], cold[20], cold[100], cold[180]
    );
    if std::env::var_os("ALL").is_some() {
        println!(
            "{:?}",
            cold.iter().step_by(5).map(|c| c / 1000).collect::<Vec<_>>()
        );
    }
    let large = context.queue_of(context.queue_memory(65536));
    let rate = |what: &str, bytes: Vec<u8>, count: u64| {
        let batch = bytes.repeat(count as usize);
        let end = large.write(&batch);
        let before = large.timeline();
        let start = Instant::now();
        large.ring(end);
        while large.timeline() < before + count {
            std::hint::spin_loop();
        }
        println!(
            "{what}: {:.0} ns each",
            start.elapsed().as_nanos() as f64 / count as f64
        );
    };
    for _ in 0..3 {
        rate("NOP", packet_bytes(1, &[]), 50_000);
    }
    let fill = vmlu_abi::packet::Fill {
        dst: a,
        length: 64,
        pattern: 1,
        width: 4,
        reserved: 0,
    };
    rate(
        "fill of 64 bytes",
        packet_bytes(vmlu_abi::packet::op::FILL, vmlu_abi::Wire::as_bytes(&fill)),
        50_000,
    );
}

#[test]
#[ignore = "a measurement"]
fn a_graph_of_1000_commands() {
    use crate::graphs::builder::{launch, Builder, Shelf};
    let chip = Chip::new();
    let context = chip.context();
    let queue = context.queue();
    let shelf = Shelf::new(&chip, &context, 1 << 20);
    let graph = shelf.create(&Builder::default().nops(1000).image());
    let graph = graph.unwrap();
    let mut times: Vec<u64> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            let value = launch(&queue, graph, &[]);
            while queue.timeline() < value {
                std::hint::spin_loop();
            }
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    println!(
        "a graph of 1,000 empty commands: p50 {} ns, p99 {} ns",
        times[10_000], times[19_800]
    );
}
